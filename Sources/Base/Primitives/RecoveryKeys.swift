/// Keys whose owners may found a job anew in the place of its root key, when so many of them agree.
public struct RecoveryKeys: Hashable, Sendable {
    /// More are no manifest's.
    public static let most = 16
    public let needed: Int
    /// Ascending.
    public let keys: [PeerID]

    /// Nil where more are needed than there are, none is, there are too many, or one is there twice.
    public init?(needed: Int, of keys: [PeerID]) {
        guard needed >= 1, needed <= keys.count, keys.count <= Self.most, Set(keys).count == keys.count else {
            return nil
        }
        self.needed = needed
        self.keys = keys.sorted()
    }
}
