import Content
import Messages
import Primitives
import Training
import Wire

/// Gives the state of units to whoever may fetch it: exported from the engine once for all who ask, then served in chunks.
///
/// Who asks for a round that this member has not reached waits until it has; who asks too late, or for what is not held here, is told.
package struct StateDesk: Sendable {
    package enum Effect: Sendable {
        case send(Message, to: PeerID)
        case export(Range<Int>, moments: Bool, round: Int)
        /// From this member's own disk.
        case read(StartName)
    }
    private struct Waiting: Sendable {
        var from: PeerID
        var request: StateRequest
    }
    private struct Export: Sendable {
        var units: Range<Int>
        var moments: Bool
        /// On the shelf; else the engine is at it.
        var isHere: Bool
    }
    /// From this member's own disk: there is no more of it than what is read, with moments or without.
    private struct Reading: Sendable {
        var units: [Int]
        var isHere = false
    }
    private var shelf = StateShelf()
    private var exports: [Int: Export] = [:]
    private var readings: [StartName: Reading] = [:]
    /// One of each peer, in the order in which they asked.
    private var waiting: [Waiting] = []
    private var effects = EffectQueue<Effect>()
    /// What is on this member's own disk.
    package var kept: [KeptStage] = []
    package static let limit = 4096

    package init() {}

    package mutating func poll() -> Effect? { effects.pop() }
    package var nextWake: Instant? { shelf.nextWake }
    /// Peers that are not answered yet.
    package var waitingPeers: [PeerID] { waiting.map(\.from) }

    package mutating func receive(_ request: StateRequest, from peer: PeerID, _ stock: Holding.Stock) {
        waiting.removeAll { $0.from == peer }
        guard !request.units.isEmpty, waiting.count < Self.limit else { return }
        waiting.append(Waiting(from: peer, request: request))
        serve(stock)
    }

    /// Lists and chunks of what is on the shelf.
    /// - Returns: whether the message was about it.
    package mutating func receive(content message: Message, from peer: PeerID, at now: Instant) -> Bool {
        switch message {
        case .indexRequest(let id, let first):
            guard let part = shelf.answer(indexOf: id, from: first, at: now) else { return false }
            effects.push(.send(.indexPart(part), to: peer))
        case .chunkRequest(let id, let number):
            let bytes = shelf.answer(chunk: number, of: id, at: now)
            let answer = bytes.map { Message.chunk(content: id, chunk: number, bytes: $0) }
            effects.push(.send(answer ?? .chunkMissing(content: id, chunk: number), to: peer))
        default: return false
        }
        return true
    }

    /// What became of a file that was to be read, by whoever wanted it.
    package mutating func read(_ reading: RoundStarts.Reading, _ stock: Holding.Stock, at now: Instant) {
        switch reading {
        case .refused(let name): readings[name] = nil
        case .read(let start):
            // What is in the engine, or the member's own file, has moments: a copy does not take its place.
            let others = start.isCopy ? unitsOfItsOwn(start.round, stock) : []
            let states = start.states.filter { !others.contains($0.unit) }
            if !states.isEmpty { shelf.put(states, round: start.round, at: now) }
            readings[start.name] = states.isEmpty ? nil : Reading(units: states.map(\.unit), isHere: true)
            forgetWhatIsOffTheShelf()
        }
        serve(stock)
    }
    private func unitsOfItsOwn(_ round: Int, _ stock: Holding.Stock) -> Set<Int> {
        if case .here(let units, round) = stock { return Set(units) }
        return Set(kept.first { $0.round == round && !$0.isCopy }?.units ?? 0..<0)
    }
    private mutating func forgetWhatIsOffTheShelf() {
        exports = exports.filter { !$0.value.isHere || shelf.rounds.contains($0.key) }
        readings = readings.filter { !$0.value.isHere || shelf.rounds.contains($0.key.round) }
    }

    /// The engine's answer to an export, of whoever asked for it.
    package mutating func exported(
        _ result: ComputeResult, _ units: Range<Int>, round: Int, _ stock: Holding.Stock, at now: Instant
    ) {
        guard case .state(let states) = result else {
            exports[round] = nil
            return refuse("the engine cannot give it") { $0.round == round }
        }
        shelf.put(states, round: round, at: now)
        forgetWhatIsOffTheShelf()
        let moments = states.contains { !$0.firstMoment.isEmpty }
        // One with moments is on its way for somebody: it answers all.
        if let pending = exports[round], !pending.isHere, pending.moments, !moments { return serve(stock) }
        exports[round] = Export(units: units, moments: moments, isHere: true)
        serve(stock)
    }

    /// Answers what can be answered now.
    package mutating func serve(_ stock: Holding.Stock) {
        guard !waiting.isEmpty else { return }
        let all = waiting
        waiting = []
        for item in all {
            switch answer(to: item.request, stock) {
            case .offer(let offer): effects.push(.send(.stateOffer(offer), to: item.from))
            case .later: waiting.append(item)
            }
        }
    }
    private enum Answer {
        case offer(StateOffer)
        case later
    }
    private mutating func answer(to request: StateRequest, _ stock: Holding.Stock) -> Answer {
        let round = request.round
        func unavailable(_ why: String) -> Answer { .offer(StateOffer(round: round, parts: [], unavailable: why)) }
        let export = exports[round]
        var here: Set<Int> = []
        if let export, export.isHere, export.moments || !request.moments { here.formUnion(export.units) }
        for (name, reading) in readings where name.round == round && reading.isHere { here.formUnion(reading.units) }
        if isBeingRead(request, stock, here) { return .later }
        let isInTheEngine =
            if case .here(let units, round) = stock {
                request.units.contains { units.contains($0) && !here.contains($0) }
            } else { false }
        if !isInTheEngine, let offer = offer(request, of: here) { return .offer(offer) }
        switch stock {
        case .here(let units, round):
            guard request.units.contains(where: { units.contains($0) }) else {
                return unavailable("units not held here")
            }
            if let export, !export.isHere, export.moments || !request.moments { return .later }
            let moments = request.moments || export?.moments ?? false
            exports[round] = Export(units: units, moments: moments, isHere: false)
            effects.push(.export(units, moments: moments, round: round))
            return .later
        case .here(_, let held) where held > round, .past(let held) where held >= round:
            return unavailable("already past round \(round)")
        case .nothing where export?.isHere == false: return .later
        case .nothing: return unavailable("nothing held here")
        case .coming, .here, .past: return .later
        }
    }
    /// Whether some of it comes from the disk, and is not here yet: then it is being read.
    private mutating func isBeingRead(_ request: StateRequest, _ stock: Holding.Stock, _ here: Set<Int>) -> Bool {
        let round = request.round
        let own = unitsOfItsOwn(round, stock)
        var isAny = false
        for stage in kept where stage.round == round {
            let isWanted = request.units.contains { unit in
                stage.units.contains(unit) && !here.contains(unit)
                    && (stage.isCopy ? !own.contains(unit) : !stock.isHere(at: round))
            }
            guard isWanted else { continue }
            isAny = true
            guard readings[stage.name] == nil else { continue }
            readings[stage.name] = Reading(units: Array(stage.units))
            effects.push(.read(stage.name))
        }
        return isAny
    }
    /// Of the units that are on the shelf; nil where none is.
    private func offer(_ request: StateRequest, of units: Set<Int>) -> StateOffer? {
        var trimmed = request
        trimmed.units = request.units.filter { units.contains($0) }
        return trimmed.units.isEmpty ? nil : shelf.offer(trimmed)
    }
    private mutating func refuse(_ why: String, _ isMeant: (StateRequest) -> Bool) {
        for item in waiting where isMeant(item.request) {
            let offer = StateOffer(round: item.request.round, parts: [], unavailable: why)
            effects.push(.send(.stateOffer(offer), to: item.from))
        }
        waiting.removeAll { isMeant($0.request) }
    }

    /// The log has gone back: what was exported of later rounds is of seals that are void.
    package mutating func forget(after round: Int) {
        shelf.remove(after: round)
        exports = exports.filter { $0.key <= round }
        readings = readings.filter { $0.key.round <= round }
    }
    /// What has been exported as of the start of a round, without all else; nil where that is nothing.
    package func shelf(of round: Int) -> StateShelf? {
        guard shelf.rounds.contains(round) else { return nil }
        var out = shelf
        out.keepOnly(round)
        return out
    }
    package mutating func forget(_ peer: PeerID) { waiting.removeAll { $0.from == peer } }
    package mutating func removeAll() {
        shelf.removeAll()
        exports = [:]
        readings = [:]
        waiting = []
    }
    package mutating func wake(at now: Instant) {
        shelf.wake(at: now)
        forgetWhatIsOffTheShelf()
    }
}
