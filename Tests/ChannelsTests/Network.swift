import Channels
import Digests
import Primitives
import Testing

/// Peers joined by in-memory secure pipes on a virtual clock: a driver that checks that every effect is legal.
struct Network {
    /// One end of a pipe.
    struct End: Hashable {
        var node: Int
        var connection: ConnectionID
    }
    private struct Pipe {
        var other: End
        /// Written here and not yet carried.
        var unsent: [[UInt8]] = []
        var closing = false
        /// What goes in does not come out, and nobody hears of it.
        var swallows = false
    }
    enum Event: Equatable {
        case established(PeerID)
        case message(PeerID, Channel, [UInt8])
        case interrupted(PeerID, LossReason)
        case resumed(PeerID)
        case lost(PeerID, LossReason)
        case unreachable(Endpoint, LossReason)
        case refused(Refusal)
    }
    private(set) var now = Instant(seconds: 100)
    var nodes: [Channels] = []
    var events: [[Event]] = []
    private var pipes: [End: Pipe] = [:]
    private var dialled: Set<End> = []
    private var dials: [(at: Instant, from: End, to: Endpoint, expecting: PeerID?)] = []
    private var connected: [Set<PeerID>] = []
    private var nextInbound: UInt64 = 2
    /// How long a dial takes; how many bytes a pipe carries in one turn, in which pieces.
    var dialTime: Duration = .milliseconds(20)
    var carries = Int.max
    var pieces: (() -> Int)?
    /// A rate of every pipe from now on, in steps of a millisecond; nil for none.
    var rate: BitRate?
    private var lastStep = Instant.zero
    /// (from, to): connections cannot be opened in this direction.
    var blocked: Set<[Int]> = []
    /// Nodes that do nothing any more: machines that are off.
    var dead: Set<Int> = []
    /// Machines on which the process is gone and nobody listens any more.
    var vacant: Set<Int> = []
    /// Where a node is dialled, when it has moved there.
    var homes: [Int: Endpoint] = [:]
    /// Changes the exporter at one end: what a man in the middle would cause.
    var splitsExporter = false
    /// Every byte written so far, by node, for tests of order.
    var written: [[UInt8]] = []

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
    mutating func makeRoom() { while connected.count < nodes.count { connected.append([]) } }
    func peer(_ node: Int) -> PeerID { nodes[node].local }
    private func isRunning(_ node: Int) -> Bool { !dead.contains(node) && !vacant.contains(node) }
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
    var pipeCount: Int { pipes.count }
    /// The connection at `node`, when it has exactly one.
    func connection(of node: Int) -> ConnectionID? {
        let ends = pipes.keys.filter { $0.node == node }
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
            case .dial(let id, let endpoint, let expecting):
                let end = End(node: node, connection: id)
                #expect(id.value % 2 == 1, "dials are odd")
                #expect(dialled.insert(end).inserted, "each dial has a number of its own")
                dials.append((now + dialTime, end, endpoint, expecting))
            case .write(let id, let bytes):
                let end = End(node: node, connection: id)
                #expect(pipes[end] != nil, "writes go to secure connections only")
                #expect(pipes[end]?.closing != true, "nothing is written after close")
                #expect(!bytes.isEmpty)
                let limits = nodes[node].limits
                let held = pipes[end]?.unsent.reduce(0) { $0 + $1.count } ?? 0
                #expect(held < limits.unsentBytes + 256, "the driver was full")
                pipes[end]?.unsent.append(bytes)
                written[node] += bytes
            case .close(let id):
                let end = End(node: node, connection: id)
                #expect(pipes[end] != nil || dialled.contains(end), "only what exists is closed")
                dials.removeAll { $0.from == end }
                pipes[end]?.closing = true
            case .established(let peer, _):
                #expect(connected[node].insert(peer).inserted, "established once")
                events[node].append(.established(peer))
            case .message(let peer, let channel, let bytes):
                #expect(connected[node].contains(peer), "messages come from connected peers only")
                events[node].append(.message(peer, channel, bytes))
            case .interrupted(let peer, let reason):
                #expect(connected[node].contains(peer), "only what was established is interrupted")
                events[node].append(.interrupted(peer, reason))
            case .resumed(let peer, _):
                #expect(connected[node].contains(peer), "only what was established goes on")
                events[node].append(.resumed(peer))
            case .lost(let peer, let reason):
                connected[node].remove(peer)
                events[node].append(.lost(peer, reason))
            case .unreachable(let endpoint, let reason): events[node].append(.unreachable(endpoint, reason))
            case .refused(_, let refusal): events[node].append(.refused(refusal))
            }
        }
    }

    /// Runs until nothing moves or the time has passed.
    mutating func run(for duration: Duration = .seconds(3)) {
        let end = now + duration
        for _ in 0..<200_000 {
            if let rate {
                carries = now - lastStep >= .milliseconds(1) ? Int(rate.bytesPerSecond / 1_000) : 0
                if carries > 0 { lastStep = now }
                _ = carry()
            } else {
                while carry() {}
            }
            var next = rate == nil ? nil : now + .milliseconds(1)
            for node in nodes.indices where isRunning(node) { next = earliest(next, nodes[node].nextWake) }
            for dial in dials { next = earliest(next, dial.at) }
            guard let next, next <= end else { break }
            now = max(now, next)
            finishDials()
            for node in nodes.indices where isRunning(node) {
                nodes[node].wake(at: now)
                drain(node)
            }
        }
        now = end
    }

    private mutating func finishDials() {
        let due = dials.filter { $0.at <= now }
        dials.removeAll { $0.at <= now }
        for dial in due {
            let from = dial.from
            let target = nodes.indices.first {
                homes[$0, default: Self.endpoint($0)] == dial.to && !dead.contains($0)
            }
            if let target, vacant.contains(target) {
                nodes[from.node].dialFailed(from.connection, refused: true, at: now)
                drain(from.node)
                continue
            }
            guard let target, !blocked.contains([from.node, target]),
                dial.expecting == nil || dial.expecting == peer(target)
            else {
                nodes[from.node].dialFailed(from.connection, at: now)
                drain(from.node)
                continue
            }
            let to = End(node: target, connection: ConnectionID(nextInbound))
            nextInbound += 2
            pipes[from] = Pipe(other: to)
            pipes[to] = Pipe(other: from)
            var exporter = sha256(peer(from.node).bytes + peer(target).bytes + [UInt8(nextInbound & 255)]).bytes
            let dialerIsClient = dial.expecting == nil || peer(from.node) < peer(target)
            let host = Endpoint(address: homes[from.node, default: Self.endpoint(from.node)].address, port: 50_000)!
            nodes[from.node].secured(
                from.connection, peer: peer(target), exporter: exporter, remote: dial.to, inbound: false,
                isTLSClient: dialerIsClient, at: now)
            drain(from.node)
            if splitsExporter { exporter[0] ^= 1 }
            nodes[target].secured(
                to.connection, peer: peer(from.node), exporter: exporter, remote: host, inbound: true,
                isTLSClient: !dialerIsClient, at: now)
            drain(target)
        }
    }

    /// Moves bytes through every pipe once. False when nothing moved.
    private mutating func carry() -> Bool {
        var moved = false
        for end in pipes.keys.sorted(by: { ($0.node, $0.connection) < ($1.node, $1.connection) }) {
            guard var pipe = pipes[end], !dead.contains(end.node), !pipe.swallows else { continue }
            var budget = carries
            var bytes: [UInt8] = []
            while !pipe.unsent.isEmpty, budget > 0, !dead.contains(pipe.other.node) {
                let piece = min(budget, pipe.unsent[0].count)
                bytes += pipe.unsent[0].prefix(piece)
                budget -= piece
                if piece == pipe.unsent[0].count {
                    pipe.unsent.removeFirst()
                } else {
                    pipe.unsent[0].removeFirst(piece)
                }
            }
            pipes[end] = pipe
            if !bytes.isEmpty {
                moved = true
                deliver(bytes, to: pipe.other)
                if pipes[end]?.closing == false {
                    let unsent = pipe.unsent.reduce(0) { $0 + $1.count }
                    nodes[end.node].writable(end.connection, unsent: unsent, at: now)
                    drain(end.node)
                }
            }
            if pipes[end]?.closing == true, pipes[end]?.unsent.isEmpty == true {
                moved = true
                cut(end)
            }
        }
        return moved
    }
    mutating func deliver(_ bytes: [UInt8], to end: End) {
        var rest = bytes[...]
        while !rest.isEmpty, pipes[end]?.closing == false {
            let piece = rest.prefix(max(1, pieces?() ?? Int.max))
            rest = rest.dropFirst(piece.count)
            nodes[end.node].received(end.connection, Array(piece), at: now)
            drain(end.node)
        }
    }
    /// The pipe ends for both.
    mutating func cut(_ end: End) {
        guard let pipe = pipes.removeValue(forKey: end) else { return }
        pipes[pipe.other] = nil
        if !dead.contains(pipe.other.node) {
            nodes[pipe.other.node].closed(pipe.other.connection, at: now)
            drain(pipe.other.node)
        }
    }
    /// Moves bytes once, so that something is under way.
    mutating func carryOnce() { _ = carry() }
    /// The process of a node is another one, with the same key.
    mutating func restart(_ node: Int) {
        for end in ends where end.node == node && pipes[end] != nil { cut(end) }
        let old = nodes[node]
        nodes[node] = Channels(
            local: old.local, listening: 4000, poolKey: [UInt8](repeating: 7, count: 32), limits: old.limits, seed: 99)
        connected[node] = []
        // Its dials count anew.
        dialled = dialled.filter { $0.node != node }
        dials.removeAll { $0.from.node == node }
        vacant.remove(node)
    }
    /// The process of a node is gone, and the kernel closes its connections.
    mutating func kill(_ node: Int) {
        vacant.insert(node)
        for end in ends where end.node == node && pipes[end] != nil { cut(end) }
    }
    /// Nothing gets through any more, and nobody is told.
    mutating func swallowEverything() { for end in ends { pipes[end]!.swallows = true } }
    var ends: [End] { pipes.keys.sorted { ($0.node, $0.connection) < ($1.node, $1.connection) } }
    /// Ends one pipe for both sides, now; what was under way is gone.
    mutating func breakPipe(_ end: End) {
        guard pipes[end] != nil else { return }
        cut(end)
        nodes[end.node].closed(end.connection, at: now)
        drain(end.node)
    }
    mutating func cutEverything() {
        for end in pipes.keys.sorted(by: { ($0.node, $0.connection) < ($1.node, $1.connection) })
        where pipes[end] != nil {
            cut(end)
            nodes[end.node].closed(end.connection, at: now)
            drain(end.node)
        }
    }
}
