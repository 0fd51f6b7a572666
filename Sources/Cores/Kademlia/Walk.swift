import Primitives

/// One iterative search towards a target in one address family (Kademlia §2.3), as a state machine without I/O.
///
/// - Candidates are divided among `paths` disjoint paths (S/Kademlia, Baumgart & Mies 2007): whoever is learnt from a node
///   stays on that node's path, each path must reach its own end, and no node serves two. A liar spoils one path.
/// - The walk ends when the k closest candidates that are not silent have answered, and the closest few of every path.
/// - Everybody inside the radius that k nodes should fill belongs to the end of the walk, up to three times k: who crowds
///   around a target only widens the circle that is asked (SR-DHT-Store, arXiv 2505.01139).
/// - While k others are in sight, nodes whose ID does not fit their public address (BEP 42) are neither asked nor believed.
/// - A silent candidate steps aside at once; should it answer later, it is taken back.
/// - When so few answered that a lost datagram would matter, the silent ones are asked again with doubled patience.
struct Walk: Sendable {
    enum State: Sendable { case fresh, asked, silent, answered, dropped }
    /// What the candidate did with the item or announcement it was given.
    enum Replica: Sendable { case none, pending, confirmed, refused }

    struct Candidate: Sendable {
        var contact: PackedContact
        var path: UInt8
        var hop: UInt8
        var state = State.fresh
        var attempts: UInt8 = 0
        var token: ArraySlice<UInt8>?
        var replica = Replica.none
        /// Of the item it returned.
        var sequence: Int64?
        /// Node ID and address agree (BEP 42), or the address is exempt.
        var isCompliant: Bool
    }
    /// An address whose node ID is not known yet: a bootstrap node.
    struct Stranger: Sendable {
        var address: PackedEndpoint
        var state = State.fresh
        var attempts: UInt8 = 0
    }
    struct Ask: Sendable {
        var address: PackedEndpoint
        var id: NodeID?
        /// 0 for the first time.
        var attempt: UInt8
    }

    let target: NodeID
    let family: Family
    let own: NodeID
    let k: Int
    let alpha: Int
    let paths: Int
    /// A fraction of the key space.
    let radius: Double
    private(set) var candidates: [Candidate] = []
    private(set) var strangers: [Stranger] = []
    private(set) var queries = 0
    private(set) var timeouts = 0
    private var nextPath: UInt8 = 0

    static let queryLimit = 200
    static let candidateLimit = 128

    init(target: NodeID, family: Family, own: NodeID, k: Int, alpha: Int, paths: Int, radius: Double) {
        (self.target, self.family, self.own, self.radius) = (target, family, own, radius)
        (self.k, self.alpha, self.paths) = (k, alpha, paths)
    }

    // MARK: Who might be asked

    /// A contact to start from; the paths take turns.
    mutating func start(with contact: PackedContact) {
        if add(contact, path: nextPath, hop: 0) { nextPath = (nextPath + 1) % UInt8(paths) }
    }
    mutating func start(with address: PackedEndpoint) {
        guard address.family == family, !strangers.contains(where: { $0.address == address }),
            !candidates.contains(where: { $0.contact.address == address })
        else { return }
        strangers.append(Stranger(address: address))
    }

    @discardableResult
    private mutating func add(_ contact: PackedContact, path: UInt8, hop: UInt8) -> Bool {
        guard contact.id != own, contact.address.family == family else { return false }
        let distance = contact.id ^ target
        var slot = candidates.count
        var samePrefix = 0
        for (index, known) in candidates.enumerated() {
            if known.contact.id == contact.id || known.contact.address == contact.address { return false }
            if slot == candidates.count, distance < known.contact.id ^ target { slot = index }
            if known.contact.address.prefix == contact.address.prefix { samePrefix += 1 }
        }
        // One /24 (/56) must not be the neighbourhood.
        guard contact.address.isPrivate || samePrefix < 2 else { return false }
        let compliant = contact.address.isPrivate || NodeIDRule.allows(contact.id, at: contact.address.endpoint)
        candidates.insert(Candidate(contact: contact, path: path, hop: hop, isCompliant: compliant), at: slot)
        if candidates.count > Self.candidateLimit, let far = candidates.lastIndex(where: { $0.state == .fresh }) {
            candidates.remove(at: far)
        }
        return true
    }

    // MARK: Whom to ask next

    /// Candidates that still count, closest first, with their place in the whole order and on their path.
    private func forEachLive(_ body: (_ index: Int, _ rank: Int, _ rankOnPath: Int) -> Void) {
        var rank = 0
        let fitting = candidates.count { $0.isCompliant && $0.state != .silent && $0.state != .dropped }
        var ranks = [Int](repeating: 0, count: paths)
        for (index, candidate) in candidates.enumerated()
        where candidate.state != .silent && candidate.state != .dropped {
            if !candidate.isCompliant, fitting >= k { continue }
            body(index, rank, ranks[Int(candidate.path)])
            rank += 1
            ranks[Int(candidate.path)] += 1
        }
    }
    /// Whether a candidate must answer before the walk may end.
    private func counts(_ index: Int, _ rank: Int, _ rankOnPath: Int) -> Bool {
        rank < k || rankOnPath < pathWidth
            || (rank < 3 * k && (candidates[index].contact.id ^ target).fraction <= radius)
    }
    private var pathWidth: Int { (k + paths - 1) / paths }

    /// The next query to send, marked as sent; nil when enough are in flight or nobody is left.
    mutating func next() -> Ask? {
        if let index = strangers.firstIndex(where: { $0.state == .fresh }) {
            strangers[index].state = .asked
            defer { strangers[index].attempts += 1 }
            queries += 1
            return Ask(address: strangers[index].address, id: nil, attempt: strangers[index].attempts)
        }
        guard queries < Self.queryLimit else { return nil }
        var inFlight = [Int](repeating: 0, count: paths)
        var total = 0
        var firstFresh: Int?
        var firstAnswered: Int?
        for (index, candidate) in candidates.enumerated() {
            switch candidate.state {
            case .asked:
                inFlight[Int(candidate.path)] += 1
                total += 1
            case .fresh: firstFresh = firstFresh ?? index
            case .answered: firstAnswered = firstAnswered ?? index
            case .silent, .dropped: break
            }
        }
        guard let firstFresh else { return nil }
        // The end of a walk, and a small network: nobody closer is in sight, so the rest of the k are asked together.
        let isEnding = firstAnswered.map { $0 < firstFresh } ?? (candidates.count <= k)
        let perPath = max(1, alpha / paths) + min(2, timeouts / paths)
        var chosen: Int?
        forEachLive { index, rank, rankOnPath in
            guard chosen == nil, candidates[index].state == .fresh, counts(index, rank, rankOnPath) else { return }
            if isEnding ? total < k + 2 : inFlight[Int(candidates[index].path)] < perPath { chosen = index }
        }
        guard let chosen else { return nil }
        candidates[chosen].state = .asked
        defer { candidates[chosen].attempts += 1 }
        queries += 1
        let contact = candidates[chosen].contact
        return Ask(address: contact.address, id: contact.id, attempt: candidates[chosen].attempts)
    }

    /// Nothing more to learn: see the type's description.
    var isConverged: Bool {
        var open = false
        var answered = 0
        forEachLive { index, rank, rankOnPath in
            if candidates[index].state == .answered {
                answered += 1
            } else if counts(index, rank, rankOnPath) {
                open = true
            }
        }
        if queries >= Self.queryLimit { return !candidates.contains { $0.state == .asked } }
        return !open && (answered >= k || !strangers.contains { $0.state == .asked || $0.state == .fresh })
    }

    /// Gives silent candidates another chance while fewer than four answered. True when there is somebody to ask again.
    mutating func revive() -> Bool {
        guard candidates.count(where: { $0.state == .answered }) < min(4, k) else { return false }
        var revived = false
        for index in candidates.indices where candidates[index].state == .silent && candidates[index].attempts < 3 {
            candidates[index].state = .fresh
            revived = true
        }
        for index in strangers.indices where strangers[index].state == .silent && strangers[index].attempts < 3 {
            strangers[index].state = .fresh
            revived = true
        }
        return revived
    }

    // MARK: What came of it

    /// `address` answered as `id` and named `closer`. Returns the candidate's place.
    mutating func answered(
        from address: PackedEndpoint, id: NodeID, token: ArraySlice<UInt8>?, closer: [PackedContact]
    ) -> Int? {
        var path = nextPath
        var hop: UInt8 = 0
        if let index = strangers.firstIndex(where: { $0.address == address }) {
            strangers[index].state = .answered
            nextPath = (nextPath + 1) % UInt8(paths)
        }
        if let index = candidates.firstIndex(where: { $0.contact.address == address }) {
            path = candidates[index].path
            hop = candidates[index].hop
            if candidates[index].contact.id != id { candidates.remove(at: index) }
        }
        if !candidates.contains(where: { $0.contact.id == id }) {
            add(PackedContact(id: id, address: address), path: path, hop: hop)
        }
        if let index = candidates.firstIndex(where: { $0.contact.id == id && $0.contact.address == address }) {
            guard candidates[index].state != .dropped else { return nil }
            candidates[index].state = .answered
            candidates[index].token = token
        }
        // Neighbours of a node we asked without knowing it (bootstrap) are dealt out to all paths.
        let deals = hop == 0 && candidates.count <= k
        for contact in closer.sorted(by: { $0.id ^ target < $1.id ^ target }).prefix(20) {
            let onto = deals ? nextPath : path
            if add(contact, path: onto, hop: hop &+ 1), deals { nextPath = (nextPath + 1) % UInt8(paths) }
        }
        return candidates.firstIndex { $0.contact.id == id && $0.contact.address == address }
    }

    mutating func timedOut(_ address: PackedEndpoint) {
        timeouts += 1
        if let index = strangers.firstIndex(where: { $0.address == address }), strangers[index].state == .asked {
            strangers[index].state = .silent
        }
        if let index = candidates.firstIndex(where: { $0.contact.address == address }),
            candidates[index].state == .asked
        {
            candidates[index].state = .silent
        }
    }

    /// Never again in this walk: it refused, lied, or is ourselves.
    mutating func drop(_ address: PackedEndpoint) {
        if let index = strangers.firstIndex(where: { $0.address == address }) { strangers[index].state = .dropped }
        if let index = candidates.firstIndex(where: { $0.contact.address == address }) {
            candidates[index].state = .dropped
        }
    }

    func path(of address: PackedEndpoint) -> UInt8? {
        candidates.first { $0.contact.address == address }?.path
    }
    mutating func update(_ address: PackedEndpoint, _ change: (inout Candidate) -> Void) {
        guard let index = candidates.firstIndex(where: { $0.contact.address == address }) else { return }
        change(&candidates[index])
    }

    /// After a suspend: what was in flight is asked again.
    mutating func forgetFlights() {
        for index in candidates.indices where candidates[index].state == .asked { candidates[index].state = .fresh }
        for index in strangers.indices where strangers[index].state == .asked { strangers[index].state = .fresh }
    }

    /// The candidates that answered, closest first; those whose ID fits their address before the others.
    var live: [Candidate] {
        let all = candidates.filter { $0.state == .answered }
        return all.filter(\.isCompliant) + all.filter { !$0.isCompliant }
    }
}
