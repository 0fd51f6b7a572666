import Channels
import Coordination
import Daemon
import Digests
import Membership
import Messages
import Planning
import Primitives
import Record
import Telemetry
import Topologies
import Training
import VirtualNetworks
import Wire

/// One look at a whole world: what must be true of it at any moment.
struct StormChecks {
    private let world: World
    private let watch: StormWatch
    private let coordinator: Coordinator?

    init(_ world: World, _ watch: StormWatch) {
        self.world = world
        self.watch = watch
        if world.job.parameters.isCarriedByMany {
            coordinator = world.leader?.daemon?.coordinator
        } else {
            let host = world.hosts[world.coordinatorIndex]
            coordinator = world.network.isUp(host.index) ? host.daemon?.coordinator : nil
        }
    }

    func problems() -> [String] {
        var out: [String] = []
        func add(_ problem: String?) { if let problem { out.append(problem) } }
        add(watch.remember(world))
        add(watch.keep(world, coordinator))
        add(logsAgree())
        add(statesAgree())
        add(booksClose())
        add(roomIsBounded())
        add(world.flood(watch.bounds))
        add(lossesAreFew())
        add(absenceCostsNothing())
        add(deathsAreTheirOwn())
        add(everybodyIsBack())
        add(thingsMove())
        return out
    }

    private var members: [(host: SimulatedHost, job: MemberJob)] {
        world.hosts.compactMap { host in
            guard world.network.isUp(host.index), let job = host.daemon?.member?.job, job.id == coordinator?.job else {
                return nil
            }
            return (host, job)
        }
    }

    /// Every member's log is a beginning of the coordinator's committed one.
    private func logsAgree() -> String? {
        // A disk that lied has lost entries that others were shown. Where many carry the log, what is certified is looked at.
        guard !world.job.parameters.isCarriedByMany, let coordinator,
            world.hosts[world.coordinatorIndex].disk?.hasBrokenItsWord != true
        else { return nil }
        let record = coordinator.record
        for (host, job) in members {
            let length = job.record.length
            // An offer carries the genesis, which may still be on its way to the disk.
            guard length <= max(1, record.committed) else {
                return "\(host.name) has \(length) entries of the log, and \(record.committed) are committed"
            }
            if job.record.envelopes[length - 1] != record.envelopes[length - 1] {
                return "\(host.name)'s entry \(length - 1) of the log is another than the coordinator's"
            }
        }
        return nil
    }

    /// Whoever holds a unit as of the start of a round holds the same, and what the log says.
    private func statesAgree() -> String? {
        struct Place: Hashable {
            var round: Int
            var unit: Int
            var seal: JobState.SealedRound?
        }
        var seen: [Place: (roots: UnitRoots, host: String)] = [:]
        for (host, job) in members {
            for round in job.holding.roots.keys.sorted() {
                let seal = job.job.seals.last { $0.round == round - 1 }
                for unit in job.holding.roots[round]!.keys.sorted() {
                    let place = Place(round: round, unit: unit, seal: seal)
                    let roots = job.holding.roots[round]![unit]!
                    if let agreed = job.job.agreed[round]?[unit], agreed != roots {
                        return "\(host.name) holds unit \(unit) of round \(round) otherwise than agreed on"
                    }
                    if let other = seen[place], other.roots != roots {
                        return "\(host.name) and \(other.host) hold unit \(unit) of round \(round) differently"
                    }
                    seen[place] = (roots, host.name)
                }
            }
        }
        return nil
    }

    /// Every micro-batch that was granted is counted, late, lost, superseded or under way.
    private func booksClose() -> String? {
        guard let coordinator else { return nil }
        let ledger = coordinator.record.ledger
        guard ledger.isBalanced else {
            return "the ledger is not balanced: \(ledger.totals), \(ledger.underWay) under way"
        }
        let each = coordinator.parameters.microBatch * coordinator.parameters.model.context
        guard ledger.totals.counted * each == coordinator.state.sealedTokens else {
            return
                "\(ledger.totals.counted) micro-batches are counted, and \(coordinator.state.sealedTokens) tokens are sealed"
        }
        return nil
    }

    private func roomIsBounded() -> String? {
        let model = watch.script.job.model
        let bytes = model.allUnits.reduce(0) { $0 + 4 * model.parameters(unit: $1) }
        let room = 4 << 20 + 16 * bytes
        for host in world.hosts where world.network.isUp(host.index) {
            guard let daemon = host.daemon else { continue }
            let known = daemon.channels.knownPeers
            guard known.count <= world.hosts.count else { return "\(host.name) knows \(known.count) peers" }
            var queued = daemon.channels.partialBytes
            for peer in known {
                for channel in Channel.allCases { queued += daemon.channels.unsentBytes(to: peer, on: channel) }
            }
            if let early = daemon.member?.job?.holding.early { queued += early.bytes }
            guard queued <= room else { return "\(queued) bytes wait at \(host.name), for a model of \(bytes)" }
            let waiting = daemon.member?.job?.states.waitingPeers.count ?? 0
            guard waiting <= world.hosts.count else { return "\(waiting) requests for states wait at \(host.name)" }
        }
        return nil
    }

    private func lossesAreFew() -> String? {
        world.losses > watch.bounds.lossesMost ? "\(world.losses) members were given up" : nil
    }

    /// Whether a launch before the last came to a plan. Peers are waited for no longer than the launcher was told to.
    private var hadPlan: Bool {
        var isPlanned = false
        for (_, event) in world.events {
            if case .planned = event.what { isPlanned = true }
            if case .jobOpened = event.what, isPlanned { return true }
        }
        return false
    }

    /// Where nobody but the launcher was away, nobody else is blamed for it, and nothing that was done is done again.
    private func absenceCostsNothing() -> String? {
        guard watch.script.away == world.coordinatorIndex, !world.job.parameters.isCarriedByMany, let coordinator else {
            return nil
        }
        if world.losses > 0 { return "\(world.losses) members were given up, and only the launcher was away" }
        if watch.launches > 1, hadPlan { return "the launcher gave up, and only itself was away" }
        let totals = coordinator.record.ledger.totals
        let again = totals.superseded + totals.lost
        return again > 0 ? "\(again) micro-batches are done again, and only the launcher was away" : nil
    }

    /// Where nobody but one peer died, nobody else is blamed for it, and it no more often than it died; and the launcher goes on.
    private func deathsAreTheirOwn() -> String? {
        guard let host = watch.script.dies, host != world.coordinatorIndex, !world.job.parameters.isCarriedByMany else {
            return nil
        }
        let name = world.topology.hosts[host].name
        if let other = world.lost.keys.filter({ $0 != name }).min() {
            return "\(other) was given up, and only \(name) died"
        }
        let (lost, deaths) = (world.lost[name] ?? 0, watch.script.troubles.count)
        if lost > deaths { return "\(name) died \(deaths) times, and was given up \(lost) times" }
        return watch.abandoned > 0 ? "the launcher gave up, and only \(name) died" : nil
    }

    /// While the job trains, whoever is well and connected is a member.
    private func everybodyIsBack() -> String? {
        guard let coordinator, coordinator.stage.isRunning else { return nil }
        // Where anybody may lead, whoever is not well may be the leader.
        if world.job.parameters.isCarriedByMany {
            guard let calm = watch.calmSince(world), world.now - calm > watch.bounds.rejoining + .seconds(20) else {
                return nil
            }
        }
        for peer in world.topology.peers {
            guard let since = watch.wellSince(peer, world) else { continue }
            let host = world.hosts[peer]
            let standing = coordinator.roster[host.key.peerID]?.standing
            // Whoever was given up is taken in with the next round.
            let isBack = standing == .joined || standing == .accepted
            let bound = watch.script.away == peer && !isBack ? watch.bounds.comingBack : watch.bounds.rejoining
            guard world.now - since > bound, standing != .joined else { continue }
            let words = standing.map { "\($0)" } ?? "unknown"
            return
                "\(host.name) has been well for \(fixed((world.now - since).inSeconds, 0)) s, and is no member: \(words)"
        }
        return nil
    }

    /// When all is well, rounds are sealed.
    private func thingsMove() -> String? {
        let leaderless = watch.lookForLeader(isThere: coordinator != nil, at: world.now)
        guard let calm = watch.calmSince(world) else { return nil }
        guard let coordinator else {
            let since = max(calm, leaderless ?? calm)
            guard world.job.parameters.isCarriedByMany, world.now - since > watch.bounds.electing else { return nil }
            return "nobody has led for \(fixed((world.now - since).inSeconds, 0)) s, and all is well"
        }
        let since = max(calm, world.lastSeal ?? .zero)
        if coordinator.stage.isRunning, world.now - since > watch.bounds.progress {
            return "no round was sealed for \(fixed((world.now - since).inSeconds, 0)) s, and all is well: round "
                + "\(coordinator.state.round) in \(coordinator.stage.word)"
        }
        if world.now - calm > watch.bounds.ending {
            return "all has been well for \(fixed((world.now - calm).inSeconds, 0)) s, and the job is at "
                + "\(coordinator.stage.word), round \(coordinator.state.round)"
        }
        return nil
    }
}

extension StormChecks {
    /// What must be true when the job is done.
    static func end(_ world: World, _ end: JobEnd, _ watch: StormWatch) -> String? {
        guard world.hasLed else { return "nobody has ever led" }
        let coordinator = world.coordinator
        guard case .finished(let states) = end else {
            guard case .failed(let why) = end else { return nil }
            if watch.script.diverges, coordinator.state.finished?.reason.contains("diverged") == true { return nil }
            return "the job did not end: \(why)"
        }
        let state = coordinator.state
        guard state.finished?.reason == Finish.done else { return "finished, and the log does not say so" }
        guard let parameters = ModelParameters(shape: state.parameters.model, states: states) else {
            return "the final weights are not whole"
        }
        guard state.finished?.weights == parameters.weightsDigest || state.sealedTokens < state.tokens else {
            return "the final weights are others than the log's"
        }
        if world.job.parameters.isCarriedByMany, let problem = watch.electors.check(final: coordinator.record) {
            return problem
        }
        let ledger = coordinator.record.ledger
        guard ledger.totals.isBalanced else { return "the ledger does not close: \(ledger.totals)" }
        guard world.hosts[world.coordinatorIndex].disk?.hasBrokenItsWord != true else { return nil }
        guard state.sealedTokens >= state.tokens else {
            return "finished with \(state.sealedTokens) of \(state.tokens) tokens"
        }
        do throws(MalformedBytes) {
            let audit = try auditMicroBatches(
                log: coordinator.record.envelopes, receipts: coordinator.books.receiptEnvelopes,
                parameters: state.parameters)
            guard audit == ledger.totals else { return "log and receipts say \(audit), the ledger \(ledger.totals)" }
        } catch {
            return "the books cannot be audited: \(error)"
        }
        return nil
    }
}
