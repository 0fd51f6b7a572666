import Digests
import Exchange
import Messages
import Planning
import Primitives
import Record
import Telemetry

/// Measuring lines, asking for plans, and what becomes of the answers.
extension Coordinator {
    // MARK: surveys

    /// Goes on with the survey in progress, if any.
    mutating func stepSurvey() -> Bool {
        guard lines.isDue(at: now) else {
            return stage.isRunning ? measureNewcomers() || measureChangedPaths() : false
        }
        let roster = roster
        guard
            let next = lines.next(
                most: options.probeBytes, trip: { roster[$0]?.roundTrip ?? .zero }, at: now)
        else {
            surveyed()
            return true
        }
        for assignment in next.orders {
            send(.probeOrder(order(assignment, turn: next.turn)), to: assignment.to)
        }
        return true
    }
    /// Some pairs have come together behind their relay, or have lost their way and are relayed now: their lines are others.
    private mutating func measureChangedPaths() -> Bool {
        guard !lines.isSurveying, !desk.isAsking, !desk.hasAnswer else { return false }
        let peers = roster.joined.filter(\.isPlannable).map(\.peer)
        let roster = roster
        guard let why = lines.beginOfChangedPaths(among: peers, at: now, name: { roster.name(of: $0) }) else {
            return false
        }
        event(.measuringLinks(peers: peers.count, why: why))
        return true
    }
    private func order(_ assignment: LinkSurvey.Assignment, turn: UInt64) -> ProbeOrder {
        func target(_ peer: PeerID) -> ProbeOrder.Target? {
            roster[peer].map { ProbeOrder.Target(peer: peer, endpoint: $0.endpoint) }
        }
        return ProbeOrder(
            turn: turn, pings: assignment.pings.compactMap { target($0) },
            bursts: assignment.bursts.compactMap { peer, bytes, after in
                target(peer).map { ProbeOrder.Burst(to: $0, bytes: bytes, after: after) }
            }, senders: assignment.senders, reportAfter: LinkSurvey.reportAfter)
    }
    private mutating func surveyed() {
        let why = lines.end()
        func range(_ rate: (PeerID) -> BitRate?) -> String {
            let rates = roster.joined.compactMap { rate($0.peer)?.bitsPerSecond }
            guard let least = rates.min(), let most = rates.max() else { return "unknown" }
            return "\(fixed(least / 1e6, least < 1e7 ? 1 : 0))-\(fixed(most / 1e6, most < 1e7 ? 1 : 0))"
        }
        let lines = lines
        event(
            .linksMeasured(
                peers: roster.joinedCount, upMbps: range { lines.up($0) }, downMbps: range { lines.down($0) }))
        if case .surveying = stage {
            stage.go(to: .planning)
            desk.want(.first, why)
        } else {
            desk.want(.better, why)
        }
    }

    /// Rounds take other than predicted, and no peer's speed explains it: perhaps a line is not what it was.
    mutating func watchPace(_ seconds: Double, steps: Int) {
        guard stage.isRunning, let answer,
            let ratio = lines.sealed(seconds / answer.seconds(ofSteps: steps), at: now)
        else { return }
        let factor = fixed(ratio > 1 ? ratio : 1 / ratio, 1)
        let why = "rounds are \(factor) × \(ratio > 1 ? "slower" : "faster") than predicted"
        let peers = roster.joined.filter(\.isPlannable).map(\.peer)
        event(.measuringLinks(peers: peers.count, why: why))
        lines.begin(of: peers, why: why, rings: 3, at: now)
    }
    /// A peer that has become slower or faster is planned with anew.
    mutating func watchSpeed(of peer: PeerID, round: Int, compute: Duration) {
        guard stage.isRunning, let said = roster[peer]?.capability?.flops,
            let change = speeds.took(compute.inSeconds, peer, round: round, planned: said)
        else { return }
        let slower = change.after < change.before
        let factor = fixed(slower ? change.before / change.after : change.after / change.before, 1)
        event(
            .speedChanged(
                round: round, plannedGflops: change.before / 1e9, measuredGflops: change.after / 1e9), peer: peer)
        lines.forgivePace()
        desk.wantForDrift(
            "\(roster.name(of: peer)) is \(factor) × \(slower ? "slower" : "faster") than planned", round: state.round,
            at: now)
    }
    /// Its owner has it leave, or stay after all. The next plan is without it, and others fetch from it what it holds before it is gone.
    mutating func heedLeaving(_ peer: PeerID) {
        guard let known = roster[peer], known.isJoined, stage.isRunning else { return }
        // Whoever stays is planned with anew, as those who come.
        guard known.heartbeat.isLeaving else {
            desk.planned.remove(peer)
            return
        }
        guard state.plan?.placement(of: peer) != nil || state.nextPlan?.placement(of: peer) != nil else { return }
        // Where a round is to be begun anew without it, that is what is asked about.
        if known.heartbeat.isYielding, let plan = state.plan, holdsAlone(peer, plan) { return }
        desk.want(.better, "\(known.name) leaves")
    }
    /// Whether something is held by this member only.
    private func holdsAlone(_ peer: PeerID, _ plan: PlacedPlan) -> Bool {
        plan.stage(of: peer)?.units.contains { unit in
            !plan.holders(of: unit).contains { $0 != peer && state.isPresent($0) }
        } ?? false
    }
    /// Whoever computes nothing any more, and alone holds something, is not waited for: the round that all hold the start of is begun anew with
    /// others in its place, who fetch from it. No sealed round is done again.
    mutating func stepYielding() -> Bool {
        let yielding = roster.yielding
        guard !yielding.isEmpty, desk.wanted == nil, !desk.isAsking, let plan = state.plan,
            state.round == 0 || state.isAgreed(state.round)
        else { return false }
        guard let peer = yielding.first(where: { holdsAlone($0, plan) }) else { return false }
        round.isDisturbed = true
        roster.heedsYielding(of: peer)
        desk.want(.rollBack, "\(roster.name(of: peer)) is wanted by its owner")
        return true
    }
    /// FLOP/s: measured in this job, else what it said.
    func speed(of peer: PeerID) -> Double { speeds.measured[peer] ?? roster[peer]?.capability?.flops ?? 0 }

    // MARK: questions

    /// Puts what is known to the planner: members in the log's order, which is the same for whoever leads.
    mutating func ask(_ purpose: PlanningDesk.Purpose, _ reason: String) {
        let members = state.members.compactMap { roster[$0.peer] }.filter(\.isPlannable)
        guard !members.isEmpty else {
            desk.refuse()
            if purpose == .better { return }
            let why = "no member is left that could be planned with"
            if purpose == .rollBack, !isResuming { standStill(why) } else { fail(why) }
            return
        }
        desk.planned.formUnion(members.map(\.peer))
        let question = PlanQuestion(
            manifest: record.genesis.manifest, textBytes: record.genesis.contentBytes,
            peers: members.map { member in
                PlanQuestion.Peer(
                    peer: member.peer, name: member.name, device: member.capability?.device ?? "",
                    flops: speed(of: member.peer), memory: member.capability?.memory ?? ByteCount(0),
                    up: lines.up(member.peer), down: lines.down(member.peer), coordinatorRoundTrip: member.roundTrip,
                    port: member.endpoint.port)
            }, roundTrips: lines.known.roundTrips,
            caps: lines.known.caps(among: members.map(\.peer)).mapValues {
                $0.mapValues { BitRate(bitsPerSecond: $0) }
            }, carried: carried(members.map(\.peer)), coordinator: key.peerID, current: state.plan,
            tokensLeft: max(1, state.tokens - state.sealedTokens), seed: parameters.seed)
        event(.planning(why: reason, peers: members.count))
        effects.push(.plan(question))
    }

    /// What the planner has to know of relays.
    private func carried(_ members: [PeerID]) -> [PlanQuestion.Carried] {
        lines.relayed(among: members).map { pair, relay, rate in
            PlanQuestion.Carried(from: pair.from, to: pair.to, relay: relay, name: roster.name(of: relay), rate: rate)
        }
    }

    mutating func receivePlan(_ result: Result<PlanAnswer, NoPlan>) {
        guard !stage.isDecided, let (purpose, reason) = desk.answered() else { return }
        // All have left meanwhile, before there was a plan.
        if case .gathering = stage { return desk.drop() }
        switch result {
        case .failure(let why):
            switch purpose {
            case .better: event(.planRefused(why: why.description))
            case .rollBack where !isResuming:
                standStill(why.description, tried: roster.joined.filter(\.isPlannable).map(\.peer))
            case .first where roster.workerCount < max(options.expectedPeers ?? 1, options.neededPeers):
                // Somebody has left since.
                _ = gatherAgain()
            case .first, .rollBack: fail(why.description)
            }
        case .success(let answer):
            // Somebody may have left while the planner thought.
            guard answer.plan.peers.allSatisfy({ roster.isJoined($0) && state.isPresent($0) }) else {
                return desk.want(purpose, reason)
            }
            switch purpose {
            case .first: if isResuming { resume(with: answer) } else { begin(answer) }
            case .better: desk.keep(answer, reason: reason)
            // Whoever came back while the planner thought may have what nobody else has.
            case .rollBack where timers.standstill == nil && isSomebodyBack: standStill(reason)
            case .rollBack: rollBack(to: answer, reason: reason)
            }
        }
    }

    // MARK: plans

    private mutating func begin(_ answer: PlanAnswer) {
        var plan = answer.plan
        plan.round = 0
        plan.spares = state.spares(of: plan)
        setWay(&plan)
        guard propose(.plan(PlanChange(plan, reason: "the first plan"))), let plan = state.plan else {
            fail("the first plan was refused")
            return
        }
        desk.isInForce(answer, epoch: plan.epoch)
        event(
            .planned(
                epoch: plan.epoch, pipelines: plan.pipelines.count,
                stages: plan.pipelines.map(\.stages.count).max() ?? 0,
                innerSteps: plan.innerSteps, codec: plan.exchangeCodec.description,
                activations: plan.activationCodec.description, exchange: plan.exchangeWay.description,
                stepSeconds: answer.roundSeconds / Double(plan.innerSteps), totalSeconds: answer.totalSeconds))
        tellPlacement(plan)
        tellWay(plan)
        tellRelayed(answer)
        stage.go(to: .preparing)
        beginRound()
    }

    /// A plan that became ready takes effect between rounds: it is written before the seal that opens the round.
    mutating func changePlanAtBoundary() {
        guard let (answer, reason) = desk.take(), let old = state.plan else { return }
        guard answer.plan.peers.allSatisfy({ roster.isJoined($0) && state.isPresent($0) }) else {
            return desk.want(.better, reason)
        }
        var plan = answer.plan.going(on: old, from: state.round + 1)
        setWay(&plan)
        plan.spares = state.spares(of: plan)
        let whole = state.wholeRanks
        if plan.isAlike(old), whole.count == old.pipelines.count {
            // The planner keeps what runs; how long it takes, it has said anew, and who is relayed may have changed.
            if answer.planned.relayed != desk.answer?.planned.relayed { tellRelayed(answer) }
            return desk.isKnownBetter(answer)
        }
        guard pays(plan, answer, over: old, whole) else {
            return event(
                .planRefused(
                    why:
                        "the \(whole.count) pipelines that are whole do more in a second than all of the new plan would"
                ))
        }
        // Holders that will have applied the seal: those of whole pipelines.
        for unit in parameters.model.allUnits { plan.sources[unit] = whole.compactMap { old.holder($0, of: unit) } }
        guard propose(.plan(PlanChange(plan, reason: reason))) else { return }
        desk.isInForce(answer, epoch: state.planCount)
        roster.forgetWithdrawn()
        event(
            .replanned(
                why: reason, round: plan.round, epoch: state.planCount, pipelines: plan.pipelines.count,
                stepSeconds: answer.roundSeconds / Double(plan.innerSteps)))
        tellPlacement(plan)
        tellWay(plan)
        tellRelayed(answer)
        round.isDisturbed = true
    }

    /// Whether a plan that was made because somebody left is better than to go on without that one's pipeline.
    ///
    /// Eight peers with a pipeline each, of which one leaves, do seven eighths of a batch in the time of a round; seven for which it was
    /// planned anew may need half as long again for all of it. Where it is about the same, what every pipeline is to read is read.
    private func pays(_ plan: PlacedPlan, _ answer: PlanAnswer, over old: PlacedPlan, _ whole: [Int]) -> Bool {
        guard whole.count < old.pipelines.count, !whole.isEmpty, let inForce = desk.answer else { return true }
        func microBatches(_ plan: PlacedPlan, _ ranks: some Sequence<Int>) -> Double {
            ranks.reduce(0) { $0 + Double(plan.share(rank: $1, steps: plan.innerSteps)) }
        }
        let without = microBatches(old, whole) / inForce.seconds(ofSteps: old.innerSteps)
        let with = microBatches(plan, plan.pipelines.indices) / answer.seconds(ofSteps: plan.innerSteps)
        return without <= 1.1 * with
    }

    // MARK: how exchanges go

    /// Measured lines into a plan's stages, and the cheapest way over them.
    mutating func setWay(_ plan: inout PlacedPlan) {
        for rank in plan.pipelines.indices {
            for stage in plan.pipelines[rank].stages.indices {
                let peer = plan.pipelines[rank].stages[stage].peer
                plan.pipelines[rank].stages[stage].up = lines.up(peer)
                plan.pipelines[rank].stages[stage].down = lines.down(peer)
            }
        }
        plan.exchangeWay = parameters.exchangeWay ?? survey(plan).cheapest
    }
    private func survey(_ plan: PlacedPlan) -> ExchangeSurvey {
        plan.survey(model: parameters.model, latency: lines.latency(among: plan.peers))
    }
    /// Says what was chosen, for each run of units with equal holders.
    mutating func tellWay(_ plan: PlacedPlan) {
        guard plan.pipelines.count > 1 else { return }
        let survey = survey(plan)
        for units in plan.fragments(parameters.model) {
            event(
                .exchangeChosen(
                    units: "\(units.lowerBound)..<\(units.upperBound)", way: plan.exchangeWay.description,
                    seconds: survey.seconds(plan.exchangeWay, units: units),
                    allGatherSeconds: survey.seconds(.allGather, units: units)))
        }
    }
    /// Which of the plan's pairs have no path of their own, and what their owners could do about it.
    private mutating func tellRelayed(_ answer: PlanAnswer) {
        for pair in answer.planned.relayed.prefix(4) {
            event(
                .pairRelayed(
                    to: pair.to, by: pair.relay, megabits: pair.megabits, forward: pair.forward,
                    port: pair.port.map(Int.init), savedStepSeconds: pair.forward == nil ? nil : pair.savedStepSeconds),
                named: pair.from)
        }
    }
    /// Who holds layers, in rank and stage order.
    mutating func tellPlacement(_ plan: PlacedPlan) {
        event(.placed(workers: plan.peers.map { roster.name(of: $0) }.joined(separator: ",")))
    }
}

extension PlacedPlan {
    /// This plan as the continuation of another: what fixes the bits stays.
    package func going(on old: PlacedPlan, from round: Int) -> PlacedPlan {
        var plan = self
        plan.round = round
        plan.innerSteps = old.innerSteps
        plan.microBatchesPerVirtual = old.microBatchesPerVirtual
        plan.exchangeCodec = old.exchangeCodec
        plan.activationCodec = old.activationCodec
        plan.outer = old.outer
        plan.halvings = old.halvings
        plan.sources = [:]
        // A round that was taken back may be done again under this plan: nothing of it is to be called as it was then.
        let attempt = old.pipelines.map(\.attempt).max() ?? 0
        for rank in plan.pipelines.indices { plan.pipelines[rank].attempt = attempt }
        return plan
    }
}
