import Digests
import Kademlia
import Links
import Primitives
import VirtualNetworks

/// A small deterministic internet: directories, one-way delays, loss, silence. The same seed gives the same run.
struct World {
    struct Node {
        var directory: Directory
        var endpoint: Endpoint
        /// Receives and sends nothing.
        var isSilent = false
        /// Keeps nothing, and names other liars as the neighbours of whatever is asked for.
        var isLiar = false
        /// Whether TCP dials from outside arrive.
        var canBeDialled = true
        /// Whether datagrams from those it never wrote to are dropped before they arrive.
        var filtersStrangers = false
        var outcomes: [RequestID: LookupOutcome] = [:]
        var events: [Event] = []
    }
    struct Event {
        let at: Instant
        let effect: Directory.Effect
    }
    var nodes: [Node] = []
    private var network: VirtualNetwork
    var now: Instant { network.now }
    var loss = 0.0 { didSet { network.links = links } }
    /// Mean one-way delay; each pair has its own, between half and one and a half of it.
    var delay = Duration.milliseconds(10) { didSet { network.links = links } }
    var datagrams = 0
    /// Called for each datagram on the wire; for checks.
    var largest = 0
    /// Dials back: by whom, and where. And datagrams to nobody here.
    var dialled: [(by: Int, endpoint: Endpoint)] = []
    var strays: [(endpoint: Endpoint, bytes: [UInt8])] = []
    private var byEndpoint: [Endpoint: Int] = [:]
    var generator: SeededGenerator
    let seed: UInt64
    let poolKey: [UInt8]?

    init(seed: UInt64, poolKey: [UInt8]? = [UInt8](repeating: 7, count: 32)) {
        self.seed = seed
        self.poolKey = poolKey
        generator = SeededGenerator(seed: seed)
        network = VirtualNetwork(seed: seed, at: Instant(seconds: 1000)) { _, _ in LinkProperties(latency: .zero) }
        network.links = links
    }
    private var links: (Int, Int) -> LinkProperties {
        { [seed, delay, loss] a, b in
            var pair = SeededGenerator(seed: seed, stream: UInt64(min(a, b) * 65_536 + max(a, b)))
            let nanoseconds = Double(delay.wholeNanoseconds) * (0.5 + pair.uniform())
            return LinkProperties(latency: .nanoseconds(Int64(nanoseconds)), loss: loss)
        }
    }

    static func identity(_ number: Int) -> SigningKey {
        SigningKey(seed: sha256("identity \(number)".utf8).bytes)!
    }
    static func loopback(_ number: Int) -> Endpoint { Endpoint(ipv4: 127, 0, 0, 1, port: UInt16(4000 + number)) }

    @discardableResult
    mutating func add(
        at endpoint: Endpoint? = nil, bootstrap: [Endpoint], poolKey other: [UInt8]?? = nil, known: [Contact] = [],
        nodeID: NodeID? = nil, configure: (inout OverlayConfiguration) -> Void = { _ in }
    ) -> Int {
        let index = nodes.count
        let endpoint = endpoint ?? Self.loopback(index)
        var configuration = OverlayConfiguration(
            poolKey: other ?? poolKey, bootstrap: bootstrap, seed: seed &* 1000 &+ UInt64(index))
        configure(&configuration)
        let directory = Directory(
            configuration: configuration, identity: Self.identity(index), nodeID: nodeID, known: known, at: now)
        nodes.append(Node(directory: directory, endpoint: endpoint))
        byEndpoint[endpoint] = index
        drain(index)
        return index
    }

    /// The driver's loop: one input, drain, re-arm.
    mutating func with<T>(_ index: Int, _ input: (inout Directory, Instant) -> T) -> T {
        let result = input(&nodes[index].directory, now)
        drain(index)
        return result
    }

    private mutating func drain(_ index: Int) {
        while let effect = nodes[index].directory.poll() {
            switch effect {
            case .send(let bytes, let to): transmit(bytes, from: index, to: to)
            case .found(let request, let outcome):
                precondition(nodes[index].outcomes[request] == nil, "a second outcome for \(request)")
                nodes[index].outcomes[request] = outcome
            case .dialBack(let dial, let endpoint, let probe):
                dialled.append((index, endpoint))
                let reached = byEndpoint[endpoint].map { nodes[$0].canBeDialled } ?? false
                if let target = byEndpoint[probe.endpoint], !nodes[target].filtersStrangers {
                    nodes[target].directory.receive(
                        datagram: probe.bytes, from: World.loopback(60_000 - index), at: now)
                }
                nodes[index].directory.dialledBack(dial, reached: reached, at: now)
            default: nodes[index].events.append(Event(at: now, effect: effect))
            }
        }
        network.setAlarm(of: index, at: nodes[index].directory.nextWake)
    }

    private mutating func transmit(_ bytes: [UInt8], from index: Int, to: Endpoint) {
        datagrams += 1
        largest = max(largest, bytes.count)
        guard !nodes[index].isSilent, let receiver = byEndpoint[to] else { return strays.append((to, bytes)) }
        network.send(bytes, from: index, to: receiver)
    }

    /// Lets `duration` of virtual time pass, or less when `until` comes true.
    @discardableResult
    mutating func run(_ duration: Duration, until done: (World) -> Bool = { _ in false }) -> Bool {
        let end = now + duration
        while let (index, what) = network.happen(until: end) {
            switch what {
            case .datagram(let bytes, let sender):
                guard !nodes[index].isSilent else { continue }
                let from = nodes[sender].endpoint
                if nodes[index].isLiar, lie(bytes, from: from, to: index) { continue }
                nodes[index].directory.receive(datagram: bytes, from: from, at: now)
            case .alarm: nodes[index].directory.wake(at: now)
            case .stream, .cargo: preconditionFailure("datagrams only")
            }
            drain(index)
            if done(self) { return true }
        }
        network.rest(until: end)
        return done(self)
    }

    /// A liar's answer to anything but a ping. False: let the honest code answer.
    private mutating func lie(_ bytes: [UInt8], from: Endpoint, to: Int) -> Bool {
        let seal = poolKey.map(PoolSeal.init(key:))
        guard let message = try? KRPCMessage.decode(bytes, pool: seal), case .query(let query) = message.body else {
            return false
        }
        let target: NodeID
        switch query.method {
        case .findNode(let t), .get(let t, _), .getPeers(let t): target = t
        case .put, .announcePeer: target = nodes[to].directory.overlay.nodeID
        default: return false
        }
        var answer = KRPCAnswer(sender: nodes[to].directory.overlay.nodeID)
        answer.token = [1, 2, 3, 4, 5, 6, 7, 8]
        let liars = nodes.indices.filter { nodes[$0].isLiar }
        var list: [UInt8] = []
        for _ in 0..<8 {
            let liar = nodes[liars[generator.below(liars.count)]]
            // As close to the target as nobody honest can be.
            list += target.bytes.prefix(8) + generator.bytes(12) + liar.endpoint.compact
        }
        answer.nodes = list[...]
        transmit(
            KRPCMessage(transaction: message.transaction, body: .answer(answer)).encoded(pool: seal), from: to, to: from
        )
        return true
    }

    /// Runs one operation to its end.
    mutating func finish(_ index: Int, _ begin: (inout Overlay, Instant) -> RequestID) -> LookupOutcome? {
        let request = with(index) { directory, now in
            directory.perform(at: now) { begin(&$0, now) }
        }
        run(.seconds(12)) { $0.nodes[index].outcomes[request] != nil }
        return nodes[index].outcomes[request]
    }

    /// Everybody whom `start` can find by asking on and on.
    func reachable(from start: Int) -> Set<Int> {
        var seen: Set<Int> = [start]
        var open = [start]
        while let index = open.popLast() {
            for contact in nodes[index].directory.overlay.contacts {
                if let next = byEndpoint[contact.endpoint], seen.insert(next).inserted { open.append(next) }
            }
        }
        return seen
    }

    /// `count` nodes that share one bootstrap list, started in a shuffled order within `spread`.
    mutating func populate(_ count: Int, bootstraps: Int = 1, spread: Duration = .zero) {
        let list = (0..<bootstraps).map(Self.loopback)
        var order = Array(0..<count)
        generator.shuffle(&order)
        for number in order {
            add(at: Self.loopback(number), bootstrap: list)
            if spread > .zero { run(spread / count) }
        }
    }
}

extension LookupOutcome {
    var peers: [Endpoint]? { if case .peers(let peers) = result { peers } else { nil } }
    var replicas: Int? { if case .stored(let replicas, _) = result { replicas } else { nil } }
    var refusals: [KRPCError]? { if case .stored(_, let refusals) = result { refusals } else { nil } }
    var nodes: [Contact]? { if case .nodes(let nodes) = result { nodes } else { nil } }
    var item: StoredItem? { if case .item(let item) = result { item } else { nil } }
}
