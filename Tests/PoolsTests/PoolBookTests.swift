import Digests
import Pools
import Primitives
import Testing
import Wire

private let pool = PoolFixture()
private let day = PoolFixture.day
private func subject(_ peer: PeerID) -> Digest256 { Digest256(peer.bytes)! }

@Test func `members of one pool let each other in, and nobody else`() {
    var book = pool.book(2)
    #expect(book.judge(pool.credential(3), of: pool.peer(3), at: pool.at(0)) == nil)
    #expect(book.judge(nil, of: pool.peer(3), at: pool.at(0)) == .noCredential)
    #expect(book.judge(pool.credential(3), of: pool.peer(4), at: pool.at(0)) == .notItsOwn)
    #expect(book.judge(pool.credential(3), of: pool.peer(3), at: pool.at(20 * day)) == .expired)
}

@Test func `an invite for two lets two in, the same ones again, and no third`() {
    var book = pool.book(2)
    let warrant = pool.warrant(1, uses: 2)
    for n: UInt8 in [10, 11, 10] {
        let shown = pool.credential(n, by: warrant, invite: 1)
        #expect((try? book.apply(shown, of: pool.peer(n), at: pool.at(0)).get()) != nil, "\(n)")
    }
    let third = pool.credential(12, by: warrant, invite: 1, joined: 5)
    #expect(book.apply(third, of: pool.peer(12), at: pool.at(5)) == .failure(.inviteUsedUp))
    #expect(book.judge(third, of: pool.peer(12), at: pool.at(5)) == .inviteUsedUp, "nor by another door")
    // Both may come for the pool's key again later on.
    let again = pool.credential(11, by: warrant, invite: 1)
    #expect((try? book.apply(again, of: pool.peer(11), at: pool.at(2 * day)).get()) != nil)
}

@Test func `a grant has the pool's key, and proves who gives it`() throws {
    var book = pool.book(2)
    let grant = try book.apply(pool.credential(3), of: pool.peer(3), at: pool.at(0)).get()
    #expect(grant.encoded.count == 398)
    let read = try PoolGrant(encoded: grant.encoded)
    #expect(read == grant && read.key == pool.poolKey && read.wall == PoolFixture.wall)
    try read.check(authority: pool.authority.peerID, from: pool.peer(2))
    #expect(throws: PoolRefusal.notItsOwn) { try read.check(authority: pool.authority.peerID, from: pool.peer(5)) }
    #expect(throws: PoolRefusal.otherPool) { try read.check(authority: pool.peer(9), from: pool.peer(2)) }
    #expect(!"\(grant.key)".contains("0707"), "a key does not print its secret")
}

@Test func `who applies with a wrong clock or an old invite hears what is wrong`() {
    var book = pool.book(2)
    let warrant = pool.warrant(1, uses: 2)
    let early = pool.credential(3, by: warrant, invite: 1)
    #expect(book.apply(early, of: pool.peer(3), at: pool.at(3600)) == .failure(.clock))
    #expect(book.joined(by: warrant.id).isEmpty, "and no use of it is gone")
    #expect(book.apply(pool.credential(3, joined: 3600), of: pool.peer(3), at: pool.at(0)) == .failure(.clock))
    let late = pool.credential(3, joined: 7 * day - 60)
    #expect(book.apply(late, of: pool.peer(3), at: pool.at(8 * day)) == .failure(.inviteExpired))
    for why in PoolRefusal.allCases { #expect(!why.ofAnother.isEmpty && why.toItself.count > 30) }
}

@Test func `of two that use one invite at once on two nodes, both nodes keep the same one`() {
    let warrant = pool.warrant(1, uses: 1)
    for (first, second) in [(Int64(3), Int64(4)), (4, 3), (4, 4)] {
        let a = pool.credential(10, by: warrant, invite: 1, joined: first)
        let b = pool.credential(11, by: warrant, invite: 1, joined: second)
        var (one, two) = (pool.book(2), pool.book(3))
        #expect((try? one.apply(a, of: a.peer, at: pool.at(5)).get()) != nil)
        #expect((try? two.apply(b, of: b.peer, at: pool.at(5)).get()) != nil)
        one.entered(a.peer, a)
        two.entered(b.peer, b)
        for statement in two.statements { _ = one.heed(statement, from: pool.peer(3), at: pool.at(6)) }
        for statement in one.statements { _ = two.heed(statement, from: pool.peer(2), at: pool.at(6)) }
        #expect(one.digest == two.digest)
        let out = (one.inspect(at: pool.at(6)) + two.inspect(at: pool.at(6))).map(\.why)
        #expect(out == [.inviteUsedUp], "exactly one of them is turned out")
        let winner = first < second || first == second && a.peer < b.peer ? a : b
        #expect(one.judge(winner, of: winner.peer, at: pool.at(6)) == nil)
    }
}

@Test func `a certificate is renewed at half of its life, by whoever keeps the pool, while its owner is there`() {
    var (keeper, member) = (pool.book(1, keeps: true), pool.book(2))
    keeper.entered(member.identity, member.credential)
    #expect(keeper.renewals(at: pool.at(7 * day - 1)).isEmpty)
    #expect(!member.wantsRenewal(at: pool.at(7 * day - 1)))
    #expect(member.wantsRenewal(at: pool.at(7 * day)))
    let renewals = keeper.renewals(at: pool.at(7 * day))
    #expect(renewals.map(\.peer) == [member.identity])
    #expect(keeper.renewals(at: pool.at(7 * day)).isEmpty, "once")
    #expect(member.heed(renewals[0].statement, from: keeper.identity, at: pool.at(7 * day)) == .taken)
    #expect(!member.wantsRenewal(at: pool.at(7 * day)) && member.isChanged)
    #expect(member.takeNews() == [.credential(member.credential)], "it shows it to those it knows")
    #expect(member.credential.certificate.expires == PoolFixture.wall + 21 * day)
    #expect(member.credential.certificate.joined == PoolFixture.wall)
    var other = pool.book(3)
    #expect(other.judge(member.credential, of: member.identity, at: pool.at(20 * day)) == nil)
    #expect(keeper.credential.certificate.isRenewed, "its own, too")
}

@Test func `whoever slept past the end of its certificate is let in by who keeps the pool, and nobody else`() {
    let asleep = pool.credential(3)
    var (keeper, member) = (pool.book(1, keeps: true), pool.book(2))
    #expect(member.judge(asleep, of: asleep.peer, at: pool.at(60 * day)) == .expired)
    #expect(keeper.judge(asleep, of: asleep.peer, at: pool.at(60 * day)) == nil)
    keeper.entered(asleep.peer, asleep)
    let renewed = keeper.renewals(at: pool.at(60 * day))
    guard case .credential(let next)? = renewed.first?.statement else { return #expect(Bool(false), "no renewal") }
    #expect(member.judge(next, of: next.peer, at: pool.at(60 * day)) == nil)
    #expect(keeper.judge(asleep, of: asleep.peer, at: pool.at(400 * day)) == .expired, "not for ever")
}

@Test func `nobody renews but who keeps the pool, and a member takes no certificate that is not better`() {
    var member = pool.book(2)
    member.entered(pool.peer(3), pool.credential(3))
    #expect(member.renewals(at: pool.at(10 * day)).isEmpty)
    let before = member.credential
    #expect(member.heed(.credential(pool.credential(2, joined: 60)), from: pool.peer(3), at: pool.at(60)) == .taken)
    #expect(member.credential == before, "a first certificate is not a renewal")
}

@Test func `the book is the same after it was written and read, and a damaged one is refused`() throws {
    var book = pool.book(1, keeps: true)
    _ = book.apply(pool.credential(10, by: pool.warrant(1, uses: 2), invite: 1), of: pool.peer(10), at: pool.at(0))
    #expect(book.revoke(.peer, of: subject(pool.peer(5)), at: pool.at(1)) == true)
    let bytes = book.encoded
    var read = try PoolBook(encoded: bytes, identity: book.identity, authorityKey: pool.authority, wall: pool.clock)
    #expect(
        read.digest == book.digest && read.credential == book.credential && !read.isChanged && read.takeNews().isEmpty)
    #expect(read.judge(pool.credential(5), of: pool.peer(5), at: pool.at(2)) == .removed, "a restart forgets nobody")
    for place in stride(from: 0, to: bytes.count, by: 7) {
        var other = bytes
        other[place] ^= 16
        #expect(throws: MalformedBytes.self) {
            try PoolBook(encoded: other, identity: book.identity, authorityKey: nil, wall: pool.clock)
        }
    }
    #expect(throws: MalformedBytes.self) {
        try PoolBook(encoded: bytes, identity: pool.peer(9), authorityKey: nil, wall: pool.clock)
    }
}
