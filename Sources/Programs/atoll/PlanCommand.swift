import ArgumentParser
import Charts
import Checkpoints
import Foundation
import Node
import Planning
import Primitives
import Topologies

/// `atoll plan`: the plan for a topology and a job, with its prediction and its reasons.
struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Plan a job for a topology file, and say why.")

    @OptionGroup var source: TopologyCommand.Source
    @Option(help: "The job file; needed unless --objective is dtfm.") var job: String?
    @Option(
        help:
            "A folder as Hugging Face writes them, or its config.json: plan for that model in place of the job's, with the job's context. Weights need not be there."
    )
    var model: String?
    @Option(help: "time-to-loss, or dtfm: the published layout problem.") var objective = Objective.timeToLoss.rawValue
    @Option(help: "Seed of the search.") var seed: UInt64 = 1
    @Option(help: "How many candidates the search may look at.") var iterations: Int?
    @Option(help: "A peer to leave out; may be repeated.") var exclude: [String] = []
    @Option(
        name: .customLong("what-if"),
        help: "A change to plan for, such as 'heron.up=50 Mbit/s' or latency=x2; may be repeated.")
    var whatIf: [String] = []
    @Option(help: "Draw time to loss against batch, latency, bandwidth, peers or inner-steps.") var sweep: String?
    @Option(help: "The critical batch in tokens: beyond it a larger one needs as much more data.") var criticalBatch:
        Double?
    @Option(help: "Write the time line, or the sweep's curve, as SVG.") var svg: String?
    @Flag(
        help:
            "Tell what no plan can beat, for many peers too: more than 64 take longer than the plan itself, more than 512 too long."
    )
    var bound = false
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        guard let objective = Objective(rawValue: objective) else {
            throw NodeError.badInput(
                "--objective \(objective): \(Objective.allCases.map(\.rawValue).joined(separator: " or "))")
        }
        if let iterations, !(1...100_000_000).contains(iterations) {
            throw NodeError.badInput("--iterations \(iterations): 1 to 100 000 000")
        }
        let axis = try sweep.map { name in
            guard let axis = Sweep.Axis(rawValue: name) else {
                throw NodeError.badInput(
                    "--sweep \(name): \(Sweep.Axis.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            return axis
        }
        if let criticalBatch, !(criticalBatch > 0 && criticalBatch <= 1e15) {
            throw NodeError.badInput("--critical-batch \(criticalBatch): tokens, more than 0")
        }
        let imported = try source.read(quiet: json)
        let given = imported.topology
        for name in exclude where given.index(of: name) == nil {
            let meant =
                nearest(to: name, among: given.hosts.prefix(2000).map(\.name)).map { "; did you mean \($0)?" } ?? ""
            throw NodeError.badInput("--exclude \(name): the topology has no such host\(meant)")
        }
        var topology = given
        do throws(FileProblem) {
            for change in whatIf { topology = try WhatIf(change).applied(to: topology) }
        } catch {
            throw NodeError.badInput("\(error)")
        }
        if let svg { try requireWritable(svg, for: "--svg") }
        let manifest = try job.map { try JobInput(file: $0, data: nil, steps: nil, seed: nil).manifest }
        do throws(PlanningError) {
            if objective == .dtfm {
                guard axis == nil else { throw PlanningError.impossible("--sweep goes with time-to-loss only.") }
                return try layOut(topology, imported.layout, manifest)
            }
        } catch {
            throw NodeError.failed(error.description)
        }
        guard var manifest else {
            throw NodeError.badInput("plan needs a job: --job FILE, such as Topologies/jobs/demo.yaml")
        }
        if let model {
            manifest.model = try Self.shape(model, context: manifest.model.context)
            if !json {
                let shape = manifest.model
                complain(
                    "note: planned for the model of \(model), \(shape.parameters) parameters in \(shape.layers) layers, with sequences of \(shape.context) tokens."
                )
            }
        }
        if let criticalBatch { manifest.criticalBatchTokens = .fixed(max(1, Int(criticalBatch))) }
        if let axis { return try run(axis, topology, manifest) }
        try plan(topology, given, manifest)
    }

    /// A model's shape from its configuration alone, with sequences no longer than the job's.
    private static func shape(_ path: String, context: Int) throws -> ModelShape {
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
        guard exists else { throw NodeError.badInput("--model \(path): there is no such folder or file") }
        let file = isFolder.boolValue ? path + "/config.json" : path
        let bytes = try readFile(file, limit: 1 << 20)
        do throws(CheckpointError) {
            var shape = try ModelConfiguration(parsing: bytes, path: file).shape
            shape.context = min(context, shape.context)
            return shape
        } catch {
            throw NodeError.badInput(error.description)
        }
    }

    /// Who is not there when the job begins is planned without.
    private func excluded(_ topology: Topology) -> Set<String> {
        let late = topology.lateJoiners
        if !late.isEmpty, !json {
            let who = late.count == 1 ? "one host joins" : "\(late.count) hosts join"
            complain("note: \(who) later and not planned with.")
        }
        return Set(exclude).union(late)
    }

    private func plan(_ topology: Topology, _ given: Topology, _ manifest: JobManifest) throws {
        let excluded = excluded(topology)
        var before: Double?
        let planned: PlannedJob
        do throws(PlanningError) {
            planned = try Planner.plan(
                topology: topology, job: manifest, excluding: excluded, seed: seed,
                iterations: iterations ?? Planner.defaultIterations, parallel: .cores)
            if !whatIf.isEmpty {
                before = try? Planner.plan(
                    topology: given, job: manifest, excluding: excluded, seed: seed,
                    iterations: iterations ?? Planner.defaultIterations, parallel: .cores
                ).prediction.totalSeconds
            }
        } catch {
            throw NodeError.failed(error.description)
        }
        // With more peers a single megabit buys nothing worth a line.
        let helps = topology.peers.count > 512 ? [] : Counterfactual.of(planned, topology: topology, job: manifest)
        let isBounded = bound || topology.peers.count <= PlanBound.mostUnasked
        let least =
            isBounded
            ? PlanBound.of(
                planned.prediction.totalSeconds, topology: topology, job: manifest, excluding: excluded,
                parallel: .cores) : nil
        let report = PlanReport(
            planned, topology: topology, job: manifest, counterfactuals: helps, bound: least)
        if let svg { try writeFile(svg, Array(report.ganttSVG.utf8)) }
        if json {
            var summary = PlanSummary(planned, job: manifest, counterfactuals: helps, bound: least)
            summary.whatIf = before.map {
                PlanSummary.WhatIfResult(
                    changes: whatIf, totalSecondsBefore: $0, totalSeconds: planned.prediction.totalSeconds)
            }
            return try printJSON(summary)
        }
        print(report.text, terminator: "")
        if !whatIf.isEmpty {
            let now = planned.prediction.totalSeconds
            let change = before.map {
                "\(fixed(now, 1)) s instead of \(fixed($0, 1)) s: \(now <= $0 ? "−" : "+")\(fixed(abs(100 * (now / $0 - 1)), 1)) %"
            }
            print("\nwhat if \(whatIf.joined(separator: ", ")): \(change ?? "before, nothing fitted")")
        }
        if let svg { print("\ntime line: \(svg)") }
    }

    private func run(_ axis: Sweep.Axis, _ topology: Topology, _ manifest: JobManifest) throws {
        let progress = ProgressLine(every: 0)
        let sweep = Sweep.run(
            axis, topology: topology, job: manifest, excluding: excluded(topology), seed: seed,
            iterations: iterations ?? Planner.defaultIterations, parallel: .cores
        ) { done, of in progress.show { "\(axis.rawValue): point \(done + 1) of \(of)" } }
        progress.end()
        if let svg { try writeFile(svg, Array(sweep.svg.utf8)) }
        if json { try printJSON(sweep) } else { print(sweep.text(columns: Terminal().columns), terminator: "") }
        if let svg, !json { print("curve: \(svg)") }
        guard sweep.points.contains(where: { $0.seconds != nil }) else {
            throw NodeError.failed("nothing fits at any point")
        }
    }

    /// The published problem: the scenario's own grid and sizes, else the paper's.
    private func layOut(_ topology: Topology, _ figures: LayoutFigures?, _ manifest: JobManifest?) throws(PlanningError)
    {
        let constants = figures.map {
            LayoutProblem.Constants(
                stages: $0.stages, replicas: $0.replicas, gradientGigabytes: $0.gradientGigabytes,
                activationGigabytes: $0.activationGigabytes)
        }
        let kept = exclude.isEmpty ? topology : topology.keeping { !exclude.contains(topology.hosts[$0].name) }
        let cost = try LayoutCost(kept, constants: constants ?? .published)
        // A smaller model than the paper's has too few layers for its grid: units are then those of the paper's.
        let layers =
            manifest.map(\.model.layers).flatMap { $0 >= cost.problem.stages ? $0 : nil }
            ?? max(24, cost.problem.stages)
        let (plan, layout) = try cost.plan(
            layers: layers, seed: seed, iterations: iterations ?? LayoutSearch.defaultIterations)
        let summary = LayoutSummary(plan, layout)
        if json {
            do { try printJSON(summary) } catch { throw .impossible("\(error)") }
        } else {
            print(summary.text, terminator: "")
        }
    }
}

extension Parallel {
    /// All cores of this machine.
    static let cores = Parallel { count, body in
        DispatchQueue.concurrentPerform(iterations: count, execute: body)
    }
}
