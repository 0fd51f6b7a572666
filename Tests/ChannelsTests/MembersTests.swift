import Channels
import Digests
import Pools
import Primitives
import Testing

/// Members on a virtual network, each with a book.
private struct Members {
    let authority = SigningKey(seed: [UInt8](repeating: 1, count: 32))!
    let issuing = SigningKey(seed: [UInt8](repeating: 90, count: 32))!
    static let wall: Int64 = 1_700_000_000
    var network = Network()

    var clock: WallClock { WallClock(seconds: Self.wall, at: network.now) }
    func key(_ n: UInt8) -> SigningKey { SigningKey(seed: [UInt8](repeating: n, count: 32))! }
    func warrant(uses: Int? = nil, days: Int64 = 7) -> Warrant {
        Warrant(
            by: authority, issuer: issuing.peerID, role: .member, uses: uses, issued: Self.wall,
            expires: Self.wall + days * 86_400, life: 86_400)
    }
    func credential(_ n: UInt8, _ warrant: Warrant? = nil, at seconds: Int64 = 0) -> Credential {
        Credential(joining: key(n).peerID, by: warrant ?? self.warrant(), issuing, at: Self.wall + seconds)
    }
    func book(_ n: UInt8, keeps: Bool = false, _ warrant: Warrant? = nil, pool: UInt8 = 7) -> PoolBook {
        PoolBook(
            credential: credential(n, warrant),
            key: PoolKey(serial: 1, key: [UInt8](repeating: pool, count: 32), from: 0, formerUntil: 0, by: authority),
            authorityKey: keeps ? authority : nil, wall: clock)
    }
    @discardableResult mutating func add(_ n: UInt8, keeps: Bool = false, _ warrant: Warrant? = nil) -> Int {
        network.add(book(n, keeps: keeps, warrant))
    }
}

@Test func `members show each other certificates and are connected, in a version of their own`() {
    var members = Members()
    members.add(2)
    members.add(3)
    members.network.connect(0, 1)
    members.network.run()
    #expect(members.network.isConnected(0, 1))
    #expect(members.network.nodes[0].version(with: members.network.peer(1)) == 3)
    #expect(members.network.nodes[0].role(of: members.network.peer(1)) == .member)
}

@Test func `who holds the pool's key and no certificate is refused, by old versions' word, too`() {
    var members = Members()
    members.add(2)
    let old = members.network.add(9)
    members.network.connect(old, 0)
    members.network.run()
    #expect(!members.network.isConnected(old, 0))
    #expect(members.network.nodes[old].refusals[.version] == 1 && members.network.nodes[0].refusals[.version] == 1)
}

@Test func `a certificate of another pool, or another's, lets nobody in`() {
    var members = Members()
    members.add(2)
    var stranger = Members()
    stranger.network = members.network
    let other = SigningKey(seed: [UInt8](repeating: 77, count: 32))!
    let warrant = Warrant(
        by: other, issuer: members.issuing.peerID, role: .member, uses: nil, issued: Members.wall,
        expires: Members.wall + 86_400, life: 86_400)
    let book = PoolBook(
        credential: Credential(joining: members.key(3).peerID, by: warrant, members.issuing, at: Members.wall),
        key: PoolKey(serial: 1, key: [UInt8](repeating: 7, count: 32), from: 0, formerUntil: 0, by: other),
        wall: members.clock)
    members.network.add(book)
    members.network.connect(1, 0)
    members.network.run()
    #expect(!members.network.isConnected(0, 1))
    #expect(members.network.nodes[0].refusals[.membership(.otherPool)] == 1)
}

@Test func `a removed member is turned out everywhere at once, hears why, and is not let in again`() {
    var members = Members()
    members.add(1, keeps: true)
    for n: UInt8 in 2...4 { members.add(n) }
    for n in 1...3 { members.network.connect(0, n) }
    members.network.connect(3, 1)
    members.network.connect(3, 2)
    members.network.run()
    #expect(members.network.isConnected(1, 3) && members.network.isConnected(2, 3))
    let removed = members.network.peer(3)
    let subject = Digest256(removed.bytes)!
    let moment = members.network.now
    let isDone = members.network.change(0) { $0.revoke(.peer, of: subject, at: moment) }
    #expect(isDone == true)
    members.network.run(for: .seconds(1))
    for n in 0...2 { #expect(!members.network.isConnected(n, 3), "node \(n)") }
    #expect(members.network.events[3].contains(.lost(members.network.peer(0), .refused(.turnedAway(.removed)))))
    members.network.connect(3, 1)
    members.network.run(for: .seconds(5))
    #expect(!members.network.isConnected(1, 3))
    #expect(members.network.nodes[3].book?.isRemoved == true && members.network.nodes[3].turnedAway == .removed)
    #expect(members.network.isConnected(0, 1) && members.network.isConnected(0, 2))
    for n in 0...2 {
        let told = members.network.events[n].filter {
            if case .news(.revocation(let it)) = $0 { it.subject == subject } else { false }
        }
        #expect(told.count == 1, "node \(n) is told once")
    }
}

@Test func `of a flood of members that somebody makes up a part is told`() {
    var members = Members()
    members.add(1, keeps: true)
    members.add(2)
    members.network.connect(0, 1)
    members.network.run()
    let warrant = members.warrant(uses: 200)
    let teller = members.network.peer(1)
    // Each one is signed by the invite's own key, so it is passed on; its owner does not hear of all.
    for n in 0..<200 {
        let key = SigningKey(seed: [UInt8](repeating: 3, count: 31) + [UInt8(n)])!
        let shown = Credential(joining: key.peerID, by: warrant, members.issuing, at: Members.wall)
        _ = members.network.change(0) { $0.heed(.credential(shown), from: teller, at: .zero) }
    }
    members.network.run(for: .seconds(2))
    for n in 0...1 {
        let told = members.network.events[n].count { if case .news = $0 { true } else { false } }
        #expect((64..<80).contains(told), "node \(n): \(told)")
        #expect(members.network.nodes[n].book?.joined(by: warrant.id).count == 200)
    }
}

@Test func `who was away when somebody was removed hears of it with the next connection`() {
    var members = Members()
    members.add(1, keeps: true)
    members.add(2)
    members.add(3)
    let subject = Digest256(members.network.peer(2).bytes)!
    _ = members.network.change(0) { [now = members.network.now] in $0.revoke(.peer, of: subject, at: now) }
    members.network.connect(2, 1)
    members.network.run(for: .seconds(1))
    #expect(members.network.isConnected(1, 2), "nobody has told it")
    members.network.connect(0, 1)
    members.network.run(for: .seconds(1))
    #expect(!members.network.isConnected(1, 2))
}

@Test func `certificates are renewed over the connection, before they end`() {
    var members = Members()
    members.add(1, keeps: true)
    members.add(2)
    members.network.connect(0, 1)
    members.network.run(for: .seconds(43_100))
    #expect(members.network.nodes[1].book?.credential.certificate.isRenewed == false)
    members.network.run(for: .seconds(200))
    #expect(members.network.nodes[1].book?.credential.certificate.isRenewed == true)
    members.network.run(for: .seconds(90_000))
    #expect(members.network.isConnected(0, 1), "a day and a half later")
}

@Test func `a certificate that nobody renews ends the connection`() {
    var members = Members()
    members.add(2)
    members.add(3)
    members.network.connect(0, 1)
    members.network.run(for: .seconds(86_000))
    #expect(members.network.isConnected(0, 1))
    members.network.run(for: .seconds(2_000))
    #expect(!members.network.isConnected(0, 1))
    #expect(members.network.nodes[0].refusals[.membership(.expired)] ?? 0 > 0)
}

@Test func `members that have another key of the pool and those that have not yet are connected meanwhile`() {
    var members = Members()
    members.add(1, keeps: true)
    members.add(2)
    members.add(3)
    members.network.connect(0, 1)
    members.network.run(for: .seconds(1))
    let key = [UInt8](repeating: 8, count: 32)
    let moment = members.network.now
    let isDone = members.network.change(0) { $0.rotate(to: key, overlap: 900, at: moment) }
    #expect(isDone == true)
    members.network.run(for: .seconds(1))
    let known = members.network.nodes[1].book?.poolKeys(at: members.network.now)
    #expect(known?.count == 2)
    members.network.connect(2, 1)
    members.network.run(for: .seconds(2))
    #expect(members.network.isConnected(1, 2))
    let heard = members.network.nodes[2].book?.poolKeys(at: members.network.now)
    #expect(heard?.last == key, "and heard of it")
    members.network.run(for: .seconds(1000))
    #expect(members.network.nodes[2].book?.poolKeys(at: members.network.now) == [key])
    #expect(members.network.isConnected(0, 1) && members.network.isConnected(1, 2))
}

@Test func `who was away while the pool's key was changed asks for the new one, and is connected`() {
    var members = Members()
    members.add(1, keeps: true)
    members.add(2)
    let key = [UInt8](repeating: 8, count: 32)
    _ = members.network.change(0) { [now = members.network.now] in $0.rotate(to: key, overlap: 900, at: now) }
    members.network.run(for: .seconds(1000))
    members.network.connect(1, 0)
    members.network.run(for: .seconds(20))
    #expect(members.network.nodes[1].book?.poolKeys(at: members.network.now) == [key])
    #expect(members.network.isConnected(0, 1))
    // A stranger to the pool learns nothing so.
    let stranger = members.network.add(9)
    members.network.connect(stranger, 0)
    members.network.run(for: .seconds(5))
    #expect(!members.network.isConnected(stranger, 0))
}

@Test func `many statements reach a member in portions, and all of them`() {
    var members = Members()
    members.add(1, keeps: true)
    members.add(2)
    for n in 0..<600 {
        let subject = sha256([UInt8(n / 256), UInt8(n % 256)])
        _ = members.network.change(0) { [now = members.network.now] in $0.revoke(.peer, of: subject, at: now) }
    }
    members.network.connect(0, 1)
    members.network.run(for: .seconds(30))
    #expect(members.network.isConnected(0, 1))
    #expect(members.network.nodes[1].book?.statements.count == 601)
}

/// An applicant and one end of a stream to a member, byte by byte.
private func apply(
    _ members: inout Members, _ credential: Credential, at node: Int, _ piece: Int = 1000
) -> Result<PoolGrant, PoolApplication.Failure>? {
    let now = members.network.now
    var application = PoolApplication(
        credential, at: [Network.endpoint(node)], limit: .seconds(10), now: now)
    let stream = ConnectionID(1000)
    var answer: Result<PoolGrant, PoolApplication.Failure>?
    var isOpen = true
    while let effect = application.poll() {
        switch effect {
        case .dial(let id, _): application.secured(id, peer: members.network.peer(node), at: now)
        case .write(_, let bytes):
            members.network.nodes[node].secured(
                stream, peer: credential.peer, exporter: [UInt8](repeating: 1, count: 32),
                remote: Endpoint(ipv4: 10, 0, 9, 9, port: 999), inbound: true, isTLSClient: false, at: now)
            var rest = bytes[...]
            while !rest.isEmpty {
                members.network.nodes[node].received(stream, Array(rest.prefix(piece)), at: now)
                rest = rest.dropFirst(piece)
            }
            while isOpen, let effect = members.network.nodes[node].poll() {
                if case .write(stream, let bytes) = effect { application.received(ConnectionID(1), bytes, at: now) }
                if case .close(stream) = effect { isOpen = false }
            }
        case .close: break
        case .ended(let result): answer = result
        }
    }
    #expect(!isOpen, "whoever applied is hung up on")
    return answer
}

@Test(arguments: [1, 7, 1000]) func `who applies with an invite gets the pool's key, once for a one-use invite`(
    _ piece: Int
) throws {
    var members = Members()
    members.add(2)
    let warrant = members.warrant(uses: 1)
    let grant = try #require(try apply(&members, members.credential(5, warrant), at: 0, piece)?.get())
    #expect(grant.key.key == [UInt8](repeating: 7, count: 32))
    #expect(apply(&members, members.credential(6, warrant, at: 3), at: 0) == .failure(.refused(.inviteUsedUp)))
    #expect(try apply(&members, members.credential(5, warrant), at: 0)?.get() != nil, "the same peer again")
}

@Test func `a use is heard of by the others, so that the invite is used up everywhere`() {
    var members = Members()
    members.add(2)
    members.add(3)
    members.network.connect(0, 1)
    members.network.run()
    let warrant = members.warrant(uses: 1)
    _ = apply(&members, members.credential(5, warrant), at: 0)
    members.network.run(for: .seconds(1))
    #expect(apply(&members, members.credential(6, warrant, at: 3), at: 1) == .failure(.refused(.inviteUsedUp)))
}

@Test func `in a pool that is its key nobody applies, and no statement is heard`() {
    var network = Network()
    network.add(1)
    let stream = ConnectionID(1000)
    network.nodes[0].secured(
        stream, peer: Network.id(9), exporter: [UInt8](repeating: 1, count: 32),
        remote: Endpoint(ipv4: 10, 0, 9, 9, port: 999), inbound: true, isTLSClient: false, at: network.now)
    network.nodes[0].received(stream, [8, 0, 1, 0, 5], at: network.now)
    #expect(network.nodes[0].refusals[.malformed] == 1)
}

@Test func `a member that was away when it was removed is shown the signed word, keeps it, and asks ever more rarely`()
{
    var members = Members()
    members.add(1, keeps: true)
    members.add(2)
    let removed = members.network.peer(1)
    let moment = members.network.now
    _ = members.network.change(0) { $0.revoke(.peer, of: Digest256(removed.bytes)!, at: moment) }
    #expect(members.network.nodes[1].book?.isRemoved == false && members.network.nodes[1].turnedAway == nil)
    members.network.connect(1, 0)
    members.network.run(for: .seconds(1))
    #expect(members.network.nodes[1].book?.isRemoved == true && members.network.nodes[1].turnedAway == .removed)
    // Whoever goes on telling it of the same address does not have it dial each time.
    for _ in 0..<120 {
        members.network.connect(1, 0, known: false)
        members.network.run(for: .seconds(1))
    }
    let refused = members.network.nodes[0].refusals[.membership(.removed)] ?? 0
    #expect((2...9).contains(refused), "\(refused) times in two minutes")
}
