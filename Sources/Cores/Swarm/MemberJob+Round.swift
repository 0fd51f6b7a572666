import Digests
import Exchange
import Primitives
import Telemetry
import Training
import Wire

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
            case .applied(let digests, let squares):
                guard let runner else { continue }
                if let digests {
                    applied(round: runner.spec.round, digests: digests, squares: squares)
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
        contributed = runner.spec.round
        ensureGroup()
        contributionDigests = contributeToGroup(units)
    }

    private mutating func sendReceipt() {
        guard let runner else { return }
        let digests = contributionDigests
        var work = PBWork()
        work.work = runner.work
        work.stage = UInt32(runner.stage)
        work.microBatches = UInt32(runner.microBatchesInRound)
        work.tokens = UInt64(runner.microBatchesInRound * parameters.microBatch * parameters.model.context)
        work.lossSum = runner.lossSum
        work.evaluationSum = runner.evaluationSum
        work.evaluationTokens = UInt64(runner.evaluationTokens)
        work.flops = runner.flops
        work.exchangeBytes = UInt64(exchangeBytes)
        exchangeBytes = 0
        work.firstStep = UInt64(runner.spec.firstStep)
        work.steps = UInt32(runner.spec.steps)
        for unit in digests.keys.sorted() {
            work.digests.append(PBUnitDigest(unit, digests[unit]!.unit.bytes))
            work.chunks.append(PBUnitDigest(unit, digests[unit]!.short))
        }
        receiptSequence += 1
        var packet = PBPacket()
        packet.receipt.envelope = PBEnvelope(
            work, type: .receipt, job: log.job, epoch: UInt64(state.plan?.epoch ?? 0), sequence: receiptSequence,
            by: key)
        send(packet, on: .control, to: launcher)
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
        ensureGroup(of: seal)
        let contributions = seal.aggregates.isEmpty ? sealedContributions(seal, units: units) : nil
        let aggregates = seal.aggregates.isEmpty ? nil : sealedAggregates(seal, units: units)
        guard contributions != nil || aggregates != nil else {
            if missingSince == nil { missingSince = now }
            if now - missingSince! >= Self.patience {
                event("seal_incomplete_here", ["round": .integer(round)])
                fetchInstead()
            }
            return
        }
        missingSince = nil
        let codec = group?.terms.way.aggregateCodec ?? .fp32
        let included = seal.contributions.contains { $0.rank == runner?.rank && $0.attempt == runner?.attempt }
        if runner?.spec.round == round, runner?.phase == .waitingForSeal, included {
            applying = round
            sealedPipeline = pipelinePeers
            if let aggregates { runner!.apply(aggregates, codec: codec) } else { runner!.apply(contributions!) }
            drainRunner()
        } else if state.plan?.mode == .everyStep {
            // Clipping needs the norms of all stages, which an excluded pipeline does not get: fetch the result.
            fetchInstead()
        } else {
            applying = round
            abandonRunner()
            if contributed == round { compute(.returnContribution, .ignored) }
            compute(.rewind, .ignored)
            compute(
                aggregates.map { .applyAggregates($0, codec: codec) } ?? .outerStep(contributions!),
                .catchUp(round: round, generation: generation))
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

    /// The engine now holds the start of the next round.
    mutating func applied(round: Int, digests: [Int: UnitDigests], squares: GradientSquares? = nil) {
        guard case .units(let units, round: round) = holding else { return }
        holding = .units(units, round: round + 1)
        runner = nil
        generation += 1
        contributed = nil
        applying = nil
        group = nil
        groupOrders = groupOrders.filter { $0.key > round }
        var packet = PBPacket()
        packet.applied.round = UInt64(round)
        packet.applied.computeSeconds = roundComputeTime.inSeconds
        roundComputeTime = .zero
        if let squares {
            packet.applied.contributorSquares = squares.contributors
            packet.applied.meanSquares = squares.mean
        }
        packet.applied.digests = digests.keys.sorted().map { PBUnitDigest($0, digests[$0]!.parameters.bytes) }
        send(packet, on: .control, to: launcher)
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
    func isAhead(_ work: PBWorkKey) -> Bool {
        Int(work.attempt) > (state.plan?.pipelines.map(\.attempt).max() ?? 0)
    }
    mutating func keepForLater(_ peer: PeerID, _ packet: PBPacket, _ payload: [UInt8]) {
        guard earlyBytes + payload.count <= Self.earlyLimit, early.count < 100_000 else { return }
        early.append((peer, packet, payload))
        earlyBytes += payload.count
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
            switch item.packet.body {
            case .exchangePart(let message)?: receive(message, payload: item.payload, from: item.from)
            default: receiveWork(item.packet, payload: item.payload, from: item.from)
            }
        }
    }
}
