import Channels
public import Digests
import EventLoop
import Foundation
public import Pools
public import Primitives
import SecureTransport
import Wire

/// How a daemon comes into its pool: with the pool's key from the invite, or as a member, by what is in its folder or, the first time, by
/// applying to a member of the pool.
public struct PoolEntry {
    public var poolKey: [UInt8]
    public var membership: LiveDaemon.Membership?

    /// What a node or peer keeps of its membership, and who keeps the pool the authority's key, in their folders.
    public static let file = "pool"
    public static let authorityFile = "authority"
    /// There since a node of the pool said that this machine was removed, until one lets it in again: for whoever asks later what is wrong.
    static let removedFile = "removed"

    /// Blocks while it applies.
    ///
    /// - Parameters:
    ///   - folder: the daemon's; nil for one that keeps nothing.
    ///   - tell: hears what it waits for.
    public static func through(
        _ invite: Invite, key: SigningKey, folder: String?, seconds: Int = 60, tell: (String) -> Void = { _ in }
    ) throws(NodeError) -> PoolEntry {
        guard let issuing = invite.issuing else { return PoolEntry(poolKey: invite.poolKey) }
        let file = folder.map { $0 + "/" + Self.file }
        if let folder, let book = try Self.book(in: folder, of: key.peerID) {
            if book.authority == issuing.warrant.authority {
                return PoolEntry(try renewed(book, invite, key, folder, tell), file)
            }
            tell("\(folder)/\(Self.file) is of another pool, and is replaced")
        }
        guard !invite.isWithoutNodes else {
            throw .badInput(
                .inviteWithoutBootstrap, "the invite names no bootstrap address, so there is nobody to apply to")
        }
        tell("applying for membership of \(escapedName(invite.name)) with invite \(issuing.warrant.id.short)")
        let credential = Credential(joining: key.peerID, by: issuing.warrant, issuing.key, at: Int64(time(nil)))
        let grant = try Self.apply(credential, key: key, at: invite.nodes, seconds: seconds, folder)
        let book = PoolBook(
            credential: credential, key: grant.key, authorityKey: nil, wall: Self.wallClock())
        if let file { try writeFile(file, book.encoded, mode: 0o600) }
        tell("let in by \(grant.granter.peer.short)")
        return PoolEntry(book, file)
    }
    /// A member that starts anew asks whoever is there: it may have been removed, or the pool have another key meanwhile. Where nobody
    /// answers it goes by what it has.
    private static func renewed(
        _ book: PoolBook, _ invite: Invite, _ key: SigningKey, _ folder: String, _ tell: (String) -> Void
    ) throws(NodeError) -> PoolBook {
        guard !book.keepsPool, !invite.isWithoutNodes else { return book }
        var book = book
        switch try ask(book.credential, key: key, at: invite.nodes, limit: .seconds(5), rounds: 1) {
        case .success(let grant):
            note(isRemoved: false, in: folder)
            book.follow(grant, at: now)
        case .failure(.refused(.removed)):
            note(isRemoved: true, in: folder)
            throw Self.refused(.removed)
        case .failure(.refused(let why)): tell("a node of the pool says: \(why.toItself)")
        case .failure(.unanswered): break
        }
        return book
    }
    /// What is not written down is not known later, and that is all.
    private static func note(isRemoved: Bool, in folder: String?) {
        guard let folder else { return }
        let path = folder + "/" + removedFile
        if isRemoved { try? writeFile(path, Array("\(time(nil))\n".utf8), mode: 0o600) } else { unlink(path) }
    }
    private init(_ book: PoolBook, _ file: String?) {
        poolKey = book.keys.last!.key
        membership = LiveDaemon.Membership(book, file: file)
    }
    private init(poolKey: [UInt8]) { self.poolKey = poolKey }

    /// The key of an authority's pool, as a member knows it whose folder that is; nil where it is none's.
    public static func poolKey(of authority: PeerID, in folder: String) -> [UInt8]? {
        guard FileManager.default.fileExists(atPath: folder + "/" + file),
            let key = try? DataFolder.loadKey(folder + "/key"), let book = try? Self.book(in: folder, of: key.peerID),
            book.authority == authority
        else { return nil }
        return book.keys.last!.key
    }
    /// Refuses an invite for watching where somebody wants to do more, and is no member already.
    public static func requireMember(
        _ invite: Invite, key: SigningKey, folder: String, to doing: String
    ) throws(NodeError) {
        guard let warrant = invite.issuing?.warrant, warrant.role == .watcher else { return }
        if let book = try book(in: folder, of: key.peerID), book.authority == warrant.authority,
            book.credential.warrant.role == .member
        {
            return
        }
        throw .badInput(
            .inviteMalformed,
            "this invite is for watching: it lets a machine read a pool's jobs (`atoll watch JOB --invite FILE`), and not \(doing). Ask for one that was made "
                + "with --role member")
    }
    /// What a folder has; nil where it has nothing yet.
    public static func book(in folder: String, of identity: PeerID) throws(NodeError) -> PoolBook? {
        let path = folder + "/" + file
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        let bytes = try readFile(path, limit: PoolBook.sizeLimit)
        do throws(MalformedBytes) {
            return try PoolBook(
                encoded: bytes, identity: identity, authorityKey: try? authority(in: folder), wall: wallClock())
        } catch {
            throw .badInput(
                .membershipOver,
                "\(path): \(error.description). Move it away: the invite applies for membership again, unless it is used up"
            )
        }
    }
    /// The key of whoever keeps the pool; throws where it is not there.
    public static func authority(in folder: String) throws(NodeError) -> SigningKey {
        let path = folder + "/" + authorityFile
        guard FileManager.default.fileExists(atPath: path) else {
            throw .badInput(
                "\(folder) does not keep a pool's members: there is no \(authorityFile) in it. A pool that keeps members is made with "
                    + "`atoll node --members`; its folder is the one for --data")
        }
        return try DataFolder.loadKey(path)
    }
    /// A new pool, whose members are kept by the daemon of this folder.
    ///
    /// - Returns: the invite that lets anybody in, who has it.
    public static func found(
        name: String, in folder: DataFolder, accept: [PeerID]
    ) throws(NodeError) -> Invite {
        let authority = try DataFolder.loadKey(folder.path + "/" + authorityFile)
        let now = Int64(time(nil))
        let issuing = Self.issue(
            by: authority, role: .member, uses: nil, expires: now + Self.foundersDays * 86_400, at: now)
        let book = PoolBook(
            credential: Credential(joining: folder.key.peerID, by: issuing.warrant, issuing.key, at: now),
            key: PoolKey(serial: 1, key: randomBytes(32), from: now, formerUntil: now, by: authority),
            authorityKey: authority, wall: wallClock())
        try writeFile(folder.path + "/" + file, book.encoded, mode: 0o600)
        try note(issuing.warrant, in: folder.path)
        return Invite(name: name, issuing, bootstrap: [], accept: accept)
    }
    private static let foundersDays: Int64 = 365

    /// Of certificates by default: two weeks, so renewed after one.
    public static let life: Int64 = 14 * 86_400

    /// An invite's key and warrant.
    ///
    /// - Parameters:
    ///   - expires: seconds since 1970.
    public static func issue(
        by authority: SigningKey, role: MemberRole, uses: Int?, expires: Int64, life: Int64 = Self.life, at now: Int64
    ) -> Invite.Issuing {
        let key = SigningKey(seed: randomBytes(32))!
        return Invite.Issuing(
            Warrant(
                by: authority, issuer: key.peerID, role: role, uses: uses, issued: now, expires: expires, life: life),
            key)
    }

    /// On the clock of every loop of this process.
    static var now: Instant {
        let loop = Loop()
        defer { loop.close() }
        return loop.now
    }
    private static func wallClock() -> WallClock { WallClock(seconds: Int64(time(nil)), at: now) }
    private static func escapedName(_ name: String) -> String {
        name.filter { $0.isLetter || $0.isNumber || "-_. ".contains($0) }
    }

    /// For whoever is not let in, with the code of its page.
    package static func refused(_ why: PoolRefusal) -> NodeError {
        let code: DiagnosisCode =
            switch why {
            case .inviteRevoked, .inviteUsedUp, .inviteExpired: .inviteOver
            case .noCredential, .otherPool, .forged: .inviteMalformed
            case .notItsOwn, .expired: .membershipOver
            case .clock: .clock
            case .removed: .removedFromPool
            }
        return .failed(code, "the pool does not let this machine in: \(why.toItself)")
    }

    // MARK: invites that were made

    private static let invitesFile = "invites"
    /// Invites that were made in a folder, the newest last: their warrants, not their keys.
    public static func invites(in folder: String) throws(NodeError) -> [Warrant] {
        let path = folder + "/" + invitesFile
        guard FileManager.default.fileExists(atPath: path) else { return [] }
        let text = String(decoding: try readFile(path, limit: 1 << 24), as: UTF8.self)
        return text.split(separator: "\n").compactMap { line in
            [UInt8](hex: String(line)).flatMap { try? Warrant(encoded: $0) }
        }
    }
    public static func note(_ warrant: Warrant, in folder: String) throws(NodeError) {
        try write(try invites(in: folder) + [warrant], in: folder)
    }
    /// Of an invite that was not given to anybody.
    public static func forget(_ warrant: Warrant, in folder: String) throws(NodeError) {
        try write(try invites(in: folder).filter { $0.id != warrant.id }, in: folder)
    }
    private static func write(_ all: [Warrant], in folder: String) throws(NodeError) {
        try writeFile(
            folder + "/" + invitesFile, Array(all.map { $0.encoded.hex + "\n" }.joined().utf8), mode: 0o600
        )
    }

    private static func apply(
        _ credential: Credential, key: SigningKey, at endpoints: [Endpoint], seconds: Int, _ folder: String?
    ) throws(NodeError) -> PoolGrant {
        switch try ask(credential, key: key, at: endpoints, limit: .seconds(seconds), rounds: .max) {
        case .success(let grant):
            note(isRemoved: false, in: folder)
            return grant
        case .failure(.refused(let why)):
            if why == .removed { note(isRemoved: true, in: folder) }
            throw refused(why)
        case .failure(.unanswered(let why)):
            throw .failed(
                .nobodyAnswers,
                "nobody of the pool answered in \(seconds) s (\(why)). A node of the invite has to be up when a machine joins; or the "
                    + "invite is old, and its addresses are others now: ask for a new one")
        }
    }
}

extension LiveDaemon.Setup {
    /// In the pool of an invite; see ``PoolEntry/through(_:key:folder:seconds:tell:)``.
    public init(
        through invite: Invite, key: SigningKey, folder: String?, listen: Endpoint, emulation: Emulation?, seed: UInt64,
        tell: (String) -> Void
    ) throws(NodeError) {
        let entry = try PoolEntry.through(invite, key: key, folder: folder, tell: tell)
        self.init(
            key: key, listen: listen, poolKey: entry.poolKey, bootstrap: invite.bootstrap, emulation: emulation,
            seed: seed)
        membership = entry.membership
        bootstrapNames = invite.names
    }
}

extension PoolEntry {
    private static func ask(
        _ credential: Credential, key: SigningKey, at endpoints: [Endpoint], limit: Duration, rounds: Int
    ) throws(NodeError) -> Result<PoolGrant, PoolApplication.Failure> {
        do throws(SocketError) {
            return try ApplicationRun(credential, key: key, at: endpoints, limit: limit, rounds: rounds).result()
        } catch {
            throw .failed("cannot apply for membership: \(error.description)")
        }
    }
}

/// A ``PoolApplication`` on real sockets, and nothing else.
final class ApplicationRun {
    private let loop = Loop()
    private let transport: SecureTransport
    private var application: PoolApplication
    private var timer: EventLoop.Timer?
    private var answer = Result<PoolGrant, PoolApplication.Failure>.failure(.unanswered("interrupted"))

    init(_ credential: Credential, key: SigningKey, at endpoints: [Endpoint], limit: Duration, rounds: Int)
        throws(SocketError)
    {
        transport = try SecureTransport(loop: loop, identity: key, listen: Endpoint(ipv4: 0, 0, 0, 0, port: 0))
        application = PoolApplication(credential, at: endpoints, limit: limit, rounds: rounds, now: loop.now)
        transport.on.secured = { [unowned self] id, peer, _, _, inbound, _ in
            if inbound { return transport.close(id) }
            application.secured(ConnectionID(id), peer: peer, at: loop.now)
            drain()
        }
        transport.on.dialFailed = { [unowned self] id, failure in
            application.failed(ConnectionID(id), failure.description, at: loop.now)
            drain()
        }
        transport.on.received = { [unowned self] id, bytes in
            application.received(ConnectionID(id), bytes, at: loop.now)
            drain()
        }
        transport.on.closed = { [unowned self] id in
            application.closed(ConnectionID(id), at: loop.now)
            drain()
        }
        timer = EventLoop.Timer(loop) { [unowned self] in
            application.wake(at: loop.now)
            drain()
        }
    }
    func result() -> Result<PoolGrant, PoolApplication.Failure> {
        drain()
        loop.run()
        loop.close()
        return answer
    }
    private func drain() {
        while let effect = application.poll() {
            switch effect {
            case .dial(let id, let endpoint): transport.dial(id.value, to: endpoint, expecting: nil)
            case .write(let id, let bytes): transport.write(id.value, bytes)
            case .close(let id): transport.close(id.value)
            case .ended(let result):
                answer = result
                timer?.close()
                timer = nil
                // Perhaps this is within a callback of its stream.
                loop.soon { [self] in
                    transport.shutdown()
                    loop.stop()
                }
            }
        }
        timer?.arm(at: application.nextWake)
    }
}
