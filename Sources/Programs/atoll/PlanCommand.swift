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
    @Option(help: "The job file.") var job: String
    @Option(help: "Seed of the search.") var seed: UInt64 = 1
    @Option(help: "How many candidates the search may look at.") var iterations = Planner.defaultIterations
    @Option(help: "A peer to leave out; may be repeated.") var exclude: [String] = []
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        let topology = try loadTopology(topology)
        let manifest = try JobInput(file: job, data: nil, steps: nil, seed: nil).manifest
        for name in exclude where topology.index(of: name) == nil {
            throw NodeError.badInput("--exclude \(name): the topology has no such host")
        }
        let planned: PlannedJob
        do throws(PlanningError) {
            planned = try Planner.plan(
                topology: topology, job: manifest, excluding: Set(exclude), seed: seed, iterations: iterations)
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
}

/// `atoll topology check`: reads a file and says what is in it, or what is wrong with it.
struct TopologyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topology", abstract: "Work with topology files.", subcommands: [Check.self])

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
