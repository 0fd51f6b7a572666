public import Messages
public import Primitives
public import Training

/// States of units, offered to whoever may fetch them: exported once, kept while somebody asks for any part of them.
public struct StateShelf: Sendable {
    private struct Round: Sendable {
        var parts: [Int: StateOffer.Part] = [:]
        /// Taken off when nobody asked for so long; nil: stays.
        var keep: Duration?
        var lastAsked: Instant

        var contents: [Digest256] {
            parts.values.flatMap { [$0.roots.parameters, $0.roots.outerMomentum, $0.moments].compactMap { $0 } }
        }
    }
    private var states: [Int: Round] = [:]
    public private(set) var shelf = ContentShelf()
    /// How long a state is kept that nobody asks for.
    public static let keep = Duration.seconds(60)
    /// An older one, once a newer is here.
    public static let idle = Duration.seconds(10)
    /// Rounds whose states are kept for a time, at once: the one that was not asked for longest goes.
    public static let most = 3
    public init() {}

    /// What an engine exported as of the start of `round`. A state that cannot be read any more is left out.
    public mutating func put(_ units: [UnitState], round: Int, keep: Duration? = StateShelf.keep, at now: Instant) {
        var here = states.removeValue(forKey: round) ?? Round(keep: keep, lastAsked: now)
        here.keep = keep
        here.lastAsked = now
        for state in units {
            guard let indices = state.indices ?? UnitIndices(of: state) else { continue }
            let roots = UnitRoots(
                unit: state.unit, parameters: shelf.put([state.parameters], indices.parameters, at: now),
                outerMomentum: indices.outerMomentum.map { shelf.put([state.outerMomentum], $0, at: now) })
            // A copy of what is here with moments takes nothing away from it.
            if indices.moments == nil, let before = here.parts[state.unit], before.roots == roots,
                before.moments != nil
            {
                continue
            }
            here.parts[state.unit] = StateOffer.Part(
                roots: roots, moments: indices.moments.map { shelf.put(state.moments, $0, at: now) },
                optimizerSteps: state.optimizerSteps)
        }
        states[round] = here
        // Nobody is fetching them any more: there is a newer one.
        for old in rounds where old < round {
            if let before = states[old], before.keep != nil, before.lastAsked + Self.idle <= now { remove(old) }
        }
        let timed = states.filter { $0.value.keep != nil }
        guard timed.count > Self.most else { return }
        if let oldest = timed.min(by: { ($0.value.lastAsked, $0.key) < ($1.value.lastAsked, $1.key) }) {
            remove(oldest.key)
        }
    }
    public var rounds: [Int] { states.keys.sorted() }
    /// Units whose states as of the start of a round are here.
    public func units(of round: Int) -> [Int] { states[round]?.parts.keys.sorted() ?? [] }
    /// What is here of one round stays until it is taken off; all else goes.
    public mutating func keepOnly(_ round: Int) {
        for other in rounds where other != round { remove(other) }
        states[round]?.keep = nil
    }

    /// What of a request can be offered; nil where a unit is not here.
    public func offer(_ request: StateRequest) -> StateOffer? {
        guard let here = states[request.round] else { return nil }
        var out: [StateOffer.Part] = []
        for unit in request.units {
            guard var part = here.parts[unit] else { return nil }
            if !request.moments { part.moments = nil }
            out.append(part)
        }
        return StateOffer(round: request.round, parts: out)
    }
    public mutating func removeAll() {
        states = [:]
        shelf.removeAll()
    }
    /// Those of later rounds are of seals that are void.
    public mutating func remove(after round: Int) {
        for late in rounds where late > round { remove(late) }
    }
    private mutating func remove(_ round: Int) {
        guard let gone = states.removeValue(forKey: round) else { return }
        let others = Set(states.values.flatMap(\.contents))
        for content in gone.contents where !others.contains(content) { shelf.remove(content) }
    }

    public mutating func answer(indexOf id: Digest256, from first: Int, at now: Instant) -> IndexPart? {
        touch(id, at: now)
        return shelf.answer(indexOf: id, from: first, at: now)
    }
    public mutating func answer(chunk number: Int, of id: Digest256, at now: Instant) -> [UInt8]? {
        touch(id, at: now)
        return shelf.answer(chunk: number, of: id, at: now)
    }
    /// Whoever fetches one content of a state will want the others, however slow its line.
    private mutating func touch(_ id: Digest256, at now: Instant) {
        guard shelf.holds(id) else { return }
        for round in states.keys where states[round]!.contents.contains(id) { states[round]!.lastAsked = now }
    }

    /// Takes off what nobody asks for any more.
    public mutating func wake(at now: Instant) {
        for round in rounds {
            if let keep = states[round]!.keep, states[round]!.lastAsked + keep <= now { remove(round) }
        }
    }
    public var nextWake: Instant? {
        states.values.compactMap { round in round.keep.map { round.lastAsked + $0 } }.min()
    }
}
