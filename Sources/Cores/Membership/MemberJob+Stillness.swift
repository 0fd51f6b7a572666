import Messages
public import Primitives
import Record
import Training

/// Since when nothing has moved of a member's part in its job: no piece of the text or of weights has come, nothing was computed, no round
/// was sealed. Looked at once a second.
package struct Stillness: Sendable {
    /// How far a member is: what changes whenever something moves.
    package struct Mark: Hashable, Sendable {
        var entries = 0
        var text = 0
        var weights = 0
        var phase: StageRunner.Phase?
        var pieces = 0
        package init() {}
    }
    private var mark: Mark?
    package private(set) var since: Instant?
    package init() {}

    package mutating func see(_ mark: Mark, at now: Instant) {
        guard mark != self.mark else { return }
        (self.mark, since) = (mark, now)
    }
    /// Its owner keeps it from working: that is said, and is no standing still.
    package mutating func excuse(at now: Instant) { since = now }
}

/// Since when nothing has moved of a member's part in its job, and whom that waits for, as far as the member knows.
public struct MemberStandstill: Hashable, Sendable {
    public var since: Instant
    /// Who; nobody where it is nobody in particular.
    public var peers: [PeerID]
    /// For what, in a clause that ends a sentence.
    public var what: String
    /// Those whom the log does not have as members any more.
    public var gone: [PeerID]
}

extension StageRunner {
    /// Pieces of the round that are begun here, which only grow while an attempt goes on.
    package var pieces: Int { innerStep * 4 * max(1, microBatchesInRound) + begun }
    /// The stages of its pipeline that it waits for, and for what; nil while its own engine works, and where the pipeline owes it nothing.
    package var waits: (stages: [Int], what: String)? {
        guard !engineBusy else { return nil }
        switch phase {
        case .evaluating: return ([previousStage], "activations of the validation windows")
        case .stepping:
            let (wantsInput, wantsGradient) = wanted
            var stages: [Int] = []
            if wantsInput { stages.append(previousStage) }
            if wantsGradient, !stages.contains(nextStage) { stages.append(nextStage) }
            guard !stages.isEmpty else { return nil }
            let what =
                wantsInput && wantsGradient ? "activations and gradients" : wantsInput ? "activations" : "gradients"
            return (stages, "\(what) of step \(step + 1)")
        case .norms:
            let missing = stagesWithoutNorms
            return missing.isEmpty ? nil : (missing, "the norms of step \(step + 1)")
        case .updating, .encoding, .waitingForSeal, .applying, .done, .refused: return nil
        }
    }
}

extension MemberJob {
    /// Once a second.
    /// - Parameter isHeld: its owner has it compute nothing.
    mutating func notice(isHeld: Bool, at now: Instant) {
        var mark = Stillness.Mark()
        mark.entries = record.length
        mark.text = text.progress.have
        if case .fetching(let move) = holding.state { mark.weights = move.progress.have + 1 }
        mark.phase = holding.work?.phase
        mark.pieces = holding.work?.pieces ?? 0
        log.stillness.see(mark, at: now)
        if isHeld { log.stillness.excuse(at: now) }
    }

    /// Nil while something moves, and while it is not in its leader's service.
    func standstill(at now: Instant) -> MemberStandstill? {
        // When all is trained there is nothing to do here but to give what is asked for.
        guard isServing, job.plan == nil || job.spec != nil, let since = log.stillness.since,
            now - since >= Self.stillAfter
        else { return nil }
        let (peers, what) = awaited(at: now)
        return MemberStandstill(
            since: since, peers: peers, what: what, gone: peers.filter { $0 != leader && !job.isPresent($0) })
    }
    /// So long it takes for a word to be worth its place.
    private static let stillAfter = Duration.seconds(10)

    private func awaited(at now: Instant) -> (peers: [PeerID], what: String) {
        guard text.isComplete else {
            let (have, all) = text.progress
            return ([], all > 0 ? "pieces of the job's text: \(have) of \(all) are here" : "the job's text")
        }
        guard let plan = job.plan else { return ([leader], "the plan: links and speeds are measured before it") }
        let missing = plan.peers.filter { !job.isPresent($0) }
        // Whoever is here cannot make up a pipeline.
        if !missing.isEmpty, job.wholeRanks.isEmpty { return (missing, "what nobody else here holds") }
        guard plan.placement(of: me) != nil else {
            return (
                [leader], "the end of round \(job.round): a spare is told no more of a round than that it is sealed"
            )
        }
        switch holding.state {
        case .empty: return ([leader], "its part of the model")
        case .fetching(let move):
            let (have, all) = move.progress
            return ([], "weights of the units that it is to hold: \(have) of \(all) pieces are here")
        case .applying: return ([me], "its own engine, which ends round \(job.round)")
        case .atRound(let held):
            guard let work = held.work, work.hasBegun else { return ([leader], "the word to begin round \(job.round)") }
            return awaited(by: work, at: now)
        }
    }
    private func awaited(by work: RoundWork, at now: Instant) -> (peers: [PeerID], what: String) {
        if let waits = work.waits { return waits }
        if work.phase == .refused { return ([leader], "another attempt at round \(job.round): this one cannot go on") }
        guard work.phase == .waitingForSeal else {
            return ([me], "its own engine, which computes one piece for so long")
        }
        if let waiting = work.exchange.waits(at: now) {
            return ([waiting.peer], waiting.isContribution ? "its part of the exchange" : "its sums of the exchange")
        }
        return ([leader], "the seal of round \(job.round), for which all of its pipelines have to be done")
    }
}

extension Member {
    /// Since when its leader has not been heard, where it waits for that, and whether that one has said that it stops for now; nil elsewhere.
    public var silence: (since: Instant, isStopped: Bool)? {
        guard let present, case .paused(let since) = present.standing else { return nil }
        // Nothing runs out of a lease that was taken back.
        let isStopped = present.allegiance.until > since
        return (isStopped ? since : since - present.record.genesis.lease, isStopped)
    }
    /// Since when nothing has moved of its part in its job, and whom that waits for; nil while something moves.
    public func standstill(at now: Instant) -> MemberStandstill? { present?.standstill(at: now) }
}
