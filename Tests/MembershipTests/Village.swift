import Channels
import Content
import Digests
import Exchange
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// Some members with real engines, a naive leader, and everything between them on its way: a generator decides what arrives next. What
/// travels on one channel between two stays in order, as do an engine's jobs and a disk's writes.
final class Village {
    struct Line: Hashable, Comparable {
        var from: PeerID
        var to: PeerID
        var channel: Channel
        static func < (a: Line, b: Line) -> Bool { (a.from, a.to, a.channel) < (b.from, b.to, b.channel) }
    }
    struct Resident {
        var member: Member
        var engine = StageEngine(corpus: [], threads: 1)
        var jobs = EffectQueue<ComputeJob>()
        var disk = EffectQueue<StorageRequest>()
        var stored: [StorageRequest] = []
        /// Round starts, as bytes.
        var starts: [StartName: [UInt8]] = [:]
        var events: [Happening] = []
        var connected: [PeerID] = []
        var sought: [PeerID] = []
        var isGone = false
        /// Its engine answers nothing.
        var isStuck = false
    }
    var leader: NaiveLeader
    private(set) var residents: [PeerID: Resident] = [:]
    private var mail: [Line: EffectQueue<Packet>] = [:]
    private(set) var now = Instant.zero
    private var generator: SeededGenerator
    private let parameters: JobParameters
    private var nextLease = Instant.zero
    /// Packets for which this says no are lost.
    var delivers: (Line, Packet) -> Bool = { _, _ in true }
    private(set) var steps = 0
    /// Whether disks let go of round starts that are not to stay.
    var prunes = false

    init(_ parameters: JobParameters, leader: NaiveLeader? = nil, seed: UInt64) throws {
        self.parameters = parameters
        self.leader = try leader ?? NaiveLeader(parameters)
        generator = SeededGenerator(seed: seed, stream: 77)
    }

    static func terms(_ name: String, memory: ByteCount = .mebibytes(64), accepts: [PeerID]) -> MemberTerms {
        MemberTerms(name: name, device: "cpu", memory: memory, accepts: accepts)
    }
    func add(_ number: Int, memory: ByteCount = .mebibytes(64)) {
        let parameters = self.parameters
        let starts = (residents[Small.peer(number)]?.starts ?? [:]).filter {
            (try? RoundStart(decoding: $0.value)) != nil
        }
        let stages = starts.keys.sorted().map { name in
            KeptStage(try! RoundStart(decoding: starts[name]!))
        }
        let member = Member(
            key: Small.key(number),
            terms: Self.terms("peer-\(number)", memory: memory, accepts: [leader.record.electors[0]]),
            remains: MemberRemains(
                jobs: stages.isEmpty ? [] : [MemberRemains.Job(job: leader.record.job, stages: stages)]),
            wall: WallClock(seconds: 1_000_000, at: now), at: now, parse: { _ in parameters })
        let starts0 = residents[Small.peer(number)]?.starts ?? [:]
        residents[Small.peer(number)] = Resident(member: member)
        residents[Small.peer(number)]!.starts = starts0
        drain(Small.peer(number))
    }
    /// Changes what is on a member's disk.
    func tamper(_ number: Int, _ change: (inout [Int: [UInt8]]) -> Void) {
        var own = starts(number)
        change(&own)
        residents[Small.peer(number)]!.starts = residents[Small.peer(number)]!.starts.filter(\.key.isCopy)
        for (round, bytes) in own { residents[Small.peer(number)]!.starts[StartName(round: round)] = bytes }
    }
    func setRoom(_ number: Int, _ room: DiskRoom) { residents[Small.peer(number)]!.member.count(room: room) }
    /// Of its own stage, by round.
    func starts(_ number: Int) -> [Int: [UInt8]] {
        var out: [Int: [UInt8]] = [:]
        for (name, bytes) in residents[Small.peer(number)]!.starts where !name.isCopy { out[name.round] = bytes }
        return out
    }
    /// Of others' units.
    func copies(_ number: Int) -> [StartName: [UInt8]] {
        residents[Small.peer(number)]!.starts.filter(\.key.isCopy)
    }
    func member(_ number: Int) -> Member { residents[Small.peer(number)]!.member }
    func events(_ number: Int) -> [Happening] { residents[Small.peer(number)]!.events }
    func engine(_ number: Int) -> StageEngine { residents[Small.peer(number)]!.engine }
    /// Its owner has it leave when the round is over.
    func drain(_ number: Int, by limit: Duration) {
        residents[Small.peer(number)]!.member.leaveByOwner(by: now + limit, at: now)
        drain(Small.peer(number))
    }
    /// Its owner wants the processor: long jobs are not done until it has left, as its driver does it.
    func yield(_ number: Int, by limit: Duration) {
        residents[Small.peer(number)]!.member.yieldByOwner(by: now + limit, at: now)
        drain(Small.peer(number))
    }
    /// It computes nothing for the moment.
    func hold(_ number: Int) {
        residents[Small.peer(number)]!.member.holdByOwner(at: now)
        drain(Small.peer(number))
    }
    func resume(_ number: Int) {
        residents[Small.peer(number)]!.member.resumeByOwner(at: now)
        drain(Small.peer(number))
    }
    func stick(_ number: Int, _ isStuck: Bool) { residents[Small.peer(number)]!.isStuck = isStuck }
    /// It is off: nothing reaches it, nothing comes of it.
    func kill(_ number: Int) {
        let peer = Small.peer(number)
        residents[peer]!.isGone = true
        for other in residents.keys.sorted() where other != peer { lose(peer, at: other) }
    }
    private func lose(_ peer: PeerID, at other: PeerID) {
        residents[other]!.member.lost(peer, at: now)
        drain(other)
    }
    /// Their session is over, with what was on its way, and another one begins.
    func startAnew(_ a: Int, _ b: Int) {
        lose(Small.peer(a), at: Small.peer(b))
        lose(Small.peer(b), at: Small.peer(a))
        reconnect(a, b)
    }
    func reconnect(_ a: Int, _ b: Int) {
        for (one, other) in [(Small.peer(a), Small.peer(b)), (Small.peer(b), Small.peer(a))] {
            residents[one]?.member.established(other, endpoint: Small.endpoint(1), at: now)
            if residents[one] != nil { drain(one) }
        }
    }

    // MARK: what happens

    private func drain(_ peer: PeerID) {
        guard residents[peer]?.isGone == false else { return }
        while let effect = residents[peer]!.member.poll() {
            switch effect {
            case .send(let packet, let to): post(packet, from: peer, to: to)
            case .compute(let job): residents[peer]!.jobs.push(job)
            case .corpus(let text): residents[peer]!.engine = StageEngine(corpus: text.array, threads: 1)
            case .store(let request): residents[peer]!.disk.push(request)
            case .event(let event): residents[peer]!.events.append(event.what)
            case .connect(let other, _): residents[peer]!.connected.append(other)
            case .seek(let other): residents[peer]!.sought.append(other)
            case .uplink: break
            }
        }
    }
    private func post(_ packet: Packet, from: PeerID, to: PeerID) {
        let line = Line(from: from, to: to, channel: packet.message.channel)
        guard delivers(line, packet) else { return }
        mail[line, default: EffectQueue()].push(packet)
    }
    func drainLeader() {
        for (packet, to) in leader.takeOutbox() { post(packet, from: leader.key.peerID, to: to) }
    }

    /// One thing that may happen next; false when only time is left.
    private func happen() throws -> Bool {
        let lines = mail.keys.filter { !mail[$0]!.isEmpty }.sorted()
        let busy = residents.keys.filter {
            let resident = residents[$0]!
            return !resident.isGone && !resident.isStuck && !resident.jobs.isEmpty
        }.sorted()
        let writing = residents.keys.filter { !residents[$0]!.isGone && !residents[$0]!.disk.isEmpty }.sorted()
        guard lines.count + busy.count + writing.count > 0 else { return false }
        var choice = generator.below(lines.count + busy.count + writing.count)
        now += .microseconds(100)
        if choice < lines.count {
            let line = lines[choice]
            let packet = mail[line]!.pop()!
            if line.to == leader.key.peerID {
                if !leader.isSilent { try leader.receive(packet, from: line.from, at: now) }
            } else if residents[line.to]?.isGone == false {
                residents[line.to]!.member.receive(packet, from: line.from, endpoint: nil, at: now)
                drain(line.to)
            }
            return true
        }
        choice -= lines.count
        if choice < busy.count {
            let peer = busy[choice]
            let job = residents[peer]!.jobs.pop()!
            // A benchmark is as long as its member wants it; nothing is computed for it.
            let isBenchmark = job.timed != nil
            if isBenchmark { now += .milliseconds(200) }
            let isLeftOut = job.isOfTokens && residents[peer]!.member.isYieldingByOwner
            let result: ComputeResult =
                isLeftOut ? .refused("left out") : isBenchmark ? .done : residents[peer]!.engine.perform(job)
            residents[peer]!.member.computed(result, at: now)
            drain(peer)
        } else {
            let peer = writing[choice - busy.count]
            let request = residents[peer]!.disk.pop()!
            residents[peer]!.stored.append(request)
            residents[peer]!.member.stored(request.ticket, write(request, of: peer), at: now)
            drain(peer)
        }
        return true
    }

    private func write(_ request: StorageRequest, of peer: PeerID) -> StorageOutcome {
        switch request {
        case .roundStart(let start, let retaining):
            if prunes { residents[peer]!.starts = residents[peer]!.starts.filter { retaining.contains($0.key) } }
            residents[peer]!.starts[start.name] = start.encoded!
        case .readRoundStart(_, let name):
            guard let bytes = residents[peer]!.starts[name], let start = try? RoundStart(decoding: bytes) else {
                return .failed("damaged")
            }
            return .read(VerifiedRoundStart(start))
        case .eraseRoundStarts(_, let after):
            residents[peer]!.starts = residents[peer]!.starts.filter { $0.key.round <= after }
        default: break
        }
        return .stored(path: "")
    }

    /// Lets things happen, and time pass, until the condition holds.
    /// - Returns: whether it does.
    func run(for limit: Duration = .seconds(600), until isDone: (Village) -> Bool) throws -> Bool {
        let end = now + limit
        drainLeader()
        while !isDone(self) {
            steps += 1
            if nextLease <= now {
                nextLease = now + .seconds(2)
                leader.lease()
            }
            drainLeader()
            if try happen() {
                drainLeader()
                continue
            }
            guard let next = residents.values.filter({ !$0.isGone }).compactMap(\.member.nextWake).min(), next <= end
            else {
                return false
            }
            now = max(now, next)
            for peer in residents.keys.sorted() where !residents[peer]!.isGone {
                guard let wake = residents[peer]!.member.nextWake, wake <= now else { continue }
                residents[peer]!.member.wake(at: now)
                drain(peer)
            }
        }
        return true
    }

    // MARK: a job

    /// Members that have accepted, are in the log, and hold the text.
    func gather(_ numbers: [Int]) throws -> Bool {
        for number in numbers {
            if residents[Small.peer(number)] == nil { add(number) }
            leader.offer(to: Small.peer(number))
        }
        guard
            try run(until: { village in
                numbers.allSatisfy { village.leader.answers[Small.peer($0)].map { $0.refusal == nil } ?? false }
            })
        else { return false }
        try leader.join(numbers)
        return try run(until: { village in
            numbers.allSatisfy { village.leader.readiness[Small.peer($0)]?.hasText == true }
        })
    }
    func plan(_ plan: PlacedPlan, rolledBack: Bool = false) throws {
        try leader.propose(.plan(PlanChange(plan, reason: "test", rolledBack: rolledBack)))
    }
    func train(until round: Int) throws -> Bool {
        try run(until: { $0.leader.state.isAgreed(round) && $0.leader.state.round >= round })
    }
    func roots(_ round: Int) -> [Int: UnitRoots] { leader.state.agreed[round] ?? [:] }
}
