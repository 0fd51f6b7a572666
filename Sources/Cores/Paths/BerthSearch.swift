public import Primitives

/// Looks for relays, two of them on different prefixes, for a daemon that others cannot dial.
///
/// Whoever this daemon could dial may be one, and whoever has dialled it. Some are asked at a time; the two that carry most are kept, the others let go. Who refuses is left
/// alone for a while. A berth is renewed at half of its life, and another one looked for when its relay is lost.
public struct BerthSearch: Core {
    public enum Effect: Hashable, Sendable {
        case send(CarriageMessage, to: PeerID)
        /// Relays are looked for, or no more.
        case looking(Bool)
        case granted(PeerID, BerthTerms)
        case lost(PeerID)
    }
    private enum Standing: Hashable, Sendable {
        case met
        case asked(until: Instant)
        case refused(until: Instant)
        case berthed(renewAt: Instant)
        /// It carries less than others do.
        case spare
    }
    private struct Candidate: Sendable {
        let endpoint: Endpoint
        var standing: Standing
        var rate = 0.0
    }
    private var candidates: [PeerID: Candidate] = [:]
    private var isNeeded = false
    private var leads = false
    private var isLooking = false
    private var effects = EffectQueue<Effect>()

    public static let wanted = 2
    private static let askedAtOnce = 4
    private static let most = 64
    private static let patience = Duration.seconds(5)
    private static let pause = Duration.seconds(120)

    public init() {}

    /// Where others reach this daemon: relays' keys, ascending.
    public var berths: [PeerID] {
        candidates.keys.sorted().filter { if case .berthed = candidates[$0]!.standing { true } else { false } }
    }
    public func hasBerth(at peer: PeerID) -> Bool {
        if case .berthed? = candidates[peer]?.standing { true } else { false }
    }
    public func endpoint(of relay: PeerID) -> Endpoint? { candidates[relay]?.endpoint }

    public mutating func poll() -> Effect? { effects.pop() }
    public var nextWake: Instant? {
        guard isNeeded else { return nil }
        var next: Instant?
        for candidate in candidates.values {
            switch candidate.standing {
            case .asked(let at), .refused(let at), .berthed(let at): next = earliest(next, at)
            case .met, .spare: break
            }
        }
        return next
    }

    /// - Parameter leads: this daemon looks for members of a job; relays say so to others.
    public mutating func need(_ isNeeded: Bool, leads: Bool, at now: Instant) {
        guard self.isNeeded != isNeeded || (self.leads != leads && isNeeded) else { return }
        (self.isNeeded, self.leads) = (isNeeded, leads)
        for peer in berths {
            effects.push(.send(isNeeded ? .reserve(leads: leads) : .release, to: peer))
            if isNeeded { continue }
            candidates[peer]!.standing = .met
            effects.push(.lost(peer))
        }
        ask(at: now)
    }
    /// A peer is connected.
    ///
    /// - Parameter wasDialled: from here, and so it can be. A relay dials, too, whom it has lost; it says itself whether it carries anybody, and
    ///   those who do not leave room for others.
    public mutating func met(_ peer: PeerID, at endpoint: Endpoint, wasDialled: Bool, now: Instant) {
        let room = wasDialled ? Self.most : Self.most / 2
        guard candidates[peer] == nil, candidates.count < room, !endpoint.isPrivate else { return }
        candidates[peer] = Candidate(endpoint: endpoint, standing: .met)
        ask(at: now)
    }
    public mutating func lost(_ peer: PeerID, at now: Instant) {
        guard let old = candidates.removeValue(forKey: peer) else { return }
        if case .berthed = old.standing {
            effects.push(.lost(peer))
            for other in candidates.keys where candidates[other]!.standing == .spare {
                candidates[other]!.standing = .met
            }
        }
        ask(at: now)
    }
    public mutating func receive(_ terms: BerthTerms, from peer: PeerID, at now: Instant) {
        guard let candidate = candidates[peer], isNeeded else { return }
        let hadOne = hasBerth(at: peer)
        switch (terms.answer, candidate.standing) {
        case (.granted, .asked), (.granted, .berthed):
            let life = max(.seconds(60), min(terms.life, .seconds(86_400)))
            candidates[peer]!.standing = .berthed(renewAt: now + life / 2)
            candidates[peer]!.rate = terms.rate.bitsPerSecond
            if !hadOne { effects.push(.granted(peer, terms)) }
            letGo()
        case (.granted, _): break
        default:
            candidates[peer]!.standing = .refused(until: now + Self.pause)
            if hadOne { effects.push(.lost(peer)) }
        }
        ask(at: now)
    }
    public mutating func wake(at now: Instant) {
        guard isNeeded else { return }
        for peer in candidates.keys.sorted() {
            switch candidates[peer]!.standing {
            case .asked(let until) where until <= now: candidates[peer]!.standing = .refused(until: now + Self.pause)
            case .refused(let until) where until <= now: candidates[peer]!.standing = .met
            case .berthed(let renewAt) where renewAt <= now:
                // An answer moves it on; without one it is asked again.
                candidates[peer]!.standing = .berthed(renewAt: now + Self.pause)
                effects.push(.send(.reserve(leads: leads), to: peer))
            default: break
            }
        }
        ask(at: now)
    }

    /// The slowest berths beyond those that are wanted; of two in one network the slower.
    private mutating func letGo() {
        var kept: [PeerID] = []
        let fastestFirst = berths.sorted {
            candidates[$0]!.rate == candidates[$1]!.rate ? $0 < $1 : candidates[$0]!.rate > candidates[$1]!.rate
        }
        for peer in fastestFirst {
            let prefix = Self.prefix(candidates[peer]!.endpoint)
            let isNear = kept.contains { Self.prefix(candidates[$0]!.endpoint) == prefix }
            if kept.count < Self.wanted, !isNear {
                kept.append(peer)
                continue
            }
            candidates[peer]!.standing = .spare
            effects.push(.send(.release, to: peer))
            effects.push(.lost(peer))
        }
    }
    /// Asks some, of prefixes that have none yet, until all have been asked once.
    private mutating func ask(at now: Instant) {
        let engaged = candidates.keys.sorted().filter {
            switch candidates[$0]!.standing {
            case .asked, .berthed: true
            case .met, .refused, .spare: false
            }
        }
        look(isNeeded && berths.count < Self.wanted)
        guard isNeeded, engaged.count < Self.askedAtOnce else { return }
        let taken = Set(engaged.map { Self.prefix(candidates[$0]!.endpoint) })
        let free = candidates.keys.sorted().filter {
            candidates[$0]!.standing == .met && !taken.contains(Self.prefix(candidates[$0]!.endpoint))
        }
        guard let next = free.first else { return }
        candidates[next]!.standing = .asked(until: now + Self.patience)
        effects.push(.send(.reserve(leads: leads), to: next))
        ask(at: now)
    }
    private mutating func look(_ isLooking: Bool) {
        guard self.isLooking != isLooking else { return }
        self.isLooking = isLooking
        effects.push(.looking(isLooking))
    }
    /// /24 of IPv4, /48 of IPv6: what one owner usually has.
    private static func prefix(_ endpoint: Endpoint) -> [UInt8] {
        Array(endpoint.address.prefix(endpoint.isIPv4 ? 3 : 6))
    }
}
