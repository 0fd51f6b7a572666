import Messages
import Primitives
import Record
import Telemetry
import Training

/// Round starts of this member's own: written when a round's work begins, read when units are to come from there.
extension Holding {
    /// Before the first step of a round whose start is kept: the engine gives it as it is now.
    package mutating func keepStart(_ plan: PlacedPlan, rank: Int) {
        guard let held = glance, context.parameters.keepsStart(of: held.round) else { return }
        let pipeline = plan.pipelines[rank]
        let work = WorkKey(round: held.round, rank: rank, attempt: pipeline.attempt)
        guard kept != work else { return }
        kept = work
        // Where it came from it still is.
        if starts.stage(of: held.round) == restored, restored != nil { return }
        effects.push(
            .compute(
                .exportState(units: held.units, includeMoments: true, includeResidue: true),
                .keep(round: held.round, epoch: plan.epoch, rank: rank, share: pipeline.virtualPipelines)))
    }
    package mutating func keep(_ result: ComputeResult, round: Int, epoch: Int, rank: Int, share: [Int]) {
        switch result {
        case .state(let states):
            starts.keep(
                RoundStart(job: starts.job, round: round, epoch: epoch, rank: rank, share: share, states: states))
        case .refused(let why): effects.push(.event(.workRefused(why: why, round: round), nil))
        default: break
        }
        drainStarts()
    }

    /// Units that are on this member's disk as of the start of a round: they are read. Copies of others' only where the plan names this
    /// member as one that they are to be had of: else somebody has them with moments.
    /// - Parameter held: what the engine holds of them needs no disk.
    package mutating func readFromDisk(
        _ units: Range<Int>, beside held: Set<Int> = [], _ plan: PlacedPlan, round: Int
    ) -> Set<Int> {
        guard round > 0 else { return held }
        var out = held
        if let stage = starts.stage(of: round),
            stage.units.contains(where: { units.contains($0) && !held.contains($0) })
        {
            starts.read(stage.name)
            out.formUnion(stage.units.clamped(to: units))
        }
        for copy in starts.copies(of: round) where plan.round == round {
            let wanted = copy.units.filter {
                units.contains($0) && !out.contains($0) && plan.sources[$0]?.contains(context.me) == true
            }
            guard !wanted.isEmpty else { continue }
            starts.read(copy.name)
            out.formUnion(wanted)
        }
        drainStarts()
        return out
    }

    /// Somebody else asks for units that are only on the disk.
    package mutating func read(_ name: StartName) {
        starts.read(name)
        drainStarts()
    }

    /// What became of a write, or of a reading.
    /// - Returns: what was read, for others who ask for it.
    package mutating func answered(
        _ ticket: StorageTicket, _ outcome: StorageOutcome, _ job: JobState
    ) -> RoundStarts.Reading? {
        var reading: RoundStarts.Reading?
        switch ticket {
        case .roundStart(_, let name): starts.stored(name, outcome)
        case .readRoundStart(_, let name):
            reading = starts.read(name, outcome, roots: job.roots(name.round))
            use(reading!, job)
        default: break
        }
        drainStarts()
        return reading
    }
    private mutating func use(_ reading: RoundStarts.Reading, _ job: JobState) {
        guard case .fetching(let move) = state, move.waitsForEngine else { return }
        switch reading {
        case .refused(let name):
            // What was to come from the disk has to come from others.
            if move.round == name.round { state = .empty(nil) }
        case .read(let start):
            guard move.round == start.round, let plan = job.plan, let place = plan.placement(of: context.me) else {
                return
            }
            let pipeline = plan.pipelines[place.rank]
            // What a pipeline has not sent yet is of use to the same stage of the same pipeline only.
            let isSame =
                start.rank == place.rank && start.units == move.units && start.share == pipeline.virtualPipelines
            var states = start.states
            if !isSame { for index in states.indices { states[index].residue = UnitResidue() } }
            if !start.isCopy { restored = isSame ? KeptStage(start) : nil }
            effects.push(
                .event(
                    .roundStartRead(round: start.round, units: RoundStarts.text(start.units), exact: isSame), nil))
            withMove { $0.exported(states) }
        }
    }

    package mutating func drainStarts() {
        while let effect = starts.poll() {
            switch effect {
            case .store(let request): effects.push(.store(request))
            case .event(let what): effects.push(.event(what, nil))
            }
        }
    }
}
