public import Primitives

/// Brings two peers together that are connected with this daemon and cannot dial each other: it tells each where it sees the other, waits until
/// both are ready, and lets both dial in one moment (the rendezvous of Ford, Srisuresh and Kegel 2005, §4; BEP 55).
///
/// Nobody's word decides where others send packets: endpoints are those that this daemon sees, of sessions that it has. One message leads to at
/// most one more to each of the two.
public struct Introducer: Sendable {
    public enum Effect: Hashable, Sendable {
        case send(CarriageMessage, to: PeerID)
    }
    private struct Pair: Hashable {
        let first: PeerID
        let second: PeerID
        init(_ a: PeerID, _ b: PeerID) { (first, second) = a < b ? (a, b) : (b, a) }
    }
    private struct Pending: Sendable {
        let starter: PeerID
        let number: UInt32
        let until: Instant
        var isAnswered = false
        var ready: Set<PeerID> = []
    }
    public struct Counts: Hashable, Sendable {
        /// Pairs that were told to dial.
        public var introduced = 0
        public var refused = 0
        public init() {}
    }
    /// Of directly connected peers: where they are seen, and where they say that they listen.
    private var places: [PeerID: [Endpoint]] = [:]
    private var pending: [Pair: Pending] = [:]
    /// Wishes of each peer in this minute.
    private var asked: [PeerID: Int] = [:]
    private var minute = Instant(nanoseconds: .min / 4)
    private var effects = EffectQueue<Effect>()
    public private(set) var counts = Counts()

    public static let wishesAMinute = 60
    private static let most = 256
    private static let life = Duration.seconds(10)

    public init() {}

    public var pendingCount: Int { pending.count }
    mutating func poll() -> Effect? { effects.pop() }
    var nextWake: Instant? { pending.values.map(\.until).min() }
    mutating func wake(at now: Instant) {
        for (pair, one) in pending where one.until <= now { pending[pair] = nil }
    }

    /// A direct session with a peer goes over a new connection.
    ///
    /// - Parameters:
    ///   - source: of its connection, if it was the one that dialled.
    ///   - endpoint: where it says that it listens.
    mutating func connected(_ peer: PeerID, source: Endpoint?, listening endpoint: Endpoint) {
        var all: [Endpoint] = []
        for place in [source ?? endpoint, endpoint] where place.isDialable && !place.isPrivate {
            if !all.contains(place) { all.append(place) }
        }
        places[peer] = all
    }
    mutating func lost(_ peer: PeerID) {
        places[peer] = nil
        asked[peer] = nil
        let gone = pending.filter { $0.key.first == peer || $0.key.second == peer }
        for (pair, one) in gone.sorted(by: { ($0.key.first, $0.key.second) < ($1.key.first, $1.key.second) }) {
            pending[pair] = nil
            let other = pair.first == peer ? pair.second : pair.first
            effects.push(.send(.unmet(peer, number: one.number, .nobody), to: other))
        }
    }

    /// - Returns: whether the message was one for an introducer: of a meeting that is arranged here.
    mutating func receive(_ message: CarriageMessage, from peer: PeerID, at now: Instant) -> Bool {
        switch message {
        case .meet(let wish) where wish.endpoints.isEmpty: wished(wish, by: peer, at: now)
        case .ready(let other, let number): ready(peer, other, number)
        case .unmet(let other, let number, let why):
            guard let one = pending[Pair(peer, other)], one.number == number else { return false }
            pending[Pair(peer, other)] = nil
            counts.refused += 1
            effects.push(.send(.unmet(peer, number: number, why), to: other))
        default: return false
        }
        return true
    }
    private mutating func wished(_ wish: Meeting, by peer: PeerID, at now: Instant) {
        let pair = Pair(peer, wish.peer)
        let old = pending[pair].flatMap { $0.until > now ? $0 : nil }
        if let old, old.starter != peer {
            guard old.number == wish.number, !old.isAnswered else {
                // Both have begun: what the smaller one began goes on.
                if old.starter > peer { begin(wish, by: peer, at: now) }
                return
            }
            pending[pair]!.isAnswered = true
            return pass(wish, of: peer)
        }
        begin(wish, by: peer, at: now)
    }
    private mutating func begin(_ wish: Meeting, by peer: PeerID, at now: Instant) {
        if let why = objection(to: wish, by: peer, at: now) {
            counts.refused += 1
            return effects.push(.send(.unmet(wish.peer, number: wish.number, why), to: peer))
        }
        pending[Pair(peer, wish.peer)] = Pending(starter: peer, number: wish.number, until: now + Self.life)
        pass(wish, of: peer)
    }
    private mutating func objection(to wish: Meeting, by peer: PeerID, at now: Instant) -> UnmetReason? {
        if now - minute >= .seconds(60) { (asked, minute) = ([:], now) }
        asked[peer, default: 0] += 1
        guard asked[peer]! <= Self.wishesAMinute, pending.count < Self.most || pending[Pair(peer, wish.peer)] != nil
        else { return .busy }
        guard wish.peer != peer, places[peer]?.isEmpty == false, places[wish.peer]?.isEmpty == false else {
            return .nobody
        }
        return nil
    }
    /// To the other one, with what is seen of the first.
    private mutating func pass(_ wish: Meeting, of peer: PeerID) {
        guard let endpoints = places[peer], !endpoints.isEmpty else { return }
        var seen = Meeting(peer, number: wish.number, mapping: wish.mapping, endpoints: endpoints)
        seen.datagrams = wish.datagrams
        effects.push(.send(.meet(seen), to: wish.peer))
    }
    private mutating func ready(_ peer: PeerID, _ other: PeerID, _ number: UInt32) {
        let pair = Pair(peer, other)
        guard let one = pending[pair], one.number == number, one.isAnswered else { return }
        pending[pair]!.ready.insert(peer)
        guard pending[pair]!.ready.count == 2 else { return }
        pending[pair] = nil
        counts.introduced += 1
        effects.push(.send(.go(other, number: number), to: peer))
        effects.push(.send(.go(peer, number: number), to: other))
    }
}
