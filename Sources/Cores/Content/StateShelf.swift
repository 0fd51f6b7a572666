public import Messages
public import Primitives
public import Training
public import Wire

/// States of units, offered to whoever may fetch them: exported once, kept while somebody asks.
public struct StateShelf: Sendable {
    private var parts: [Int: [Int: StateOffer.Part]] = [:]
    public private(set) var shelf = ContentShelf()
    /// How long a state is kept that nobody asks for.
    public static let keep = Duration.seconds(60)
    public init() {}

    /// What an engine exported as of the start of `round`.
    public mutating func put(_ states: [UnitState], round: Int, keep: Duration? = StateShelf.keep, at now: Instant) {
        for state in states {
            let parameters = shelf.put(state.parameters, keep: keep, at: now)
            let momentum = state.outerMomentum.isEmpty ? nil : shelf.put(state.outerMomentum, keep: keep, at: now)
            let moments = state.firstMoment + state.secondMoment
            parts[round, default: [:]][state.unit] = StateOffer.Part(
                roots: UnitRoots(unit: state.unit, parameters: parameters, outerMomentum: momentum),
                moments: moments.isEmpty ? nil : shelf.put(moments, keep: keep, at: now),
                optimizerSteps: state.optimizerSteps)
        }
    }
    public var rounds: [Int] { parts.keys.sorted() }

    /// What of a request can be offered; nil where a unit is not here.
    public func offer(_ request: StateRequest) -> StateOffer? {
        guard let here = parts[request.round] else { return nil }
        var out: [StateOffer.Part] = []
        for unit in request.units {
            guard var part = here[unit], shelf.holds(part.roots.parameters) else { return nil }
            if !request.moments { part.moments = nil }
            out.append(part)
        }
        return StateOffer(round: request.round, parts: out)
    }
    public mutating func removeAll() {
        parts = [:]
        shelf.removeAll()
    }
    public mutating func answer(indexOf id: Digest256, from first: Int, at now: Instant) -> IndexPart? {
        shelf.answer(indexOf: id, from: first, at: now)
    }
    public mutating func answer(chunk number: Int, of id: Digest256, at now: Instant) -> [UInt8]? {
        shelf.answer(chunk: number, of: id, at: now)
    }
    public mutating func wake(at now: Instant) {
        shelf.wake(at: now)
        parts = parts.filter { round in round.value.values.contains { shelf.holds($0.roots.parameters) } }
    }
    public var nextWake: Instant? { shelf.nextWake }
}
