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
        case read(round: Int)
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
    private var shelf = StateShelf()
    private var exports: [Int: Export] = [:]
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

    /// The engine's answer to an export, of whoever asked for it.
    ///
    /// - Parameter isAll: there is no more of it, with moments or without: it is from this member's own disk.
    package mutating func exported(
        _ result: ComputeResult, _ units: Range<Int>, round: Int, isAll: Bool = false, _ stock: Holding.Stock,
        at now: Instant
    ) {
        guard case .state(let states) = result else {
            exports[round] = nil
            return refuse("the engine cannot give it") { $0.round == round }
        }
        shelf.put(states, round: round, at: now)
        exports = exports.filter { !$0.value.isHere || shelf.rounds.contains($0.key) }
        let moments = isAll || states.contains { !$0.firstMoment.isEmpty }
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
        if let export, export.isHere, export.moments || !request.moments, let offer = offer(request, of: export.units) {
            return .offer(offer)
        }
        if !stock.isHere(at: round),
            let stage = kept.first(where: { stage in
                stage.round == round && request.units.contains { stage.units.contains($0) }
            })
        {
            if export?.isHere == false { return .later }
            exports[round] = Export(units: stage.units, moments: true, isHere: false)
            effects.push(.read(round: round))
            return .later
        }
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
    /// Of the units that are on the shelf; nil where none is.
    private func offer(_ request: StateRequest, of units: Range<Int>) -> StateOffer? {
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
    }
    package mutating func forget(_ peer: PeerID) { waiting.removeAll { $0.from == peer } }
    package mutating func removeAll() {
        shelf.removeAll()
        exports = [:]
        waiting = []
    }
    package mutating func wake(at now: Instant) {
        shelf.wake(at: now)
        exports = exports.filter { !$0.value.isHere || shelf.rounds.contains($0.key) }
    }
}
