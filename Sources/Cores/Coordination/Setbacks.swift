package import Messages
package import Primitives
package import Record
import Telemetry
import Training

/// What becomes of attempts that would fail again: the arithmetic has said so itself, and it says the same to the same.
///
/// That training diverges is one member's word, and changes the job for all: with several pipelines it counts when a second member says it
/// of the same round. Whoever is alone with it gets other attempts, in each of which the pipelines' parts of the batch change hands: if the data
/// is why, another member comes to say it. Who is alone with it in all of them is let go; its word counts no more.
package struct Setbacks: Sendable {
    package enum Verdict: Hashable, Sendable {
        /// Nothing new.
        case known
        /// One of several says that training diverges: another member will say it, too, or it is alone with it until ``deadline``.
        case doubted
        /// An engine refused a job, or nobody else says that training diverges: once more, in another attempt.
        case again
        /// Nobody else ever says so: the job goes on without this member.
        case dismiss(PeerID)
        /// Back to the start of the round, at half the learning rate.
        case retreat
        /// The job ends.
        case end(why: String)
    }
    /// Plans that have had their verdict.
    private var judged = 0
    /// By round: how often a refusal was answered by another attempt.
    private var tries: [Int: Int] = [:]
    /// Who says of a round that training diverges, and under which plans.
    private var witnesses: (round: Int, plans: [PeerID: Set<Int>]) = (-1, [:])
    /// Whoever said it first under the plan in force, and until when another is waited for.
    private var doubted: (peer: PeerID, round: Int, epoch: Int, until: Instant)?
    /// Whose word counts no more.
    private var discredited: Set<PeerID> = []
    /// The next plan goes back to this round at the latest, and at half the rate if it is to.
    package private(set) var limit: Int?
    package private(set) var halves = false
    /// In the next plan pipelines' parts of the batch change hands.
    package private(set) var turns = false
    /// Other attempts at a round that an engine refuses, or of which one member alone says that it diverges.
    package static let most = 2

    package init() {}

    /// - Parameters:
    ///   - pipelines: of the plan in force.
    ///   - epoch: of the plan in force.
    ///   - rate: the learning rate of the manifest.
    ///   - patience: how long others take to come to the same.
    package mutating func receive(
        _ setback: Setback, from peer: PeerID, pipelines: Int, epoch: Int, halvings: Int,
        policy: JobParameters.OnDivergence, rate: Double, patience: Duration, at now: Instant
    ) -> Verdict {
        let round = setback.work.round
        guard judged < epoch, !setback.isDivergence || !discredited.contains(peer) else { return .known }
        guard setback.isDivergence else {
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
        if witnesses.round != round { witnesses = (round, [:]) }
        witnesses.plans[peer, default: []].insert(epoch)
        guard pipelines == 1 || witnesses.plans.count > 1 else {
            guard doubted == nil else { return .known }
            doubted = (peer, round, epoch, now + patience)
            return .doubted
        }
        judged = epoch
        doubted = nil
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

    /// When whoever was doubted has been alone for long enough.
    package var deadline: Instant? { doubted?.until }
    /// - Parameters:
    ///   - epoch: of the plan in force; another one than in the beginning is another attempt already.
    ///   - current: the round in progress.
    /// - Returns: nil before ``deadline``.
    package mutating func overdue(epoch: Int, current: Int, at now: Instant) -> (peer: PeerID, verdict: Verdict)? {
        guard let (peer, round, under, until) = doubted, until <= now else { return nil }
        doubted = nil
        guard under == epoch, round >= current - 1 else { return nil }
        judged = max(judged, epoch)
        guard witnesses.plans[peer, default: []].count > Self.most else {
            (limit, turns) = (round, true)
            return (peer, .again)
        }
        discredited.insert(peer)
        witnesses.plans[peer] = nil
        return (peer, .dismiss(peer))
    }
    /// Nobody could be heard for so long.
    package mutating func excuse(_ pause: Duration) { doubted?.until += pause }
    /// The plan that goes back is in force.
    package mutating func wentBack() {
        doubted = nil
        limit = nil
        halves = false
        turns = false
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
        if setback.cause == .messagesLost {
            if work.round == state.round { round.repairs.note(work, of: peer, at: now) }
            return
        }
        let verdict = round.setbacks.receive(
            setback, from: peer, pipelines: plan.pipelines.count, epoch: state.planCount, halvings: plan.halvings,
            policy: parameters.onDivergence, rate: Double(parameters.optimizer.learningRate),
            patience: .seconds(max(Self.leastDoubt, 2 * (answer?.roundSeconds ?? 0))), at: now)
        let (round, step, rank, stage) = (work.round, setback.step, work.rank, setback.stage)
        switch verdict {
        case .known: return
        case .retreat,
            .end where setback.isDivergence:
            event(.diverged(round: round, step: step, rank: rank, stage: stage, why: setback.why), peer: peer)
        case .retreat, .end, .doubted, .again, .dismiss:
            event(.workImpossible(round: round, step: step, rank: rank, stage: stage, why: setback.why), peer: peer)
        }
        heed(verdict, of: peer, isDivergence: setback.isDivergence)
    }
    /// Seconds in which another pipeline comes to the same, at least.
    private static let leastDoubt = 10.0

    /// Whoever said alone that training diverges is not waited for any longer.
    mutating func stepSetbacks() -> Bool {
        guard let (peer, verdict) = round.setbacks.overdue(epoch: state.planCount, current: state.round, at: now) else {
            return false
        }
        heed(verdict, of: peer, isDivergence: true)
        return true
    }

    private mutating func heed(_ verdict: Setbacks.Verdict, of peer: PeerID, isDivergence: Bool) {
        switch verdict {
        case .known, .doubted: break
        case .again:
            let what = isDivergence ? "alone says that training diverges" : "cannot compute its work"
            desk.want(.rollBack, "\(roster.name(of: peer)) \(what)")
        case .dismiss(let peer): lose(peer, reason: "it says that training diverges, and nobody else does")
        case .retreat:
            desk.want(
                .rollBack,
                "training diverged in round \(round.setbacks.limit ?? state.round); half the learning rate from here on"
            )
        case .end(let why): fail(why, forGood: true)
        }
    }
}
