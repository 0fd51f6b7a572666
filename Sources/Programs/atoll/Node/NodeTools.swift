import ArgumentParser
import Digests
import EventLoop
import Foundation
import Kademlia
import Node
import Pools
import Primitives

/// What every tool of `atoll node` takes: a short-lived read-only node that asks and leaves.
struct ToolOptions: ParsableArguments {
    @OptionGroup var pool: PoolOptions
    @Option(help: "The pool's invite; its bootstrap nodes are asked too.") var invite: String?
    @Option(help: "Where to send from.") var listen = "0.0.0.0:0"
    @Option(help: "A folder of `atoll node` or `atoll peer`: its key signs, its invite is used.") var data: String?
    @Option(help: "Give up when nobody has answered for this many seconds.") var timeout = 10.0
    @Option(help: "Seed of timers.") var seed: UInt64?
    @Flag(help: "The result as one JSON object.") var json = false

    /// A positional argument, which may have been swallowed by the list of bootstrap nodes before it.
    func positional(_ given: String?, _ what: String) throws -> String {
        let rest = try pool.split().rest
        if let given, rest.isEmpty { return given }
        if given == nil, rest.count == 1 { return rest[0] }
        if given != nil || rest.count > 1 {
            throw NodeError.badInput("--bootstrap \(rest[0]): HOST:PORT expected, such as 192.0.2.7:7070")
        }
        throw NodeError.badInput("\(what) is missing. Try `atoll node --help`")
    }

    /// The pool's key, nil for the open pool, what its topics are bound to, and whom to ask.
    func openPool() throws -> (key: [UInt8]?, topicKey: [UInt8]?, bootstrap: [Endpoint]) {
        let (endpoints, names, _) = try pool.split()
        var bootstrap = endpoints
        for name in names {
            let found = name.resolve()
            if found.isEmpty { throw NodeError.failed("nobody knows the name \(name.name). Is the network up?") }
            bootstrap += found
        }
        if pool.isOpen {
            guard !bootstrap.isEmpty else {
                throw NodeError.badInput("--pool mainline needs somebody to ask: --bootstrap HOST:PORT")
            }
            return (nil, nil, bootstrap)
        }
        guard let known = try findInvite() else {
            throw NodeError.badInput(
                "which pool? --pool mainline for the open one, --pool NAME for one of this machine's, or --invite FILE")
        }
        bootstrap += known.nodes.filter { !bootstrap.contains($0) }
        guard !bootstrap.isEmpty else {
            throw NodeError.badInput("pool \(known.name) has no bootstrap node in its invite: --bootstrap HOST:PORT")
        }
        let key = try KnownPools.withKey(known, in: data).poolKey
        return (key, known.issuing.map { PoolBook.topicKey($0.warrant.authority) } ?? key, bootstrap)
    }

    private func findInvite() throws -> Invite? {
        if let invite { return try Invite(file: invite) }
        let own = data.map { $0 + "/invite.yaml" }
        if let own, FileManager.default.fileExists(atPath: own) {
            let found = try Invite(file: own)
            if pool.pool == nil || pool.pool == found.name { return found }
        }
        guard let name = pool.pool else { return nil }
        if let known = try KnownPools.invite(name) { return known }
        throw NodeError.badInput("the key of pool \(name) is not on this machine. Pass its invite with --invite FILE")
    }

    /// 40 hexadecimal digits, a job's ID of 64, or any other text as a topic: SHA-1(topic ‖ pool key), as peers announce themselves.
    func infoHash(_ text: String, _ key: [UInt8]?) -> NodeID {
        if text.utf8.count == 40, let id = NodeID(hex: text) { return id }
        // A job's ID is bytes, however people write it.
        if text.utf8.count == 64, let job = [UInt8](hex: text) { return NodeID(hashing: job + (key ?? [])) }
        return NodeID(hashing: Array(text.utf8) + (key ?? []))
    }

    /// The key that signs: of `--key`, else the folder's, else a new one that nobody will have again.
    func signer(_ keyFile: String?) throws -> SigningKey? {
        if let keyFile { return try DataFolder.loadKey(keyFile) }
        if let data { return try DataFolder.loadKey(data + "/key") }
        return nil
    }
}

/// One of the tools, apart from the node it runs on: a read-only node of its own, or one that is there already.
protocol OverlayOperation {
    var options: ToolOptions { get }
    /// - Parameters:
    ///   - poolKey: of the node it runs on: what its topics are bound to.
    ///   - identity: the node's, when it has one that stays.
    /// - Throws: ``NodeError`` for wrong arguments.
    func steps(poolKey: [UInt8]?, identity: SigningKey?) throws -> OverlaySteps
}

/// Overlay operations one after the other, and what to say in the end.
struct OverlaySteps {
    /// Starts the next one, which may look at the outcomes before it; nil ends the row.
    let next: ([LookupOutcome], inout Overlay, Instant) -> RequestID?
    let report: ([LookupOutcome]) -> ToolReport
}

extension OverlayOperation {
    /// As a command: on a read-only node of its own.
    func runAlone(key keyFile: String? = nil) throws {
        let identity = try options.signer(keyFile)
        let tool = try OverlayTool(options, identity: identity)
        let steps = try steps(poolKey: tool.topicKey, identity: identity)
        let report = steps.report(try tool.run(steps.next))
        report.print(json: options.json)
        if !report.isGood { throw ExitCode(1) }
    }
}

/// Runs operations on a read-only node of its own.
final class OverlayTool {
    let options: ToolOptions
    private let poolKey: [UInt8]?
    let topicKey: [UInt8]?
    private let loop = Loop()
    private let node: OverlayNode
    private let bootstrap: [Endpoint]
    private var watchdog: EventLoop.Timer?

    init(_ options: ToolOptions, identity: SigningKey? = nil) throws {
        self.options = options
        guard options.timeout > 0, options.timeout <= 3600 else {
            throw NodeError.badInput("--timeout \(options.timeout): seconds, more than 0 and at most 3600")
        }
        let pool = try options.openPool()
        (poolKey, topicKey, bootstrap) = (pool.key, pool.topicKey, pool.bootstrap)
        let configuration = OverlayConfiguration(
            poolKey: pool.key, bootstrap: pool.bootstrap, readOnly: true, seed: drawnSeed(options.seed))
        let key = identity ?? SigningKey(seed: randomBytes(32))!
        // A fresh ID each time: a tool is nobody's neighbour.
        let overlay = Overlay(
            configuration: configuration, identity: key, nodeID: NodeID(randomBytes(20)), known: [], at: loop.now)
        var listen = try endpoint(options.listen, option: "--listen")
        if options.listen == "0.0.0.0:0", bootstrap.contains(where: { !$0.isIPv4 }) { listen = Endpoint("[::]:0")! }
        node = try OverlayNode(loop, bind: listen, overlay: overlay)
    }

    /// The outcomes of operations run one after the other; each may look at those before it. Nil ends the row.
    func run(_ next: @escaping ([LookupOutcome], inout Overlay, Instant) -> RequestID?) throws -> [LookupOutcome] {
        var outcomes: [LookupOutcome] = []
        func step() {
            var started = false
            let have = outcomes
            node.perform(
                { overlay, now in
                    let request = next(have, &overlay, now)
                    started = request != nil
                    return request ?? RequestID.none
                },
                then: { [unowned self] outcome in
                    outcomes.append(outcome)
                    watchdog?.arm(at: loop.now + .seconds(options.timeout))
                    step()
                })
            if !started { loop.stop() }
        }
        var silent = false
        watchdog = EventLoop.Timer(loop) { [unowned self] in
            silent = true
            loop.stop()
        }
        watchdog?.arm(at: loop.now + .seconds(options.timeout))
        var interrupted = false
        let signals = [SIGINT, SIGTERM].map { number in
            SignalWatcher(loop, signal: number) { [unowned self] in
                interrupted = true
                loop.stop()
            }
        }
        node.whenJoined { step() }
        node.start()
        loop.run()
        node.close()
        watchdog?.close()
        for signal in signals { signal.close() }
        loop.close()
        if interrupted { throw ExitCode(130) }
        if silent {
            let who = bootstrap.prefix(4).map(\.description).joined(separator: ", ")
            let pool = poolKey == nil ? "in the open pool" : "in this pool, with this key"
            throw NodeError.failed(
                "nobody answered in \(fixed(options.timeout, 0)) s. Asked first: \(who). Do they run, and are they \(pool)?"
            )
        }
        return outcomes
    }
}

/// A result: lines for people, or one JSON object with sorted keys.
struct ToolReport {
    private var fields: [String: Any] = [:]
    /// For people.
    var lines: [String] = []
    /// The value's own bytes, for `--raw`.
    var raw: [UInt8]?
    /// Whether what was asked for was found, or stored anywhere.
    var isGood = true

    init(_ operation: String, _ outcome: LookupOutcome) {
        fields["operation"] = operation
        fields["elapsed_ms"] = (outcome.elapsed.inSeconds * 1e6).rounded() / 1000
        fields["queries"] = outcome.queries
        fields["timeouts"] = outcome.timeouts
        fields["hops"] = outcome.hops
    }
    subscript(_ name: String) -> Any? {
        get { fields[name] }
        set { fields[name] = newValue }
    }
    var json: String {
        let options: JSONSerialization.WritingOptions = [.sortedKeys, .withoutEscapingSlashes]
        let data = try! JSONSerialization.data(withJSONObject: fields, options: options)
        return String(decoding: data, as: UTF8.self)
    }
    func print(json: Bool) {
        if json { return Swift.print(self.json) }
        if let raw { return Output.write(raw) }
        if isGood { lines.forEach { Swift.print($0) } } else { lines.forEach(complain) }
    }
}
