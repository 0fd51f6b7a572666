import ArgumentParser
import Foundation
import Node
import Primitives
import Training

/// Benchmarks for developers.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Benchmarks for developers.", shouldDisplay: false,
        subcommands: [BenchEngineCommand.self, ConvergenceCommand.self])
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
