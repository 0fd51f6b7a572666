import Digests
import Exchange
import Primitives
import Telemetry
import Training
import Wire

/// Rounds: who has finished, when to seal, whom to wait for.
extension Coordinator {
    /// Ranks that can still finish the round in progress.
    var wholeRanks: [Int] {
        guard let plan = state.plan else { return [] }
        return plan.pipelines.indices.filter { !state.isBroken(rank: $0) }
    }

    mutating func beginRound() {
        progress = RoundProgress(round: state.round)
        beginGroup()
        ledger.grant(state)
        roundStarted = now
        disturbed = phase == .preparing || survey != nil
    }

    mutating func receive(_ receipt: PBReceipt, from peer: PeerID) {
        do throws(MalformedBytes) {
            let statement = try receipt.envelope.open(.receipt, job: log.job, as: PBWork.self)
            guard statement.signer == peer, isMember(peer) else {
                throw MalformedBytes("a receipt must come from its signer")
            }
            guard statement.sequence > seenSequence[peer] ?? 0 else { throw MalformedBytes("receipt repeated") }
            let work = statement.body
            guard let plan = state.plan, Int(work.work.rank) < plan.pipelines.count else { return }
            let pipeline = plan.pipelines[Int(work.work.rank)]
            guard Int(work.stage) < pipeline.stages.count, pipeline.stages[Int(work.stage)].peer == peer else { return }
            guard let spec = state.spec, Int(clamping: work.work.round) == spec.round else { return }
            let share = pipeline.virtualPipelines.count * plan.microBatchesPerVirtual * spec.steps
            guard Int(work.microBatches) == share, work.lossSum.isFinite, work.evaluationSum.isFinite,
                work.evaluationTokens < 1 << 40
            else { throw MalformedBytes("receipt does not fit what was granted") }
            seenSequence[peer] = statement.sequence
            receipts.append((peer, work))
            receiptEnvelopes.append(receipt.envelope)
            speeds.worked(peer, round: spec.round, flops: work.flops)
            progress.receive(work)
            watch.since = now
            noticeProgress(step: work.firstStep + UInt64(work.steps))
            if phase == .preparing { beginTraining() }
        } catch {
            event("receipt_refused", peer: peer, ["why": .text(error.description)])
        }
    }

    private mutating func beginTraining() {
        phase = .training
        if trainingStarted == nil { trainingStarted = roundStarted }
    }

    /// Median + k·MAD of the rounds under this plan that nothing disturbed, not a constant; before there are any, the
    /// prediction with much room.
    var roundDeadline: Instant? {
        guard let plan = state.plan, state.spec != nil else { return nil }
        let patience =
            ExchangeCost.patience(
                roundTimes.filter { $0.undisturbed && $0.planEpoch == plan.epoch }.suffix(16).map(\.seconds), slack: 5)
            ?? max(30, 4 * (answer?.roundSeconds ?? 10))
        // Whoever is still fetching weights is waited for once, rather than chased round after round.
        if wholeRanks.contains(where: { plan.pipelines[$0].stages.contains { !readyPeers.contains($0.peer) } }) {
            return roundStarted + .nanoseconds(Int64(max(90, patience) * 1e9))
        }
        return roundStarted + .nanoseconds(Int64(patience * 1e9))
    }

    mutating func advanceRound() {
        guard let plan = state.plan, let spec = state.spec else {
            if state.plan != nil, phase == .training { beginCollection() }
            return
        }
        let whole = wholeRanks
        guard !whole.isEmpty else { return }
        advanceGroup(plan, whole: whole)
        let wanted = watch.terms.ranks
        let complete =
            watch.terms.way.hasOwners ? sealableGroup(plan) : progress.sealable(among: wanted, plan)
        if !complete.isEmpty, complete.count == wanted.count {
            guard !watch.terms.way.hasOwners || auditIsSettled(plan) else { return }
            return seal(complete, spec: spec, plan: plan)
        }
        guard let deadline = exchangeDeadline, deadline <= now else { return }
        sayOverdue(plan, among: wanted.filter { !complete.contains($0) })
        if watch.terms.way.hasOwners, leaveOut(plan) { return }
        if !complete.isEmpty { return seal(complete, spec: spec, plan: plan) }
        // Nobody can finish it, and waiting longer has not helped: back to a state that can be had.
        guard planningFor == nil, now - roundStarted > (deadline - roundStarted) * 3 else { return }
        stuck += 1
        planWithRollBack("nobody finished round \(spec.round)")
    }

    private mutating func seal(_ ranks: [Int], spec: RoundSpec, plan: PlacedPlan) {
        if phase == .preparing { beginTraining() }
        let broken = Set(plan.pipelines.indices.filter { state.isBroken(rank: $0) })
        changePlanAtBoundary()
        var entry = progress.seal(
            ranks, spec: spec, plan: plan, tokensPerMicroBatch: parameters.microBatch * parameters.model.context)
        if watch.terms.way.hasOwners { entry.aggregates = aggregates(plan, of: ranks) }
        exchangeSeconds.append((now - watch.since).inSeconds)
        append(.seal(entry))
        let sealed = state.seals.last!
        stuck = 0
        if plan.mode == .everyStep {
            // Left out, they fetch the result.
            for (rank, pipeline) in plan.pipelines.enumerated() where !ranks.contains(rank) {
                for stage in pipeline.stages { readyPeers.remove(stage.peer) }
            }
        }
        ledger.seal(sealed, broken: broken)
        let seconds = (now - (roundTimes.last?.at ?? trainingStarted ?? roundStarted)).inSeconds
        roundTimes.append(
            RoundTime(
                round: spec.round, at: now, seconds: seconds, steps: spec.steps,
                undisturbed: !disturbed && broken.isEmpty && ranks.count == plan.pipelines.count,
                planEpoch: plan.epoch))
        for (rank, pipeline) in plan.pipelines.enumerated() {
            for stage in pipeline.stages {
                lateRounds[stage.peer] = ranks.contains(rank) ? nil : (lateRounds[stage.peer] ?? 0) + 1
            }
        }
        estimateNoise(sealed, contributors: ranks.count)
        tell(sealed, pipelines: ranks.count, seconds: seconds)
        noticeProgress(step: .max)
        if roundTimes.last!.undisturbed { watchPace(seconds, steps: spec.steps) }
        appliedDigests = appliedDigests.filter { $0.key >= spec.round - 1 }
        if let checkpointed = collection, checkpointed.round < state.round, !checkpointed.isFinal { collection = nil }
        admitNewcomers()
        if state.spec == nil { return beginCollection() }
        beginRound()
        if parameters.checkpointRounds > 0, state.round % parameters.checkpointRounds == 0 { collect(final: false) }
        advance()
    }

    private mutating func tell(_ sealed: JobState.SealedRound, pipelines: Int, seconds: Double) {
        var fields: [(String, Event.Value)] = [
            ("round", .integer(sealed.round)), ("steps", .integer(sealed.firstStep + sealed.steps)),
            ("tokens", .integer(sealed.tokens)), ("train_loss", .real(sealed.trainLoss)),
        ]
        if let loss = sealed.validationLoss { fields.append(("validation_loss", .real(loss))) }
        fields += [("pipelines", .integer(pipelines)), ("seconds", .real(seconds))]
        if let batch = noise.criticalBatch { fields.append(("critical_batch", .real(batch.tokens))) }
        if let answer { fields.append(("predicted_seconds", .real(answer.seconds(ofSteps: sealed.steps)))) }
        effects.push(.event(Event("round_sealed", at: now, peer: "", fields: fields)))
    }

    /// The round before this one is applied everywhere by now.
    private mutating func estimateNoise(_ sealed: JobState.SealedRound, contributors: Int) {
        if let report = noiseReports.removeValue(forKey: sealed.round - 1) {
            noise.add(report.sum, contributors: report.contributors, tokens: report.tokens)
        }
        let before = state.seals.dropLast().last?.tokens ?? 0
        noiseReports = [sealed.round: (contributors, sealed.tokens - before, GradientSquares())]
    }

    /// A peer that has become slower or faster is planned with anew.
    private mutating func watchSpeed(of peer: PeerID, round: Int, seconds: Double) {
        guard phase == .training, let said = candidates[peer]?.capability?.flops,
            let change = speeds.took(seconds, peer, round: round, planned: said)
        else { return }
        let slower = change.after < change.before
        let factor = fixed(slower ? change.before / change.after : change.after / change.before, 1)
        event(
            "speed_changed", peer: peer,
            [
                "round": .integer(round), "planned_gflops": .real(change.before / 1e9),
                "measured_gflops": .real(change.after / 1e9),
            ])
        paces.forgive()
        question(reason: "\(candidates[peer]!.name) is \(factor) × \(slower ? "slower" : "faster") than planned")
    }

    /// Members report what they hold after a seal: holders of one unit must agree.
    mutating func receive(_ applied: PBApplied, from peer: PeerID) {
        let round = Int(clamping: applied.round)
        guard round < state.round, round >= state.round - 2, isMember(peer) else { return }
        watchSpeed(of: peer, round: round, seconds: applied.computeSeconds)
        let squares = GradientSquares(contributors: applied.contributorSquares, mean: applied.meanSquares)
        if squares.isPlausible { noiseReports[round]?.sum += squares }
        for entry in applied.digests {
            guard let digest = Digest256(entry.digest), Int(entry.unit) < parameters.model.unitCount else { continue }
            appliedDigests[round, default: [:]][Int(entry.unit), default: [:]][peer] = digest
        }
        for unit in (appliedDigests[round] ?? [:]).keys.sorted() {
            let byPeer = appliedDigests[round]![unit]!
            guard Set(byPeer.values).count > 1 else { continue }
            // The value most holders have is right; ties go to the lowest rank.
            var votes: [Digest256: Int] = [:]
            for digest in byPeer.values { votes[digest, default: 0] += 1 }
            let order = state.plan?.holders(of: unit) ?? []
            let best = order.compactMap { byPeer[$0] }.max { votes[$0]! < votes[$1]! }
            for holder in byPeer.keys.sorted() where best != nil && byPeer[holder] != best {
                event("weights_differ", peer: holder, ["unit": .integer(unit), "round": .integer(round)])
                appliedDigests[round]![unit]![holder] = nil
                var packet = PBPacket()
                packet.farewell.reason =
                    "your weights of unit \(unit) differ from the group's; join again to fetch them"
                send(packet, to: holder)
                memberLost(holder, reason: "its weights differ from the group's")
            }
        }
    }

    /// After a loss: the first sign that somebody has got further.
    mutating func noticeProgress(step: UInt64) {
        guard let loss = lossAwaitingResume, step > loss.step || step == .max else { return }
        lossAwaitingResume = nil
        event("training_resumed", ["seconds": .real((now - loss.at).inSeconds)])
    }
}
