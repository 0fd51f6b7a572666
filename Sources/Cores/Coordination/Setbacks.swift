package import Messages
package import Primitives
package import Record
import Telemetry
import Training

/// What becomes of attempts that would fail again: the arithmetic has said so itself, and it says the same to the same.
///
/// That training diverges is one member's word, and changes the job for all: with several pipelines it counts when a second member says it
/// of the same round. Whoever is alone with it after other attempts is let go, and its word counts no more.
package struct Setbacks: Sendable {
    package enum Verdict: Hashable, Sendable {
        /// Nothing new.
        case known
        /// An engine refused a job, or one member alone says that training diverges: once more, in another attempt.
        case again
        /// Nobody else says so: the job goes on without it.
        case dismiss
        /// Back to the start of the round, at half the learning rate.
        case retreat
        /// The job ends.
        case end(why: String)
    }
    /// Plans that have had their verdict.
    private var judged = 0
    /// By round: how often a refusal was answered by another attempt.
    private var tries: [Int: Int] = [:]
    /// Who says of a round that training diverges, and under which plans; and whose word counts no more.
    private var witnesses: (round: Int, plans: [PeerID: Set<Int>]) = (-1, [:])
    private var discredited: Set<PeerID> = []
    /// The next plan goes back to this round at the latest, and at half the rate if it is to.
    package private(set) var limit: Int?
    package private(set) var halves = false
    /// Other attempts at a round that an engine refuses.
    package static let most = 2

    package init() {}

    /// - Parameters:
    ///   - pipelines: of the plan in force.
    ///   - epoch: of the plan in force.
    ///   - rate: the learning rate of the manifest.
    package mutating func receive(
        _ setback: Setback, from peer: PeerID, pipelines: Int, epoch: Int, halvings: Int,
        policy: JobParameters.OnDivergence, rate: Double
    ) -> Verdict {
        let round = setback.work.round
        if setback.isDivergence {
            guard !discredited.contains(peer) else { return .known }
            if witnesses.round != round { witnesses = (round, [:]) }
            let isNew = witnesses.plans[peer] == nil
            witnesses.plans[peer, default: []].insert(epoch)
            guard pipelines == 1 || witnesses.plans.count > 1 else { return doubt(peer, round, epoch) }
            // The second may say it under the very plan under which the first was doubted.
            guard judged < epoch || isNew && witnesses.plans.count == 2 else { return .known }
            judged = epoch
            let where_ = "training diverged in round \(round): \(setback.why)"
            let before = halvings > 0 ? ", although it had gone back to half the learning rate" : ""
            let advice =
                "Try a train.learning_rate below \(fixed(rate / Double(1 << halvings), 6)), a longer warmup_tokens or a smaller clip"
            guard policy == .retreat, halvings == 0 else {
                let more = policy == .stop ? "; with train.on_divergence: retreat a job goes back once by itself" : ""
                return .end(why: "\(where_)\(before). \(advice)\(more)")
            }
            (limit, halves) = (round, true)
            witnesses = (-1, [:])
            return .retreat
        }
        guard judged < epoch else { return .known }
        judged = epoch
        tries[round, default: 0] += 1
        guard tries[round]! <= Self.most else {
            return .end(
                why:
                    "round \(round) cannot be computed, tried \(Self.most + 1) times: \(setback.why). Look at that peer's device and engine"
            )
        }
        limit = round
        return .again
    }
    private mutating func doubt(_ peer: PeerID, _ round: Int, _ epoch: Int) -> Verdict {
        guard judged < epoch else { return .known }
        judged = epoch
        guard witnesses.plans[peer]!.count > Self.most else {
            limit = round
            return .again
        }
        discredited.insert(peer)
        return .dismiss
    }
    /// The plan that goes back is in force.
    package mutating func wentBack() {
        limit = nil
        halves = false
    }
}

extension Coordinator {
    /// From whoever holds that stage, about the round in progress or the one that was just sealed.
    mutating func receive(_ setback: Setback, from peer: PeerID) {
        let work = setback.work
        guard stage.isRunning, !stage.isDecided, work.round == state.round || work.round == state.round - 1,
            let plan = state.plan(ofRound: work.round), plan.pipelines.indices.contains(work.rank),
            plan.pipelines[work.rank].attempt == work.attempt,
            plan.pipelines[work.rank].stages.indices.contains(setback.stage),
            plan.pipelines[work.rank].stages[setback.stage].peer == peer
        else { return }
        let verdict = round.setbacks.receive(
            setback, from: peer, pipelines: plan.pipelines.count, epoch: state.planCount, halvings: plan.halvings,
            policy: parameters.onDivergence,
            rate: Double(parameters.optimizer.learningRate))
        guard verdict != .known else { return }
        event(
            setback.isDivergence && verdict != .again && verdict != .dismiss
                ? .diverged(
                    round: work.round, step: setback.step, rank: work.rank, stage: setback.stage, why: setback.why)
                : .workImpossible(
                    round: work.round, step: setback.step, rank: work.rank, stage: setback.stage, why: setback.why),
            peer: peer)
        switch verdict {
        case .known: break
        case .again:
            let what = setback.isDivergence ? "alone says that training diverges" : "cannot compute its work"
            desk.want(.rollBack, "\(roster.name(of: peer)) \(what)")
        case .dismiss: lose(peer, reason: "it says that training diverges, and nobody else does")
        case .retreat:
            desk.want(.rollBack, "training diverged in round \(work.round); half the learning rate from here on")
        case .end(let why): fail(why, forGood: true)
        }
    }
}
