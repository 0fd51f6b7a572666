public import Pools
public import Primitives
import Wire

/// The book of a pool that keeps members, and what is still to be told of it.
struct PoolDoor: Sendable {
    var book: PoolBook
    var nextWake: Instant
    /// Members have another key of the pool than any that is known here: it was changed while this peer was away.
    var isBehind = false
    /// The connection on which it asks for that, in the place of a hello.
    var applying: ConnectionID?
    /// To peers that knew other things than this one, in turn.
    var untold: [PeerID: ArraySlice<PoolStatement>] = [:]
    var telling = NewsBudget()
    /// Why this peer was turned away last, while nobody lets it in.
    var turnedAway: PoolRefusal?
    /// Nobody is dialled before: whoever is turned away by all asks ever more rarely.
    var dialsFrom: Instant?
    var patience = Duration.zero
    /// How often everybody's certificate is looked at, and a certificate that is due renewed.
    static let interval = Duration.seconds(20)
    /// With fewer connections this peer looks for members, so that it hears of what concerns all.
    static let linksLeast = 2
    static let soon = Duration.milliseconds(100)
    /// So many bytes of statements wait on a connection at most, besides pings and acks.
    static let ahead = 16_384
    private static let patienceMost = Duration.seconds(300)

    mutating func noteTurnedAway(_ why: PoolRefusal, at now: Instant) {
        turnedAway = why
        patience = max(.seconds(1), min(Self.patienceMost, patience * 2))
        dialsFrom = now + patience
    }
    mutating func noteLetIn() { (turnedAway, dialsFrom, patience) = (nil, nil, .zero) }
}

/// How much of what is new its owner hears. Whoever has an invite of many uses can make up members, and who comes into an old pool hears of everybody at once.
struct NewsBudget: Sendable {
    private var left = Self.most
    private var since: Instant?
    static let most = 64
    static let pause = Duration.seconds(5)

    /// Whether this one is told.
    mutating func take(at now: Instant) -> Bool {
        if let since {
            let more = Int(min(Double(Self.most), (now - since).inSeconds / Self.pause.inSeconds))
            if more > 0 { (left, self.since) = (min(Self.most, left + more), now) }
        } else {
            since = now
        }
        guard left > 0 else { return false }
        left -= 1
        return true
    }
}

/// Pools that keep members: who is let in, and what members tell each other of it (docs/MEMBERSHIP.md).
extension Channels {
    /// What this peer knows of the pool; nil where the pool is its key, and whoever holds that is in.
    public var book: PoolBook? { pool?.book }
    /// What a connected peer may do; nil where nobody is asked for a certificate, and of who is not here.
    public func role(of peer: PeerID) -> MemberRole? { pool?.book.role(of: peer) }

    /// From now on whoever would be heard must be a member. To be called before the first connection.
    public mutating func admit(by book: PoolBook, at now: Instant) {
        precondition(book.identity == local && connections.count == 0, "a book of \(book.identity.short)")
        pool = PoolDoor(book: book, nextWake: now)
    }
    /// What the owner does with the book; the others hear of it.
    public mutating func change<T>(at now: Instant, _ change: (inout PoolBook) -> T) -> T? {
        guard pool != nil else { return nil }
        let result = change(&pool!.book)
        tellNews(at: now)
        return result
    }
    /// The book as it is now has been handed to the disk.
    public mutating func bookKept() { pool?.book.isChanged = false }

    // MARK: hellos

    private func poolKeys(at now: Instant) -> [[UInt8]?] { pool?.book.poolKeys(at: now) ?? [poolKey] }
    private var versions: ClosedRange<UInt16> { pool == nil ? Hello.versions : Hello.memberVersions }

    func makeHello(_ standing: SessionStanding, _ exporter: [UInt8], _ isClient: Bool, at now: Instant) -> [UInt8] {
        let key = poolKeys(at: now)[0]
        var hello = Hello(port: port, keyed: key != nil, standing: standing)
        (hello.lowest, hello.highest) = (versions.lowerBound, versions.upperBound)
        var writer = ByteWriter(capacity: Hello.encodedBytes)
        writer.raw(hello.encoded(key: key, exporter: exporter, isTLSClient: isClient))
        if let credential = pool?.book.credential.encoded {
            writer.u16(UInt16(credential.count))
            writer.raw(credential)
        }
        return writer.bytes
    }
    func readHello(
        _ bytes: [UInt8], _ exporter: [UInt8], senderIsTLSClient: Bool, at now: Instant
    ) -> Result<(hello: Hello, version: UInt16), Refusal> {
        var result: Result<(hello: Hello, version: UInt16), Refusal> = .failure(.wrongPool)
        for key in poolKeys(at: now) {
            result = Hello.read(
                bytes, key: key, exporter: exporter, senderIsTLSClient: senderIsTLSClient, speaking: versions)
            guard case .failure(.wrongPool) = result else { break }
        }
        return result
    }
    /// Whoever holds the pool's key has said hello: why it is not let in.
    mutating func judge(_ id: ConnectionID, _ hello: inout Hello, _ bytes: [UInt8], at now: Instant) -> PoolRefusal? {
        guard pool != nil, let peer = connections[id]?.peer else { return nil }
        hello.credential = try? Hello.credential(in: bytes)
        defer { tellNews(at: now) }
        return pool!.book.judge(hello.credential, of: peer, at: now)
    }
    /// Why nobody lets this peer in; nil where somebody does, or nobody has been met.
    public var turnedAway: PoolRefusal? { pool.flatMap { $0.book.isRemoved ? .removed : $0.turnedAway } }

    /// A member's connection is open.
    mutating func greetMember(_ id: ConnectionID, at now: Instant) {
        guard pool != nil, let peer = connections[id]?.peer else { return }
        if let shown = connections[id]!.hello?.credential { pool!.book.entered(peer, shown) }
        urgent(Frame.small(.statement, PoolStatement.digest(pool!.book.settledDigest()).encoded), id, at: now)
    }

    // MARK: refusals

    /// Says why, to whoever holds the pool's key or has an invite of it, and closes.
    ///
    /// - Parameter shown: the certificate that it came with; nil: that of its hello.
    mutating func turnAway(_ id: ConnectionID, _ why: PoolRefusal, _ shown: Credential? = nil, at now: Instant) {
        let shown = shown ?? connections[id]?.hello?.credential
        let proof = connections[id]?.peer.flatMap { pool?.book.revocation(for: why, of: $0, shown) }
        let payload = [why.rawValue] + (proof.map { PoolStatement.revocation($0).encoded } ?? [])
        effects.push(.write(id, Frame.small(.refusal, payload)))
        if connections[id]?.isOpen == true {
            refusals[.membership(why), default: 0] += 1
            lose(id, .refused(.membership(why)), at: now)
        } else {
            refuse(id, .membership(why), at: now)
        }
    }
    mutating func turnedAway(_ id: ConnectionID, _ payload: [UInt8], at now: Instant) throws(MalformedBytes) {
        guard pool != nil, let first = payload.first, let why = PoolRefusal(rawValue: first),
            let connection = connections[id]
        else { throw MalformedBytes("a refusal of no known kind") }
        // The pool's authority has signed it, or it is nothing.
        if payload.count > 1, case .revocation(let revocation) = try PoolStatement(encoded: Array(payload[1...])) {
            _ = pool!.book.heed(.revocation(revocation), from: connection.peer ?? local, at: now)
            tellNews(at: now)
        }
        if connectedPeers.allSatisfy({ peers[$0]?.connection == id }) { pool!.noteTurnedAway(why, at: now) }
        if pool!.applying == id { (pool!.isBehind, pool!.applying) = (false, nil) }
        if connection.isOpen {
            refusals[.turnedAway(why), default: 0] += 1
            lose(id, .refused(.turnedAway(why)), at: now)
        } else {
            refuse(id, .turnedAway(why), at: now)
        }
    }

    // MARK: who would join

    mutating func applied(_ id: ConnectionID, _ payload: [UInt8], at now: Instant) throws(MalformedBytes) {
        guard pool != nil, let connection = connections[id], !connection.openedHere, !connection.isOpen,
            let peer = connection.peer
        else { throw MalformedBytes("an application where there is nothing to apply for") }
        let shown = try Credential(encoded: payload)
        switch pool!.book.apply(shown, of: peer, at: now) {
        case .failure(let why): turnAway(id, why, shown, at: now)
        case .success(let grant):
            effects.push(.write(id, Frame.small(.grant, grant.encoded)))
            drop(id)
            // Who comes by an invite of few uses is news to all. Of others only whoever lets them in hears; a member that starts anew
            // within a quarter of an hour is told again.
            if shown.warrant.uses == nil, !shown.certificate.isRenewed,
                grant.wall - shown.certificate.joined <= Credential.skew
            {
                tell(.credential(shown), at: now)
            }
        }
        tellNews(at: now)
    }

    /// Whoever says a hello that is none of this pool's may be a member all the same: its credential says so, and that its key is another.
    mutating func isBehind(_ id: ConnectionID, _ hello: [UInt8], at now: Instant) -> Bool {
        guard pool != nil, let connection = connections[id], connection.openedHere, let peer = connection.peer,
            let shown = try? Hello.credential(in: hello), pool!.book.judge(shown, of: peer, at: now) == nil
        else { return false }
        pool!.isBehind = true
        return true
    }
    /// Asks for the pool's key again, as a member.
    mutating func applyAgain(_ id: ConnectionID, at now: Instant) {
        connections[id]!.phase = .greeting(until: now + limits.helloTimeout)
        pool!.applying = id
        let frame = Frame.small(.apply, pool!.book.credential.encoded)
        connections[id]!.unsent += frame.count
        effects.push(.write(id, frame))
    }
    mutating func granted(_ id: ConnectionID, _ payload: [UInt8], at now: Instant) throws(MalformedBytes) {
        guard pool?.applying == id, let peer = connections[id]?.peer else {
            throw MalformedBytes("a grant that nobody asked for")
        }
        let grant = try PoolGrant(encoded: payload)
        do throws(PoolRefusal) {
            try grant.check(authority: pool!.book.authority, from: peer)
        } catch {
            throw MalformedBytes("who answers is no member: \(error.ofAnother)")
        }
        pool!.book.follow(grant, at: now)
        (pool!.isBehind, pool!.applying) = (false, nil)
        drop(id, at: now)
        tellNews(at: now)
    }

    // MARK: statements

    mutating func heed(
        _ payload: [UInt8], _ peer: PeerID, _ id: ConnectionID, at now: Instant
    ) throws(MalformedBytes) {
        guard pool != nil else { throw MalformedBytes("a statement about members where there are none") }
        let statement = try PoolStatement(encoded: payload)
        // Only who has let this peer in says one.
        pool!.noteLetIn()
        switch pool!.book.heed(statement, from: peer, at: now) {
        case .taken: tellNews(at: now)
        case .differs:
            pool!.untold[peer] = pool!.book.statements[...]
            tellWhatIsUntold(at: now)
        case .unsigned: throw MalformedBytes("a statement about members that nobody signed")
        }
    }
    private mutating func tellNews(at now: Instant) {
        guard pool != nil else { return }
        let news = pool!.book.takeNews()
        for statement in news {
            for peer in connectedPeers { pool!.untold[peer, default: []].append(statement) }
        }
        tellWhatIsUntold(at: now)
        if !news.isEmpty { turnOutWhoIsNone(at: now) }
        if pool!.book.isChanged { effects.push(.bookChanged) }
        for statement in news { tell(statement, at: now) }
    }
    private mutating func tell(_ statement: PoolStatement, at now: Instant) {
        if pool!.telling.take(at: now) { effects.push(.news(statement)) }
    }
    /// Not more at once than leaves soon: the rest follows.
    private mutating func tellWhatIsUntold(at now: Instant) {
        for peer in pool!.untold.keys.sorted() {
            guard let id = peers[peer]?.connection, connections[id]?.isOpen == true else {
                pool!.untold[peer] = nil
                continue
            }
            while let next = pool!.untold[peer]?.first, let waiting = connections[id]?.urgent.count,
                waiting < PoolDoor.ahead
            {
                pool!.untold[peer]!.removeFirst()
                urgent(Frame.small(.statement, next.encoded), id, at: now)
            }
            if pool!.untold[peer]?.isEmpty == true { pool!.untold[peer] = nil }
        }
        if !pool!.untold.isEmpty { pool!.nextWake = min(pool!.nextWake, now + PoolDoor.soon) }
    }
    private mutating func turnOutWhoIsNone(at now: Instant) {
        for (peer, why) in pool!.book.inspect(at: now) {
            if let id = peers[peer]?.connection { turnAway(id, why, at: now) }
        }
    }

    mutating func wakePool(at now: Instant) {
        guard let due = pool?.nextWake, due <= now else { return }
        pool!.nextWake = now + PoolDoor.interval
        for (peer, statement) in pool!.book.renewals(at: now) { pool!.untold[peer, default: []].append(statement) }
        turnOutWhoIsNone(at: now)
        tellNews(at: now)
        let isLonely = connectedPeers.count < PoolDoor.linksLeast || pool!.book.wantsRenewal(at: now)
        effects.push(.seekMembers(isLonely))
    }
}
