import Pools
import Primitives
import Testing

private let pool = PoolFixture()

@Test func `a new key of the pool is taken at once, used after a third of the overlap, and alone after all of it`() {
    var (keeper, member) = (pool.book(1, keeps: true), pool.book(2))
    let old = pool.poolKey.key
    let new = [UInt8](repeating: 8, count: 32)
    #expect(keeper.rotate(to: new, overlap: 900, at: pool.at(0)) == true)
    #expect(keeper.rotate(to: old, overlap: 900, at: pool.at(10)) == false, "one at a time")
    for statement in keeper.takeNews() {
        #expect(member.heed(statement, from: keeper.identity, at: pool.at(1)) == .taken)
    }
    for book in [keeper, member] {
        #expect(book.poolKeys(at: pool.at(299)) == [old, new])
        #expect(book.poolKeys(at: pool.at(300)) == [new, old])
        #expect(book.poolKeys(at: pool.at(899)) == [new, old])
        #expect(book.poolKeys(at: pool.at(900)) == [new])
    }
    var (one, two) = (pool.book(4, keeps: true), pool.book(5, keeps: true))
    let smaller = [UInt8](repeating: 6, count: 32)
    #expect(one.rotate(to: new, overlap: 900, at: pool.at(0)) == true)
    #expect(two.rotate(to: smaller, overlap: 900, at: pool.at(1)) == true)
    let (said, answered) = (one.takeNews(), two.takeNews())
    for statement in said { #expect(two.heed(statement, from: one.identity, at: pool.at(2)) == .taken) }
    for statement in answered { #expect(one.heed(statement, from: two.identity, at: pool.at(2)) == .taken) }
    #expect(one.digest == two.digest && one.poolKeys(at: pool.at(2)) == [old, smaller])
    var stranger = pool.book(3)
    let forged = PoolKey(serial: 9, key: new, from: 0, formerUntil: 0, by: pool.key(9))
    #expect(stranger.heed(.key(forged), from: member.identity, at: pool.at(1)) == .unsigned)
    #expect(member.heed(.key(pool.poolKey), from: keeper.identity, at: pool.at(2)) == .taken)
    #expect(member.poolKeys(at: pool.at(900)) == [new], "an old one that is said again changes nothing")
}
