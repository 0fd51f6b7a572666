import Paths
import Primitives

/// A router that speaks PCP, NAT-PMP or both, written from the RFCs' pictures and not from the code under test. It checks what it is asked.
struct EmulatedGateway {
    struct Mapping: Equatable {
        var external: UInt16
        var until: Instant
        var nonce: [UInt8]
    }
    var speaks: Set<GatewayProtocol> = [.pcp, .natPMP]
    /// A question in PCP draws an answer in version 0 where only NAT-PMP is spoken.
    var answersVersions = true
    var address: [UInt8] = [203, 0, 113, 9]
    var client: [UInt8] = [192, 168, 1, 20]
    var lifeMost: UInt32 = 86_400
    /// Instead of a mapping; a result code of PCP, and of NAT-PMP.
    var refuses: (pcp: UInt8, natPMP: UInt8)?
    var refusalLife: UInt32 = 30
    /// External ports that others have.
    var taken: Set<UInt16> = []
    var bootedAt = Instant.zero
    /// By transport (6, 17).
    private(set) var mappings: [UInt8: Mapping] = [:]
    private(set) var questions: [(at: Instant, bytes: [UInt8])] = []

    static let endpoint = Endpoint("192.168.1.1:5351")!

    mutating func restart(at now: Instant) { (mappings, bootedAt) = ([:], now) }
    mutating func expire(at now: Instant) { mappings = mappings.filter { $0.value.until > now } }

    mutating func answer(_ bytes: [UInt8], at now: Instant) -> [UInt8]? {
        questions.append((now, bytes))
        expire(at: now)
        let epoch = big32(UInt32(max(0, (now - bootedAt).inSeconds)))
        switch bytes.first {
        case 2 where speaks.contains(.pcp): return pcp(bytes, epoch, at: now)
        case 0 where speaks.contains(.natPMP): return natPMP(bytes, epoch, at: now)
        case 2 where answersVersions && !speaks.isEmpty: return [0, 0x80 | bytes[1], 0, 1] + epoch
        // RFC 6887, Appendix A: what is no PCP is told which version would be.
        case 0 where answersVersions && !speaks.isEmpty:
            return [2, 0x80 | bytes[1], 0, 1] + big32(1800) + epoch + [UInt8](repeating: 0, count: 12)
        default: return nil
        }
    }
    private mutating func pcp(_ bytes: [UInt8], _ epoch: [UInt8], at now: Instant) -> [UInt8] {
        func head(_ code: UInt8, _ life: UInt32) -> [UInt8] {
            [2, 0x80 | bytes[1], 0, code] + big32(life) + epoch + [UInt8](repeating: 0, count: 12)
        }
        if bytes[1] == 0 { return head(0, 0) }
        guard bytes.count == 60, bytes[1] == 1 else { return head(3, 1800) + bytes.dropFirst(24) }
        guard Array(bytes[8..<24]) == [UInt8](repeating: 0, count: 10) + [255, 255] + client else {
            return head(12, 1800) + bytes[24...]
        }
        if let refuses { return head(refuses.pcp, refusalLife) + bytes[24...] }
        let nonce = Array(bytes[24..<36])
        if let old = mappings[bytes[36]], old.nonce != nonce { return head(2, 1800) + bytes[24...] }
        let life = min(number32(bytes, 4), lifeMost)
        let external = map(bytes[36], number16(bytes, 42), life, nonce, at: now)
        return head(0, life) + bytes[24..<42] + big16(external) + [UInt8](repeating: 0, count: 10) + [255, 255]
            + address
    }
    private mutating func natPMP(_ bytes: [UInt8], _ epoch: [UInt8], at now: Instant) -> [UInt8] {
        if bytes == [0, 0] { return [0, 128, 0, 0] + epoch + address }
        guard bytes.count == 12, bytes[1] == 1 || bytes[1] == 2 else { return [0, 0x80 | bytes[1], 0, 5] + epoch }
        let port = Array(bytes[4..<6])
        if let refuses { return [0, 0x80 | bytes[1], 0, refuses.natPMP] + epoch + port + [0, 0, 0, 0, 0, 0] }
        let life = min(number32(bytes, 8), lifeMost)
        let external = map(bytes[1] == 1 ? 17 : 6, number16(bytes, 6), life, [], at: now)
        return [0, 0x80 | bytes[1], 0, 0] + epoch + port + big16(life == 0 ? 0 : external) + big32(life)
    }
    private mutating func map(
        _ transport: UInt8, _ wish: UInt16, _ life: UInt32, _ nonce: [UInt8], at now: Instant
    ) -> UInt16 {
        if life == 0 {
            mappings[transport] = nil
            return 0
        }
        var external = mappings[transport]?.external ?? wish
        while taken.contains(external) || external == 0 { external &+= 1 }
        mappings[transport] = Mapping(external: external, until: now + .seconds(Int(life)), nonce: nonce)
        return external
    }
}

private func big16(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
private func big32(_ value: UInt32) -> [UInt8] { big16(UInt16(value >> 16)) + big16(UInt16(value & 0xffff)) }
private func number16(_ bytes: [UInt8], _ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
private func number32(_ bytes: [UInt8], _ at: Int) -> UInt32 {
    UInt32(number16(bytes, at)) << 16 | UInt32(number16(bytes, at + 2))
}

/// A machine that listens at port 7070, and its router. Each way takes a millisecond.
struct MappedHome {
    var mapper: PortMapper
    var gateway = EmulatedGateway()
    var now = Instant(seconds: 1000)
    /// Whether a datagram is lost: the question's number, and whether it is the answer.
    var isLost: (Int, Bool) -> Bool = { _, _ in false }
    private(set) var told: [ForwardedPort?] = []
    private var underWay: [(at: Instant, bytes: [UInt8], isAnswer: Bool, number: Int)] = []
    private var sent = 0

    static let here = PortMapper.Gateway(endpoint: EmulatedGateway.endpoint, local: Endpoint("192.168.1.20:0")!)

    init(seed: UInt64 = 1, _ gateway: EmulatedGateway = EmulatedGateway()) {
        self.gateway = gateway
        mapper = PortMapper(port: 7070, secret: Array(1...24), seed: seed)
    }
    var standing: PortMapper.Standing { mapper.standing(at: now) }

    mutating func begin() { input { $0.use(Self.here, at: $1) } }
    mutating func input(_ change: (inout PortMapper, Instant) -> Void) {
        change(&mapper, now)
        while let effect = mapper.poll() {
            switch effect {
            case .send(let bytes, let to):
                precondition(to == EmulatedGateway.endpoint, "sent to \(to)")
                sent += 1
                if !isLost(sent, false) { underWay.append((now + .milliseconds(1), bytes, false, sent)) }
            case .forwarded(let port): told.append(port)
            // Nobody here speaks UPnP.
            case .igd: break
            }
        }
    }
    mutating func run(_ duration: Duration) {
        let end = now + duration
        while true {
            let arrival = underWay.map(\.at).min()
            guard let next = earliest(arrival, mapper.nextWake), next <= end else { break }
            now = max(now, next)
            if let arrival, arrival <= now {
                let one = underWay.remove(at: underWay.firstIndex { $0.at == arrival }!)
                if one.isAnswer {
                    input { $0.receive(one.bytes, from: EmulatedGateway.endpoint, at: $1) }
                } else if let answer = gateway.answer(one.bytes, at: now), !isLost(one.number, true) {
                    underWay.append((now + .milliseconds(1), answer, true, one.number))
                }
            } else {
                input { $0.wake(at: $1) }
            }
        }
        now = end
    }
}
