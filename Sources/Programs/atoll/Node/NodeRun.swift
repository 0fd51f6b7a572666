import ArgumentParser
import Daemon
import Digests
import EventLoop
import Foundation
import Kademlia
import Membership
import Node
import Paths
import Pools
import Primitives
import Telemetry

/// `atoll node` itself: runs a node until ^C.
struct NodeRun: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run a node (what `atoll node` does by itself).")

    @Option(help: "Where to listen, UDP and TCP; [::]:PORT takes IPv4 and IPv6.") var listen = "0.0.0.0:7070"
    @OptionGroup var pool: PoolOptions
    @Option(help: "The node's folder: key, lock, overlay state.") var data: String?
    @Option(help: "Where to write the invite (default: in the node's folder).") var invite: String?
    @Option(help: "Another launcher's key that peers of this pool accept; may be repeated.") var accept: [String] = []
    @Option(help: "Where others find this node, besides its addresses: HOST:PORT for the invite; may be repeated.")
    var advertise: [String] = []
    @Option(help: "Join the pool of this invite instead of making one.") var join: String?
    @Flag(inversion: .prefixedNo, help: "Carry the records of jobs that have several electors: docs/ELECTORS.md.")
    var elector = true
    @Option(help: "Memory for the texts of such jobs, in MiB.") var memory = 256.0
    @Flag(help: "Make a pool that keeps members: each has a certificate, and can be removed (atoll invite).")
    var members = false
    @OptionGroup var relay: RelayOptions
    @OptionGroup var router: RouterOptions
    @Flag(help: "Ask, but answer nothing (BEP 43).") var readOnly = false
    @Flag(help: "Read put, get, announce, peers and lookup from standard input, one a line; answer in JSON lines.")
    var commands = false
    @Option(help: ArgumentHelp("Pretend to be TOPOLOGY#HOST.", visibility: .hidden)) var emulate: String?
    @Option(help: ArgumentHelp("Slow all emulated time down.", visibility: .hidden)) var stretch = 1.0
    @Option(help: "Seed of timers and emulated links.") var seed: UInt64?
    @Option(help: "Serve figures for Prometheus at http://127.0.0.1:PORT/metrics; 0 takes a free port.") var metrics:
        UInt16?
    @OptionGroup var log: LogOptions

    func run() throws {
        dieWithParent()
        let (endpoints, names) = try pool.addresses()
        let listen = try endpoint(listen, option: "--listen")
        _ = try Self.places(advertise)
        let seed = drawnSeed(seed)
        let emulation = try emulation(emulate, stretch: stretch, seed: seed)
        guard !pool.isOpen || (join == nil && invite == nil && accept.isEmpty) else {
            throw NodeError.badInput(
                "--pool mainline is open to everybody: --join, --invite and --accept are for closed pools")
        }
        let folder = try Home.folder(data, name: "node")
        let invitePath = invite ?? folder.path + "/invite.yaml"
        guard !members || (join == nil && !pool.isOpen) else {
            throw NodeError.badInput("--members makes a pool: it goes neither with --join nor with --pool mainline")
        }
        let origin = pool.isOpen ? PoolOrigin.open : try openPool(invitePath, endpoints, folder)
        var setup = LiveDaemon.Setup(
            key: folder.key, listen: listen, poolKey: nil, bootstrap: endpoints, emulation: emulation, seed: seed)
        setup.bootstrapNames = names
        if let invite = origin.invite { try enter(&setup, invite, isNew: origin.isNew, in: folder) }
        setup.readOnly = readOnly
        setup.relaying = try relay.limits(usual: .node)
        setup.router = router.choice(isWanted: emulation == nil && !readOnly)
        setup.threads = 1
        let log = try log.log()
        var console: NodeConsole?
        let service = ServiceRun()
        (service.metricsPort, service.onMetrics) = (metrics, tellMetrics)
        let terms = try electorTerms(folder, origin.invite)
        let end = try service.run(setup, folder: folder) { (now) throws(NodeError) in
            guard let terms else { return DaemonCore.Services() }
            return try memberServices(terms, folder, memberRemains(in: folder), now)
        } ready: { (daemon) throws(NodeError) in
            tell(log, daemon, service.loop.now)
            if case .made(let invite) = origin { try write(invite, to: invitePath, setup, daemon.endpoint, log) }
            if commands {
                console = NodeConsole(
                    daemon, poolKey: setup.membership.map { PoolBook.topicKey($0.book.authority) } ?? setup.poolKey,
                    identity: folder.key)
                console?.start()
            }
        } onEvent: { event in
            // Standard output is the console's.
            if console != nil { return }
            tell(log, event)
        }
        try finish(end)
    }

    private func tell(_ log: EventLog, _ daemon: LiveDaemon, _ now: Instant) {
        if log.asJSON {
            log.say(Event(.listening(endpoint: "\(daemon.endpoint)"), at: now).json)
        } else {
            log.say("listening \(daemon.endpoint) id \(daemon.nodeID.hex)")
        }
    }
    private func tell(_ log: EventLog, _ event: Event) {
        // Whoever joins a pool comes by and goes again.
        if case .connectionLost = event.what, !log.asJSON, log.level < .debug { return }
        guard let line = log.line(event) else { return }
        let time = log.asJSON ? "" : "\(clockTime()) "
        log.say(time + line.trimmingCharacters(in: .whitespaces), event.level)
    }

    /// As a member that computes nothing; nil where the node carries no records.
    private func electorTerms(_ folder: DataFolder, _ invite: Invite?) throws -> MemberTerms? {
        guard memory.isFinite, memory > 0, memory < 1e9 else {
            throw NodeError.badInput("--memory \(memory): a number of MiB above zero expected")
        }
        guard elector, !readOnly, let invite else { return nil }
        var terms = MemberTerms(
            name: "\(hostName())-\(folder.key.peerID.short)", device: "node", memory: .mebibytes(memory),
            accepts: invite.accept)
        terms.computes = false
        return terms
    }

    /// Where the pool's key came from.
    private enum PoolOrigin {
        case open
        /// Of another node: its invite stays as it is.
        case joined(Invite)
        /// This node's own: its invite says where this node listens now.
        case made(Invite)

        var invite: Invite? {
            switch self {
            case .open: nil
            case .joined(let invite), .made(let invite): invite
            }
        }
        var isNew: Bool { if case .made = self { true } else { false } }
    }

    /// The pool to serve: of an invite to join, of the invite that is there already, of this user's pools, or a new one.
    private func openPool(_ invitePath: String, _ bootstrap: [Endpoint], _ folder: DataFolder) throws -> PoolOrigin {
        if let join { return .joined(try Invite(file: join)) }
        if FileManager.default.fileExists(atPath: invitePath) {
            let invite = try Invite(file: invitePath)
            guard !members || invite.issuing != nil else {
                throw NodeError.badInput(
                    "the pool of \(invitePath) is its key, and whoever holds that is in: its members cannot be kept afterwards. Make a new "
                        + "pool with --data DIR --members, and give everybody an invite of it")
            }
            if let name = pool.pool, name != invite.name, self.invite == nil {
                throw NodeError.badInput(
                    "\(invitePath) is of pool \(invite.name), not \(name). Give this pool's node a folder of its own with "
                        + "--data DIR")
            }
            return .made(invite)
        }
        let name = pool.pool ?? "pool"
        if pool.pool != nil, invite == nil {
            if let known = try KnownPools.invite(name) { return .joined(known) }
            guard bootstrap.isEmpty && pool.bootstrap.isEmpty else {
                throw NodeError.badInput(
                    "the key of pool \(name) is not on this machine, and without it its nodes will not answer. Pass the "
                        + "invite of whoever made it with --join FILE, or make a new pool by leaving --bootstrap out")
            }
        }
        // The key of whoever made the pool may launch jobs in it: it lies beside the invite.
        let launcher = try DataFolder.loadKey(makeLauncherFolder(beside: invitePath) + "/key")
        var accepted = [launcher.peerID]
        for hex in accept {
            guard let key = PeerID(hex: hex) else {
                throw NodeError.badInput("--accept \(hex): 64 hexadecimal digits of a launcher's key expected")
            }
            accepted.append(key)
        }
        if members { return .made(try PoolEntry.found(name: name, in: folder, accept: accepted)) }
        return .made(Invite(name: name, poolKey: randomBytes(32), bootstrap: [], accept: accepted))
    }
    private func enter(
        _ setup: inout LiveDaemon.Setup, _ invite: Invite, isNew: Bool, in folder: DataFolder
    ) throws(NodeError) {
        let entry = try PoolEntry.through(invite, key: folder.key, folder: folder.path, tell: complain)
        (setup.poolKey, setup.membership) = (entry.poolKey, entry.membership)
        if !isNew {
            setup.bootstrap += invite.bootstrap
            setup.bootstrapNames += invite.names
        }
    }

    /// The invite says where this node is now.
    private func write(
        _ made: Invite, to path: String, _ setup: LiveDaemon.Setup, _ own: Endpoint, _ log: EventLog
    ) throws(NodeError) {
        var invite = made
        let (told, names) = try Self.places(advertise)
        let endpoints = told + setup.bootstrap.filter { !told.contains($0) }
        invite.bootstrap = endpoints + reachable(own).filter { !endpoints.contains($0) }
        // A name stays where it was written, by this or by its owner's hand: addresses change, names do not.
        for name in names + setup.bootstrapNames where !invite.names.contains(name) { invite.names.append(name) }
        try writeFile(path, Array(invite.text.utf8), mode: 0o600)
        if pool.pool != nil, self.invite == nil { try remember(invite) }
        for line in [
            "invite \(URL(fileURLWithPath: path).path)", "peers join with: atoll peer --invite \(path)",
        ] {
            // What is printed may be JSON.
            if log.asJSON { complain(line) } else { log.say(line) }
        }
    }

    private static func places(_ texts: [String]) throws(NodeError) -> ([Endpoint], [HostName]) {
        var (endpoints, names): ([Endpoint], [HostName]) = ([], [])
        for text in texts {
            if let endpoint = Endpoint(text) {
                endpoints.append(endpoint)
            } else if let name = HostName(text) {
                names.append(name)
            } else {
                throw .badInput(
                    "--advertise \(text): HOST:PORT expected, such as node.example.org:7070, 192.0.2.7:7070 or [2001:db8::7]:7070"
                )
            }
        }
        return (endpoints, names)
    }

    private func remember(_ invite: Invite) throws(NodeError) {
        do {
            try KnownPools.remember(invite)
        } catch let error as NodeError {
            throw error
        } catch {
            throw .failed("\(error)")
        }
    }
}

/// The launcher's folder that belongs to an invite: beside it.
func makeLauncherFolder(beside invite: String) throws -> String {
    let path = ((invite as NSString).deletingLastPathComponent as NSString).appendingPathComponent("launcher")
    try FileManager.default.createDirectory(
        atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    return path
}

/// Under which addresses others can reach a listening endpoint: its own, or all of this machine's; of IPv6 those that are good beyond the link, where it listens at all.
func reachable(_ endpoint: Endpoint) -> [Endpoint] {
    guard endpoint.address.allSatisfy({ $0 == 0 }) else { return [endpoint] }
    var (out, beyond): ([Endpoint], [Endpoint]) = ([], [])
    for one in InterfaceAddresses.all ?? [] {
        guard let found = Endpoint(address: one.address, port: endpoint.port) else { continue }
        if found.isIPv4 {
            if !out.contains(found) { out.append(found) }
        } else if !endpoint.isIPv4, found.address[0] & 0xe0 == 0x20 || found.address[0] & 0xfe == 0xfc,
            !beyond.contains(found)
        {
            beyond.append(found)
        }
    }
    out += beyond
    return out.isEmpty ? [Endpoint(ipv4: 127, 0, 0, 1, port: endpoint.port)] : out
}

/// Beside what is printed, which may be JSON.
func tellMetrics(_ endpoint: Endpoint) { complain("metrics at http://\(endpoint)/metrics") }

func tellDashboard(_ address: String) {
    // The address is a key for as long as nobody has used it: not for a log that others read.
    guard !Journal.isReading(STDERR_FILENO) else {
        return complain("the dashboard is served; `atoll status` tells an address that opens it, once")
    }
    complain("the dashboard opens once at this address; `atoll status` tells another:\n  \(address)")
}

func finish(_ end: RunEnd) throws {
    switch end {
    case .done: return
    case .interrupted: throw ExitCode(130)
    case .failed(let why): throw NodeError.failed(why)
    }
}
