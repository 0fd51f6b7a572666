/// Why somebody is not let into a pool that keeps members. Its number is what travels; texts are ours, never the other side's.
public enum PoolRefusal: UInt8, Error, CaseIterable, Hashable, Sendable {
    case noCredential = 1, otherPool, forged, notItsOwn, expired, clock, removed, inviteRevoked, inviteUsedUp,
        inviteExpired

    /// Of another peer, for whoever turned it away.
    public var ofAnother: String {
        switch self {
        case .noCredential: "it showed no membership certificate, which this pool asks for"
        case .otherPool: "its membership certificate is of another pool"
        case .forged: "its membership certificate is not signed as it should be"
        case .notItsOwn: "the membership certificate that it showed is another peer's"
        case .expired: "its membership certificate has expired"
        case .clock: "its clock and this machine's differ by more than a quarter of an hour"
        case .removed: "it was removed from the pool"
        case .inviteRevoked: "its invite was revoked"
        case .inviteUsedUp: "its invite was used up by others"
        case .inviteExpired: "its invite has expired"
        }
    }
    /// For whoever was turned away: what is wrong, and what to do.
    public var toItself: String {
        let ask = "Ask whoever keeps the pool for a new one (`atoll invite create`)"
        return switch self {
        case .noCredential:
            "this pool asks for membership certificates, and an invite without an issuing key has none. \(ask)"
        case .otherPool: "the invite is of another pool than the one that answers there. \(ask)"
        case .forged: "the invite was changed after it was made. \(ask)"
        case .notItsOwn: "the membership kept in this folder is another key's. Apply anew with a new invite"
        case .expired:
            "this machine's membership has expired. It is renewed as soon as a node that keeps the pool is reached; if none is, \(ask.prefix(1).lowercased() + ask.dropFirst())"
        case .clock: "this machine's clock is wrong by more than a quarter of an hour. Set it, then try again"
        case .removed:
            "this machine was removed from the pool by whoever keeps it. Only they can let it in again, with a new invite and a new identity"
        case .inviteRevoked: "the invite was revoked. \(ask)"
        case .inviteUsedUp: "the invite was used as often as it may be. \(ask)"
        case .inviteExpired: "the invite has expired. \(ask)"
        }
    }
}
