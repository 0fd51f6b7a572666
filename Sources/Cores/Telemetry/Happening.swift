/// What happened, in the past tense. One case a kind; what each means, whom it is about and the units of its fields are in
/// ``EventReference``, and docs/EVENTS.md is written from both.
///
/// Kind and fields are read off the declaration: `peerFound(device:gflops:memoryMib:)` is the kind `peer_found` with the fields
/// `device`, `gflops` and `memory_mib`, in this order (``kind``, ``fields``). Payloads are `Int`, `Double`, `String` and `Bool`, or
/// optionals of these where a field may be absent.
public enum Happening: Hashable, Sendable, Codable {
    // MARK: the overlay and connections
    case overlayJoined(contacts: Int)
    case bootstrapRetrying(attempt: Int, nextSeconds: Double)
    case overlayIsolated
    case externalAddress(endpoint: String)
    case reachability(reached: Int, asked: Int, reachable: Bool)
    case unreachable(why: String)
    case connectionRefused(why: String, count: Int)
    case strangersTurnedAway(crowded: Int, timedOut: Int, failed: Int, withoutDescriptor: Int)
    case networkChanged(why: String)
    case connectionMade(endpoint: String)
    case connectionInterrupted(why: String)
    case connectionResumed(endpoint: String)
    case connectionLost(why: String)
    case connectionRelayed(by: String)
    case connectionPunched(endpoint: String)
    case berthGranted(megabits: Double, leftMib: Double)
    case berthLost
    case portOpened(endpoint: String)
    case portClosed(endpoint: String, why: String)
    case memberJoined(invite: String, role: String)
    case memberRemoved
    case membershipRenewed(days: Double)
    case inviteRevoked(invite: String, membersToo: Bool)
    case poolKeyChanged(serial: Int)
    case packetMalformed(why: String)
    case floodLimited(what: String)

    // MARK: the record: log, fold and disk of a job, whoever keeps it
    case entryRefused(why: String)
    case logEntryRefused(why: String)
    case forked(index: Int)
    case leaderChanged(term: Int)
    case electorsChosen(electors: String, why: String)
    case leadershipTaken(term: Int, round: Int)
    case recordCarried(round: Int, tokens: Int, trainLoss: Double)
    case recordFound(entries: Int, certified: Int, era: Int)
    case jobRefounded(era: Int, entries: Int, why: String)
    case refoundingRefused(entries: Int, certified: Int)
    case launcherAwaited(seconds: Double)
    case electorsContradict(entries: Int, why: String)
    case staleCommand(term: Int)
    case notEntitled(message: String)
    case storageFailed(what: String, why: String)
    case storageRecovered(what: String)

    // MARK: a peer: work offered and taken
    case speedMeasured(flops: Double)
    case rehearsed(flops: Double)
    case jobAccepted(job: String, name: String)
    case offerDeclined(why: String)
    case jobReleased(job: String, why: String)
    case ownerPaused
    case ownerResumed
    case ownerLeaves(round: Int)
    case workHeld(limit: String, why: String)
    case workDraining(limit: String, why: String)
    case workHandedOver(limit: String, why: String)
    case workTakenUp(seconds: Double)
    case limitUnseen(limit: String, why: String, instead: String)
    case limitChanged(limit: String, from: String, to: String)
    case usageUnread(why: String)
    case processorTaken(percent: Double)
    case processorBack

    // MARK: a peer in a job
    case textComplete(bytes: Int)
    case contentRefused(why: String)
    case chunkRefused(chunk: Int)
    case peerLeft(why: String)
    case workPaused(why: String)
    case rejoined
    case planReceived(epoch: Int, role: String)
    case placementRefused(why: String)
    case stateRequested(units: String, round: Int)
    case stateUnavailable(why: String)
    case stateWrong(unit: Int)
    case momentsInexact(units: String, round: Int)
    case stateReady(round: Int, units: String)
    case roundRewound(round: Int)
    case roomShort(what: String, neededBytes: Int, freeBytes: Int, place: String)
    case roundStartFound(job: String, round: Int, units: String)
    case roundStartStored(round: Int, units: String)
    case roundStartRead(round: Int, units: String, exact: Bool)
    case roundStartFailed(round: Int, why: String)
    case roundStartRefused(what: String, why: String)
    case copyFound(job: String, round: Int, units: String)
    case copyStored(round: Int, units: String)
    case copyFailed(round: Int, units: String, why: String)
    case copySkipped(units: String, neededBytes: Int, freeBytes: Int)
    case sealIncompleteHere(round: Int)
    case contributionMalformed
    /// What a pipeline contributed cannot be used here; the coordinator's word for it is ``contributionRefused(by:round:why:)``, and
    /// the kind of both is `contribution_refused`.
    case contributionUnusable(rank: Int, why: String)
    case payloadCorrupt
    case roundCounted(
        round: Int, tokens: Int, trainLoss: Double? = nil, seconds: Double? = nil, counted: Int, wasted: Int)
    case workRefused(why: String, round: Int? = nil)

    // MARK: the coordinator: gathering and planning
    case jobOpened(job: String, nonce: String)
    case jobResumed(job: String, round: Int, checkpoint: Int? = nil)
    case waitingForPeers(have: Int, want: Int)
    case peerFound(device: String, gflops: Double, memoryMib: Double)
    case peerUnfit(why: String)
    case peerDeclined(why: String)
    case peerJoined
    case sharingText(peers: Int, bytes: Int)
    case measuringLinks(peers: Int, why: String? = nil)
    case linksMeasured(peers: Int, upMbps: String, downMbps: String)
    case planning(why: String, peers: Int)
    case planned(
        epoch: Int, pipelines: Int, stages: Int, innerSteps: Int, codec: String, activations: String, exchange: String,
        stepSeconds: Double, totalSeconds: Double)
    case exchangeChosen(units: String, way: String, seconds: Double, allGatherSeconds: Double)
    case placed(workers: String)
    case pairRelayed(
        to: String, by: String, megabits: Double, forward: String? = nil, port: Int? = nil,
        savedStepSeconds: Double? = nil)
    case planRefused(why: String)

    // MARK: the coordinator: rounds
    case roundSealed(
        round: Int, steps: Int, tokens: Int, trainLoss: Double, validationLoss: Double? = nil, pipelines: Int,
        seconds: Double, criticalBatch: Double? = nil, predictedSeconds: Double? = nil)
    case waitingFor(peers: String, round: Int, why: String)
    case speedChanged(round: Int, plannedGflops: Double, measuredGflops: Double)
    case exchangeRegrouped(round: Int, ranks: String, way: String, why: String)
    case contributionRefused(by: String, round: Int, why: String)
    case aggregatesDiffer(unit: Int, round: Int)
    case ownerRefuted(unit: Int, chunk: Int, round: Int, by: String)
    case auditDiffers(unit: Int, chunk: Int, round: Int, by: String)
    case auditUnanswered(unit: Int, chunk: Int, round: Int)
    case receiptRefused(why: String)
    case receiptContradicts(round: Int, rank: Int, stage: Int)
    case statesAgreed(round: Int)
    case weightsDiffer(unit: Int, round: Int)
    case weightsDisputed(unit: Int, round: Int, peers: String)

    // MARK: the coordinator: states that come back
    case checkpointSaved(round: Int)
    case collectingWeights(round: Int)
    case collectionProgress(have: Int, of: Int)
    case stateRefused(unit: Int)
    case stateMalformed(why: String)

    // MARK: the coordinator: losses and recovery
    case peerLost(why: String, saidGoodbye: Bool = false)
    case replaced(by: String, round: Int)
    case othersGoOn(pipelines: Int, round: Int)
    case pipelineRestarted(rank: Int, round: Int, why: String)
    case replanned(why: String, round: Int, epoch: Int, pipelines: Int, stepSeconds: Double)
    case rolledBack(round: Int, from: Int? = nil, why: String)
    case diverged(round: Int, step: Int, rank: Int, stage: Int, why: String)
    case workImpossible(round: Int, step: Int, rank: Int, stage: Int, why: String)
    case supplyChosen(round: Int, of: Int, exact: Bool, why: String)
    case trainingResumed(seconds: Double)
    case interrupted(why: String)
    case resumed(seconds: Double)

    // MARK: what drivers add
    case stateUnread(why: String)
    case stateUnsaved(why: String)
    case logDamaged(path: String, byte: Int, lost: Int, why: String)
    case descriptorsScarce(limit: Int)
    case descriptorsBack(seconds: Double)
    case controlClosed(why: String)
    case controlRestored
    case listening(endpoint: String)
    case status(
        phase: String, step: Int, round: Int, stepsTotal: Int, tokens: Int, tokensTotal: Int, tokensPerSecond: Double,
        trainLoss: Double, validationLoss: Double, sentBytes: Int, uncompressedBytes: Int, doing: String)
    case evaluating
    case evaluationProgress(windows: Int, of: Int)
    case checkpointStored(round: Int, path: String)
    case checkpointFailed(why: String)
    case peerKilled
    case fault(kind: String)

    /// The case's name. The derived encoding asks for it, so every name is that of a case (the compiler checks), and every case
    /// has a name (a test does).
    public enum Name: String, CodingKey, CaseIterable, Sendable {
        case overlayJoined, bootstrapRetrying, overlayIsolated, externalAddress, reachability, unreachable,
            connectionRefused, strangersTurnedAway, networkChanged, connectionMade, connectionInterrupted,
            connectionResumed,
            connectionLost, connectionRelayed, connectionPunched, berthGranted, berthLost,
            portOpened, portClosed, memberJoined, memberRemoved, membershipRenewed, inviteRevoked, poolKeyChanged,
            packetMalformed, floodLimited
        case entryRefused, logEntryRefused, forked, leaderChanged, electorsChosen, leadershipTaken, recordCarried,
            recordFound, jobRefounded, refoundingRefused, launcherAwaited, electorsContradict, staleCommand,
            notEntitled, storageFailed,
            storageRecovered
        case speedMeasured, rehearsed, jobAccepted, offerDeclined, jobReleased, ownerPaused, ownerResumed, ownerLeaves,
            workHeld,
            workDraining, workHandedOver, workTakenUp, limitUnseen, limitChanged, usageUnread,
            processorTaken, processorBack
        case textComplete, contentRefused, chunkRefused, peerLeft, workPaused, rejoined, planReceived, placementRefused,
            stateRequested, stateUnavailable, stateWrong, momentsInexact, stateReady, roundRewound,
            roomShort, roundStartFound, roundStartStored, roundStartRead, roundStartFailed,
            roundStartRefused, copyFound, copyStored, copyFailed, copySkipped,
            sealIncompleteHere, contributionMalformed, contributionUnusable, payloadCorrupt, roundCounted, workRefused
        case jobOpened, jobResumed, waitingForPeers, peerFound, peerUnfit, peerDeclined, peerJoined, sharingText,
            measuringLinks, linksMeasured, planning, planned, exchangeChosen, placed, pairRelayed, planRefused
        case roundSealed, waitingFor, speedChanged, exchangeRegrouped, contributionRefused, aggregatesDiffer,
            ownerRefuted, auditDiffers, auditUnanswered, receiptRefused, receiptContradicts, statesAgreed,
            weightsDiffer, weightsDisputed
        case checkpointSaved, collectingWeights, collectionProgress, stateRefused, stateMalformed
        case peerLost, replaced, othersGoOn, pipelineRestarted, replanned, rolledBack, diverged, workImpossible,
            supplyChosen,
            trainingResumed, interrupted, resumed
        case stateUnread, stateUnsaved, logDamaged, descriptorsScarce, descriptorsBack, controlClosed, controlRestored,
            listening, status, evaluating, evaluationProgress, checkpointStored, checkpointFailed, peerKilled, fault

        /// What transcripts and JSON call it: snake case.
        public var kind: String {
            // One word for one thing: what a member finds and what its coordinator hears of it.
            self == .contributionUnusable ? Name.contributionRefused.kind : snakeCase(rawValue)
        }
    }
    typealias CodingKeys = Name
}
