import Primitives

/// What the coordinator tells.
extension JobView {
    mutating func gather(_ event: Event) {
        switch event.what {
        case .jobOpened(let job, let nonce):
            (self.job, self.nonce) = (job, nonce)
            if stage == .idle { stage = .gathering(have: 0, want: 0) }
        case .jobResumed(let job, _, _):
            self.job = job
            if stage == .idle { stage = .gathering(have: 0, want: 0) }
        case .waitingForPeers(let have, let want): stage = .gathering(have: have, want: want)
        case .peerFound(let device, let gflops, let memoryMib):
            if stage == .idle { stage = .gathering(have: 0, want: 0) }
            roster.change(event.peer) { member in
                (member.device, member.gflops, member.memoryMib) = (device, gflops, memoryMib)
                if !member.isPresent { member.standing = .found }
            }
        case .peerUnfit(let why): roster.change(event.peer) { $0.standing = .unfit(why) }
        case .peerDeclined(let why): roster.change(event.peer) { $0.standing = .declined(why) }
        case .peerJoined: roster.change(event.peer) { $0.standing = .joined }
        case .sharingText(_, let bytes): stage = .sharing(bytes: bytes)
        case .measuringLinks:
            if plan == nil { stage = .measuring } else { pace.isMeasuring = true }
        case .linksMeasured: pace.isMeasuring = false
        case .planning: if plan == nil { stage = .planning }
        case .planned(
            let epoch, let pipelines, let stages, let innerSteps, let codec, let activations, let exchange,
            let stepSeconds, let totalSeconds):
            plan = Plan(
                epoch: epoch, round: 0, pipelines: pipelines, stages: stages, innerSteps: innerSteps, codec: codec,
                activations: activations, exchange: exchange, stepSeconds: stepSeconds > 0 ? stepSeconds : nil,
                totalSeconds: totalSeconds > 0 ? totalSeconds : nil)
            if stepSeconds > 0 { pace.stepsPlanned = Int(exactly: (totalSeconds / stepSeconds).rounded()) }
            stage = .preparing
        case .exchangeChosen(_, let way, _, _):
            if pace.nextPlan != nil { pace.nextPlan!.exchange = way } else { plan?.exchange = way }
        case .placed(let workers): place(workers.split(separator: ",").map(String.init))
        default: break
        }
    }

    /// Of the plan that was told last, which may begin with the next round.
    private mutating func place(_ workers: [String]) {
        if pace.nextPlan != nil { return pace.nextPlan!.workers = workers }
        plan?.workers = workers
        let working = Set(workers)
        roster.changeAll { $0.isWorking = working.contains($0.name) }
    }

    mutating func seal(_ event: Event) {
        switch event.what {
        case .roundSealed: sealRound(event)
        case .waitingFor(let peers, let round, let why):
            waiting = Waiting(
                peers: peers.split(separator: ",").map(String.init), round: round, why: why, since: event.at)
        case .speedChanged(_, _, let measured): roster.changeKnown(event.peer) { $0.measuredGflops = measured }
        default: break
        }
    }

    private mutating func sealRound(_ event: Event) {
        guard
            case .roundSealed(
                let number, let stepsDone, let tokens, let trainLoss, let validationLoss, let pipelines, let seconds,
                let criticalBatch, let predictedSeconds) = event.what
        else { return }
        if let next = pace.nextPlan, next.round <= number { adopt(next) }
        // Of a job that others have begun, the rounds before are not known: this one is taken for one like them.
        let before = pace.stepsSealed == 0 && number > 0 ? stepsDone &- stepsDone / (number &+ 1) : pace.stepsSealed
        if pace.trainingSince == nil {
            pace.trainingSince = event.at - .nanoseconds(Int64(exactly: (seconds * 1e9).rounded()) ?? 0)
        }
        rounds.append(
            Round(
                round: number, at: event.at, steps: max(0, stepsDone &- before), stepsDone: stepsDone,
                tokens: tokens, trainLoss: trainLoss, validationLoss: validationLoss, pipelines: pipelines,
                seconds: seconds, predictedSeconds: predictedSeconds, criticalBatch: criticalBatch,
                planEpoch: plan?.epoch ?? 0,
                isUndisturbed: !pace.isDisturbed && pipelines == plan?.pipelines ?? pipelines))
        // Of one that the job went back with nothing was told before.
        if plan?.stepSeconds == nil, let predictedSeconds, let steps = rounds.last?.steps, steps > 0,
            steps == plan?.innerSteps ?? steps
        {
            plan?.stepSeconds = predictedSeconds / Double(steps)
        }
        lossCurve.append(trainLoss)
        roundSeconds.append(seconds)
        pace.stepsSealed = stepsDone
        pace.isDisturbed = pace.isMeasuring
        progress.step = max(progress.step, stepsDone)
        progress.round = number &+ 1
        progress.tokens = tokens
        progress.trainLoss = trainLoss
        progress.validationLoss = validationLoss ?? progress.validationLoss
        waiting = nil
        if let next = pace.nextPlan, next.round <= number &+ 1 { adopt(next) }
        stage = .training
    }
    private mutating func adopt(_ next: Plan) {
        pace.nextPlan = nil
        plan = next
        place(next.workers)
    }

    mutating func collect(_ event: Event) {
        switch event.what {
        case .checkpointSaved(let round): checkpoints.append(Checkpoint(round: round, at: event.at))
        case .collectingWeights:
            stage = .collecting(have: 0, of: 0)
            waiting = nil
        case .collectionProgress(let have, let of):
            if case .collecting = stage { stage = .collecting(have: have, of: of) }
        default: break
        }
    }

    mutating func recover(_ event: Event) {
        switch event.what {
        case .peerLost(let why, let saidGoodbye):
            roster.change(event.peer) { $0.standing = .lost(why) }
            losses.append(Loss(peer: event.peer, why: why, saidGoodbye: saidGoodbye, at: event.at))
        case .replaced(let spare, _):
            answerLoss(.replaced(by: spare), of: event.peer)
            plan?.epoch &+= 1
            if let place = plan?.workers.firstIndex(of: event.peer) { plan!.workers[place] = spare }
            roster.changeKnown(event.peer) { $0.isWorking = false }
            roster.changeKnown(spare) { $0.isWorking = true }
            pace.isDisturbed = true
        case .othersGoOn(let pipelines, _):
            answerLoss(.othersGoOn(pipelines: pipelines), of: nil)
            pace.isDisturbed = true
        case .pipelineRestarted:
            plan?.epoch &+= 1
            pace.isDisturbed = true
        case .replanned(let why, let round, let epoch, let pipelines, let stepSeconds):
            var next = plan ?? Plan(epoch: epoch, round: round, pipelines: pipelines)
            (next.epoch, next.round, next.pipelines, next.why) = (epoch, round, pipelines, why)
            // Who only reads the log learns of no prediction.
            (next.stages, next.stepSeconds, next.totalSeconds) = (nil, stepSeconds > 0 ? stepSeconds : nil, nil)
            pace.nextPlan = next
            pace.isDisturbed = true
        case .rolledBack(let round, let from, let why): rollBack(to: round, from: from, why: why)
        case .trainingResumed(let seconds):
            losses.change { loss in
                guard loss.resumedAfter == nil else { return false }
                loss.resumedAfter = seconds
                return false
            }
            waiting = nil
        case .interrupted(let why): waiting = Waiting(peers: [], round: progress.round, why: why, since: event.at)
        case .resumed: waiting = nil
        default: break
        }
    }

    /// To the newest loss that has no answer; of `peer`, where that is known.
    private mutating func answerLoss(_ answer: Loss.Answer, of peer: String?) {
        losses.change { loss in
            guard peer == nil || loss.peer == peer else { return true }
            if loss.answer == .none { loss.answer = answer }
            return false
        }
    }

    /// - Parameter from: nil where it is the job's end: the last checkpoint is what there is.
    private mutating func rollBack(to round: Int, from: Int?, why: String) {
        answerLoss(.rolledBack(to: round), of: nil)
        rounds.change { sealed in
            if sealed.round >= round { sealed.isUndone = true }
            return sealed.round >= round || sealed.isUndone
        }
        pace.stepsSealed = rounds.items.last { !$0.isUndone }?.stepsDone ?? 0
        waiting = nil
        guard from != nil else { return }
        pace.nextPlan = nil
        plan?.epoch &+= 1
        plan?.round = round
        plan?.why = why
        plan?.stages = nil
        plan?.stepSeconds = nil
        plan?.totalSeconds = nil
        (progress.step, progress.round) = (pace.stepsSealed, round)
        pace.isDisturbed = true
        stage = round == 0 ? .preparing : .training
    }
}
