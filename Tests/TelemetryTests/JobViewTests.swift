import Primitives
import Telemetry
import Testing

/// A job told by events, event by event.
private struct Telling {
    var view: JobView
    private var seconds = 0.0

    init(_ limits: JobView.Limits = .init()) { view = JobView(limits: limits) }

    mutating func tell(_ what: Happening, peer: String = "", after: Double = 0, from host: String = "") {
        seconds += after
        view.apply(Event(what, at: Instant(seconds: seconds), peer: peer), from: host)
    }
    var now: Instant { Instant(seconds: seconds) }

    /// Four peers, a plan of two pipelines of two stages with four steps a round, and `rounds` seals, 2 s each.
    mutating func run(rounds: Int = 0) {
        for name in ["ada", "bea", "cleo", "dora", "eve"] {
            tell(.peerFound(device: "laptop", gflops: 8, memoryMib: 512), peer: name)
            tell(.peerJoined, peer: name, after: 0.1)
        }
        tell(.sharingText(peers: 5, bytes: 1000))
        tell(.measuringLinks(peers: 5), after: 1)
        tell(.linksMeasured(peers: 5, upMbps: "10-20", downMbps: "50-100"), after: 1)
        tell(.planning(why: "the first plan", peers: 5))
        tell(
            .planned(
                epoch: 1, pipelines: 2, stages: 2, innerSteps: 4, codec: "int8", activations: "bf16",
                exchange: "all-gather",
                stepSeconds: 0.4, totalSeconds: 40))
        tell(.placed(workers: "ada,bea,cleo,dora"))
        for round in 0..<rounds { seal(round) }
    }
    mutating func seal(_ round: Int, pipelines: Int = 2, seconds: Double = 2, steps: Int = 4) {
        tell(
            .roundSealed(
                round: round, steps: (round + 1) * steps, tokens: (round + 1) * 512, trainLoss: 5 / Double(round + 1),
                validationLoss: round % 2 == 0 ? 5.5 : nil, pipelines: pipelines, seconds: seconds,
                predictedSeconds: 1.6),
            after: seconds)
    }
}

struct JobViewTests {
    @Test func `a job goes from gathering to its weights`() {
        var job = Telling()
        #expect(job.view.stage == .idle)
        job.tell(.jobOpened(job: "ab12", nonce: "99"))
        #expect(job.view.stage == .gathering(have: 0, want: 0) && job.view.job == "ab12" && job.view.nonce == "99")
        job.tell(.waitingForPeers(have: 1, want: 5))
        #expect(job.view.stage == .gathering(have: 1, want: 5))
        job.run()
        #expect(job.view.stage == .preparing && job.view.rounds.count == 0)
        #expect(job.view.members.map(\.name) == ["ada", "bea", "cleo", "dora", "eve"])
        #expect(job.view.members.filter(\.isWorking).map(\.name) == ["ada", "bea", "cleo", "dora"])
        #expect(job.view.plan?.codec == "int8" && job.view.plan?.workers.count == 4)
        job.seal(0)
        #expect(job.view.stage == .training)
        job.tell(.collectingWeights(round: 25))
        job.tell(.collectionProgress(have: 3, of: 8))
        #expect(job.view.stage == .collecting(have: 3, of: 8))
        job.tell(.evaluating)
        #expect(job.view.stage == .evaluating)
    }

    @Test func `rounds carry their own steps, and only the first is disturbed where nothing happens`() {
        var job = Telling()
        job.run(rounds: 5)
        let rounds = job.view.rounds.items
        #expect(rounds.map(\.steps) == [4, 4, 4, 4, 4] && rounds.map(\.round) == [0, 1, 2, 3, 4])
        #expect(rounds.map(\.isUndisturbed) == [false, true, true, true, true])
        #expect(rounds.allSatisfy { $0.planEpoch == 1 })
        #expect(job.view.progress.tokens == 2560 && job.view.progress.validationLoss == 5.5)
        #expect(job.view.trainingSince == job.now - .seconds(10))
    }

    @Test func `a killed worker is replaced, the round is disturbed, and the loss says how long it took`() {
        var job = Telling()
        job.run(rounds: 2)
        job.tell(.peerLost(why: "connection closed"), peer: "bea", after: 1)
        job.tell(.replaced(by: "eve", round: 2), peer: "bea")
        job.tell(.waitingFor(peers: "eve,ada", round: 2, why: "fetching"), after: 1)
        #expect(job.view.waiting?.peers == ["eve", "ada"])
        job.tell(.trainingResumed(seconds: 3), after: 2)
        #expect(job.view.waiting == nil)
        job.seal(2)
        job.seal(3)
        let loss = job.view.losses.last
        #expect(loss?.peer == "bea" && loss?.answer == .replaced(by: "eve") && loss?.resumedAfter == 3)
        #expect(job.view.rounds.items.map(\.isUndisturbed) == [false, true, false, true])
        #expect(job.view.rounds.items.map(\.planEpoch) == [1, 1, 2, 2])
        #expect(job.view.plan?.workers == ["ada", "eve", "cleo", "dora"])
        #expect(
            job.view.roster["bea"]?.standing == .lost("connection closed") && job.view.roster["bea"]?.isWorking == false
        )
        #expect(job.view.roster["eve"]?.isWorking == true)
    }

    @Test func `a new plan is in force from its round on, and the one before it counts as disturbed`() {
        var job = Telling()
        job.run(rounds: 2)
        job.tell(.peerLost(why: "left"), peer: "bea")
        job.tell(.othersGoOn(pipelines: 1, round: 2))
        job.tell(.replanned(why: "bea left", round: 3, epoch: 2, pipelines: 1, stepSeconds: 0.7))
        job.tell(.placed(workers: "ada,cleo"))
        job.tell(.exchangeChosen(units: "0..<5", way: "reduce-scatter", seconds: 1, allGatherSeconds: 2))
        #expect(job.view.plan?.epoch == 1 && job.view.plan?.workers.count == 4)
        job.seal(2, pipelines: 1)
        #expect(job.view.plan?.epoch == 2 && job.view.plan?.workers == ["ada", "cleo"])
        #expect(job.view.plan?.exchange == "reduce-scatter")
        #expect(job.view.members.filter(\.isWorking).map(\.name) == ["ada", "cleo"])
        job.seal(3, pipelines: 1)
        #expect(job.view.rounds.items.map(\.planEpoch) == [1, 1, 1, 2])
        #expect(job.view.rounds.items.map(\.isUndisturbed) == [false, true, false, true])
        #expect(job.view.losses.last?.answer == .othersGoOn(pipelines: 1))
    }

    @Test func `links measured during training disturb the next round, not the one in which they begin`() {
        var job = Telling()
        job.run(rounds: 2)
        job.tell(.measuringLinks(peers: 5, why: "slow"))
        #expect(job.view.stage == .training)
        job.seal(2)
        job.tell(.linksMeasured(peers: 5, upMbps: "1-2", downMbps: "1-2"), after: 0.1)
        job.seal(3)
        job.seal(4)
        #expect(job.view.rounds.items.map(\.isUndisturbed) == [false, true, true, false, true])
    }

    @Test func `rounds that a roll-back undoes are marked, and steps are counted from where it returned to`() {
        var job = Telling()
        job.run(rounds: 4)
        job.tell(.peerLost(why: "left"), peer: "ada")
        job.tell(.rolledBack(round: 2, from: 4, why: "unit 3 is nowhere"))
        #expect(job.view.rounds.items.map(\.isUndone) == [false, false, true, true])
        #expect(job.view.losses.last?.answer == .rolledBack(to: 2))
        #expect(job.view.progress.step == 8)
        job.seal(2)
        #expect(job.view.rounds.items.last?.steps == 4 && job.view.rounds.items.last?.isUndisturbed == false)
        job.seal(3)
        #expect(job.view.rounds.items.filter { !$0.isUndone }.map(\.round) == [0, 1, 2, 3])
        #expect(job.view.plan?.epoch == 2)
    }

    @Test func `what is left follows what rounds take, not what was predicted`() throws {
        var job = Telling()
        job.run()
        // 100 steps of 0.4 s, by the prediction.
        #expect(job.view.stepsTotal == 100)
        #expect(try abs(#require(job.view.secondsLeft(at: job.now)) - 40) < 1e-9)
        for round in 0..<5 { job.seal(round) }
        #expect(job.view.stepSeconds == 0.5)
        #expect(try abs(#require(job.view.secondsLeft(at: job.now)) - 40) < 1e-9)
        #expect(try abs(#require(job.view.secondsLeft(at: job.now + .seconds(1))) - 39) < 1e-9)
        #expect(job.view.secondsLeft(at: job.now + .seconds(1000)) == 0)
        job.tell(.collectingWeights(round: 25))
        #expect(job.view.secondsLeft(at: job.now) == nil)
    }

    @Test func `what a step takes and what was predicted are of one plan`() {
        var job = Telling()
        job.run(rounds: 6)
        #expect(job.view.plan?.stepSeconds == 0.4 && job.view.stepSeconds == 0.5)
        job.tell(.replanned(why: "bea left", round: 6, epoch: 2, pipelines: 1, stepSeconds: 0.7))
        job.seal(6, seconds: 8)
        job.seal(7, seconds: 8)
        #expect(job.view.plan?.epoch == 2 && job.view.plan?.stepSeconds == 0.7)
        #expect(job.view.stepSeconds == 2, "rounds of the plan before say nothing of this one")
        // Of a plan that it goes back with nothing was told: its first whole round says what was predicted.
        job.tell(.rolledBack(round: 6, from: 8, why: "ada left"))
        #expect(job.view.plan?.stepSeconds == nil && job.view.plan?.totalSeconds == nil)
        job.seal(6, seconds: 4)
        #expect(job.view.plan?.stepSeconds == 0.4)
        // A shorter last round changes nothing.
        job.seal(7, seconds: 4, steps: 4)
        #expect(job.view.plan?.stepSeconds == 0.4)
    }

    @Test func `who reads only the log is told of no prediction, and has none`() {
        var job = Telling()
        job.tell(
            .planned(
                epoch: 1, pipelines: 1, stages: 1, innerSteps: 4, codec: "fp32", activations: "fp32",
                exchange: "all-gather", stepSeconds: 0, totalSeconds: 0))
        #expect(job.view.plan?.stepSeconds == nil && job.view.plan?.totalSeconds == nil && job.view.stepsTotal == nil)
        job.tell(.replanned(why: "slow", round: 0, epoch: 2, pipelines: 1, stepSeconds: 0))
        job.tell(.peerLost(why: "its owner asked it to leave", saidGoodbye: true), peer: "ada")
        #expect(job.view.losses.last?.saidGoodbye == true)
    }

    @Test func `once a second everybody's doings come, whatever their names hold`() {
        var job = Telling()
        job.run(rounds: 1)
        job.tell(
            .status(
                phase: "training", step: 6, round: 1, stepsTotal: 100, tokens: 512, tokensTotal: 12_800,
                tokensPerSecond: 256,
                trainLoss: 5, validationLoss: 0, sentBytes: 10, uncompressedBytes: 99,
                doing: "ada=step 6 = fwd;bea=waiting;;=nobody;no pair"))
        #expect(job.view.roster["ada"]?.doing == "step 6 = fwd" && job.view.roster["bea"]?.doing == "waiting")
        #expect(job.view.members.count == 5)
        #expect(job.view.progress.step == 6 && job.view.stepsTotal == 100)
        // 0 says that nothing was evaluated yet.
        #expect(job.view.progress.validationLoss == 5.5)
    }

    @Test func `in a replay members tell what they do themselves`() {
        var job = Telling()
        job.run()
        job.tell(.planReceived(epoch: 1, role: "spare"), from: "eve")
        job.tell(.stateReady(round: 0, units: "0..<3"), from: "ada")
        #expect(
            job.view.roster["eve"]?.doing == "spare" && job.view.roster["ada"]?.doing == "holds units 0..<3 of round 0")
    }

    @Test func `checkpoints are told twice, when they are here and when they lie on disk`() {
        var job = Telling()
        job.run(rounds: 3)
        job.tell(.checkpointSaved(round: 2))
        job.tell(.checkpointStored(round: 2, path: "out/round-2"))
        job.tell(.checkpointStored(round: 4, path: "out/round-4"))
        #expect(job.view.checkpoints.items.map(\.round) == [2, 4])
        #expect(job.view.checkpoints.items.map(\.path) == ["out/round-2", "out/round-4"])
    }

    @Test func `a full disk is what the job waits for, until it takes entries again`() {
        var job = Telling()
        job.run(rounds: 1)
        job.tell(.storageFailed(what: "entry 7", why: "no space left"))
        #expect(job.view.waiting?.why == "entry 7 cannot be stored: no space left")
        job.tell(.storageRecovered(what: "entry 7"))
        #expect(job.view.waiting == nil)
    }

    @Test func `memory stays bounded under a flood, and what was let go is counted`() {
        var limits = JobView.Limits()
        (limits.rounds, limits.losses, limits.story, limits.members) = (32, 8, 64, 16)
        var job = Telling(limits)
        job.run(rounds: 4)
        for number in 0..<20_000 {
            job.tell(.peerFound(device: "flood", gflops: 1, memoryMib: 1), peer: "stranger-\(number)")
            job.tell(.peerLost(why: "went"), peer: "stranger-\(number)")
        }
        for round in 4..<4000 { job.seal(round) }
        let view = job.view
        #expect(view.members.count <= 16 && view.roster.leftOut >= 19_980)
        // Who is in the job stays.
        #expect(["ada", "bea", "cleo", "dora", "eve"].allSatisfy { view.roster[$0]?.isPresent == true })
        #expect(view.rounds.items.count < 32 + 64 && view.rounds.count == 4000)
        #expect(view.losses.items.count < 16 && view.losses.count == 20_000)
        #expect(view.story.items.count < 128 && view.story.count > 40_000)
        #expect(view.count(.peerFound) == 20_005 && view.lossCurve.points.count <= 64 && view.lossCurve.count == 4000)
        #expect(view.rounds.items.last?.round == 3999)
    }

    @Test func `a report has every round`() {
        var job = Telling(.report)
        job.run(rounds: 3000)
        #expect(job.view.rounds.items.map(\.round) == Array(0..<3000))
    }

    /// Whatever is told in whatever order, with any numbers: no trap, and the same events give the same view.
    @Test func `any events in any order are folded`() {
        var generator = SeededGenerator(seed: 7)
        let integers = [0, 1, -1, 3, .max, .min, 1 << 32]
        let reals = [0, 1, -1, .nan, .infinity, -.infinity, 1e300, 1e-300]
        let texts = ["", "ada", "bea,cleo", "a=b;c=d", "\u{0}", ";;==", "dora"]
        var views = [JobView(), JobView()]
        for _ in 0..<20_000 {
            let name = Happening.Name.allCases[generator.below(Happening.Name.allCases.count)]
            let what = Happening(kind: name.kind) { field in
                guard let request = name.declaration.requests.first(where: { $0.field == field }) else { return nil }
                if request.isOptional, generator.below(2) == 0 { return nil }
                return switch request.kind {
                case .integer: .integer(integers[generator.below(integers.count)])
                case .real: .real(reals[generator.below(reals.count)])
                case .text: .text(texts[generator.below(texts.count)])
                case .truth: .text(["yes", "no"][generator.below(2)])
                }
            }
            let seconds = Instant(nanoseconds: [0, 1, .max, .min, 1_000_000_000][generator.below(5)])
            guard let what else {
                Issue.record("\(name) was not made")
                continue
            }
            let event = Event(what, at: seconds, peer: texts[generator.below(texts.count)])
            let host = texts[generator.below(texts.count)]
            for index in views.indices { views[index].apply(event, from: host) }
            _ = views[0].secondsLeft(at: seconds)
            #expect(views[0].rounds.items.count < 1024)
        }
        // As text: a number that is none is not equal to itself.
        #expect(views[0].counts == views[1].counts && "\(views[0].members)" == "\(views[1].members)")
        #expect("\(views[0].rounds)" == "\(views[1].rounds)" && "\(views[0].losses)" == "\(views[1].losses)")
        #expect(views[0].counts.count > 80)
    }

    @Test func `a curve of any length keeps its first point and at most so many`() {
        for limit in [2, 3, 5, 64] {
            var curve = Thinned(limit: limit)
            for value in 0..<1000 {
                curve.append(Double(value))
                #expect(curve.points.count <= limit && curve.points.first == 0)
                #expect(curve.points.enumerated().allSatisfy { $1 == Double($0 * curve.stride) })
            }
            #expect(curve.points.count > limit / 2 || limit < 4)
        }
    }
}
