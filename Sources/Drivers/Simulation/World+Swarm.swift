import Channels
internal import Consensus
public import Coordination
import Daemon
import Digests
import Kademlia
import Membership
import Messages
import Paths
import Planning
import Primitives
import Record
import Telemetry
import Topologies
import Training
import VirtualNetworks
import Wire

/// The job that a world is made for.
struct JobOfWorld {
    /// Canonical text.
    let manifest: String
    let parameters: JobParameters
    let corpus: [UInt8]
    let initial: [UnitState]
    let expectedPeers: Int
}

/// The one place that knows what a daemon of the swarm is made of and what it asks for.
extension World {
    /// The leader's; where none leads, the last one's.
    public var coordinator: Coordinator {
        guard job.parameters.isCarriedByMany else { return hosts[coordinatorIndex].daemon!.coordinator! }
        let all = hosts.compactMap { $0.daemon?.coordinator }
        guard let newest = leader?.daemon?.coordinator ?? all.max(by: { $0.term < $1.term }) else {
            preconditionFailure("nobody has led the job yet")
        }
        return newest
    }
    /// Whether ``coordinator`` is there.
    public var hasLed: Bool {
        !job.parameters.isCarriedByMany || hosts.contains { $0.daemon?.coordinator != nil }
    }
    /// Whose process leads the job.
    var leader: SimulatedHost? {
        let leaders = hosts.filter { network.isUp($0.index) && $0.daemon?.coordinator != nil }
        return leaders.max { $0.daemon!.coordinator!.term < $1.daemon!.coordinator!.term }
    }
    /// Entries of the newest job's log that could be read back from a host's disk now.
    package func logOnDisk(of name: String) -> Int? {
        hosts.first { $0.name == name }?.disk?.remains?.remains.log.count
    }

    /// Who carries the record, as whoever leads says: by name, and how much of it is certified there.
    public var electors: [(name: String, entries: Int, certified: Int)] {
        hosts.compactMap { host in
            host.daemon?.elector.map { (host.name, $0.record.committed, $0.certified) }
        }
    }

    /// A host's daemon and engine, as its role in the topology has them, on what is left of those before.
    func install(on simulated: SimulatedHost) {
        let host = topology.hosts[simulated.index]
        let index = UInt64(simulated.index)
        // Each life draws otherwise.
        let seed = options.seed &+ UInt64(simulated.lives) &* 15_485_863
        simulated.configuration = nil
        simulated.engine = options.realArithmetic ? StageEngine(corpus: [], threads: 1) : ModelledEngine()
        let bootstrap = bootstrapIndex
        let launcher = hosts[coordinatorIndex].key
        let poolKey = SeededGenerator.bytes(32, seed: options.seed, stream: 1)
        let overlay = OverlayConfiguration(
            poolKey: poolKey, bootstrap: simulated.index == bootstrap ? [] : [hosts[bootstrap].endpoint],
            seed: seed &+ index &* 7919)
        var directory = Directory(
            configuration: overlay, identity: simulated.key, nodeID: simulated.remembered?.nodeID,
            known: simulated.remembered?.contacts ?? [], at: now)
        if let state = simulated.remembered { directory.perform(at: now) { $0.restore(state, at: now) } }
        let port = simulated.endpoint.port
        let channels = Channels(
            local: simulated.key.peerID, listening: port, poolKey: poolKey,
            limits: .daemon(computes: host.role == .peer), seed: seed &+ index &* 104_729)
        let wall = WallClock(secondsAtZero: Self.epoch + simulated.next.clockError)
        var services = DaemonCore.Services()
        switch host.role {
        case .bootstrap where !job.parameters.isCarriedByMany: break
        case _ where host.name == options.collector: services = collector(on: simulated)
        case .coordinator where simulated.next.refounds: services = refounder(on: simulated, wall)
        case .coordinator where job.parameters.isCarriedByMany:
            services = DaemonCore.Services(elector: founder(on: simulated, wall))
        case .coordinator: services = DaemonCore.Services(coordinator: coordinator(of: simulated, wall))
        case .peer, .bootstrap:
            var terms = MemberTerms(
                name: host.name, device: host.device, memory: host.memory, accepts: [launcher.peerID])
            terms.computes = host.role == .peer
            services = DaemonCore.Services(
                member: Member(
                    key: simulated.key, terms: terms, remains: simulated.remains, wall: wall, at: now,
                    parse: JobParameters.init(manifest:)),
                elector: elector(on: simulated, wall), options: coordinatorOptions)
        }
        simulated.daemon = DaemonCore(
            directory: directory, channels: channels, services: services, key: simulated.key, port: port,
            relaying: host.relayRate.map { RelayLimits(rate: $0, daily: ByteCount(1 << 40)) }
                ?? (host.role == .bootstrap ? .node : .little), carriesFlows: topology.hasRouters, at: now)
        simulated.daemon!.use(ownIPv4: simulated.endpoint)
        installFlows(on: simulated, poolKey: poolKey)
        outside[simulated.index]?.sessions = [:]
        if options.electorsMayLie {
            let tongue = ElectorTongue(key: simulated.key)
            tongue.lie = storm?.lie(of: simulated.index)
            simulated.daemon!.tongue = tongue
        }
        if let many = options.hostile[host.name] {
            simulated.daemon!.tongue = HostileTongue(
                key: simulated.key, perMessage: many, seed: options.seed &+ index)
        }
    }

    /// The launcher's: it goes on with what is on its disk, as `atoll launch --resume`, where there is something to go on from. A manifest
    /// that parses has been read from one.
    private func coordinator(of host: SimulatedHost, _ wall: WallClock) -> Coordinator {
        let (job, key) = (job, host.key)
        let coordinatorOptions = coordinatorOptions
        if let (_, remains) = host.disk?.remains,
            let begun = try? Record.restoring(remains.log, parse: { _ in job.parameters }).record.state,
            begun.plan != nil,
            let coordinator = try? Coordinator(
                key: key, resuming: remains, content: StoredBytes(job.corpus), initial: job.initial,
                options: coordinatorOptions,
                wall: wall, at: now,
                parse: { _ in job.parameters })
        {
            return coordinator
        }
        do throws(MalformedBytes) {
            return try Coordinator(
                key: key, manifest: job.manifest, content: StoredBytes(job.corpus), initial: job.initial,
                nonce: SeededGenerator.bytes(32, seed: options.seed, stream: 2 + UInt64(host.lives) << 32),
                options: coordinatorOptions, wall: wall, at: now, parse: { _ in job.parameters })
        } catch {
            preconditionFailure("a world's own job is refused: \(error)")
        }
    }

    private var coordinatorOptions: CoordinatorOptions {
        var out = CoordinatorOptions()
        if let share = options.auditShare { out.auditShare = share }
        if let bytes = options.probeBytes { out.probeBytes = bytes }
        if let patience = options.launcherPatience { out.launcherPatience = patience }
        out.expectedPeers = job.expectedPeers
        out.neededPeers = options.neededPeers
        return out
    }

    /// `atoll collect`.
    private func collector(on host: SimulatedHost) -> DaemonCore.Services {
        DaemonCore.Services(
            watch: JobWatch(
                choosing: { _, _, _ in true }, collectingAs: host.key.peerID, at: now,
                parse: JobParameters.init(manifest:)))
    }

    // MARK: electors

    /// What its elector says instead of what is due, from now on; nil: nothing.
    func speaks(_ host: SimulatedHost, _ lie: Trouble.ElectorLie?) {
        (host.daemon?.tongue as? ElectorTongue)?.lie = lie
    }

    /// The launcher's elector: with what is on its disk, as `atoll launch --resume`, where the job has begun and is not over.
    private func founder(on host: SimulatedHost, _ wall: WallClock) -> ElectorDesk {
        var provisions = ElectorDesk.Provisions(
            content: StoredBytes(job.corpus), initial: job.initial, options: coordinatorOptions, wall: wall)
        let parameters = job.parameters
        do throws(MalformedBytes) {
            var stream: UInt64 = 2
            if let (id, remains) = host.disk?.remains {
                let state = try Record.restoring(remains.log, parse: { _ in parameters }).record.state
                if state.finished.map({ $0.reason == Finish.done }) ?? true {
                    provisions.checkpoint = remains.checkpoint
                    return try ElectorDesk(
                        restoring: remains, ballot: host.disk?.ballot(of: id), key: host.key, provisions: provisions,
                        at: now,
                        parse: { _ in parameters })
                }
                // Nothing came of that one.
                stream += UInt64(host.lives) << 32
            }
            return try ElectorDesk(
                founding: job.manifest, content: StoredBytes(job.corpus),
                nonce: SeededGenerator.bytes(32, seed: options.seed, stream: stream), key: host.key,
                provisions: provisions, at: now, parse: { _ in parameters })
        } catch {
            preconditionFailure("a world's own job is refused: \(error)")
        }
    }
    /// The founder's `atoll launch --refound`.
    private func refounder(on host: SimulatedHost, _ wall: WallClock) -> DaemonCore.Services {
        let parameters = job.parameters
        let parse: Record.Parser = { _ in parameters }
        let found = host.disk?.remains
        let own = Refounding.Own(
            key: host.key, manifest: job.manifest, content: ContentIndex(of: job.corpus).id,
            log: found?.remains.log ?? [], certificate: found.flatMap { host.disk?.certificate(of: $0.job) },
            grant: grant(to: host))
        let provisions = ElectorDesk.Provisions(
            content: StoredBytes(job.corpus), initial: job.initial, checkpoint: found?.remains.checkpoint,
            options: coordinatorOptions, wall: wall)
        return DaemonCore.Services(
            foundation: DaemonCore.Services.Foundation(
                Refounding(own, patience: coordinatorOptions.gatherLimit, at: now, parse: parse), provisions,
                receipts: found?.remains.receipts ?? [], parse: parse))
    }
    /// What owners of recovery keys sign, from the log of whoever has the most of it.
    private func grant(to host: SimulatedHost) -> RecoveryGrant? {
        guard let signers = options.lostMajority?.signers, !signers.isEmpty else { return nil }
        let proofs = hosts.filter { network.isUp($0.index) }.compactMap { host in
            host.disk?.remains.flatMap { host.disk?.certificate(of: $0.job) }
        }
        guard let claim = proofs.max(by: { $0.claim.size < $1.claim.size })?.claim else { return nil }
        var grant = RecoveryGrant(
            RecoveryClaim(
                job: claim.job, era: claim.era + 1, size: claim.size, root: claim.root, founder: host.key.peerID))
        for signer in signers { grant.sign(by: signer) }
        return grant
    }
    /// What an earlier process of a peer has promised as an elector.
    private func elector(on host: SimulatedHost, _ wall: WallClock) -> ElectorDesk? {
        guard let (id, remains) = host.disk?.remains, let ballot = host.disk?.ballot(of: id), host.disk!.isWhole(id)
        else {
            return nil
        }
        return try? ElectorDesk(
            restoring: remains, ballot: ballot, key: host.key,
            provisions: ElectorDesk.Provisions(options: coordinatorOptions, wall: wall), at: now,
            parse: JobParameters.init(manifest:))
    }

    /// Charges the device with what a job costs, and does it.
    func compute(_ job: ComputeJob, _ host: SimulatedHost) {
        host.configuration = job.configuration(before: host.configuration)
        let seconds = modelledFLOPs(of: job, configuration: host.configuration) / host.flops
        let start = max(now, host.busyUntil)
        host.busyUntil = start + .nanoseconds(Int64((seconds * 1e9).rounded()))
        onCompute?(host.name, job, start, host.busyUntil)
        host.results.append((host.busyUntil, job.timed == nil ? host.engine.perform(job) : .done))
    }
    /// The job's text has come.
    func learn(_ corpus: StoredBytes, _ host: SimulatedHost) {
        guard options.realArithmetic else { return }
        host.engine = StageEngine(corpus: corpus.all ?? [], threads: 1)
        if let lie = options.lies[host.name] { host.engine = LyingEngine(base: host.engine, lie: lie) }
    }

    /// Faults that wait for a share of the job strike when the coordinator has sealed as much.
    func follow(_ event: Event) {
        guard !pendingFaults.isEmpty, case .roundSealed(_, _, let tokens, _, _, _, let seconds, _, _) = event.what
        else {
            return
        }
        let progress = Double(tokens) / Double(coordinator.state.tokens)
        for fault in pendingFaults {
            guard case .progress(let share) = fault.at, share <= progress else { continue }
            pendingFaults.removeAll { $0 == fault }
            // Within a round, not at its edge; and somebody who holds layers, for killing a spare would show nothing.
            let delay = min(1, seconds / 2)
            schedule(.strike(aimed(fault)), at: now + .nanoseconds(Int64(delay * 1e9)))
        }
    }
    private func aimed(_ fault: Fault) -> Fault {
        guard case .kill = fault.kind, let plan = coordinator.state.plan else { return fault }
        let workers = plan.peers.compactMap { peer in hosts.first { $0.key.peerID == peer }?.name }
        guard !workers.contains(fault.host), let other = workers.last else { return fault }
        return Fault(fault.kind, at: fault.at, host: other)
    }
}
