import Content
import Digests
import Exchange
import JobFixtures
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// A leader written out by hand, as simply as its words allow: it serves the text, seals a round when everybody has everything, and
/// says which states holders agree on when most of them say the same. It loses nobody and waits for ever: tests decide.
struct NaiveLeader {
    let key: SigningKey
    var term: Int
    private(set) var record: Record
    var text: ContentShelf
    /// Where chunks have owners.
    var terms: GroupTerms?
    /// It says nothing any more.
    var isSilent = false
    /// It seals what is complete.
    var seals = true
    private(set) var readiness: [PeerID: Readiness] = [:]
    private(set) var heartbeats: [PeerID: Heartbeat] = [:]
    /// How fast members say that they are at this job's work.
    private(set) var speeds: [PeerID: Double] = [:]
    private(set) var receipts: [WorkKey: [Int: Receipt]] = [:]
    private(set) var held: [PeerID: Set<WorkKey>] = [:]
    private(set) var gathered: [PeerID: Gathered] = [:]
    /// By the round whose start it is.
    private(set) var applied: [Int: [PeerID: Applied]] = [:]
    private(set) var farewells: [PeerID: String] = [:]
    private(set) var objections: [Objection] = []
    private(set) var setbacks: [Setback] = []
    private(set) var answers: [PeerID: OfferAnswer] = [:]
    private(set) var outbox: [(packet: Packet, to: PeerID)] = []

    static let text = SeededGenerator.bytes(1000, seed: 5, stream: 1)

    init(
        _ parameters: JobParameters, key: SigningKey = Small.launcher, others: [SigningKey] = [], text: [UInt8] = text,
        lease: Duration = .seconds(15), nonce: UInt8 = 1
    ) throws {
        self.key = key
        term = 1
        self.text = ContentShelf()
        let content = self.text.put(text, at: .zero)
        let genesis = Genesis(
            manifest: "village", electors: [key.peerID] + others.map(\.peerID), content: content,
            contentBytes: text.count, nonce: [UInt8](repeating: nonce, count: 32), lease: lease, silence: .seconds(5))
        record = try Record(genesis: Record.sign(genesis, by: key)) { _ in parameters }
    }

    var state: JobState { record.state }
    var members: [PeerID] { state.members.filter(\.present).map(\.peer) }

    mutating func takeOutbox() -> [(packet: Packet, to: PeerID)] {
        defer { outbox = [] }
        return isSilent ? [] : outbox
    }
    mutating func send(_ message: Message, to peer: PeerID) {
        outbox.append((Packet(job: record.job, term: term, message), peer))
    }
    mutating func offer(to peer: PeerID) { send(.offer(Offer(genesis: record.envelopes[0])), to: peer) }
    mutating func lease() {
        for peer in members { send(.lease(Lease(duration: record.genesis.lease, logLength: record.length)), to: peer) }
    }
    /// Everybody hears of it, and who comes hears of all.
    mutating func propose(_ entry: Entry, to others: [PeerID] = []) throws {
        let envelope = try record.propose(entry, term: term, by: key)
        // What was said of rounds that are taken back counts no more.
        if case .plan(let change) = entry, change.rolledBack {
            applied = applied.filter { $0.key <= change.plan.round }
        }
        for peer in members + others { send(.logEntries(LogEntries([envelope], length: record.length)), to: peer) }
    }
    mutating func join(_ numbers: [Int]) throws {
        let joined = numbers.map {
            MembersChange.Joined(
                peer: Small.peer($0), endpoint: Small.endpoint($0), name: "peer-\($0)", flops: 1e9)
        }
        try propose(.members(MembersChange(joined: joined, round: state.round)))
        for number in numbers { sendLog(to: Small.peer(number), from: 0) }
    }
    mutating func leave(_ number: Int) throws {
        let left = [MembersChange.Left(peer: Small.peer(number), reason: "gone")]
        try propose(.members(MembersChange(left: left, round: state.round)))
    }
    mutating func sendLog(to peer: PeerID, from index: Int) {
        guard index < record.length else { return }
        send(.logEntries(LogEntries(Array(record.envelopes[index...]), length: record.length)), to: peer)
    }
    /// Another elector takes over, with the log and nothing else.
    mutating func succeed(_ key: SigningKey) {
        self = NaiveLeader(taking: self, key: key)
    }
    private init(taking other: NaiveLeader, key: SigningKey) {
        self.key = key
        term = other.term + 1
        record = other.record
        text = other.text
    }

    /// Its disk has called so many durable that are not.
    mutating func lose(entries: Int) {
        let parameters = state.parameters
        let kept = Array(record.envelopes.dropLast(entries))
        record = try! Record.restoring(kept) { _ in parameters }.record
        term += 1
        (receipts, held, gathered, applied, readiness, answers) = ([:], [:], [:], [:], [:], [:])
        (agreedUnder, speeds) = ([:], [:])
    }

    // MARK: hearing

    mutating func receive(_ packet: Packet, from peer: PeerID, at now: Instant) throws {
        switch packet.message {
        case .offerAnswer(let answer): answers[peer] = answer
        case .capability(let said): if packet.term == term { speeds[peer] = said.flops }
        case .readiness(let said): if packet.term == term { readiness[peer] = said }
        case .heartbeat(let heartbeat): heartbeats[peer] = heartbeat
        case .logRequest(let from): sendLog(to: peer, from: from)
        case .indexRequest(let content, let first):
            if let part = text.answer(indexOf: content, from: first, at: now) { send(.indexPart(part), to: peer) }
        case .chunkRequest(let content, let number):
            if let bytes = text.answer(chunk: number, of: content, at: now) {
                send(.chunk(content: content, chunk: number, bytes: bytes), to: peer)
            }
        case .stateRequest(let request):
            send(.stateOffer(StateOffer(round: request.round, parts: [], unavailable: "I hold none")), to: peer)
        case .receipt(let envelope):
            let (signer, receipt) = try Receipt.open(envelope, job: record.job, wall: 1_000_000)
            precondition(signer == peer, "a receipt of \(signer) from \(peer)")
            receipts[receipt.work, default: [:]][receipt.stage] = receipt
        case .held(let message): held[peer, default: []].insert(message.work)
        case .gathered(let message): gathered[peer] = message
        case .applied(let message): applied[message.round + 1, default: [:]][peer] = message
        case .objection(let objection): objections.append(objection)
        case .setback(let setback): setbacks.append(setback)
        case .farewell(let reason): farewells[peer] = reason
        default: break
        }
        try agree()
        try seal()
    }

    /// By round: under which plan its states were last agreed on.
    private var agreedUnder: [Int: Int] = [:]

    private func work(_ rank: Int) -> WorkKey {
        WorkKey(round: state.round, rank: rank, attempt: state.plan!.pipelines[rank].attempt)
    }
    /// Every stage of these pipelines has said what it computed, and everybody has everybody's.
    private func isComplete(_ ranks: [Int], _ plan: PlacedPlan) -> Bool {
        let terms = self.terms ?? GroupTerms(round: state.round, plan: plan)
        return ranks.allSatisfy { rank in
            plan.pipelines[rank].stages.enumerated().allSatisfy { index, stage in
                guard receipts[work(rank)]?[index] != nil else { return false }
                if terms.way.hasOwners { return gathered[stage.peer]?.group == terms.stamp }
                return ranks.allSatisfy { $0 == rank || held[stage.peer]?.contains(work($0)) == true }
            }
        }
    }
    private mutating func seal() throws {
        guard seals, let plan = state.plan, state.spec != nil else { return }
        let ranks = (terms?.round == state.round ? terms?.ranks : nil) ?? state.wholeRanks
        guard !ranks.isEmpty, isComplete(ranks, plan) else { return }
        try seal(ranks)
    }
    mutating func seal(_ ranks: [Int]) throws {
        let (plan, spec) = (state.plan!, state.spec!)
        let digests = ranks.map { rank in
            plan.pipelines[rank].stages.indices.flatMap { receipts[work(rank)]![$0]!.digests }
        }
        let contributions = zip(ranks, digests).map { rank, digests in
            Seal.Contribution(
                rank: rank, attempt: plan.pipelines[rank].attempt,
                microBatches: plan.share(rank: rank, steps: spec.steps),
                digest: Seal.digest(digests))
        }
        let counted = contributions.reduce(0) { $0 + $1.microBatches }
        let perMicroBatch = state.parameters.microBatch * state.parameters.model.context
        var seal = Seal(
            round: spec.round, firstStep: spec.firstStep, steps: spec.steps, contributions: contributions,
            tokens: spec.sealedTokens + counted * perMicroBatch)
        if (terms?.way ?? plan.exchangeWay).hasOwners {
            seal.aggregates = plan.pipelines[ranks[0]].stages.flatMap { gathered[$0.peer]!.aggregates }
        } else {
            seal.parts = Seal.parts(digests)
        }
        try propose(.seal(seal))
    }
    /// Who holds a unit; whoever fetches it has nothing to say.
    private func holders(_ unit: Int) -> [PeerID] {
        state.plan!.holders(of: unit).filter { holder in
            if case .fetchingState = readiness[holder] { return false }
            return state.isPresent(holder)
        }
    }
    /// What most holders of a unit say.
    private mutating func agree() throws {
        // The log's state forgets old rounds: what was said of them under this plan is said.
        for round in applied.keys.sorted()
        where round <= state.round && !state.isAgreed(round) && agreedUnder[round] != state.planCount {
            var agreed: [UnitRoots] = []
            for unit in state.parameters.model.allUnits {
                let said = applied[round]!.values.compactMap { $0.units.first { $0.unit == unit } }
                var votes: [UnitRoots: Int] = [:]
                for roots in said { votes[roots, default: 0] += 1 }
                guard let best = votes.max(by: { $0.value < $1.value }), 2 * best.value > said.count else { continue }
                guard said.count >= holders(unit).count else { continue }
                agreed.append(best.key)
            }
            guard agreed.count == state.parameters.model.unitCount else { continue }
            agreedUnder[round] = state.planCount
            try propose(.states(States(round: round, units: agreed)))
        }
    }
}
