import Coordination
import Daemon
import Digests
import Links
import Membership
import Primitives
import Record
import Telemetry
import Topologies
import VirtualNetworks
import Wire

/// What strikes a world, and the checkers that watch all of it. It sees every host's memory and disk at once, as nobody in the world does.
///
/// The first thing that is not as it must be ends the world.
final class StormWatch {
    let script: StormScript
    let bounds: StormBounds
    /// What is wrong, and when it was seen.
    private(set) var violation: String?
    /// Troubles under way, by place in the script.
    private var active: Set<Int> = []
    /// How many of them keep a host down, or still; and how many keep a pair apart.
    private var down: [Int: Int] = [:]
    private var still: [Int: Int] = [:]
    private var apart: [Topology.Pair: Int] = [:]
    /// Since when nothing has been wrong with a host.
    private var wellSince: [Int: Instant] = [:]
    /// Since when no process has led, as far as was looked.
    private(set) var leaderlessSince: Instant?
    private(set) var launches = 1
    /// Launchers that gave up a job that had a plan. Before, whoever wanted as many peers may have got fewer.
    private(set) var abandoned = 0
    private var memory = StormMemory()
    private(set) var electors = CertifiedMemories()
    private var keeping = KeepingMemory()
    /// Whoever led when it was killed, by place of the trouble.
    private var dethroned: [Int: Int] = [:]
    private(set) var struck: [String: Int] = [:]
    private(set) var writes: [DiskWrite] = []

    init(_ script: StormScript, _ bounds: StormBounds) {
        self.script = script
        self.bounds = bounds
        for trouble in script.troubles where trouble.kind == .late { down[trouble.host, default: 0] += 1 }
    }

    /// Peers that are not there in the beginning.
    var absent: Set<Int> { Set(down.keys) }

    func begin(_ world: World) {
        for (number, trouble) in script.troubles.enumerated() {
            world.schedule(.trouble(number, begins: true), at: Instant(seconds: trouble.from))
            world.schedule(.trouble(number, begins: false), at: Instant(seconds: trouble.until))
        }
        world.schedule(.look, at: Instant(seconds: 1))
    }

    // MARK: striking

    func act(_ number: Int, begins: Bool, on world: World) {
        let trouble = script.troubles[number]
        if begins {
            active.insert(number)
            struck[trouble.word, default: 0] += 1
        } else {
            active.remove(number)
        }
        for host in concerned(trouble, world) { wellSince[host] = world.now }
        let host = world.hosts[trouble.host]
        switch trouble.kind {
        case .dethroned: dethrone(number, begins, world)
        case .stall: host.disk?.stalledUntil = Instant(seconds: trouble.until)
        case .lies(let lie): world.speaks(host, begins ? lie : nil)
        case .crash, .powerCut, .goodbye: begins ? fell(trouble, host, world) : rise(trouble, host, world)
        case .blackout:
            for host in world.hosts { if begins { fell(trouble, host, world) } else { rise(trouble, host, world) } }
        case .emptied:
            guard begins else { return rise(trouble, host, world) }
            fell(trouble, host, world)
            host.disk = VirtualDisk(seed: script.seed &+ UInt64(number) &* 6151)
        case .late: if !begins { rise(trouble, host, world) }
        case .freeze, .sleep:
            keepStill(host, begins, world)
            if trouble.kind == .sleep { separate(trouble, begins, world) }
        case .cut, .deaf, .mute, .partition, .oneWay: separate(trouble, begins, world)
        case .slowLine, .loss, .delay: reshape(world)
        case .slowDevice(let factor): world.slow(host, by: begins ? factor : 1 / factor)
        case .disk(let kind):
            if begins { host.disk?.troubles.insert(kind) } else { host.disk?.troubles.remove(kind) }
            if kind == .isSlow, !begins { world.hasten(host) }
        case .badWrite(let number, let how): if begins { host.disk?.badWrite = (number, how) }
        case .flippedBit: if begins { host.disk?.flipBit() }
        case .moved: if begins { move(host, number, world) }
        case .remapped: if begins { world.forgetMappings(of: host) }
        case .clock(let seconds): if begins { host.next.clockError += Int64(seconds) }
        }
        if begins { world.tell(Event(.fault(kind: trouble.description), at: world.now), of: host) }
    }
    private func fell(_ trouble: Trouble, _ host: SimulatedHost, _ world: World) {
        down[host.index, default: 0] += 1
        switch trouble.kind {
        case .powerCut, .blackout: world.unplug(host)
        case .goodbye:
            guard world.network.isUp(host.index), !world.network.isFrozen(host.index) else { return world.kill(host) }
            host.daemon!.stop(at: world.now)
            world.drain(host)
            world.kill(host)
        default: world.kill(host)
        }
    }
    private func rise(_ trouble: Trouble, _ host: SimulatedHost, _ world: World) {
        down[host.index]! -= 1
        guard down[host.index] == 0 else { return }
        var port: UInt16?
        if case .crash(otherPort: true) = trouble.kind { port = host.endpoint.port + 1 }
        world.start(host, port: port)
        if still[host.index, default: 0] > 0 { world.freeze(host) }
    }
    /// What its elector says instead of what is due.
    func lie(of host: Int) -> Trouble.ElectorLie? {
        for number in active.sorted() where script.troubles[number].host == host {
            if case .lies(let lie) = script.troubles[number].kind { return lie }
        }
        return nil
    }
    private func dethrone(_ number: Int, _ begins: Bool, _ world: World) {
        if begins {
            guard let host = world.leader else { return }
            dethroned[number] = host.index
            fell(script.troubles[number], host, world)
        } else if let index = dethroned.removeValue(forKey: number) {
            rise(script.troubles[number], world.hosts[index], world)
            wellSince[index] = world.now
        }
    }
    /// Whether a process may begin there now.
    func mayStart(_ host: Int) -> Bool { down[host, default: 0] == 0 }
    private func keepStill(_ host: SimulatedHost, _ begins: Bool, _ world: World) {
        still[host.index, default: 0] += begins ? 1 : -1
        if begins { world.freeze(host) } else if still[host.index] == 0 { world.thaw(host) }
    }
    private func separate(_ trouble: Trouble, _ begins: Bool, _ world: World) {
        for pair in pairs(trouble, world) {
            let before = apart[pair, default: 0]
            apart[pair] = before + (begins ? 1 : -1)
            if begins, before == 0 { world.cut(from: pair.from, to: pair.to) }
            if !begins, before == 1 { world.mend(from: pair.from, to: pair.to) }
        }
    }
    /// Directed pairs between which nothing passes.
    private func pairs(_ trouble: Trouble, _ world: World) -> [Topology.Pair] {
        let all = world.hosts.indices
        var out: [Topology.Pair] = []
        for from in all {
            for to in all where to != from {
                let isApart =
                    switch trouble.kind {
                    case .cut, .sleep: from == trouble.host || to == trouble.host
                    case .deaf: to == trouble.host
                    case .mute: from == trouble.host
                    case .oneWay(let other): from == other && to == trouble.host
                    case .partition: (from <= trouble.host) != (to <= trouble.host)
                    default: false
                    }
                if isApart { out.append(Topology.Pair(from, to)) }
            }
        }
        return out
    }
    private func concerned(_ trouble: Trouble, _ world: World) -> [Int] {
        switch trouble.kind {
        case .partition, .blackout, .dethroned: return Array(world.hosts.indices)
        default: return [trouble.host]
        }
    }

    /// Lines as the troubles under way leave them.
    private func reshape(_ world: World) {
        var slow: [Int: Double] = [:]
        var loss: [Int: Double] = [:]
        var delay: [Int: Int] = [:]
        for number in active.sorted() {
            let trouble = script.troubles[number]
            switch trouble.kind {
            case .slowLine(let factor): slow[trouble.host, default: 1] *= factor
            case .loss(let share): loss[trouble.host] = max(share, loss[trouble.host] ?? 0)
            case .delay(let milliseconds): delay[trouble.host, default: 0] += milliseconds
            default: break
            }
        }
        for host in world.hosts.indices {
            let lines = world.topology.hosts[host]
            let factor = slow[host] ?? 1
            world.network.setAccess(
                of: host,
                AccessRates(
                    up: BitRate(bitsPerSecond: lines.up.bitsPerSecond / factor),
                    down: BitRate(bitsPerSecond: lines.down.bitsPerSecond / factor)))
            for other in world.hosts.indices where other != host {
                var link = world.topology.link(from: host, to: other)
                link.loss = max(link.loss, max(loss[host] ?? 0, loss[other] ?? 0))
                let more = Duration.milliseconds(delay[host, default: 0] + delay[other, default: 0])
                link.latency += more
                if more > .zero { link.jitter = max(link.jitter, more * 0.15) }
                world.network.setLink(from: host, to: other, link)
            }
        }
    }
    private func move(_ host: SimulatedHost, _ number: Int, _ world: World) {
        guard !world.topology.hasRouters else { return world.renumber(host) }
        world.move(
            host, to: Endpoint(ipv4: 10, 9, UInt8(number & 255), UInt8(host.index & 255), port: host.endpoint.port))
    }

    // MARK: what is asked of it

    /// The coordinator's process has ended without its job.
    /// - Returns: when its owner begins another; nil for never.
    func beginsAgain(after why: String, _ world: World) -> Duration? {
        if script.diverges, why.contains("diverged") {
            world.end = .failed(why)
            return nil
        }
        if let since = calmSince(world), world.now - since > bounds.settling {
            report(
                "the launcher gave up although all had been well for \((world.now - since).inSeconds) s: \(why)", world)
            return nil
        }
        launches += 1
        if world.hosts[world.coordinatorIndex].daemon?.coordinator?.state.plan != nil { abandoned += 1 }
        return .seconds(3)
    }
    func wrote(_ request: StorageRequest, _ outcome: StorageOutcome, _ host: SimulatedHost, at now: Instant) {
        if let number = host.disk?.written,
            let write = DiskWrite(request, host: host.name, number: number - 1, at: now.seconds)
        {
            writes.append(write)
        }
        keeping.wrote(request, host)
        guard case .entry(let job, let index, let envelope) = request, host.name == script.coordinatorName,
            case .stored = outcome
        else { return }
        memory.isDurable(job, index, envelope)
    }

    /// What a host says that its disk has, its disk has.
    func heard(_ event: Event, _ host: SimulatedHost, _ world: World) {
        if let problem = keeping.heard(event, host, world, self) { report(problem, world) }
        guard let disk = host.disk, !disk.hasBrokenItsWord else { return }
        let member = host.daemon?.member?.job?.id
        switch event.what {
        case .checkpointSaved(let round):
            guard let job = host.daemon?.coordinator?.job, !disk.holdsCheckpoint(round, of: job) else { return }
            report("\(host.name) says that the checkpoint of round \(round) is saved, and its disk has none", world)
        case .roundStartStored(let round, _):
            guard let member, !disk.holdsStart(round, of: member, isCopy: false) else { return }
            report("\(host.name) says that the start of round \(round) is stored, and its disk has none", world)
        case .copyStored(let round, _):
            guard let member, !disk.holdsStart(round, of: member, isCopy: true) else { return }
            report("\(host.name) says that a copy of round \(round) is stored, and its disk has none", world)
        default: break
        }
    }

    // MARK: looking

    func look(at world: World) {
        guard violation == nil else { return }
        for problem in StormChecks(world, self).problems() {
            report(problem, world)
            return
        }
        world.schedule(.look, at: world.now + .seconds(1))
    }
    func report(_ what: String, _ world: World) {
        guard violation == nil else { return }
        violation = "\(fixed(world.now.seconds, 2)) s: \(what)"
        world.end = .failed("storm: \(what)")
    }

    /// Since when nothing has been wrong anywhere; nil while something is.
    func calmSince(_ world: World) -> Instant? {
        active.isEmpty && script.calmFrom <= world.now.seconds ? Instant(seconds: script.calmFrom) : nil
    }
    /// Since when a host and the coordinator have both been well, and their processes run; nil while one of them is not.
    func wellSince(_ host: Int, _ world: World) -> Instant? {
        for number in active {
            let concerned = concerned(script.troubles[number], world)
            if concerned.contains(host) || concerned.contains(world.coordinatorIndex)
                || concerned.contains(world.bootstrapIndex)
            {
                return nil
            }
        }
        guard down[host, default: 0] == 0 else { return nil }
        return [host, world.coordinatorIndex, world.bootstrapIndex].map {
            max(wellSince[$0] ?? .zero, world.hosts[$0].startedAt)
        }.max()
    }
    /// - Returns: since when no process has led; nil where one leads.
    func lookForLeader(isThere: Bool, at now: Instant) -> Instant? {
        leaderlessSince = isThere ? nil : leaderlessSince ?? now
        return leaderlessSince
    }
    /// What is there for going on.
    func keep(_ world: World, _ coordinator: Coordinator?) -> String? { keeping.look(world, coordinator, self) }
    /// What was durable at the coordinator, or certified, against what is known now.
    func remember(_ world: World) -> String? {
        world.job.parameters.isCarriedByMany ? electors.check(world) : memory.check(world)
    }
}

/// What a storm asks of a world, in time and room.
public struct StormBounds: Hashable, Sendable {
    /// Whoever is well, as is the coordinator, for so long, is a member while the job trains.
    public var rejoining = Duration.seconds(40)
    /// The same, where it alone was away, with its process and its memory: it is found again by both sides.
    public var comingBack = Duration.seconds(6)
    /// When all is well everywhere, a round is sealed in this time.
    public var progress = Duration.seconds(80)
    /// When all is well everywhere, a checkpoint that is due is stored in this time, or it is said why not.
    public var checkpoint = Duration.seconds(60)
    /// When all is well everywhere, somebody leads in this time.
    public var electing = Duration.seconds(60)
    /// When all is well everywhere for so long, the launcher does not give up.
    public var settling = Duration.seconds(200)
    /// When all is well everywhere, the job is done after so long.
    public var ending = Duration.seconds(900)
    /// Members given up, in all.
    public var lossesMost = 1_000
    /// Events of all hosts in one second.
    public var eventsASecond = 1_000
    /// Arrivals of all hosts in one second.
    public var deliveriesASecond = 40_000
    public init() {}
}

/// What the coordinator's disk called durable.
struct StormMemory {
    private var job: Digest256?
    private var hashes: [Digest256] = []

    mutating func isDurable(_ job: Digest256, _ index: Int, _ envelope: PBEnvelope) {
        if self.job != job {
            self.job = job
            hashes = []
        }
        let hash = sha256([UInt8](envelope.body))
        if index == hashes.count {
            hashes.append(hash)
        } else if index < hashes.count, hashes[index] != hash {
            hashes = Array(hashes.prefix(index)) + [hash]
        }
    }
    /// What is wrong.
    func check(_ world: World) -> String? {
        let host = world.hosts[world.coordinatorIndex]
        guard world.network.isUp(host.index), host.disk?.hasBrokenItsWord != true,
            let coordinator = host.daemon?.coordinator
        else { return nil }
        let record = coordinator.record
        guard record.job == job else { return nil }
        guard record.length >= hashes.count else {
            return "the log has \(record.length) entries, and \(hashes.count) were durable"
        }
        guard let last = hashes.last, sha256([UInt8](record.envelopes[hashes.count - 1].body)) != last else {
            return nil
        }
        return "entry \(hashes.count - 1) of the log is another than the durable one"
    }
}
