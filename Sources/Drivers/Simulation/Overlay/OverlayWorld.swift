import Digests
import Kademlia
import Links
public import Primitives
import VirtualNetworks

/// How many nodes, how far apart, how faulty.
public struct OverlayWorldOptions: Sendable {
    public var nodes = 10_000
    public var seed: UInt64 = 1
    public var latency = LatencyModel(roundTrip: .milliseconds(50))
    /// Share of datagrams that are lost.
    public var loss = 0.0
    /// Share of nodes that are malicious, all kinds of ``Malice`` alike.
    public var malicious = 0.0
    /// Nodes are cores only while somebody asks them something, and numbers otherwise; they do nothing of their own accord.
    /// A million fit that way.
    public var dormant = false
    /// How long a core is kept after it was last asked, when dormant.
    public var patience = Duration.seconds(5)
    public init() {}
}

/// Nodes of the overlay in virtual time, exchanging real datagrams: every one that is asked or asks is a whole
/// ``Kademlia/Directory`` over ``Kademlia/Overlay``, the very core of the daemons.
///
/// Same options and same calls: the same transcript, byte for byte.
public final class OverlayWorld {
    private final class Node {
        var directory: Directory
        var touched: Instant
        init(_ directory: Directory, touched: Instant) {
            self.directory = directory
            self.touched = touched
        }
    }
    public let options: OverlayWorldOptions
    private var network: VirtualNetwork
    /// Of the network, or of the call under way.
    public var now: Instant { network.now }
    var generator: SeededGenerator
    private(set) var population: OverlayPopulation
    private(set) var isUp: [Bool]
    private var malice: [UInt8]
    private var adversary = Adversary()
    private var cores: [Node?]
    private var awake: [Int] = []
    private let sharedIdentity: SigningKey
    private let poolKey: [UInt8]?

    /// What the scenario does, and when.
    private var calls = TimedQueue<() -> Void>()
    private var waiting: [Int64: (LookupOutcome) -> Void] = [:]
    private var hash = TranscriptHash()

    public private(set) var datagrams = 0
    public private(set) var bytes = 0
    /// Cores alive at once, at most.
    public private(set) var peakCores = 0

    public init(_ options: OverlayWorldOptions) {
        precondition(options.nodes >= 2 && options.nodes <= OverlayPopulation.limit)
        self.options = options
        let latency = options.latency
        let loss = options.loss
        network = VirtualNetwork(seed: options.seed, at: Instant(seconds: 1000)) { from, to in
            var link = latency.link(from, to)
            link.loss = loss
            return link
        }
        generator = SeededGenerator(seed: options.seed, stream: 0x776f_726c_64)
        population = OverlayPopulation(count: options.nodes, generator: &generator)
        isUp = [Bool](repeating: true, count: options.nodes)
        malice = [UInt8](repeating: 0, count: options.nodes)
        cores = [Node?](repeating: nil, count: options.nodes)
        sharedIdentity = SigningKey(seed: SeededGenerator.bytes(32, seed: options.seed, stream: 2))!
        poolKey = nil
        population.drawTables(configuration(0), generator: &generator)
        var bad: [(NodeID, Int)] = []
        for index in 0..<options.nodes where generator.uniform() < options.malicious {
            malice[index] = UInt8(1 + bad.count % Malice.allCases.count)
            bad.append((population.ids[index], index))
        }
        adversary.update(bad)
        guard !options.dormant else { return }
        for index in 0..<options.nodes { awaken(index) }
    }

    // MARK: Nodes

    public func isHonest(_ index: Int) -> Bool { malice[index] == 0 }
    public func isAlive(_ index: Int) -> Bool { isUp[index] }
    public func nodeID(_ index: Int) -> NodeID { cores[index]?.directory.overlay.nodeID ?? population.ids[index] }

    private func configuration(_ index: Int, bootstrap: [Endpoint] = []) -> OverlayConfiguration {
        OverlayConfiguration(
            poolKey: poolKey, bootstrap: bootstrap, seed: options.seed &* 1_000_003 &+ UInt64(index))
    }
    private func identity(_ index: Int) -> SigningKey {
        options.dormant
            ? sharedIdentity
            : SigningKey(seed: SeededGenerator.bytes(32, seed: options.seed, stream: 100 + UInt64(index)))!
    }

    /// Makes the core of a node that has been up for long.
    private func awaken(_ index: Int) {
        let overlay = Overlay(
            configuration: configuration(index), identity: identity(index), nodeID: population.ids[index],
            levels: population.levels(index), roundTrip: options.latency.meanRoundTrip, at: now)
        install(Directory(overlay: overlay, at: now), at: index)
        drain(index)
    }

    private func install(_ directory: Directory, at index: Int) {
        cores[index] = Node(directory, touched: now)
        guard options.dormant else { return }
        awake.append(index)
        peakCores = max(peakCores, awake.count)
    }

    /// Dead from now on: nothing arrives, nothing is sent.
    public func kill(_ index: Int) {
        isUp[index] = false
        cores[index] = nil
    }

    /// A newcomer at the place of somebody who left: another ID, an empty table, three nodes to start from.
    public func join(_ index: Int, bootstrap: [Int]) {
        population.replace(index, generator: &generator)
        isUp[index] = true
        let configuration = configuration(index, bootstrap: bootstrap.map { OverlayPopulation.endpoint($0) })
        install(
            Directory(
                configuration: configuration, identity: identity(index), nodeID: population.ids[index], known: [],
                at: now),
            at: index)
        if malice[index] > 0 {
            adversary.update(malice.indices.filter { malice[$0] > 0 && isUp[$0] }.map { (population.ids[$0], $0) })
        }
        drain(index)
    }

    /// An honest node that is up.
    public func pick() -> Int {
        while true {
            let index = generator.below(options.nodes)
            if isUp[index], malice[index] == 0 { return index }
        }
    }

    // MARK: Calls of the scenario

    /// Does something with a node's core, now.
    @discardableResult
    public func with<T>(_ index: Int, _ body: (inout Directory, Instant) -> T) -> T {
        if cores[index] == nil { awaken(index) }
        let result = body(&cores[index]!.directory, now)
        drain(index)
        return result
    }
    /// Starts an operation; `then` is called with its outcome, unless the node dies.
    public func start(
        _ index: Int, _ operation: (inout Overlay, Instant) -> RequestID, then: @escaping (LookupOutcome) -> Void
    ) {
        if cores[index] == nil { awaken(index) }
        let at = now
        let request = cores[index]!.directory.perform(at: at) { operation(&$0, at) }
        waiting[Int64(index) << 32 | Int64(request.number)] = then
        drain(index)
    }
    public func after(_ delay: Duration, _ work: @escaping () -> Void) {
        calls.push(work, at: now + delay)
    }
    /// The digest of everything that was delivered so far.
    public var transcript: String { hash.hex }

    // MARK: Time

    /// Runs for a while, or until `done` says so.
    public func run(_ duration: Duration, until done: () -> Bool = { false }) {
        let end = now + duration
        while let next = earliest(calls.next, network.next), next <= end, !done() {
            if let due = calls.next, due <= network.next ?? due {
                network.rest(until: due)
                calls.pop(due: now)?()
                continue
            }
            // What the scenario does comes before whatever else happens in its moment.
            let pause = calls.next.map { min(end, $0 - .nanoseconds(1)) } ?? end
            guard let (index, what) = network.happen(until: pause) else { continue }
            switch what {
            case .datagram(let bytes, let from): deliver(bytes, from: from, to: index)
            case .alarm: wake(index)
            case .stream, .cargo: preconditionFailure("the overlay sends datagrams only")
            }
        }
        if !done() { network.rest(until: end) }
    }

    private func wake(_ index: Int) {
        guard let node = cores[index] else { return }
        node.directory.wake(at: now)
        drain(index)
    }

    private func deliver(_ bytes: [UInt8], from: Int, to: Int) {
        guard isUp[to] else { return }
        hash.add(now, from, to, bytes)
        let sender = OverlayPopulation.endpoint(from)
        if malice[to] > 0,
            let lie = adversary.answer(
                bytes, as: Malice(rawValue: Int(malice[to]) - 1)!, nodeID(to), to: sender, generator: &generator)
        {
            if let lie { send(lie, from: to, to: from) }
            return
        }
        if cores[to] == nil { awaken(to) }
        cores[to]!.directory.receive(datagram: bytes, from: sender, at: now)
        cores[to]!.touched = now
        drain(to)
    }

    private func drain(_ index: Int) {
        guard let node = cores[index] else { return }
        while let effect = node.directory.poll() {
            switch effect {
            case .send(let bytes, let endpoint):
                guard let to = population.index(of: endpoint) else { continue }
                send(bytes, from: index, to: to)
            case .found(let request, let outcome):
                let then = waiting.removeValue(forKey: Int64(index) << 32 | Int64(request.number))
                if let then { after(.zero) { then(outcome) } }
            default: break
            }
        }
        // Dormant nodes answer; of their own accord only those do something that somebody waits for.
        if options.dormant, !askers.contains(index) { return }
        network.setAlarm(of: index, at: node.directory.nextWake)
    }

    /// Nodes whose own timers run although the world is dormant.
    private var askers: Set<Int> = []
    public func setAsking(_ index: Int, _ asks: Bool) {
        if asks { askers.insert(index) } else { askers.remove(index) }
    }

    /// Turns cores that nobody asked for a while, and that keep nothing for others, into numbers again.
    public func sweep() {
        guard options.dormant else { return }
        awake.removeAll { index in
            guard let node = cores[index] else { return true }
            let stored = node.directory.overlay.stored
            guard !askers.contains(index), now - node.touched > options.patience, stored.items == 0,
                stored.infoHashes == 0
            else { return false }
            cores[index] = nil
            return true
        }
    }

    private func send(_ data: [UInt8], from: Int, to: Int) {
        datagrams += 1
        // With the headers of IPv4 and UDP.
        bytes += data.count + 28
        if isUp[to] { network.send(data, from: from, to: to) }
    }
}

/// A running hash over what was delivered: two lanes of FNV-1a over words. For comparing runs, not against forgers.
struct TranscriptHash {
    private var a: UInt64 = 0xcbf2_9ce4_8422_2325
    private var b: UInt64 = 0x9e37_79b9_7f4a_7c15
    private mutating func add(_ word: UInt64) {
        a = (a ^ word) &* 0x0000_0100_0000_01b3
        b = (b &+ word) &* 0xff51_afd7_ed55_8ccd
        b ^= b >> 32
    }
    mutating func add(_ at: Instant, _ from: Int, _ to: Int, _ bytes: [UInt8]) {
        add(UInt64(bitPattern: at.nanoseconds))
        add(UInt64(from) << 32 | UInt64(to))
        var word: UInt64 = UInt64(bytes.count)
        for (index, byte) in bytes.enumerated() {
            word = word << 8 | UInt64(byte)
            if index & 7 == 7 { add(word) }
        }
        add(word)
    }
    var hex: String {
        func digits(_ word: UInt64) -> String {
            let text = String(word, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        return digits(a) + digits(b)
    }
}
