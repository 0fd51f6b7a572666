public import Primitives

/// The ends of introductions: two peers whose session is relayed, and neither of whom can be dialled, dial each other in one moment, each from
/// the port that it listens at.
///
/// A *round*: the smaller key asks the relay for a meeting; both hear where the relay sees the other, and say that they are ready; when both
/// are, the relay lets them dial. Each SYN has its router let in the other one, and where they cross TCP makes one connection of them
/// (RFC 9293, §3.5). There are no openers of few hops, as datagrams have them: a SYN before the dial would be remembered by the router with
/// its sequence number, and the answer to a dial that comes in after it, which has another, is then not translated (Linux' conntrack). Three rounds, then one an hour, and anew when this machine is seen elsewhere.
///
/// Where both carry flows, and one router at least shows one port of theirs to all, each opens a flow to the other's datagram port as well, half a
/// second behind the dials: a connection that stands by then is enough. Before a side says that it is ready it sends an *opener*, a datagram that
/// gets past its own router and dies before the other's: that one would remember it, and give the flow another port.
///
/// What others can make this machine send is bounded: to addresses that the relay of a session says, or one with which there is a berth; never
/// to private ones; so many packets an endpoint and round, and so many a minute.
public struct Punching: Sendable {
    public enum Effect: Hashable, Sendable {
        /// To an introducer.
        case send(CarriageMessage, to: PeerID)
        /// From the listening port, if none is under way there.
        case dial(PeerID, at: Endpoint)
        /// Of few hops, unanswered, from the port for datagrams.
        case opener(at: Endpoint)
        /// From the port for datagrams.
        case flow(PeerID, at: Endpoint)
    }
    /// Where the other end may be met in a round.
    private struct Doors: Sendable {
        /// For dials; none where a router gives each destination another port.
        var dials: [Endpoint] = []
        var flow: Endpoint?
        var isEmpty: Bool { dials.isEmpty && flow == nil }
        var addresses: [[UInt8]] { dials.map(\.address) + (flow.map { [$0.address] } ?? []) }
        var probes: Int { dials.count * Punching.synsOfDial + (flow == nil ? 0 : Punching.probesOfFlow) }
    }
    private enum State: Sendable {
        case waiting(until: Instant)
        /// The introducer was asked.
        case asked(UInt32, until: Instant)
        /// Both have agreed to it, as far as is known here.
        case ready(UInt32, Doors, until: Instant)
        case dialling(Doors, dials: Int, next: Instant, until: Instant)

        var due: Instant {
            switch self {
            case .waiting(let until), .asked(_, let until), .ready(_, _, let until): until
            case .dialling(_, _, let next, let until): min(next, until)
            }
        }
    }
    private struct Pair: Sendable {
        var introducer: PeerID
        var state: State
        /// Rounds that came to nothing.
        var rounds = 0
        /// There is no session; only this round is of interest.
        var isGuest = false
    }
    public struct Counts: Hashable, Sendable {
        public var rounds = 0
        public var punched = 0
        public var refused = 0
        /// Meetings of which an introducer that is none of ours told, or that named no place where somebody else may be.
        public var forged = 0
        /// Flows that were opened, one a round.
        public var flows = 0
        /// SYNs of dials, those of the kernel's retries among them, and datagrams.
        public var probes = 0
        public init() {}
    }
    private let local: PeerID
    private var pairs: [PeerID: Pair] = [:]
    private var numbers: UInt32 = 0
    private var minute = Instant(nanoseconds: .min / 4)
    private var inMinute = 0
    private var effects = EffectQueue<Effect>()
    public private(set) var counts = Counts()
    /// Of the router in front of this machine.
    var mapping = PortMapping.unknown
    /// Where this machine is seen: nobody is told to dial itself.
    var external: Endpoint?
    /// Where others see this machine's datagrams; nil where flows are not carried.
    var datagrams: DatagramPort?

    public static let probesAMinute = 200
    static let dialsARound = 3
    private static let most = 256
    private static let patience = Duration.seconds(5)
    private static let dialTime = Duration.seconds(4)
    private static let dialPauses: [Duration] = [.milliseconds(500), .seconds(1)]
    private static let pauses: [Duration] = [.seconds(2), .seconds(4)]
    private static let longPause = Duration.seconds(3600)
    /// The larger key leaves the beginning to the smaller one for so long; so does who can be dialled to the other's dial.
    private static let courtesy = Duration.seconds(5)
    private static let reversal = Duration.seconds(2)
    /// A dial that lasts is three SYNs: the kernel's retries come after 1 s and 3 s.
    private static let synsOfDial = 3
    /// An opener, and the hellos of a flow within ``FlowLimits``'s five seconds: at 0, 250, 750, 1750, 3750 ms and one more.
    private static let probesOfFlow = 7

    public init(local: PeerID) { self.local = local }

    public func isMeeting(_ peer: PeerID) -> Bool {
        switch pairs[peer]?.state {
        case .ready, .dialling: true
        case .asked, .waiting, nil: false
        }
    }
    public var pairCount: Int { pairs.count }
    mutating func poll() -> Effect? { effects.pop() }
    var nextWake: Instant? { pairs.values.map(\.state.due).min() }

    // MARK: inputs

    /// The session with a peer goes through a relay from now on.
    ///
    /// - Parameter mayBeDialled: this machine can be dialled, as far as is known: then the other end does it.
    mutating func relayed(_ peer: PeerID, by relay: PeerID, mayBeDialled: Bool, at now: Instant) {
        if let old = pairs[peer] {
            pairs[peer]!.isGuest = false
            guard old.introducer != relay, case .waiting = old.state else { return }
            pairs[peer]!.introducer = relay
            pairs[peer]!.state = .waiting(until: now + (local < peer ? .zero : Self.courtesy))
            return wake(at: now)
        }
        guard pairs.count < Self.most else { return }
        let pause = local < peer ? (mayBeDialled ? Self.reversal : .zero) : Self.courtesy
        pairs[peer] = Pair(introducer: relay, state: .waiting(until: now + pause))
        wake(at: now)
    }
    /// A relay would not carry a session that is wanted here: perhaps it introduces.
    mutating func refused(_ peer: PeerID, by relay: PeerID, at now: Instant) {
        guard pairs[peer] == nil, pairs.count < Self.most else { return }
        pairs[peer] = Pair(introducer: relay, state: .waiting(until: now), isGuest: true)
        wake(at: now)
    }
    /// The session goes over a direct connection.
    ///
    /// - Parameter source: the other end's address on it.
    /// - Returns: whether that comes of a meeting.
    mutating func settled(_ peer: PeerID, at source: Endpoint) -> Bool {
        guard let pair = pairs.removeValue(forKey: peer) else { return false }
        var doors = Doors()
        switch pair.state {
        case .ready(_, let all, _), .dialling(let all, _, _, _): doors = all
        case .waiting, .asked: break
        }
        guard doors.addresses.contains(source.address) else { return false }
        counts.punched += 1
        return true
    }
    mutating func lost(_ peer: PeerID, at now: Instant) {
        pairs[peer] = nil
        for other in pairs.keys.sorted() where pairs[other]!.introducer == peer {
            if case .dialling = pairs[other]!.state { continue }
            if pairs[other]!.isGuest {
                pairs[other] = nil
            } else {
                pairs[other]!.state = .waiting(until: now + Self.patience)
            }
        }
    }
    /// This machine is seen elsewhere, or its router is known better: what came to nothing may do now.
    mutating func hurry(at now: Instant) {
        for peer in pairs.keys.sorted() {
            pairs[peer]!.rounds = 0
            if case .waiting = pairs[peer]!.state { pairs[peer]!.state = .waiting(until: now) }
        }
        wake(at: now)
    }
    mutating func wake(at now: Instant) {
        for peer in pairs.keys.sorted() {
            guard let pair = pairs[peer], pair.state.due <= now else { continue }
            switch pair.state {
            case .waiting: begin(peer, at: now)
            case .asked, .ready: fail(peer, at: now)
            case .dialling(let doors, let dials, _, let until):
                if until <= now { fail(peer, at: now) } else { dial(peer, doors, dials, until, at: now) }
            }
        }
    }

    /// Whether it is about a round of this side.
    func expects(_ peer: PeerID, _ number: UInt32, from introducer: PeerID) -> Bool {
        guard let pair = pairs[peer], pair.introducer == introducer else { return false }
        switch pair.state {
        case .asked(number, _), .ready(number, _, _): return true
        default: return false
        }
    }
    /// - Parameter isExpected: the sender carries the session with that peer, or has a berth for this daemon.
    mutating func receive(_ message: CarriageMessage, from introducer: PeerID, isExpected: Bool, at now: Instant) {
        switch message {
        case .meet(let meeting): met(meeting, introducer, isExpected, at: now)
        case .go(let peer, let number):
            guard pairs[peer]?.introducer == introducer, case .ready(number, let doors, _)? = pairs[peer]?.state
            else { return }
            dial(peer, doors, 0, now + Self.dialTime, at: now)
        case .unmet(let peer, let number, let why):
            if expects(peer, number, from: introducer) { fail(peer, isFinal: why == .symmetric, at: now) }
        default: break
        }
    }

    // MARK: rounds

    private mutating func begin(_ peer: PeerID, at now: Instant) {
        let isHopeless = mapping == .varies && datagrams == nil
        let probes = Meeting.mostEndpoints * Self.synsOfDial + (datagrams == nil ? 0 : Self.probesOfFlow)
        guard !isHopeless, hasBudget(probes, at: now) else {
            pairs[peer]!.state = .waiting(until: now + (isHopeless ? Self.longPause : .seconds(60)))
            return
        }
        numbers &+= 1
        counts.rounds += 1
        pairs[peer]!.state = .asked(numbers, until: now + Self.patience)
        effects.push(.send(.meet(wish(for: peer, numbers)), to: pairs[peer]!.introducer))
    }
    private func wish(for peer: PeerID, _ number: UInt32) -> Meeting {
        var wish = Meeting(peer, number: number, mapping: mapping)
        wish.datagrams = datagrams
        return wish
    }
    /// Where a meeting could take place: at public addresses that are not our own.
    private func doors(of meeting: Meeting) -> Doors {
        let seen = meeting.endpoints.filter { $0.isDialable && !$0.isPrivate && $0 != external }
        var doors = Doors()
        if mapping != .varies, meeting.mapping != .varies { doors.dials = seen }
        // The address is the introducer's word, the port the other end's own: it can send us nowhere but to itself.
        if let ours = datagrams, let theirs = meeting.datagrams, ours.mapping != .varies || theirs.mapping != .varies,
            let place = seen.first.flatMap({ Endpoint(address: $0.address, port: theirs.number) }), place.isDialable,
            place != external
        {
            doors.flow = place
        }
        return doors
    }
    private mutating func met(_ meeting: Meeting, _ introducer: PeerID, _ isExpected: Bool, at now: Instant) {
        let peer = meeting.peer
        let doors = doors(of: meeting)
        if pairs[peer]?.introducer == introducer, case .asked(meeting.number, _)? = pairs[peer]?.state {
            guard !doors.isEmpty, hasBudget(doors.probes, at: now) else {
                effects.push(.send(.unmet(peer, number: meeting.number, .symmetric), to: introducer))
                return fail(peer, isFinal: meeting.mapping == .varies, at: now)
            }
            return agree(peer, meeting.number, doors, at: now)
        }
        // What this side has begun goes on, if it is the smaller one.
        if case .asked? = pairs[peer]?.state, local < peer { return }
        if let why = objection(to: meeting, doors, isExpected, at: now) {
            counts.refused += 1
            if why == .refused || why == .nobody { counts.forged += 1 }
            return effects.push(.send(.unmet(peer, number: meeting.number, why), to: introducer))
        }
        if pairs[peer] == nil {
            pairs[peer] = Pair(introducer: introducer, state: .waiting(until: now), isGuest: true)
        }
        pairs[peer]!.introducer = introducer
        counts.rounds += 1
        effects.push(.send(.meet(wish(for: peer, meeting.number)), to: introducer))
        agree(peer, meeting.number, doors, at: now)
    }
    private mutating func objection(
        to meeting: Meeting, _ doors: Doors, _ isExpected: Bool, at now: Instant
    ) -> UnmetReason? {
        guard isExpected, meeting.peer != local else { return .refused }
        if doors.isEmpty, mapping == .varies || meeting.mapping == .varies { return .symmetric }
        if case .dialling? = pairs[meeting.peer]?.state { return .busy }
        guard pairs[meeting.peer] != nil || pairs.count < Self.most, hasBudget(doors.probes, at: now) else {
            return .busy
        }
        return doors.isEmpty ? .nobody : nil
    }
    private mutating func agree(_ peer: PeerID, _ number: UInt32, _ doors: Doors, at now: Instant) {
        pairs[peer]!.state = .ready(number, doors, until: now + Self.patience)
        if let flow = doors.flow {
            spend(1)
            effects.push(.opener(at: flow))
        }
        effects.push(.send(.ready(peer, number: number), to: pairs[peer]!.introducer))
    }
    private mutating func dial(
        _ peer: PeerID, _ doors: Doors, _ dials: Int, _ until: Instant, at now: Instant
    ) {
        for endpoint in doors.dials { effects.push(.dial(peer, at: endpoint)) }
        // What was reserved for a dial covers the repetitions: they are made only where one has failed at once.
        if dials == 0 { spend(doors.dials.count * Self.synsOfDial) }
        if let flow = doors.flow, dials == (doors.dials.isEmpty ? 0 : 1) {
            spend(Self.probesOfFlow - 1)
            counts.flows += 1
            effects.push(.flow(peer, at: flow))
        }
        let next = dials < Self.dialPauses.count ? now + Self.dialPauses[dials] : until
        pairs[peer]!.state = .dialling(doors, dials: dials + 1, next: next, until: until)
    }
    /// - Parameter isFinal: another try would change nothing.
    private mutating func fail(_ peer: PeerID, isFinal: Bool = false, at now: Instant) {
        guard let pair = pairs[peer], !pair.isGuest else {
            pairs[peer] = nil
            return
        }
        let pause = isFinal || pair.rounds >= Self.pauses.count ? Self.longPause : Self.pauses[pair.rounds]
        pairs[peer]!.rounds += 1
        pairs[peer]!.state = .waiting(until: now + pause + (local < peer ? .zero : Self.courtesy))
    }

    // MARK: budget

    private mutating func hasBudget(_ probes: Int, at now: Instant) -> Bool {
        if now - minute >= .seconds(60) { (inMinute, minute) = (0, now) }
        return inMinute + probes <= Self.probesAMinute
    }
    private mutating func spend(_ probes: Int) {
        inMinute += probes
        counts.probes += probes
    }
}
