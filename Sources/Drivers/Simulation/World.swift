import Channels
import Coordination
import Daemon
public import Digests
import Kademlia
import Links
public import Planning
public import Primitives
public import Record
public import Telemetry
public import Topologies
public import Training
import VirtualNetworks

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
    /// Electors say what a storm has them say.
    public var electorsMayLie = false
    /// Count what ``World/traffic`` tells.
    public var countsTraffic = false
    /// Every host has a ``VirtualDisk``; else disks keep what they are given, at once.
    public var hasDisks = false
    /// Fewer than these the job's shape cannot do with.
    public var neededPeers = 1
    /// By name: who is not there in the beginning.
    public var absent: Set<String> = []
    /// Whoever leads dies, again and again.
    public var leaderDeaths: LeaderDeaths?
    /// All electors but some are lost at once, and the job is founded anew.
    public var lostMajority: LostMajority?
    /// By name: a machine of no part in the job that collects its result. The run ends when it has that, or has given up.
    public var collector: String?
    /// How long a leader that did not launch the job waits for whoever did; nil: as live.
    public var launcherPatience: Duration?
    /// The job begins with this plan, and keeps it as long as all of its peers are there.
    public var plan: Plan?
    /// Give up after this much virtual time.
    public var limit: Duration = .seconds(7 * 86_400)
    public init() {}
}

/// When the process of whoever leads the job dies, and how long its machine stays away.
public struct LeaderDeaths: Hashable, Sendable {
    public var moments: [Duration]
    /// Nil: for good.
    public var away: Duration?
    public init(at moments: [Duration], away: Duration?) {
        self.moments = moments
        self.away = away
    }
}

/// All electors die in one moment, the launcher's among them. Then `atoll launch --refound` runs on the launcher's machine, or with
/// `--recovery` on another.
public struct LostMajority: Sendable {
    public var at: Duration
    /// How long after that moment.
    public var refoundedAfter: Duration
    /// The launcher's disk is lost, too: it has nothing but its key.
    public var losesDisk: Bool
    /// The other electors come back so long after that moment, on their disks; nil: never.
    public var othersBack: Duration?
    /// Recovery keys that sign for the last coordinator of the topology, where the launcher's machine is gone for good; empty: it is not.
    public var signers: [SigningKey]
    public init(
        at moment: Duration, refoundedAfter: Duration, losesDisk: Bool = false, othersBack: Duration? = nil,
        signers: [SigningKey] = []
    ) {
        at = moment
        self.refoundedAfter = refoundedAfter
        self.losesDisk = losesDisk
        self.othersBack = othersBack
        self.signers = signers
    }
}

/// What the world itself does: it runs the network, hands every happening to the daemon that it concerns and performs what the
/// daemon asks for. What a host is made of is in `World+Swarm.swift`, the time
/// line in `World+Faults.swift`.
public final class World {
    public let topology: Topology
    let options: WorldOptions
    private var virtualNetwork: Indirect<VirtualNetwork>
    /// Asked and told where it lies: a property of a class would be copied whenever it is asked.
    var network: VirtualNetwork {
        unsafeAddress { virtualNetwork.address }
        unsafeMutableAddress { virtualNetwork.mutableAddress() }
    }
    var hosts: [SimulatedHost] = []
    var pendingFaults: [Fault] = []
    /// Told what a host computes, and from when to when.
    public var onCompute: ((_ host: String, ComputeJob, _ from: Instant, _ to: Instant) -> Void)?
    var timeline: [(at: Instant, action: TimedAction)] = []
    private var hash = TranscriptDigest()
    let coordinatorIndex: Int
    var bootstrapIndex: Int { topology.hosts.firstIndex { $0.role == .bootstrap }! }
    let job: JobOfWorld
    /// Of hosts: what is outside of their daemons, beside the network.
    var outside: [Int: Outside] = [:]
    /// What strikes this world, and who watches it.
    var storm: StormWatch?

    /// Every event of every host, in order.
    public private(set) var events: [(host: String, event: Event)] = []
    private var playbook: Play?
    /// Of streams, where it is asked for.
    public private(set) var traffic: Traffic?
    /// When the last round was sealed.
    private(set) var lastSeal: Instant?
    /// Members that were given up, how often each.
    private(set) var lost: [String: Int] = [:]
    var losses: Int { lost.values.reduce(0, +) }
    /// The last look at what there was, and whose alarm went last, how often in that moment.
    private var counts = (
        looked: (at: Instant.zero, events: 0, deliveries: 0), alarm: (host: -1, at: Instant.zero, times: 0)
    )
    public internal(set) var end: JobEnd?
    public private(set) var deliveredBytes = 0
    public var deliveries: Int { network.deliveries }
    var now: Instant { network.now }

    /// - Parameters:
    ///   - manifest: canonical text; corpus: the job's text.
    ///   - initial: the units that the job begins with, where the manifest names them.
    public init(
        topology: Topology, manifest: String, parameters: JobParameters, corpus: [UInt8], initial: [UnitState] = [],
        expectedPeers: Int? = nil, options: WorldOptions
    ) {
        let topology = topology.withServices()
        self.topology = topology
        self.options = options
        coordinatorIndex = topology.hosts.firstIndex { $0.role == .coordinator }!
        if options.keepsPlay { playbook = Play(names: topology.hosts.map(\.name)) }
        if options.countsTraffic { traffic = Traffic() }
        job = JobOfWorld(
            manifest: manifest, parameters: parameters, corpus: corpus, initial: initial,
            expectedPeers: expectedPeers ?? topology.peers.count - topology.lateJoiners.count)
        virtualNetwork = Indirect(VirtualNetwork(seed: options.seed) { topology.link(from: $0, to: $1) })
        for (index, host) in topology.hosts.enumerated() {
            let key = Self.key(of: index, seed: options.seed)
            let endpoint = Self.endpoint(of: index, host, isOpen: !topology.hasRouters)
            network.addHost(
                at: endpoint, key: key.peerID, access: AccessRates(up: host.up, down: host.down),
                seed: options.seed &+ UInt64(index))
            if topology.hasRouters { putBehindRouter(index, host) }
            network.setUp(false, index)
            hosts.append(SimulatedHost(index: index, name: host.name, endpoint: endpoint, key: key, flops: host.flops))
        }
        if options.hasDisks {
            for host in hosts { host.disk = VirtualDisk(seed: options.seed &+ UInt64(host.index) &* 6151) }
        }
        for host in hosts { install(on: host) }
        for fault in topology.faults {
            switch fault.at {
            case .seconds(let seconds): timeline.append((Instant(seconds: seconds), .strike(fault)))
            case .progress: pendingFaults.append(fault)
            }
        }
        for moment in options.leaderDeaths?.moments ?? [] { timeline.append((.zero + moment, .killLeader)) }
        if let lost = options.lostMajority { timeline.append((.zero + lost.at, .killElectors)) }
        timeline.sort { $0.at < $1.at }
        let late = topology.lateJoiners.union(options.absent)
        for host in hosts where !late.contains(host.name) { start(host) }
    }

    /// Of a host, by its place in the topology.
    package static func key(of host: Int, seed: UInt64) -> SigningKey {
        SigningKey(seed: SeededGenerator.bytes(32, seed: seed, stream: UInt64(host) + 100))!
    }

    /// Runs until the job has ended or the limit is reached.
    ///
    /// - Parameter watching: is shown the world every now and then, whatever happens in it; false stops the run.
    public func run(watching: (World) -> Bool = { _ in true }) -> JobEnd {
        let limit = Instant.zero + options.limit
        var turns = 0
        while end == nil {
            turns += 1
            if turns % 1024 == 0, !watching(self) { return .failed("stopped") }
            let nextFault = timeline.first?.at
            guard let wake = earliest(network.next, nextFault), wake <= limit else { break }
            if let nextFault, nextFault <= (network.next ?? nextFault) {
                network.rest(until: nextFault)
                act(timeline.removeFirst().action)
                continue
            }
            // A fault comes before whatever else happens in its moment.
            let pause = nextFault.map { min(limit, $0 - .nanoseconds(1)) } ?? limit
            guard let (index, what) = network.happen(until: pause) else { continue }
            happened(what, at: hosts[index])
        }
        return end ?? .failed("nothing ended the job in \(fixed(options.limit.inSeconds, 0)) s of virtual time")
    }

    private func happened(_ what: VirtualNetwork.Happening, at host: SimulatedHost) {
        switch what {
        case .datagram(let bytes, let from):
            record(from, host.index, bytes)
            let source = network.apparentSource ?? hosts[from].endpoint
            if host.flows != nil, VirtualFlows.isFlow(bytes) {
                host.flows!.receive(bytes, from: source, at: now)
            } else {
                host.daemon!.receive(datagram: bytes, from: source, at: now)
            }
        case .stream(let event, let from):
            if case .received(let id, let bytes) = event {
                record(from, host.index, bytes)
                playbook?.heard(bytes, connection: Int(id), from: from, to: host.index)
                traffic?.heard(bytes, connection: Int(id), from: from, to: host.index)
            }
            host.daemon!.happened(event, at: now)
        case .cargo: preconditionFailure("nobody here sends cargo")
        case .alarm: return wake(host)
        }
        drain(host)
    }

    /// Everything of its own that is due on one host, in a fixed order of sources.
    private func wake(_ host: SimulatedHost) {
        while let first = host.results.first, first.at <= now {
            host.results.removeFirst()
            host.daemon!.computed(first.result, at: now)
            drain(host)
        }
        while let first = host.writes.first, first.at <= now {
            host.writes.removeFirst()
            let outcome = host.disk!.write(first.request)
            storm?.wrote(first.request, outcome, host, at: now)
            host.daemon!.stored(first.request.ticket, outcome, for: first.service, at: now)
            drain(host)
        }
        if let answer = host.planAnswer, answer.at <= now {
            host.planAnswer = nil
            host.daemon!.planned(answer.result, at: now)
            drain(host)
        }
        if network.isUp(host.index), let next = host.daemon!.nextWake, next <= now {
            host.daemon!.count(
                sent: network.sentBytes(host.index), received: network.receivedBytes(host.index))
            host.daemon!.wake(at: now)
            drain(host)
        }
        if network.isUp(host.index), let next = host.flows?.whenToWake(), next <= now {
            host.flows!.wake(at: now)
            drain(host)
        }
        guard network.isUp(host.index) else { return }
        network.setAlarm(of: host.index, at: host.nextWake)
        let isSame = counts.alarm.host == host.index && counts.alarm.at == now
        counts.alarm = (host.index, now, isSame ? counts.alarm.times + 1 : 1)
        if counts.alarm.times > Self.mostAlarms { spins(host) }
    }
    /// Many things may be due at once, one after the other; never so many.
    private static let mostAlarms = 10_000
    /// Time stands still: a daemon in its place would take a whole processor.
    private func spins(_ host: SimulatedHost) {
        let what = "\(host.name) is woken and wants to be woken at once, for ever"
        storm?.report(what, self)
        end = end ?? .failed(what)
    }

    private func record(_ from: Int, _ to: Int, _ bytes: [UInt8]) {
        deliveredBytes += bytes.count
        hash.add(bytes, from: from, to: to, at: now)
    }

    // MARK: effects

    /// The time of day at virtual second 0, for records that expire.
    static let epoch: Int64 = 1_700_000_000

    func drain(_ host: SimulatedHost) {
        guard network.isUp(host.index) else { return }
        repeat { drainDaemon(host) } while drainFlows(host)
        guard network.isUp(host.index) else { return }
        network.setAlarm(of: host.index, at: host.nextWake)
    }
    private func drainDaemon(_ host: SimulatedHost) {
        while network.isUp(host.index), let effect = host.daemon!.poll() {
            switch effect {
            case .datagram(let bytes, let endpoint): network.send(bytes, from: host.index, to: endpoint)
            case .dial(let id, let endpoint, let peer):
                network.dial(id.value, from: host.index, to: endpoint, expecting: peer)
            case .punch(let id, let endpoint, let peer):
                network.dial(id.value, from: host.index, to: endpoint, expecting: peer)
            case .flow(let id, let endpoint, let peer): openFlow(id, endpoint, peer, host)
            case .opener(let endpoint): network.sendOpener(from: host.index, to: endpoint)
            case .write(let id, let bytes):
                if !carriedWrite(id, bytes, host) { network.write(id.value, bytes, from: host.index) }
            case .close(let id): if !carriedClose(id, host) { network.close(id.value, by: host.index) }
            case .seal(let id, let isClient, let peer): seal(id, isClient, peer, host)
            case .sealed(let id, let bytes): sealed(id, bytes, host)
            case .dialBack(let dial, let endpoint, let probe): dialBack(dial, endpoint, probe, by: host)
            // No router here is asked for ports.
            case .gateway, .igd: break
            case .recordDue:
                let wall = Self.epoch + host.next.clockError + Int64((now - .zero).inSeconds)
                host.daemon!.publishRecord(wall: wall, at: now)
            // Pools here are their keys.
            case .overlayChanged, .found, .keepBook, .poolKeys, .connected: break
            case .event(let event):
                tell(event, of: host)
                storm?.heard(event, host, self)
                // Only who leads seals.
                follow(event)
            case .compute(let job): compute(job, host)
            case .corpus(let bytes): learn(bytes, host)
            case .plan(let question):
                let answer = options.plan.map { question.answered(with: $0) } ?? question.answered()
                host.planAnswer = (now + .milliseconds(200), answer)
            case .store(let request, let service): store(request, service, host)
            case .ended(let end): ended(end, host)
            }
        }
    }

    private func store(_ request: StorageRequest, _ service: DaemonCore.Service, _ host: SimulatedHost) {
        guard host.disk != nil else {
            return host.daemon!.stored(request.ticket, host.keep(request), for: service, at: now)
        }
        let due = max(host.writes.last?.at ?? now, now, host.disk!.stalledUntil) + host.disk!.time()
        host.writes.append((due, request, service))
    }

    /// The coordinator's process is over; in a storm its owner begins another where the job is not done.
    private func ended(_ end: JobEnd, _ host: SimulatedHost) {
        if let collector = options.collector {
            if host.name == collector { self.end = host.collected }
            if case .finished = end { return }
        }
        // A peer lives on, whatever comes of a job that it led.
        if case .failed = end, host.index != coordinatorIndex { return }
        if case .failed(let why) = end, let pause = storm?.beginsAgain(after: why, self) {
            schedule(.close(host: host.index, life: host.lives), at: now + Self.windingDown)
            return schedule(.start(host: host.index), at: now + pause)
        }
        self.end = end
    }
    /// As live: what is left to send goes out.
    private static let windingDown = Duration.milliseconds(400)

    /// One more event of the transcript.
    func tell(_ event: Event, of host: SimulatedHost) {
        events.append((host.name, event))
        playbook?.happened(event, at: host.name)
        switch event.what {
        case .roundSealed: lastSeal = event.at
        case .peerLost: lost[event.peer, default: 0] += 1
        default: break
        }
    }
    /// Whether more is said, or more arrives, than can be meant; since this was asked last.
    func flood(_ bounds: StormBounds) -> String? {
        let before = counts.looked
        counts.looked = (now, events.count, deliveries)
        let seconds = max(1, (now - before.at).inSeconds)
        if Double(events.count - before.events) > seconds * Double(bounds.eventsASecond) {
            return
                "\(events.count - before.events) events in \(fixed(seconds, 1)) s; the last: \(events.last!.event.line)"
        }
        guard Double(deliveries - before.deliveries) > seconds * Double(bounds.deliveriesASecond) else { return nil }
        return "\(deliveries - before.deliveries) arrivals in \(fixed(seconds, 1)) s"
    }

    // MARK: results

    public func sentBytes() -> [(name: String, bytes: Int)] {
        hosts.map { ($0.name, network.sentBytes($0.index)) }
    }
    public var virtualSeconds: Double { now.seconds }

    /// The run as a play, with ``WorldOptions/keepsPlay``: who said what to whom, and what happened.
    public var play: String? { playbook?.text }

    /// SHA-256 of the whole transcript.
    public var transcriptDigest: String { sha256(Array(transcript().utf8)).hex }

    /// Events as lines, then what they rest on: the count and the hash of everything delivered.
    public func transcript() -> String {
        // Nobody may lead at the end.
        let name = hasLed ? coordinator.job.short : "?"
        var out = "# atoll transcript 1: \(topology.name), job \(name), seed \(options.seed)\n"
        for (host, event) in events { out += "\(host) \(event.line)\n" }
        out += "# \(deliveries) deliveries, \(deliveredBytes) bytes, sha256 \(hash.digest.hex)\n"
        return out
    }
}
