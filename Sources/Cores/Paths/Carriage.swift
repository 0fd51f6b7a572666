public import Primitives

/// What a daemon does so that any two peers can exchange bytes: it looks for relays where it cannot be dialled, is one where it can, keeps the
/// ends of circuits, knows who is to be had through whom, and tells the other end of a relayed session where it may be dialled.
///
/// In a private network everybody can be dialled, and all of this is silent.
public struct Carriage: Core {
    public enum Effect: Sendable {
        case send(CarriageMessage, to: PeerID)
        /// TLS is wanted for a stream; see ``Circuits``.
        case begin(UInt64, with: PeerID, isClient: Bool)
        case ciphertext(UInt64, [UInt8])
        case writable(UInt64, unsent: Int)
        case ended(UInt64, CircuitEnd)
        /// Relays are to be looked for in the overlay, or no more.
        case look(Bool)
        /// Others should find this daemon as a relay, or no more; and as somebody through whom peers are met.
        case stand(Bool, carries: Bool)
        /// Somebody is to be had through one more relay; see ``relays(of:)``.
        case found(CarriedPeer)
        /// The other end of a relayed session says that it can be dialled there.
        case improve(PeerID, at: Endpoint)
        case berthed(PeerID, BerthTerms)
        /// A relay sees the listening port of this daemon there, of which nobody else has said where it is seen.
        case seen(Endpoint)
        case unberthed(PeerID)
        /// Dial the other end of a relayed session there, from the listening port, in the moment in which it dials here.
        case punch(PeerID, at: Endpoint)
        /// Open a flow there in the moment in which the other end opens one here; a session that is relayed moves to whichever stands first.
        case flow(PeerID, at: Endpoint)
        /// Send a datagram there that passes this machine's router and goes no further than a few hops.
        case opener(at: Endpoint)
        /// To the router of this machine in UPnP, by somebody who speaks it; ``answered(_:at:)`` follows.
        case igd(IGDWish)
        /// To the router of this machine, by a socket of its own.
        case gateway([UInt8], to: Endpoint)
        /// The router says that others reach the listening port there; nil: nowhere any more. Nobody has tried it.
        case forwarded(Endpoint?)
        /// The firewall of IPv6 says that it lets this in, or nothing any more.
        case pinhole(Endpoint?)
        /// A meeting has led to a direct connection.
        case punched(PeerID, at: Address)
    }
    /// How this daemon is seen.
    public struct Outlook: Hashable, Sendable {
        /// Nil while nobody has said, or where it is private.
        public var external: Endpoint?
        /// Others could dial it.
        public var isReachable: Bool
        /// It looks for members of a job.
        public var leads: Bool
        /// It is there for others to begin with: it can be dialled, though perhaps nobody has said so yet.
        public var isServer: Bool
        /// Where others see its datagrams; nil where it carries no flows, or nobody has said.
        public var datagrams: DatagramPort?
        /// Its address in its own home, where a router stands in front of it, and the port that it listens at.
        public var inside: Endpoint?
        /// Its own public IPv6 address, and the port that it listens at. A firewall may be in front of it: then who dials it comes in if it dials back
        /// in that moment.
        public var ownIPv6: Endpoint?
        /// It hears no datagrams: nobody but relays can say where it is seen.
        public var isDeaf: Bool
        /// Somebody whom it wants cannot be dialled from here, nor can it from there, whoever else can.
        public var isApart: Bool
        public init(
            external: Endpoint?, isReachable: Bool, leads: Bool, isServer: Bool = false,
            datagrams: DatagramPort? = nil, inside: Endpoint? = nil, ownIPv6: Endpoint? = nil,
            isDeaf: Bool = false, isApart: Bool = false
        ) {
            self.isApart = isApart
            self.ownIPv6 = ownIPv6
            self.inside = inside
            self.isDeaf = isDeaf
            self.isServer = isServer
            self.datagrams = datagrams
            self.external = external
            self.isReachable = isReachable
            self.leads = leads
        }
    }
    private let local: PeerID
    public private(set) var relay: Relay
    public private(set) var circuits: Circuits
    public private(set) var search = BerthSearch()
    public internal(set) var introducer = Introducer()
    public internal(set) var punching: Punching
    /// Has the router let the listening port in; nil where nobody is asked for that.
    var mapper: PortMapper?
    /// The same of a firewall of IPv6.
    var pinholes: PortMapper?
    /// Where relays see the listening port.
    var sightings = Sightings()
    private(set) var outlook = Outlook(external: nil, isReachable: true, leads: false)
    var effects = EffectQueue<Effect>()
    /// Who is carried by whom, as relays have said; they are bounded, and so are their lists.
    private var lists: [PeerID: (peers: [CarriedPeer], rate: BitRate)] = [:]
    /// Peers with a session.
    private var connected: Set<PeerID> = []
    /// Of those that have dialled this daemon: from where, as is seen here.
    private var sources: [PeerID: Endpoint] = [:]
    /// Those that this daemon has dialled from the port that it listens at.
    private var observers: Set<PeerID> = []
    /// Sessions that are relayed, and when the ends tell each other again where they may be dialled.
    private var relayed: [PeerID: (next: Instant, pause: Duration, seenAt: Endpoint)] = [:]
    /// When a peer's word about where it is was last acted on, and how long it is not heard after that.
    private var improved: [PeerID: (at: Instant, pause: Duration)] = [:]
    private var stands: (isRelay: Bool, carries: Bool) = (false, false)
    private var tellAt: Instant?

    private static let mostLists = 64
    private static let firstPause = Duration.seconds(2)
    private static let lastPause = Duration.seconds(3600)
    /// Less than whoever tells pauses.
    private static let firstHeed = Duration.milliseconds(1500)
    private static let lastHeed = Duration.seconds(30)
    /// Lists are told at most so often.
    private static let tellPause = Duration.milliseconds(200)

    public init(local: PeerID, limits: RelayLimits, at now: Instant) {
        self.local = local
        relay = Relay(local: local, limits: limits, at: now)
        circuits = Circuits(local: local)
        punching = Punching(local: local)
    }

    public mutating func poll() -> Effect? { effects.pop() }
    public var nextWake: Instant? {
        var next = earliest(relay.nextWake, search.nextWake)
        next = earliest(next, tellAt)
        next = earliest(next, earliest(introducer.nextWake, punching.nextWake))
        next = earliest(next, earliest(mapper?.nextWake, pinholes?.nextWake))
        for peer in relayed.values { next = earliest(next, peer.next) }
        return next
    }
    public mutating func wake(at now: Instant) {
        relay.wake(at: now)
        search.wake(at: now)
        introducer.wake(at: now)
        punching.wake(at: now)
        mapper?.wake(at: now)
        pinholes?.wake(at: now)
        drainGateway()
        if let at = tellAt, at <= now {
            tellAt = nil
            let list = self.list
            for peer in connected.sorted() { effects.push(.send(list, to: peer)) }
        }
        for peer in relayed.keys.sorted() where relayed[peer]!.next <= now { tellWays(to: peer, at: now) }
        drain(at: now)
    }

    /// Relays through whom a peer is to be had, the fastest first.
    public func relays(of peer: PeerID) -> [PeerID] {
        let all = lists.keys.filter { relay in lists[relay]!.peers.contains { $0.peer == peer } }
        return all.sorted {
            let (a, b) = (lists[$0]!.rate.bitsPerSecond, lists[$1]!.rate.bitsPerSecond)
            return a == b ? $0 < $1 : a > b
        }
    }

    /// All that a relay carries, as it has said; nil where it has not.
    public func rate(of relay: PeerID) -> BitRate? { lists[relay]?.rate }

    // MARK: inputs

    public mutating func see(_ outlook: Outlook, at now: Instant) {
        guard outlook != self.outlook else { return }
        let isElsewhere =
            outlook.external != self.outlook.external || outlook.datagrams != self.outlook.datagrams
        self.outlook = outlook
        punching.external = outlook.external
        punching.datagrams = outlook.datagrams
        if isElsewhere { punching.hurry(at: now) }
        let isPublic = outlook.external.map { !$0.isPrivate } ?? false
        let wasOpen = relay.isOpen
        relay.isOpen = isPublic && outlook.isReachable
        if wasOpen, !relay.isOpen { relay.close() }
        search.need(
            (isPublic || outlook.isDeaf) && (!outlook.isReachable || outlook.isApart), leads: outlook.leads, at: now)
        stand()
        drain(at: now)
    }
    /// A session goes over a new connection.
    ///
    /// - Parameters:
    ///   - relay: that carries it; nil for a direct one.
    ///   - wasDialled: by this side.
    ///   - source: from where it was dialled, if it was the other side.
    ///   - isStray: it was dialled from another port than this side listens at.
    ///   - isFlow: it is a flow: what ports it has says nothing about those of dials.
    public mutating func connected(
        _ peer: PeerID, at endpoint: Endpoint, via relay: PeerID?, wasDialled: Bool, source: Endpoint? = nil,
        isStray: Bool = false, isFlow: Bool = false, now: Instant
    ) {
        let source = isFlow ? nil : source
        let isNew = connected.insert(peer).inserted
        if let relay {
            relayed[peer] = (now + Self.firstPause, Self.firstPause, endpoint)
            tellWays(to: peer, at: now)
            forgetSource(of: peer)
            punching.relayed(peer, by: relay, mayBeDialled: outlook.isReachable, at: now)
        } else {
            relayed[peer] = nil
            if wasDialled || !isFlow { search.met(peer, at: endpoint, wasDialled: wasDialled, now: now) }
            sources[peer] = wasDialled ? nil : source
            if wasDialled, !isStray, !isFlow {
                observers.insert(peer)
            } else {
                observers.remove(peer)
                sightings.forget(peer)
            }
            introducer.connected(peer, source: source, listening: endpoint)
            let place = source ?? endpoint
            if punching.settled(peer, at: place) {
                effects.push(.punched(peer, at: isFlow ? .flow(place) : .direct(place)))
            }
        }
        if isNew, relay == nil, !self.relay.carried.isEmpty { effects.push(.send(list, to: peer)) }
        drain(at: now)
    }
    public mutating func lost(_ peer: PeerID, at now: Instant) {
        connected.remove(peer)
        relayed[peer] = nil
        lists[peer] = nil
        improved[peer] = nil
        forgetSource(of: peer)
        punching.lost(peer, at: now)
        relay.lost(peer)
        circuits.lost(peer)
        search.lost(peer, at: now)
        drain(at: now)
    }
    /// - Parameter seen: where the sender can be dialled, as far as is known.
    public mutating func receive(_ message: CarriageMessage, from peer: PeerID, seen: Endpoint, at now: Instant) {
        switch message {
        case .reserve, .release, .open:
            // Whoever comes from a public address and reaches a server shows that others do.
            if outlook.isServer, outlook.external == nil, !seen.isPrivate { relay.isOpen = true }
            relay.receive(message, from: peer, seen: seen, at: now)
            stand()
        case .terms(let terms):
            if let seen = terms.seen, observers.contains(peer) {
                if outlook.isDeaf, outlook.external == nil, !seen.isPrivate { effects.push(.seen(seen)) }
                sight(seen, by: peer, at: now)
            }
            search.receive(terms, from: peer, at: now)
        case .carried(let list, let rate): heard(list, rate, from: peer)
        case .incoming, .opened: toCircuits(message, from: peer, at: now)
        case .data(let leg, _), .credit(let leg, _), .closed(let leg, _):
            if LegNumber.isCarriedHere(leg, local: local, peer: peer) {
                relay.receive(message, from: peer, seen: seen, at: now)
            } else {
                toCircuits(message, from: peer, at: now)
            }
        case .ways(let endpoints): improve(peer, endpoints, at: now)
        case .meet, .ready, .go, .unmet: introduce(message, from: peer, at: now)
        }
        drain(at: now)
    }
    private mutating func toCircuits(_ message: CarriageMessage, from peer: PeerID, at now: Instant) {
        circuits.receive(message, from: peer, isExpected: search.hasBerth(at: peer), at: now)
    }
    public mutating func open(_ id: UInt64, to peer: PeerID, via relay: PeerID, at now: Instant) {
        // Whom it is not connected with carries nothing.
        guard connected.contains(relay) else { return effects.push(.ended(id, .gone)) }
        circuits.open(id, to: peer, via: relay)
        drain(at: now)
    }
    public mutating func carry(_ id: UInt64, _ ciphertext: [UInt8], at now: Instant) {
        circuits.carry(id, ciphertext, at: now)
        drain(at: now)
    }
    public mutating func close(_ id: UInt64, at now: Instant) {
        circuits.close(id, at: now)
        drain(at: now)
    }
    /// This daemon ends: those whom it carries are told first.
    public mutating func leave(at now: Instant) {
        relay.isOpen = false
        relay.close()
        search.need(false, leads: false, at: now)
        drain(at: now)
    }

    private mutating func forgetSource(of peer: PeerID) {
        sources[peer] = nil
        observers.remove(peer)
        sightings.forget(peer)
        introducer.lost(peer)
    }
    /// There is a session, and nobody carries it.
    func isDirect(_ peer: PeerID) -> Bool { connected.contains(peer) && relayed[peer] == nil }

    // MARK: what others say

    private mutating func heard(_ list: [CarriedPeer], _ rate: BitRate, from relay: PeerID) {
        guard connected.contains(relay), lists[relay] != nil || lists.count < Self.mostLists else { return }
        // Whoever leads from now on is news, too.
        let before = Set(lists[relay]?.peers ?? [])
        lists[relay] = (list, rate)
        for other in list where other.peer != local && !before.contains(other) { effects.push(.found(other)) }
    }
    private mutating func improve(_ peer: PeerID, _ endpoints: [Endpoint], at now: Instant) {
        // Only whoever is relayed needs it, only addresses that can be somebody's, and seldom. Private ones are those of one's own home: there
        // only who is seen at the same public address may be.
        guard relayed[peer] != nil, improved[peer].map({ now - $0.at >= $0.pause }) ?? true else { return }
        let isNear = isUnderOneRoof(with: peer)
        guard
            let endpoint = endpoints.first(where: {
                $0.isDialable && !$0.isLoopback && $0 != outlook.inside && (!$0.isPrivate || isNear) && mayDial($0)
            }
            )
        else { return }
        improved[peer] = (now, min(improved[peer].map { $0.pause * 3 } ?? Self.firstHeed, Self.lastHeed))
        effects.push(.improve(peer, at: endpoint))
    }
    private mutating func tellWays(to peer: PeerID, at now: Instant) {
        if let old = relayed[peer], old.next <= now {
            let pause = min(old.pause * 3, Self.lastPause)
            relayed[peer] = (now + pause, pause, old.seenAt)
        }
        guard let external = outlook.external, !external.isPrivate else { return }
        // The nearer first: one of them is dialled. Where both ends have IPv6 addresses of their own both dial now, and each one's firewall lets the other in.
        let ways =
            (isUnderOneRoof(with: peer) ? [outlook.inside] : []) + (outlook.isReachable ? [external] : [])
            + (outlook.ownIPv6 == external && outlook.isReachable ? [] : [outlook.ownIPv6])
        guard !ways.allSatisfy({ $0 == nil }) else { return }
        effects.push(.send(.ways(ways.compactMap { $0 }), to: peer))
    }
    /// From here IPv6 can be dialled if there is an address to dial from.
    private func mayDial(_ endpoint: Endpoint) -> Bool {
        endpoint.isIPv4 || outlook.ownIPv6 != nil || outlook.external?.isIPv4 == false
    }
    /// The relay sees both ends at one public address: they share a router, or a carrier's.
    private func isUnderOneRoof(with peer: PeerID) -> Bool {
        guard outlook.inside != nil, let external = outlook.external, !external.isPrivate else { return false }
        return relayed[peer]?.seenAt.address == external.address
    }

    private var list: CarriageMessage {
        .carried(Array(relay.carried.prefix(CarriageMessage.mostCarried)), rate: relay.limits.rate)
    }

    /// One place for what the parts want.
    private mutating func drain(at now: Instant) {
        while let effect = relay.poll() {
            switch effect {
            case .send(.terms(var terms), let peer):
                terms.seen = sources[peer]
                effects.push(.send(.terms(terms), to: peer))
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .carriedChanged:
                if tellAt == nil { tellAt = now + Self.tellPause }
                stand()
            }
        }
        while let effect = circuits.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .begin(let id, let peer, let isClient): effects.push(.begin(id, with: peer, isClient: isClient))
            case .ciphertext(let id, let bytes): effects.push(.ciphertext(id, bytes))
            case .writable(let id, let unsent): effects.push(.writable(id, unsent: unsent))
            case .ended(let id, let why, let stream):
                // Who carries no more may still introduce.
                let isSpent = why == .full || why == .spent
                if isSpent, !stream.isInbound, !connected.contains(stream.peer) {
                    punching.refused(stream.peer, by: stream.relay, at: now)
                }
                effects.push(.ended(id, why))
            }
        }
        while let effect = search.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .looking(let isLooking): effects.push(.look(isLooking))
            case .granted(let peer, let terms): effects.push(.berthed(peer, terms))
            case .lost(let peer): effects.push(.unberthed(peer))
            }
        }
        drainIntroductions()
    }
    private mutating func stand() {
        let now = (isRelay: relay.isOpen && relay.limits.isWilling, carries: !relay.carried.isEmpty)
        guard now != stands else { return }
        stands = now
        effects.push(.stand(now.isRelay, carries: now.carries))
    }
}
