public import Primitives

/// How one node of the overlay behaves. The defaults suit a peer on a home line.
public struct OverlayConfiguration: Sendable {
    /// 32 bytes, or nil for the open pool `mainline`, which speaks with every BEP 5 node.
    public var poolKey: [UInt8]?
    /// What topics are bound to in the place of the pool's key: where that may change, they stay.
    public var topicKey: [UInt8]?
    /// Nodes to start from. May be empty (a network of one), may include this node itself.
    public var bootstrap: [Endpoint]
    /// Ask, but answer nothing (BEP 43): for peers that cannot be reached from outside.
    public var readOnly: Bool
    /// Replicas of everything, and contacts of a deep bucket.
    public var k = 8
    /// Queries in flight while a walk is still approaching its target; more once it has arrived.
    public var alpha = 6
    /// Disjoint paths of a walk.
    public var paths = 3
    /// Confirmations after which a put or an announcement is reported as done.
    public var replicasNeeded = 5
    /// Equal answers after which a mutable get is reported as done.
    public var readQuorum = 3
    /// Capacities of the buckets for the far half of the key space, the quarter, …
    public var firstBuckets = [128, 64, 32, 16]
    /// Everything drawn at random follows from it and the identity. Drivers draw it from the operating system.
    public var seed: UInt64
    public var timers = Timers()
    public var limits = Limits()

    public struct Timers: Sendable {
        /// How long a node whose round trip nobody could estimate yet is waited for.
        public var firstTimeout = Duration.seconds(1)
        public var timeoutFloor = Duration.milliseconds(50)
        public var timeoutCeiling = Duration.seconds(3)
        /// After its timeout an answer is still welcome for this long.
        public var lateness = Duration.seconds(4)
        /// An operation ends by then whatever is still missing.
        public var operation = Duration.seconds(10)
        /// Every contact is asked something at least this often.
        public var refresh = Duration.seconds(900)
        /// Searches for the own ID after a join; the last one repeats.
        public var selfLookups: [Duration] = [
            .seconds(1), .seconds(3), .seconds(10), .seconds(30), .seconds(120), .seconds(600),
        ]
        public var bootstrapFirst = Duration.seconds(1)
        public var bootstrapCeiling = Duration.seconds(60)
        /// With contacts at hand, a bootstrap node outside the table is tried this often, so that networks that were
        /// started apart find together.
        public var bootstrapWhileJoined = Duration.seconds(300)
        /// A timer that fires this much late means that the machine slept.
        public var suspendThreshold = Duration.seconds(30)
        public init() {}
    }
    public struct Limits: Sendable {
        /// Queries a second from one /24 (/56), and how many may come at once.
        public var queriesPerPrefix = 1000.0
        public var queryBurst = 4000.0
        /// Bytes a second of full answers to unverified sources, per /24 (/56) and in all; the burst is ten times as much.
        public var unverifiedBytesPerPrefix = 8_000.0
        public var unverifiedBytes = 200_000.0
        /// Pings a second to nodes that were merely mentioned.
        public var curiosity = 10.0
        public init() {}
    }

    public init(poolKey: [UInt8]?, bootstrap: [Endpoint], readOnly: Bool = false, seed: UInt64) {
        self.poolKey = poolKey
        self.bootstrap = bootstrap
        self.readOnly = readOnly
        self.seed = seed
    }
}

/// What a node has seen since it started; every drop has a name.
public struct OverlayCounters: Hashable, Sendable {
    public var received = 0
    public var receivedBytes = 0
    public var sent = 0
    public var sentBytes = 0
    /// Not strict bencode, or no KRPC.
    public var malformed = 0
    /// Without this pool's seal.
    public var wrongPool = 0
    /// Answers nobody waited for, or from another address than the one asked.
    public var stray = 0
    public var queriesAnswered = 0
    /// Queries answered with an error.
    public var queriesRefused = 0
    /// Queries left unanswered because this node is read-only.
    public var queriesUnserved = 0
    /// Queries dropped because their prefix asked too much.
    public var flooded = 0
    /// Answers cut down because the source was unverified and its budget spent.
    public var curtailed = 0
    public var timeouts = 0
    /// Items with a wrong signature, or that do not belong to their target.
    public var forged = 0
    public init() {}
}

/// Names one operation; ends in exactly one ``Overlay/Effect/found(_:_:)``.
public struct RequestID: Hashable, Comparable, Sendable {
    public let number: UInt64
    package init(number: UInt64) { self.number = number }
    /// Names no operation.
    public static let none = RequestID(number: 0)
    public static func < (a: RequestID, b: RequestID) -> Bool { a.number < b.number }
}

/// How an operation ended, and what it took.
public struct LookupOutcome: Hashable, Sendable {
    public enum Result: Hashable, Sendable {
        /// The closest live nodes.
        case nodes([Contact])
        /// Everybody who was found to have announced, and is in no particular order.
        case peers([Endpoint])
        /// An announcement or item lies at this many nodes (this one included where it is among the closest). Refusals are
        /// the errors that others answered; 0 replicas means that it lies nowhere.
        case stored(replicas: Int, refusals: [KRPCError])
        /// The item with the highest sequence found, its signature checked; nil when nobody had it.
        case item(StoredItem?)
    }
    public var result: Result
    public var queries = 0
    public var timeouts = 0
    /// Steps from a contact in the own table to the farthest node that helped.
    public var hops = 0
    public var elapsed = Duration.zero
}
