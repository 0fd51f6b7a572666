import Content
import Digests
import Exchange
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// Rounds: what members report, and what the round's desk makes of it.
extension Coordinator {
    func facts() -> RoundFacts? {
        guard let plan = state.plan, let spec = state.spec else { return nil }
        return RoundFacts(
            state: state, plan: plan, spec: spec, roster: roster, lines: lines, books: books,
            predictedSeconds: answer?.roundSeconds, now: now, isAsking: desk.isAsking, key: key, job: job,
            auditShare: options.auditShare, checkpoint: checkpoint.round)
    }

    mutating func beginRound() {
        let isFirst = timers.trainingSince == nil
        round.begin(state.round, isDisturbed: isFirst || lines.isSurveying, at: now)
    }

    /// What a member must know of the round's group beside the log: said again with every lease, so that nobody stays behind.
    var roundMessage: Message? {
        guard stage.isRunning, round.terms.version > 0, round.terms.round == state.round else { return nil }
        return .group(round.terms)
    }

    mutating func stepRound() -> Bool {
        guard let facts = facts() else {
            guard state.plan != nil, !desk.isGoingBack else { return false }
            return beginCollection()
        }
        switch round.verdict(facts) {
        case .wait: return false
        case .regroup(let change): regroup(change, facts)
        case .say(let what, let peer):
            round.say(what)
            event(what, peer: peer)
        case .warn(let what):
            round.warned()
            event(what)
        case .audit(let drawn):
            round.begin(drawn)
            for rank in round.terms.ranks {
                if let holder = facts.plan.holder(rank, of: drawn.unit) { send(.auditOrder(drawn.order), to: holder) }
            }
        case .audited(let finding): heed(finding, facts)
        case .seal(let ranks): seal(ranks, facts)
        case .rollBack(let why):
            round.countStuck()
            desk.want(.rollBack, why)
        }
        return true
    }

    private mutating func regroup(_ change: Regrouping, _ facts: RoundFacts) {
        if let odd = round.differing(facts), change.way == .allGather {
            event(.aggregatesDiffer(unit: odd.unit, round: state.round), peer: odd.owner)
        }
        round.regroup(change, facts)
        event(
            .exchangeRegrouped(
                round: state.round, ranks: round.terms.ranks.map(String.init).joined(separator: ","),
                way: round.terms.way.description, why: change.why))
        for member in roster.joined { send(.group(round.terms), to: member.peer) }
    }

    private mutating func heed(_ finding: AuditFinding, _ facts: RoundFacts) {
        round.endAudit()
        func names(_ peers: [PeerID]) -> String { peers.map { roster.name(of: $0) }.joined(separator: ",") }
        var why = ""
        switch finding {
        case .confirmed: return
        case .unanswered(let audit):
            return event(.auditUnanswered(unit: audit.unit, chunk: audit.chunk, round: state.round))
        case .refuted(let audit, let owner, let accusers):
            event(
                .ownerRefuted(unit: audit.unit, chunk: audit.chunk, round: state.round, by: names(accusers)),
                peer: owner)
            round.reputation.bar(owner)
            why = "an owner added wrongly"
        case .differs(let audit, let owner, let accusers):
            event(
                .auditDiffers(unit: audit.unit, chunk: audit.chunk, round: state.round, by: names(accusers)),
                peer: owner)
            round.reputation.quarrel(owner, accusers)
            why = "an audit found another sum"
        }
        regroup(Regrouping(ranks: round.terms.ranks, way: .allGather, why: why), facts)
    }

    // MARK: reports

    /// Other programs take its processor, or leave it again: whoever believes a prediction is to know. Told so often at most, whatever it says.
    mutating func noticeProcessor(of peer: PeerID, _ share: Double?) {
        guard timers.starved.turns(peer, isStarved: share != nil, at: now) else { return }
        event(share.map { .processorTaken(percent: $0 * 100) } ?? .processorBack, peer: peer)
    }

    mutating func receiveReport(_ message: Message, from peer: PeerID) {
        switch message {
        case .heartbeat(let heartbeat):
            noticeProcessor(of: peer, heartbeat.processorShare)
            if roster.beats(heartbeat, peer, at: now) { heedLeaving(peer) }
            noticeProgress(step: heartbeat.step, knowing: heartbeat.logLength)
            if let trace = heartbeat.trace {
                timers.steps.receive(trace, from: peer, roundTrip: roster[peer]?.roundTrip, at: now)
            }
        case .readiness(let readiness): roster.isReady(readiness, peer, at: now)
        case .kept(let stages): roster.keeps(stages, peer, round: state.round)
        case .fitness(let fitness): roster.isFit(fitness, peer)
        case .logRequest(let from): catchUp(peer, from: from)
        case .probeResult(let result):
            let roster = roster
            lines.receive(result, from: peer, trip: { roster[$0]?.roundTrip ?? .zero }, at: now)
        case .paths(let paths): lines.receive(paths, from: peer, at: now)
        case .receipt(let envelope): receive(envelope, from: peer)
        case .held(let held): if let plan = state.plan { round.progress.receive(held, from: peer, plan: plan) }
        case .gathered(let gathered): round.progress.receive(gathered, from: peer)
        case .applied(let applied): receive(applied, from: peer)
        case .objection(let objection): receive(objection, from: peer)
        case .setback(let setback): receive(setback, from: peer)
        case .audited(let report): if let plan = state.plan { round.reports(report, by: peer, plan: plan) }
        case .farewell(let reason): lose(peer, reason: reason, saidGoodbye: true)
        default: receiveContent(message, from: peer)
        }
    }

    /// A receipt is taken from its signer, for its own stage of a pipeline of the plan in force, as that was granted; once.
    private mutating func receive(_ envelope: PBEnvelope, from peer: PeerID) {
        do throws(MalformedBytes) {
            // It expires by the clock of its signer, which may be wrong.
            let wall = timers.wall.seconds(at: now)
            let (signer, receipt) = try Receipt.open(
                envelope, job: job, wall: roster[peer]?.clockLead.map { wall + $0 })
            guard signer == peer else { throw MalformedBytes("a receipt must come from its signer") }
            guard let plan = state.plan, let spec = state.spec, receipt.work.round == spec.round,
                let place = plan.placement(of: peer), place == (receipt.work.rank, receipt.stage),
                receipt.work.attempt == plan.pipelines[place.rank].attempt
            else { return }
            let units = plan.pipelines[place.rank].stages[place.stage].units
            guard receipt.microBatches == plan.share(rank: place.rank, steps: spec.steps), receipt.steps == spec.steps,
                receipt.firstStep == spec.firstStep, receipt.digests.map(\.unit) == Array(units),
                receipt.digests.allSatisfy({ $0.bytes.count == 32 }),
                receipt.chunks.allSatisfy({ units.contains($0.unit) })
            else { throw MalformedBytes("receipt does not fit what was granted") }
            switch round.progress.receive(receipt) {
            case .known: return
            case .contradicts:
                return event(
                    .receiptContradicts(round: spec.round, rank: place.rank, stage: place.stage), peer: peer)
            case .taken: roster.learnsClock(of: peer, signed: Receipt.signingTime(of: envelope), came: wall)
            }
            books.keep(receipt, envelope, from: peer)
            storeReceipts(from: books.receiptEnvelopes.count - 1)
            speeds.worked(peer, round: spec.round, flops: receipt.flops)
            round.computed(at: now)
            noticeProgress(step: receipt.firstStep + receipt.steps)
            beginTraining()
        } catch {
            event(.receiptRefused(why: error.description), peer: peer)
        }
    }
    private mutating func beginTraining() {
        guard stage == .preparing else { return }
        timers.trainingSince = round.started
        timers.tokensBefore = state.sealedTokens
        stage.go(to: .training)
    }

    private mutating func receive(_ applied: Applied, from peer: PeerID) {
        agreement.receive(applied, from: peer, state: state)
        watchSpeed(of: peer, round: applied.round, compute: applied.compute)
        if let squares = applied.squares { books.keep(squares, round: applied.round) }
    }

    private mutating func receive(_ objection: Objection, from accuser: PeerID) {
        guard let plan = state.plan, round.objects(objection, by: accuser, plan: plan) else { return }
        event(
            .contributionRefused(by: roster.name(of: accuser), round: state.round, why: objection.why),
            peer: plan.pipelines[objection.work.rank].stages[0].peer)
    }

    /// After a loss: the first sign that somebody has got further, of those who know of it.
    /// - Parameter length: of the log that it has.
    mutating func noticeProgress(step: Int, knowing length: Int = .max) {
        guard let loss = timers.lossAwaitingResume, step > loss.step, length >= loss.entries,
            timers.standstill == nil, !desk.isGoingBack
        else { return }
        timers.lossAwaitingResume = nil
        event(.trainingResumed(seconds: (now - loss.at).inSeconds))
    }

    // MARK: seals

    private mutating func seal(_ ranks: [Int], _ facts: RoundFacts) {
        beginTraining()
        let (plan, spec) = (facts.plan, facts.spec)
        let broken = plan.pipelines.indices.filter { state.isBroken(rank: $0) }
        var entry = round.progress.seal(
            ranks, spec: spec, plan: plan, tokensPerMicroBatch: parameters.microBatch * parameters.model.context,
            isTied: parameters.model.tieWordEmbeddings)
        entry.aggregates = round.aggregates(plan, of: ranks, unitCount: parameters.model.unitCount)
        if !entry.aggregates.isEmpty { entry.parts = [] }
        if !spec.isLast { changePlanAtBoundary() }
        let before = state.sealedTokens
        guard propose(.seal(entry)) else {
            // Never expected: what was reported cannot be sealed, so that the round is done again.
            round.countStuck()
            return desk.want(.rollBack, "round \(spec.round) could not be sealed")
        }
        round.sealed()
        desk.heedDrift(round: state.round, at: now)
        let seconds = (now - (books.roundTimes.last?.at ?? timers.trainingSince ?? round.started)).inSeconds
        let isUndisturbed = !round.isDisturbed && broken.isEmpty && ranks.count == plan.pipelines.count
        books.keep(
            RoundTime(
                round: spec.round, at: now, seconds: seconds, steps: spec.steps, undisturbed: isUndisturbed,
                planEpoch: plan.epoch), exchange: (now - round.since).inSeconds)
        let present = Set(state.members.filter(\.present).map(\.peer))
        round.reputation.sealed(ranks, plan) { present.contains($0) }
        books.estimateNoise(sealed: spec.round, contributors: ranks.count, tokens: state.sealedTokens - before)
        tell(entry, spec, plan, pipelines: ranks.count, seconds: seconds)
        noticeProgress(step: .max)
        if isUndisturbed { watchPace(seconds, steps: spec.steps) }
        admitNewcomers()
        beginRound()
        beginCheckpoint()
    }

    private mutating func tell(_ seal: Seal, _ spec: RoundSpec, _ plan: PlacedPlan, pipelines: Int, seconds: Double) {
        // Another plan may begin with the next round.
        let predicted = desk.prediction(ofPlan: plan.epoch)
        event(
            .roundSealed(
                round: seal.round, steps: seal.firstStep + seal.steps, tokens: seal.tokens, trainLoss: seal.trainLoss,
                validationLoss: seal.validationLoss, pipelines: pipelines, seconds: seconds,
                criticalBatch: books.noise.criticalBatch?.tokens,
                predictedSeconds: predicted.map { $0.prediction.seconds(ofSteps: spec.steps, of: $0.innerSteps) }))
    }

    // MARK: agreement

    mutating func heedAgreement() -> Bool {
        let (roster, state) = (roster, state)
        let findings = agreement.findings(state) { peer, round in
            // Whoever has come, or come back, since knows nothing of that round.
            guard state.isPresent(peer), let known = roster[peer], known.joinedIn <= round else { return false }
            if case .fetchingState = known.readiness { return false }
            return true
        }
        for finding in findings {
            switch finding {
            case .agreed(let states):
                guard propose(.states(states)) else { continue }
                event(.statesAgreed(round: states.round))
                collection?.fetch.agreed(states.units, at: now)
            case .differs(let peer, let unit, let round):
                event(.weightsDiffer(unit: unit, round: round), peer: peer)
            case .disputed(let unit, let round, let peers):
                event(
                    .weightsDisputed(
                        unit: unit, round: round, peers: peers.map { roster.name(of: $0) }.joined(separator: ",")))
            }
        }
        return !findings.isEmpty
    }
}
