import Digests
import Primitives
import Telemetry
import Training
import Wire

/// SHA-256 of what one pipeline contributes for one unit: (node, length, bytes) of each part in order.
func contributionDigest(_ parts: [UnitContribution]) -> Digest256 {
    var writer = ByteWriter(capacity: parts.reduce(0) { $0 + $1.bytes.count + 8 })
    for part in parts {
        writer.u32(UInt32(part.node))
        writer.block(part.bytes)
    }
    return sha256(writer.bytes)
}

/// The round in progress: neighbours, contributions, seals.
extension MemberJob {
    mutating func drainRunner() {
        while let effect = runner?.poll() {
            switch effect {
            case .compute(let job): compute(job, .runner(generation: generation))
            case .send(var message, let payload, let toStage):
                guard toStage < pipelinePeers.count else { continue }
                message.checksum = bytesOf(sha256(payload).bytes.prefix(8))
                var packet = PBPacket()
                packet.activation = message
                send(packet, payload: payload, on: .activations, to: pipelinePeers[toStage])
            case .norms(let message):
                var packet = PBPacket()
                packet.norms = message
                for peer in pipelinePeers where peer != me { send(packet, on: .control, to: peer) }
            case .contribution(let units): contribute(units)
            case .finished: sendReceipt()
            case .applied(let digests):
                guard let runner else { continue }
                if let digests {
                    applied(round: runner.spec.round, digests: digests)
                } else {
                    compute(.digests, .digests(round: runner.spec.round))
                }
            case .refused(let why):
                event("work_refused", ["why": .text(why), "round": .integer(state.round)])
                abandonRunner()
            }
        }
    }

    // MARK: contributions

    private mutating func contribute(_ units: [UnitContribution]) {
        guard let runner else { return }
        let round = runner.spec.round
        contributed = round
        sharedWith = []
        var mine = Arrived(attempt: runner.attempt, microBatches: runner.microBatchesInRound, reported: true)
        for unit in units { mine.units[unit.unit, default: []].append(unit) }
        arrived[round, default: [:]][runner.rank] = mine
        exchangeBytes[round] = 0
        shareContribution()
    }

    /// Sends this stage's part of the round to every other holder of its units (again, when the plan has changed).
    mutating func shareContribution() {
        guard let plan = state.plan, let runner, contributed == runner.spec.round, runner.spec.round == state.round,
            let mine = arrived[runner.spec.round]?[runner.rank]
        else { return }
        for (rank, pipeline) in plan.pipelines.enumerated() where rank != runner.rank {
            for stage in pipeline.stages where state.isPresent(stage.peer) && !sharedWith.contains(stage.peer) {
                let shared = stage.units.filter { mine.units[$0] != nil }
                guard !shared.isEmpty else { continue }
                sharedWith.append(stage.peer)
                var packet = PBPacket()
                packet.contribution.work = runner.work
                packet.contribution.microBatches = UInt32(mine.microBatches)
                var payload: [UInt8] = []
                for unit in shared {
                    for part in mine.units[unit]! {
                        var entry = PBContribution.Part()
                        entry.unit = UInt32(unit)
                        entry.node = UInt32(part.node)
                        entry.bytes = UInt32(part.bytes.count)
                        packet.contribution.parts.append(entry)
                        payload += part.bytes
                    }
                }
                exchangeBytes[runner.spec.round, default: 0] += payload.count
                send(packet, payload: payload, on: .exchange, to: stage.peer)
            }
        }
    }

    private mutating func sendReceipt() {
        guard let runner, let mine = arrived[runner.spec.round]?[runner.rank] else { return }
        var work = PBWork()
        work.work = runner.work
        work.stage = UInt32(runner.stage)
        work.microBatches = UInt32(mine.microBatches)
        work.tokens = UInt64(mine.microBatches * parameters.microBatch * parameters.model.context)
        work.lossSum = runner.lossSum
        work.evaluationSum = runner.evaluationSum
        work.evaluationTokens = UInt64(runner.evaluationTokens)
        work.flops = runner.flops
        work.exchangeBytes = UInt64(exchangeBytes[runner.spec.round] ?? 0)
        work.firstStep = UInt64(runner.spec.firstStep)
        work.steps = UInt32(runner.spec.steps)
        work.digests = mine.units.keys.sorted().map { unit in
            var digest = PBUnitDigest()
            digest.unit = UInt32(unit)
            digest.digest = bytesOf(contributionDigest(mine.units[unit]!))
            return digest
        }
        receiptSequence += 1
        var packet = PBPacket()
        packet.receipt.envelope = PBEnvelope(
            work, type: .receipt, job: log.job, epoch: UInt64(state.plan?.epoch ?? 0), sequence: receiptSequence,
            by: key)
        send(packet, on: .control, to: launcher)
    }

    mutating func receive(_ message: PBContribution, payload: [UInt8], from peer: PeerID) {
        let round = Int(clamping: message.work.round)
        let rank = Int(message.work.rank)
        if isAhead(message.work) { return keepForLater(peer, contribution: message, payload) }
        guard round >= heldRound, round <= state.round + 1, rank < 4096 else { return }
        if round == state.round {
            // Only a holder of the units, in the pipeline it claims, may speak for them.
            guard let plan = state.plan, rank < plan.pipelines.count, plan.pipelines[rank].contains(peer),
                plan.pipelines[rank].attempt <= Int(message.work.attempt)
            else { return }
        }
        var entry = arrived[round]?[rank] ?? Arrived(attempt: Int(message.work.attempt), microBatches: 0)
        if entry.attempt < Int(message.work.attempt) {
            entry = Arrived(attempt: Int(message.work.attempt), microBatches: 0)
        }
        guard entry.attempt == Int(message.work.attempt) else { return }
        entry.microBatches = Int(message.microBatches)
        var offset = 0
        var fresh: [Int: [UnitContribution]] = [:]
        for part in message.parts {
            let size = Int(part.bytes)
            guard size <= payload.count - offset, Int(part.unit) < parameters.model.unitCount else {
                event("contribution_malformed", peer: state.name(of: peer))
                return
            }
            fresh[Int(part.unit), default: []].append(
                UnitContribution(
                    unit: Int(part.unit), node: Int(part.node), bytes: Array(payload[offset..<offset + size])))
            offset += size
        }
        for unit in fresh.keys.sorted() { entry.units[unit] = fresh[unit] }
        arrived[round, default: [:]][rank] = entry
        reportHeld(round: round)
        reconcile()
    }

    /// Tells the coordinator which pipelines' parts are complete here, once each.
    mutating func reportHeld(round: Int) {
        guard round == state.round, let plan = state.plan, let place = placement else { return }
        let units = plan.pipelines[place.rank].stages[place.stage].units
        for rank in (arrived[round] ?? [:]).keys.sorted() where rank != place.rank && rank < plan.pipelines.count {
            guard var entry = arrived[round]?[rank], !entry.reported, entry.attempt == plan.pipelines[rank].attempt,
                units.allSatisfy({ entry.units[$0] != nil })
            else { continue }
            entry.reported = true
            arrived[round]![rank] = entry
            var packet = PBPacket()
            packet.held.round = UInt64(round)
            packet.held.rank = UInt32(rank)
            packet.held.attempt = UInt32(entry.attempt)
            send(packet, on: .control, to: launcher)
        }
    }

    // MARK: seals

    /// The round whose start the engine's state belongs to.
    var heldRound: Int {
        switch holding {
        case .units(_, let round): round
        case .moving(let move): move.round
        case .nothing: state.round
        }
    }

    /// Applies the seal of `round` to the engine's units, or fetches the result when that cannot be done here.
    mutating func applySeal(of round: Int) {
        guard case .units(let units, _) = holding, let seal = state.seals.last(where: { $0.round == round }) else {
            return
        }
        if applying == round {
            // Under way; but the norms of a stage that left never come.
            guard let runner, runner.phase == .norms, sealedPipeline.contains(where: { !state.isPresent($0) }) else {
                return
            }
            applying = nil
            return fetchInstead()
        }
        guard let contributions = ranked(seal, units: units) else {
            if missingSince == nil { missingSince = now }
            if now - missingSince! >= Self.patience {
                event("seal_incomplete_here", ["round": .integer(round)])
                fetchInstead()
            }
            return
        }
        missingSince = nil
        let included = seal.contributions.contains { $0.rank == runner?.rank && $0.attempt == runner?.attempt }
        if runner?.spec.round == round, runner?.phase == .waitingForSeal, included {
            applying = round
            sealedPipeline = pipelinePeers
            runner!.apply(contributions)
            drainRunner()
        } else if state.plan?.mode == .everyStep {
            // Clipping needs the norms of all stages, which an excluded pipeline does not get: fetch the result.
            fetchInstead()
        } else {
            applying = round
            abandonRunner()
            if contributed == round { compute(.returnContribution, .ignored) }
            compute(.rewind, .ignored)
            compute(.outerStep(contributions), .catchUp(round: round, generation: generation))
        }
    }

    private mutating func fetchInstead() {
        abandonRunner()
        guard let plan = state.plan, let place = placement else {
            generation += 1
            holding = .nothing
            return
        }
        beginMove(to: plan.pipelines[place.rank].stages[place.stage].units, plan: plan)
    }

    /// The sealed contributions for `units`, in rank order; nil while one is missing or differs from the seal.
    private func ranked(_ seal: JobState.SealedRound, units: Range<Int>) -> [RankedContribution]? {
        var out: [RankedContribution] = []
        for entry in seal.contributions {
            guard let here = arrived[seal.round]?[entry.rank], here.attempt == entry.attempt else { return nil }
            var parts: [UnitContribution] = []
            for unit in units {
                guard let own = here.units[unit], contributionDigest(own) == entry.digests[unit] else { return nil }
                parts += own
            }
            out.append(RankedContribution(rank: entry.rank, microBatches: entry.microBatches, units: parts))
        }
        return out
    }

    /// The engine now holds the start of the next round.
    mutating func applied(round: Int, digests: [Int: Digest256]) {
        guard case .units(let units, round: round) = holding else { return }
        holding = .units(units, round: round + 1)
        runner = nil
        generation += 1
        contributed = nil
        applying = nil
        for old in arrived.keys where old <= round { arrived[old] = nil }
        exchangeBytes[round] = nil
        var packet = PBPacket()
        packet.applied.round = UInt64(round)
        packet.applied.computeSeconds = roundComputeTime.inSeconds
        roundComputeTime = .zero
        packet.applied.digests = digests.keys.sorted().map { unit in
            var entry = PBUnitDigest()
            entry.unit = UInt32(unit)
            entry.digest = bytesOf(digests[unit]!)
            return entry
        }
        send(packet, on: .control, to: launcher)
        reportHeld(round: state.round)
    }

    // MARK: neighbours

    /// Work messages from other stages: now, later (kept), or never (dropped).
    mutating func receiveWork(_ packet: PBPacket, payload: [UInt8], from peer: PeerID) {
        let work: PBWorkKey
        switch packet.body {
        case .activation(let message)?:
            guard sha256(payload).bytes.prefix(8) == ArraySlice(Array(message.checksum)) else {
                return event("payload_corrupt", peer: state.name(of: peer))
            }
            work = message.work
        case .norms(let message)?: work = message.work
        default: return
        }
        let round = Int(clamping: work.round)
        if let runner, runner.spec.round == round, runner.attempt == Int(work.attempt), runner.rank == Int(work.rank) {
            guard pipelinePeers.contains(peer) else { return }
            deliver(packet, payload)
        } else if round >= heldRound || isAhead(work) {
            keepForLater(peer, packet, payload)
        }
    }

    /// Of a plan this peer has not heard of yet, such as one that takes the job back to an earlier round.
    private func isAhead(_ work: PBWorkKey) -> Bool {
        Int(work.attempt) > (state.plan?.pipelines.map(\.attempt).max() ?? 0)
    }
    private mutating func keepForLater(_ peer: PeerID, _ packet: PBPacket, _ payload: [UInt8]) {
        guard earlyBytes + payload.count <= Self.earlyLimit, early.count < 100_000 else { return }
        early.append((peer, packet, payload))
        earlyBytes += payload.count
    }
    private mutating func keepForLater(_ peer: PeerID, contribution: PBContribution, _ payload: [UInt8]) {
        var packet = PBPacket()
        packet.contribution = contribution
        keepForLater(peer, packet, payload)
    }

    private mutating func deliver(_ packet: PBPacket, _ payload: [UInt8]) {
        switch packet.body {
        case .activation(let message)?: runner?.receive(message, payload: payload)
        case .norms(let message)?: runner?.receive(message)
        default: break
        }
        drainRunner()
    }

    /// Work that arrived before this stage was ready for it.
    mutating func replayEarly() {
        let waiting = early
        early = []
        earlyBytes = 0
        for item in waiting {
            if case .contribution(let message)? = item.packet.body {
                receive(message, payload: item.payload, from: item.from)
            } else {
                receiveWork(item.packet, payload: item.payload, from: item.from)
            }
        }
    }
}
