import ArgumentParser
import Benchmarks
import Foundation
import Node
import Planning
import Primitives
import Training

/// Benchmarks for developers; `make bench` runs them all and prints each figure beside its anchor.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Benchmarks for developers.", shouldDisplay: false,
        subcommands: [
            BenchEngineCommand.self, ConvergenceCommand.self, BenchPlanningCommand.self, BenchOverlayLive.self,
            BenchOverlayLoad.self,
            BenchOverlaySimulation.self, BenchExchangeProtocol.self, BenchSimulation.self,
        ])
}

/// `atoll bench engine`: CPU time of a training step, one JSON line for each model; `make bench-engine` puts it beside PyTorch.
struct BenchEngineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "engine", abstract: "CPU time of a training step.")
    @Option var threads = 1
    @Option var steps = 8

    func run() throws {
        for line in EngineBenchmark.run(threads: threads, steps: steps, cpuSeconds: cpuSeconds) { print(line) }
    }
}

struct BenchOverlayLive: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "overlay-live", abstract: "Real overlay nodes on loopback: latency, silence, load, floods.")
    @Option var seed: UInt64 = 1
    func run() throws { OverlayLiveBenchmark.run(seed: seed) }
}

struct BenchOverlayLoad: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "overlay-load", abstract: "One real node under load, without the latencies.")
    func run() throws { OverlayLiveBenchmark.load() }
}

struct BenchOverlaySimulation: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "overlay-sim", abstract: "Thousands and a million of simulated overlay nodes.")
    func run() throws { try OverlaySimulationBenchmark.run() }
}

/// The most memory that this process has held so far, in MiB.
func peakMebibytes() -> Int {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return (line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { Int($0) }.first ?? 0) / 1024
}

/// CPU seconds of this process, all threads.
func cpuSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

/// What this machine sustains in the engine's arithmetic on all cores, in FLOP/s.
func measureMachine() -> Double {
    let cores = max(1, ProcessInfo.processInfo.activeProcessorCount)
    let engine = StageEngine(corpus: [], threads: 1)
    _ = engine.perform(.benchmark(flops: 1e9))
    let start = Date()
    _ = engine.perform(.benchmark(flops: 4e9))
    return 4e9 / max(1e-6, Date().timeIntervalSince(start)) * Double(cores)
}
