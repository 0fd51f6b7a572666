import ArgumentParser
import Charts
import Foundation
import Links
import Node
import Primitives
import Topologies

/// `atoll topology`: files of peers and links.
struct TopologyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topology", abstract: "Import, check, show and measure topologies.",
        subcommands: [Import.self, Check.self, Show.self, Measure.self, Published.self])

    /// `atoll topology published N`: a scenario of the literature, as a file.
    struct Published: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print one of the five published 64-device scenarios as a topology file.")
        @Argument(help: "1 to 5: data centre, spot, two data centres, regional, world-wide.") var number: Int
        func run() throws {
            guard PublishedScenario.all.indices.contains(number - 1) else {
                throw NodeError.badInput("published \(number): from 1 to \(PublishedScenario.all.count)")
            }
            print(PublishedScenario.all[number - 1].topology().text, terminator: "")
        }
    }

    /// What a foreign file leaves open.
    struct Source: ParsableArguments {
        @Argument(help: "A topology file, of any format that can be imported.") var file: String
        @Option(help: "auto, atoll, gml, graphml, shadow, edges, simgrid, dtfm, matrix, bamboo or skypilot.")
        var format = "auto"
        @Option(help: "A matrix of bandwidths beside one of latencies.") var bandwidth: String?
        @Option(help: "Of numbers without one: us, ms, s, rtt_ms, kbps, mbps, gbps; may be repeated.") var unit:
            [String] = []
        @Option(help: "For churn traces: the topology whose peers come and go.") var onto: String?
        @Option(help: "Speed of each peer, where the file has none.") var gflops: Double?
        @Option(help: "MiB that each peer offers, where the file does not say.") var memory: Double?
        @Option(help: "Mbit/s up of each peer, where the file does not say.") var up: Double?
        @Option(help: "Mbit/s down of each peer, where the file does not say.") var down: Double?
        @Option(help: "Kilometres in a millisecond, where only distances are known.") var kmPerMs: Double?
        @Option(help: "Peers on a large graph, at most.") var mostPeers: Int?
        @Flag(help: "Where not all can reach each other: leave out hosts until the others can.") var largestComponent =
            false
        @Option(help: "Where the file has no way between two: this many ms, one way.") var assumeLatency: Double?
        @Option(help: "What peers are behind, dealt out in turn: none,port-restricted,… (docs/TOPOLOGY.md).") var nat:
            String?

        func read(quiet: Bool = false) throws -> ImportedTopology {
            var options = ImportOptions()
            func positive(_ value: Double?, _ name: String, _ most: Double) throws -> Double? {
                guard let value else { return nil }
                guard value > 0, value <= most else {
                    throw NodeError.badInput("\(name) \(value): more than 0, at most \(most)")
                }
                return value
            }
            if let value = try positive(gflops, "--gflops", 1e9) { options.flops = value * 1e9 }
            if let value = try positive(memory, "--memory", 1e9) { options.memory = .mebibytes(value) }
            if let value = try positive(up, "--up", 1e7) { options.up = .megabits(value) }
            if let value = try positive(down, "--down", 1e7) { options.down = .megabits(value) }
            if let value = try positive(kmPerMs, "--km-per-ms", 300) { options.kilometresPerMillisecond = value }
            if let mostPeers {
                guard (2...1024).contains(mostPeers) else {
                    throw NodeError.badInput("--most-peers \(mostPeers): 2 to 1024")
                }
                options.mostPeers = mostPeers
            }
            if let value = try positive(assumeLatency, "--assume-latency", 100_000) {
                guard !largestComponent else {
                    throw NodeError.badInput("--assume-latency beside --largest-component: one of the two")
                }
                options.disconnected = .assume(value / 1000)
            } else if largestComponent {
                options.disconnected = .largestPart
            }
            for unit in unit {
                guard ["us", "ms", "s", "rtt_us", "rtt_ms", "rtt_s", "kbps", "mbps", "gbps"].contains(unit) else {
                    throw NodeError.badInput("--unit \(unit): us, ms, s, rtt_us, rtt_ms, rtt_s, kbps, mbps or gbps")
                }
                if unit.hasSuffix("bps") { options.bandwidthUnit = unit } else { options.latencyUnit = unit }
            }
            let kinds = try (nat ?? "").split(separator: ",").map { word in
                guard let kind = NATKind(rawValue: String(word)) else {
                    let allowed = NATKind.allCases.map(\.rawValue).joined(separator: ", ")
                    throw NodeError.badInput("--nat \(word): any of \(allowed), with commas between")
                }
                return kind
            }
            var imported = try loadImported(
                file, format: format, options: options, bandwidth: bandwidth, onto: onto, quiet: quiet)
            imported.topology = imported.topology.withPeers(behind: kinds)
            return imported
        }
    }

    struct Import: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Turn a file of another format into a topology file.")
        @OptionGroup var source: Source
        @Option(help: "Where the YAML goes (default: stdout).") var out: String?
        func run() throws {
            let imported = try source.read()
            let text = imported.topology.text
            guard let out else { return print(text, terminator: "") }
            try writeFile(out, Array(text.utf8))
            print("\(out): \(imported.topology.hosts.count) hosts from \(imported.format.rawValue)")
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read a topology file and say what is in it, or what is wrong with it.")
        @OptionGroup var source: Source
        @Flag(help: "Print one JSON object.") var json = false

        struct Summary: Encodable {
            var name: String
            var format: String
            var hosts: Int
            var peers: Int
            var regions: Int
            var links: Int
            var events: Int
            var notes: [String]
        }
        func run() throws {
            let imported = try source.read(quiet: json)
            let topology = imported.topology
            if json {
                return try printJSON(
                    Summary(
                        name: topology.name, format: imported.format.rawValue, hosts: topology.hosts.count,
                        peers: topology.peers.count, regions: topology.regions.count, links: topology.links.count,
                        events: topology.faults.count, notes: imported.notes))
            }
            print("\(topology.name): \(topology.about)")
            let width = topology.hosts.prefix(40).map(\.name.count).max() ?? 0
            for host in topology.hosts.prefix(40) {
                print(
                    "  \(host.name.padding(toLength: width, withPad: " ", startingAt: 0))  "
                        + "\(host.role.rawValue.padding(toLength: 11, withPad: " ", startingAt: 0)) "
                        + "\(fixed(host.flops / 1e9, 1)) GFLOP/s  \(host.memory)  up \(host.up)  down \(host.down)")
            }
            if topology.hosts.count > 40 { print("  … and \(topology.hosts.count - 40) more") }
            print("\(topology.hosts.count) hosts, \(topology.faults.count) events, \(imported.format.rawValue): ok")
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Draw the map: clusters, what lies between them, the worst links.")
        @OptionGroup var source: Source
        @Option(help: "Write the map as SVG.") var svg: String?
        @Flag(help: "Print one JSON object.") var json = false
        func run() throws {
            let map = TopologyMap(try source.read(quiet: json).topology)
            if let svg { try writeFile(svg, Array(map.svg.utf8)) }
            if json { return try printJSON(map) }
            let terminal = Terminal()
            let lines = map.text(columns: terminal.columns).split(separator: "\n", omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated() { print(index == 0 ? terminal.bold(String(line)) : String(line)) }
            if let svg { print("map: \(svg)") }
        }
    }
}
