import ArgumentParser
import Foundation
import Node
import Planning
import Primitives
import Topologies

/// `atoll plan`: the plan for a topology and a job, with its prediction and its reasons.
struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Plan a job for a topology file, and say why.")

    @Argument(help: "A topology file.") var topology: String
    @Option(help: "The job file (not for dtfm).") var job: String?
    @Option(help: "What to minimise: time-to-loss, or dtfm, the published cost of 8 stages by 8 replicas.")
    var objective = Objective.timeToLoss.rawValue
    @Option(help: "Seed of the search.") var seed: UInt64 = 1
    @Option(help: "How many candidates the search may look at.") var iterations: Int?
    @Option(help: "A peer to leave out; may be repeated.") var exclude: [String] = []
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        let topology = try loadTopology(topology)
        for name in exclude where topology.index(of: name) == nil {
            throw NodeError.badInput("--exclude \(name): the topology has no such host")
        }
        if let iterations, iterations < 1 { throw NodeError.badInput("--iterations \(iterations): at least 1") }
        guard let chosen = Objective(rawValue: objective) else {
            throw NodeError.badInput(
                "--objective \(objective): \(Objective.allCases.map(\.rawValue).joined(separator: " or ")) expected")
        }
        guard chosen == .timeToLoss else { return try planLayout(topology) }
        guard let job else { throw NodeError.badInput("--job FILE is missing: what shall be trained?") }
        let manifest = try JobInput(file: job, data: nil, steps: nil, seed: nil).manifest
        let planned: PlannedJob
        do throws(PlanningError) {
            planned = try Planner.plan(
                topology: topology, job: manifest, excluding: Set(exclude), seed: seed,
                iterations: iterations ?? Planner.defaultIterations)
        } catch {
            throw NodeError.failed(error.description)
        }
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            print(String(decoding: try encoder.encode(PlanSummary(planned, job: manifest)), as: UTF8.self))
        } else {
            print(PlanReport(planned, topology: topology, job: manifest).text)
        }
    }

    /// The published objective: which 64 devices form which pipelines. Its stages hold three layers each.
    private func planLayout(_ topology: Topology) throws {
        guard exclude.isEmpty else { throw NodeError.badInput("--exclude: the grid of dtfm needs all 64 peers") }
        do throws(PlanningError) {
            let cost = try LayoutCost(topology)
            let (plan, layout) = try cost.plan(
                layers: 24, seed: seed, iterations: iterations ?? LayoutSearch.defaultIterations)
            guard json else {
                print("\(topology.name): \(fixed(layout.total, 4)) s a step in communication (objective dtfm)")
                print("  data parallel \(fixed(layout.dataParallel, 4)) s, pipeline \(fixed(layout.pipeline, 4)) s")
                for (number, pipeline) in plan.pipelines.enumerated() {
                    print("  pipeline \(number): \(pipeline.stages.map(\.peer).joined(separator: " → "))")
                }
                return
            }
            let object: [String: Any] = [
                "pipelines": plan.pipelines.map { pipeline in
                    [
                        "stages": pipeline.stages.map {
                            ["peer": $0.peer, "units": [$0.units.lowerBound, $0.units.upperBound]] as [String: Any]
                        }
                    ]
                },
                "cost": [
                    "objective": Objective.dtfm.rawValue, "total": layout.total, "data_parallel": layout.dataParallel,
                    "pipeline": layout.pipeline,
                ] as [String: Any],
            ]
            let data = try? JSONSerialization.data(
                withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
            print(String(decoding: data ?? Data(), as: UTF8.self))
        } catch {
            throw NodeError.failed(error.description)
        }
    }
}

/// `atoll topology check`: reads a file and says what is in it, or what is wrong with it.
struct TopologyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topology", abstract: "Work with topology files.", subcommands: [Check.self, Published.self])

    /// `atoll topology published N`: a scenario of the literature, as a file.
    struct Published: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print one of the five published 64-device scenarios as a topology file.")
        @Argument(help: "1 to 5: data centre, spot, regional, continent-wide, world-wide.") var number: Int
        func run() throws {
            guard PublishedScenario.all.indices.contains(number - 1) else {
                throw NodeError.badInput("published \(number): from 1 to \(PublishedScenario.all.count)")
            }
            print(PublishedScenario.all[number - 1].topology().text, terminator: "")
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Read a topology file and say what is in it.")
        @Argument(help: "A topology file.") var file: String
        func run() throws {
            let topology = try loadTopology(file)
            print("\(topology.name): \(topology.about)")
            for host in topology.hosts {
                print(
                    "  \(host.name.padding(toLength: 14, withPad: " ", startingAt: 0)) \(host.role.rawValue.padding(toLength: 12, withPad: " ", startingAt: 0))"
                        + " \(fixed(host.flops / 1e9, 1)) GFLOP/s  \(host.memory)  up \(host.up)  down \(host.down)")
            }
            print("\(topology.hosts.count) hosts, \(topology.faults.count) events: ok")
        }
    }
}
