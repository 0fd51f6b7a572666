import Content
import Coordination
import Digests
import Exchange
import JobFixtures
import Messages
import Primitives
import Record
import Telemetry
import Training

/// A ``RoundDesk`` in a world that is played: who computes, who holds whose part, who leaves. It checks that every verdict is legal.
struct RoundWorld {
    private(set) var script: Script
    private(set) var roster: Roster
    var desk: RoundDesk
    var books = Books()
    var now = Instant.zero
    var auditShare = 0.0
    private(set) var complaints: [String] = []
    private(set) var sealed: [[Int]] = []
    private(set) var rolledBack: [String] = []
    private(set) var said: [Happening] = []
    private(set) var regroupings: [Regrouping] = []
    private(set) var findings: [AuditFinding] = []
    private(set) var drawn: AuditCase?
    private var computed: Set<Int> = []
    private var holds: [Int: Set<Int>] = [:]
    private let layout: [[Int]]

    init(_ layout: [[Int]], way: ExchangeWay = .allGather) throws {
        self.layout = layout
        let numbers = layout.flatMap { $0 }
        script = try Script()
        try script.join(numbers)
        var plan = Small.plan(layout, virtualPipelines: 4)
        plan.exchangeWay = way
        try script.plan(plan)
        roster = Roster(at: .zero)
        for number in numbers {
            let peer = Small.peer(number)
            _ = roster.met(peer, at: Small.endpoint(number), now: .zero)
            roster.says(
                Capability(
                    name: "peer-\(number)", device: "cpu", memory: .mebibytes(64), flops: 1e9,
                    numerics: Record.numerics), peer)
            _ = roster.accepts(peer, at: .zero)
            roster.joins(peer)
        }
        desk = RoundDesk(at: .zero)
        begin()
    }

    var plan: PlacedPlan { script.state.plan! }
    var facts: RoundFacts {
        RoundFacts(
            state: script.state, plan: plan, spec: script.state.spec!, roster: roster, lines: LineBook(), books: books,
            predictedSeconds: 10, now: now, isAsking: false, key: Small.launcher, job: script.record.job,
            auditShare: auditShare)
    }
    var whole: [Int] { script.state.wholeRanks }
    private mutating func begin() {
        desk.begin(script.state.round, isDisturbed: false, at: now)
        (computed, holds) = ([], [:])
        for number in layout.flatMap({ $0 }) {
            roster.isReady(.atRound(epoch: plan.epoch, round: script.state.round), Small.peer(number), at: now)
        }
    }

    // MARK: what happens

    func work(_ rank: Int) -> WorkKey {
        WorkKey(round: script.state.round, rank: rank, attempt: plan.pipelines[rank].attempt)
    }
    /// What a pipeline signs of a unit's only chunk.
    static func signed(_ rank: Int, _ unit: Int) -> [UInt8] {
        Array(sha256([UInt8(rank), UInt8(unit)]).bytes.prefix(8))
    }
    mutating func compute(_ rank: Int) {
        guard whole.contains(rank) else { return }
        computed.insert(rank)
        for (index, stage) in plan.pipelines[rank].stages.enumerated() {
            let receipt = Receipt(
                work: work(rank), stage: index, microBatches: script.share(rank), tokens: 0,
                firstStep: script.state.spec!.firstStep, steps: script.state.spec!.steps,
                digests: script.digests(rank: rank, attempt: plan.pipelines[rank].attempt, stage: stage),
                chunks: stage.units.map { UnitDigest($0, Self.signed(rank, $0)) })
            if desk.progress.receive(receipt) == .taken { desk.computed(at: now) }
        }
    }
    /// A peer has all of a pipeline's part.
    mutating func hold(_ number: Int, _ rank: Int) {
        guard computed.contains(rank), script.state.isPresent(Small.peer(number)) else { return }
        holds[number, default: []].insert(rank)
        desk.progress.receive(Held(work: work(rank), digests: []), from: Small.peer(number), plan: plan)
    }
    mutating func holdAll() {
        for number in layout.flatMap({ $0 }) { for rank in layout.indices { hold(number, rank) } }
    }
    /// It has the sums of its units, made of `tag`.
    mutating func gather(_ number: Int, tag: UInt8 = 0) {
        guard let stage = plan.stage(of: Small.peer(number)), script.state.isPresent(Small.peer(number)) else { return }
        let units = stage.units.map { UnitDigest($0, sha256([tag, UInt8($0)]).bytes) }
        let chunks = stage.units.map { UnitDigest($0, Array(sha256([tag, UInt8($0)]).bytes.prefix(8))) }
        desk.progress.receive(
            Gathered(group: desk.terms.stamp, aggregates: units, chunks: chunks), from: Small.peer(number))
    }
    /// Something of these has come.
    mutating func hear(_ numbers: [Int]) {
        for number in numbers { _ = roster.met(Small.peer(number), at: Small.endpoint(number), now: now) }
    }
    mutating func leave(_ number: Int) throws {
        guard script.state.isPresent(Small.peer(number)) else { return }
        try script.leave(number)
        roster.loses(Small.peer(number), why: "gone")
    }
    /// Somebody new takes the place of one that leaves, and fetches its units from `source`.
    mutating func replace(_ gone: Int, by newcomer: Int, from source: Int) throws {
        try leave(gone)
        let peer = Small.peer(newcomer)
        try script.join([newcomer])
        _ = roster.met(peer, at: Small.endpoint(newcomer), now: now)
        roster.says(
            Capability(
                name: "peer-\(newcomer)", device: "cpu", memory: .mebibytes(64), flops: 1e9, numerics: Record.numerics),
            peer)
        _ = roster.accepts(peer, at: now)
        roster.joins(peer)
        var next = plan
        next.round = script.state.round
        for rank in next.pipelines.indices {
            for stage in next.pipelines[rank].stages.indices
            where next.pipelines[rank].stages[stage].peer == Small.peer(gone) {
                next.pipelines[rank].stages[stage].peer = peer
                next.pipelines[rank].attempt += 1
            }
        }
        for unit in script.state.parameters.model.allUnits { next.sources[unit] = [Small.peer(source)] }
        try script.plan(next)
        roster.isReady(.fetchingState(epoch: plan.epoch), peer, at: now)
    }
    mutating func object(_ rank: Int, by number: Int) -> Bool {
        desk.objects(Objection(work: work(rank), why: "no"), by: Small.peer(number), plan: plan)
    }
    /// What two auditors and the owner say of the chunk that was drawn.
    mutating func report(_ number: Int, inputs: [UInt8], sum: [UInt8]) {
        guard let drawn else { return }
        desk.reports(
            Audited(group: drawn.group, unit: drawn.unit, chunk: drawn.chunk, inputs: inputs, sum: sum),
            by: Small.peer(number), plan: plan)
    }

    // MARK: verdicts

    /// Applies verdicts until there is nothing to do.
    mutating func settle() throws {
        for _ in 0..<60 {
            guard script.state.spec != nil else { return }
            let facts = facts
            let verdict = desk.verdict(facts)
            switch verdict {
            case .wait:
                if !whole.isEmpty, desk.nextWake(facts) == nil { complaints.append("waits for nothing") }
                return
            case .regroup(let change):
                check(change)
                regroupings.append(change)
                desk.regroup(change, facts)
            case .say(let what, _):
                said.append(what)
                desk.say(what)
            case .warn(let what):
                if said.contains(what) { complaints.append("says twice: \(what)") }
                said.append(what)
                desk.warned()
            case .audit(let audit):
                drawn = audit
                desk.begin(audit)
            case .audited(let finding):
                findings.append(finding)
                desk.endAudit()
            case .seal(let ranks):
                check(seal: ranks)
                try script.seal(ranks)
                sealed.append(ranks)
                desk.sealed()
                desk.reputation.sealed(ranks, plan) { script.state.isPresent($0) }
                begin()
                return
            case .rollBack(let why):
                rolledBack.append(why)
                return
            }
        }
        complaints.append("does not settle")
    }
    private mutating func check(_ change: Regrouping) {
        if change.ranks.isEmpty { complaints.append("a group of nobody") }
        if !Set(change.ranks).isSubset(of: desk.terms.ranks) { complaints.append("somebody new in the group") }
        if change.ranks == desk.terms.ranks, change.way == nil || change.way == desk.terms.way, change.barred == nil {
            complaints.append("the same group again")
        }
    }
    private mutating func check(seal ranks: [Int]) {
        if ranks.isEmpty || ranks != ranks.sorted() { complaints.append("sealed with \(ranks)") }
        if !Set(ranks).isSubset(of: desk.terms.ranks) { complaints.append("\(ranks) are not of the group") }
        for rank in ranks {
            if !computed.contains(rank) { complaints.append("\(rank) has not computed") }
            guard !desk.terms.way.hasOwners else { continue }
            for other in ranks where other != rank {
                for number in layout[other] where holds[number]?.contains(rank) != true {
                    complaints.append("\(number) does not hold \(rank)")
                }
            }
        }
    }
    /// Lets time pass until something comes of the round.
    mutating func wait(for limit: Duration = .seconds(1000)) throws {
        let end = now + limit
        let before = (sealed.count, rolledBack.count)
        for _ in 0..<20_000 {
            try settle()
            guard (sealed.count, rolledBack.count) == before, script.state.spec != nil else { return }
            guard let next = desk.nextWake(facts), next <= end else { return }
            // As the coordinator does: what is overdue is looked at again soon.
            now = max(now + .milliseconds(100), next)
        }
        complaints.append("wakes for ever")
    }
}

enum StateFetchFixture {
    /// Of all units, from peers that never answer.
    static func make() -> StateFetch {
        StateFetch(
            round: 3, sources: Dictionary(uniqueKeysWithValues: Small.model.allUnits.map { ($0, [Small.peer(1)]) }),
            roots: [:], moments: false, model: Small.model, offset: 0, at: .zero)
    }
}
