import Channels
import Daemon
import Digests
import JobFixtures
import Kademlia
import Membership
import Paths
import Primitives
import Telemetry
import Testing
import Wire

/// Two nodes that can be dialled, and a peer at home behind a router that may be asked for ports. Datagrams take 5 ms; the router lets them in where
/// somebody was written to, and TCP where it forwards.
private struct Street {
    static let poolKey = [UInt8](repeating: 3, count: 32)
    static let nodes = [Endpoint("198.51.100.1:4000")!, Endpoint("203.0.113.1:4000")!]
    static let router = PortMapper.Gateway(
        endpoint: Endpoint("192.168.1.1:5351")!, local: Endpoint("192.168.1.20:0")!)

    var daemons: [DaemonCore] = []
    var now = Instant(seconds: 10)
    /// Where others see the peer.
    var seen = Endpoint("60.0.0.5:4000")!
    /// What the router says; nil: it refuses.
    var says: Endpoint? = Endpoint("60.0.0.5:4017")!
    var life: UInt32 = 7200
    /// Ports at which TCP, and strangers' datagrams, come in.
    var open: Set<UInt16> = [4017]
    var letsDatagramsIn = false
    private(set) var tried: [Endpoint] = []
    private(set) var questions: [[UInt8]] = []
    private(set) var events: [Happening] = []
    private(set) var found: [RequestID: [Endpoint]] = [:]
    private var underWay: [(at: Instant, from: Endpoint, to: Endpoint, bytes: [UInt8])] = []

    init(_ change: (inout Street) -> Void = { _ in }) {
        change(&self)
        for (place, endpoint) in (Self.nodes + [seen]).enumerated() {
            let key = Small.key(place + 1)
            let directory = Directory(
                configuration: OverlayConfiguration(
                    poolKey: Self.poolKey, bootstrap: place == 0 ? [] : [Self.nodes[0]], seed: UInt64(place)),
                identity: key, nodeID: nil, known: [], at: now)
            let member = place < 2 ? nil : Bench.member(key, accepts: [Small.peer(9)], at: now)
            let channels = Channels(
                local: key.peerID, listening: endpoint.port, poolKey: Self.poolKey, limits: .daemon(computes: false),
                seed: 1)
            daemons.append(
                DaemonCore(
                    directory: directory, channels: channels, services: DaemonCore.Services(member: member), key: key,
                    port: 4000, at: now))
        }
        drain()
    }
    var peer: DaemonCore { daemons[2] }
    var forwarding: DaemonStatus.Forwarding? { peer.status(at: now).overlay.forwarding }
    func count(_ isMeant: (Happening) -> Bool) -> Int { events.count(where: isMeant) }
    var opened: [String] { events.compactMap { if case .portOpened(let at) = $0 { at } else { nil } } }
    var closed: Int { count { if case .portClosed = $0 { true } else { false } } }

    mutating func find(_ gateway: PortMapper.Gateway?) {
        daemons[2].use(gateway: gateway, at: now)
        drain()
    }
    mutating func change(_ body: (inout DaemonCore, Instant) -> Void) {
        body(&daemons[2], now)
        drain()
    }
    mutating func run(_ time: Duration) {
        let end = now + time
        while true {
            var next = underWay.map(\.at).min()
            for daemon in daemons { next = earliest(next, daemon.nextWake) }
            guard let next, next <= end else { break }
            now = max(now, next)
            while let place = underWay.firstIndex(where: { $0.at <= now }) {
                let one = underWay.remove(at: place)
                if one.from == Self.router.endpoint {
                    daemons[2].receive(gateway: one.bytes, from: one.from, at: now)
                } else if let number = number(at: one.to) {
                    daemons[number].receive(datagram: one.bytes, from: one.from, at: now)
                }
                drain()
            }
            for number in daemons.indices where daemons[number].nextWake.map({ $0 <= now }) ?? false {
                daemons[number].wake(at: now)
            }
            drain()
        }
        now = end
    }
    private func number(at endpoint: Endpoint) -> Int? {
        endpoint == seen ? 2 : Self.nodes.firstIndex(of: endpoint)
    }
    private mutating func drain() {
        for number in daemons.indices {
            while let effect = daemons[number].poll() { perform(effect, of: number) }
        }
    }
    private mutating func perform(_ effect: DaemonCore.Effect, of number: Int) {
        let source = number == 2 ? seen : Self.nodes[number]
        switch effect {
        case .datagram(let bytes, let to): underWay.append((now + .milliseconds(5), source, to, bytes))
        case .gateway(let bytes, let to):
            questions.append(bytes)
            #expect(number == 2 && to == Self.router.endpoint)
            underWay.append((now + .milliseconds(1), to, seen, answer(bytes)))
        case .dialBack(let dial, let endpoint, let datagram):
            // The sockets of a dial-back have ports that nobody was written to.
            let stranger = Endpoint(address: source.address, port: 50_000)!
            if endpoint.address == seen.address { tried.append(endpoint) }
            let isOpen = endpoint.address != seen.address || open.contains(endpoint.port)
            if endpoint.address != seen.address || letsDatagramsIn {
                underWay.append((now + .milliseconds(5), stranger, datagram.endpoint, datagram.bytes))
            }
            daemons[number].dialledBack(dial, reached: isOpen, at: now + .milliseconds(10))
        case .recordDue where number == 2:
            daemons[2].publishRecord(wall: 1_800_000_000 + Int64(now.seconds), at: now)
        case .found(let request, let outcome):
            if case .peers(let endpoints) = outcome.result { found[request] = endpoints }
        case .event(let event) where number == 2: events.append(event.what)
        default: break
        }
    }
    /// PCP, as RFC 6887 draws it.
    private func answer(_ bytes: [UInt8]) -> [UInt8] {
        func four(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
        let isDone = says != nil || bytes[1] == 0
        let head =
            [2, 0x80 | bytes[1], 0, isDone ? 0 : 2] + four(isDone ? life : 1800) + four(UInt32(now.seconds))
            + [UInt8](repeating: 0, count: 12)
        guard bytes[1] == 1 else { return head }
        let place = says ?? .nowhere
        return head + bytes[24..<42] + [UInt8(place.port >> 8), UInt8(place.port & 255)]
            + [UInt8](repeating: 0, count: 10) + [255, 255] + place.address
    }
}

@Suite struct `A port that the router forwards` {
    @Test func `counts when others have come in there, and is what others are told from then on`() {
        var street = Street()
        street.find(Street.router)
        street.run(.seconds(30))
        #expect(street.opened == ["60.0.0.5:4017"])
        #expect(street.tried.allSatisfy { $0.port == 4017 } && !street.tried.isEmpty)
        #expect(street.peer.channels.port == 4017, "hellos say so")
        #expect(street.forwarding?.state == .open && street.forwarding?.spoken == "PCP")
        #expect(street.peer.status(at: street.now).overlay.isReachable)
        // Its datagrams come in only from whom it has written to: others should not count on it in the overlay.
        #expect(street.peer.directory.overlay.isReadOnly)
    }
    @Test func `makes it a citizen of the overlay where strangers' datagrams come in, too`() {
        var street = Street { $0.letsDatagramsIn = true }
        street.find(Street.router)
        street.run(.seconds(30))
        #expect(street.opened.count == 1 && !street.peer.directory.overlay.isReadOnly)
    }
    @Test func `is announced in the place of the one that is listened at`() {
        var street = Street()
        street.find(Street.router)
        street.run(.seconds(60))
        let hash = NodeID(hashing: DaemonCore.poolTopic + Street.poolKey)
        let request = street.daemons[0].overlay(at: street.now) { $0.getPeers(hash, at: street.now) }
        street.run(.seconds(5))
        #expect(street.found[request].map { $0.contains(Endpoint("60.0.0.5:4017")!) } == true)
    }
    @Test func `is asked for only where others see this machine at a public address that is not its own`() {
        for (seen, local) in [("192.168.1.20:4000", "192.168.1.20:0"), ("60.0.0.5:4000", "60.0.0.5:0")] {
            var street = Street { $0.seen = Endpoint(seen)! }
            street.find(PortMapper.Gateway(endpoint: Street.router.endpoint, local: Endpoint(local)!))
            street.run(.seconds(30))
            #expect(street.questions.isEmpty && street.forwarding == nil)
        }
        var street = Street()
        street.find(nil)
        street.run(.seconds(30))
        #expect(street.questions.isEmpty && street.forwarding == nil, "its owner does not want it")
    }
    @Test func `is not tried where another router stands in front of that one`() {
        for says in ["100.64.0.7:4017", "10.0.0.7:4017", "9.9.9.9:4017"] {
            var street = Street { $0.says = Endpoint(says)! }
            street.find(Street.router)
            street.run(.seconds(30))
            #expect(street.forwarding?.state == .behind && street.opened.isEmpty)
            #expect(street.tried.allSatisfy { $0.port == 4000 }, "nobody is sent to another address or port")
            #expect(!street.peer.status(at: street.now).overlay.isReachable && street.peer.channels.port == 4000)
        }
    }
    @Test func `does not count where nobody comes in, and the listening port is tried next`() {
        var street = Street { $0.open = [4000] }
        street.find(Street.router)
        street.run(.seconds(30))
        #expect(street.forwarding?.state == .vain && street.opened.isEmpty && street.closed == 1)
        #expect(!street.peer.status(at: street.now).overlay.isReachable && street.peer.channels.port == 4000)
        street.open = [4000]
        street.letsDatagramsIn = true
        street.run(.seconds(90))
        #expect(street.tried.map(\.port).contains(4000))
        #expect(street.peer.status(at: street.now).overlay.isReachable, "its owner has forwarded that one")
        #expect(street.peer.channels.port == 4000)
    }
    @Test func `is given up when the router lets go of it`() {
        var street = Street { $0.life = 600 }
        street.find(Street.router)
        street.run(.seconds(100))
        #expect(street.opened.count == 1)
        (street.says, street.open) = (nil, [])
        street.run(.seconds(700))
        #expect(street.closed >= 1 && street.peer.channels.port == 4000)
        #expect(street.forwarding?.state == .refused && street.forwarding?.why?.isEmpty == false)
        street.run(.seconds(130))
        #expect(!street.peer.status(at: street.now).overlay.isReachable)
    }
    @Test func `is given back when the daemon ends`() throws {
        var street = Street()
        street.find(Street.router)
        street.run(.seconds(30))
        let before = street.questions.count
        street.change { $0.stop(at: $1) }
        let goodbye = street.questions.dropFirst(before)
        #expect(goodbye.count == 2 && goodbye.allSatisfy { $0.count == 60 && $0[4..<8] == [0, 0, 0, 0] })
        street.run(.seconds(200))
        #expect(street.questions.count == before + 2, "and is not asked for again")
    }
}
