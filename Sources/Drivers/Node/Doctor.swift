import Daemon
import Digests
public import EventLoop
import Foundation
public import Lending
import Pools
public import Primitives
public import Record
import Sensors

/// Looks at everything that a peer needs before it works, and at what the daemons of this machine say. It changes nothing but a file that it
/// writes and removes in the peer's folder, and shows no secret.
public struct Doctor {
    /// What is looked at. All of it may be put in place by a test.
    public struct Scene {
        /// The peer's folder, and the others beside it.
        public var folder: String
        public var beside: [String] = []
        public var invite: String?
        public var listen: Endpoint?
        /// Launchers that are accepted in the place of the invite's.
        public var accepts: Int = 0
        /// What the owner lends, or why that cannot be read.
        public var limits: Result<OwnerLimits, NodeError> = .success(OwnerLimits())
        /// Of the daemons of this machine; nil for one that does not answer.
        public var daemons: [(folder: String, status: ControlService.Status?)] = []
        /// Folders of daemons to whom others say that they were removed from their pool.
        public var removed: Set<String> = []
        /// What a node that was made for this look saw of the line; nil where none was.
        public var probe: DaemonStatus?
        public var machine = Machine()
        public var parse: Record.Parser
        public init(folder: String, parse: @escaping Record.Parser) {
            self.folder = folder
            self.parse = parse
        }
    }
    /// What the system says.
    public struct Machine {
        /// Seconds since 1970.
        public var wall = Int64(time(nil))
        /// Whether the clock is kept by somebody; nil where the system does not say.
        public var isClockKept: Bool?
        /// Before `/proc` and `/sys`.
        public var sensors = ""
        public var processors = ProcessInfo.processInfo.activeProcessorCount
        public var descriptors = DescriptorLimit.current
        public var addresses = InterfaceAddresses.current
        /// Whether the kernel knows a way to public IPv6 addresses.
        public var hasWayOutIPv6 = DefaultGateway.local(towards: Endpoint("[2000::1]:9")!) != nil
        /// Bytes of a TCP segment on the way to somebody, as both ends and the routers between have agreed; nil where nobody answers.
        public var segmentBytes: (Endpoint) -> Int? = { TCPSegments.bytes(to: $0, within: 2) }
        /// Whether threads may be given the lowest priority, and whether all instruction sets give the same bits.
        public var mayBeIdle = true
        public var computesRight = true
        /// Seconds that a few bytes take to be on the disk for certain; nil: measured.
        public var diskSeconds: Double?
        public var freeBytes: (String) -> Int? = { Node.freeBytes($0) }
        /// Whether somebody answers at an address on TCP.
        public var answers: (Endpoint) -> Bool = { Reachability.answers($0, within: 2) }
        public init() {}
    }
    let scene: Scene
    public init(_ scene: Scene) { self.scene = scene }

    /// One finding a code that could be looked at, in the order of ``DiagnosisCode``.
    public func examine() -> [Diagnosis] {
        var found = identity() + invite() + network() + pool() + machine() + disk() + limits()
        let order = DiagnosisCode.allCases
        found.sort { order.firstIndex(of: $0.code)! < order.firstIndex(of: $1.code)! }
        return found
    }
    /// Healthy is where nothing fails: warnings, and what cannot be looked at, do not.
    public static func isHealthy(_ all: [Diagnosis]) -> Bool { !all.contains { $0.state == .fail } }

    private func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
    private func mode(_ path: String) -> mode_t? {
        var info = stat()
        return stat(path, &info) == 0 ? info.st_mode & 0o777 : nil
    }
    private var ownDaemon: ControlService.Status? { scene.daemons.first { $0.folder == scene.folder }?.status }
    private var members: [ControlService.Status] {
        scene.daemons.compactMap(\.status).filter { $0.daemon.member != nil }
    }

    // MARK: who it is

    private func identity() -> [Diagnosis] {
        var out = [clock()]
        let key = scene.folder + "/key"
        if let mode = mode(key) {
            out.append(
                mode & 0o077 == 0
                    ? Diagnosis(.keyMode, .ok, "the key is its owner's alone")
                    : Diagnosis(.keyMode, .fail, "\(key) has mode \(String(mode, radix: 8))", try: "chmod 600 \(key)"))
            do throws(NodeError) {
                _ = try WorkBook.key(in: scene.folder)
                out.append(Diagnosis(.keyUnreadable, .ok, "the key can be read"))
            } catch {
                out.append(
                    Diagnosis(
                        .keyUnreadable, .fail, error.description,
                        try: "restore the file, or remove it for a new identity"))
            }
        } else {
            out.append(Diagnosis(.keyUnreadable, .ok, "there is no key yet: it is made at the first start"))
        }
        if let format = try? readFile(scene.folder + "/format", limit: 4096),
            String(decoding: format, as: UTF8.self) != DataFolder.format
        {
            out.append(
                Diagnosis(
                    .folderFormat, .fail, "\(scene.folder)/format says another version",
                    try: "--data with a folder of this version"))
        } else {
            out.append(Diagnosis(.folderFormat, .ok, "the folder is of this version, or not there yet"))
        }
        if exists(scene.folder), DataFolder.isBusy(scene.folder) {
            let isDaemon = scene.daemons.contains { $0.folder == scene.folder }
            out.append(
                isDaemon
                    ? Diagnosis(.folderInUse, .ok, "a daemon runs in \(scene.folder)")
                    : Diagnosis(
                        .folderInUse, .fail, "a process that does not answer holds \(scene.folder)",
                        try: "end it, or --data with another folder"))
        } else {
            out.append(Diagnosis(.folderInUse, .ok, "nobody holds the folder"))
        }
        return out + [twins()]
    }
    enum Membership {
        case member(PoolBook)
        case unreadable(String)
    }
    /// What the folder keeps of a pool's members; nil where it keeps nothing.
    var membership: Membership? {
        guard exists(scene.folder + "/" + PoolEntry.file), let key = try? WorkBook.key(in: scene.folder) else {
            return nil
        }
        do throws(NodeError) {
            return try PoolEntry.book(in: scene.folder, of: key.peerID).map { .member($0) }
        } catch { return .unreadable(error.description) }
    }
    private func clock() -> Diagnosis {
        // Before this version was written, or a hundred years after.
        guard (1_764_000_000...4_900_000_000).contains(scene.machine.wall) else {
            return Diagnosis(.clock, .fail, "the clock is wrong by years", try: "timedatectl set-ntp true")
        }
        switch scene.machine.isClockKept {
        case true?: return Diagnosis(.clock, .ok, "the clock is kept")
        case false?: return Diagnosis(.clock, .warn, "nobody keeps the clock right", try: "timedatectl set-ntp true")
        case nil: return Diagnosis(.clock, .unknown, "the system does not say whether its clock is kept")
        }
    }
    private func twins() -> Diagnosis {
        var seen: [[UInt8]: String] = [:]
        for folder in ([scene.folder] + scene.beside).sorted() {
            guard let key = try? readFile(folder + "/key", limit: 4096) else { continue }
            if let other = seen[key] {
                return Diagnosis(
                    .sameKeyTwice, .fail, "\(other) and \(folder) have one key", try: "remove the key of the copy")
            }
            seen[key] = folder
        }
        return Diagnosis(.sameKeyTwice, .ok, "no two folders have one key")
    }

    // MARK: the invite

    private func invite() -> [Diagnosis] {
        guard let path = scene.invite else {
            guard scene.daemons.isEmpty else {
                return [Diagnosis(.inviteMissing, .ok, "daemons run here, and have their invites")]
            }
            return [Diagnosis(.inviteMissing, .unknown, "no invite was named", try: "atoll doctor --invite FILE")]
        }
        guard exists(path), access(path, R_OK) == 0 else {
            return [Diagnosis(.inviteMissing, .fail, "\(path) is not there, or cannot be read", try: "check the path")]
        }
        var out = [Diagnosis(.inviteMissing, .ok, "the invite is there")]
        if let mode = mode(path), mode & 0o044 != 0 {
            out.append(Diagnosis(.inviteReadable, .warn, "others can read \(path)", try: "chmod 600 \(path)"))
        } else {
            out.append(Diagnosis(.inviteReadable, .ok, "the invite is its owner's alone"))
        }
        let invite: Invite
        do throws(NodeError) { invite = try Invite(file: path) } catch {
            return out + [Diagnosis(.inviteMalformed, .fail, error.description, try: "ask for the file again")]
        }
        out.append(Diagnosis(.inviteMalformed, .ok, "the invite is of pool \(invite.name)"))
        out.append(
            invite.isWithoutNodes
                ? Diagnosis(.inviteWithoutBootstrap, .fail, "it names no address to ask", try: "ask for one that does")
                : Diagnosis(
                    .inviteWithoutBootstrap, .ok,
                    "it names \(counted(invite.bootstrap.count + invite.names.count, "node"))"))
        let launchers = scene.accepts > 0 ? scene.accepts : invite.accept.count
        out.append(
            launchers == 0
                ? Diagnosis(
                    .inviteWithoutLaunchers, .warn, "no launcher is accepted: there will be no work",
                    try: "atoll peer --accept KEY")
                : Diagnosis(
                    .inviteWithoutLaunchers, .ok,
                    "\(counted(launchers, "launcher")) \(launchers == 1 ? "is" : "are") accepted"))
        return out + [meet(invite)] + (invite.issuing.map { [isOpen($0.warrant)] } ?? [])
    }
    /// Whether it still lets somebody in. That it was used up or taken back is heard only by who applies.
    private func isOpen(_ warrant: Warrant) -> Diagnosis {
        if case .member(let book)? = membership, book.authority == warrant.authority {
            return Diagnosis(.inviteOver, .ok, "this machine is a member, and needs the invite for its addresses only")
        }
        let left = warrant.expires - scene.machine.wall
        return left <= 0
            ? Diagnosis(
                .inviteOver, .fail, "the invite has expired, \(Self.span(-left)) ago",
                try: "ask whoever keeps the pool for a new one")
            : Diagnosis(
                .inviteOver, .ok, "the invite is in force for \(Self.span(left)), unless it is used up or revoked")
    }
    static func span(_ seconds: Int64) -> String {
        seconds >= 2 * 86_400
            ? "\(seconds / 86_400) days"
            : seconds >= 7200
                ? "\(seconds / 3600) hours" : seconds < 120 ? "\(seconds) seconds" : "\(seconds / 60) minutes"
    }
    /// A daemon that has joined knows better than a look from here.
    private func meet(_ invite: Invite) -> Diagnosis {
        if scene.daemons.contains(where: { $0.status?.daemon.overlay.isJoined == true }) {
            return Diagnosis(.nobodyAnswers, .ok, "a daemon of this machine has joined its pool")
        }
        guard !invite.isWithoutNodes else { return Diagnosis(.nobodyAnswers, .unknown, "there is nobody to ask") }
        let answering = invite.nodes.prefix(8).count(where: scene.machine.answers)
        return answering > 0
            ? Diagnosis(.nobodyAnswers, .ok, "\(counted(answering, "node")) of the invite answer")
            : Diagnosis(
                .nobodyAnswers, .fail,
                "none of \(shortList(invite.bootstrap.map(\.description) + invite.names.map(\.description), most: 3)) answers at TCP",
                try: "ask whether the pool's node is up")
    }
}

/// Whether anybody answers somewhere.
enum Reachability {
    static func answers(_ endpoint: Endpoint, within seconds: Int) -> Bool {
        let loop = Loop()
        var (isThere, stream): (Bool, TCPStream?) = (false, nil)
        let timer = EventLoop.Timer(loop) { loop.stop() }
        timer.arm(at: loop.now + .seconds(seconds))
        do throws(SocketError) {
            stream = try TCPStream.dial(loop, to: endpoint, from: nil) { error in
                isThere = error == nil
                loop.stop()
            }
            loop.run()
        } catch { isThere = false }
        stream?.close()
        timer.close()
        loop.close()
        return isThere
    }
    /// Why nobody can listen there on TCP and UDP; nil where one can.
    static func problem(listeningAt endpoint: Endpoint) -> String? {
        let loop = Loop()
        defer { loop.close() }
        do throws(SocketError) {
            let listener = try TCPListener(loop, listen: endpoint) { $0.close() }
            defer { listener.close() }
            let socket = try UDPSocket(loop, bind: listener.endpoint ?? endpoint) { _, _ in }
            socket.close()
            return nil
        } catch { return error.description }
    }
}
