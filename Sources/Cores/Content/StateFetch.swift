public import Messages
public import Primitives
public import Training
public import Wire

/// Fetches the state of units as of the start of a round: asks holders which contents that is, takes only what the group has agreed
/// on, and fetches the contents in chunks, from all who offer them. Collections, moves and newcomers use this one way.
///
/// Parameters and outer momentum must be what ``roots`` says. Moments differ from pipeline to pipeline in rounds, so that no group
/// can agree on them: those of most offers are taken, of equals those of the source that is named first; whether they were one of
/// several is told (``inexact``).
public struct StateFetch: Sendable {
    public enum Effect: Sendable {
        case send(Message, to: PeerID)
        /// It offered, or sent, what is not the agreed state.
        case wrong(PeerID, unit: Int, why: String)
        case unavailable(PeerID, why: String)
        case done
    }
    /// A content of a unit.
    private enum Piece: Int, CaseIterable, Sendable { case parameters, outerMomentum, moments }
    private struct Unit: Sendable {
        var sources: [PeerID]
        var roots: UnitRoots?
        var offers: [PeerID: StateOffer.Part] = [:]
        var fetches: [Piece: ContentFetch] = [:]
        /// Weights come already; whose moments are taken is not decided.
        var choosesMoments = false
        var optimizerSteps = 0
        var isInexact = false
        /// Sources that have offered another state than was agreed on, at last.
        var wrong: Set<PeerID> = []
        var isBegun: Bool { fetches[.parameters] != nil }
        var isComplete: Bool { isBegun && !choosesMoments && fetches.values.allSatisfy(\.isComplete) }
    }
    private struct Asked: Sendable {
        var at: Instant
        var answered = false
        /// It offered another state.
        var isWrong = false
        /// It has nothing of this round, or not yet: it is asked again later, and hardly waited for.
        var hasNothing = false
    }

    public let round: Int
    private let wantsMoments: Bool
    /// All holders have the same moments and go on alike, so that nobody can go on without: with a step a round.
    private let needsMoments: Bool
    private let model: ModelShape
    private let offset: Int
    /// Where what comes is put down; nil for memory.
    private let room: (any ByteRoom)?
    private var units: [Int: Unit] = [:]
    private var asked: [PeerID: Asked] = [:]
    /// Sources that had nothing of this round when they answered last.
    private var empty: Set<PeerID> = []
    private var effects = EffectQueue<Effect>()
    private var isDone = false

    /// A holder that does not answer what it has is asked again after this.
    private static let retry = Duration.seconds(5)
    /// One that offered another state, after this.
    private static let doubt = Duration.seconds(20)
    /// Offers of others are waited for so long, where moments are to be chosen among them.
    private static let choice = Duration.seconds(2)
    /// So long of those who say that they have nothing (yet).
    private static let shortChoice = Duration.milliseconds(250)
    private var begun: Instant

    /// - Parameters:
    ///   - sources: who holds each unit, the preferred first; whoever is named twice is asked once.
    ///   - roots: what the group agreed on, as far as it is known yet.
    ///   - needsMoments: whether a copy without them is no substitute while somebody may have them.
    ///   - offset: varies where fetchers begin.
    ///   - room: where what comes is put down; nil for memory.
    public init(
        round: Int, sources: [Int: [PeerID]], roots: [Int: UnitRoots], moments: Bool,
        needsMoments: Bool = false, model: ModelShape, offset: Int, room: (any ByteRoom)? = nil, at now: Instant
    ) {
        self.round = round
        self.room = room
        wantsMoments = moments
        self.needsMoments = moments && needsMoments
        self.model = model
        self.offset = offset
        begun = now
        for unit in sources.keys { units[unit] = Unit(sources: [], roots: roots[unit]) }
        add(sources: sources, at: now)
    }

    public mutating func poll() -> Effect? { effects.pop() }
    public var wantedUnits: [Int] { units.keys.sorted() }
    /// Units whose moments were not the only ones on offer.
    public var inexact: [Int] { wantedUnits.filter { units[$0]!.isInexact } }
    /// Chunks.
    public var progress: (have: Int, of: Int) {
        var (have, total) = (0, 0)
        for unit in units.values {
            for fetch in unit.fetches.values {
                have += fetch.progress.have
                total += fetch.progress.of
            }
        }
        return (have, total)
    }
    /// Units for which nobody is left who could be asked, but who has offered another state, or has nothing (yet).
    public var orphans: [Int] {
        wantedUnits.filter { number in
            let unit = units[number]!
            return !unit.isComplete && unit.sources.allSatisfy { unit.wrong.contains($0) || empty.contains($0) }
        }
    }

    // MARK: inputs

    /// The group has agreed.
    public mutating func agreed(_ roots: [UnitRoots], at now: Instant) {
        for root in roots where units[root.unit] != nil && units[root.unit]!.roots == nil {
            units[root.unit]!.roots = root
        }
        begin(at: now)
    }
    /// Others hold a unit, too.
    public mutating func add(sources more: [Int: [PeerID]], at now: Instant) {
        for (unit, peers) in more where units[unit] != nil {
            for peer in peers where !units[unit]!.sources.contains(peer) { units[unit]!.sources.append(peer) }
        }
        ask(at: now)
    }
    /// Units that nobody need give any more.
    public mutating func leave(_ numbers: Set<Int>, at now: Instant) {
        for number in numbers { units[number] = nil }
        step(at: now)
    }
    public mutating func lost(_ peer: PeerID, at now: Instant) {
        asked[peer] = nil
        empty.remove(peer)
        for unit in wantedUnits {
            units[unit]!.sources.removeAll { $0 == peer }
            units[unit]!.offers[peer] = nil
            for piece in units[unit]!.fetches.keys { units[unit]!.fetches[piece]!.lost(peer) }
        }
        step(at: now)
    }

    public mutating func receive(_ offer: StateOffer, from peer: PeerID, at now: Instant) {
        guard offer.round == round, asked[peer] != nil else { return }
        asked[peer]!.answered = true
        if let why = offer.unavailable {
            effects.push(.unavailable(peer, why: why))
            asked[peer] = Asked(at: now, hasNothing: true)
            empty.insert(peer)
        } else {
            empty.remove(peer)
        }
        for part in offer.parts {
            guard units[part.unit]?.sources.contains(peer) == true else { continue }
            units[part.unit]!.offers[peer] = part
        }
        begin(at: now)
    }

    public mutating func receive(_ part: IndexPart, from peer: PeerID, at now: Instant) {
        for (unit, piece) in places(of: part.content) {
            judge(units[unit]!.fetches[piece]!.receive(part, from: peer, at: now), unit, peer)
        }
        step(at: now)
    }
    public mutating func receive(chunk: Int, of id: Digest256, _ bytes: [UInt8], from peer: PeerID, at now: Instant) {
        for (unit, piece) in places(of: id) {
            judge(units[unit]!.fetches[piece]!.receive(chunk: chunk, bytes, from: peer, at: now), unit, peer)
        }
        step(at: now)
    }
    public mutating func missing(chunk: Int, of id: Digest256, at peer: PeerID, now: Instant) {
        for (unit, piece) in places(of: id) { units[unit]!.fetches[piece]!.missing(chunk, at: peer, now: now) }
        step(at: now)
    }
    public func wants(_ id: Digest256) -> Bool { !places(of: id).isEmpty }

    public mutating func wake(at now: Instant) {
        ask(at: now)
        begin(at: now)
    }
    public var nextWake: Instant? {
        guard !isDone else { return nil }
        var next: Instant?
        var wanted: Set<PeerID> = []
        for unit in units.values where !unit.isComplete {
            wanted.formUnion(unit.sources.filter { unit.offers[$0] == nil })
        }
        for (peer, request) in asked where !request.answered && wanted.contains(peer) {
            next = earliest(next, dueAgain(request))
        }
        for unit in units.values {
            if unit.choosesMoments {
                next = earliest(next, choosesAt(unit, unit.sources.filter { unit.offers[$0] != nil }))
            }
            for fetch in unit.fetches.values { next = earliest(next, fetch.nextWake) }
        }
        return next
    }

    // MARK: what follows

    private func dueAgain(_ request: Asked) -> Instant { request.at + (request.isWrong ? Self.doubt : Self.retry) }

    private func places(of id: Digest256) -> [(unit: Int, piece: Piece)] {
        wantedUnits.flatMap { unit in
            Piece.allCases.filter { units[unit]!.fetches[$0]?.id == id }.map { (unit, $0) }
        }
    }
    private mutating func judge(_ verdict: ContentFetch.Verdict, _ unit: Int, _ peer: PeerID) {
        if case .wrong(let why) = verdict { effects.push(.wrong(peer, unit: unit, why: why)) }
    }

    /// Asks every source for what it holds of what is still wanted.
    private mutating func ask(at now: Instant) {
        var wanted: [PeerID: [Int]] = [:]
        var order: [PeerID] = []
        for unit in wantedUnits where !units[unit]!.isComplete {
            for source in units[unit]!.sources where units[unit]!.offers[source] == nil {
                if wanted[source] == nil { order.append(source) }
                wanted[source, default: []].append(unit)
            }
        }
        for source in order {
            if let before = asked[source], dueAgain(before) > now { continue }
            asked[source] = Asked(at: now)
            let request = StateRequest(round: round, units: wanted[source]!, moments: wantsMoments)
            effects.push(.send(.stateRequest(request), to: source))
        }
    }

    /// Begins to fetch units that are agreed on and offered.
    private mutating func begin(at now: Instant) {
        for unit in wantedUnits {
            guard let roots = units[unit]!.roots else { continue }
            for peer in units[unit]!.sources {
                guard let offer = units[unit]!.offers[peer] else { continue }
                guard offer.roots != roots else {
                    units[unit]!.wrong.remove(peer)
                    continue
                }
                // It may find out itself, and fetch the right one: it is asked again, and named once.
                units[unit]!.offers[peer] = nil
                asked[peer] = Asked(at: now, isWrong: true)
                guard units[unit]!.wrong.insert(peer).inserted else { continue }
                effects.push(.wrong(peer, unit: unit, why: "it offers another state than the holders agreed on"))
            }
            let offering = units[unit]!.sources.filter { units[unit]!.offers[$0] != nil }
            if units[unit]!.isBegun {
                for peer in offering { join(peer, unit: unit, at: now) }
            } else if !offering.isEmpty {
                beginWeights(unit, roots, offering, at: now)
            }
            if units[unit]!.choosesMoments, let due = choosesAt(units[unit]!, offering), due <= now {
                beginMoments(unit, offering, at: now)
            }
        }
        step(at: now)
    }

    /// When moments are chosen among the offers there are: at once when no other offer can come that would be taken instead. Each pipeline has
    /// moments of its own, so that of offers that differ the preferred source's is the one. Nil: not before somebody who may have them has answered, or
    /// is gone.
    private func choosesAt(_ unit: Unit, _ offering: [PeerID]) -> Instant? {
        let missing = unit.sources.filter { !offering.contains($0) && !unit.wrong.contains($0) }
        if missing.isEmpty { return begun }
        guard missing.allSatisfy({ asked[$0]?.hasNothing == true }) else {
            if needsMoments, !offering.contains(where: { unit.offers[$0]!.moments != nil }) { return nil }
            return begun + Self.choice
        }
        let hasPreferred = unit.sources.first.map { unit.offers[$0]?.moments != nil } ?? false
        return hasPreferred ? begun : begun + Self.shortChoice
    }
    private func fetch(_ id: Digest256, _ bytes: Int, _ peers: [PeerID], at now: Instant) -> ContentFetch {
        ContentFetch(id: id, bytes: bytes, holders: peers, offset: offset, room: room, at: now)
    }
    /// All holders have the same weights: they come while it is not decided yet whose moments are taken.
    private mutating func beginWeights(_ unit: Int, _ roots: UnitRoots, _ offering: [PeerID], at now: Instant) {
        let bytes = model.parameters(unit: unit) * 4
        units[unit]!.fetches[.parameters] = fetch(roots.parameters, bytes, offering, at: now)
        if let momentum = roots.outerMomentum {
            units[unit]!.fetches[.outerMomentum] = fetch(momentum, bytes, offering, at: now)
        }
        units[unit]!.choosesMoments = wantsMoments
    }
    private mutating func beginMoments(_ unit: Int, _ offering: [PeerID], at now: Instant) {
        units[unit]!.choosesMoments = false
        guard let chosen = chosenMoments(unit, offering) else { return }
        let same = offering.filter { units[unit]!.offers[$0]!.moments == chosen.id }
        units[unit]!.fetches[.moments] = fetch(chosen.id, 8 * model.parameters(unit: unit), same, at: now)
        units[unit]!.optimizerSteps = chosen.steps
        // Whoever has only a copy has no moments.
        units[unit]!.isInexact = same.count < offering.count { units[unit]!.offers[$0]!.moments != nil }
    }
    private func chosenMoments(_ unit: Int, _ offering: [PeerID]) -> (id: Digest256, steps: Int)? {
        var best: (id: Digest256, steps: Int, count: Int)?
        for peer in offering {
            guard let offer = units[unit]!.offers[peer], let id = offer.moments else { continue }
            let count = offering.count { units[unit]!.offers[$0]!.moments == id }
            if best == nil || count > best!.count { best = (id, offer.optimizerSteps, count) }
        }
        return best.map { ($0.id, $0.steps) }
    }
    /// A later offer of the same contents: one more holder.
    private mutating func join(_ peer: PeerID, unit: Int, at now: Instant) {
        let offer = units[unit]!.offers[peer]!
        for piece in Piece.allCases {
            // A holder already: that it once offered is no sign of life now.
            guard let fetch = units[unit]!.fetches[piece], !fetch.isHolder(peer) else { continue }
            if piece != .moments || offer.moments == fetch.id {
                units[unit]!.fetches[piece]!.add(holder: peer, at: now)
            }
        }
    }

    private mutating func step(at now: Instant) {
        guard !isDone else { return }
        for unit in wantedUnits {
            for piece in Piece.allCases {
                guard let id = units[unit]!.fetches[piece]?.id else { continue }
                // Whoever had these moments is gone: others' are taken.
                if piece == .moments, !units[unit]!.fetches[piece]!.isComplete, !units[unit]!.fetches[piece]!.hasHolders
                {
                    chooseAgain(unit, at: now)
                    continue
                }
                for (request, peer) in units[unit]!.fetches[piece]!.requests(at: now) {
                    let message: Message =
                        switch request {
                        case .index(let first): .indexRequest(content: id, first: first)
                        case .chunk(let number): .chunkRequest(content: id, chunk: number)
                        }
                    effects.push(.send(message, to: peer))
                }
            }
        }
        if wantedUnits.allSatisfy({ units[$0]!.isComplete }) {
            isDone = true
            effects.push(.done)
        }
    }
    private mutating func chooseAgain(_ unit: Int, at now: Instant) {
        units[unit]!.fetches[.moments] = nil
        let offering = units[unit]!.sources.filter { units[unit]!.offers[$0] != nil }
        units[unit]!.isInexact = true
        guard let chosen = chosenMoments(unit, offering) else { return }
        units[unit]!.optimizerSteps = chosen.steps
        units[unit]!.fetches[.moments] = fetch(
            chosen.id, 8 * model.parameters(unit: unit),
            offering.filter { units[unit]!.offers[$0]!.moments == chosen.id }, at: now)
        for (request, peer) in units[unit]!.fetches[.moments]!.requests(at: now) {
            if case .index(let first) = request {
                effects.push(.send(.indexRequest(content: chosen.id, first: first), to: peer))
            }
        }
    }

    /// One unit, once ``Effect/done`` has come; it is gone from here, so that nothing large is there twice.
    public mutating func take(_ number: Int) -> UnitState? {
        guard let fetches = units[number]?.fetches, let parameters = fetches[.parameters]?.stored else { return nil }
        units[number]!.fetches = [:]
        var state = UnitState(
            unit: number, parameters: parameters, outerMomentum: fetches[.outerMomentum]?.stored ?? StoredBytes(),
            optimizerSteps: units[number]!.optimizerSteps)
        if let moments = fetches[.moments]?.stored {
            state.firstMoment = moments[0..<moments.count / 2]
            state.secondMoment = moments[moments.count / 2..<moments.count]
        }
        if let index = fetches[.parameters]?.index {
            state.indices = UnitIndices(
                parameters: index, outerMomentum: fetches[.outerMomentum]?.index, moments: fetches[.moments]?.index)
        }
        return state
    }
}
