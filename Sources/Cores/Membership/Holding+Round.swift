import Exchange
import Messages
import Primitives
import Record
import Telemetry
import Training

/// The round in progress, and seals.
extension Holding {
    /// What a round has come to: the engine holds the start of the next.
    package struct Outcome: Sendable {
        package var round: Int
        /// Nil: to be asked for.
        package var digests: [Int: UnitDigests]?
        package var squares: GradientSquares?
    }

    // MARK: the round in progress

    package mutating func run(_ plan: PlacedPlan, _ place: (rank: Int, stage: Int), _ job: JobState, at now: Instant) {
        guard let held = glance else { return }
        // Nothing has changed since it was begun.
        if held.hasBegun, held.stamp == stamp(held.round, plan) { return }
        guard let spec = job.spec, spec.round == held.round else { return }
        var isNew = ensureWork(plan, steps: spec.steps)
        // A pipeline that has lost a stage waits for the log to say what becomes of it.
        if glance?.hasBegun == false, !job.isBroken(rank: place.rank), !job.awaitsPlan(rank: place.rank) {
            recompute(plan.pipelines[place.rank].stages[place.stage].recompute)
            keepStart(plan, rank: place.rank)
            _ = withWork { $0.begin(spec, stage: place.stage) }
            isNew = true
        }
        if isNew { readEarlyMail(job, at: now) }
    }

    /// A plan may change that alone: what the engine holds stays.
    private mutating func recompute(_ recomputes: Bool) {
        guard case (var held, let isApplying)? = takeHeld() else { return }
        if held.recomputes != recomputes {
            held.recomputes = recomputes
            effects.push(.compute(.recompute(recomputes), .housekeeping))
        }
        putBack(held, isApplying: isApplying)
    }

    /// Of what is in force for a round under a plan.
    private func stamp(_ round: Int, _ plan: PlacedPlan) -> GroupStamp {
        let order = terms[round].flatMap { $0.fits(plan) ? $0 : nil }
        return GroupStamp(round: round, epoch: plan.epoch, version: order?.version ?? 0)
    }

    /// The work on the held round under a plan: made, or brought up to date.
    /// - Returns: whether it has changed.
    private mutating func ensureWork(_ plan: PlacedPlan, steps: Int) -> Bool {
        guard let before = glance, before.stamp != stamp(before.round, plan),
            let place = plan.placement(of: context.me),
            plan.pipelines[place.rank].stages[place.stage].units == before.units,
            case (var held, let isApplying)? = takeHeld()
        else { return false }
        let order = terms[held.round].flatMap { $0.fits(plan) ? $0 : nil }
        let terms = order ?? GroupTerms(round: held.round, plan: plan)
        if held.work?.exchange.goesOn(plan, rank: place.rank, units: held.units, round: held.round) == true {
            held.work!.follow(terms, plan)
            _ = drain(&held.work!)
        } else {
            if held.work != nil {
                held.work!.rewind()
                _ = drain(&held.work!)
            }
            let exchange = RoundExchange(
                terms, plan: plan, rank: place.rank, units: held.units, steps: steps, parameters: context.parameters)
            held.work = exchange.map { RoundWork($0, context: context) }
        }
        putBack(held, isApplying: isApplying)
        return true
    }

    /// The plan does not name this member: what it holds stays as of the round's start, for whoever may fetch it.
    package mutating func rest() {
        guard glance?.stamp != nil else { return }
        _ = withWork { $0.rewind() }
        guard case (var held, let isApplying)? = takeHeld() else { return }
        held.work = nil
        putBack(held, isApplying: isApplying)
    }

    /// The leader has left somebody out, or changed the way. It says so more than once.
    package mutating func receive(_ order: GroupTerms, _ job: JobState) {
        guard order.round >= heldRound(job), order.round <= job.round + 1, order.isNewer(than: terms[order.round])
        else {
            return
        }
        terms = terms.filter { $0.key >= heldRound(job) }
        terms[order.round] = order
    }
    package mutating func receive(_ order: AuditOrder) { _ = withWork { $0.receive(order) } }

    // MARK: seals

    /// Applies the seal of the held round to the engine's units, or has the result fetched where that cannot be done here.
    /// - Returns: whether there may be more to do.
    package mutating func applySeal(_ job: JobState, at now: Instant) -> Bool {
        guard let held = glance, let seal = job.seals.last(where: { $0.round == held.round }),
            job.plans.indices.contains(seal.planEpoch - 1)
        else { return fetchInstead() }
        let plan = job.plans[seal.planEpoch - 1]
        if ensureWork(plan, steps: seal.steps) { readEarlyMail(job, at: now) }
        guard let parts = work?.exchange, parts.plan.epoch == plan.epoch, parts.round == seal.round else {
            return fetchInstead()
        }
        let contributions = seal.aggregates.isEmpty ? parts.contributions(of: seal) : nil
        let aggregates = seal.aggregates.isEmpty ? nil : parts.aggregates(of: seal)
        guard contributions != nil || aggregates != nil else {
            // The others have gone on without it: they send it nothing of that round. Nor does anybody once more to who has read the round's start
            // from its disk: an earlier process was sent it.
            let isLeftBehind = job.round > held.round + 1 || restored != nil
            if isLeftBehind, work?.isIn(seal) != true { return fetchInstead() }
            return waitForParts(since: held.missingSince ?? now, at: now)
        }
        let codec = parts.terms.way.aggregateCodec
        let isApplied =
            withWork { work in
                guard work.isIn(seal) else { return false }
                return aggregates.map { work.apply($0, codec: codec) } ?? work.apply(contributions!)
            } ?? false
        if !isApplied {
            // Clipping needs the norms of all stages, which an excluded pipeline does not get: the result is fetched.
            guard plan.mode == .rounds else { return fetchInstead() }
            let step = aggregates.map { ComputeJob.applyAggregates($0, codec: codec) } ?? .outerStep(contributions!)
            _ = withWork { $0.catchUp(step) }
        }
        if case (var held, _)? = takeHeld() {
            held.missingSince = nil
            putBack(held, isApplying: true)
        }
        return false
    }

    private mutating func waitForParts(since: Instant, at now: Instant) -> Bool {
        guard now - since < Self.patience, case (var held, let isApplying)? = takeHeld() else {
            effects.push(.event(.sealIncompleteHere(round: glance?.round ?? 0), nil))
            return fetchInstead()
        }
        held.missingSince = since
        putBack(held, isApplying: isApplying)
        return false
    }
    private mutating func fetchInstead() -> Bool {
        drop()
        return true
    }

    /// The norms of a stage that left never come, and an outer step that the engine refused is not taken.
    package mutating func lookAfter(_ job: JobState) -> Bool {
        guard let work else { return false }
        switch work.phase {
        case .norms where work.pipeline.contains(where: { !job.isPresent($0) }), .refused: return fetchInstead()
        default: return false
        }
    }

    /// The engine now holds the start of the next round.
    package mutating func applied(_ outcome: Outcome) {
        guard case .applying(var held) = state, held.round == outcome.round else { return }
        guard let digests = outcome.digests else {
            return effects.push(.compute(.digests, .digests(round: outcome.round)))
        }
        let compute = held.work?.engineTime ?? .zero
        held.round += 1
        held.work = nil
        restored = nil
        state = .atRound(held)
        terms = terms.filter { $0.key > outcome.round }
        let units = digests.keys.sorted().map { unit in
            UnitRoots(
                unit: unit, parameters: digests[unit]!.parameters, outerMomentum: digests[unit]!.outerMomentum)
        }
        roots = roots.filter { $0.key > held.round - 4 }
        roots[held.round] = Dictionary(uniqueKeysWithValues: units.map { ($0.unit, $0) })
        effects.push(
            .report(.applied(Applied(round: outcome.round, units: units, compute: compute, squares: outcome.squares))))
    }

    // MARK: answers of the engine

    package mutating func computed(_ answer: EngineDesk.Answer, at now: Instant) {
        switch answer.purpose {
        case .runner: _ = withWork { $0.stepped(answer.result, took: answer.took) }
        case .exchange(let purpose): _ = withWork { $0.exchanged(answer.result, purpose) }
        case .configured(let recomputes): configured(answer.result, recomputes: recomputes)
        case .imported(let recomputes): imported(answer.result, recomputes: recomputes, at: now)
        case .catchUp(let round), .digests(let round): digested(answer.result, round)
        case .export(_, let round): exported(answer.result, round)
        case .keep(let round, let epoch, let rank, let share):
            keep(answer.result, round: round, epoch: epoch, rank: rank, share: share)
        case .benchmark, .rehearsal, .housekeeping: break
        }
    }
    private mutating func exported(_ result: ComputeResult, _ round: Int) {
        if case .state(let states) = result { return withMove { $0.exported(states) } }
        // What was to come out of the engine has to come from others, too.
        if case .fetching(let move) = state, move.round == round, move.waitsForEngine { state = .empty(nil) }
    }
    private mutating func digested(_ result: ComputeResult, _ round: Int) {
        switch result {
        case .digests(let digests, let squares):
            applied(Outcome(round: round, digests: digests, squares: squares))
        case .refused(let why):
            effects.push(.event(.workRefused(why: why, round: round), nil))
            drop()
        default: break
        }
    }

    /// Passes on what the round's work wants.
    /// - Returns: what it has come to.
    package mutating func drain(_ work: inout RoundWork) -> Outcome? {
        var outcome: Outcome?
        while let effect = work.poll() {
            switch effect {
            case .compute(let job, let purpose): effects.push(.compute(job, purpose))
            case .void: effects.push(.void)
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .report(let message): effects.push(.report(message))
            case .receipt(let receipt): effects.push(.receipt(receipt))
            case .event(let what): effects.push(.event(what, nil))
            case .applied(let digests, let squares):
                outcome = Outcome(round: work.round, digests: digests, squares: squares)
            }
        }
        return outcome
    }
}
