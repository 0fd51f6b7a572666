import ArgumentParser
import Coordination
import Foundation
import Planning
import Primitives
import Record
import Simulation
import Topologies
import Wire

/// `atoll bench simulation`: what a replay costs, with compute charged: CPU seconds, memory, and how the work of a delivery
/// grows with the pool.
struct BenchSimulation: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulation", abstract: "A replay of many peers: CPU time and memory.")
    @Option(help: "A topology file.") var topology = "Topologies/volunteers-256.yaml"
    @Option(help: "The job file.") var job = "Topologies/jobs/demo.yaml"
    @Option(help: "This many of the topology's peers, of each kind of device its share.") var peers = 64
    @Option var steps = 200
    @Option var seed: UInt64 = 1

    /// Measured before there was one virtual network: 64 peers, 200 steps.
    private static let anchor = (cpuSeconds: 283.0, mebibytes: 771)
    private static let goalSeconds = 15.0

    func run() throws {
        let all = try loadTopology(topology)
        // The smaller one first: what a process has held at most does not go down again.
        let small = try measure(all.keeping(peers: max(2, peers / 4)))
        let large = try measure(all.keeping(peers: peers))
        print(small.line)
        print(large.line)
        let growth = large.microsecondsPerDelivery / small.microsecondsPerDelivery
        print("CPU time of a delivery, \(large.peers) peers ÷ \(small.peers): \(fixed(growth, 2))")
        guard peers == 64, steps == 200 else { return }
        let isGood = large.cpuSeconds <= Self.goalSeconds
        print(
            "anchor \(fixed(Self.anchor.cpuSeconds, 0)) s and \(Self.anchor.mebibytes) MiB before there was one virtual network; "
                + "goal \(fixed(Self.goalSeconds, 0)) s: \(isGood ? "reached" : "MISSED")")
    }

    private struct Figures {
        var peers: Int
        var steps: Int
        var cpuSeconds: Double
        var mebibytes: Int
        var deliveries: Int
        var bytes: Int
        var virtualSeconds: Double
        var microsecondsPerDelivery: Double { cpuSeconds * 1e6 / Double(max(1, deliveries)) }
        var line: String {
            "\(peers) peers, \(steps) steps: \(fixed(cpuSeconds, 1)) s of CPU, \(mebibytes) MiB at most; "
                + "\(fixed(virtualSeconds, 0)) s of virtual time, \(deliveries) deliveries, \(bytes >> 20) MiB; "
                + "\(fixed(microsecondsPerDelivery, 1)) µs a delivery"
        }
    }

    private func measure(_ topology: Topology) throws -> Figures {
        var topology = topology
        topology.faults = []
        let input = try JobInput(file: job, data: nil, steps: steps, seed: nil)
        let corpus = [UInt8](repeating: 32, count: 4 << 20)
        let start = cpuSeconds()
        var options = WorldOptions()
        options.seed = seed
        let world = try World(
            topology: topology, manifest: input.simulated(JobContent(bytes: StoredBytes(corpus))).canonicalText,
            parameters: JobParameters(input.manifest), corpus: corpus, options: options)
        let end = world.run()
        let seconds = cpuSeconds() - start
        if case .failed(let why) = end { throw ValidationError("the replay failed: \(why)") }
        return Figures(
            peers: topology.peers.count, steps: world.coordinator.state.nextStep, cpuSeconds: seconds,
            mebibytes: peakMebibytes(), deliveries: world.deliveries, bytes: world.deliveredBytes,
            virtualSeconds: world.virtualSeconds)
    }
}
