import Primitives

/// What drivers and members tell, and what belongs to the story.
extension JobView {
    mutating func drive(_ event: Event) {
        switch event.what {
        case .status: heed(event)
        case .listening: if stage == .idle { stage = .gathering(have: 0, want: 0) }
        case .evaluating: stage = .evaluating
        case .checkpointStored(let round, let path):
            var isKnown = false
            checkpoints.change { checkpoint in
                guard checkpoint.round == round else { return true }
                checkpoint.path = path
                isKnown = true
                return false
            }
            if !isKnown { checkpoints.append(Checkpoint(round: round, at: event.at, path: path)) }
        default: break
        }
    }

    private mutating func heed(_ event: Event) {
        guard
            case .status(
                _, let step, let round, let stepsTotal, let tokens, let tokensTotal, let tokensPerSecond, let trainLoss,
                let validationLoss, let sentBytes, let uncompressedBytes, let doing) = event.what
        else { return }
        (progress.step, progress.stepsTotal, progress.round) = (step, stepsTotal, round)
        (progress.tokens, progress.tokensTotal) = (tokens, tokensTotal)
        progress.tokensPerSecond = tokensPerSecond
        if trainLoss != 0 { progress.trainLoss = trainLoss }
        if validationLoss != 0 { progress.validationLoss = validationLoss }
        (progress.sentBytes, progress.uncompressedBytes) = (sentBytes, uncompressedBytes)
        for item in doing.split(separator: ";") {
            let pair = item.split(separator: "=", maxSplits: 1)
            guard pair.count == 2 else { continue }
            roster.change(String(pair[0])) { member in
                member.standing = .joined
                member.doing = String(pair[1])
            }
        }
    }

    /// A member of the job tells of itself.
    mutating func hear(_ event: Event, from host: String) {
        switch event.what {
        case .jobAccepted(let job, _):
            if self.job.isEmpty { self.job = job }
            if stage == .idle { stage = .gathering(have: 0, want: 0) }
            note("accepted", of: host)
        case .jobReleased(_, let why): if host.isEmpty { stage = .over(why) } else { note("free", of: host) }
        case .textComplete: note("has the text", of: host)
        case .planReceived(_, let role): note(role, of: host)
        case .stateRequested(let units, let round): note("fetches units \(units) of round \(round)", of: host)
        case .stateReady(let round, let units): note("holds units \(units) of round \(round)", of: host)
        case .roundRewound(let round): note("begins round \(round) anew", of: host)
        case .sealIncompleteHere(let round): note("fetches the result of round \(round)", of: host)
        case .workPaused: note("paused", of: host)
        case .processorTaken(let percent):
            roster.changeKnown(host.isEmpty ? event.peer : host) { $0.processorPercent = percent }
        case .processorBack: roster.changeKnown(host.isEmpty ? event.peer : host) { $0.processorPercent = nil }
        case .rejoined: roster.changeKnown(host) { $0.standing = .joined }
        default: break
        }
    }
    private mutating func note(_ doing: String, of host: String) {
        guard !host.isEmpty else { return }
        roster.change(host) { $0.doing = doing }
    }

    mutating func keepRecord(_ event: Event) {
        switch event.what {
        case .storageFailed(let what, let why):
            waiting = Waiting(
                peers: [], round: progress.round, why: "\(what) cannot be stored: \(why)", since: event.at)
        case .storageRecovered: waiting = nil
        default: break
        }
    }
}

extension Happening {
    /// Whether somebody will want to read it when the job is over: who came and went, what was planned and why, who was waited for,
    /// and everything that should not have happened. `report.json` has these.
    public var isStory: Bool {
        switch self {
        case .jobResumed, .peerFound, .peerUnfit, .peerJoined, .peerDeclined, .peerLost, .placementRefused, .planned,
            .planRefused,
            .exchangeChosen, .pairRelayed, .replanned, .speedChanged, .waitingFor, .exchangeRegrouped, .replaced,
            .othersGoOn, .pipelineRestarted,
            .rolledBack, .diverged, .workImpossible, .supplyChosen, .roundStartFailed, .copyFailed, .roundStartRefused,
            .roomShort,
            .trainingResumed, .interrupted, .resumed,
            .checkpointSaved, .checkpointFailed,
            .collectingWeights, .contributionRefused, .ownerRefuted, .receiptContradicts, .weightsDiffer,
            .weightsDisputed, .stateWrong, .momentsInexact, .entryRefused, .forked, .leaderChanged, .electorsChosen,
            .leadershipTaken, .jobRefounded, .refoundingRefused, .launcherAwaited, .electorsContradict, .storageFailed,
            .storageRecovered, .processorTaken,
            .peerKilled, .fault:
            true
        default: false
        }
    }
}
