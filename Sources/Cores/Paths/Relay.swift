public import Primitives

/// The carrying side of relayed circuits: who has a berth here, what passes, how fast, and how much a day.
///
/// It sees who talks to whom, sizes and times. What it carries is TLS between the ends. It holds at most ``RelayLimits/window`` of each
/// direction of a circuit: who sends more than the other end has granted breaks the rules, and the circuit with them. Circuits take turns, a
/// message each, at the owner's rate.
public struct Relay: Core {
    public enum Effect: Hashable, Sendable {
        case send(CarriageMessage, to: PeerID)
        /// ``carried`` is another list than before.
        case carriedChanged
    }
    private struct End: Hashable, Sendable {
        let peer: PeerID
        let leg: UInt32
    }
    private struct Circuit: Sendable {
        let ends: [End]
        /// From each end: pieces that wait for their turn, and bytes that the other has not taken.
        var waiting: [[[UInt8]]] = [[], []]
        var outstanding = [0, 0]
        var carried = 0
        /// This side has closed it: what it sent before is still passed on.
        var closed: Int?
        func other(_ side: Int) -> End { ends[1 - side] }
    }
    private struct Berth: Sendable {
        var until: Instant
        var leads: Bool
        let endpoint: Endpoint
    }
    private struct Turn: Hashable, Sendable {
        let circuit: Int
        let side: Int
    }
    /// What was carried and what was not.
    public struct Counts: Hashable, Sendable {
        public var bytes = 0
        public var circuits = 0
        public var refused = 0
        public var broken = 0
        public init() {}
    }

    public let limits: RelayLimits
    private let local: PeerID
    private var berths: [PeerID: Berth] = [:]
    private var circuits: [Int: Circuit] = [:]
    private var places: [End: (circuit: Int, side: Int)] = [:]
    private var opened = 0
    /// Legs given to each peer.
    private var given: [PeerID: UInt32] = [:]
    /// Openings of each peer in this minute.
    private var asked: [PeerID: Int] = [:]
    private var minute = Instant.zero
    private var turns: [Turn] = []
    private var readyAt = Instant(nanoseconds: .min / 4)
    private var today: (bytes: Int, until: Instant)
    private var effects = EffectQueue<Effect>()
    public private(set) var counts = Counts()
    /// Others can reach this daemon, and so it may be of use.
    public var isOpen = false

    /// Unused time of the rate that may be made up for.
    private static let burst = Duration.milliseconds(50)
    private static let day = Duration.seconds(86_400)

    public init(local: PeerID, limits: RelayLimits, at now: Instant) {
        self.local = local
        self.limits = limits
        today = (0, now + Self.day)
        minute = now
    }

    /// Everybody with a berth, ascending.
    public var carried: [CarriedPeer] {
        berths.keys.sorted().map { CarriedPeer($0, leads: berths[$0]!.leads) }
    }
    public var circuitCount: Int { circuits.count }
    /// Bytes that wait here for their turn.
    public var waitingBytes: Int {
        circuits.values.reduce(0) { $0 + $1.waiting.joined().reduce(0) { $0 + $1.count } }
    }
    private var left: Int { max(0, limits.daily.bytes - today.bytes) }
    private var isWilling: Bool { isOpen && limits.isWilling }

    public mutating func poll() -> Effect? { effects.pop() }
    public var nextWake: Instant? {
        let expiry = berths.values.map(\.until).min()
        return turns.isEmpty ? expiry : earliest(expiry, readyAt)
    }
    public mutating func wake(at now: Instant) {
        for peer in berths.keys.sorted() where berths[peer]!.until <= now { leave(peer) }
        pass(at: now)
    }

    // MARK: inputs

    /// - Parameter seen: where the peer can be dialled, as far as is known here.
    public mutating func receive(_ message: CarriageMessage, from peer: PeerID, seen: Endpoint, at now: Instant) {
        if now >= today.until { today = (0, now + Self.day) }
        switch message {
        case .reserve(let leads): reserve(peer, leads, seen, at: now)
        case .release: leave(peer)
        case .open(let leg, let target): open(leg, to: target, from: peer, seen, at: now)
        case .data(let leg, let bytes): take(bytes, End(peer: peer, leg: leg), at: now)
        case .credit(let leg, let bytes): credit(bytes, End(peer: peer, leg: leg), at: now)
        case .closed(let leg, let why):
            guard let (id, side) = places[End(peer: peer, leg: leg)] else { return }
            if why == .done, !circuits[id]!.waiting[side].isEmpty {
                circuits[id]!.closed = side
            } else {
                end(id, sayingTo: 1 - side, why)
            }
        case .terms, .carried, .incoming, .opened, .ways, .meet, .ready, .go, .unmet: break
        }
    }
    /// A peer's session is over: its berth and its circuits are.
    public mutating func lost(_ peer: PeerID) {
        leave(peer)
        for id in circuits.keys.sorted() {
            guard let side = circuits[id]!.ends.firstIndex(where: { $0.peer == peer }) else { continue }
            end(id, sayingTo: 1 - side, .gone)
        }
        given[peer] = nil
    }
    /// This daemon goes, or can no longer be reached.
    public mutating func close() {
        for id in circuits.keys.sorted() { end(id, sayingTo: nil, .gone) }
        let all = berths.keys.sorted()
        berths = [:]
        for peer in all { effects.push(.send(.terms(terms(.notHere)), to: peer)) }
        if !all.isEmpty { effects.push(.carriedChanged) }
    }

    private func terms(_ answer: BerthTerms.Answer) -> BerthTerms {
        BerthTerms(
            answer, life: answer == .granted ? limits.berthLife : .zero, rate: limits.rate, left: ByteCount(left),
            circuits: limits.circuits)
    }
    private mutating func reserve(_ peer: PeerID, _ leads: Bool, _ seen: Endpoint, at now: Instant) {
        let isFull = berths[peer] == nil && berths.count >= limits.berths
        let answer: BerthTerms.Answer = !isWilling ? .notHere : isFull ? .full : left == 0 ? .spent : .granted
        effects.push(.send(.terms(terms(answer)), to: peer))
        guard answer == .granted else {
            counts.refused += 1
            return
        }
        let isNews = berths[peer].map { $0.leads != leads } ?? true
        berths[peer] = Berth(until: now + limits.berthLife, leads: leads, endpoint: seen)
        if isNews { effects.push(.carriedChanged) }
    }
    private mutating func leave(_ peer: PeerID) {
        if berths.removeValue(forKey: peer) != nil { effects.push(.carriedChanged) }
    }

    private mutating func open(_ leg: UInt32, to target: PeerID, from peer: PeerID, _ seen: Endpoint, at now: Instant) {
        let end = End(peer: peer, leg: leg)
        guard LegNumber.isOthers(leg, asRelay: false, local: local, peer: peer), places[end] == nil else {
            counts.broken += 1
            return effects.push(.send(.closed(leg: leg, .broken), to: peer))
        }
        if let why = objection(to: target, from: peer, at: now) {
            counts.refused += 1
            return effects.push(.send(.closed(leg: leg, why), to: peer))
        }
        let other = End(
            peer: target, leg: LegNumber.next(given[target, default: 0], asRelay: true, local: local, peer: target))
        given[target, default: 0] &+= 1
        guard places[other] == nil else { return effects.push(.send(.closed(leg: leg, .full), to: peer)) }
        opened += 1
        counts.circuits += 1
        circuits[opened] = Circuit(ends: [end, other])
        places[end] = (opened, 0)
        places[other] = (opened, 1)
        effects.push(.send(.incoming(leg: other.leg, from: peer, at: seen), to: target))
        effects.push(.send(.opened(leg: leg, at: berths[target]!.endpoint), to: peer))
    }
    private mutating func objection(to target: PeerID, from peer: PeerID, at now: Instant) -> CircuitEnd? {
        if now - minute >= .seconds(60) { (asked, minute) = ([:], now) }
        asked[peer, default: 0] += 1
        guard asked[peer]! <= limits.opensAMinute, asked.count <= 4096 else { return .full }
        guard isWilling, peer != target, berths[target] != nil else { return .nobody }
        guard left > 0 else { return .spent }
        let own = circuits.values.count { $0.ends[0].peer == peer }
        return circuits.count < limits.circuits && own < limits.circuitsOfPeer ? nil : .full
    }

    // MARK: what passes

    private mutating func take(_ bytes: [UInt8], _ from: End, at now: Instant) {
        // What was sent before the news of its end came is no offence.
        guard let (id, side) = places[from], !bytes.isEmpty, circuits[id]!.closed != side else { return }
        guard circuits[id]!.outstanding[side] + bytes.count <= RelayLimits.window else {
            counts.broken += 1
            return end(id, sayingTo: nil, .broken)
        }
        guard bytes.count <= left else { return end(id, sayingTo: nil, .spent) }
        today.bytes += bytes.count
        circuits[id]!.outstanding[side] += bytes.count
        circuits[id]!.waiting[side].append(bytes)
        if circuits[id]!.waiting[side].count == 1 { turns.append(Turn(circuit: id, side: side)) }
        pass(at: now)
    }
    private mutating func credit(_ bytes: Int, _ from: End, at now: Instant) {
        guard let (id, side) = places[from] else { return }
        guard bytes > 0, bytes <= circuits[id]!.outstanding[1 - side] else {
            counts.broken += 1
            return end(id, sayingTo: nil, .broken)
        }
        circuits[id]!.outstanding[1 - side] -= bytes
        let other = circuits[id]!.other(side)
        effects.push(.send(.credit(leg: other.leg, bytes: bytes), to: other.peer))
    }
    /// One message of each direction in turn, as the rate allows.
    private mutating func pass(at now: Instant) {
        while let turn = turns.first, readyAt <= now {
            turns.removeFirst()
            guard var circuit = circuits[turn.circuit], !circuit.waiting[turn.side].isEmpty else { continue }
            let piece = circuit.waiting[turn.side].removeFirst()
            circuit.carried += piece.count
            circuits[turn.circuit] = circuit
            if !circuit.waiting[turn.side].isEmpty { turns.append(turn) }
            counts.bytes += piece.count
            readyAt = max(readyAt, now - Self.burst) + limits.rate.time(for: piece.count)
            let other = circuit.other(turn.side)
            effects.push(.send(.data(leg: other.leg, piece), to: other.peer))
            if circuit.closed == turn.side, circuit.waiting[turn.side].isEmpty {
                end(turn.circuit, sayingTo: 1 - turn.side, .done)
            }
        }
    }
    /// - Parameter side: who is told; nil: both.
    private mutating func end(_ id: Int, sayingTo side: Int?, _ why: CircuitEnd) {
        guard let circuit = circuits.removeValue(forKey: id) else { return }
        for (index, end) in circuit.ends.enumerated() {
            places[end] = nil
            if side == nil || side == index { effects.push(.send(.closed(leg: end.leg, why), to: end.peer)) }
        }
        turns.removeAll { $0.circuit == id }
    }
}
