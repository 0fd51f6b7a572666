import Paths
import Primitives
import Testing

private let outside = Endpoint("203.0.113.9:7070")!

private func gateway(_ change: (inout EmulatedGateway) -> Void = { _ in }) -> EmulatedGateway {
    var gateway = EmulatedGateway()
    change(&gateway)
    return gateway
}
private func home(_ change: (inout EmulatedGateway) -> Void = { _ in }, seed: UInt64 = 1) -> MappedHome {
    MappedHome(seed: seed, gateway(change))
}
extension MappedHome {
    /// Moments and bytes of questions for TCP in one protocol.
    fileprivate func questions(_ spoken: GatewayProtocol) -> [(at: Instant, bytes: [UInt8])] {
        gateway.questions.filter {
            spoken == .pcp ? $0.bytes.count == 60 && $0.bytes[36] == 6 : $0.bytes.count == 12 && $0.bytes[1] == 2
        }
    }
}
extension PortMapper.Standing {
    fileprivate var port: ForwardedPort? { if case .forwarded(let port) = self { port } else { nil } }
}

@Suite struct `A port of the router` {
    @Test func `is asked for in PCP, in the 60 bytes of RFC 6887, and is there after one question`() throws {
        var home = home()
        home.begin()
        home.run(.milliseconds(10))
        let first = try #require(home.gateway.questions.first).bytes
        let expected: [UInt8] =
            [2, 1, 0, 0, 0, 0, 0x1c, 0x20] + [UInt8](repeating: 0, count: 10) + [255, 255, 192, 168, 1, 20]
            + Array(1...12) + [6, 0, 0, 0, 0x1b, 0x9e, 0x1b, 0x9e] + [UInt8](repeating: 0, count: 10) + [
                255, 255, 0, 0, 0, 0,
            ]
        #expect(first == expected)
        let port = try #require(home.standing.port)
        #expect(port.endpoint == outside && port.datagramPort == 7070 && port.spoken == .pcp)
        #expect(home.told.map { $0?.endpoint } == [outside])
        #expect(home.gateway.questions.count == 2, "one for TCP, one for UDP, none in NAT-PMP")
    }
    @Test func `is asked for in NAT-PMP at once where PCP draws an answer in version 0`() throws {
        var home = home { $0.speaks = [.natPMP] }
        home.begin()
        home.run(.milliseconds(10))
        let port = try #require(home.standing.port)
        #expect(port.endpoint == outside && port.datagramPort == 7070 && port.spoken == .natPMP)
        home.run(.seconds(600))
        #expect(home.questions(.pcp).count == 1, "nothing more is asked in PCP")
    }
    @Test func `is asked for in both after a quarter of a second of silence`() throws {
        var home = home {
            $0.speaks = [.natPMP]
            $0.answersVersions = false
        }
        home.begin()
        home.run(.milliseconds(245))
        #expect(home.standing == .asking && home.questions(.natPMP).isEmpty)
        home.run(.milliseconds(20))
        #expect(home.standing.port?.spoken == .natPMP)
    }
    @Test func `is another one where somebody has it, and that is told`() throws {
        var home = home { $0.taken = [7070, 7071] }
        home.begin()
        home.run(.milliseconds(10))
        #expect(home.told.map { $0?.endpoint.port } == [7072])
    }
    @Test func `is asked for again at the times of both RFCs while nobody answers`() {
        var home = home { $0.speaks = [] }
        home.begin()
        home.run(.milliseconds(2900))
        #expect(home.standing == .asking)
        home.run(.seconds(4 * 3600))
        #expect(home.standing == .silent)
        let natPMP = home.questions(.natPMP).map { ($0.at - home.gateway.questions[0].at).inSeconds }
        let expected: [Double] = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]
        #expect(natPMP.count == expected.count)
        for (at, due) in zip(natPMP, expected) { #expect(abs(at - due) < 0.01) }
        let pcp = home.questions(.pcp).map(\.at)
        let pauses = zip(pcp, pcp.dropFirst()).map { ($1 - $0).inSeconds }
        #expect(pauses[0] >= 2.7 && pauses[0] <= 3.3)
        for (pause, next) in zip(pauses, pauses.dropFirst()) where next < 921 {
            #expect(next / pause >= 1.9 && next / pause <= 2.1)
        }
        #expect(pauses.allSatisfy { $0 <= 1024 * 1.1 + 0.01 } && pauses.last! >= 1024 * 0.9 - 0.01)
        #expect(home.told.isEmpty)
    }
    @Test(arguments: GatewayProtocol.own) func `is asked for again at half of its life`(_ spoken: GatewayProtocol) {
        var home = home { $0.speaks = [spoken] }
        home.begin()
        home.run(.seconds(3 * 7200))
        let asked = home.questions(spoken).map(\.at)
        for (at, next) in zip(asked, asked.dropFirst()) {
            #expect((next - at).inSeconds >= 3599 && (next - at).inSeconds <= 4501)
        }
        #expect(asked.count >= 5 && home.told.count == 1, "it was always there, and that was said once")
    }
    @Test(arguments: GatewayProtocol.own) func `is gone when its life ends unheard, and asked for in both again`(
        _ spoken: GatewayProtocol
    ) {
        var home = home {
            $0.speaks = [spoken]
            $0.lifeMost = 600
        }
        home.begin()
        home.run(.seconds(1))
        home.gateway.speaks = []
        home.run(.seconds(610))
        #expect(home.told.count == 2 && home.told[1] == nil)
        let renewals = home.questions(spoken).map(\.at).filter { $0 < Instant(seconds: 1600) }
        #expect(renewals.count <= 12, "half of what is left each time, and 4 s at least")
        // Another router, that speaks the other one.
        home.gateway.speaks = Set(GatewayProtocol.own).subtracting([spoken])
        home.run(.seconds(2100))
        #expect(home.standing.port.map { $0.spoken != spoken } == true)
    }
    @Test func `is given back at the end, in both protocols, by whoever knows the nonce`() {
        for spoken in GatewayProtocol.own {
            var home = home { $0.speaks = [spoken] }
            home.begin()
            home.run(.seconds(1))
            #expect(home.gateway.mappings.count == 2)
            home.input { $0.stop(at: $1) }
            home.run(.seconds(1))
            #expect(home.gateway.mappings.isEmpty && home.standing == .idle && home.mapper.nextWake == nil)
            #expect(home.told.last == .some(nil))
            #expect(home.gateway.questions.last!.bytes.count == (spoken == .pcp ? 60 : 12))
        }
    }
    @Test func `of before a crash is had again, because the nonce is the same`() {
        var home = home { $0.speaks = [.pcp] }
        home.begin()
        home.run(.seconds(1))
        var after = MappedHome(seed: 99, home.gateway)
        after.now = home.now
        after.begin()
        after.run(.seconds(1))
        #expect(after.standing.port?.endpoint == outside)
    }
    @Test(arguments: GatewayProtocol.own) func `is asked for anew within a minute of the router's restart`(
        _ spoken: GatewayProtocol
    ) {
        var home = home { $0.speaks = [spoken] }
        home.begin()
        home.run(.seconds(1000))
        home.gateway.restart(at: home.now)
        home.gateway.address = [203, 0, 113, 77]
        home.run(.seconds(66))
        #expect(home.gateway.mappings.count == 2 && home.mapper.counts.restarts == 1)
        #expect(home.told.last??.endpoint == Endpoint("203.0.113.77:7070")!)
    }
    @Test func `is looked after when the machine has slept`() {
        var home = home { $0.speaks = [.pcp] }
        home.begin()
        home.run(.seconds(100))
        home.gateway.restart(at: home.now)
        home.input { $0.hurry(at: $1) }
        home.run(.milliseconds(20))
        #expect(home.gateway.mappings.count == 2)
    }
    @Test(arguments: 0..<14 as Range<UInt8>) func `is not there where the router refuses, which is asked again later`(
        _ code: UInt8
    ) {
        guard code != 0 else { return }
        for life: UInt32 in [0, 600, .max] {
            var home = home {
                $0.speaks = [.pcp]
                $0.refuses = (code, 2)
                $0.refusalLife = life
            }
            home.begin()
            home.run(.seconds(1))
            guard case .refused(let why) = home.standing else {
                Issue.record("\(home.standing)")
                return
            }
            #expect((why == .addressMismatch) == (code == 12))
            let pause = min(max(Int(life), 30), 1800)
            home.run(.seconds(pause - 2))
            #expect(home.questions(.pcp).count == 1)
            home.gateway.refuses = nil
            home.run(.seconds(2))
            #expect(home.standing.port?.endpoint == outside)
        }
    }
    @Test func `stays until its end where a renewal is refused`() {
        var home = home { $0.speaks = [.natPMP] }
        home.begin()
        home.run(.seconds(1))
        home.gateway.refuses = (8, 4)
        home.run(.seconds(7100))
        #expect(home.standing.port != nil && home.told.count == 1)
        home.run(.seconds(200))
        #expect(home.standing.port == nil && home.told.count == 2)
    }
    @Test func `needs its address, which NAT-PMP tells apart and which may be lost`() {
        var home = home { $0.speaks = [.natPMP] }
        home.isLost = { number, isAnswer in isAnswer && number <= 5 && number != 4 && number != 5 }
        home.begin()
        home.run(.seconds(5))
        #expect(home.standing.port?.endpoint == outside)
    }
    @Test func `is another router's after a change of network`() {
        var home = home { $0.speaks = [.pcp] }
        home.begin()
        home.run(.seconds(1))
        home.input { $0.use(nil, at: $1) }
        #expect(home.told.last == .some(nil) && home.standing == .idle)
        home.begin()
        home.run(.seconds(1))
        #expect(home.standing.port?.endpoint == outside)
    }

    @Test func `agrees with what the router has, whatever is lost, and costs little`() {
        for seed in 1...40 as ClosedRange<UInt64> {
            var random = SeededGenerator(seed: seed)
            var home = home({ $0.lifeMost = 900 }, seed: seed)
            if random.below(3) == 0 { home.gateway.speaks = [.natPMP] }
            let (loss, lossSeed) = (random.uniform() * 0.4, random.next())
            home.isLost = { number, isAnswer in
                var coin = SeededGenerator(seed: lossSeed, stream: UInt64(number * 2 + (isAnswer ? 1 : 0)))
                return coin.uniform() < loss
            }
            home.begin()
            for _ in 0..<6 {
                home.run(.seconds(random.below(900)))
                if random.below(2) == 0 { home.gateway.restart(at: home.now) }
                if random.below(4) == 0 { home.input { $0.hurry(at: $1) } }
            }
            let before = home.gateway.questions.count
            home.run(.seconds(1800))
            #expect(home.gateway.questions.count - before < 300, "seed \(seed)")
            // What is believed is so, when nothing is lost for long enough to see it.
            home.isLost = { _, _ in false }
            home.run(.seconds(2200))
            home.gateway.expire(at: home.now)
            let port = home.standing.port
            #expect(port?.endpoint.port == home.gateway.mappings[6]?.external, "seed \(seed)")
            #expect(port?.datagramPort == home.gateway.mappings[17]?.external, "seed \(seed)")
            #expect(port != nil, "seed \(seed)")
        }
    }
}

@Suite struct `A router's clock` {
    /// The rule of RFC 6887 §8.5, written out: seconds that the router says have passed, those of ours, and whether its mappings are still there.
    @Test(arguments: [
        (0, 0, true), (60, 60, true), (-1, 0, true), (-2, 0, false), (-60, 60, false), (58, 60, true), (0, 2, true),
        (0, 3, false), (93, 100, true), (90, 100, false), (108, 100, true), (110, 100, false), (1600, 1500, true),
        (1620, 1500, false), (100_000, 0, false),
    ])
    func `of PCP keeps pace with ours, or has been set back`(_ theirs: Int, _ ours: Int, _ isTheSame: Bool) {
        var epoch = GatewayEpoch()
        let isFirstTaken = epoch.accepts(500_000, .pcp, at: Instant(seconds: 10))
        let isTaken = epoch.accepts(UInt32(500_000 + theirs), .pcp, at: Instant(seconds: 10 + Double(ours)))
        #expect(isFirstTaken && isTaken == isTheSame)
    }
    /// RFC 6886 §3.6: seven eighths of what has passed, less two seconds.
    @Test(arguments: [(0, 0, true), (-2, 0, true), (-3, 0, false), (86, 100, true), (85, 100, false), (900, 100, true)])
    func `of NAT-PMP may run fast`(_ theirs: Int, _ ours: Int, _ isTheSame: Bool) {
        var epoch = GatewayEpoch()
        let isFirstTaken = epoch.accepts(500_000, .natPMP, at: Instant(seconds: 10))
        let isTaken = epoch.accepts(UInt32(500_000 + theirs), .natPMP, at: Instant(seconds: 10 + Double(ours)))
        #expect(isFirstTaken && isTaken == isTheSame)
    }
}

@Suite struct `Bytes that are no answer of the router` {
    /// A mapping that a router would give, to be spoilt.
    private static let good: [UInt8] =
        [2, 0x81, 0, 0] + [0, 0, 0x1c, 0x20] + [0, 0, 0, 5] + [UInt8](repeating: 0, count: 12) + Array(1...12)
        + [6, 0, 0, 0, 0x1b, 0x9e, 0x1b, 0x9e] + [UInt8](repeating: 0, count: 10) + [255, 255, 203, 0, 113, 9]

    private func asked() -> MappedHome {
        var home = home { $0.speaks = [] }
        home.begin()
        return home
    }
    @Test func `are the good ones where one thing is changed, or somebody else sends them`() {
        var spoilt: [(String, [UInt8], Endpoint)] = [
            ("another address", Self.good, Endpoint("192.168.1.2:5351")!),
            ("another port", Self.good, Endpoint("192.168.1.1:5350")!),
        ]
        func with(_ what: String, _ change: (inout [UInt8]) -> Void) {
            var bytes = Self.good
            change(&bytes)
            spoilt.append((what, bytes, EmulatedGateway.endpoint))
        }
        with("a question") { $0[1] = 1 }
        with("a version that nobody speaks") { $0[0] = 1 }
        with("another nonce") { $0[30] ^= 1 }
        with("UDP's number for TCP's nonce") { $0[36] = 17 }
        with("a protocol that nobody asked for") { $0[36] = 132 }
        with("another port inside") { $0[41] ^= 1 }
        with("cut") { $0.removeLast(4) }
        with("not whole words") { $0.removeLast() }
        with("too long") { $0 += [UInt8](repeating: 0, count: 1044) }
        for (what, bytes, sender) in spoilt {
            var home = asked()
            home.input { $0.receive(bytes, from: sender, at: $1) }
            #expect(home.standing == .asking && home.told.isEmpty, "\(what)")
            #expect(home.mapper.counts.strays == 1 && home.mapper.counts.answers == 0, "\(what)")
        }
        var home = asked()
        home.input { $0.receive(Self.good, from: EmulatedGateway.endpoint, at: $1) }
        #expect(home.standing.port?.endpoint == outside)
    }
    @Test func `forward nothing where the port is 0, the life is over, or the address nobody's`() {
        for change in [(42, [0, 0]), (4, [0, 0, 0, 0]), (56, [0, 0, 0, 0]), (56, [224, 0, 0, 1])] as [(Int, [UInt8])] {
            var bytes = Self.good
            bytes.replaceSubrange(change.0..<change.0 + change.1.count, with: change.1)
            var home = asked()
            home.input { $0.receive(bytes, from: EmulatedGateway.endpoint, at: $1) }
            #expect(home.standing.port == nil && home.told.isEmpty)
        }
    }
    @Test func `make it do nothing much, however many there are`() {
        var random = SeededGenerator(seed: 20)
        var home = asked()
        for _ in 0..<20_000 {
            var bytes = random.below(4) == 0 ? random.bytes(random.below(1300)) : Self.good
            if bytes == Self.good {
                for _ in 0..<1 + random.below(3) { bytes[random.below(bytes.count)] = UInt8(random.below(256)) }
                if random.below(4) == 0 { bytes.removeLast(random.below(bytes.count)) }
                if random.below(3) == 0 { bytes[0] = 0 }
            }
            home.input { $0.receive(bytes, from: EmulatedGateway.endpoint, at: $1) }
            home.run(.milliseconds(random.below(20)))
        }
        // 200 s: at most one question for each lease every 4 s, epochs and addresses every second.
        #expect(home.mapper.counts.sent < 600)
        home.gateway.speaks = [.pcp, .natPMP]
        home.run(.seconds(90_000))
        #expect(home.standing.port?.endpoint == outside, "it is itself again")
    }
    @Test func `are decoded or refused, whatever they are`() {
        var random = SeededGenerator(seed: 21)
        var decoded = 0
        for count in 0..<1200 {
            for _ in 0..<20 {
                var bytes = random.bytes(count)
                if count > 1, random.below(2) == 0 {
                    bytes[0] = UInt8(random.below(2) * 2)
                    bytes[1] = 0x80 | UInt8(random.below(3))
                }
                guard let answer = GatewayAnswer(bytes) else { continue }
                decoded += 1
                #expect(count >= 8 && count <= 1100)
                if case .mapping(_, let nonce, _, _, let address) = answer.content {
                    #expect(nonce.map { $0.count == 12 } ?? true)
                    #expect(address.map { $0.count == 4 || $0.count == 16 } ?? true)
                }
            }
        }
        #expect(decoded > 100, "the test has tried something")
    }
}
