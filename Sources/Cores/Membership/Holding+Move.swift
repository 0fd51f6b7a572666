import Content
import Messages
import Primitives
import Record
import Telemetry
import Training

/// Other units than those held: they come from their holders, or out of this engine.
extension Holding {
    package mutating func beginMove(
        to stage: PlacedPlan.Stage, _ plan: PlacedPlan, _ job: JobState, leader: PeerID, at now: Instant
    ) {
        let before = exchange(&state, with: .empty(nil))
        effects.push(.void)
        roots = [:]
        restored = nil
        let needed = memory(stage, plan)
        guard needed <= context.memory else {
            let units = "units \(stage.units.lowerBound)..<\(stage.units.upperBound)"
            return refusePlacement("\(units) need \(needed); I offer \(context.memory)", plan.epoch)
        }
        // Round 0 is drawn from the seed, everywhere alike, unless the job goes on from given weights.
        let isGiven = job.round > 0 || context.parameters.initialRoots != nil
        var own: Set<Int> = []
        if isGiven, case .atRound(let held) = before, held.round == job.round {
            own = Set(held.units)
            // Others may still fetch it when the engine has moved on.
            effects.push(
                .compute(
                    .exportState(units: held.units, includeMoments: true),
                    .export(units: held.units, round: held.round)))
        }
        if isGiven { own = readFromDisk(stage.units, beside: own, plan, round: job.round) }
        var sources: [Int: [PeerID]] = [:]
        if isGiven {
            for unit in stage.units where !own.contains(unit) {
                sources[unit] = self.sources(of: unit, plan, job, leader: leader)
            }
        }
        let fetch =
            sources.isEmpty
            ? nil
            : StateFetch(
                round: job.round, sources: sources, roots: job.roots(job.round), moments: job.round > 0,
                needsMoments: plan.mode == .everyStep, model: job.parameters.model, offset: Int(context.me.bytes[1]),
                room: context.room, at: now)
        var move = StateMove(stage.units, round: job.round, epoch: plan.epoch, fetch: fetch, own: own)
        drain(&move)
        state = .fetching(move)
        loadIfReady(job)
    }

    /// Whom to ask for a unit, the likeliest first.
    private func sources(of unit: Int, _ plan: PlacedPlan, _ job: JobState, leader: PeerID) -> [PeerID] {
        let named = plan.round == job.round ? plan.sources[unit] ?? [] : plan.holders(of: unit)
        var sources = named.filter { $0 == leader || ($0 != context.me && job.isPresent($0)) }
        if !sources.contains(leader), plan.round != job.round || sources.isEmpty { sources.append(leader) }
        return sources
    }

    /// Bytes that the stage needs. One that ends with the loss goes backward at once and keeps one micro-batch; the others as many as are in flight.
    package func memory(_ stage: PlacedPlan.Stage, _ plan: PlacedPlan) -> ByteCount {
        let model = context.parameters.model
        let inFlight = plan.placement(of: context.me).map { plan.pipelines[$0.rank].inFlight } ?? 1
        return model.memory(
            units: stage.units, rounds: plan.mode == .rounds, sequences: context.parameters.microBatch,
            inFlight: model.endsWithLoss(stage.units) ? 1 : inFlight, recompute: stage.recompute,
            kept: context.parameters.optimizer.kept)
    }

    /// What the plan wants cannot be done here: the leader is told, and this plan is not tried again.
    private mutating func refusePlacement(_ why: String, _ epoch: Int) {
        effects.push(.void)
        state = .empty(.underPlan(epoch))
        effects.push(.event(.placementRefused(why: why), nil))
        effects.push(.report(.farewell(reason: cleaned(why, bytes: Bounds.reasonBytes))))
    }

    /// Another plan wants the same units as of the same round: others may hold them now, or this member's own copies may be what it is to begin with.
    package mutating func followMove(_ plan: PlacedPlan, _ job: JobState, leader: PeerID, at now: Instant) {
        guard case .fetching(let move) = state else { return }
        let missing = Set(move.missing)
        if !missing.isEmpty {
            let others = Set(move.units).subtracting(missing)
            let found = readFromDisk(move.units, beside: others, plan, round: move.round).intersection(missing)
            withMove { $0.finds(found, at: now) }
        }
        var sources: [Int: [PeerID]] = [:]
        for unit in move.units { sources[unit] = self.sources(of: unit, plan, job, leader: leader) }
        withMove {
            $0.epoch = plan.epoch
            $0.add(sources: sources, at: now)
        }
    }

    /// A peer is connected, perhaps once more: it may be asked again.
    package mutating func established(_ peer: PeerID, _ job: JobState, leader: PeerID, at now: Instant) {
        _ = withWork { $0.resend(to: peer) }
        guard case .fetching(let move) = state, let plan = job.plan else { return }
        var sources: [Int: [PeerID]] = [:]
        for unit in move.units where self.sources(of: unit, plan, job, leader: leader).contains(peer) {
            sources[unit] = [peer]
        }
        if !sources.isEmpty { withMove { $0.add(sources: sources, at: now) } }
    }
    package mutating func lost(_ peer: PeerID, at now: Instant) {
        withMove { $0.lost(peer, at: now) }
        withCopies { $0.lost(peer, at: now) }
        _ = withWork { $0.lost(peer) }
    }

    package mutating func wake(at now: Instant, _ job: JobState) {
        withMove { $0.wake(at: now) }
        withCopies { $0.wake(at: now) }
        loadIfReady(job)
    }

    /// Offers of states, their lists and chunks.
    /// - Returns: whether the message was about what is on its way here.
    package mutating func receive(content message: Message, from peer: PeerID, _ job: JobState, at now: Instant) -> Bool
    {
        var isTaken = false
        withMove { isTaken = $0.receive(message, from: peer, at: now) }
        if isTaken { loadIfReady(job) } else { withCopies { isTaken = $0.receive(message, from: peer, at: now) } }
        return isTaken
    }

    // MARK: loading

    /// Configures the engine, when all is here; the units follow once it agrees.
    package mutating func loadIfReady(_ job: JobState) {
        guard case .fetching(var move) = state, move.isReady, let plan = job.plan,
            let stage = plan.stage(of: context.me),
            stage.units == move.units
        else { return }
        move.beginLoading()
        state = .fetching(move)
        let configuration = context.parameters.configuration(units: move.units, plan: plan, recompute: stage.recompute)
        effects.push(.compute(.configure(configuration), .configured(recomputes: stage.recompute)))
    }

    /// An engine that refuses a configuration is not given units: it may still have another one.
    package mutating func configured(_ result: ComputeResult, recomputes: Bool) {
        guard case .fetching(var move) = state, move.isLoading else { return }
        if case .refused(let why) = result { return refusePlacement(why, move.epoch) }
        let first = move.loadNext()
        state = .fetching(move)
        effects.push(.compute(.importState(first.map { [$0] } ?? []), .imported(recomputes: recomputes)))
    }
    package mutating func imported(_ result: ComputeResult, recomputes: Bool, at now: Instant) {
        guard case .fetching(let move) = state, move.isLoading else { return }
        if case .refused(let why) = result {
            effects.push(.event(.workRefused(why: why, round: move.round), nil))
            state = .empty(.until(now + Self.pause))
            return
        }
        // One unit after the other, so that none is here and in the engine for longer than it takes.
        var next: UnitState?
        withMove { next = $0.loadNext() }
        if let next { return effects.push(.compute(.importState([next]), .imported(recomputes: recomputes))) }
        if !move.inexact.isEmpty {
            effects.push(.event(.momentsInexact(units: "\(move.inexact)", round: move.round), nil))
        }
        state = .atRound(Held(units: move.units, round: move.round, recomputes: recomputes))
        effects.push(
            .event(
                .stateReady(round: move.round, units: "\(move.units.lowerBound)..<\(move.units.upperBound)"), nil))
    }

    package mutating func drain(_ move: inout StateMove) {
        while let effect = move.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .event(let what, let peer): effects.push(.event(what, peer))
            }
        }
    }
}
