public import Digests
public import Primitives
public import Wire

/// What one member knows of a pool that keeps members: its own credential, the pool's keys, who was removed, which invites are used up.
///
/// It decides who is let in, from what is shown and from what is known here; nobody needs to be asked. What it learns it passes on, and all of
/// that is signed by the authority or by an invite's issuing key, never by the word of whoever tells it. What grows only by signed statements and is
/// ordered by their contents comes out the same in whatever order they arrive, so members who talk to each other come to agree.
public struct PoolBook: Sendable {
    public let authority: PeerID
    public let identity: PeerID
    /// Held by whoever keeps the pool: such a daemon renews, and lets those in whose certificates have expired.
    let authorityKey: SigningKey?
    public private(set) var credential: Credential
    /// At most two, the newest last.
    public private(set) var keys: [PoolKey]
    private(set) var revocations: [RevocationID: Revocation] = [:]
    /// Of invites of few uses: who has joined, in the order that counts.
    private(set) var admissions: [Digest256: [Credential]] = [:]
    /// Who is connected, with what it showed last.
    private var present: [PeerID: Credential] = [:]
    private let wall: WallClock
    /// Since it was kept last.
    public var isChanged = false
    private var knownDigest: Digest256?
    /// What the others are to hear.
    private var news: [PoolStatement] = []
    /// Statements that were no use: not signed, or of another pool.
    public private(set) var refused = 0

    struct RevocationID: Hashable, Sendable {
        let kind: Revocation.Kind
        let subject: Digest256
    }
    public static let revocationsMax = 1024
    static let invitesMax = 256
    /// Whoever keeps the pool renews certificates that have expired so long ago at most.
    public static let grace: Int64 = 180 * 86_400

    /// - Parameters:
    ///   - credential: of this peer, checked.
    ///   - key: the pool's, checked.
    public init(credential: Credential, key: PoolKey, authorityKey: SigningKey? = nil, wall: WallClock) {
        precondition(authorityKey.map { $0.peerID == credential.warrant.authority } ?? true)
        authority = credential.warrant.authority
        identity = credential.peer
        self.authorityKey = authorityKey
        self.credential = credential
        keys = [key]
        self.wall = wall
    }
    init(
        credential: Credential, keys: [PoolKey], revocations: [Revocation], admissions: [Credential],
        authorityKey: SigningKey?, wall: WallClock
    ) {
        self.init(credential: credential, key: keys.last!, authorityKey: authorityKey, wall: wall)
        self.keys = keys
        for revocation in revocations { keep(revocation) }
        for admission in admissions { admit(admission) }
        (isChanged, news) = (false, [])
    }
    public var keepsPool: Bool { authorityKey != nil }

    // MARK: the pool's key

    /// What the overlay's topics are bound to: it stays when the pool's key changes. Nobody looks under it without that.
    public static func topicKey(_ authority: PeerID) -> [UInt8] {
        sha256(Array("atoll/topics/1".utf8) + authority.bytes).bytes
    }

    /// Those that are right now, the one in use first.
    public func poolKeys(at now: Instant) -> [[UInt8]] {
        let seconds = wall.seconds(at: now)
        guard let newest = keys.last, keys.count > 1 else { return keys.map(\.key) }
        if seconds < newest.from { return [keys[0].key, newest.key] }
        return seconds < newest.formerUntil ? [newest.key, keys[0].key] : [newest.key]
    }

    // MARK: the door

    /// Whether a peer is a member, by what it shows. Its invite's use is noted.
    public mutating func judge(_ shown: Credential?, of peer: PeerID, at now: Instant) -> PoolRefusal? {
        guard let shown else { return .noCredential }
        return judge(shown, of: peer, isVerified: shown == present[peer], at: now)
    }
    private mutating func judge(
        _ shown: Credential, of peer: PeerID, isVerified: Bool, at now: Instant
    ) -> PoolRefusal? {
        do throws(PoolRefusal) {
            try shown.check(
                authority: authority, of: peer, at: wall.seconds(at: now), grace: keepsPool ? Self.grace : 0,
                isVerified: isVerified)
        } catch {
            return error
        }
        return standing(of: shown)
    }
    /// The same for who comes for the first time, or again for the pool's key.
    ///
    /// - Returns: what it is given.
    public mutating func apply(_ shown: Credential, of peer: PeerID, at now: Instant) -> Result<PoolGrant, PoolRefusal>
    {
        let seconds = wall.seconds(at: now)
        // Who is first at an invite of few uses is known by when it was used: nobody dates that back.
        if shown.warrant.uses != nil, !shown.certificate.isRenewed, !isAdmitted(shown), shown.peer == peer,
            shown.warrant.authority == authority, abs(shown.certificate.joined - seconds) > Credential.skew
        {
            return .failure(seconds >= shown.warrant.expires ? .inviteExpired : .clock)
        }
        // Here nobody takes the place of somebody who is known to have it, whoever is first by certificates.
        if let uses = shown.warrant.uses, shown.warrant.authority == authority, !shown.certificate.isRenewed,
            !isAdmitted(shown), admissions[shown.warrant.id, default: []].count >= uses
        {
            return .failure(.inviteUsedUp)
        }
        if let refusal = judge(shown, of: peer, at: now) { return .failure(refusal) }
        let isKnown = shown.certificate.isRenewed || admissions[shown.warrant.id]?.contains { $0.peer == peer } == true
        if !isKnown {
            guard seconds < shown.warrant.expires + Credential.skew else { return .failure(.inviteExpired) }
        }
        return .success(PoolGrant(granter: credential, key: keyInUse(at: now), wall: seconds))
    }
    private func keyInUse(at now: Instant) -> PoolKey {
        guard keys.count > 1, wall.seconds(at: now) < keys[1].from else { return keys.last! }
        return keys[0]
    }

    /// By what is known of invites and members; what is shown has been checked.
    private mutating func standing(of shown: Credential) -> PoolRefusal? {
        if revocations[RevocationID(kind: .peer, subject: Digest256(shown.peer.bytes)!)] != nil { return .removed }
        if revocations[RevocationID(kind: .inviteAndMembers, subject: shown.warrant.id)] != nil { return .removed }
        if let revoked = revocations[RevocationID(kind: .invite, subject: shown.warrant.id)],
            shown.certificate.joined > revoked.at, !isAdmitted(shown)
        {
            return .inviteRevoked
        }
        guard shown.warrant.uses != nil else { return nil }
        admit(shown)
        return isAdmitted(shown) ? nil : .inviteUsedUp
    }
    private func isAdmitted(_ shown: Credential) -> Bool {
        admissions[shown.warrant.id]?.contains { $0.peer == shown.peer } == true
    }

    private mutating func admit(_ shown: Credential) {
        guard let uses = shown.warrant.uses else { return }
        let id = shown.warrant.id
        if admissions[id] == nil, admissions.count >= Self.invitesMax {
            let oldest = admissions.keys.min { ended($0) < ended($1) }!
            guard ended(oldest) < (shown.warrant.expires, id) else { return }
            admissions[oldest] = nil
        }
        // Whoever joined first is in; of one moment, the smaller key. So two nodes that let two in at once come to the same end. Who says two
        // things about itself joined when it first did.
        var before = admissions[id, default: []]
        if let known = before.firstIndex(where: { $0.peer == shown.peer }) {
            guard shown.certificate.joined < before[known].certificate.joined else { return }
            before.remove(at: known)
        }
        let after = (before + [shown]).sorted { rank($0) < rank($1) }.prefix(uses)
        guard after.contains(shown) else { return }
        admissions[id] = Array(after)
        changed()
        news.append(.credential(shown))
    }
    private func rank(_ admission: Credential) -> (Int64, PeerID) { (admission.certificate.joined, admission.peer) }
    private func ended(_ id: Digest256) -> (Int64, Digest256) { (admissions[id]?.first?.warrant.expires ?? 0, id) }
    private mutating func changed() { (isChanged, knownDigest) = (true, nil) }

    // MARK: who is here

    public mutating func entered(_ peer: PeerID, _ shown: Credential) { present[peer] = shown }
    public mutating func left(_ peer: PeerID) { present[peer] = nil }
    public func role(of peer: PeerID) -> MemberRole? { present[peer]?.warrant.role }
    /// Who is here and should not be any more, ascending.
    public mutating func inspect(at now: Instant) -> [(peer: PeerID, why: PoolRefusal)] {
        present.keys.sorted().compactMap { peer in judge(present[peer], of: peer, at: now).map { (peer, $0) } }
    }

    // MARK: renewal

    /// New certificates for those who are here, and for this peer itself, where half of the time is over; only who keeps the pool has any.
    public mutating func renewals(at now: Instant) -> [(peer: PeerID, statement: PoolStatement)] {
        guard let authorityKey else { return [] }
        let seconds = wall.seconds(at: now)
        if credential.isDue(at: seconds) { adopt(credential.renewed(by: authorityKey, at: seconds)) }
        var out: [(peer: PeerID, statement: PoolStatement)] = []
        for peer in present.keys.sorted() {
            guard let shown = present[peer], shown.isDue(at: seconds), judge(shown, of: peer, at: now) == nil else {
                continue
            }
            let renewed = shown.renewed(by: authorityKey, at: seconds)
            present[peer] = renewed
            out.append((peer, .credential(renewed)))
        }
        return out
    }
    private mutating func adopt(_ renewed: Credential) {
        credential = renewed
        isChanged = true
        news.append(.credential(renewed))
    }
    /// Its own certificate should have been renewed by now: whoever keeps the pool is to be found.
    public func wantsRenewal(at now: Instant) -> Bool { !keepsPool && credential.isDue(at: wall.seconds(at: now)) }

    // MARK: statements

    public enum Heeded: Hashable, Sendable {
        /// Where it was new it is among ``takeNews()``.
        case taken
        /// The sender knows other things than this peer: tell it all.
        case differs
        /// It proves nothing: the sender makes it up, or passes on what it has not checked.
        case unsigned
    }
    /// What the others are to hear since this was asked last.
    public mutating func takeNews() -> [PoolStatement] {
        defer { news = [] }
        return news
    }
    public mutating func heed(_ statement: PoolStatement, from peer: PeerID, at now: Instant) -> Heeded {
        switch statement {
        case .digest(let digest): return digest == settledDigest() ? .taken : .differs
        case .revocation(let revocation):
            if let known = revocations[revocation.id], known.at <= revocation.at { return .taken }
            guard revocation.isSigned(by: authority) else { return unsigned() }
            keep(revocation)
        case .key(let key):
            guard isNewer(key) else { return .taken }
            guard key.isSigned(by: authority) else { return unsigned() }
            follow(key)
        case .credential(let shown): return heed(shown, from: peer, at: now)
        }
        return .taken
    }
    private mutating func heed(_ shown: Credential, from peer: PeerID, at now: Instant) -> Heeded {
        let seconds = wall.seconds(at: now)
        if shown.peer == identity {
            guard shown.certificate.isRenewed, shown.certificate.expires > credential.certificate.expires else {
                return .taken
            }
            guard (try? shown.check(authority: authority, of: identity, at: seconds)) != nil else { return unsigned() }
            adopt(shown)
            return .taken
        }
        if shown.peer == peer {
            guard present[peer] != shown else { return .taken }
            guard judge(shown, of: peer, at: now) == nil else { return unsigned() }
            present[peer] = shown
            return .taken
        }
        let known = admissions[shown.warrant.id]?.first { $0.peer == shown.peer }
        guard shown.warrant.uses != nil, known.map({ $0.certificate.joined > shown.certificate.joined }) ?? true else {
            return .taken
        }
        // That it has expired meanwhile changes nothing about the use.
        guard (try? shown.check(authority: authority, of: shown.peer, at: seconds, grace: 1 << 39)) != nil else {
            return unsigned()
        }
        admit(shown)
        return .taken
    }
    /// What a member has given to this one; it has been checked.
    public mutating func follow(_ grant: PoolGrant, at now: Instant) {
        _ = heed(.key(grant.key), from: grant.granter.peer, at: now)
    }
    private mutating func unsigned() -> Heeded {
        refused += 1
        return .unsigned
    }
    /// Of two, the one that took effect earlier stays.
    @discardableResult
    private mutating func keep(_ revocation: Revocation) -> Bool {
        if let known = revocations[revocation.id] {
            guard revocation.at < known.at else { return false }
        } else if revocations.count >= Self.revocationsMax {
            return false
        }
        revocations[revocation.id] = revocation
        changed()
        news.append(.revocation(revocation))
        return true
    }
    /// Of two of one serial, which come of changes at two places at once, the smaller one is the next for everybody.
    private func isNewer(_ key: PoolKey) -> Bool {
        let last = keys.last!
        return key.serial > last.serial || key.serial == last.serial && key.key.lexicographicallyPrecedes(last.key)
    }
    private mutating func follow(_ key: PoolKey) {
        keys = [key.serial == keys.last!.serial ? keys[0] : keys.last!, key]
        changed()
        news.append(.key(key))
    }

    /// Of all that members pass on: equal where they know the same.
    public var digest: Digest256 { knownDigest ?? digestAnew }
    /// Computed once for all to whom it is said.
    public mutating func settledDigest() -> Digest256 {
        let digest = digest
        knownDigest = digest
        return digest
    }
    private var digestAnew: Digest256 {
        let statements = statements.map { statement -> [UInt8] in
            guard case .credential(let shown) = statement else { return statement.encoded }
            // By whichever certificate it was heard of.
            var writer = ByteWriter(capacity: 73)
            writer.u8(2)
            writer.raw(shown.warrant.id.bytes + shown.peer.bytes)
            writer.u64(UInt64(shown.certificate.joined))
            return writer.bytes
        }
        return sha256(statements.flatMap { $0 })
    }
    /// All that members pass on, in an order that hangs on nothing else.
    public var statements: [PoolStatement] {
        var out: [PoolStatement] = []
        if let key = keys.last { out.append(.key(key)) }
        let removed = revocations.values.sorted { ($0.kind.rawValue, $0.subject) < ($1.kind.rawValue, $1.subject) }
        out += removed.map { .revocation($0) }
        for id in admissions.keys.sorted() { out += admissions[id]!.map { .credential($0) } }
        return out
    }

    // MARK: what its owner does

    /// - Returns: false where it was revoked before, or there is no room for more.
    public mutating func revoke(_ kind: Revocation.Kind, of subject: Digest256, at now: Instant) -> Bool {
        guard let authorityKey else { return false }
        return keep(Revocation(kind, of: subject, at: wall.seconds(at: now), by: authorityKey))
    }
    /// Removes a peer, and closes the invite that it came by where others, or the same one by another name, could still join by it.
    ///
    /// - Parameter closing: false where that invite is to stay.
    /// - Returns: nil where it was removed before, else the invite that was closed, if it is known and one was.
    public mutating func remove(_ peer: PeerID, closing: Bool, at now: Instant) -> Removal? {
        let shown = present[peer] ?? admissions.values.lazy.flatMap { $0 }.first { $0.peer == peer }
        guard revoke(.peer, of: Digest256(peer.bytes)!, at: now) else { return nil }
        guard let warrant = shown?.warrant else { return Removal(invite: nil, isClosed: false) }
        let isUsedUp = warrant.uses.map { (admissions[warrant.id]?.count ?? 0) >= $0 } ?? false
        guard closing, !isUsedUp else { return Removal(invite: warrant.id, isClosed: false) }
        return Removal(invite: warrant.id, isClosed: revoke(.invite, of: warrant.id, at: now))
    }
    public struct Removal: Hashable, Sendable {
        /// By which it came; nil where that is not known.
        public let invite: Digest256?
        public let isClosed: Bool
    }

    // MARK: what its owner sees

    /// Who has joined by an invite of few uses, in the order that counts.
    public func joined(by invite: Digest256) -> [PeerID] { admissions[invite, default: []].map(\.peer) }
    /// When something was revoked, in seconds since 1970; nil where it was not.
    public func revoked(_ kind: Revocation.Kind, _ subject: Digest256) -> Int64? {
        revocations[RevocationID(kind: kind, subject: subject)]?.at
    }
    /// The signed word for a refusal that comes of one: whoever is turned away can check it.
    public func revocation(for why: PoolRefusal, of peer: PeerID, _ shown: Credential?) -> Revocation? {
        let own = RevocationID(kind: .peer, subject: Digest256(peer.bytes)!)
        switch why {
        case .removed:
            return revocations[own]
                ?? shown.flatMap { revocations[RevocationID(kind: .inviteAndMembers, subject: $0.warrant.id)] }
        case .inviteRevoked:
            return shown.flatMap { revocations[RevocationID(kind: .invite, subject: $0.warrant.id)] }
        default: return nil
        }
    }
    /// This peer was removed, as it has heard itself.
    public var isRemoved: Bool {
        revoked(.peer, Digest256(identity.bytes)!) != nil || revoked(.inviteAndMembers, credential.warrant.id) != nil
    }
    /// Ascending.
    public var removedPeers: [PeerID] {
        revocations.keys.filter { $0.kind == .peer }.compactMap { PeerID($0.subject.bytes) }.sorted()
    }

    /// Another key of the pool, used from a third of the overlap on; the one before it is right until the overlap is over.
    ///
    /// - Parameters:
    ///   - key: 32 random bytes.
    ///   - overlap: seconds.
    /// - Returns: false while the last change is still under way: another one would cut off who has neither.
    public mutating func rotate(to key: [UInt8], overlap: Int64, at now: Instant) -> Bool {
        guard let authorityKey else { return false }
        let seconds = wall.seconds(at: now)
        if keys.count > 1, seconds < keys[1].formerUntil { return false }
        let next = PoolKey(
            serial: keys.last!.serial + 1, key: key, from: seconds + overlap / 3, formerUntil: seconds + overlap,
            by: authorityKey)
        follow(next)
        return true
    }
}

extension Revocation { var id: PoolBook.RevocationID { PoolBook.RevocationID(kind: kind, subject: subject) } }
