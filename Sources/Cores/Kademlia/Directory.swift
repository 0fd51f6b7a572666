public import Digests
public import Primitives

/// Who is where: a layer over ``Overlay`` that keeps things true instead of doing them once. Announcements and the own
/// capability record are renewed with jitter and given to new neighbours; watched topics are asked for again and again,
/// every second at first, and when somebody is missed, more seldom later.
///
/// A topic is any byte string (a job ID, say). It is kept under SHA-1(topic ‖ pool key), so that nodes which list what they
/// store (BEP 51) tell strangers nothing.
public struct Directory: Core {
    public enum Effect: Sendable {
        case send([UInt8], to: Endpoint)
        /// Endpoints under a watched topic, as one node has just told them (nil: as they were announced here). Told again each
        /// time, true or not: dial and see.
        case discovered(topic: [UInt8], [Endpoint], from: Endpoint?)
        /// An announcement lies at so many nodes; 0 means that another try follows.
        case announced(topic: [UInt8], replicas: Int)
        /// The capability record lies at so many nodes.
        case published(replicas: Int, refusals: [KRPCError])
        /// A fifth of the record's life is left: time for ``publish(_:wall:at:)`` with a later expiry.
        case recordExpiring
        /// Answer to ``fetchRecord(of:at:)``; nil when nobody has one.
        case record(PeerID, StoredItem?)
        case joined(contacts: Int)
        case bootstrapRetrying(attempt: Int, next: Duration)
        case isolated
        case externalEndpoint(Endpoint)
        case nodeIDChanged(NodeID)
        /// Dial this on TCP, then tell ``dialledBack(_:reached:at:)``; send the datagram from a socket of its own.
        case dialBack(DialBack, Endpoint, datagram: DatagramProbe)
        /// What those who were asked say; see ``Overlay/checkReachability(port:isTranslated:at:)``.
        case reachability(ReachVotes)
        /// An operation that the owner started on ``overlay`` itself.
        case found(RequestID, LookupOutcome)
    }

    /// The node below. Start operations on it through ``perform(at:_:)``.
    public private(set) var overlay: Overlay
    private let topicKey: [UInt8]
    private var effects = EffectQueue<Effect>()
    private var generator: SeededGenerator
    private var announcements: [Announcement] = []
    private var watches: [Watch] = []
    private var publication: Publication?
    private var fetches: [(request: RequestID, peer: PeerID)] = []
    private var seenGeneration: UInt64 = 0

    private struct Announcement {
        let topic: [UInt8]
        let infoHash: NodeID
        var port: UInt16
        var renewal: Renewal
    }
    private struct Publication {
        var item: StoredItem
        var renewal: Renewal
        var expiring: Instant?
    }
    private struct Watch {
        let topic: [UInt8]
        let infoHash: NodeID
        var request: RequestID?
        var next: Instant
        var interval: Duration
        var polls = 0
        let slowest: Duration
        /// When each was last told of; bounded.
        var known: [Endpoint: Instant] = [:]
        static let knownMax = 2048

        mutating func hurry(at now: Instant) {
            next = min(next, now)
            interval = .seconds(1)
            polls = 0
        }
    }

    public init(
        configuration: OverlayConfiguration, identity: SigningKey, nodeID: NodeID?, known: [Contact], at now: Instant
    ) {
        overlay = Overlay(configuration: configuration, identity: identity, nodeID: nodeID, known: known, at: now)
        topicKey = configuration.topicKey ?? configuration.poolKey ?? []
        generator = SeededGenerator(seed: configuration.seed, stream: 0x6469_7265_6374_6f72)
        drain(at: now)
    }

    /// Around a node that is there already; see ``Overlay/init(configuration:identity:nodeID:levels:roundTrip:at:)``.
    package init(overlay: Overlay, at now: Instant) {
        self.overlay = overlay
        topicKey = overlay.configuration.topicKey ?? overlay.configuration.poolKey ?? []
        generator = SeededGenerator(seed: overlay.configuration.seed, stream: 0x6469_7265_6374_6f72)
        seenGeneration = overlay.generation
        drain(at: now)
    }

    /// Whether strangers are kept out.
    public var isClosed: Bool { !topicKey.isEmpty }
    /// Where a topic is kept.
    public func infoHash(of topic: [UInt8]) -> NodeID { NodeID(hashing: topic + topicKey) }
    /// Everybody seen under a watched topic in the last five minutes, ascending; at most 2048.
    public func endpoints(under topic: [UInt8]) -> [Endpoint] {
        watches.first { $0.topic == topic }?.known.keys.sorted() ?? []
    }

    // MARK: Wishes

    /// Tries every bootstrap node now, whatever the back-off says: after a change of network. Not needed at the start.
    public mutating func join(at now: Instant) {
        overlay.rejoin(at: now)
        drain(at: now)
    }
    /// Announces `port` under a topic until ``withdraw(topic:)``. Port 0: the one our datagrams come from.
    public mutating func announce(topic: [UInt8], port: UInt16, at now: Instant) {
        withdraw(topic: topic)
        announcements.append(
            Announcement(topic: topic, infoHash: infoHash(of: topic), port: port, renewal: Renewal(at: now)))
        work(at: now)
    }
    /// Stops renewing; what others keep runs out within 32 minutes.
    public mutating func withdraw(topic: [UInt8]) { announcements.removeAll { $0.topic == topic } }

    /// What is announced at a port of ours is announced at another one from now on: others reach this machine there.
    public mutating func move(to port: UInt16, at now: Instant) {
        for index in announcements.indices where announcements[index].port != 0 {
            announcements[index].port = port
            announcements[index].renewal = Renewal(at: now)
        }
        work(at: now)
    }

    /// - Parameter slowest: so long between two questions when nothing is new.
    public mutating func watch(topic: [UInt8], slowest: Duration = .seconds(15), at now: Instant) {
        guard !watches.contains(where: { $0.topic == topic }) else { return }
        watches.append(
            Watch(topic: topic, infoHash: infoHash(of: topic), next: now, interval: .seconds(1), slowest: slowest))
        work(at: now)
    }
    /// Somebody is missed: a watched topic is asked for as often as at first.
    public mutating func hurry(topic: [UInt8], at now: Instant) {
        guard let index = watches.firstIndex(where: { $0.topic == topic }) else { return }
        watches[index].hurry(at: now)
        work(at: now)
    }
    public mutating func unwatch(topic: [UInt8]) { watches.removeAll { $0.topic == topic } }

    /// Signs and keeps publishing this peer's capability record. `wall` (seconds since 1970) becomes the sequence, so that a
    /// restarted peer is newer than it was.
    public mutating func publish(_ record: CapabilityRecord, wall: Int64, at now: Instant) {
        let sequence = max(wall, (publication?.item.signed?.sequence ?? -1) + 1)
        let item = overlay.sign(record.encoded, salt: CapabilityRecord.salt, sequence: sequence)
        let life = max(0, record.expires - wall)
        publication = Publication(
            item: item, renewal: Renewal(at: now), expiring: now + .seconds(life) * 4 / 5)
        work(at: now)
    }
    /// Asks others to dial us; see ``Overlay/checkReachability(port:isTranslated:at:)``.
    public mutating func checkReachability(port: UInt16, isTranslated: Bool, at now: Instant) {
        perform(at: now) { $0.checkReachability(port: port, isTranslated: isTranslated, at: now) }
    }
    public mutating func dialledBack(_ dial: DialBack, reached: Bool, at now: Instant) {
        perform(at: now) { $0.dialledBack(dial, reached: reached, at: now) }
    }
    /// Starts operations on the node below; they come back as ``Effect/found(_:_:)``.
    public mutating func perform<T>(at now: Instant, _ operation: (inout Overlay) -> T) -> T {
        defer { drain(at: now) }
        return operation(&overlay)
    }
    /// Asks for the capability record of another peer. Read it with ``CapabilityRecord/init(_:wall:)``.
    public mutating func fetchRecord(of peer: PeerID, at now: Instant) {
        let request = overlay.getMutable(key: peer, salt: CapabilityRecord.salt, at: now)
        fetches.append((request, peer))
        drain(at: now)
    }

    // MARK: Driving

    public mutating func receive(datagram: [UInt8], from source: Endpoint, at now: Instant) {
        overlay.receive(datagram: datagram, from: source, at: now)
        drain(at: now)
    }
    public mutating func wake(at now: Instant) {
        overlay.wake(at: now)
        drain(at: now)
        work(at: now)
    }
    public mutating func poll() -> Effect? { effects.pop() }

    public var nextWake: Instant? {
        var out = overlay.nextWake
        for announcement in announcements { out = earliest(out, announcement.renewal.next) }
        for watch in watches where watch.request == nil { out = earliest(out, watch.next) }
        out = earliest(out, publication?.renewal.next)
        return earliest(out, publication?.expiring)
    }

    /// Starts everything that is due.
    private mutating func work(at now: Instant) {
        for index in announcements.indices where announcements[index].renewal.isDue(now) {
            let neighbours = overlay.neighbours(of: announcements[index].infoHash)
            let request = overlay.announce(announcements[index].infoHash, port: announcements[index].port, at: now)
            announcements[index].renewal.begin(request, neighbours, at: now)
        }
        if publication?.renewal.isDue(now) ?? false {
            let neighbours = overlay.neighbours(of: publication!.item.target)
            let request = overlay.put(publication!.item, cas: nil, at: now)
            publication!.renewal.begin(request, neighbours, at: now)
        }
        if let expiring = publication?.expiring, expiring <= now {
            publication!.expiring = nil
            effects.push(.recordExpiring)
        }
        for index in watches.indices where watches[index].request == nil && watches[index].next <= now {
            watches[index].known = watches[index].known.filter { now - $0.value <= .seconds(300) }
            watches[index].request = overlay.getPeers(watches[index].infoHash, at: now)
        }
        drain(at: now)
    }

    /// The one place where the overlay's effects become ours.
    private mutating func drain(at now: Instant) {
        while let effect = overlay.poll() {
            switch effect {
            case .send(let bytes, let endpoint): effects.push(.send(bytes, to: endpoint))
            case .peersSeen(let request, let endpoints, let teller):
                saw(endpoints, from: teller, request, at: now)
            case .found(let request, let outcome): found(request, outcome, at: now)
            case .joined(let contacts):
                effects.push(.joined(contacts: contacts))
                for index in announcements.indices { announcements[index].renewal.hurry(at: now) }
                publication?.renewal.hurry(at: now)
                for index in watches.indices { watches[index].hurry(at: now) }
            case .bootstrapRetrying(let attempt, let next):
                effects.push(.bootstrapRetrying(attempt: attempt, next: next))
            case .isolated: effects.push(.isolated)
            case .externalEndpoint(let endpoint):
                effects.push(.externalEndpoint(endpoint))
                for index in announcements.indices { announcements[index].renewal.hurry(at: now) }
            case .nodeIDChanged(let id): effects.push(.nodeIDChanged(id))
            case .dialBack(let dial, let endpoint, let probe):
                effects.push(.dialBack(dial, endpoint, datagram: probe))
            case .reachability(let votes): effects.push(.reachability(votes))
            }
        }
        guard overlay.generation != seenGeneration else { return }
        seenGeneration = overlay.generation
        for index in announcements.indices {
            announcements[index].renewal.look(overlay.neighbours(of: announcements[index].infoHash), at: now)
        }
        if let target = publication?.item.target {
            publication!.renewal.look(overlay.neighbours(of: target), at: now)
        }
    }

    private mutating func saw(_ endpoints: [Endpoint], from teller: Endpoint?, _ request: RequestID, at now: Instant) {
        guard let index = watches.firstIndex(where: { $0.request == request }) else { return }
        let topic = watches[index].topic
        let others = endpoints.filter { !isMine($0, topic) }
        guard !others.isEmpty else { return }
        for endpoint in others {
            if watches[index].known[endpoint] == nil {
                guard watches[index].known.count < Watch.knownMax else { continue }
                watches[index].interval = .seconds(1)
            }
            watches[index].known[endpoint] = now
        }
        effects.push(.discovered(topic: topic, others, from: teller))
    }

    private func isMine(_ endpoint: Endpoint, _ topic: [UInt8]) -> Bool {
        guard let external = overlay.externalEndpoint, external.address == endpoint.address,
            let mine = announcements.first(where: { $0.topic == topic })
        else { return false }
        return endpoint.port == (mine.port == 0 ? external.port : mine.port)
    }

    private mutating func found(_ request: RequestID, _ outcome: LookupOutcome, at now: Instant) {
        if let index = watches.firstIndex(where: { $0.request == request }) {
            watches[index].request = nil
            watches[index].polls += 1
            let interval = watches[index].interval
            watches[index].next = now + jittered(interval)
            if watches[index].polls >= 5 { watches[index].interval = min(watches[index].slowest, interval * 3 / 2) }
        } else if let index = announcements.firstIndex(where: { $0.renewal.request == request }) {
            let replicas = replicas(outcome)
            announcements[index].renewal.end(replicas, jitter: generator.uniform(), at: now)
            effects.push(.announced(topic: announcements[index].topic, replicas: replicas))
        } else if publication?.renewal.request == request {
            publication!.renewal.end(replicas(outcome), jitter: generator.uniform(), at: now)
            guard case .stored(let replicas, let refusals) = outcome.result else { return }
            effects.push(.published(replicas: replicas, refusals: refusals))
        } else if let index = fetches.firstIndex(where: { $0.request == request }) {
            guard case .item(let item) = outcome.result else { return }
            effects.push(.record(fetches.remove(at: index).peer, item))
        } else {
            effects.push(.found(request, outcome))
        }
    }
    private func replicas(_ outcome: LookupOutcome) -> Int {
        if case .stored(let replicas, _) = outcome.result { replicas } else { 0 }
    }
    private mutating func jittered(_ duration: Duration) -> Duration {
        .nanoseconds(Int64(Double(duration.wholeNanoseconds) * (0.85 + 0.3 * generator.uniform())))
    }
}
