public import Digests
public import Primitives
import Wire

/// One node of the Mainline-compatible overlay (BEP 5, 32, 42, 43, 44, 51): answers others, keeps a routing table, and runs
/// walks for its owner. No socket and no clock: datagrams and time come in, datagrams and results go out.
///
/// The overlay is for meeting. What it returns are hints: endpoints that somebody announced, items whose signature was
/// checked but whose freshness nobody promises.
public struct Overlay: Core {
    /// What the driver must do or may tell people; drained after every input.
    public enum Effect: Sendable {
        case send([UInt8], to: Endpoint)
        /// An operation is over.
        case found(RequestID, LookupOutcome)
        /// Peers seen for the first time by a ``getPeers(_:at:)`` that still runs.
        case peersSeen(RequestID, [Endpoint], from: Endpoint?)
        /// The first contact answered (or, without bootstrap nodes, a network of one began). Again after ``isolated``.
        case joined(contacts: Int)
        /// Nobody answers yet; the next try is in `next`. Goes on for ever.
        case bootstrapRetrying(attempt: Int, next: Duration)
        /// Nobody has answered for a while: the network is gone, or we are.
        case isolated
        /// Where others see us, by vote.
        case externalEndpoint(Endpoint)
        /// Somebody asks whether it can be reached: dial it on TCP, then call ``Overlay/dialledBack(_:reached:at:)``. Send it
        /// the datagram too, from a socket that it never heard of.
        case dialBack(DialBack, Endpoint, datagram: DatagramProbe)
        /// The outcome of ``Overlay/checkReachability(port:isTranslated:at:)``.
        case reachability(ReachVotes)
        /// The node ID was changed to fit the external address (BEP 42); save it.
        case nodeIDChanged(NodeID)
    }

    public let configuration: OverlayConfiguration
    let identity: SigningKey
    private(set) var seal: PoolSeal?
    public internal(set) var nodeID: NodeID
    public internal(set) var counters = OverlayCounters()
    /// Read-only nodes ask but answer nothing (BEP 43). May change while running, when reachability is known.
    public var isReadOnly: Bool

    var effects = EffectQueue<Effect>()
    /// By ``Family``.
    var tables: [RoutingTable]
    var transactions: [UInt32: Transaction] = [:]
    var deadlines = TimedQueue<Deadline>()
    var operations: [RequestID: Operation] = [:]
    var requests: UInt64 = 0
    var kept: Kept
    var secrets: KeyedStream
    var generator: SeededGenerator
    var budgets: Budgets
    var size = SizeEstimate()
    var bootstrap: Bootstrap
    var outlook = Outlook()
    var attachment: Attachment

    /// What is kept for others, and what they show to have something kept.
    struct Kept: Sendable {
        var peers = PeerStore()
        var items = ItemStore()
        var tokens: TokenVault
    }
    /// What others tell by their answers: of themselves, and of how they see us.
    struct Outlook: Sendable {
        /// Of everybody who answers: the estimate for those who never did.
        var population = RoundTrip()
        var votes = AddressVote()
        var reachability = Reachability()
        var correspondents = Correspondents()
        var askers = RecentAskers()
    }
    /// Whether we are part of the network.
    struct Attachment: Sendable {
        enum Connection: Sendable { case starting, joined, isolated }
        var connection = Connection.starting
        var lastAnswer: Instant?
        var silentInRow = 0
        var selfLookupsDone = 0
        /// When the machine last woke from sleep, or the start.
        var lastResume: Instant
        /// The last input.
        var now: Instant
    }

    /// What a timer is for.
    enum Deadline: Sendable {
        /// The estimated round trip and four deviations are over.
        case patience(UInt32)
        /// Not even a late answer is welcome any more.
        case forget(UInt32)
        case operation(RequestID)
        case dialBack(DialBack)
        case bootstrap
        case selfLookup
        case maintenance
        case housekeeping
    }

    /// A query in flight.
    struct Transaction: Sendable {
        enum Purpose: Sendable {
            case walk(RequestID, Family)
            case store(RequestID, Family, attempt: Int)
            case ping
            case bootstrap(Int)
            /// Nobody waits for the answer.
            case courtesy
            /// Two steps of a vote on our own outlook.reachability.
            case reachToken
            case reach
            /// Two steps of having another dial somebody back.
            case helpToken(DialBack)
            case help(DialBack)
        }
        let address: PackedEndpoint
        let id: NodeID?
        let sentAt: Instant
        let purpose: Purpose
        var isLate = false
    }

    /// - Parameters:
    ///   - nodeID: from an earlier run; nil makes one from the identity.
    ///   - known: contacts from an earlier run; the first to answer joins us.
    public init(
        configuration: OverlayConfiguration, identity: SigningKey, nodeID: NodeID?, known: [Contact], at now: Instant
    ) {
        self.configuration = configuration
        self.identity = identity
        seal = configuration.poolKey.map(PoolSeal.init(key:))
        let id = nodeID ?? NodeID(hashing: identity.peerID.bytes)
        self.nodeID = id
        isReadOnly = configuration.readOnly
        tables = Family.allCases.map { _ in
            RoutingTable(own: id, k: configuration.k, firstBuckets: configuration.firstBuckets)
        }
        generator = SeededGenerator(seed: configuration.seed, stream: 0x6b61_6465_6d6c_6961)
        secrets = KeyedStream(key: hmacSHA256(key: identity.seed, Array("atoll/overlay/\(configuration.seed)".utf8)))
        kept = Kept(tokens: TokenVault(secret: secrets.bytes32(), at: now))
        budgets = Budgets(configuration.limits, at: now)
        bootstrap = Bootstrap(configuration.bootstrap, at: now + configuration.timers.bootstrapFirst)
        attachment = Attachment(lastResume: now, now: now)
        for contact in known.prefix(200) {
            let packed = PackedContact(contact)
            guard packed.address.isUsable else { continue }
            tables[packed.address.family.rawValue].remember(packed, at: now)
        }
        bootstrap.remembered = known.prefix(32).map(PackedContact.init)
        deadlines.push(.bootstrap, at: bootstrap.next)
        deadlines.push(.maintenance, at: now + .seconds(5))
        deadlines.push(.housekeeping, at: now + .seconds(60))
        if bootstrap.nodes.isEmpty, known.isEmpty {
            attachment.connection = .joined
            effects.push(.joined(contacts: 0))
        } else {
            _ = begin(.join, target: id, at: now)
        }
        deadlines.push(.selfLookup, at: now + configuration.timers.selfLookups[0])
    }

    /// Of a pool that keeps members: its keys, the one to seal with first.
    public mutating func use(poolKeys keys: [[UInt8]]) {
        guard seal != nil, !keys.isEmpty else { return }
        seal = PoolSeal(keys: keys)
    }

    /// A connection with somebody stands, or is being opened: its router may let in whoever is at that address.
    public mutating func spoke(to endpoint: Endpoint, at now: Instant) {
        outlook.correspondents.wrote(to: PackedEndpoint(endpoint), for: Correspondents.connectionLife, at: now)
    }

    // MARK: Driving

    public mutating func poll() -> Effect? { effects.pop() }

    public var nextWake: Instant? { deadlines.next }

    public mutating func wake(at now: Instant) {
        notice(now)
        while let deadline = deadlines.pop(due: now) {
            switch deadline {
            case .patience(let transaction): lostPatience(transaction, at: now)
            case .forget(let transaction): transactions[transaction] = nil
            case .operation(let request): advance(request, at: now)
            case .dialBack(let dial): dialledBack(dial, reached: false, at: now)
            case .bootstrap: tryBootstrap(at: now)
            case .selfLookup: lookUpSelf(at: now)
            case .maintenance: maintain(at: now)
            case .housekeeping: keepHouse(at: now)
            }
        }
        pruneDeadlines()
    }

    public mutating func receive(datagram: [UInt8], from source: Endpoint, at now: Instant) {
        notice(now)
        counters.received += 1
        counters.receivedBytes += datagram.count
        let address = PackedEndpoint(source)
        guard address.isUsable else {
            counters.malformed += 1
            return
        }
        do throws(DatagramRefusal) {
            let message = try KRPCMessage.decode(datagram, pool: seal)
            switch message.body {
            case .query(let query): answer(query, message, size: datagram.count, from: address, at: now)
            case .refusedQuery(let error): refuse(error, message, from: address, at: now)
            case .answer(let answer): accept(answer, message, from: address, at: now)
            case .error(let error): accept(error, message, from: address, at: now)
            }
        } catch {
            switch error {
            case .malformed: counters.malformed += 1
            case .wrongPool: counters.wrongPool += 1
            }
        }
        pruneDeadlines()
    }

    /// A timer that is far overdue means that the machine slept: then nobody was silent, we were.
    private mutating func notice(_ now: Instant) {
        attachment.now = now
        let threshold = configuration.timers.suspendThreshold
        guard let due = deadlines.next, now - due > threshold, now - attachment.lastResume > threshold else { return }
        attachment.lastResume = now
        transactions.removeAll()
        for request in operations.keys.sorted() {
            guard var operation = operations[request] else { continue }
            for index in operation.walks.indices { operation.walks[index].forgetFlights() }
            operation.pending = 0
            operation.deadline = now + configuration.timers.operation
            operations[request] = operation
            deadlines.push(.operation(request), at: now)
            deadlines.push(.operation(request), at: operation.deadline)
        }
        bootstrap.reset(at: now)
        deadlines.push(.bootstrap, at: now)
        _ = begin(.join, target: nodeID, at: now)
    }

    private mutating func pruneDeadlines() {
        while let (_, deadline) = deadlines.first {
            switch deadline {
            case .patience(let transaction), .forget(let transaction):
                guard transactions[transaction] == nil else { return }
            case .operation(let request):
                guard operations[request] == nil else { return }
            default: return
            }
            deadlines.popFirst()
        }
    }

    // MARK: What others may look at

    /// Whose signature this node's own items carry.
    public var publicKey: PeerID { identity.peerID }
    /// Everybody in the table who has answered, for saving.
    public var contacts: [Contact] {
        tables.flatMap { $0.entries.filter { $0.lastAnswer != nil }.map(\.contact.contact) }
    }
    public var contactCount: Int { tables.reduce(0) { $0 + $1.count } }
    /// Whether somebody answers.
    public var isJoined: Bool { attachment.connection == .joined }
    /// How many nodes the network has, judged by how close the closest are; nil while too few are known. One node's
    /// estimate is good to a factor of two.
    public func estimatedSize(at now: Instant) -> Double? { spacing(at: now).map { max(1, 1 / $0 - 1) } }

    /// The mean distance between neighbours in the key space.
    func spacing(at now: Instant) -> Double? {
        let near = tables[0].count >= tables[1].count ? tables[0] : tables[1]
        let closest = near.closest(to: nodeID, limit: configuration.k, provenOnly: true)
        return size.spacing(neighbourhood: closest.map { ($0.contact.id ^ nodeID).fraction }, at: now)
    }
    /// Where others see us; nil before anybody said so.
    public var externalEndpoint: Endpoint? { outlook.votes.winner?.endpoint }
    /// The smoothed round trip over everybody who answers; nil before the first answer.
    public var roundTrip: Duration? { outlook.population.isKnown ? outlook.population.estimate : nil }
    /// Info-hashes and items kept for others.
    public var stored: (infoHashes: Int, items: Int) { (kept.peers.hashCount, kept.items.count) }
    /// Changes when the neighbourhood does: a reason to look whether something should be stored with somebody new.
    package var generation: UInt64 { tables.reduce(0) { $0 &+ $1.generation } }
    package func neighbours(of target: NodeID) -> [NodeID] {
        tables.flatMap { $0.closest(to: target, limit: configuration.k, provenOnly: true).map(\.contact.id) }
    }
}
