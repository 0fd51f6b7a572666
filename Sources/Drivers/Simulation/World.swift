import Channels
public import Coordination
import Daemon
import Digests
import Kademlia
import Links
import Membership
import Messages
import Planning
import Primitives
public import Record
public import Telemetry
public import Topologies
import Training
import Wire

/// The pool in virtual time: hosts of a topology run the daemons' own cores over modelled links and devices.
///
/// Same topology, job, seed and commit: the same transcript, byte for byte. Inputs are delivered one at a time in the order
/// (time, host, source), the effects of each are performed before the next.
public struct WorldOptions: Sendable {
    public var seed: UInt64 = 1
    /// Do the arithmetic, or only charge its modelled FLOPs.
    public var realArithmetic = false
    /// By name: who lies, and how.
    public var lies: [String: Lie] = [:]
    /// By name: who says with each message so many others that nobody should say.
    public var hostile: [String: Int] = [:]
    /// Share of the rounds with owners that are audited.
    public var auditShare: Double?
    /// Longest burst of a survey of the links; nil: as live.
    public var probeBytes: Int?
    /// Keep what ``World/play`` tells.
    public var keepsPlay = false
    /// Give up after this much virtual time.
    public var limit: Duration = .seconds(7 * 86_400)
    public init() {}
}

public final class World {
    public let topology: Topology
    let options: WorldOptions
    let parameters: JobParameters
    var hosts: [SimulatedHost] = []
    var connections: [SimulatedConnection] = []
    var now = Instant.zero
    /// When to look at which host.
    private var queue = TimerHeap()
    var pendingFaults: [Fault] = []
    var timeline: [(at: Instant, action: TimedAction)] = []
    private var hash = TranscriptDigest()
    let coordinatorIndex: Int

    /// Every event of every host, in order.
    public private(set) var events: [(host: String, event: Event)] = []
    private var playbook: Play?
    public internal(set) var end: JobEnd?
    public private(set) var deliveries = 0
    public private(set) var deliveredBytes = 0

    /// - Parameters:
    ///   - manifest: canonical text; corpus: the job's text.
    public init(
        topology: Topology, manifest: String, parameters: JobParameters, corpus: [UInt8], expectedPeers: Int? = nil,
        options: WorldOptions
    ) {
        let topology = topology.withServices()
        self.topology = topology
        self.options = options
        self.parameters = parameters
        coordinatorIndex = topology.hosts.firstIndex { $0.role == .coordinator }!
        if options.keepsPlay { playbook = Play(names: topology.hosts.map(\.name)) }
        let poolKey = SeededGenerator.bytes(32, seed: options.seed, stream: 1)
        for (index, host) in topology.hosts.enumerated() {
            let key = SigningKey(seed: SeededGenerator.bytes(32, seed: options.seed, stream: UInt64(index) + 100))!
            let endpoint = Endpoint(
                ipv4: 10, UInt8(index >> 16), UInt8(index >> 8 & 255), UInt8(index & 255), port: 4000)
            let engine: any Engine =
                options.realArithmetic ? StageEngine(corpus: [], threads: 1) : ModelledEngine()
            let simulated = SimulatedHost(
                index: index, name: host.name, endpoint: endpoint, key: key, flops: host.flops, up: host.up,
                down: host.down, engine: engine, seed: options.seed &+ UInt64(index))
            for other in topology.hosts.indices where other != index {
                simulated.shaper.setLink(to: HostID(UInt64(other)), topology.link(from: index, to: other))
            }
            hosts.append(simulated)
        }
        let bootstrap = topology.hosts.firstIndex { $0.role == .bootstrap }!
        let launcher = hosts[coordinatorIndex].key
        for (index, host) in topology.hosts.enumerated() {
            let simulated = hosts[index]
            let overlay = OverlayConfiguration(
                poolKey: poolKey, bootstrap: index == bootstrap ? [] : [hosts[bootstrap].endpoint],
                seed: options.seed &+ UInt64(index) &* 7919)
            let directory = Directory(configuration: overlay, identity: simulated.key, nodeID: nil, known: [], at: now)
            let channels = Channels(
                local: simulated.key.peerID, listening: 4000, poolKey: poolKey,
                seed: options.seed &+ UInt64(index) &* 104_729)
            var services = DaemonCore.Services()
            switch host.role {
            case .bootstrap: break
            case .coordinator:
                var coordinatorOptions = CoordinatorOptions()
                if let share = options.auditShare { coordinatorOptions.auditShare = share }
                if let bytes = options.probeBytes { coordinatorOptions.probeBytes = bytes }
                coordinatorOptions.expectedPeers = expectedPeers ?? topology.peers.count - lateJoiners.count
                services = DaemonCore.Services(
                    coordinator: Self.coordinator(
                        launcher, manifest, parameters, corpus, coordinatorOptions, seed: options.seed, at: now))
            case .peer:
                services = DaemonCore.Services(
                    member: Member(
                        key: simulated.key,
                        terms: MemberTerms(
                            name: host.name, device: host.device, memory: host.memory, accepts: [launcher.peerID]),
                        wall: WallClock(secondsAtZero: Self.epoch), at: now, parse: JobParameters.init(manifest:)))
            }
            simulated.daemon = DaemonCore(
                directory: directory, channels: channels, services: services, key: simulated.key, port: 4000, at: now)
            if let many = options.hostile[host.name] {
                simulated.daemon!.tongue = HostileTongue(
                    key: simulated.key, perMessage: many, seed: options.seed &+ UInt64(index))
            }
        }
        for fault in topology.faults {
            switch fault.at {
            case .seconds(let seconds): timeline.append((Instant(seconds: seconds), .strike(fault)))
            case .progress: pendingFaults.append(fault)
            }
        }
        timeline.sort { $0.at < $1.at }
        for host in hosts where !lateJoiners.contains(host.name) { start(host) }
    }

    /// The launcher's; a manifest that parses has been read from one.
    private static func coordinator(
        _ key: SigningKey, _ manifest: String, _ parameters: JobParameters, _ corpus: [UInt8],
        _ options: CoordinatorOptions, seed: UInt64, at now: Instant
    ) -> Coordinator {
        do throws(MalformedBytes) {
            return try Coordinator(
                key: key, manifest: manifest, content: corpus,
                nonce: SeededGenerator.bytes(32, seed: seed, stream: 2), options: options,
                wall: WallClock(secondsAtZero: epoch), at: now, parse: { _ in parameters })
        } catch {
            preconditionFailure("a world's own job is refused: \(error)")
        }
    }

    /// The time of day at virtual second 0, for records that expire.
    private static let epoch: Int64 = 1_700_000_000

    /// Hosts that are not there from the beginning.
    var lateJoiners: [String] {
        topology.faults.filter { if case .join = $0.kind { true } else { false } }.map(\.host)
    }

    func start(_ host: SimulatedHost) {
        host.alive = true
        drain(host)
        arm(host)
    }

    /// Runs until the job has ended or the limit is reached.
    public func run() -> JobEnd {
        let limit = Instant.zero + options.limit
        while end == nil {
            let nextFault = timeline.first?.at
            guard let wake = earliest(queue.next, nextFault) else { break }
            if wake > limit { break }
            now = max(now, wake)
            if let nextFault, nextFault <= (queue.next ?? nextFault) {
                act(timeline.removeFirst().action)
                continue
            }
            let host = hosts[queue.first!.timer]
            serve(host)
            arm(host)
        }
        return end ?? .failed("nothing ended the job in \(fixed(options.limit.inSeconds, 0)) s of virtual time")
    }

    /// After whatever may have changed when a host is next to be looked at.
    func arm(_ host: SimulatedHost) { queue.set(host.index, at: host.nextWake.map { max($0, now) }) }

    /// Everything that is due on one host, in a fixed order of sources.
    private func serve(_ host: SimulatedHost) {
        if let next = host.shaper.nextWake, next <= now { host.shaper.wake(at: now) }
        drainShaper(host)
        if let next = host.reception.nextWake, next <= now { host.reception.wake(at: now) }
        drainReception(host)
        guard host.alive else { return }
        while let first = host.results.first, first.at <= now {
            host.results.removeFirst()
            host.daemon!.computed(first.result, at: now)
            drain(host)
        }
        if let answer = host.planAnswer, answer.at <= now {
            host.planAnswer = nil
            host.daemon!.planned(answer.result, at: now)
            drain(host)
        }
        if let next = host.daemonWake, next <= now {
            host.daemon!.count(sent: host.sent, received: host.received)
            host.daemon!.wake(at: now)
            drain(host)
        }
    }

    // MARK: the network

    private func drainShaper(_ host: SimulatedHost) {
        while let effect = host.shaper.poll() {
            switch effect {
            case .arrive(var parcel):
                let destination = hosts[Int(parcel.host.value)]
                parcel.host = HostID(UInt64(host.index))
                destination.reception.arrive(parcel, at: now)
                drainReception(destination)
                arm(destination)
            case .left(_, let stream, let bytes):
                host.sent += bytes
                guard let stream, host.alive, let id = host.idOf[Int(stream)] else { continue }
                let to = HostID(UInt64(connections[Int(stream)].other(host.index)))
                host.daemon!.writable(id, unsent: host.shaper.queuedBytes(to: to, stream: stream), at: now)
                drain(host)
            }
        }
    }

    private func drainReception(_ host: SimulatedHost) {
        while let effect = host.reception.poll() {
            guard case .deliver(let parcel) = effect else { continue }
            host.received += parcel.bytes
            guard let payload = parcel.payload else { continue }
            deliver(payload, from: Int(parcel.host.value), to: host)
        }
    }

    private func deliver(_ payload: Parcelled, from: Int, to host: SimulatedHost) {
        deliveries += 1
        switch payload {
        case .datagram(let bytes):
            guard host.alive else { return }
            record(from, host.index, bytes)
            host.daemon!.receive(datagram: bytes, from: hosts[from].endpoint, at: now)
        case .handshake(let connection, let leg): handshake(connection, leg, at: host, from: from)
        case .end(let connection): ended(connection, at: host)
        case .bytes(let connection, let bytes):
            guard host.alive, let id = host.idOf[connection] else { return }
            record(from, host.index, bytes)
            playbook?.heard(bytes, connection: connection, from: from, to: host.index)
            host.daemon!.received(id, bytes, at: now)
        }
        drain(host)
    }

    private func record(_ from: Int, _ to: Int, _ bytes: [UInt8]) {
        deliveredBytes += bytes.count
        hash.add(bytes, from: from, to: to, at: now)
    }

    /// Bytes of each leg: SYN, SYN-ACK, ClientHello, the server's flight, the client's.
    static let legBytes = [60, 60, 320, 900, 760]

    private func handshake(_ connection: Int, _ leg: Int, at host: SimulatedHost, from: Int) {
        guard connections[connection].open else { return }
        if leg == 0, !host.alive {
            // The machine is there, the process is not: refused.
            let dialler = hosts[from]
            connections[connection].open = false
            if dialler.alive, let id = dialler.idOf.removeValue(forKey: connection) {
                dialler.connectionOf[id] = nil
                dialler.daemon!.dialFailed(id, refused: true, at: now)
                drain(dialler)
                arm(dialler)
            }
            return
        }
        guard host.alive else { return }
        if leg == 0 {
            let id = ConnectionID(host.nextInbound)
            host.nextInbound += 2
            host.idOf[connection] = id
            host.connectionOf[id] = connection
        }
        if leg == 3 { secured(connection, at: host, inbound: false) }
        if leg == 4 { return secured(connection, at: host, inbound: true) }
        offer(.handshake(connection: connection, leg: leg + 1), bytes: Self.legBytes[leg + 1], connection, from: host)
    }

    private func secured(_ connection: Int, at host: SimulatedHost, inbound: Bool) {
        guard let id = host.idOf[connection] else { return }
        let peer = hosts[connections[connection].other(host.index)]
        let exporter = sha256(Array("exporter \(connection)".utf8)).bytes
        host.daemon!.secured(
            id, peer: peer.key.peerID, exporter: exporter, remote: peer.endpoint, inbound: inbound,
            isTLSClient: host.key.peerID < peer.key.peerID, at: now)
    }

    private func offer(_ payload: Parcelled, bytes: Int, _ connection: Int, from host: SimulatedHost) {
        let to = HostID(UInt64(connections[connection].other(host.index)))
        host.shaper.offerStream(bytes: bytes, payload, to: to, stream: UInt64(connection), at: now)
        drainShaper(host)
    }

    /// What was written before still arrives; then the other end learns of the close.
    func close(_ connection: Int, by host: SimulatedHost) {
        if let id = host.idOf.removeValue(forKey: connection) { host.connectionOf[id] = nil }
        guard connections[connection].open else { return }
        connections[connection].open = false
        offer(.end(connection: connection), bytes: 40, connection, from: host)
    }

    private func ended(_ connection: Int, at host: SimulatedHost) {
        guard host.alive, let id = host.idOf.removeValue(forKey: connection) else { return }
        host.connectionOf[id] = nil
        host.daemon!.closed(id, at: now)
    }

    // MARK: effects

    func drain(_ host: SimulatedHost) {
        guard host.alive else { return }
        while let effect = host.daemon!.poll() {
            switch effect {
            case .datagram(let bytes, let endpoint):
                guard let to = index(of: endpoint) else { continue }
                host.shaper.offerDatagram(bytes: bytes.count + 28, .datagram(bytes), to: HostID(UInt64(to)), at: now)
                drainShaper(host)
            case .dial(let id, let endpoint, _):
                guard let to = index(of: endpoint), to != host.index else {
                    host.daemon!.dialFailed(id, at: now)
                    continue
                }
                connections.append(SimulatedConnection(from: host.index, to: to))
                let connection = connections.count - 1
                host.idOf[connection] = id
                host.connectionOf[id] = connection
                offer(.handshake(connection: connection, leg: 0), bytes: Self.legBytes[0], connection, from: host)
            case .write(let id, let bytes):
                guard let connection = host.connectionOf[id] else { continue }
                // TLS adds 22 bytes to each record of at most 16 KiB.
                let records = max(1, (bytes.count + 16_383) / 16_384)
                offer(
                    .bytes(connection: connection, bytes), bytes: bytes.count + 22 * records, connection, from: host)
            case .close(let id):
                if let connection = host.connectionOf[id] { close(connection, by: host) }
            case .dialBack(let dial, let endpoint, let probe):
                // Modelled hosts stand in the open: whoever lives can be reached.
                let reached = index(of: endpoint).map { hosts[$0].alive } ?? false
                if reached, let to = index(of: probe.endpoint) {
                    host.shaper.offerDatagram(
                        bytes: probe.bytes.count + 28, .datagram(probe.bytes), to: HostID(UInt64(to)), at: now)
                    drainShaper(host)
                }
                host.daemon!.dialledBack(dial, reached: reached, at: now)
            case .recordDue: host.daemon!.publishRecord(wall: Self.epoch + Int64((now - .zero).inSeconds), at: now)
            case .overlayChanged, .found: break
            case .event(let event): note(event, host)
            case .compute(let job): compute(job, host)
            case .corpus(let bytes):
                guard options.realArithmetic else { continue }
                host.engine = StageEngine(corpus: bytes, threads: 1)
                if let lie = options.lies[host.name] { host.engine = LyingEngine(base: host.engine, lie: lie) }
            case .plan(let question): host.planAnswer = (now + .milliseconds(200), question.answered())
            case .store(let request, let service):
                // A disk that keeps what it is given, at once.
                host.daemon!.stored(request.ticket, .stored(path: ""), for: service, at: now)
            case .ended(let end): self.end = end
            }
        }
        host.daemonWake = host.daemon!.nextWake
    }

    private func index(of endpoint: Endpoint) -> Int? {
        let a = endpoint.address
        guard a.count == 4, a[0] == 10 else { return nil }
        let index = Int(a[1]) << 16 | Int(a[2]) << 8 | Int(a[3])
        return index < hosts.count && hosts[index].endpoint == endpoint ? index : nil
    }

    private func compute(_ job: ComputeJob, _ host: SimulatedHost) {
        host.configuration = job.configuration(before: host.configuration)
        let seconds = modelledFLOPs(of: job, configuration: host.configuration) / host.flops
        let start = max(now, host.busyUntil)
        host.busyUntil = start + .nanoseconds(Int64((seconds * 1e9).rounded()))
        host.results.append((host.busyUntil, host.engine.perform(job)))
    }

    /// One more event of the transcript.
    func tell(_ event: Event, of host: SimulatedHost) {
        events.append((host.name, event))
        playbook?.happened(event, at: host.name)
    }

    private func note(_ event: Event, _ host: SimulatedHost) {
        tell(event, of: host)
        guard host.index == coordinatorIndex,
            case .roundSealed(_, _, let tokens, _, _, _, let seconds, _, _) = event.what
        else { return }
        let progress = Double(tokens) / Double(coordinator.state.tokens)
        for fault in pendingFaults {
            guard case .progress(let share) = fault.at, share <= progress else { continue }
            pendingFaults.removeAll { $0 == fault }
            // Within a round, not at its edge; and somebody who holds layers, for killing a spare would show nothing.
            let delay = min(1, seconds / 2)
            timeline.append((now + .nanoseconds(Int64(delay * 1e9)), .strike(aimed(fault))))
            timeline.sort { $0.at < $1.at }
        }
    }

    private func aimed(_ fault: Fault) -> Fault {
        guard case .kill = fault.kind, let plan = coordinator.state.plan else { return fault }
        let workers = plan.peers.compactMap { peer in hosts.first { $0.key.peerID == peer }?.name }
        guard !workers.contains(fault.host), let other = workers.last else { return fault }
        return Fault(fault.kind, at: fault.at, host: other)
    }

    // MARK: results

    public var coordinator: Coordinator { hosts[coordinatorIndex].daemon!.coordinator! }
    public func sentBytes() -> [(name: String, bytes: Int)] { hosts.map { ($0.name, $0.sent) } }
    public var virtualSeconds: Double { now.seconds }

    /// The run as a play, with ``WorldOptions/keepsPlay``: who said what to whom, and what happened.
    public var play: String? { playbook?.text }

    /// SHA-256 of the whole transcript.
    public var transcriptDigest: String { sha256(Array(transcript().utf8)).hex }

    /// Events as lines, then what they rest on: the count and the hash of everything delivered.
    public func transcript() -> String {
        var out = "# atoll transcript 1: \(topology.name), job \(coordinator.job.short), seed \(options.seed)\n"
        for (host, event) in events { out += "\(host) \(event.line)\n" }
        out += "# \(deliveries) deliveries, \(deliveredBytes) bytes, sha256 \(hash.digest.hex)\n"
        return out
    }
}
