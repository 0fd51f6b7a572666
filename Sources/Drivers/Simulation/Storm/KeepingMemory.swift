import Coordination
import Daemon
import Digests
import Membership
import Messages
import Primitives
public import Record
import Telemetry
public import Training
import VirtualNetworks

/// What a world keeps for going on, and what becomes of it: of its own round starts a host has the last two of which it said that they are
/// stored, and not many files besides; whoever is well works for something; a job goes back no further than it has to; a launcher goes on with the job that there is; and a
/// checkpoint that is due comes.
package struct KeepingMemory {
    private struct Look {
        var state: JobState
        var host: Int
        var life: Int
        /// Times in a row that nobody finished a round: then a job may go back further.
        var stuck: Int
    }
    private struct Said {
        var job: Digest256
        var life: Int
        var rounds: Set<Int> = []
    }
    /// As of the last look, of whoever leads.
    private var before: Look?
    /// Own starts of which a host said that they are stored.
    private var said: [Int: Said] = [:]
    /// The job in progress, once it has a plan, until it is over.
    private var open: Digest256?
    /// Since when a checkpoint is due of which nothing was said.
    private var checkpointDue: Instant?
    /// Pipelines of a plan that were left out of the last rounds, all of them well: how often in a row. And the round whose seal is next.
    private var leftOut: [Pipeline: Int] = [:]
    private var nextSeal = 0
    private struct Pipeline: Hashable {
        var epoch: Int
        var rank: Int
    }
    /// So often in a row is no chance.
    private static let leftOutMost = 5
    private static let generations = 2
    /// Two generations of the member's own, and two that fit to copies; the copies of two rounds, with its own of the same.
    private static let mostFiles = 14

    // MARK: what hosts say

    /// - Returns: what is wrong.
    mutating func heard(_ event: Event, _ host: SimulatedHost, _ world: World, _ watch: StormWatch) -> String? {
        switch event.what {
        case .roundStartStored(let round, _): return stored(round, host)
        case .copyStored: return files(host)
        case .roundStartFailed(let round, _): said[host.index]?.rounds.remove(round)
        case .roundStartRefused, .jobReleased: said[host.index] = nil
        case .roundSealed(let round, _, _, _, _, _, _, _, _):
            let every = world.job.parameters.checkpointRounds
            guard every > 0, (round + 1) % every == 0, watch.calmSince(world) != nil else { return nil }
            checkpointDue = checkpointDue ?? world.now
        case .checkpointSaved, .checkpointFailed, .jobResumed, .collectingWeights: checkpointDue = nil
        case .rolledBack(let round, let from?, _):
            checkpointDue = nil
            return wentBack(to: round, from: from, host, world, watch)
        default: break
        }
        return nil
    }
    /// A host lets go of starts of rounds that are void.
    mutating func wrote(_ request: StorageRequest, _ host: SimulatedHost) {
        guard case .eraseRoundStarts(let job, let after) = request, said[host.index]?.job == job else { return }
        said[host.index]!.rounds = said[host.index]!.rounds.filter { $0 <= after }
    }

    private mutating func stored(_ round: Int, _ host: SimulatedHost) -> String? {
        guard let job = host.daemon?.member?.job?.id, let disk = host.disk else { return nil }
        if said[host.index]?.job != job || said[host.index]?.life != host.lives {
            said[host.index] = Said(job: job, life: host.lives)
        }
        // Where a job goes back, those before the last two are gone already.
        said[host.index]!.rounds = Set((said[host.index]!.rounds.union([round])).sorted().suffix(Self.generations))
        guard !disk.hasBrokenItsWord else { return nil }
        if let round = Self.missing(of: said[host.index]!.rounds, on: disk.starts(of: job)) {
            return "\(host.name) has its start of round \(round) no more, which is one of its last two"
        }
        return files(host)
    }
    /// Which of the own starts that are said to be there is not.
    package static func missing(of said: Set<Int>, on disk: [StartName]) -> Int? {
        said.sorted().last { !disk.contains(StartName(round: $0)) }
    }
    private func files(_ host: SimulatedHost) -> String? {
        guard let job = host.daemon?.member?.job?.id, let names = host.disk?.starts(of: job) else { return nil }
        return names.count > Self.mostFiles ? "\(host.name) keeps \(names.count) round starts" : nil
    }

    // MARK: looking

    mutating func look(_ world: World, _ coordinator: Coordinator?, _ watch: StormWatch) -> String? {
        guard let coordinator, !world.job.parameters.isCarriedByMany else {
            before = nil
            return nil
        }
        let host = world.hosts[world.coordinatorIndex]
        before = Look(
            state: coordinator.state, host: host.index, life: host.lives, stuck: coordinator.round.stuck)
        if let problem = beganAnew(coordinator, host) ?? counts(coordinator, world, watch) { return problem }
        guard let due = checkpointDue, coordinator.stage.isRunning, watch.calmSince(world) != nil,
            world.now - due > watch.bounds.checkpoint
        else { return nil }
        return "a checkpoint has been due for \(fixed((world.now - due).inSeconds, 0)) s, and all is well"
    }

    /// A launcher that begins again goes on with what is there.
    private mutating func beganAnew(_ coordinator: Coordinator, _ host: SimulatedHost) -> String? {
        let job = coordinator.job
        if let open, open != job, host.disk?.hasBrokenItsWord != true {
            return "the launcher has begun job \(job.short), and job \(open.short) has a plan and is not over"
        }
        let record = coordinator.record
        // One that is stopped in good order before its first seal is over.
        let isOpen = coordinator.isResumable && record.committed == record.length && !coordinator.stage.isDecided
        open = isOpen ? job : nil
        return nil
    }

    /// Whoever is well, and has a place in the plan, works for something.
    private mutating func counts(_ coordinator: Coordinator, _ world: World, _ watch: StormWatch) -> String? {
        let state = coordinator.state
        nextSeal = min(nextSeal, state.round)
        for seal in state.seals where seal.round >= nextSeal && state.plans.indices.contains(seal.planEpoch - 1) {
            nextSeal = seal.round + 1
            for (rank, pipeline) in state.plans[seal.planEpoch - 1].pipelines.enumerated() {
                let place = Pipeline(epoch: seal.planEpoch, rank: rank)
                let isIn = seal.contributions.contains { $0.rank == rank }
                let areWell = pipeline.stages.allSatisfy { stage in
                    world.hosts.first { $0.key.peerID == stage.peer }
                        .flatMap { watch.wellSince($0.index, world) }.map { world.now - $0 > .seconds(20) } ?? false
                }
                leftOut[place] = isIn || !areWell ? nil : leftOut[place, default: 0] + 1
                guard leftOut[place] == Self.leftOutMost else { continue }
                let names = pipeline.stages.map { coordinator.roster.name(of: $0.peer) }.joined(separator: ", ")
                return "\(names): left out of \(Self.leftOutMost) rounds in a row, and all of them are well"
            }
        }
        return nil
    }

    // MARK: going back

    /// Nothing is done again that nobody has lost: where all of a round's stages have their own of its start, the job goes on from there.
    private func wentBack(
        to target: Int, from: Int, _ host: SimulatedHost, _ world: World, _ watch: StormWatch
    ) -> String? {
        guard let before, before.host == host.index, before.life == host.lives, before.stuck == 0,
            !watch.script.diverges,
            let coordinator = host.daemon?.coordinator, target < min(from, before.state.round)
        else { return nil }
        let state = before.state
        let newest = Self.newestWhole(state, in: target + 1...min(from, state.round)) { stage, rank, round in
            guard let holder = world.hosts.first(where: { $0.key.peerID == stage.peer }),
                coordinator.roster.isJoined(stage.peer), let since = watch.wellSince(holder.index, world),
                world.now - since > .seconds(2)
            else { return false }
            return Self.has(stage.units, rank: rank, round, of: state, job: coordinator.job, holder)
        }
        return newest.map {
            "the job went back to round \(target) from \(from), and everybody has its own of round \($0)"
        }
    }
    /// The newest of some rounds of whose start all stages have their own.
    package static func newestWhole(
        _ state: JobState, in rounds: ClosedRange<Int>,
        _ has: (_ stage: PlacedPlan.Stage, _ rank: Int, _ round: Int) -> Bool
    ) -> Int? {
        rounds.reversed().first { round in
            guard round > 0, state.isAgreed(round), let plan = plan(of: round, state) else { return false }
            return plan.pipelines.enumerated().allSatisfy { rank, pipeline in
                pipeline.stages.allSatisfy { has($0, rank, round) }
            }
        }
    }
    private static func plan(of round: Int, _ state: JobState) -> PlacedPlan? {
        if round == state.round { return state.plan }
        guard let seal = state.seals.last(where: { $0.round == round }),
            state.plans.indices.contains(seal.planEpoch - 1)
        else { return nil }
        return state.plans[seal.planEpoch - 1]
    }
    /// Whether a host's disk has a stage as of the start of a round, as the log says.
    private static func has(
        _ units: Range<Int>, rank: Int, _ round: Int, of state: JobState, job: Digest256, _ host: SimulatedHost
    ) -> Bool {
        guard host.daemon?.member?.job?.id == job,
            let found = host.disk?.start(StartName(round: round, copyFrom: nil), of: job),
            found.start.rank == rank, found.start.units == units
        else { return false }
        return units.allSatisfy { unit in
            guard let roots = state.agreed[round]?[unit], let digests = found.digests[unit] else { return false }
            return roots.parameters == digests.parameters && roots.outerMomentum == digests.outerMomentum
        }
    }
}
