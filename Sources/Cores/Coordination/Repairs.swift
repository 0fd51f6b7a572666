import Messages
package import Primitives
package import Record
import Telemetry

/// Attempts in which messages between two stages are lost, though both are there: a session that ended took them with it. Where a stage has
/// left, its pipeline is given another plan anyway; only if it has not some seconds later the pipeline begins the round anew.
package struct Repairs: Sendable {
    package struct Repair: Hashable, Sendable {
        package let work: WorkKey
        /// Who says so.
        package let peer: PeerID
        package fileprivate(set) var due: Instant
    }
    private var waiting: [Repair] = []
    /// By round and member: how often it was heeded.
    private var heeded: (round: Int, counts: [PeerID: Int]) = (-1, [:])
    /// What is on its way about a stage that has left is here by then.
    package static let patience = Duration.seconds(3)
    /// Of one member in one round: more is not heeded.
    package static let most = 4

    package init() {}

    package mutating func note(_ work: WorkKey, of peer: PeerID, at now: Instant) {
        if heeded.round != work.round { heeded = (work.round, [:]) }
        waiting.removeAll { $0.work.round != work.round }
        guard !waiting.contains(where: { $0.work == work }), heeded.counts[peer, default: 0] < Self.most else { return }
        heeded.counts[peer, default: 0] += 1
        waiting.append(Repair(work: work, peer: peer, due: now + Self.patience))
    }
    package var deadline: Instant? { waiting.map(\.due).min() }
    /// The first that is due, which is forgotten.
    package mutating func next(at now: Instant) -> Repair? {
        waiting.firstIndex { $0.due <= now }.map { waiting.remove(at: $0) }
    }
    /// It cannot be judged yet.
    package mutating func postpone(_ repair: Repair, at now: Instant) {
        var repair = repair
        repair.due = now + Self.patience
        waiting.append(repair)
    }
    /// Nobody could be heard for so long.
    package mutating func excuse(_ pause: Duration) {
        for index in waiting.indices { waiting[index].due += pause }
    }
}

extension Coordinator {
    /// A pipeline whose stages are all there, but not all that they sent each other, begins the round anew.
    mutating func stepRepairs() -> Bool {
        guard stage.isRunning, !stage.isDecided, let plan = state.plan, let repair = round.repairs.next(at: now) else {
            return false
        }
        let work = repair.work
        guard work.round == state.round, plan.pipelines.indices.contains(work.rank),
            plan.pipelines[work.rank].attempt == work.attempt, !state.isBroken(rank: work.rank),
            !round.progress.isComputed(rank: work.rank, plan), !desk.isGoingBack
        else { return true }
        let pipeline = plan.pipelines[work.rank]
        // Who may be gone is given up, or heard again, first.
        guard pipeline.stages.allSatisfy({ roster[$0.peer]?.isInterrupted == false }) else {
            round.repairs.postpone(repair, at: now)
            return true
        }
        var next = plan
        next.round = state.round
        next.pipelines[work.rank].attempt += 1
        setWay(&next)
        next.sources = state.round == 0 ? [:] : unitSources(plan, units: parameters.model.allUnits)
        let why = "what was on its way between its stages is lost, says \(roster.name(of: repair.peer))"
        guard
            propose(
                .plan(PlanChange(next, reason: "pipeline \(work.rank + 1) begins round \(state.round) anew: \(why)")))
        else { return true }
        event(.pipelineRestarted(rank: work.rank, round: state.round, why: why))
        round.restart(at: now)
        return true
    }
}
