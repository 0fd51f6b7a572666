import Digests
import Exchange
package import Messages
package import Primitives
package import Record
import Training

/// What others know that a verdict depends on; nothing of it changes while a verdict is made.
package struct RoundFacts {
    package let state: JobState
    package let plan: PlacedPlan
    package let spec: RoundSpec
    package let roster: Roster
    package let lines: LineBook
    package let books: Books
    /// Predicted, of a whole round; nil before there is a plan's prediction.
    package let predictedSeconds: Double?
    package let now: Instant
    package let isAsking: Bool
    /// Draws audits: a signature that nobody else can make.
    package let key: SigningKey
    package let job: Digest256
    package let auditShare: Double
    /// The round whose start the launcher has all units of.
    package let checkpoint: Int?

    package init(
        state: JobState, plan: PlacedPlan, spec: RoundSpec, roster: Roster, lines: LineBook, books: Books,
        predictedSeconds: Double?, now: Instant, isAsking: Bool, key: SigningKey, job: Digest256, auditShare: Double,
        checkpoint: Int? = nil
    ) {
        self.state = state
        self.plan = plan
        self.spec = spec
        self.roster = roster
        self.lines = lines
        self.books = books
        self.predictedSeconds = predictedSeconds
        self.now = now
        self.isAsking = isAsking
        self.key = key
        self.job = job
        self.auditShare = auditShare
        self.checkpoint = checkpoint
    }

    /// Pipelines that can still finish the round: nobody of them has left, and whoever lacks its units can have them of somebody who is
    /// here.
    package var ableRanks: [Int] {
        state.wholeRanks.filter { rank in plan.pipelines[rank].stages.allSatisfy(canHave) }
    }
    private func canHave(_ stage: PlacedPlan.Stage) -> Bool {
        if state.round == 0 || checkpoint == state.round { return true }
        let readiness = roster[stage.peer]?.readiness
        if case .atRound(_, let held)? = readiness, held == state.round { return true }
        // Whom a plan of this round names has its units, if only on its way to others; of an older plan all have who do not say otherwise.
        let isNew = plan.round == state.round
        if !isNew {
            guard case .fetchingState? = readiness else { return true }
        }
        return stage.units.allSatisfy { unit in
            let named = isNew ? plan.sources[unit] ?? [] : plan.holders(of: unit).filter { $0 != stage.peer }
            return named.contains { source in
                source == key.peerID
                    || state.isPresent(source) && roster.mayHave(unit, round: state.round, source, at: now)
            }
        }
    }
    package func survey(ranks: [Int]? = nil) -> ExchangeSurvey {
        plan.survey(ranks: ranks, model: state.parameters.model, latency: lines.latency(among: plan.peers))
    }
    /// Whether somebody still fetches what the plan gives it: it is waited for longer.
    package var somebodyFetches: Bool {
        state.wholeRanks.contains { rank in
            plan.pipelines[rank].stages.contains { stage in
                roster[stage.peer]?.readiness != .atRound(epoch: plan.epoch, round: spec.round)
            }
        }
    }
    package func name(_ peer: PeerID) -> String { roster.name(of: peer) }
}
