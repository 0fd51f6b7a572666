import Consensus
import Primitives

/// What is broken here, for people: with the seed that shows it.
struct BrokenPromise: Error, CustomStringConvertible {
    let description: String
}

/// A world of electors, its network, disks and clock; and somebody who sees everything and compares.
struct ElectorWorld {
    struct Faults {
        /// Shares of messages.
        var loss = 0.0
        var duplication = 0.0
        /// One in so many is much later than the others.
        var straggling = 0.0
        /// Milliseconds of a message, and of a write.
        var delay: ClosedRange<Int> = 1...40
        var disk: ClosedRange<Int> = 1...20
        /// Milliseconds between two things that go wrong, on average; nil: nothing does.
        var every: Int?
        var mostVoters = 5
        static let none = Faults()
    }
    struct Machine {
        var elector: Elector?
        /// What is on its disk.
        var memory = ElectorMemory()
        var writes: [(write: ElectorWrite, done: Instant)] = []
        var diskBusyUntil = Instant.zero
        var frozenUntil = Instant.zero
        var process = 0
        /// Committed here, in this process.
        var committed = 0
        var vouched: LogEnd?
        var wakeAt: Instant?
    }
    private enum Happening {
        case message(ElectorMessage, from: Int, to: Int)
        case stored(Int, process: Int)
        case wake(Int, process: Int)
        case restart(Int)
        case trouble
        case proposal
    }

    let faults: Faults
    let options: Elector.Options
    let genesis: Electorate
    private(set) var machines: [Machine]
    private(set) var now = Instant.zero
    private var queue = TimedQueue<Happening>()
    private var generator: SeededGenerator
    /// Links that carry nothing, by sender and receiver.
    private var cut: Set<[Int]> = []
    var checker = ElectorChecker()
    private(set) var changesOfLeader = 0
    private(set) var proposed = 0
    private(set) var longestMessage = 0
    private(set) var mostEntries = 0
    /// Who was ever named an elector, and can prove it to whoever starts.
    private var named: [PeerID] = []
    /// Whether somebody proposes, changes voters and hands over now and then.
    var isBusy = true

    init(voters: Int, others: Int = 0, faults: Faults = .none, options: Elector.Options = .init(), seed: UInt64) {
        self.faults = faults
        self.options = options
        generator = SeededGenerator(seed: seed)
        genesis = Electorate(voters: (0..<voters).map { Self.peer($0) })!
        machines = Array(repeating: Machine(), count: voters + others)
        for index in machines.indices { start(index) }
        queue.push(.trouble, at: .zero + .seconds(8))
        queue.push(.proposal, at: .zero + .seconds(1))
    }

    static func peer(_ index: Int) -> PeerID { PeerID([UInt8](repeating: 0, count: 31) + [UInt8(index + 1)])! }
    static func index(_ peer: PeerID) -> Int { Int(peer.bytes[31]) - 1 }

    // MARK: running

    mutating func run(for duration: Duration) throws {
        let end = now + duration
        while let next = queue.next, next <= end {
            now = max(now, next)
            let happening = queue.popFirst()!
            try perform(happening)
        }
        now = end
    }

    private mutating func perform(_ happening: Happening) throws {
        switch happening {
        case .message(let message, let from, let to):
            guard machines[to].elector != nil else { return }
            if machines[to].frozenUntil > now { return queue.push(happening, at: machines[to].frozenUntil) }
            machines[to].elector!.receive(message, from: Self.peer(from), at: now)
            try drain(to)
        case .stored(let index, let process):
            guard machines[index].process == process, machines[index].elector != nil else { return }
            let (write, _) = machines[index].writes.removeFirst()
            try apply(write, to: index)
            machines[index].elector!.stored(write.ticket, at: now)
            try drain(index)
        case .wake(let index, let process):
            guard machines[index].process == process, machines[index].elector != nil else { return }
            if machines[index].frozenUntil > now { return queue.push(happening, at: machines[index].frozenUntil) }
            machines[index].wakeAt = nil
            machines[index].elector!.wake(at: now)
            try drain(index)
        case .restart(let index): if machines[index].elector == nil { start(index) }
        case .trouble:
            guard let every = faults.every else { return }
            try trouble()
            queue.push(.trouble, at: now + .milliseconds(1 + generator.below(2 * every)))
        case .proposal:
            if isBusy { try disturbLeaders() }
            queue.push(.proposal, at: now + .milliseconds(20 + generator.below(600)))
        }
    }

    /// - Parameter isBlank: nobody knows what it has acknowledged on a disk that is lost.
    mutating func start(_ index: Int, isBlank: Bool = false) {
        machines[index].process += 1
        machines[index].committed = 0
        machines[index].vouched = nil
        machines[index].wakeAt = nil
        machines[index].elector = Elector(
            Self.peer(index), genesis, memory: machines[index].memory, isBlank: isBlank, options: options,
            seed: generator.next(), at: now)
        for peer in named { machines[index].elector!.admit(peer) }
        rearm(index)
    }
    /// Of what was on its way to the disk some of the first writes are there.
    mutating func stand(_ index: Int, _ stands: Bool) throws {
        machines[index].elector!.stand(stands, at: now)
        try drain(index)
    }
    mutating func crash(_ index: Int) throws {
        guard machines[index].elector != nil else { return }
        machines[index].elector = nil
        let writes = machines[index].writes
        machines[index].writes = []
        machines[index].diskBusyUntil = now
        for (write, _) in writes.prefix(generator.below(writes.count + 1)) { try apply(write, to: index) }
    }

    private mutating func apply(_ write: ElectorWrite, to index: Int) throws {
        machines[index].memory.apply(write)
        try checker.stored(write, on: index, machines[index].memory)
    }

    private mutating func rearm(_ index: Int) {
        guard let due = machines[index].elector?.nextWake else { return }
        if let armed = machines[index].wakeAt, armed <= due { return }
        machines[index].wakeAt = due
        queue.push(.wake(index, process: machines[index].process), at: max(due, now))
    }

    mutating func drain(_ index: Int) throws {
        while let effect = machines[index].elector!.poll() {
            switch effect {
            case .send(let message, let peer): send(message, from: index, to: Self.index(peer))
            case .store(let write):
                let done =
                    max(now, machines[index].diskBusyUntil) + .milliseconds(1 + generator.below(faults.disk.upperBound))
                machines[index].diskBusyUntil = done
                machines[index].writes.append((write, done))
                queue.push(.stored(index, process: machines[index].process), at: done)
            case .leads(let term):
                changesOfLeader += 1
                try checker.leads(index, term, machines[index].elector!)
                propose(on: index)
            case .committed(let count):
                try checker.committed(count, on: index, machines)
                machines[index].committed = count
            case .mayFinish(let electorate):
                _ = try? machines[index].elector!.propose([7], electorate: electorate, at: now)
            case .follows, .received, .hasLost, .caughtUp: break
            }
        }
        try checker.look(at: &machines[index], index, genesis)
        rearm(index)
    }

    private mutating func send(_ message: ElectorMessage, from: Int, to: Int) {
        if case .append(_, let entries, _) = message.body {
            longestMessage = max(longestMessage, entries.reduce(0) { $0 + $1.body.count })
            mostEntries = max(mostEntries, entries.count)
        }
        guard !cut.contains([from, to]), generator.uniform() >= faults.loss else { return }
        let copies = generator.uniform() < faults.duplication ? 2 : 1
        for _ in 0..<copies {
            var delay = faults.delay.lowerBound + generator.below(faults.delay.count)
            if generator.uniform() < faults.straggling { delay += generator.below(4000) }
            queue.push(.message(message, from: from, to: to), at: now + .milliseconds(delay))
        }
    }

    // MARK: what is done to it

    mutating func propose(on index: Int) {
        proposed += 1
        let body = (0..<4).map { UInt8(truncatingIfNeeded: proposed >> (8 * $0)) }
        _ = try? machines[index].elector!.propose(body, at: now)
    }

    mutating func propose(_ body: [UInt8], electorate: (Electorate) -> Electorate?, on index: Int) throws {
        let next = electorate(machines[index].elector!.electorate)
        try machines[index].elector!.propose(body, electorate: next, at: now)
        try drain(index)
    }
    mutating func prepare(_ peers: [PeerID], on index: Int) throws {
        machines[index].elector!.prepare(peers, at: now)
        try drain(index)
    }
    mutating func admit(_ peer: PeerID, to index: Int) { machines[index].elector!.admit(peer) }

    var leaders: [Int] { machines.indices.filter { machines[$0].elector?.isLeading == true } }
    /// The leader of the newest term.
    var leader: Int? { leaders.max { machines[$0].elector!.term < machines[$1].elector!.term } }

    private mutating func disturbLeaders() throws {
        for index in leaders {
            for _ in 0...generator.below(3) { propose(on: index) }
            switch faults.every == nil ? 9 : generator.below(30) {
            case 0: machines[index].elector!.handOver(at: now)
            case 3:
                let peers = machines.indices.filter { _ in generator.below(2) == 0 }.map { Self.peer($0) }
                machines[index].elector!.prepare(peers, at: now)
                // Whoever leads has proved to be an elector.
                for other in machines.indices where other != index {
                    machines[other].elector?.admit(Self.peer(index))
                }
            case 1, 2:
                var peers = machines.indices.map { Self.peer($0) }
                generator.shuffle(&peers)
                let count = 1 + generator.below(min(faults.mostVoters, peers.count))
                let learners = peers.dropFirst(count).prefix(generator.below(3))
                if let next = machines[index].elector!.electorate.changing(
                    to: Array(peers.prefix(count)), learners: Array(learners))
                {
                    _ = try? machines[index].elector!.propose([1], electorate: next, at: now)
                    // Whoever is named may prove it to all.
                    named += next.everybody.filter { !named.contains($0) }
                    for other in machines.indices {
                        for peer in next.everybody { machines[other].elector?.admit(peer) }
                    }
                }
            default: break
            }
            try drain(index)
        }
    }

    private mutating func trouble() throws {
        let victim = generator.below(machines.count)
        switch generator.below(9) {
        case 0, 1:
            try crash(victim)
            queue.push(.restart(victim), at: now + .milliseconds(generator.below(15_000)))
        case 2:
            // All at once: the power fails.
            guard generator.below(4) == 0 else { return }
            for index in machines.indices {
                try crash(index)
                queue.push(.restart(index), at: now + .milliseconds(generator.below(3000)))
            }
        case 3: machines[victim].diskBusyUntil = now + .milliseconds(generator.below(8000))
        case 4: machines[victim].frozenUntil = now + .milliseconds(generator.below(9000))
        case 5: for other in machines.indices { cutLink(from: victim, to: other) }
        case 6: for other in machines.indices { cutLink(from: other, to: victim) }
        case 7:
            let side = machines.indices.filter { _ in generator.below(2) == 0 }
            for a in side { for b in machines.indices where !side.contains(b) { cutLink(from: a, to: b) } }
            if generator.below(2) == 0 {
                for a in side { for b in machines.indices where !side.contains(b) { cutLink(from: b, to: a) } }
            }
        default: cut = []
        }
    }
    mutating func cutLink(from: Int, to: Int) { cut.insert([from, to]) }
    mutating func healLinks() { cut = [] }
    mutating func stallDisk(of index: Int, for duration: Duration) { machines[index].diskBusyUntil = now + duration }
    mutating func handOver(from index: Int) throws {
        machines[index].elector!.handOver(at: now)
        try drain(index)
    }

    /// For people: how each machine stands.
    var picture: String {
        machines.indices.map { index in
            guard let elector = machines[index].elector else { return "\(index) down" }
            let names = { (peers: [PeerID]) in peers.map { String(Self.index($0)) }.joined(separator: ",") }
            return
                "\(index)\(elector.isLeading ? "*" : "") term \(elector.term), \(elector.committed) of \(elector.durable) of "
                + "\(elector.entries.count), leader \(elector.leader.map { String(Self.index($0)) } ?? "-"), voters "
                + "\(names(elector.electorate.voters)) before \(names(elector.electorate.outgoing)) learners "
                + "\(names(elector.electorate.learners)), \(elector.counts)"
        }.joined(separator: "\n")
    }

    /// Everything works again: whoever is an elector is up.
    func healed() -> ElectorWorld {
        var world = ElectorWorld(copying: self, faults: .none)
        world.healLinks()
        for index in world.machines.indices where world.machines[index].elector == nil { world.start(index) }
        return world
    }
    private init(copying other: ElectorWorld, faults: Faults) {
        self.faults = faults
        options = other.options
        genesis = other.genesis
        machines = other.machines
        now = other.now
        queue = other.queue
        generator = other.generator
        checker = other.checker
        changesOfLeader = other.changesOfLeader
        proposed = other.proposed
        named = other.named
        isBusy = false
    }
}

/// Sees all machines at once, and says what none of them may do.
struct ElectorChecker {
    private var leaders: [Int: Int] = [:]
    /// What is for ever.
    private(set) var history: [ReplicatedEntry] = []
    /// The term in which each entry was.
    private var committedIn: [Int] = []
    /// What a log says up to an entry, by the entry's index and term.
    private var logs: [[Int]: Int] = [:]
    private var vouchers: [[Int]: Set<Int>] = [:]
    private(set) var certified: [Int: (term: Int, print: Int)] = [:]
    private var prints: [Int: [Int]] = [:]
    private var hasChanges = false

    private static func print(_ before: Int, _ entry: ReplicatedEntry) -> Int {
        var hash = before &* 31 &+ entry.term
        for byte in entry.body { hash = (hash ^ Int(byte)) &* 0x100_0000_01B3 }
        return hash &+ entry.body.count
    }

    mutating func leads(_ index: Int, _ term: Int, _ elector: Elector) throws {
        if let other = leaders.updateValue(index, forKey: term), other != index {
            throw BrokenPromise(description: "\(other) and \(index) lead in term \(term)")
        }
        // A late majority for an old term is no harm: newer terms may have gone on.
        let owed = committedIn.prefix { $0 < term }.count
        guard elector.entries.count >= owed, elector.entries[..<owed] == history[..<owed] else {
            throw BrokenPromise(description: "\(index) leads in term \(term) without all that was committed")
        }
    }

    /// Two logs with the same entry at a place are the same up to there.
    mutating func stored(_ write: ElectorWrite, on index: Int, _ memory: ElectorMemory) throws {
        guard let change = write.change else { return }
        var known = prints[index] ?? []
        known.removeSubrange(min(known.count, change.from)...)
        for (place, entry) in zip(change.from..., change.entries) {
            let print = Self.print(known.last ?? 0, entry)
            known.append(print)
            if entry.electorate != nil { hasChanges = true }
            if let other = logs.updateValue(print, forKey: [place, entry.term]), other != print {
                throw BrokenPromise(description: "two logs differ before entry \(place) of term \(entry.term)")
            }
        }
        prints[index] = known
        guard known.count == memory.entries.count else { throw BrokenPromise(description: "a write left a gap") }
    }

    mutating func committed(_ count: Int, on index: Int, _ machines: [ElectorWorld.Machine]) throws {
        let elector = machines[index].elector!
        guard count > machines[index].committed, count <= machines[index].memory.entries.count else {
            throw BrokenPromise(description: "\(index) commits \(count) entries that are not durable, or not new")
        }
        let shared = min(count, history.count)
        guard
            elector.entries[machines[index].committed..<max(shared, machines[index].committed)]
                == history[machines[index].committed..<max(shared, machines[index].committed)]
        else { throw BrokenPromise(description: "\(index) commits other entries than were committed") }
        guard count > history.count else { return }
        committedIn += Array(repeating: elector.term, count: count - history.count)
        history += elector.entries[history.count..<count]
        let last = history[count - 1]
        let isStored = elector.electorate.decides { peer in
            let entries = machines[ElectorWorld.index(peer)].memory.entries
            return entries.count >= count && entries[count - 1] == last
        }
        guard isStored else { throw BrokenPromise(description: "entry \(count - 1) was committed without a quorum") }
    }

    /// After every input of a machine.
    mutating func look(at machine: inout ElectorWorld.Machine, _ index: Int, _ genesis: Electorate) throws {
        let elector = machine.elector!
        guard elector.committed <= elector.durable, elector.durable <= elector.entries.count,
            elector.durable <= machine.memory.entries.count
        else { throw BrokenPromise(description: "\(index) takes for durable what is not") }
        guard elector.counts.contradictions == 0, elector.counts.unsound == 0 else {
            throw BrokenPromise(description: "an honest elector was taken for a liar by \(index)")
        }
        guard let end = elector.vouchable, end != machine.vouched else { return }
        machine.vouched = end
        let print = prints[index]![end.count - 1]
        let key = [end.count, end.term, print]
        vouchers[key, default: []].insert(index)
        let electorate =
            hasChanges ? elector.entries[..<end.count].last { $0.electorate != nil }?.electorate ?? genesis : genesis
        guard electorate.decides({ vouchers[key]!.contains(ElectorWorld.index($0)) }) else { return }
        if let other = certified.updateValue((end.term, print), forKey: end.count), other != (end.term, print) {
            throw BrokenPromise(description: "two certificates for \(end.count) entries")
        }
    }

    /// At the end: what was certified is what was committed.
    func finish() throws {
        var print = 0
        for (place, entry) in history.enumerated() {
            print = Self.print(print, entry)
            if let other = certified[place + 1], other.print != print {
                throw BrokenPromise(description: "\(place + 1) entries were certified, and others committed")
            }
        }
    }
}
