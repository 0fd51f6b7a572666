import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Training
import Wire

@Suite struct `The engine's desk` {
    /// What it should do, as a list.
    private struct Model {
        var pending: [(purpose: EngineDesk.Purpose, generation: Int, isDiscarded: Bool)] = []
        var waiting: [(job: ComputeJob, purpose: EngineDesk.Purpose, generation: Int)] = []
        var generation = 0
        var isPaused = false

        static func outlives(_ purpose: EngineDesk.Purpose) -> Bool {
            switch purpose {
            case .benchmark, .rehearsal, .housekeeping, .export, .keep, .exchange: true
            case .runner, .configured, .imported, .catchUp, .digests: false
            }
        }
    }
    private static let purposes: [EngineDesk.Purpose] = [
        .benchmark, .rehearsal, .housekeeping, .runner, .configured(recomputes: true), .imported(recomputes: false),
        .catchUp(round: 3), .digests(round: 4), .export(units: 0..<2, round: 5),
        .keep(round: 5, epoch: 1, rank: 1, share: [2, 3]),
        .exchange(.check(WorkKey(round: 1, rank: 2, attempt: 3))),
    ]

    /// A round that was taken back: its export comes, and is nobody's, whether it is under way or waits here.
    @Test func `forgets exports of rounds that were taken back, in order`() {
        var desk = EngineDesk()
        func submit(_ round: Int) {
            desk.submit(
                .exportState(units: 0..<2, includeMoments: true), .export(units: 0..<2, round: round), at: .zero)
        }
        for round in [4, 5, 6] { submit(round) }
        desk.pause()
        for round in [7, 3] { submit(round) }
        desk.forgetExports(after: 4)
        desk.resume(at: .zero)
        submit(5)
        let purposes = (0..<6).map { _ in desk.answered(.state([]), at: .zero)?.purpose }
        let kept = [4, nil, nil, nil, 3, 5].map { round in
            round.map { EngineDesk.Purpose.export(units: 0..<2, round: $0) } ?? .housekeeping
        }
        #expect(purposes == kept)
    }

    /// Desk and model side by side, and what the desk should hand to the engine next.
    private struct Pair {
        var desk = EngineDesk()
        var model = Model()
        var number = 0
        var handed: [ComputeJob] = []

        mutating func submit(_ purpose: EngineDesk.Purpose, at now: Instant) {
            number += 1
            let job = ComputeJob.benchmark(flops: Double(number))
            desk.submit(job, purpose, at: now)
            if model.isPaused {
                model.waiting.append((job, purpose, model.generation))
            } else {
                model.pending.append((purpose, model.generation, false))
                handed.append(job)
            }
        }
        mutating func answer(at now: Instant) {
            let answer = desk.answered(.loss(Float(number)), at: now)
            guard !model.pending.isEmpty else {
                #expect(answer == nil)
                return
            }
            let first = model.pending.removeFirst()
            let counts =
                first.purpose == .benchmark
                || !first.isDiscarded && (first.generation == model.generation || Model.outlives(first.purpose))
            #expect((answer != nil) == counts)
            if let answer { #expect(answer.purpose == first.purpose && answer.took >= .zero) }
        }
        mutating func pauseOrResume(at now: Instant) {
            if model.isPaused {
                desk.resume(at: now)
                for item in model.waiting {
                    model.pending.append((item.purpose, item.generation, false))
                    handed.append(item.job)
                }
                model.waiting = []
            } else {
                desk.pause()
            }
            model.isPaused.toggle()
        }
        mutating func discard() {
            desk.discard()
            model.pending = model.pending.map { ($0.purpose, $0.generation, true) }
            model.waiting = []
            model.isPaused = false
            model.generation += 1
        }
        mutating func compare() {
            while let job = desk.poll() {
                #expect(job == handed.first)
                if !handed.isEmpty { handed.removeFirst() }
            }
            #expect(handed.isEmpty)
            #expect(desk.isBusy == !model.pending.isEmpty)
            #expect(desk.isPaused == model.isPaused)
        }
    }

    @Test(arguments: 0..<40 as Range<UInt64>)
    func `matches answers in order, and knows which still count`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed, stream: 9)
        var pair = Pair()
        var now = Instant.zero
        for _ in 0..<400 {
            now += .milliseconds(Int64(generator.below(5)))
            switch generator.below(12) {
            case 0..<5: pair.submit(Self.purposes[generator.below(Self.purposes.count)], at: now)
            case 5..<9: pair.answer(at: now)
            case 9:
                pair.desk.void()
                pair.model.generation += 1
            case 10: pair.pauseOrResume(at: now)
            default: if generator.below(6) == 0 { pair.discard() }
            }
            pair.compare()
        }
    }

    @Test func `measures an engine's own time, not that of a queue`() {
        var desk = EngineDesk()
        desk.submit(.digests, .housekeeping, at: .zero)
        desk.submit(.digests, .runner, at: .zero)
        #expect(desk.answered(.done, at: .zero + .seconds(3))?.took == .seconds(3))
        #expect(desk.answered(.done, at: .zero + .seconds(5))?.took == .seconds(2))
        desk.submit(.digests, .runner, at: .zero + .seconds(9))
        #expect(desk.answered(.done, at: .zero + .seconds(10))?.took == .seconds(1))
    }
}

@Suite struct `A benchmark` {
    private func run(_ speed: Double) -> (works: [Double], speed: Double?) {
        var benchmark = Benchmark()
        var works: [Double] = []
        while let work = benchmark.work {
            works.append(work)
            guard works.count < 100 else { break }
            _ = benchmark.finished(in: .nanoseconds(Int64(work / speed * 1e9)))
        }
        return (works, benchmark.speed)
    }

    @Test(arguments: [1e8, 1e9, 4e9, 2e10, 2e11, 1e13])
    func `is never shorter than it was, and long enough to be believed`(speed: Double) throws {
        let (works, found) = run(speed)
        #expect(Array(works.prefix(2)) == [Benchmark.flops / 8, Benchmark.flops])
        #expect(abs(try #require(found) / speed - 1) < 0.01)
        #expect(works.last! / speed >= 0.1 || works.last! >= 1e12)
        #expect(works.reduce(0, +) / speed < max(1, 1.2 * Benchmark.flops / speed))
    }
    /// Eight times the warm-up would take a device of 6 MFLOP/s a minute, and it would not be a member for so long.
    @Test(arguments: [1e5, 6e6, 4e7]) func `asks a very slow device for little more than its warm-up`(speed: Double)
        throws
    {
        let (works, found) = run(speed)
        #expect(works.count == 2 && works[1] / speed >= 0.1)
        #expect(works.reduce(0, +) / speed < Benchmark.flops / 8 / speed + 0.2)
        #expect(abs(try #require(found) / speed - 1) < 0.01)
    }
    /// A machine that does something else for a moment, at any moment, is no slower for that.
    @Test(arguments: 0..<12) func `in pieces says what most of them say`(disturbed: Int) throws {
        var benchmark = Benchmark(pieces: 9)
        var works: [Double] = []
        while let work = benchmark.work {
            let isDisturbed = (disturbed..<disturbed + 2).contains(works.count)
            works.append(work)
            _ = benchmark.finished(in: .nanoseconds(Int64(work * (isDisturbed ? 5 : 1) / 20)))
        }
        #expect(abs(try #require(benchmark.speed) / 2e10 - 1) < 1e-6, "\(works)")
        #expect(works.count <= 16)
    }
    @Test func `in pieces ends where they are long`() throws {
        var benchmark = Benchmark(pieces: 9, speed: 1e9)
        var spent = 0.0
        while let work = benchmark.work {
            spent += work / 2e7
            _ = benchmark.finished(in: .nanoseconds(Int64(work / 2e7 * 1e9)))
        }
        #expect(spent < 8)
        #expect(abs(try #require(benchmark.speed) / 2e7 - 1) < 1e-6)
    }
    @Test func `ends although no time passes`() {
        var benchmark = Benchmark()
        var rounds = 0
        while benchmark.work != nil, rounds < 50 {
            rounds += 1
            _ = benchmark.finished(in: .zero)
        }
        #expect(rounds < 20)
        #expect(benchmark.speed! <= 1e18)
    }
}

@Suite struct `Allegiance of a member` {
    private let electors = [Small.peer(1), Small.peer(2), Small.peer(3)]

    /// Every command there is, against what is known: brute force.
    @Test func `is to the newest term of an elector`() {
        for term in 0..<5 {
            for newest in 0..<5 {
                for command in 0..<6 {
                    for sender in 1...4 {
                        var allegiance = Allegiance(
                            electors: electors, leader: Small.peer(1), term: term, until: .zero)
                        let verdict = allegiance.hear(term: command, from: Small.peer(sender), newest: newest)
                        let expected: Allegiance.Verdict
                        if sender == 4 {
                            expected = .stranger
                        } else if command < term || command < newest {
                            expected = .stale
                        } else if command > term {
                            expected = .newLeader
                        } else {
                            expected = sender == 1 ? .obeyed : .stale
                        }
                        #expect(verdict == expected)
                        let isNew = expected == .newLeader
                        #expect(allegiance.leader == (isNew ? Small.peer(sender) : Small.peer(1)))
                        #expect(allegiance.term == (isNew ? command : term))
                    }
                }
            }
        }
    }
}

@Suite struct `A desk for the log` {
    private func follower(_ script: Script) throws -> LogDesk {
        LogDesk(try Record(genesis: script.record.envelopes[0]) { _ in Small.parameters() })
    }
    private struct Said {
        var asks: [Int] = []
        var stores: [Int] = []
        var events: [Happening] = []
    }
    private func drain(_ desk: inout LogDesk) -> Said {
        var said = Said()
        while let effect = desk.poll() {
            switch effect {
            case .ask(let from): said.asks.append(from)
            case .store(.entry(_, let index, _)): said.stores.append(index)
            case .store(let request): Issue.record("\(request)")
            case .event(let what, _): said.events.append(what)
            }
        }
        return said
    }
    private func script() throws -> Script {
        var script = try Script()
        try script.join([1, 2, 3])
        try script.plan(Small.plan([[1], [2], [3]]))
        for _ in 0..<6 { try script.seal([0, 1, 2]) }
        return script
    }

    /// Any pieces, any order, twice or never: it ends with the whole log, and asks for what is missing.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `ends with the whole log whatever comes first`(seed: UInt64) throws {
        let script = try script()
        let all = script.record.envelopes
        var generator = SeededGenerator(seed: seed, stream: 4)
        var desk = try follower(script)
        var now = Instant.zero
        var folded: [Entry] = []
        #expect(drain(&desk).stores == [0])
        var stored = [0]
        // Entries that there are, as far as it has been told by somebody who knows.
        var claimed = 1
        for _ in 0..<300 where desk.record.length < all.count {
            now += .milliseconds(Int64(generator.below(900)))
            let first = generator.below(all.count)
            let end = min(all.count, first + 1 + generator.below(3))
            let before = desk.record.length
            if generator.below(3) > 0 {
                folded += desk.receive(
                    LogEntries(Array(all[first..<end]), length: all.count), from: Small.peer(2), isLeader: false,
                    at: now)
                claimed = max(claimed, first > before ? first + 1 : end)
            } else {
                desk.wake(at: now)
            }
            let said = drain(&desk)
            #expect(said.events.isEmpty)
            #expect(said.asks.allSatisfy { $0 == desk.record.length })
            #expect(said.stores == Array(before..<desk.record.length))
            stored += said.stores
            // The leader answers what was asked of it, sometimes.
            if let from = said.asks.last, generator.below(2) == 0 {
                folded += desk.receive(
                    LogEntries(Array(all[from..<min(all.count, from + 2)]), length: all.count),
                    from: Small.launcher.peerID, isLeader: true, at: now)
                stored += drain(&desk).stores
                claimed = all.count
            }
            // What is missing has been asked for, and will be again; nothing else is.
            #expect((desk.nextWake != nil) == (claimed > desk.record.length))
        }
        #expect(desk.record.envelopes == all)
        #expect(folded.count == all.count - 1)
        #expect(stored == Array(0..<all.count))
        #expect(desk.record.state.round == script.state.round)
    }

    @Test func `asks the leader when its log is longer, and again in time`() throws {
        var desk = try follower(try script())
        _ = drain(&desk)
        desk.hear(length: 5, at: .zero)
        #expect(drain(&desk).asks == [1])
        desk.hear(length: 5, at: .zero + .seconds(1))
        #expect(drain(&desk).asks == [])
        #expect(desk.nextWake == Instant.zero + LogDesk.patience)
        desk.wake(at: .zero + LogDesk.patience)
        #expect(drain(&desk).asks == [1])
        // Another leader has not claimed anything.
        desk.changeLeader(at: .zero + .seconds(3))
        #expect(desk.nextWake == nil)
        desk.wake(at: .zero + .seconds(9))
        #expect(drain(&desk).asks == [])
    }

    @Test func `a member's word on the length of the log is not believed, a signed entry is`() throws {
        let script = try script()
        var desk = try follower(script)
        _ = drain(&desk)
        _ = desk.receive(LogEntries([], length: 1 << 30), from: Small.peer(2), isLeader: false, at: .zero)
        #expect(drain(&desk).asks == [])
        _ = desk.receive(
            LogEntries([script.record.envelopes[4]], length: 5), from: Small.peer(2), isLeader: false, at: .zero)
        #expect(drain(&desk).asks == [1])
    }

    @Test func `an entry that does not hold changes nothing and is said`() throws {
        let script = try script()
        var desk = try follower(script)
        _ = drain(&desk)
        var broken = script.record.envelopes[1]
        broken.epoch += 1
        let fresh = desk.receive(
            LogEntries([broken] + Array(script.record.envelopes[1...]), length: 9), from: Small.peer(2),
            isLeader: false,
            at: .zero)
        #expect(fresh.isEmpty)
        #expect(desk.record.length == 1)
        let said = drain(&desk)
        #expect(said.stores.isEmpty)
        guard case .logEntryRefused? = said.events.first else {
            Issue.record("not said: \(said.events)")
            return
        }
    }

    @Test func `another entry at the same place is a fork, and what is held stays`() throws {
        let script = try script()
        var desk = try follower(script)
        _ = desk.receive(
            LogEntries(Array(script.record.envelopes[1...]), length: 9), from: Small.peer(2), isLeader: false, at: .zero
        )
        _ = drain(&desk)
        var other = try Script()
        try other.join([1, 2])
        _ = desk.receive(
            LogEntries([other.record.envelopes[1]], length: 9), from: Small.peer(3), isLeader: false, at: .zero)
        #expect(drain(&desk).events == [.forked(index: 1)])
        #expect(desk.record.envelopes == script.record.envelopes)
    }

    @Test func `counts as stored what has nothing missing before it`() throws {
        let script = try script()
        var desk = try follower(script)
        _ = desk.receive(
            LogEntries(Array(script.record.envelopes[1...]), length: 9), from: Small.peer(2), isLeader: false, at: .zero
        )
        for (index, expected) in [(2, 0), (1, 0), (0, 3), (4, 3), (3, 5), (3, 5)] {
            desk.stored(index)
            #expect(desk.record.stored == expected)
        }
    }
}

@Suite struct `Mail that comes early` {
    private func part(_ bytes: Int, chunks: Int = 1, round: Int = 0, attempt: Int = 0) -> Message {
        .exchangePart(
            ExchangePart(
                work: WorkKey(round: round, rank: 0, attempt: attempt),
                group: GroupStamp(round: round, epoch: 1, version: 0),
                purpose: .contribution,
                chunks: (0..<chunks).map {
                    ExchangePart.Chunk(unit: 0, chunk: $0, bytes: [UInt8](repeating: 0, count: bytes / chunks))
                }))
    }

    @Test func `is kept in order and given back once`() {
        var mail = EarlyMail()
        for index in 0..<10 { mail.keep(part(8, round: index), from: Small.peer(index % 3)) }
        #expect(mail.takeAll().map(\.message) == (0..<10).map { part(8, round: $0) })
        #expect(mail.isEmpty && mail.bytes == 0)
        #expect(mail.takeAll().isEmpty)
    }

    @Test func `is bounded by sender, and in all`() {
        var mail = EarlyMail()
        let large = part(8 << 20)
        for number in 1...4 { for _ in 0..<20 { mail.keep(large, from: Small.peer(number)) } }
        #expect(mail.bytes <= EarlyMail.limit)
        var bySender: [PeerID: Int] = [:]
        for item in mail.takeAll() { bySender[item.from, default: 0] += EarlyMail.cost(of: item.message) }
        #expect(bySender.values.allSatisfy { $0 <= EarlyMail.senderLimit })
        // Two take all they may, the third what is left: nobody less than a tenth of what there is.
        #expect(bySender.count == 3)
        #expect(mail.dropped > 0)
    }

    @Test func `counts what a message costs besides its bytes`() {
        var mail = EarlyMail()
        let empty = Message.norms(
            Norms(work: WorkKey(round: 0, rank: 0, attempt: 0), step: 0, stage: 0, sumSquares: []))
        var kept = 0
        while mail.keep(empty, from: Small.peer(1)) { kept += 1 }
        #expect(kept == EarlyMail.senderLimit / EarlyMail.messageOverhead)
        #expect(EarlyMail.cost(of: part(0, chunks: 4096)) > 4096 * 64)
        let norms = Message.norms(
            Norms(
                work: WorkKey(round: 0, rank: 0, attempt: 0), step: 0, stage: 0,
                sumSquares: [Float](repeating: 1, count: 65_536)))
        #expect(EarlyMail.cost(of: norms) > 4 * 65_536)
    }

    @Test func `of who has left is dropped, and not what it says under a plan that is still on its way here`() {
        var mail = EarlyMail()
        for index in 0..<10 { mail.keep(part(100, round: index), from: Small.peer(index % 2)) }
        mail.keep(part(100, attempt: 2), from: Small.peer(1))
        mail.forget(Small.peer(1), upTo: 1)
        #expect(mail.count == 6 && mail.bytes == 6 * EarlyMail.cost(of: part(100)))
        mail.forget(Small.peer(1), upTo: 2)
        #expect(mail.count == 5)
        let cost = EarlyMail.cost(of: part(100))
        #expect(mail.bytes == 5 * cost)
        #expect(mail.takeAll().allSatisfy { $0.from == Small.peer(0) })
    }
}

@Suite struct `Reports of a round` {
    private func held(_ rank: Int, round: Int = 3, attempt: Int = 0) -> Message {
        .held(Held(work: WorkKey(round: round, rank: rank, attempt: attempt), digests: []))
    }
    private func applied(_ round: Int) -> Message {
        .applied(Applied(round: round, units: [], compute: .zero, squares: nil))
    }

    @Test func `are said again as they were said last, in order`() {
        var reports = Reports()
        reports.keep(applied(2), round: 2)
        reports.keep(held(1), round: 3)
        reports.keep(.receipt(PBEnvelope()), round: 3)
        reports.keep(held(2), round: 3)
        reports.keep(held(1, attempt: 1), round: 3)
        reports.keep(.heartbeat(Heartbeat()), round: 3)
        #expect(reports.all == [applied(2), .receipt(PBEnvelope()), held(2), held(1, attempt: 1)])
    }

    @Test func `are forgotten with their round, but what came of the last one`() {
        var reports = Reports()
        reports.keep(held(1), round: 3)
        reports.keep(applied(3), round: 3)
        reports.forget(before: 4)
        #expect(reports.all == [applied(3)])
        reports.keep(held(0, round: 4), round: 4)
        reports.forget(before: 4)
        #expect(reports.all == [applied(3), held(0, round: 4)])
        reports.forget(before: 5)
        #expect(reports.all.isEmpty)
        // Back to an earlier round.
        reports.keep(held(0, round: 5), round: 5)
        reports.forget(before: 2)
        #expect(reports.all.isEmpty)
    }
}
