import Content
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// Units on their way into the engine, as of the start of a round: what the engine held before is kept where it can be used, the rest
/// is fetched.
package struct StateMove: Sendable {
    package enum Effect: Sendable {
        case send(Message, to: PeerID)
        case event(Happening, PeerID?)
    }
    package let units: Range<Int>
    package let round: Int
    /// Of the plan that wants it.
    package var epoch: Int
    /// The engine has been told.
    package private(set) var isLoading = false
    /// Nil where nothing is to be fetched.
    private var fetch: StateFetch?
    private var hasFetched: Bool
    /// Of the units that were held before, or are on this member's disk: they come out of the engine, or from there.
    private var own: [Int: UnitState] = [:]
    private var ownUnits: Set<Int>
    /// Units before it are in the engine.
    private var loaded: Int
    /// Said once for each source.
    private var asked: Set<PeerID> = []
    private var unavailable: Set<PeerID> = []
    private var effects = EffectQueue<Effect>()

    /// - Parameter own: units that come out of the engine, or from the disk, by ``exported(_:)``.
    package init(_ units: Range<Int>, round: Int, epoch: Int, fetch: StateFetch?, own: Set<Int>) {
        self.units = units
        self.round = round
        self.epoch = epoch
        self.fetch = fetch
        hasFetched = fetch == nil
        ownUnits = own.intersection(units)
        loaded = units.lowerBound
        drain()
    }

    package mutating func poll() -> Effect? { effects.pop() }
    /// Chunks.
    package var progress: (have: Int, of: Int) { fetch?.progress ?? (0, 0) }
    package var nextWake: Instant? { isLoading || hasFetched ? nil : fetch?.nextWake }
    /// Units that were held before are not out of the engine yet.
    package var waitsForEngine: Bool { !isLoading && !ownUnits.allSatisfy { own[$0] != nil } }
    /// All is here that the engine needs; it has not been told.
    package var isReady: Bool { !isLoading && hasFetched && ownUnits.allSatisfy { own[$0] != nil } }

    /// The engine is being told.
    package mutating func beginLoading() { isLoading = true }
    /// The next unit to load, in order; it is gone from here. Nil when nothing is left; then all others are as the seed draws them.
    package mutating func loadNext() -> UnitState? {
        while loaded < units.upperBound {
            let unit = loaded
            loaded += 1
            if let state = own.removeValue(forKey: unit) ?? fetch?.take(unit) { return state }
        }
        return nil
    }
    /// Units whose moments were not the only ones on offer.
    package var inexact: [Int] { fetch?.inexact ?? [] }

    // MARK: inputs

    package mutating func exported(_ states: [UnitState]) {
        // A copy has no moments: where both are here the member's own counts.
        for state in states
        where ownUnits.contains(state.unit) && (own[state.unit] == nil || !state.firstMoment.isEmpty) {
            own[state.unit] = state
        }
    }
    package mutating func agreed(_ roots: [UnitRoots], at now: Instant) { change { $0.agreed(roots, at: now) } }
    /// Units that have to come from others.
    package var missing: [Int] { isLoading || hasFetched ? [] : fetch?.wantedUnits ?? [] }
    /// Those of them that nobody is left to ask for.
    package var orphans: [Int] { isLoading || hasFetched ? [] : fetch?.orphans ?? [] }
    /// Some of them are on this member's disk after all: they come from there, by ``exported(_:)``.
    package mutating func finds(_ units: Set<Int>, at now: Instant) {
        let found = units.intersection(missing)
        ownUnits.formUnion(found)
        change { $0.leave(found, at: now) }
    }
    package mutating func add(sources: [Int: [PeerID]], at now: Instant) {
        change { $0.add(sources: sources, at: now) }
    }
    package mutating func lost(_ peer: PeerID, at now: Instant) { change { $0.lost(peer, at: now) } }
    package mutating func wake(at now: Instant) { change { $0.wake(at: now) } }

    /// - Returns: whether the message was about this.
    package mutating func receive(_ message: Message, from peer: PeerID, at now: Instant) -> Bool {
        guard let fetch, !hasFetched else { return false }
        switch message {
        case .stateOffer(let offer): change { $0.receive(offer, from: peer, at: now) }
        case .indexPart(let part) where fetch.wants(part.content): change { $0.receive(part, from: peer, at: now) }
        case .chunk(let content, let number, let bytes) where fetch.wants(content):
            change { $0.receive(chunk: number, of: content, bytes, from: peer, at: now) }
        case .chunkMissing(let content, let number) where fetch.wants(content):
            change { $0.missing(chunk: number, of: content, at: peer, now: now) }
        default: return false
        }
        return true
    }

    private mutating func change(_ body: (inout StateFetch) -> Void) {
        guard !hasFetched, fetch != nil else { return }
        body(&fetch!)
        drain()
    }

    private mutating func drain() {
        while let effect = fetch?.poll() {
            switch effect {
            case .send(let message, let peer):
                if case .stateRequest(let request) = message, asked.insert(peer).inserted {
                    effects.push(.event(.stateRequested(units: "\(request.units)", round: round), peer))
                }
                effects.push(.send(message, to: peer))
            case .wrong(let peer, let unit, _): effects.push(.event(.stateWrong(unit: unit), peer))
            case .unavailable(let peer, let why):
                guard unavailable.insert(peer).inserted else { continue }
                effects.push(.event(.stateUnavailable(why: why), peer))
            case .done: hasFetched = true
            }
        }
    }
}
