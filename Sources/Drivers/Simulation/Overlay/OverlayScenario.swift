import Kademlia
import Primitives

/// What one kind of operation came to.
public struct OperationSummary: Sendable {
    public let name: String
    public fileprivate(set) var milliseconds: [Double] = []
    public fileprivate(set) var succeeded = 0
    public fileprivate(set) var hops = 0
    public fileprivate(set) var queries = 0
    public fileprivate(set) var timeouts = 0
    public var count: Int { milliseconds.count }
    public var success: Double { count == 0 ? .nan : Double(succeeded) / Double(count) }
    public var meanHops: Double { Double(hops) / Double(max(1, count)) }
    public var meanQueries: Double { Double(queries) / Double(max(1, count)) }
    public func percentile(_ share: Double) -> Double {
        let sorted = milliseconds.sorted()
        return sorted.isEmpty ? .nan : sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))]
    }

    fileprivate mutating func add(_ outcome: LookupOutcome, good: Bool) {
        milliseconds.append(outcome.elapsed.inMilliseconds)
        succeeded += good ? 1 : 0
        hops += outcome.hops
        queries += outcome.queries
        timeouts += outcome.timeouts
    }
}

/// Puts, gets, announcements and searches in a world where nodes die, come and go.
public final class OverlayScenario {
    public struct Options: Sendable {
        public var rounds = 300
        /// Rounds under way at once.
        public var parallel = 10
        /// Share of nodes that die at once, unseen, before the first round.
        public var dead = 0.0
        public var churn = ChurnModel.none
        /// How long sessions come and go before the first round.
        public var warm = Duration.seconds(20)
        /// Between writing and reading.
        public var pause = Duration.seconds(5)
        /// Only searches for nodes, no items: what a million dormant nodes are asked.
        public var lookupsOnly = false
        public init() {}
    }

    public let world: OverlayWorld
    private let options: Options
    private var generator: SeededGenerator
    /// Nodes everybody starts from; they stay.
    private let anchors: [Int]
    private var open = 0
    private var begun = 0
    public private(set) var summaries: [OperationSummary] = []
    /// Bytes a node and second while nobody asks for anything.
    public private(set) var idleBytes = Double.nan
    public private(set) var arrivals = 0

    public init(_ world: OverlayWorld, _ options: Options) {
        self.world = world
        self.options = options
        generator = SeededGenerator(seed: world.options.seed, stream: 0x7363_656e_65)
        anchors = (0..<world.options.nodes).filter { world.isHonest($0) }.prefix(3).map { $0 }
    }

    public func run(report: (String) -> Void = { _ in }) {
        switch options.churn {
        case .none: break
        case .sessions(let median, let shape):
            for index in 0..<world.options.nodes where !anchors.contains(index) {
                live(index, median, shape, isFirst: true)
            }
        case .trace(let trace): follow(trace)
        }
        if !world.options.dormant {
            world.run(options.warm)
            let (before, start) = (world.bytes, world.now)
            world.run(.seconds(60))
            idleBytes = Double(world.bytes - before) / Double(world.options.nodes) / (world.now - start).inSeconds
        }
        if options.dead > 0 {
            for index in 0..<world.options.nodes
            where !anchors.contains(index) && generator.uniform() < options.dead { world.kill(index) }
        }
        var shown = 0
        var swept = world.now
        while begun < options.rounds || open > 0 {
            while begun < options.rounds, open < options.parallel { round() }
            world.run(.seconds(1), until: { self.open < self.options.parallel && self.begun < self.options.rounds })
            if world.now - swept > .seconds(5) {
                world.sweep()
                swept = world.now
            }
            if begun >= shown + max(1, options.rounds / 10) {
                shown = begun
                report("\(begun) of \(options.rounds)")
            }
        }
    }

    // MARK: Coming and going

    private func live(_ index: Int, _ median: Duration, _ shape: SessionShape, isFirst: Bool) {
        var session = shape.draw(median, &generator)
        // Seen at a random moment, a session is somewhere in its middle.
        if isFirst { session = session * generator.uniform() }
        world.after(session) { [self] in
            world.kill(index)
            world.join(index, bootstrap: anchors)
            arrivals += 1
            live(index, median, shape, isFirst: false)
        }
    }

    private func follow(_ trace: ChurnTrace) {
        let first = trace.changes[0].at
        for index in 0..<min(trace.nodeCount, world.options.nodes) where !anchors.contains(index) { world.kill(index) }
        for change in trace.changes where change.node < world.options.nodes && !anchors.contains(change.node) {
            world.after(change.at - first) { [self] in
                guard change.isUp else { return world.kill(change.node) }
                world.join(change.node, bootstrap: anchors)
                arrivals += 1
            }
        }
    }

    // MARK: Rounds

    private func note(_ name: String, _ outcome: LookupOutcome, good: Bool) {
        let index = summaries.firstIndex { $0.name == name } ?? summaries.endIndex
        if index == summaries.endIndex { summaries.append(OperationSummary(name: name)) }
        summaries[index].add(outcome, good: good)
    }

    private func round() {
        let number = begun
        begun += 1
        open += 1
        if options.lookupsOnly { return lookUp() }
        if number % 2 == 0 { write(number) } else { announce(number) }
    }

    /// A node that dies takes its question along: nobody is left to call it failed.
    private func ask(
        _ operation: @escaping (inout Overlay, Instant) -> RequestID, then: @escaping (LookupOutcome, Int) -> Void
    ) {
        let index = world.pick()
        let id = world.nodeID(index)
        var over = false
        world.setAsking(index, true)
        world.start(index, operation) { [self] outcome in
            guard !over else { return }
            over = true
            world.setAsking(index, false)
            then(outcome, index)
        }
        // Operations end within ten seconds, unless the asker is gone.
        world.after(.seconds(15)) { [self] in
            guard !over else { return }
            over = true
            world.setAsking(index, false)
            precondition(!world.isAlive(index) || world.nodeID(index) != id, "an operation without an end")
            ask(operation, then: then)
        }
    }

    private func lookUp() {
        let target = NodeID.random(using: &generator)
        ask({ $0.findNode(target, at: $1) }) { [self] outcome, asker in
            var good = false
            if case .nodes(let nodes) = outcome.result {
                let truth = world.closest(to: target, count: 8, except: asker)
                let found = Set(nodes.map(\.id))
                // The closest node itself, and nearly all of its neighbours.
                good = found.contains(truth[0]) && truth.count { found.contains($0) } >= 7
            }
            note("lookup", outcome, good: good)
            open -= 1
        }
    }

    private func write(_ number: Int) {
        let value = Array("8:".utf8) + Array("\(10_000_000 + number)".utf8)
        let salt = Array("\(number)".utf8)
        var key: PeerID?
        ask({ overlay, now in
            key = overlay.publicKey
            return overlay.putMutable(value: value, salt: salt, sequence: 1, cas: nil, at: now)
        }) { [self] outcome, _ in
            var replicas = 0
            if case .stored(let count, _) = outcome.result { replicas = count }
            note("put", outcome, good: replicas >= 3)
            let key = key!
            world.after(options.pause) { [self] in
                ask({ $0.getMutable(key: key, salt: salt, at: $1) }) { [self] outcome, _ in
                    var good = false
                    if case .item(let item) = outcome.result { good = item?.value == value }
                    note("get", outcome, good: good)
                    open -= 1
                }
            }
        }
    }

    private func announce(_ number: Int) {
        let hash = NodeID(hashing: Array("topic \(number)".utf8))
        ask({ $0.announce(hash, port: 4000, at: $1) }) { [self] outcome, announcer in
            var replicas = 0
            if case .stored(let count, _) = outcome.result { replicas = count }
            note("announce", outcome, good: replicas >= 3)
            let expected = world.endpoint(announcer).address
            world.after(options.pause) { [self] in
                ask({ $0.getPeers(hash, at: $1) }) { [self] outcome, _ in
                    var good = false
                    if case .peers(let peers) = outcome.result {
                        good = peers.contains { $0.address == expected && $0.port == 4000 }
                    }
                    note("get peers", outcome, good: good)
                    open -= 1
                }
            }
        }
    }
}

extension OverlayWorld {
    func endpoint(_ index: Int) -> Endpoint { OverlayPopulation.endpoint(index) }
    /// IDs of the honest live nodes closest to a target: what a perfect search returns.
    func closest(to target: NodeID, count: Int, except asker: Int) -> [NodeID] {
        population.closest(to: target, count: count) { isAlive($0) && isHonest($0) && $0 != asker }.map { nodeID($0) }
    }
}
