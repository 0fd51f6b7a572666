import Content
import Digests
import Messages
import Primitives
import Record
import Training

/// The weights with which a job has ended, as far as they are here, for whoever its manifest allows to collect them. A member has the units
/// that it held last; whoever led the job last has all.
///
/// They are in memory, an hour long: its owner's next job comes first.
package struct ResultDesk: Sendable {
    package enum Answer: Sendable {
        case send(Message)
        /// The manifest does not name whoever asks; once in a while that is to be said.
        case notEntitled(isNews: Bool)
    }
    private struct Kept: Sendable {
        var record: Record
        var shelf: StateShelf
        var until: Instant
    }
    private var kept: Kept?
    private var strangers = Complaints()
    package static let keep = Duration.seconds(3600)
    package init() {}

    /// Whose result is here.
    package var job: Digest256? { kept?.record.job }
    package var nextWake: Instant? { kept?.until }

    /// - Parameter record: of the job, which has ended or is about to: it says who may have it.
    package mutating func keep(_ states: [UnitState], round: Int, of record: Record, at now: Instant) {
        var shelf = StateShelf()
        shelf.put(
            states.map {
                UnitState(
                    unit: $0.unit, parameters: $0.parameters, outerMomentum: $0.outerMomentum,
                    optimizerSteps: $0.optimizerSteps)
            }, round: round, keep: nil, at: now)
        keep(shelf, of: record, at: now)
    }
    package mutating func keep(_ shelf: StateShelf, of record: Record, at now: Instant) {
        guard !record.parameters.collectors.isEmpty else { return }
        kept = Kept(record: record, shelf: shelf, until: now + Self.keep)
    }

    /// - Returns: what to answer; nil where there is nothing to be said.
    package mutating func answer(_ message: Message, from peer: PeerID, at now: Instant) -> Answer? {
        guard kept != nil else { return nil }
        guard kept!.record.mayCollect(peer) else { return .notEntitled(isNews: strangers.note(at: now)) }
        switch message {
        case .stateRequest(var request):
            let here = Set(kept!.shelf.units(of: request.round))
            request.units = request.units.filter { here.contains($0) }
            let offer = request.units.isEmpty ? nil : kept!.shelf.offer(request)
            let rounds = kept!.shelf.rounds.map { "\($0)" }.joined(separator: ", ")
            return .send(
                .stateOffer(
                    offer
                        ?? StateOffer(
                            round: request.round, parts: [],
                            unavailable:
                                "of the job that is over there are units of round \(rounds) here, and none of those")
                ))
        case .indexRequest(let id, let first):
            return kept!.shelf.answer(indexOf: id, from: first, at: now).map { .send(.indexPart($0)) }
        case .chunkRequest(let id, let number):
            let bytes = kept!.shelf.answer(chunk: number, of: id, at: now)
            return .send(
                bytes.map { .chunk(content: id, chunk: number, bytes: $0) } ?? .chunkMissing(content: id, chunk: number)
            )
        default: return nil
        }
    }

    package mutating func wake(at now: Instant) {
        if let kept, kept.until <= now { self.kept = nil }
    }
}
