import Content
import Digests
import Exchange
import Messages
import Primitives
import Record
import Telemetry
import Training

/// Somebody left: a spare takes the place, or the others go on and the next round is planned anew, or all return to the last state
/// that can still be had.
extension Coordinator {
    /// - Parameter isBack: it was started again, and is connected: what it has on its disk is worth a moment.
    mutating func lose(_ peer: PeerID, reason: String, saidGoodbye: Bool = false, isBack: Bool = false) {
        guard !stage.isEnded, let known = roster[peer] else { return }
        switch known.standing {
        case .lost: return
        case .met, .declined: return roster.loses(peer, why: reason)
        case .accepted, .joined: break
        }
        let wasJoined = known.isJoined
        let furthest = roster.joined.map(\.heartbeat.step).max() ?? 0
        roster.loses(peer, why: reason)
        speeds.forget(peer)
        round.reputation.forget(peer)
        desk.planned.remove(peer)
        event(.peerLost(why: reason, saidGoodbye: saidGoodbye), peer: peer)
        guard wasJoined, !stage.isDecided else { return }
        let working = state.plan?.placement(of: peer)
        propose(
            .members(
                MembersChange(
                    left: [MembersChange.Left(peer: peer, reason: cleaned(reason, bytes: Bounds.reasonBytes))],
                    round: state.round)))
        lines.forget(peer)
        collection?.fetch.lost(peer, at: now)
        if !roster.hasWorkers {
            let why = "every peer left; the last was \(known.name) (\(reason))"
            if stage.isRunning { standStill(why) } else if !stage.hasPlan { _ = gatherAgain() }
            return
        }
        guard stage.isRunning, let plan = state.plan else { return }
        if let next = state.nextPlan, next.placement(of: peer) != nil { desk.want(.better, "\(known.name) left") }
        guard let working else { return }
        let able = facts()?.ableRanks ?? state.wholeRanks
        round.isDisturbed = true
        timers.lossAwaitingResume = (now, furthest, record.length)
        if let spare = replacement(for: plan.pipelines[working.rank].stages[working.stage], plan) {
            replace(peer, by: spare, at: working, in: plan)
        } else if !able.isEmpty {
            event(.othersGoOn(pipelines: able.count, round: state.round))
            desk.want(.better, "\(known.name) left")
        } else if !state.wholeRanks.isEmpty {
            desk.want(.rollBack, "\(known.name) left, and those who are whole still fetched from it")
        } else if isBack, state.round > 0, isHeldNowhere(plan) {
            standStill("\(known.name) was started again, and no pipeline is whole without it")
        } else {
            desk.want(.rollBack, "\(known.name) left and no pipeline is whole")
        }
    }
    /// Whether somebody of the plan, without whom the job would go back, is connected again and not yet taken in.
    var isSomebodyBack: Bool {
        guard stage.isRunning, state.round > 0, let plan = state.plan, isHeldNowhere(plan) else { return false }
        return plan.peers.contains { roster[$0]?.standing == .accepted || roster[$0]?.standing == .met }
    }
    /// Whether some unit of the round in progress is in nobody's memory: going on would mean going back.
    private func isHeldNowhere(_ plan: PlacedPlan) -> Bool {
        unitSources(plan, units: parameters.model.allUnits).values.contains { $0.isEmpty }
    }

    /// A present spare with memory enough, the fastest first, if its units can be fetched from somebody.
    private func replacement(for stage: PlacedPlan.Stage, _ plan: PlacedPlan) -> PeerID? {
        let sources = unitSources(plan, units: stage.units)
        guard state.round == 0 || stage.units.allSatisfy({ !(sources[$0] ?? []).isEmpty }) else { return nil }
        let inFlight = plan.pipelines.map(\.inFlight).max() ?? 1
        let needed = parameters.model.memory(
            units: stage.units, rounds: plan.mode == .rounds, sequences: parameters.microBatch, inFlight: inFlight,
            recompute: stage.recompute, kept: parameters.optimizer.kept)
        // Also who came after the plan was made.
        let spares = roster.joined.filter { spare in
            spare.isPlannable && state.isPresent(spare.peer) && plan.placement(of: spare.peer) == nil
                && spare.capability?.memory ?? ByteCount(0) >= needed
        }
        return spares.map(\.peer).max { speed(of: $0) < speed(of: $1) }
    }

    /// Who holds each unit as of the start of the round in progress.
    func unitSources(_ plan: PlacedPlan, units: Range<Int>) -> [Int: [PeerID]] {
        var out: [Int: [PeerID]] = [:]
        for unit in units {
            // Of a plan that began within the round: who held the unit then. Whoever was given a place has what it says since.
            let held = plan.round == state.round ? plan.sources[unit] : nil
            var holders = plan.holders(of: unit).filter { holder in
                guard state.isPresent(holder) else { return false }
                // Whoever has come within the round may be another process: it has what it says.
                let isNew =
                    isResuming || roster[holder].map { $0.joinedIn == state.round } ?? false
                    || held.map { !$0.contains(holder) } ?? false
                switch roster[holder]?.readiness {
                // Whoever is still fetching has nothing to give.
                case .fetchingState: return false
                case .atRound(_, let held) where isNew: return held == state.round
                default: return !isNew || state.round == 0
                }
            }
            if checkpoint.round == state.round, !holders.contains(key.peerID) { holders.append(key.peerID) }
            out[unit] = holders
        }
        return out
    }

    private mutating func replace(
        _ peer: PeerID, by spare: PeerID, at place: (rank: Int, stage: Int), in plan: PlacedPlan
    ) {
        var next = plan
        next.round = state.round
        next.pipelines[place.rank].stages[place.stage].peer = spare
        setWay(&next)
        next.pipelines[place.rank].attempt += 1
        next.spares.removeAll { $0 == spare }
        next.sources = state.round == 0 ? [:] : unitSources(plan, units: parameters.model.allUnits)
        let (newcomer, gone) = (roster.name(of: spare), roster.name(of: peer))
        guard propose(.plan(PlanChange(next, reason: "\(newcomer) takes the place of \(gone)"))) else {
            return desk.want(.rollBack, "\(gone) left")
        }
        event(.replaced(by: newcomer, round: state.round), peer: peer)
        round.restart(at: now)
    }

    /// Everybody returns to the last round whose whole state can be had: this one if its units are all held somewhere, else the newest
    /// that is on members' disks or is the last checkpoint, else the beginning (the seed).
    mutating func rollBack(to answer: PlanAnswer, reason: String) {
        guard let old = state.plan else { return }
        let here = unitSources(old, units: parameters.model.allUnits)
        let limit = min(round.setbacks.limit ?? state.round, round.stuck < 2 ? state.round : state.round - 1)
        let isHere =
            state.round == 0
            || limit == state.round && state.isAgreed(state.round) && here.values.allSatisfy { !$0.isEmpty }
        let supply = isHere && !isResuming ? nil : supply(atMost: limit)
        let target = supply?.round ?? (isHere ? state.round : 0)
        var plan = (supply?.plan ?? answer.plan).going(on: old, from: target)
        if target > 0 { plan.sources = supply?.sources ?? here }
        if round.setbacks.halves { plan.halvings += 1 }
        if round.setbacks.turns { plan.turn() }
        // What fixes the bits of an exact one is in its plan.
        if supply?.isExact != true { setWay(&plan) }
        let attempt = (old.pipelines.map(\.attempt).max() ?? 0) + 1
        for rank in plan.pipelines.indices { plan.pipelines[rank].attempt = attempt }
        plan.spares = state.spares(of: plan)
        let from = state.round
        var why = reason
        if let supply {
            let said = self.words(supply, from: from)
            event(.supplyChosen(round: supply.round, of: from, exact: supply.isExact, why: said))
            why = "\(reason); \(said)"
        }
        guard propose(.plan(PlanChange(plan, reason: cleaned(why, bytes: Bounds.reasonBytes), rolledBack: true)))
        else {
            fail("a plan to go back with was refused")
            return
        }
        desk.isInForce(answer, epoch: state.planCount)
        roster.forgetWithdrawn()
        event(.rolledBack(round: target, from: from, why: reason))
        // What was agreed on so long ago may be forgotten, and nobody else can say it any more.
        if target > 0, target == checkpoint.round, !state.isAgreed(target) {
            propose(.states(States(round: target, units: checkpoint.roots)))
        }
        timers.standstill = nil
        round.setbacks.wentBack()
        agreement.forgetAll()
        collection = nil
        admitNewcomers()
        beginRound()
        round.isDisturbed = true
    }
    /// For people, and for the log.
    private func words(_ supply: Supply, from round: Int) -> String {
        let again =
            round > supply.round
            ? ", \(round - supply.round == 1 ? "1 round is" : "\(round - supply.round) rounds are") done again" : ""
        guard !supply.isExact else {
            return "all stages have their own of round \(supply.round): it goes on exactly\(again)"
        }
        let copied =
            supply.copied.isEmpty
            ? ""
            : "; unit\(supply.copied.count == 1 ? "" : "s") \(supply.copied.map(String.init).joined(separator: ", ")) only "
                + "from copies, without moments"
        return
            "not all stages have their own of round \(supply.round): weights and momentum are those of then, moments and error feedback "
            + "come from others where there are any\(copied)\(again)"
    }
}

extension PlacedPlan {
    /// Each pipeline takes the part of the batch that the one before it had.
    fileprivate mutating func turn() {
        let shares = pipelines.map(\.virtualPipelines)
        for rank in pipelines.indices {
            pipelines[rank].virtualPipelines = shares[(rank + shares.count - 1) % shares.count]
        }
    }
}
