import Digests
import Primitives
import Telemetry
import Training
import Wire

/// Somebody left: a spare takes the place, or the others go on and the next round is planned anew, or all return to the
/// last state that can still be had.
extension Coordinator {
    mutating func memberLost(_ peer: PeerID, reason: String) {
        guard phase != .ended, var candidate = candidates[peer], !candidate.lost else { return }
        candidate.lost = true
        speeds.forget(peer)
        let wasMember = candidate.accepted
        candidate.accepted = false
        candidates[peer] = candidate
        pendingJoins.removeAll { $0 == peer }
        guard wasMember else { return }
        event("peer_lost", peer: peer, ["why": .text(reason)])
        guard phase != .gathering, state.member(peer) != nil else { return }
        let working = state.plan?.placement(of: peer)
        let furthest = members.map(\.heartbeat.step).max() ?? 0
        var change = PBMembers()
        var left = PBMembers.Left()
        left.peer = bytesOf(peer)
        left.reason = reason
        change.left = [left]
        change.round = UInt64(state.round)
        append(.members(change))
        survey?.forget(peer)
        if members.isEmpty {
            return fail("every peer left; the last was \(candidate.name) (\(reason))")
        }
        guard phase == .preparing || phase == .training || phase == .collecting, let plan = state.plan else { return }
        if let next = state.nextPlan, next.placement(of: peer) != nil { wantsPlan = "\(candidate.name) left" }
        guard let working else { return }
        if phase == .collecting { return collectionLost(peer) }
        disturbed = true
        lossAwaitingResume = (now, furthest)
        if let spare = replacement(for: plan.pipelines[working.rank].stages[working.stage], plan) {
            return replace(peer, by: spare, at: working, in: plan)
        }
        if !wholeRanks.isEmpty {
            event("others_go_on", ["pipelines": .integer(wholeRanks.count), "round": .integer(state.round)])
            question(reason: "\(candidate.name) left")
            return
        }
        planWithRollBack("\(candidate.name) left and no pipeline is whole")
    }

    /// A present spare with memory enough, the fastest first, if its units can be fetched from somebody.
    private func replacement(for stage: PlacedPlan.Stage, _ plan: PlacedPlan) -> PeerID? {
        let sources = unitSources(plan, units: stage.units)
        guard state.round == 0 || stage.units.allSatisfy({ !(sources[$0] ?? []).isEmpty }) else { return nil }
        let inFlight = plan.pipelines.map(\.inFlight).max() ?? 1
        let needed = parameters.model.memory(
            units: stage.units, rounds: plan.mode == .rounds, sequences: parameters.microBatch, inFlight: inFlight,
            recompute: stage.recompute)
        // Also who came after the plan was made.
        let spares = members.map(\.peer).filter { spare in
            state.isPresent(spare) && plan.placement(of: spare) == nil
                && ByteCount(Int(clamping: candidates[spare]!.capability!.memoryBytes)) >= needed
        }
        return spares.max { speed(of: $0) < speed(of: $1) }
    }

    /// FLOP/s: measured in this job, else what it said.
    func speed(of peer: PeerID) -> Double { speeds.measured[peer] ?? candidates[peer]?.capability?.flops ?? 0 }

    /// Who holds each unit as of the start of the round in progress: members of whole pipelines.
    private func unitSources(_ plan: PlacedPlan, units: Range<Int>) -> [Int: [PeerID]] {
        var out: [Int: [PeerID]] = [:]
        for unit in units {
            var holders = plan.holders(of: unit).filter { state.isPresent($0) }
            if checkpointRound == state.round { holders.append(key.peerID) }
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
        event("replaced", peer: peer, ["by": .text(candidates[spare]!.name), "round": .integer(state.round)])
        append(.plan(next.message(reason: "\(candidates[spare]!.name) takes the place of \(candidates[peer]!.name)")))
        ledger.grant(state)
        readyPeers = []
        roundStarted = now
    }

    /// Newcomers enter the log after the seal: whoever left and came back within a round did not take part in it.
    mutating func admitNewcomers() {
        // Whoever comes while links are measured waits for the next seal: its own are to be measured, too.
        guard !pendingJoins.isEmpty, survey == nil else { return }
        var change = PBMembers()
        change.joined = pendingJoins.compactMap { candidates[$0] }.filter { $0.accepted && !$0.lost }.map { joined($0) }
        change.round = UInt64(state.round)
        let newcomers = pendingJoins
        pendingJoins = []
        append(.members(change))
        for peer in newcomers { sendLog(to: peer, from: 0) }
        let unknown = newcomers.filter { links.up[$0] == nil && isMember($0) }
        let why = "\(newcomers.count) joined"
        if unknown.isEmpty { question(reason: why) } else { measure(unknown, why: why) }
    }

    /// A plan that became ready takes effect between rounds: it is written before the seal that opens the round.
    mutating func changePlanAtBoundary() {
        guard let ready = readyAnswer, let old = state.plan else { return }
        readyAnswer = nil
        var plan = ready.answer.plan
        guard plan.peers.allSatisfy({ isMember($0) && state.isPresent($0) }) else {
            return question(reason: ready.reason)
        }
        plan.round = state.round + 1
        plan.epoch = state.planCount + 1
        plan.innerSteps = old.innerSteps
        plan.microBatchesPerVirtual = old.microBatchesPerVirtual
        plan.exchangeCodec = old.exchangeCodec
        plan.activationCodec = old.activationCodec
        plan.outer = old.outer
        setWay(&plan)
        plan.spares = members.map(\.peer).filter { !plan.peers.contains($0) && state.member($0) != nil }
        if plan.isAlike(old), wholeRanks.count == old.pipelines.count {
            // The planner keeps what runs; how long it takes, it has said anew.
            answer = ready.answer
            return
        }
        // Holders that will have applied the seal: those of whole pipelines.
        var sources: [Int: [PeerID]] = [:]
        for unit in parameters.model.allUnits {
            sources[unit] = wholeRanks.flatMap { old.pipelines[$0].stages }.filter { $0.units.contains(unit) }.map(
                \.peer)
        }
        plan.sources = sources
        answer = ready.answer
        event(
            "replanned",
            [
                "why": .text(ready.reason), "round": .integer(plan.round), "epoch": .integer(plan.epoch),
                "pipelines": .integer(plan.pipelines.count),
                "step_seconds": .real(ready.answer.roundSeconds / Double(plan.innerSteps)),
            ])
        tellPlacement(plan)
        tellWay(plan)
        append(.plan(plan.message(reason: ready.reason)))
        readyPeers = []
        disturbed = true
    }

    mutating func planWithRollBack(_ reason: String) {
        readyAnswer = nil
        wantsPlan = nil
        planningFor = nil
        question(reason: reason, rollBack: true)
    }

    /// Everybody returns to the last round whose whole state can be had: this one if its units are all held somewhere, else
    /// the last checkpoint, else the beginning (the seed).
    mutating func rollBack(to answer: PlanAnswer, reason: String) {
        guard let old = state.plan else { return }
        self.answer = answer
        var plan = answer.plan
        let here = unitSources(old, units: parameters.model.allUnits)
        var round = state.round
        if round == 0 {
            plan.sources = [:]
        } else if stuck < 2, parameters.model.allUnits.allSatisfy({ !(here[$0] ?? []).isEmpty }) {
            plan.sources = here
        } else if checkpointRound >= 0 {
            round = checkpointRound
            for unit in parameters.model.allUnits { plan.sources[unit] = [key.peerID] }
        } else {
            round = 0
            plan.sources = [:]
        }
        plan.round = round
        plan.innerSteps = old.innerSteps
        plan.microBatchesPerVirtual = old.microBatchesPerVirtual
        plan.exchangeCodec = old.exchangeCodec
        plan.activationCodec = old.activationCodec
        plan.outer = old.outer
        setWay(&plan)
        let attempt = (old.pipelines.map(\.attempt).max() ?? 0) + 1
        for rank in plan.pipelines.indices { plan.pipelines[rank].attempt = attempt }
        plan.spares = members.map(\.peer).filter { !plan.peers.contains($0) && state.member($0) != nil }
        if round < state.round { ledger.rollBack(to: round) } else { ledger.abandon() }
        event("rolled_back", ["round": .integer(round), "from": .integer(state.round), "why": .text(reason)])
        append(.plan(plan.message(reason: reason, rolledBack: true)))
        appliedDigests = [:]
        readyPeers = []
        collection = nil
        beginRound()
        disturbed = true
    }
}
