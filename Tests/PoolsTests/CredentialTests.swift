import Digests
import Pools
import Primitives
import Testing
import Wire

private let pool = PoolFixture()
private let day = PoolFixture.day

private func why(
    _ credential: Credential, _ n: UInt8 = 2, authority: PeerID = pool.authority.peerID, at seconds: Int64 = 0
) -> PoolRefusal? {
    do throws(PoolRefusal) {
        try credential.check(authority: authority, of: pool.peer(n), at: PoolFixture.wall + seconds)
        return nil
    } catch {
        return error
    }
}

@Test func `a credential says the same after it was written and read`() throws {
    let credential = pool.credential(2, by: pool.warrant(uses: 3, role: .watcher))
    #expect(credential.encoded.count == 274 && Credential.encodedBytes == 274)
    #expect(try Credential(encoded: credential.encoded) == credential)
    #expect(credential.warrant.uses == 3 && credential.warrant.role == .watcher)
    #expect(why(credential) == nil)
}

@Test func `it is taken from its own peer, in its own pool, while it is in force`() {
    let credential = pool.credential(2)
    #expect(why(credential, 3) == .notItsOwn)
    #expect(why(credential, authority: pool.peer(9)) == .otherPool)
    #expect(why(credential, at: -Credential.skew) == nil && why(credential, at: -Credential.skew - 1) == .clock)
    #expect(why(credential, at: 14 * day + Credential.skew - 1) == nil)
    #expect(why(credential, at: 14 * day + Credential.skew) == .expired)
}

@Test func `a changed bit anywhere is found`() {
    let bytes = pool.credential(2).encoded
    for place in bytes.indices {
        var other = bytes
        other[place] ^= 1 << (place % 8)
        guard let credential = try? Credential(encoded: other) else { continue }
        #expect(why(credential) != nil, "bit of byte \(place)")
    }
}

@Test func `bytes that are too few, too many or absurd are refused and trap nothing`() {
    let bytes = pool.credential(2).encoded
    for count in [0, 1, 32, 152, 273] {
        #expect(throws: MalformedBytes.self) { try Credential(encoded: bytes.prefix(count)) }
    }
    #expect(throws: MalformedBytes.self) { try Credential(encoded: bytes + [0]) }
    var generator = SeededGenerator(seed: 5, stream: 0)
    for _ in 0..<2000 {
        var other = bytes
        for _ in 0..<Int.random(in: 1...6, using: &generator) {
            other[Int.random(in: other.indices, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
        }
        if let credential = try? Credential(encoded: other), credential.encoded != bytes {
            #expect(why(credential) != nil)
        }
        let statement =
            [UInt8.random(in: 0...5, using: &generator)] + other.prefix(Int.random(in: 0...274, using: &generator))
        if let read = try? PoolStatement(encoded: statement) { #expect(read.encoded == statement) }
        _ = try? PoolGrant(encoded: other)
    }
}

@Test func `an issuing key gives no longer life than its warrant, and nothing after its end`() {
    // Whoever has the issuing key may sign what it likes: made here as an honest program does, under another warrant.
    let short = pool.warrant(life: 1)
    let long = Credential(joining: pool.peer(2), by: pool.warrant(life: 30), pool.issuing(0), at: PoolFixture.wall)
    let forged = try? Credential(encoded: short.encoded + long.encoded.dropFirst(153))
    #expect(forged.flatMap { why($0) } == .forged)
    #expect(why(pool.credential(2, joined: 8 * day), at: 8 * day) == .inviteExpired)
    #expect(why(pool.credential(2, joined: -day)) == .forged, "before the invite was made")
}

@Test func `an invite's key signs for its own warrant only`() {
    let stranger = Credential(joining: pool.peer(2), by: pool.warrant(), pool.key(50), at: PoolFixture.wall)
    #expect(why(stranger) == .forged)
    let other = Warrant(
        by: pool.key(51), issuer: pool.issuing(0).peerID, role: .member, uses: nil, issued: PoolFixture.wall,
        expires: PoolFixture.wall + day, life: day)
    #expect(why(pool.credential(2, by: other)) == .otherPool)
}
