import ArgumentParser
import Foundation
import Node
import Primitives
import Training

/// `atoll bench engine`: CPU time of a training step, one JSON line for each model; `make bench-engine` puts it beside PyTorch.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Benchmarks for developers.", shouldDisplay: false)
    @Argument(help: "engine, overlay-live, overlay-load, overlay-sim") var what: String
    @Option var threads = 1
    @Option var steps = 8
    @Option var seed: UInt64 = 1

    func run() throws {
        switch what {
        case "engine":
            for line in EngineBenchmark.run(threads: threads, steps: steps, cpuSeconds: cpuSeconds) { print(line) }
        case "overlay-load": OverlayLiveBenchmark.load()
        case "overlay-live": OverlayLiveBenchmark.run(seed: seed)
        case "overlay-sim": try OverlaySimulationBenchmark.run()
        default: throw NodeError.badInput("bench \(what): engine, overlay-live, overlay-load or overlay-sim")
        }
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
