import Channels
import Links
import Pools
import Primitives
import Testing
import VirtualNetworks

/// Peers on a virtual network: a driver that checks that every effect is legal.
struct Network {
    /// One end of a stream.
    struct End: Hashable {
        var node: Int
        var connection: ConnectionID
    }
    enum Event: Equatable {
        case established(PeerID)
        case message(PeerID, Channel, [UInt8])
        case lost(PeerID, LossReason)
        case interrupted(PeerID, LossReason)
        case resumed(PeerID)
        case unreachable(Endpoint, LossReason)
        case refused(Refusal)
        case news(PoolStatement)
    }
    private var network: VirtualNetwork
    var now: Instant { network.now }
    var nodes: [Channels] = []
    var events: [[Event]] = []
    /// Secure, closed by neither end, as far as each has heard; with what the network holds of each.
    private var streams: [End: Int] = [:]
    private var dialled: Set<End> = []
    private var connected: [Set<PeerID>] = []
    /// One way, between any two.
    var latency = Duration.microseconds(50) { didSet { relink() } }
    /// In which pieces bytes are received.
    var pieces: (() -> Int)?
    /// Of every node's line up, from now on; nil for one that is never the bottleneck.
    var rate: BitRate? {
        didSet { for node in nodes.indices { network.setAccess(of: node, AccessRates(up: rate, down: nil)) } }
    }
    /// (from, to): connections cannot be opened in this direction: it is said, or nobody answers.
    var blocked: Set<[Int]> = [] { didSet { setWalls(oldValue, blocked, .rejects) } }
    var unanswered: Set<[Int]> = [] { didSet { setWalls(oldValue, unanswered, .swallows) } }
    /// Nodes whose machine is gone without a word.
    private(set) var dead: Set<Int> = []
    /// Nodes whose process is gone; their machine says so.
    private(set) var vacant: Set<Int> = []
    /// Dials of introductions, by node.
    private(set) var punches: [Int: Int] = [:]
    /// Flows that were opened, and other dials, by node.
    private(set) var flows: [Int: Int] = [:]
    private(set) var dials: [Int: Int] = [:]
    /// Changes the exporter at one end: what a man in the middle would cause.
    var splitsExporter = false
    /// Every byte written so far, by node, for tests of order.
    var written: [[UInt8]] = []

    init() {
        network = VirtualNetwork(seed: 1, at: Instant(seconds: 100)) { _, _ in LinkProperties(latency: .zero) }
        relink()
    }
    private mutating func relink() {
        network.links = { [latency] _, _ in LinkProperties(latency: latency) }
        for a in nodes.indices {
            for b in nodes.indices where a != b { network.setLink(from: a, to: b, LinkProperties(latency: latency)) }
        }
    }
    private mutating func setWalls(_ old: Set<[Int]>, _ new: Set<[Int]>, _ wall: VirtualNetwork.Wall) {
        for pair in old.subtracting(new) { network.setWall(nil, from: pair[0], to: pair[1]) }
        for pair in new.subtracting(old) { network.setWall(wall, from: pair[0], to: pair[1]) }
    }
    /// The machine is gone without a word.
    mutating func unplug(_ node: Int) {
        dead.insert(node)
        network.unplug(node)
    }
    /// The process of a node is gone, and the kernel closes its connections.
    mutating func kill(_ node: Int) {
        vacant.insert(node)
        for end in ends where end.node == node { streams[end] = nil }
        network.setUp(false, node)
        settle()
    }
    /// The process of a node is another one, with the same key.
    mutating func restart(_ node: Int) {
        kill(node)
        let old = nodes[node]
        nodes[node] = Channels(
            local: old.local, listening: 4000, poolKey: [UInt8](repeating: 7, count: 32), limits: old.limits, seed: 99)
        connected[node] = []
        // Its dials count anew.
        dialled = dialled.filter { $0.node != node }
        vacant.remove(node)
        network.setUp(true, node)
    }
    /// From now on a node is behind a router of its own, and seen at ``outside(_:)``.
    mutating func putBehindRouter(_ node: Int, _ kind: NATKind) {
        network.putBehindRouter([node], kind, at: Self.outside(node).address, seed: UInt64(node))
    }
    static func outside(_ node: Int) -> Endpoint { Endpoint(ipv4: 60, 0, UInt8(node), 1, port: 4000) }
    mutating func punch(_ a: Int, _ b: Int) {
        nodes[a].punch(peer(b), at: Self.outside(b), now: now)
        drain(a)
    }
    /// Where a node is dialled from now on.
    mutating func move(_ node: Int, to endpoint: Endpoint) { network.move(node, to: endpoint) }
    func home(_ node: Int) -> Endpoint { network.endpoint(of: node) }
    private func isRunning(_ node: Int) -> Bool { !dead.contains(node) && !vacant.contains(node) }

    static func id(_ n: UInt8) -> PeerID { PeerID([n] + [UInt8](repeating: 0, count: 31))! }
    static func endpoint(_ node: Int) -> Endpoint { Endpoint(ipv4: 10, 0, 0, UInt8(node), port: 4000) }

    @discardableResult
    mutating func add(
        _ id: UInt8, key: [UInt8]? = [UInt8](repeating: 7, count: 32),
        _ change: (inout ChannelLimits) -> Void = { _ in }
    ) -> Int {
        var limits = ChannelLimits()
        change(&limits)
        nodes.append(
            Channels(local: Self.id(id), listening: 4000, poolKey: key, limits: limits, seed: UInt64(id)))
        events.append([])
        written.append([])
        makeRoom()
        return nodes.count - 1
    }
    /// A member of a pool that keeps members.
    @discardableResult mutating func add(_ book: PoolBook) -> Int {
        nodes.append(
            Channels(local: book.identity, listening: 4000, poolKey: book.keys[0].key, seed: UInt64(nodes.count)))
        nodes[nodes.count - 1].admit(by: book, at: now)
        events.append([])
        written.append([])
        makeRoom()
        return nodes.count - 1
    }
    mutating func change<T>(_ node: Int, _ change: (inout PoolBook) -> T) -> T? {
        defer { drain(node) }
        return nodes[node].change(at: now, change)
    }
    mutating func makeRoom() {
        while connected.count < nodes.count {
            network.addHost(
                at: Self.endpoint(connected.count), key: peer(connected.count),
                access: AccessRates(up: rate, down: nil), seed: UInt64(connected.count))
            connected.append([])
        }
    }
    func peer(_ node: Int) -> PeerID { nodes[node].local }
    mutating func connect(_ a: Int, _ b: Int, known: Bool = true) {
        nodes[a].connect(to: known ? peer(b) : nil, at: Self.endpoint(b), now: now)
        drain(a)
    }
    @discardableResult
    mutating func send(_ a: Int, _ b: Int, _ message: [UInt8], on channel: Channel) -> SendOutcome {
        defer { drain(a) }
        return nodes[a].send(message, on: channel, to: peer(b), at: now)
    }
    func isConnected(_ a: Int, _ b: Int) -> Bool {
        nodes[a].isConnected(to: peer(b)) && nodes[b].isConnected(to: peer(a))
    }
    var ends: [End] { streams.keys.sorted { ($0.node, $0.connection) < ($1.node, $1.connection) } }
    /// Ends of streams, two each.
    var endCount: Int { streams.count }
    /// The connection at `node`, when it has exactly one.
    func connection(of node: Int) -> ConnectionID? {
        let ends = streams.keys.filter { $0.node == node }
        return ends.count == 1 ? ends[0].connection : nil
    }
    func messages(_ node: Int) -> [[UInt8]] {
        events[node].compactMap { if case .message(_, _, let bytes) = $0 { bytes } else { nil } }
    }

    /// Effects of one node, each checked.
    mutating func drain(_ node: Int) {
        while let effect = nodes[node].poll() {
            if !isRunning(node) { continue }
            switch effect {
            case .punch(let id, let endpoint, let expecting):
                #expect(id.value % 2 == 1 && dialled.insert(End(node: node, connection: id)).inserted)
                punches[node, default: 0] += 1
                network.dial(id.value, from: node, to: endpoint, expecting: expecting)
            case .flow(let id, let endpoint, let expecting):
                // As a dial: what differs is below.
                flows[node, default: 0] += 1
                #expect(id.value % 2 == 1 && dialled.insert(End(node: node, connection: id)).inserted)
                network.dial(id.value, from: node, to: endpoint, expecting: expecting)
            case .dial(let id, let endpoint, let expecting):
                dials[node, default: 0] += 1
                let end = End(node: node, connection: id)
                #expect(id.value % 2 == 1, "dials are odd")
                #expect(dialled.insert(end).inserted, "each dial has a number of its own")
                network.dial(id.value, from: node, to: endpoint, expecting: expecting)
            case .open: Issue.record("nobody here is carried")
            case .write(let id, let bytes):
                let end = End(node: node, connection: id)
                #expect(streams[end] != nil, "writes go to secure connections only")
                #expect(!bytes.isEmpty)
                #expect(streams[end] ?? 0 < nodes[node].limits.unsentBytes + 256, "the driver was full")
                streams[end]? += bytes.count
                written[node] += bytes
                network.write(id.value, bytes, from: node)
            case .close(let id):
                let end = End(node: node, connection: id)
                #expect(streams.removeValue(forKey: end) != nil || dialled.contains(end), "only what exists is closed")
                network.close(id.value, by: node)
            case .established(let peer, _):
                #expect(connected[node].insert(peer).inserted, "established once")
                events[node].append(.established(peer))
            case .message(let peer, let channel, let bytes):
                #expect(connected[node].contains(peer), "messages come from connected peers only")
                events[node].append(.message(peer, channel, bytes))
            case .lost(let peer, let reason):
                connected[node].remove(peer)
                events[node].append(.lost(peer, reason))
            case .interrupted(let peer, let reason):
                #expect(connected[node].contains(peer), "only what was established is interrupted")
                events[node].append(.interrupted(peer, reason))
            case .resumed(let peer, _):
                #expect(connected[node].contains(peer), "only what was established goes on")
                events[node].append(.resumed(peer))
            case .unreachable(let endpoint, let reason): events[node].append(.unreachable(endpoint, reason))
            case .refused(_, let refusal): events[node].append(.refused(refusal))
            case .quiet(let peer, let address): nodes[node].move(peer, to: address, at: now)
            case .bookChanged: nodes[node].bookKept()
            case .news(let statement): events[node].append(.news(statement))
            case .seekMembers: break
            }
        }
        network.setAlarm(of: node, at: nodes[node].nextWake)
    }

    /// Lets the time pass.
    mutating func run(for duration: Duration = .seconds(3)) {
        let end = now + duration
        for node in nodes.indices where isRunning(node) { drain(node) }
        happen(until: end)
        network.rest(until: end)
    }
    private mutating func happen(until end: Instant) {
        while let (node, what) = network.happen(until: end) {
            switch what {
            case .stream(let event, _): happened(event, at: node)
            case .alarm:
                nodes[node].wake(at: now)
                drain(node)
            case .datagram, .cargo: preconditionFailure("streams only")
            }
        }
    }
    /// What happens at this moment.
    private mutating func settle() { happen(until: now) }

    private mutating func happened(_ event: StreamEvent, at node: Int) {
        switch event {
        case .secured(let id, let stream):
            let end = End(node: node, connection: ConnectionID(id))
            streams[end] = 0
            var exporter = stream.exporter
            if splitsExporter, stream.inbound { exporter[0] ^= 1 }
            nodes[node].secured(
                end.connection, peer: stream.peer, exporter: exporter, remote: stream.remote, inbound: stream.inbound,
                isTLSClient: stream.isTLSClient, at: now)
        case .dialFailed(let id, let isRefused):
            nodes[node].dialFailed(ConnectionID(id), refused: isRefused, at: now)
        case .received(let id, let bytes): return deliver(bytes, to: End(node: node, connection: ConnectionID(id)))
        case .writable(let id, let unsent):
            streams[End(node: node, connection: ConnectionID(id))] = unsent
            nodes[node].writable(ConnectionID(id), unsent: unsent, at: now)
        case .closed(let id):
            streams[End(node: node, connection: ConnectionID(id))] = nil
            nodes[node].closed(ConnectionID(id), at: now)
        }
        drain(node)
    }

    mutating func deliver(_ bytes: [UInt8], to end: End) {
        var rest = bytes[...]
        while !rest.isEmpty, streams[end] != nil {
            let piece = rest.prefix(max(1, pieces?() ?? Int.max))
            rest = rest.dropFirst(piece.count)
            nodes[end.node].received(end.connection, Array(piece), at: now)
            drain(end.node)
        }
    }
    /// Ends one stream for both sides, now; what was under way is gone.
    mutating func sever(_ end: End) {
        network.sever(end.connection.value, of: end.node)
        settle()
    }
    /// Every stream ends for both.
    mutating func cutEverything() { for end in ends { network.sever(end.connection.value, of: end.node) } }
    /// Nothing gets through any more, and nobody is told.
    mutating func swallowEverything() { for end in ends { network.mute(end.connection.value, of: end.node) } }
}
