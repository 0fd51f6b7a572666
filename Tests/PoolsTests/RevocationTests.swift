import Digests
import Pools
import Primitives
import Testing
import Wire

private let pool = PoolFixture()
private let day = PoolFixture.day
private func subject(_ peer: PeerID) -> Digest256 { Digest256(peer.bytes)! }

@Test func `a removed peer stays out, with whatever certificate it comes`() {
    var (keeper, member) = (pool.book(1, keeps: true), pool.book(2))
    let shown = pool.credential(3)
    member.entered(shown.peer, shown)
    #expect(keeper.revoke(.peer, of: subject(shown.peer), at: pool.at(10)) == true)
    #expect(keeper.revoke(.peer, of: subject(shown.peer), at: pool.at(11)) == false, "once is enough")
    for statement in keeper.takeNews() {
        #expect(member.heed(statement, from: keeper.identity, at: pool.at(11)) == .taken)
    }
    #expect(member.inspect(at: pool.at(11)).map(\.why) == [.removed])
    #expect(member.takeNews().count == 1, "it passes it on")
    let anew = pool.credential(3, joined: 100)
    #expect(member.apply(anew, of: anew.peer, at: pool.at(100)) == .failure(.removed))
    #expect(keeper.judge(shown, of: shown.peer, at: pool.at(12)) == .removed)
    keeper.entered(shown.peer, shown)
    #expect(keeper.renewals(at: pool.at(8 * day)).allSatisfy { $0.peer != shown.peer })
}

@Test func `a revoked invite lets nobody else in, and with its members nobody at all`() {
    var keeper = pool.book(1, keeps: true)
    let warrant = pool.warrant(1)
    let early = pool.credential(3, by: warrant, invite: 1)
    let late = pool.credential(4, by: warrant, invite: 1, joined: 2000)
    #expect(keeper.revoke(.invite, of: warrant.id, at: pool.at(1000)) == true)
    #expect(keeper.judge(early, of: early.peer, at: pool.at(2000)) == nil)
    #expect(keeper.judge(late, of: late.peer, at: pool.at(2000)) == .inviteRevoked)
    #expect(keeper.apply(late, of: late.peer, at: pool.at(2000)) == .failure(.inviteRevoked))
    #expect(keeper.revoke(.inviteAndMembers, of: warrant.id, at: pool.at(3000)) == true)
    #expect(keeper.judge(early, of: early.peer, at: pool.at(3000)) == .removed)
}

@Test func `only the authority revokes, and only in its own pool`() {
    var member = pool.book(2)
    let forged = Revocation(.peer, of: subject(pool.peer(3)), at: PoolFixture.wall, by: pool.key(9))
    #expect(member.heed(.revocation(forged), from: pool.peer(9), at: pool.at(0)) == .unsigned)
    #expect(member.takeNews().isEmpty)
    #expect(member.refused == 1 && !member.isChanged)
    var same = member
    #expect(
        same.revoke(.peer, of: subject(pool.peer(3)), at: pool.at(0)) == false, "a member that does not keep the pool")
}

@Test func `of two that revoke one thing at once the earlier word stays, wherever and however often it is said`() {
    let words = [10, 20].map {
        Revocation(.invite, of: pool.warrant(1).id, at: PoolFixture.wall + $0, by: pool.authority)
    }
    var digests: [Digest256] = []
    for order in [[0, 1], [1, 0], [0, 1, 0, 1], [1, 1, 0, 0, 1]] {
        var book = pool.book(2)
        for n in order { #expect(book.heed(.revocation(words[n]), from: pool.peer(3), at: pool.at(30)) == .taken) }
        digests.append(book.digest)
        #expect(book.statements.count == 2, "the key and one revocation")
    }
    #expect(Set(digests).count == 1)
}

/// Members that gossip as connections do: a digest when two meet, everything where they differ, news at once. Messages are lost with the
/// connection, which begins anew.
private struct Gossip {
    var books: [PoolBook]
    var links: Set<[Int]> = []
    var generator: SeededGenerator
    var moment: Int64 = 0
    var messages = 0
    mutating func meet(_ a: Int, _ b: Int) {
        links.insert([min(a, b), max(a, b)])
        for (from, to) in [(a, b), (b, a)] { say(.digest(books[from].digest), from, to, depth: 0) }
    }
    mutating func say(_ statement: PoolStatement, _ from: Int, _ to: Int, depth: Int) {
        messages += 1
        guard let read = try? PoolStatement(encoded: statement.encoded) else {
            return #expect(Bool(false), "unreadable")
        }
        switch books[to].heed(read, from: books[from].identity, at: pool.at(moment)) {
        case .unsigned: #expect(Bool(false), "unsigned")
        case .differs: for other in books[to].statements { say(other, to, from, depth: depth + 1) }
        case .taken: spread(to, depth: depth + 1)
        }
    }
    mutating func spread(_ from: Int, depth: Int = 0) {
        for statement in books[from].takeNews() {
            for link in links.sorted(by: { $0.lexicographicallyPrecedes($1) }) where link.contains(from) {
                say(statement, from, link[0] == from ? link[1] : link[0], depth: depth + 1)
            }
        }
    }
}

@Test(arguments: 1...8) func `members that meet at random come to know the same`(_ seed: UInt64) {
    var gossip = Gossip(
        books: (0..<9).map { pool.book(UInt8(20 + $0), keeps: $0 < 2) },
        generator: SeededGenerator(seed: seed, stream: 0))
    let warrant = pool.warrant(3, uses: 2)
    for step in 0..<120 {
        gossip.moment += 1
        let n = Int.random(in: 0..<9, using: &gossip.generator)
        switch Int.random(in: 0..<10, using: &gossip.generator) {
        case 0:
            let keeper = Int.random(in: 0..<2, using: &gossip.generator)
            _ = gossip.books[keeper].revoke(.peer, of: subject(pool.peer(UInt8(60 + n))), at: pool.at(gossip.moment))
            gossip.spread(keeper)
        case 1:
            let shown = pool.credential(UInt8(80 + n), by: warrant, invite: 3, joined: gossip.moment)
            _ = gossip.books[n].apply(shown, of: shown.peer, at: pool.at(gossip.moment))
            gossip.spread(n)
        case 2 where step == 60:
            _ = gossip.books[0].rotate(to: [UInt8](repeating: 9, count: 32), overlap: 900, at: pool.at(60))
        case 3, 4: gossip.links = gossip.links.filter { _ in Bool.random(using: &gossip.generator) }
        default: gossip.meet(n, (n + 1 + Int.random(in: 0..<8, using: &gossip.generator)) % 9)
        }
    }
    // Enough that everybody has a way to everybody.
    for n in 0..<9 { gossip.meet(n, (n + 1) % 9) }
    #expect(Set(gossip.books.indices.map { gossip.books[$0].digest }).count == 1)
    #expect(gossip.messages < 20_000)
}
