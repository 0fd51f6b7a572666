public import Primitives

/// Whom to dial next, and at which of its addresses: the one place where paths are chosen.
///
/// Peers that are wanted come first, each at the address that promises most (``Routes``), with pauses that grow when all have
/// failed and end at once when the network has changed. Endpoints that others told of come after them, within a budget of
/// dials that lead nowhere (``Hearsay``). It opens nothing: the owner asks for the ``next(at:)`` dial and says what
/// became of it.
public struct Dialer: Sendable {
    public struct Dial: Hashable, Sendable {
        /// Odd, and never used before.
        public let number: UInt64
        public let address: Address
        /// Whose key must answer; nil when only the address is known.
        public let peer: PeerID?
        /// Beside another dial to the peer, that may fail for long.
        public var isBeside = false
    }
    /// What the owner should tell others.
    public enum GivenUp: Hashable, Sendable {
        case peer(PeerID)
        case endpoint(Endpoint)
    }
    private enum Stage: Hashable, Sendable {
        case waiting(until: Instant)
        case ready
        case dialling(UInt64)
    }
    private struct Wanted: Sendable {
        var stage: Stage
        /// It is given up then.
        var until: Instant
    }
    private let limits: DialLimits
    private var random: SeededGenerator
    private var nextNumber: UInt64 = 1
    private var wanted: [PeerID: Wanted] = [:]
    /// Wanted peers whose pause is over, in the order of their turns.
    private var ready: [PeerID] = []
    private var pauses = TimedQueue<PeerID>()
    private var dials: [UInt64: Dial] = [:]
    /// Wanted peers that may be had through relays, to be tried beside what is tried already.
    private var beside: [PeerID] = []
    /// Those of `dials` whose peer is unknown.
    private var hearsayDials = 0
    private var hearsay: Hearsay
    /// What is known of peers' addresses; the order is that of the latest use.
    private var book: [PeerID: Routes] = [:]
    private var bookOrder: [PeerID] = []
    /// Dials that may still lead nowhere, and as of when.
    private var fruitless: (left: Double, at: Instant)?
    /// Wishes and endpoints that were not kept because there were too many.
    public var ignored: Int { hearsay.ignored + wishesIgnored }
    private var wishesIgnored = 0

    public init(_ limits: DialLimits = DialLimits(), seed: UInt64) {
        self.limits = limits
        random = SeededGenerator(seed: seed, stream: 0xC4A2)
        hearsay = Hearsay(limits)
    }

    public func isWanted(_ peer: PeerID) -> Bool { wanted[peer] != nil }
    /// Whether a dial to this address has led to the peer.
    public func hasWorked(_ address: Address, for peer: PeerID) -> Bool { book[peer]?.hasWorked(address) ?? false }
    public func addresses(of peer: PeerID) -> [Address] { book[peer]?.addresses ?? [] }
    /// Everything kept about endpoints of unknown peers.
    public var endpointsKept: Int { hearsay.count }

    // MARK: Wishes

    /// A connection to this peer is wanted. Said again, it adds addresses; a new one is tried at once.
    ///
    /// - Parameters:
    ///   - from: no dial before; nil: now.
    ///   - until: when it is given up; nil: after ``DialLimits/giveUp``.
    /// - Returns: false when too many are wanted, or no address is known.
    public mutating func want(
        _ peer: PeerID, at addresses: [Address], from: Instant? = nil, until: Instant? = nil, now: Instant
    ) -> Bool {
        var isNews = false
        for address in addresses where note(address, of: peer) { isNews = true }
        book[peer]?.reorder(addresses)
        let hasRelay = addresses.contains { !$0.isDirect }
        let until = until ?? now + limits.giveUp
        if let old = wanted[peer] {
            wanted[peer]!.until = max(old.until, until)
            if isNews, case .waiting = old.stage { makeReady(peer) }
            if hasRelay, case .dialling = old.stage { stand(beside: peer) }
            return true
        }
        guard wanted.count < limits.wanted, book[peer]?.isEmpty == false else {
            wishesIgnored += 1
            return false
        }
        wanted[peer] = Wanted(stage: .ready, until: until)
        if let from, from > now { wait(peer, until: from) } else { ready.append(peer) }
        return true
    }
    /// No longer; a dial under way is the owner's to close.
    public mutating func unwant(_ peer: PeerID) {
        guard let old = wanted.removeValue(forKey: peer) else { return }
        ready.removeAll { $0 == peer }
        beside.removeAll { $0 == peer }
        if case .dialling(let number) = old.stage { forget(number) }
        tidy()
    }
    /// Somebody said that a peer may be here.
    ///
    /// - Parameter teller: who said so; nil for the owner itself.
    public mutating func hear(of endpoint: Endpoint, from teller: Endpoint?, at now: Instant) {
        // Nobody elsewhere knows what is on this machine.
        if let teller, endpoint.isLoopback, !teller.isLoopback { return }
        hearsay.hear(of: endpoint, from: teller.map { SourceAddress($0) }, at: now)
    }
    /// Somebody whom its owner named is to be dialled, however often that has failed.
    public mutating func knock(at endpoint: Endpoint, now: Instant) {
        hearsay.hear(of: endpoint, from: nil, insists: true, at: now)
    }
    /// The network has changed, the machine has slept, or its line is back: everything is tried again now.
    public mutating func hurry(at now: Instant) {
        for peer in bookOrder { book[peer]?.forgive() }
        for peer in wanted.keys.sorted() { if case .waiting? = wanted[peer]?.stage { makeReady(peer) } }
        hearsay.hurry(at: now)
        tidy()
    }

    /// - Returns: whether it is new.
    private mutating func note(_ address: Address, of peer: PeerID) -> Bool {
        let added = book[peer, default: Routes()].add(address)
        touch(peer)
        return added
    }
    private mutating func touch(_ peer: PeerID) {
        if bookOrder.last == peer { return }
        bookOrder.removeAll { $0 == peer }
        bookOrder.append(peer)
        guard bookOrder.count > limits.wanted,
            let oldest = bookOrder.firstIndex(where: { wanted[$0] == nil && $0 != peer })
        else { return }
        book[bookOrder.remove(at: oldest)] = nil
    }
    private mutating func makeReady(_ peer: PeerID) {
        wanted[peer]!.stage = .ready
        ready.append(peer)
        tidy()
    }

    // MARK: Dials

    /// The next dial to make now; nil when there is none, or enough are under way.
    public mutating func next(at now: Instant) -> Dial? {
        guard dials.count < limits.inFlight else { return nil }
        while !beside.isEmpty {
            let peer = beside.removeFirst()
            guard wanted[peer] != nil, let address = book[peer]?.relayed else { continue }
            return make(address, peer, isBeside: true)
        }
        while !ready.isEmpty {
            let peer = ready.removeFirst()
            guard wanted[peer]?.stage == .ready, let address = book[peer]?.next else { continue }
            let dial = make(address, peer)
            wanted[peer]!.stage = .dialling(dial.number)
            if address.isDirect, book[peer]?.relayed != nil { stand(beside: peer) }
            return dial
        }
        guard hearsayDials < limits.hearsayInFlight, budget(at: now) >= 1, let endpoint = hearsay.next() else {
            return nil
        }
        fruitless!.left -= 1
        hearsayDials += 1
        return make(.direct(endpoint), nil)
    }
    /// A dial to a connected peer at another address, beside all others; nil when enough are under way.
    public mutating func explore(_ peer: PeerID, at address: Address) -> Dial? {
        guard dials.count < limits.inFlight, address.isDialable else { return nil }
        _ = note(address, of: peer)
        return make(address, peer)
    }
    /// Unless one of its relays is being tried.
    private mutating func stand(beside peer: PeerID) {
        guard !beside.contains(peer), !dials.values.contains(where: { $0.peer == peer && !$0.address.isDirect }) else {
            return
        }
        beside.append(peer)
    }
    private mutating func make(_ address: Address, _ peer: PeerID?, isBeside: Bool = false) -> Dial {
        let dial = Dial(number: nextNumber, address: address, peer: peer, isBeside: isBeside)
        nextNumber += 2
        dials[dial.number] = dial
        return dial
    }
    private mutating func budget(at now: Instant) -> Double {
        let before = fruitless ?? (limits.fruitlessBurst, now)
        let gained = max(0, (now - before.at).inSeconds) * limits.fruitlessPerSecond
        fruitless = (min(limits.fruitlessBurst, before.left + gained), max(now, before.at))
        return fruitless!.left
    }
    private mutating func forget(_ number: UInt64) {
        if let dial = dials.removeValue(forKey: number), dial.peer == nil { hearsayDials -= 1 }
    }
    private mutating func wait(_ peer: PeerID, until: Instant) {
        wanted[peer]!.stage = .waiting(until: until)
        pauses.push(peer, at: until)
        tidy()
    }

    /// A dial did not lead to an established connection.
    ///
    /// - Parameters:
    ///   - final: dialling again would change nothing.
    ///   - patient: another connection of the wanted peer is on its way: that decides.
    /// - Returns: what is no longer tried.
    public mutating func failed(_ number: UInt64, final: Bool, patient: Bool, at now: Instant) -> GivenUp? {
        guard let dial = dials[number] else { return nil }
        forget(number)
        guard let peer = dial.peer else {
            let pause = pause(after: hearsay.failures(of: dial.address.endpoint))
            let over = hearsay.failed(dial.address.endpoint, pause: pause, final: final, at: now)
            return over ? .endpoint(dial.address.endpoint) : nil
        }
        book[peer]?.failed(dial.address)
        // Another relay may still do.
        if dial.isBeside, wanted[peer] != nil, let routes = book[peer], let other = routes.relayed,
            routes.failures(of: other) < routes.failures(of: dial.address)
        {
            stand(beside: peer)
        }
        guard let old = wanted[peer], old.stage == .dialling(number) else { return nil }
        let due = now + pause(after: book[peer]?.rounds ?? 0)
        wait(peer, until: due)
        guard !patient, final || due >= old.until else { return nil }
        unwant(peer)
        return .peer(peer)
    }
    /// A dial was dropped because another connection of the same peer is further.
    public mutating func postponed(_ number: UInt64, at now: Instant) {
        guard let dial = dials[number] else { return }
        forget(number)
        if let peer = dial.peer {
            if wanted[peer]?.stage == .dialling(number) { wait(peer, until: now + limits.grace) }
        } else {
            hearsay.postponed(dial.address.endpoint, until: now + limits.grace)
        }
    }
    /// The peer is connected.
    ///
    /// - Parameters:
    ///   - number: the dial that led there, if one did.
    ///   - endpoint: where the peer can be dialled, as far as is known.
    ///   - isRelayed: a relay has said where that is; it proves nothing.
    /// - Returns: the dial to this peer that is under way and no longer needed.
    public mutating func settled(
        _ peer: PeerID, at endpoint: Endpoint, by number: UInt64?, isRelayed: Bool = false, now: Instant
    ) -> UInt64? {
        if let number { arrived(number, at: peer, now: now) }
        var other: UInt64?
        if case .dialling(let dial)? = wanted[peer]?.stage, dial != number { other = dial }
        unwant(peer)
        guard !isRelayed else { return other }
        _ = note(.direct(endpoint), of: peer)
        hearsay.leads(endpoint, to: peer)
        return other
    }
    /// A dial found this peer, who has shown that it is a member: now or before.
    public mutating func arrived(_ number: UInt64, at peer: PeerID, now: Instant) {
        guard let dial = dials[number] else { return }
        forget(number)
        book[peer, default: Routes()].worked(dial.address, at: now)
        touch(peer)
        guard dial.peer == nil else { return }
        fruitless?.left += 1
        hearsay.leads(dial.address.endpoint, to: peer)
    }
    public mutating func lost(_ peer: PeerID) { hearsay.lost(peer) }

    private mutating func pause(after failures: Int) -> Duration {
        var pause = limits.retryFirst
        for _ in 0..<min(16, failures) where pause < limits.retryMax { pause = pause * 2 }
        return min(pause, limits.retryMax) * (0.75 + random.uniform() / 2)
    }

    // MARK: Time

    public mutating func wake(at now: Instant) {
        hearsay.wake(at: now)
        while let first = pauses.first, first.at <= now {
            pauses.popFirst()
            if wanted[first.item]?.stage == .waiting(until: first.at) { makeReady(first.item) }
        }
        tidy()
    }
    private mutating func tidy() {
        while let first = pauses.first, wanted[first.item]?.stage != .waiting(until: first.at) { pauses.popFirst() }
    }
    public var nextWake: Instant? {
        let next = earliest(pauses.first?.at, hearsay.nextWake)
        guard let fruitless, fruitless.left < 1, hearsayDials < limits.hearsayInFlight, hearsay.hasWaiting else {
            return next
        }
        let seconds = (1 - fruitless.left) / limits.fruitlessPerSecond
        return earliest(next, fruitless.at + .nanoseconds(Int64(seconds * 1e9) + 1))
    }
}
