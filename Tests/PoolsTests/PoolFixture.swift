import Digests
import Pools
import Primitives

/// A pool with its authority, and invites and members as needed.
struct PoolFixture {
    static let wall: Int64 = 1_700_000_000
    static let day: Int64 = 86_400
    let authority = SigningKey(seed: [UInt8](repeating: 1, count: 32))!
    let clock = WallClock(secondsAtZero: Self.wall)

    func key(_ n: UInt8) -> SigningKey { SigningKey(seed: [UInt8](repeating: n, count: 32))! }
    func peer(_ n: UInt8) -> PeerID { key(n).peerID }
    func at(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }
    /// The issuing key of invite `n`.
    func issuing(_ n: UInt8) -> SigningKey { key(100 + n) }
    func warrant(
        _ n: UInt8 = 0, uses: Int? = nil, role: MemberRole = .member, issued: Int64 = 0, days: Int64 = 7,
        life: Int64 = 14
    ) -> Warrant {
        Warrant(
            by: authority, issuer: issuing(n).peerID, role: role, uses: uses, issued: Self.wall + issued,
            expires: Self.wall + issued + days * Self.day, life: life * Self.day)
    }
    func credential(_ n: UInt8, by warrant: Warrant? = nil, invite: UInt8 = 0, joined: Int64 = 0) -> Credential {
        Credential(joining: peer(n), by: warrant ?? self.warrant(), issuing(invite), at: Self.wall + joined)
    }
    var poolKey: PoolKey {
        PoolKey(serial: 1, key: [UInt8](repeating: 7, count: 32), from: 0, formerUntil: 0, by: authority)
    }
    func book(_ n: UInt8, keeps: Bool = false, _ credential: Credential? = nil) -> PoolBook {
        PoolBook(
            credential: credential ?? self.credential(n), key: poolKey, authorityKey: keeps ? authority : nil,
            wall: clock)
    }
}
