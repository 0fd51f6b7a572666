public import Messages
public import Primitives
import Record

/// How a peer stands towards the job.
public enum Standing: Hashable, Sendable {
    /// Connected; asked what it can do.
    case met
    /// It does not work for us, or cannot; why.
    case declined(String)
    /// It took the offer, and waits to be written into the log.
    case accepted
    /// In the log, and present.
    case joined
    /// Given up, with the reason; it may come back.
    case lost(String)
}

/// Who is there. Standings change here and nowhere else; whether a peer is a member is what the log says.
public struct Roster: Sendable {
    public struct Peer: Sendable {
        public let peer: PeerID
        public internal(set) var endpoint: Endpoint
        public internal(set) var name: String
        public internal(set) var capability: Capability?
        public internal(set) var standing = Standing.met
        public internal(set) var lastHeard: Instant
        public internal(set) var heartbeat = Heartbeat()
        public internal(set) var readiness = Readiness.fetchingText
        /// Since when its readiness, or the progress towards it, has not changed.
        public internal(set) var idleSince: Instant
        /// The least of its round trips to here.
        public internal(set) var roundTrip: Duration?
        var askedAgain: Instant?

        public var isJoined: Bool { standing == .joined }
        /// Whether the planner may count on it.
        public var isPlannable: Bool { isJoined && capability != nil && readiness.hasText }
        var mayJoin: Bool {
            switch standing {
            case .met, .declined, .lost: true
            case .accepted, .joined: false
            }
        }
    }

    private var peers: [PeerID: Peer] = [:]
    /// In order of arrival, which orders what is said to them.
    public private(set) var order: [PeerID] = []
    /// When somebody accepted last.
    private(set) var lastArrival: Instant
    /// When somebody new was met last.
    private(set) var lastMet: Instant
    /// When this process last looked: after a longer pause it was asleep itself, and nobody is blamed for that.
    private var lastLook: Instant
    /// More peers than this are not remembered; who is lost or has declined goes first.
    static let most = 4096

    init(at now: Instant) {
        lastArrival = now
        lastMet = now
        lastLook = now
    }

    public subscript(_ peer: PeerID) -> Peer? { peers[peer] }
    public var all: [Peer] { order.compactMap { peers[$0] } }
    public var joined: [Peer] { all.filter(\.isJoined) }
    public var accepted: [Peer] { all.filter { $0.standing == .accepted } }
    public func isJoined(_ peer: PeerID) -> Bool { peers[peer]?.isJoined ?? false }
    public func name(of peer: PeerID) -> String { peers[peer]?.name ?? peer.short }
    var declined: [(name: String, why: String)] {
        all.compactMap { peer in if case .declined(let why) = peer.standing { (peer.name, why) } else { nil } }
    }

    // MARK: changes

    /// - Returns: whether it is to be asked what it can do.
    mutating func met(_ peer: PeerID, at endpoint: Endpoint, now: Instant) -> Bool {
        if peers[peer] == nil {
            guard makeRoom() else { return false }
            order.append(peer)
            lastMet = now
            peers[peer] = Peer(peer: peer, endpoint: endpoint, name: peer.short, lastHeard: now, idleSince: now)
            return true
        }
        peers[peer]!.endpoint = endpoint
        peers[peer]!.lastHeard = now
        return peers[peer]!.mayJoin
    }
    private mutating func makeRoom() -> Bool {
        guard order.count >= Self.most else { return true }
        let gone = order.firstIndex { peer in
            switch peers[peer]!.standing {
            case .lost, .declined, .met: true
            case .accepted, .joined: false
            }
        }
        guard let gone else { return false }
        peers[order.remove(at: gone)] = nil
        return true
    }
    mutating func heard(_ peer: PeerID, at now: Instant) { peers[peer]?.lastHeard = now }

    /// It says what it can do: a name of its own, different from all others.
    mutating func says(_ capability: Capability, _ peer: PeerID) {
        let isTaken = capability.name.isEmpty || peers.values.contains { $0.peer != peer && $0.name == capability.name }
        peers[peer]?.capability = capability
        peers[peer]?.name =
            isTaken ? "\(capability.name.isEmpty ? "peer" : capability.name)-\(peer.short)" : capability.name
    }
    mutating func declines(_ peer: PeerID, why: String) { peers[peer]?.standing = .declined(why) }
    /// - Returns: whether that is news.
    mutating func accepts(_ peer: PeerID, at now: Instant) -> Bool {
        guard let known = peers[peer], known.mayJoin, known.capability != nil else { return false }
        peers[peer]!.standing = .accepted
        peers[peer]!.readiness = .fetchingText
        peers[peer]!.idleSince = now
        lastArrival = now
        return true
    }
    /// The log has it.
    mutating func joins(_ peer: PeerID) { peers[peer]?.standing = .joined }
    mutating func loses(_ peer: PeerID, why: String) { peers[peer]?.standing = .lost(why) }

    mutating func beats(_ heartbeat: Heartbeat, _ peer: PeerID, at now: Instant) {
        if peers[peer]?.heartbeat.activity != heartbeat.activity { peers[peer]?.idleSince = now }
        peers[peer]?.heartbeat = heartbeat
    }
    mutating func isReady(_ readiness: Readiness, _ peer: PeerID, at now: Instant) {
        peers[peer]?.readiness = readiness
        peers[peer]?.idleSince = now
    }
    mutating func trip(_ time: Duration, _ peer: PeerID) {
        guard let known = peers[peer] else { return }
        peers[peer]!.roundTrip = min(known.roundTrip ?? time, time)
    }
    /// - Returns: whether to ask a peer that was given up, but still speaks, to join again.
    mutating func mayAskAgain(_ peer: PeerID, at now: Instant) -> Bool {
        guard let known = peers[peer], case .lost = known.standing else { return false }
        guard known.askedAgain.map({ now - $0 >= .seconds(5) }) ?? true else { return false }
        peers[peer]!.askedAgain = now
        return true
    }

    // MARK: silence

    /// Who hears nobody suspects itself first: when all members are silent it is our own line.
    static let isolation = Duration.seconds(120)
    /// A pause of this process that says more about it than about others. It has something to do at least every two seconds.
    private static let nap = Duration.milliseconds(3500)

    /// Whether somebody would be given up for silence while all others are silent, too. They are heard every second, but not
    /// at the same moments: so half of the time counts for them.
    func isIsolated(silence: Duration, at now: Instant) -> Bool {
        let joined = self.joined
        return joined.contains { now - $0.lastHeard > silence }
            && joined.allSatisfy { now - $0.lastHeard > silence / 2 }
    }
    /// Members of which nothing has been heard for too long.
    func silent(for silence: Duration, at now: Instant) -> [PeerID] {
        let limit = isIsolated(silence: silence, at: now) ? Self.isolation : silence
        return joined.filter { now - $0.lastHeard > limit }.map(\.peer)
    }
    /// When the next of them is due.
    func nextSilence(_ silence: Duration, at now: Instant) -> Instant? {
        let limit = isIsolated(silence: silence, at: now) ? Self.isolation : silence
        return joined.map(\.lastHeard).min().map { $0 + limit + .milliseconds(1) }
    }
    /// Called at every input: after a pause of our own everybody gets time to be heard again.
    ///
    /// - Returns: how long this process slept, if it did.
    mutating func look(at now: Instant) -> Duration? {
        defer { lastLook = now }
        guard now - lastLook > Self.nap else { return nil }
        for peer in order where peers[peer]!.isJoined && peers[peer]!.lastHeard < now { peers[peer]!.lastHeard = now }
        return now - lastLook
    }
    /// One of them is heard again after all were silent: the others get time, too.
    mutating func forgive(at now: Instant) {
        for peer in order where peers[peer]!.isJoined { peers[peer]!.lastHeard = now }
    }
}
