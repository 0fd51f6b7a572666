import ArgumentParser
import Coordination
import Foundation
import Node
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Topologies

/// What a storm's worlds are drawn with.
struct StormWorldOptions: ParsableArguments {
    @Option(help: "Of a storm: how many machines carry the record: 3, 4, 5 or auto; without it the launcher's alone.")
    var electors: String?
    @Flag(help: "Of a storm: launcher and peers are behind home routers and firewalls, drawn from the seed.")
    var homes = false
}

struct Replay: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a job on a topology in virtual time: the daemons' own code, modelled links and devices.")

    @Argument(help: "A topology file.") var topology: String?
    @Option(help: "The job file.") var job: String?
    @Option(help: "Instead: this many small worlds, drawn from the seed and those after it, in which things go wrong.")
    var storm: Int?
    @Option(help: "Of a storm's world: the troubles that strike, by number, or none.") var keep: String?
    @OptionGroup var worlds: StormWorldOptions
    @Option(
        help:
            "Instead: a question about survival: blackouts, kills, writes, churn, electors, traffic or sessions (docs/STORM.md)."
    )
    var study: String?
    @Option(
        help: "Of a study: how many blackouts or kills, hours of churn, minutes for electors, rounds of traffic, weeks."
    )
    var count: Int?
    @Option(help: "Seed of links and identities; the job's own seed decides its data.") var seed: UInt64 = 1
    @Option(help: "Write the transcript here.") var transcript: String?
    @Option(help: "Train this many steps instead of the job's tokens.") var steps: Int?
    @Option(help: "Text to train on (its size counts; its content only with --real).") var data: String?
    @Option(
        help:
            "Instead of a topology: what launch --record wrote; the run as predicted, simulated and measured, side by side."
    )
    var compare: String?
    @Option(help: "Begin with this plan, as plan --json, replay --json or a record has it, instead of one of its own.")
    var plan: String?
    @Option(help: "Begin with the plan of what launch --record wrote; its topology too, where no other is given.")
    var from: String?
    @Option(help: "Moments of the time line, in seconds, times this.") var traceScale = 1.0
    @Option(help: "Then so many seconds later; below 0: what was before has happened when the run begins.")
    var traceOffset = 0.0
    @Flag(help: "Do the arithmetic, so that losses are real; else compute is only charged.") var real = false
    @Flag(help: "Leave out the topology's time line of faults.") var noFaults = false
    @OptionGroup var page: ReplayPageOptions
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        if storm != nil { try page.refuse("a storm's worlds") }
        if study != nil { try page.refuse("a study") }
        if let storm { return try runStorm(storm) }
        if let study { return try runStudy(study) }
        guard worlds.electors == nil else {
            throw NodeError.badInput("--electors goes with --storm N: a job says how many it has")
        }
        guard !worlds.homes else {
            throw NodeError.badInput("--homes goes with --storm N: a topology says what its hosts are behind (nat)")
        }
        guard [plan, from, compare].compactMap({ $0 }).count < 2 else {
            throw NodeError.badInput("--plan, --from and --compare each say what to begin with: give one of them")
        }
        guard let topology = compare ?? topology ?? from, let job else {
            throw NodeError.badInput(
                "replay needs a topology file (or --compare RECORD) and --job FILE, or --storm N, or --study NAME")
        }
        guard compare == nil || self.topology == nil else {
            throw NodeError.badInput("--compare \(topology): the record is the topology; leave \(self.topology!) out")
        }
        let loaded = try loadTopology(topology)
        guard compare == nil || loaded.record != nil else {
            throw NodeError.badInput(
                "--compare \(topology): it has no record; write one with atoll launch --record FILE")
        }
        guard traceScale > 0, traceScale <= 1e9, abs(traceOffset) <= 1e9 else {
            throw NodeError.badInput("--trace-scale is above 0, --trace-offset within a thousand million seconds")
        }
        try run(job, on: loaded)
    }

    private func runStorm(_ worlds: Int) throws {
        guard worlds > 0, topology == nil, job == nil, compare == nil else {
            throw NodeError.badInput(
                "--storm draws worlds of its own: give it a number above 0, and neither topology nor --job")
        }
        var places: [Int]?
        if let keep {
            places = keep == "none" ? [] : keep.split(separator: ",").compactMap { Int($0) }
            guard keep == "none" || places!.count == keep.split(separator: ",", omittingEmptySubsequences: false).count
            else {
                throw NodeError.badInput("--keep \(keep): numbers with commas between them, or none")
            }
        }
        try StormReplay(
            worlds: worlds, seed: seed, electors: try stormElectors(), atHome: self.worlds.homes, keep: places,
            transcript: transcript, json: json
        ).run()
    }
    private func stormElectors() throws -> StormReplay.Electors? {
        guard let electors = worlds.electors else { return nil }
        if electors == "auto" { return .auto }
        guard let count = Int(electors), [3, 4, 5].contains(count) else {
            throw NodeError.badInput("--electors \(electors): it is 3, 4, 5 or auto")
        }
        return .count(count)
    }

    private func runStudy(_ word: String) throws {
        guard let name = StudyReplay.Name(rawValue: word) else {
            let names = StudyReplay.Name.allCases.map(\.rawValue).joined(separator: ", ")
            throw NodeError.badInput("--study \(word): it is one of \(names)")
        }
        guard topology == nil, job == nil, compare == nil, count.map({ $0 > 0 }) ?? true else {
            throw NodeError.badInput(
                "--study draws worlds of its own: neither topology nor --job, and --count is a number above 0")
        }
        try StudyReplay(name: name, count: count, seed: seed, json: json).run()
    }

    private func run(_ job: String, on topology: Topology) throws {
        try page.prepare()
        if let transcript { try requireWritable(transcript, for: "--transcript") }
        var topology = topology.retimed(scale: traceScale, offset: traceOffset)
        if noFaults { topology.faults = [] }
        let input = try JobInput(file: job, data: data, steps: steps, seed: nil)
        let content: JobContent
        if real || data != nil {
            content = try input.content()
        } else {
            content = (try? input.content()) ?? input.blank
        }
        let manifest = try input.simulated(content)
        var options = WorldOptions()
        options.seed = seed
        options.realArithmetic = real
        options.plan = try given(topology, manifest)
        let world = World(
            topology: topology, manifest: manifest.canonicalText, parameters: JobParameters(manifest),
            corpus: try content.inMemory(), options: options)
        Interrupt.watch()
        let progress = ReplayProgress(tokens: manifest.tokens)
        let picture =
            page.isWanted
            ? ReplayPicture(
                world.topology, manifest, parameters: JobParameters(manifest).model.parameters, isComputed: real) : nil
        world.onCompute = picture.map { picture in { picture.note($1, of: $0, from: $2, to: $3) } }
        let end = world.run { world in
            progress.show(world)
            picture?.look(world)
            return !Interrupt.asked
        }
        picture?.look(world, isLast: true)
        progress.end()
        // What there is of it, where it was stopped.
        if let transcript { try writeFile(transcript, Array(world.transcript().utf8)) }
        if Interrupt.asked { throw ExitCode(130) }
        let summary = ReplaySummary(world, end, isComputed: real, compared: compare == nil ? nil : topology.record)
        print(json ? summary.json : summary.text, terminator: "")
        if let picture {
            fflush(nil)
            try page.show(picture.records)
        }
        if case .failed(let why) = end { throw NodeError.failed(why) }
    }

    /// The plan to begin with; nil: the simulated launcher plans. A record is compared on the decision that was taken.
    private func given(_ topology: Topology, _ job: JobManifest) throws -> Plan? {
        if let plan { return try PlanInput(file: plan).plan(topology, job) }
        if let from { return try PlanInput(record: from).plan(topology, job) }
        guard compare != nil, let recorded = topology.record?.plan else { return nil }
        return try PlanInput(recorded, file: compare ?? "").plan(topology, job)
    }
}

/// How far a replay is: one line that is written over, on a terminal, a line now and then elsewhere.
private final class ReplayProgress {
    private let line = ProgressLine()
    private let tokens: Int
    init(tokens: Int) { self.tokens = tokens }
    func show(_ world: World) {
        line.show {
            let state = world.hasLed ? world.coordinator.state : nil
            let done = state.map { "\($0.seals.count) rounds, \($0.sealedTokens) of \(tokens) tokens, " } ?? ""
            return "\(done)\(fixed(world.virtualSeconds, 1)) s of virtual time, \(world.deliveries) deliveries"
        }
    }
    func end() { line.end() }
}

/// What a replay comes to.
struct ReplaySummary {
    private let world: World
    private let end: JobEnd
    private let view: JobView
    private let recorded: RunRecord?
    private let isComputed: Bool

    /// - Parameters:
    ///   - isComputed: arithmetic was done; else losses are none.
    ///   - recorded: the real run that this one is to be held against.
    init(_ world: World, _ end: JobEnd, isComputed: Bool, compared recorded: RunRecord? = nil) {
        self.recorded = recorded
        self.isComputed = isComputed
        self.world = world
        self.end = end
        var view = JobView(limits: .report)
        for (host, event) in world.events { view.apply(event, from: host) }
        self.view = view
    }

    private var coordinator: Coordinator { world.coordinator }
    /// Seconds of a step in undisturbed rounds, without the first one.
    private var medianStep: Double? {
        let calm = view.rounds.items.dropFirst().filter(\.isUndisturbed)
        let perStep = calm.map { $0.seconds / Double(max(1, $0.steps)) }.sorted()
        return perStep.isEmpty ? nil : perStep[perStep.count / 2]
    }
    private var predictedStep: Double? {
        coordinator.predictionAtStart.map { $0.roundSeconds / Double($0.plan.innerSteps) }
    }

    private var comparison: ReplayComparison? {
        recorded.map { ReplayComparison($0, simulated: RunRecord(coordinator, view)) }
    }

    var json: String {
        let totals = coordinator.record.ledger.totals
        var object: [String: Any] = [
            "topology": world.topology.name, "job": coordinator.job.hex,
            "rounds": coordinator.state.seals.count, "tokens": coordinator.state.sealedTokens,
            "virtual_seconds": world.virtualSeconds,
            "step_seconds": ["predicted": predictedStep as Any, "simulated_median": medianStep as Any],
            "micro_batches": [
                "granted": totals.granted, "counted": totals.counted, "late": totals.late, "lost": totals.lost,
                "superseded": totals.superseded,
            ],
            "sent_bytes": Dictionary(uniqueKeysWithValues: world.sentBytes().map { ($0.name, $0.bytes) }),
            "transcript_sha256": world.transcriptDigest,
        ]
        if let plan = coordinator.state.plan {
            object["inner_steps"] = plan.innerSteps
            object["codec"] = plan.exchangeCodec.description
        }
        if let answer = coordinator.predictionAtStart, let data = try? JSONEncoder().encode(answer.planned.plan),
            let plan = try? JSONSerialization.jsonObject(with: data)
        {
            object["plan"] = plan
        }
        if let comparison, let data = try? JSONEncoder().encode(comparison) {
            object["comparison"] = try? JSONSerialization.jsonObject(with: data)
        }
        if case .failed(let why) = end { object["failed"] = why }
        let data = try? JSONSerialization.data(
            withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
        return String(decoding: data ?? Data(), as: UTF8.self) + "\n"
    }

    var text: String {
        var out = ""
        for (host, event) in world.events where Self.isTold(event.what) {
            let fields = event.fields.map { field in
                let isNone = !isComputed && field.name.hasSuffix("_loss")
                return "\(field.name)=\(isNone ? "not-computed" : "\(field.value)")"
            }.joined(separator: " ")
            out += escaped("\(fixed(event.at.seconds, 3)) s  \(host)  \(event.kind) \(event.peer) \(fields)") + "\n"
        }
        if let answer = coordinator.predictionAtStart {
            out += answer.planned.explanation.joined(separator: "\n") + "\n"
        }
        out += "\(coordinator.state.seals.count) rounds, \(coordinator.state.sealedTokens) tokens in "
        out += "\(fixed(world.virtualSeconds, 1)) s of virtual time\n"
        if let predictedStep, let medianStep {
            out += "step: predicted \(fixed(predictedStep, 3)) s, simulated \(fixed(medianStep, 3)) s (median)\n"
        }
        if let comparison { out += "\n" + comparison.text + "\n" }
        let totals = coordinator.record.ledger.totals
        out += "micro-batches: \(totals.granted) granted = \(totals.counted) counted + \(totals.late) late + "
        out += "\(totals.lost) lost + \(totals.superseded) superseded\n"
        return out + "transcript sha256 \(world.transcriptDigest)\n"
    }

    /// What a person reads of a replay: plans, seals, losses, and what went otherwise than planned.
    static func isTold(_ what: Happening) -> Bool {
        switch what {
        case .roundSealed: true
        case .peerFound, .peerJoined, .peerDeclined, .peerUnfit, .planRefused, .collectingWeights: false
        default: what.isStory
        }
    }
}
