import Primitives

/// Endpoints that others told of, whose peers are unknown: which is tried next, and which are not worth it.
///
/// Whoever tells can invent, so everything is bounded: what is kept of one teller, of one address, in all. Tellers take turns,
/// so that one who tells much does not delay what the others told; an endpoint that several told of has its place with each.
/// After some tries in vain an endpoint rests, longer each time; being told of again does not shorten that.
struct Hearsay: Sendable {
    private enum State: Hashable, Sendable {
        case waiting
        case dialling
        case pausing(until: Instant)
        case resting(until: Instant)
        /// It leads to this peer, who is connected.
        case leads(PeerID)
    }
    private struct Entry: Sendable {
        var state: State
        /// In a row.
        var failures = 0
        var rests = 0
        /// Who told of it first.
        let teller: SourceAddress?
    }
    private struct Teller: Sendable {
        let address: SourceAddress?
        var queue: [Endpoint] = []
    }
    private let limits: DialLimits
    private var entries: [Endpoint: Entry] = [:]
    private var tellers: [Teller] = []
    /// Whose turn it is.
    private var turn = 0
    private var pauses = TimedQueue<Endpoint>()
    /// Those that rest, the longest first; some have woken since.
    private var rested: [Endpoint] = []
    private var atAddress: [SourceAddress: Int] = [:]
    private var ledBy: [PeerID: [Endpoint]] = [:]
    /// Endpoints that were not kept.
    private(set) var ignored = 0

    init(_ limits: DialLimits) { self.limits = limits }

    var nextWake: Instant? { pauses.first?.at }
    var hasWaiting: Bool { tellers.contains { !$0.queue.isEmpty } }
    /// Everything that is kept, for tests of bounds.
    var count: Int { entries.count }

    func failures(of endpoint: Endpoint) -> Int { entries[endpoint]?.failures ?? 0 }

    /// - Parameter insists: it is dialled though it rests: nothing else leads anywhere.
    mutating func hear(of endpoint: Endpoint, from teller: SourceAddress?, insists: Bool = false, at now: Instant) {
        var entry = entries[endpoint] ?? Entry(state: .waiting, teller: teller)
        let isNew = entries[endpoint] == nil
        switch entry.state {
        case .dialling, .pausing, .leads: return
        case .resting(let until) where until > now && !insists: return
        case .resting:
            entry.state = .waiting
            entry.failures = 0
        case .waiting: break
        }
        let wasActive = !isNew && entries[endpoint]!.state == .waiting
        guard endpoint.isDialable, wasActive || hasRoom(at: endpoint), enqueue(endpoint, teller) else {
            if !wasActive { ignored += 1 }
            return
        }
        if !wasActive { atAddress[SourceAddress(endpoint), default: 0] += 1 }
        entries[endpoint] = entry
    }
    private func hasRoom(at endpoint: Endpoint) -> Bool {
        atAddress[SourceAddress(endpoint), default: 0]
            < (endpoint.isPrivate ? limits.endpointsOfPrivateAddress : limits.endpointsOfAddress)
    }
    private mutating func enqueue(_ endpoint: Endpoint, _ address: SourceAddress?) -> Bool {
        var place = tellers.firstIndex { $0.address == address }
        if place == nil {
            tellers.removeAll { $0.queue.isEmpty }
            if tellers.count >= limits.tellers, let most = tellers.map(\.queue.count).max() {
                // Whoever told most makes room for somebody new.
                let gone = tellers.remove(at: tellers.firstIndex { $0.queue.count == most }!)
                for endpoint in gone.queue where entries[endpoint]?.state == .waiting && !isQueued(endpoint) {
                    forget(endpoint)
                }
            }
            tellers.append(Teller(address: address))
            place = tellers.count - 1
        }
        guard tellers[place!].queue.count < limits.endpointsOfTeller, !tellers[place!].queue.contains(endpoint) else {
            return false
        }
        tellers[place!].queue.append(endpoint)
        return true
    }
    private func isQueued(_ endpoint: Endpoint) -> Bool { tellers.contains { $0.queue.contains(endpoint) } }

    /// The next to dial, from the teller whose turn it is.
    mutating func next() -> Endpoint? {
        for step in 0..<tellers.count {
            let place = (turn + step) % tellers.count
            while !tellers[place].queue.isEmpty {
                let endpoint = tellers[place].queue.removeFirst()
                guard entries[endpoint]?.state == .waiting else { continue }
                entries[endpoint]!.state = .dialling
                turn = place + 1
                return endpoint
            }
        }
        return nil
    }
    /// Those whose pause is over queue up again.
    mutating func wake(at now: Instant) {
        while let first = pauses.first, first.at <= now {
            pauses.popFirst()
            guard let entry = entries[first.item], entry.state == .pausing(until: first.at) else { continue }
            entries[first.item]!.state = .waiting
            if !enqueue(first.item, entry.teller) { forget(first.item) }
        }
        tidy()
    }
    /// So that ``nextWake`` is never about something that is over.
    private mutating func tidy() {
        while let first = pauses.first, entries[first.item]?.state != .pausing(until: first.at) { pauses.popFirst() }
    }

    /// A dial came to nothing.
    ///
    /// - Parameter pause: until the next try, unless this was the last one for now.
    /// - Returns: whether it was, for the first time.
    mutating func failed(_ endpoint: Endpoint, pause: Duration, final: Bool, at now: Instant) -> Bool {
        guard let entry = entries[endpoint], entry.state == .dialling else { return false }
        entries[endpoint]!.failures += 1
        if final || entry.failures + 1 >= limits.tries {
            rest(endpoint, at: now)
            return entry.rests == 0
        }
        self.pause(endpoint, until: now + pause)
        return false
    }
    /// A dial was given up for a better connection.
    mutating func postponed(_ endpoint: Endpoint, until: Instant) {
        if entries[endpoint]?.state == .dialling { pause(endpoint, until: until) }
    }
    private mutating func pause(_ endpoint: Endpoint, until: Instant) {
        entries[endpoint]!.state = .pausing(until: until)
        pauses.push(endpoint, at: until)
        tidy()
    }
    private mutating func rest(_ endpoint: Endpoint, at now: Instant) {
        release(endpoint)
        var time = limits.restFirst
        for _ in 0..<min(16, entries[endpoint]!.rests) where time < limits.restMax { time = time * 2 }
        entries[endpoint]!.rests += 1
        entries[endpoint]!.state = .resting(until: now + min(time, limits.restMax))
        rested.append(endpoint)
        if rested.count > limits.resting {
            let oldest = rested.removeFirst()
            if case .resting? = entries[oldest]?.state, !rested.contains(oldest) { entries[oldest] = nil }
        }
    }
    private mutating func release(_ endpoint: Endpoint) {
        let address = SourceAddress(endpoint)
        let left = atAddress[address, default: 1] - 1
        atAddress[address] = left == 0 ? nil : left
    }
    private mutating func forget(_ endpoint: Endpoint) {
        switch entries[endpoint]?.state {
        case .waiting?, .dialling?, .pausing?: release(endpoint)
        case .resting?, .leads?, nil: break
        }
        entries[endpoint] = nil
    }

    /// A peer is connected and can be dialled there, as far as is known.
    mutating func leads(_ endpoint: Endpoint, to peer: PeerID) {
        if case .leads(let other)? = entries[endpoint]?.state {
            if other == peer { return }
            ledBy[other]?.removeAll { $0 == endpoint }
        }
        forget(endpoint)
        entries[endpoint] = Entry(state: .leads(peer), teller: nil)
        ledBy[peer, default: []].append(endpoint)
        if ledBy[peer]!.count > Routes.most { entries[ledBy[peer]!.removeFirst()] = nil }
        tidy()
    }
    /// The peer is gone; whoever tells of its endpoints is listened to again.
    mutating func lost(_ peer: PeerID) {
        for endpoint in ledBy.removeValue(forKey: peer) ?? [] { entries[endpoint] = nil }
    }
    /// Another network, or after sleep: nothing rests or pauses.
    mutating func hurry(at now: Instant) {
        for endpoint in entries.keys.sorted() {
            guard let entry = entries[endpoint] else { continue }
            switch entry.state {
            case .resting: entries[endpoint] = nil
            case .pausing:
                entries[endpoint]!.state = .waiting
                entries[endpoint]!.failures = 0
                if !enqueue(endpoint, entry.teller) { forget(endpoint) }
            case .waiting, .dialling, .leads: break
            }
        }
        rested = []
        tidy()
    }
}
