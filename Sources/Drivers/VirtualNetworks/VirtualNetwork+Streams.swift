import Digests
import Links
public import Primitives

/// One secure stream: who dialled whom, and by which number each end knows it. An end that has closed or was never told has 0.
struct VirtualStream {
    let dialler: Int
    let target: Int
    let expected: PeerID?
    var diallerID: UInt64
    var targetID: UInt64 = 0
    /// Where there are routers: where the dialler seems to be, and where it dialled.
    var source: Endpoint?
    var destination: Endpoint?
    /// Neither end has closed it.
    var isOpen = true
    /// Nothing arrives and nothing is reported any more.
    var isMute = false
    func other(_ host: Int) -> Int { host == dialler ? target : dialler }
    func id(at host: Int) -> UInt64 { host == dialler ? diallerID : targetID }
}

/// Streams over shaped lines: five legs of TCP and TLS 1.3, then records of their true sizes, in order; a close arrives behind
/// what was written before it.
extension VirtualNetwork {
    /// Bytes of each leg: SYN, SYN-ACK, ClientHello, the server's flight, the client's.
    static let legBytes = [60, 60, 320, 900, 760]
    static let endBytes = 40
    /// TLS adds so many bytes to each record of at most 16 KiB.
    static let recordHead = 22
    static let recordBytes = 16_384

    /// - Parameters:
    ///   - id: odd, and never used before by this host.
    ///   - expecting: whose key must answer; nil when only the address is known.
    public mutating func dial(_ id: UInt64, from host: Int, to endpoint: Endpoint, expecting: PeerID? = nil) {
        precondition(id % 2 == 1 && hosts[host].streams[id] == nil, "dial \(id) of host \(host) is even or exists")
        let found = routers.isEmpty ? byEndpoint[endpoint] : recipient(of: endpoint, .tcp, from: host)
        guard let target = found, target != host else {
            return happened.push(Occurrence(host: host, from: host, what: .failed(id: id, isRefused: false)))
        }
        let number = streams.count
        var stream = VirtualStream(dialler: host, target: target, expected: expecting, diallerID: id)
        if !routers.isEmpty {
            stream.source = leave(.tcp, host, port: nil, to: endpoint)
            stream.destination = endpoint
        }
        streams.append(stream)
        hosts[host].streams[id] = number
        // What its own router swallows nobody answers.
        guard routers.isEmpty || stream.source != nil else { return }
        sendLeg(0, of: number, from: host)
    }
    public mutating func write(_ id: UInt64, _ bytes: [UInt8], from host: Int) {
        guard let number = hosts[host].streams[id] else { return }
        let records = max(1, (bytes.count + Self.recordBytes - 1) / Self.recordBytes)
        offer(
            .bytes(stream: number, bytes), bytes: bytes.count + Self.recordHead * records, stream: UInt64(number),
            from: host, to: streams[number].other(host))
    }
    /// What was written before still arrives; then the other end learns of it.
    public mutating func close(_ id: UInt64, by host: Int) {
        if let number = hosts[host].streams[id] { end(number, by: host) }
    }
    /// The stream breaks under both ends.
    public mutating func sever(_ id: UInt64, of host: Int) {
        guard let number = hosts[host].streams[id], streams[number].isOpen else { return }
        streams[number].isOpen = false
        let other = streams[number].other(host)
        happened.push(Occurrence(host: host, from: other, what: .arrived(.end(stream: number))))
        happened.push(Occurrence(host: other, from: host, what: .arrived(.end(stream: number))))
    }

    /// From now on nothing of the stream arrives, and nobody is told.
    public mutating func mute(_ id: UInt64, of host: Int) {
        if let number = hosts[host].streams[id] { streams[number].isMute = true }
    }

    mutating func end(_ number: Int, by host: Int) {
        forget(number, at: host)
        guard streams[number].isOpen else { return }
        streams[number].isOpen = false
        offer(
            .end(stream: number), bytes: Self.endBytes, stream: UInt64(number), from: host,
            to: streams[number].other(host))
    }
    mutating func forget(_ number: Int, at host: Int) {
        hosts[host].streams[streams[number].id(at: host)] = nil
        if host == streams[number].dialler { streams[number].diallerID = 0 } else { streams[number].targetID = 0 }
    }
    private mutating func sendLeg(_ leg: Int, of number: Int, from host: Int) {
        offer(
            .leg(stream: number, leg), bytes: Self.legBytes[leg], stream: UInt64(number), from: host,
            to: streams[number].other(host))
    }

    /// What a host is told of an occurrence; nil where nobody is there any more, or where it is the network's own affair.
    mutating func report(_ occurrence: Occurrence) -> Happening? {
        let (host, from) = (occurrence.host, occurrence.from)
        switch occurrence.what {
        case .alarm: return isUp(host) ? .alarm : nil
        case .arrived(.datagram(let bytes)): return isUp(host) ? .datagram(bytes, from: from) : nil
        case .arrived(.letter(let bytes, let source, let destination)):
            guard enters(.udp, host, from: source, to: destination), isUp(host) else { return nil }
            apparentSource = source
            return .datagram(bytes, from: from)
        case .arrived(.cargo(let cargo)): return hosts[host].isUp ? .cargo(cargo, from: from) : nil
        case .arrived(.leg(let number, let leg)): return arrived(leg, of: number, at: host)
        case .arrived(.bytes(let number, let bytes)):
            reject(number, at: host)
            return told(number, at: host).map { .stream(.received($0, bytes), from: from) }
        case .arrived(.end(let number)):
            guard let id = told(number, at: host) else { return nil }
            forget(number, at: host)
            return .stream(.closed(id), from: from)
        case .left(let number):
            let other = streams[number].other(host)
            return told(number, at: host).map {
                .stream(.writable($0, unsent: unsent(number, from: host, to: other)), from: other)
            }
        case .failed(let id, let isRefused):
            return hosts[host].isUp ? .stream(.dialFailed(id, isRefused: isRefused), from: host) : nil
        }
    }
    /// A machine that was off knows nothing of the streams of before, and says so.
    private mutating func reject(_ number: Int, at host: Int) {
        let stream = streams[number]
        guard hosts[host].isUp, stream.isOpen, !stream.isMute, stream.id(at: host) == 0 else { return }
        end(number, by: host)
    }
    /// By which number a host is told of a stream, if at all.
    private func told(_ number: Int, at host: Int) -> UInt64? {
        let id = streams[number].id(at: host)
        return hosts[host].isUp && id != 0 && !streams[number].isMute ? id : nil
    }

    private mutating func arrived(_ leg: Int, of number: Int, at host: Int) -> Happening? {
        guard streams[number].isOpen else { return nil }
        let other = streams[number].other(host)
        let wall = walls[Pair(from: other, to: host)]
        if leg == 0, wall == .swallows || hosts[host].isUnplugged { return nil }
        if leg == 0, let source = streams[number].source, let destination = streams[number].destination,
            !enters(.tcp, host, from: source, to: destination)
        {
            return nil
        }
        // The machine is there, the process is not; or somebody else than expected is.
        let isImpostor = leg == 3 && streams[number].expected.map { $0 != hosts[other].key } ?? false
        if leg == 0, wall == .rejects || !hosts[host].isUp { return fail(number, by: host, isRefused: wall == nil) }
        if isImpostor { return fail(number, by: other, isRefused: false) }
        guard hosts[host].isUp else { return nil }
        if leg == 0 {
            let id = hosts[host].nextInbound
            hosts[host].nextInbound += 2
            hosts[host].streams[id] = number
            streams[number].targetID = id
        }
        if leg < 4 { sendLeg(leg + 1, of: number, from: host) }
        return leg >= 3 ? secured(number, at: host) : nil
    }
    private mutating func fail(_ number: Int, by host: Int, isRefused: Bool) -> Happening? {
        let dialler = streams[number].dialler
        streams[number].isOpen = false
        if streams[number].targetID != 0 { forget(number, at: streams[number].target) }
        guard let id = told(number, at: dialler) else { return nil }
        forget(number, at: dialler)
        happened.push(Occurrence(host: dialler, from: host, what: .failed(id: id, isRefused: isRefused)))
        return nil
    }
    private func secured(_ number: Int, at host: Int) -> Happening? {
        guard let id = told(number, at: host) else { return nil }
        let other = streams[number].other(host)
        let exporter = sha256(Array("exporter \(number)".utf8)).bytes
        let isInbound = host == streams[number].target
        let apparent = isInbound ? streams[number].source : streams[number].destination
        let stream = SecuredStream(
            peer: hosts[other].key, exporter: exporter, remote: apparent ?? hosts[other].endpoint, inbound: isInbound,
            isTLSClient: hosts[host].key < hosts[other].key)
        return .stream(.secured(id, stream), from: other)
    }
}
