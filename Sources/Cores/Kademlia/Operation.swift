import Primitives

/// One operation in progress: a walk in each address family, then, for some, stores.
struct Operation: Sendable {
    enum Kind: Sendable {
        case findNode
        case getPeers
        /// Port 0: the port that the datagram comes from.
        case announce(port: UInt16)
        /// The salt is empty for immutable items.
        case getItem(key: PeerID?, salt: [UInt8])
        case put(StoredItem, cas: Int64?)
        /// Internal: the own ID, to enter the network or to stay in it.
        case join
        /// Internal: some other part of the key space.
        case refresh

        var stores: Bool {
            switch self {
            case .announce, .put: true
            default: false
            }
        }
        var isInternal: Bool {
            switch self {
            case .join, .refresh: true
            default: false
            }
        }
    }

    let id: RequestID
    let kind: Kind
    let target: NodeID
    let startedAt: Instant
    var deadline: Instant
    var walks: [Walk] = []
    var peers: [PackedEndpoint] = []
    var best: StoredItem?
    /// How many nodes returned ``best``.
    var agreeing = 0
    /// On which paths they lie, as bits.
    var agreeingPaths: UInt64 = 0
    /// What lies within this fraction of the key space around the target belongs to its neighbourhood.
    var radius = 0.0
    var isStoring = false
    /// The owner was told; what remains is done for the record's sake.
    var isReported = false
    /// Nodes that were given the item.
    var replicasWanted = 0
    var confirmed = 0
    var storedHere = false
    var pending = 0
    var refusals: [KRPCError] = []

    /// A compare-and-swap that lost: the newest version is another than the one it was meant for.
    var isOvertaken: Bool {
        guard case .put(_, let cas?) = kind, let newest = best?.signed?.sequence else { return false }
        return newest != cas
    }
    var isConverged: Bool { walks.allSatisfy(\.isConverged) }
    var queries: Int { walks.reduce(0) { $0 + $1.queries } }
    var timeouts: Int { walks.reduce(0) { $0 + $1.timeouts } }
    var hops: Int {
        walks.reduce(0) { max($0, $1.candidates.reduce(0) { $1.state == .answered ? max($0, Int($1.hop) + 1) : $0 }) }
    }
}
