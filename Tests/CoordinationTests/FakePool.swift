import Consensus
import Coordination
import Digests
import JobFixtures
import Messages
import Planning
import Primitives
import Record
import Telemetry
import Testing
import Training
import Wire

/// A launcher among members that exist only as packets: they accept, say what a test wants them to, and sign receipts.
struct FakePool {
    var coordinator: Coordinator
    var now = Instant.zero
    private(set) var end: String?
    private(set) var events: [Event] = []
    private(set) var sent: [(packet: Packet, to: PeerID)] = []
    /// What answers every storage request; nil: nobody does.
    var disk: (@Sendable (StorageRequest) -> StorageOutcome)? = { _ in .stored(path: "") }
    /// What is on disk, in the order in which it came there.
    private(set) var stored: [StorageTicket] = []
    private(set) var certificates: [Certificate] = []
    /// While the planner thinks its questions lie here.
    var thinks = false
    private var questions: [PlanQuestion] = []
    let numbers: [Int]

    static func job() -> JobManifest {
        var job = JobManifest(
            name: "small", model: Small.model, data: .path("text"), tokens: 10_000, virtualPipelines: 4, microBatch: 1)
        job.batchTokens = .fixed(32)
        job.pipelines = .fixed(2)
        job.stages = .fixed(1)
        job.innerSteps = .fixed(2)
        job.exchangeCodec = .fixed(.fp32)
        job.activationCodec = .fixed(.fp32)
        job.qualityBudget = 10
        job.checkpoint.everyRounds = 1000
        return job
    }

    /// Two pipelines of one stage each, two inner steps.
    init(
        _ numbers: [Int] = [1, 2], expected: Int? = nil, late: [Int] = [], job: JobManifest = Self.job(),
        options given: CoordinatorOptions? = nil, hasText: Bool = true,
        text: StoredBytes = StoredBytes([UInt8](repeating: 32, count: 1000))
    ) throws {
        var options = given ?? CoordinatorOptions()
        if given == nil { options.expectedPeers = expected ?? numbers.count }
        self.numbers = numbers + late
        coordinator = try Coordinator(
            key: Small.launcher, manifest: job.canonicalText, content: text,
            nonce: [UInt8](repeating: 9, count: 32), options: options, wall: WallClock(secondsAtZero: 1000), at: now,
            parse: JobParameters.init(manifest:))
        drain()
        for number in numbers { arrive(number) }
        for number in late { arrive(number) }
        for number in self.numbers where hasText { say(number, .readiness(.hasText)) }
        // Nobody measures anything: the coordinator goes on without, and plans.
        for _ in 0..<60 where coordinator.state.plan == nil && given == nil {
            pass(.seconds(1))
            for number in self.numbers { beat(number) }
        }
    }

    mutating func say(_ number: Int, _ message: Message) {
        let job = message.conversation == .meeting ? nil : coordinator.job
        coordinator.receive(Packet(job: job, term: 1, message), from: Small.peer(number), at: now)
        drain()
    }
    /// - Parameters:
    ///   - accepts: launchers that it works for, as it says.
    ///   - refusal: why it takes no offer.
    mutating func arrive(_ number: Int, accepts: [PeerID] = [], refusal: String? = nil) {
        coordinator.established(Small.peer(number), endpoint: Small.endpoint(number), at: now)
        say(
            number,
            .capability(
                Capability(
                    name: "peer-\(number)", device: "cpu", memory: .mebibytes(64), flops: 1e9,
                    numerics: Record.numerics, accepts: accepts)))
        say(number, .offerAnswer(OfferAnswer(refusal: refusal)))
    }
    mutating func beat(_ number: Int) { say(number, .heartbeat(Heartbeat())) }
    mutating func lose(_ number: Int) {
        coordinator.lost(Small.peer(number), reason: "closed", at: now)
        drain()
    }
    mutating func answer() {
        thinks = false
        for question in exchange(&questions, with: []) {
            coordinator.planned(question.answered(iterations: 200), at: now)
        }
        drain()
    }
    mutating func pass(_ time: Duration) {
        now += time
        coordinator.wake(at: now)
        drain()
    }
    mutating func drain() {
        while let effect = coordinator.poll() {
            switch effect {
            case .plan(let question) where thinks: questions.append(question)
            case .plan(let question): coordinator.planned(question.answered(iterations: 200), at: now)
            case .ended(.failed(let why)): end = why
            case .ended: end = "finished"
            case .event(let event): events.append(event)
            case .handOver, .prepare: Issue.record("nobody else carries the record here")
            case .send(let packet, let peer): sent.append((packet, peer))
            case .store(let request):
                guard let disk else { continue }
                let outcome = disk(request)
                if case .stored = outcome {
                    stored.append(request.ticket)
                    if case .certificate(let certificate) = request { certificates.append(certificate) }
                }
                coordinator.stored(request.ticket, outcome, at: now)
            }
        }
    }
    func happened(_ kind: String) -> [Event] { events.filter { $0.kind == kind } }
    /// Messages of a kind that went to a peer.
    func heard(_ number: Int, _ kind: String) -> [Message] {
        sent.filter { $0.to == Small.peer(number) && $0.packet.message.kind == kind }.map(\.packet.message)
    }

    /// The number of the peer that is pipeline `rank`.
    func number(_ rank: Int) throws -> Int {
        let peer = coordinator.state.plan?.pipelines[rank].stages[0].peer
        return try #require(numbers.first { Small.peer($0) == peer })
    }
    func receipt(_ number: Int) throws -> Receipt {
        let state = coordinator.state
        let plan = try #require(state.plan)
        let spec = try #require(state.spec)
        let place = try #require(plan.placement(of: Small.peer(number)))
        return Receipt(
            work: WorkKey(round: spec.round, rank: place.rank, attempt: plan.pipelines[place.rank].attempt),
            stage: place.stage, microBatches: plan.share(rank: place.rank, steps: spec.steps), tokens: 0,
            firstStep: spec.firstStep, steps: spec.steps,
            digests: Small.model.allUnits.map { unit in
                UnitDigest(unit, sha256(Array("\(spec.round) \(place.rank) \(unit)".utf8)).bytes)
            })
    }
    /// A signed receipt of the round in progress.
    /// - Parameter wall: of the peer's clock, in seconds since 1970.
    mutating func report(_ number: Int, wall: Int64 = 1000, _ change: (inout Receipt) -> Void = { _ in }) throws {
        var receipt = try receipt(number)
        change(&receipt)
        say(number, .receipt(receipt.signed(job: coordinator.job, epoch: 1, wall: wall, by: Small.key(number))))
    }
    mutating func hold(_ number: Int, rank: Int) {
        let state = coordinator.state
        say(
            number,
            .held(
                Held(
                    work: WorkKey(round: state.round, rank: rank, attempt: state.plan!.pipelines[rank].attempt),
                    digests: [])))
    }
    /// Both pipelines do their round.
    mutating func round() throws {
        for rank in 0..<2 { try report(number(rank)) }
        hold(try number(0), rank: 1)
        hold(try number(1), rank: 0)
    }
    /// What a holder says that it holds after a round.
    mutating func apply(_ number: Int, round: Int, _ text: String) {
        let roots = Small.model.allUnits.map {
            UnitRoots(unit: $0, parameters: sha256(Array("\(text) \($0)".utf8)), outerMomentum: nil)
        }
        say(number, .applied(Applied(round: round, units: roots, compute: .milliseconds(1), squares: nil)))
    }
    func audit() throws(MalformedBytes) -> Ledger.Totals {
        try auditMicroBatches(
            log: coordinator.record.envelopes, receipts: coordinator.books.receiptEnvelopes,
            parameters: coordinator.state.parameters)
    }
}
