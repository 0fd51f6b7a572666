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
            BenchEngineCommand.self, BenchMemoryCommand.self, ConvergenceCommand.self, BenchPlanningCommand.self,
            BenchPlanningLaws.self,
            BenchOverlayLive.self,
            BenchOverlayLoad.self,
            BenchOverlaySimulation.self, BenchExchangeProtocol.self, BenchDoor.self, BenchChannels.self,
            BenchSimulation.self, BenchFlowLines.self, BenchFlow.self,
        ])
}

/// `atoll bench engine`: CPU time of a training step, one JSON line for each model; `make bench-engine` puts it beside PyTorch.
struct BenchEngineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "engine", abstract: "CPU time of a training step.")
    @Option var threads = 1
    @Option var steps = 8
    @Option(help: "1m, 15m, 134m, by commas.") var models = "1m,15m"

    func run() throws {
        let chosen = try models.split(separator: ",").map { name in
            guard let model = EngineBenchmark.Model(rawValue: String(name)) else {
                throw NodeError.badInput("--models \(name): 1m, 15m or 134m")
            }
            return model
        }
        for line in EngineBenchmark.run(models: chosen, threads: threads, steps: steps, cpuSeconds: cpuSeconds) {
            print(line)
        }
    }
}

/// `atoll bench memory`: the most memory of a stage's step beside what the law says, one JSON line; a process for each figure.
struct BenchMemoryCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "memory", abstract: "A stage's memory and the law.")
    @Option var model = "15m"
    @Option(help: "First unit and the one after the last: 0-8.") var units: String?
    @Option var context: Int?
    @Option var sequences = 1
    @Option var inFlight = 1
    @Option var threads = 1
    @Flag var rounds = false
    @Flag var recompute = false
    @Flag var bf16 = false
    @Flag var muon = false

    func run() throws {
        guard let chosen = EngineBenchmark.Model(rawValue: model) else {
            throw NodeError.badInput("--model \(model): 1m, 15m or 134m")
        }
        let ends = units?.split(separator: "-").compactMap { Int($0) } ?? []
        var benchmark = MemoryBenchmark(
            model: chosen, units: ends.count == 2 && ends[0] < ends[1] ? ends[0]..<ends[1] : nil)
        (benchmark.context, benchmark.sequences, benchmark.inFlight) = (context, sequences, inFlight)
        (benchmark.rounds, benchmark.recompute) = (rounds, recompute)
        if bf16 { benchmark.kept = KeptFormats(state: .bf16, weights: .bf16) }
        benchmark.kept.hasSecondMoments = !muon
        let before = peakMebibytes()
        if let why = benchmark.run(threads: threads, room: ScratchFolder(NSTemporaryDirectory())) {
            throw NodeError.failed(why)
        }
        let peak = Double(peakMebibytes() - before)
        let law = Double(benchmark.law.bytes) / 1_048_576
        let fields: [String: Any] = [
            "model": model, "units": units ?? "all", "rounds": rounds, "recompute": recompute, "bf16": bf16,
            "muon": muon, "context": context ?? 0, "law_mib": Int(law), "peak_mib": Int(peak),
            "peak_over_law": (100 * peak / law).rounded() / 100,
        ]
        let line = try JSONSerialization.data(withJSONObject: fields, options: [.sortedKeys])
        print(String(decoding: line, as: UTF8.self))
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

struct BenchDoor: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "door", abstract: "Joining a peer while strangers who prove nothing stand at its door.")
    @Option var halfOpen = 200
    @Option var silent = 100
    @Option var joins = 20
    func run() throws { try DoorBenchmark.run(halfOpen: halfOpen, silent: silent, joins: joins) }
}

struct BenchChannels: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "channels", abstract: "CPU time of a message between two cores of channels, without TLS.")
    @Option var repeats = 3
    func run() {
        print("a message of      CPU time          copies of it      Gbit/s")
        for row in ChannelsBenchmark.run(repeats: repeats, cpuSeconds: cpuSeconds) {
            let cells = [
                "\(row.bytes) bytes", "\(fixed(row.seconds * 1e9, 0)) ns", fixed(row.seconds / row.copySeconds, 1),
                fixed(Double(row.bytes) * 8e-9 / row.seconds, 1),
            ]
            print(cells.map { $0.padding(toLength: 18, withPad: " ", startingAt: 0) }.joined())
        }
    }
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
