import CPU
import Compute
import Foundation
import Primitives
import Testing
import Training
import Wire
import Worker

/// Whether this machine has a Python with PyTorch: `ATOLL_PYTHON`, else `python3`.
private let hasPyTorch: Bool = {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [ProcessInfo.processInfo.environment["ATOLL_PYTHON"] ?? "python3", "-c", "import torch"]
    process.standardError = FileHandle.nullDevice
    do { try process.run() } catch { return false }
    process.waitUntilExit()
    return process.terminationStatus == 0
}()

/// The real worker.
@Suite(.serialized, .enabled(if: hasPyTorch, "no PyTorch: set ATOLL_PYTHON to a Python that has it"))
struct TorchTests {
    static func worker(_ device: String = "cpu") throws -> TorchWorker {
        let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
        let python = ProcessInfo.processInfo.environment["ATOLL_PYTHON"] ?? "python3"
        var worker = TorchWorker(python: python, folder: sources.appendingPathComponent("Tools/torch-engine").path)
        worker.device = device
        worker.threads = 1
        return worker
    }

    /// Of two devices each has half of a unit's weights, and half of a micro-batch's sequences.
    @Test(arguments: ["cpu", "cpu,cpu"])
    func `agrees with the processor's engine, and with itself after it was killed`(devices: String) throws {
        let process = try Self.worker(devices).process
        nonisolated(unsafe) var last: WorkerLink?
        let device = WorkerEngine { () throws(Refusal) in
            last = try process.start()
            return last!
        }
        let check = try WorkerCheck.run(device)
        #expect(check.worst < 1e-5 && check.lossDifference < 1e-5, "\(check.text)")

        // Two rounds as the processor does them, to within what the order of sums makes of them; every kind of stage.
        let suite = `An engine in another process`.self
        let here = suite.engines([0..<5]) { _ in CPUEngine(threads: 1) }
        let there = suite.engines([0..<5]) { _ in device }
        func parameters(_ results: [ComputeResult]) -> [Float] {
            results.flatMap { result -> [Float] in
                guard case .state(let states) = result else { return [] }
                return states.flatMap { $0.parameters }.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            }
        }
        let found = parameters(try suite.round(there, from: 0))
        let right = parameters(try suite.round(here, from: 0))
        let size = right.reduce(0) { $0 + Double($1) * Double($1) }
        let distance = zip(found, right).reduce(0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
        #expect((distance / size).squareRoot() < 2e-3)

        last!.end()
        let key = MicroBatchKey(step: 2, virtualPipeline: 0, index: 0)
        guard case .refused = there[0].perform(.forward(key, input: [])) else {
            Issue.record("a dead worker answered")
            return
        }
        #expect(there[0].perform(.configure(suite.configuration())) == .done)
        #expect(parameters(try suite.round(there, from: 0)).count == right.count)
    }

    /// A cut between tied embeddings and the final norm, both stages on workers.
    @Test(arguments: ["cpu", "cpu,cpu"])
    func `lends the table of tied embeddings as the processor's engine does`(devices: String) throws {
        let process = try Self.worker(devices).process
        let suite = `An engine in another process`.self
        func results(_ device: () -> any DeviceEngine) throws -> (losses: [Double], parameters: [Float]) {
            let engines = suite.engines([0..<3, 3..<5], isTied: true) { _ in device() }
            var (losses, parameters): ([Double], [Float]) = ([], [])
            for result in try suite.round(engines, from: 0) {
                switch result {
                case .loss(let loss): losses.append(Double(loss))
                case .evaluation(let sum, let tokens): losses.append(sum / Double(tokens))
                case .state(let states):
                    parameters += states.flatMap(\.parameters).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
                default: break
                }
            }
            return (losses, parameters)
        }
        let here = try results { CPUEngine(threads: 1) }
        let there = try results { WorkerEngine { () throws(Refusal) in try process.start() } }
        #expect(here.losses.count == 9 && there.losses.count == 9)
        for (a, b) in zip(here.losses, there.losses) { #expect(abs(a - b) < 2e-3) }
        #expect(abs(here.losses[0] - there.losses[0]) < 1e-5)
        let size = here.parameters.reduce(0) { $0 + Double($1) * Double($1) }
        let distance = zip(here.parameters, there.parameters).reduce(0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
        #expect((distance / size).squareRoot() < 2e-3)
    }

    /// LoRA: a round's losses and what comes of the weights, beside the processor's; what has no adapter has not moved by a bit.
    @Test(arguments: [[0..<5], [0..<1, 1..<3, 3..<5]], [NumberFormat.fp32, .bf16])
    func `moves adapters as the processor's engine does`(cuts: [Range<Int>], weights: NumberFormat) throws {
        // On two devices the factors are on both, and stay equal.
        let process = try Self.worker(cuts.count == 1 ? "cpu,cpu" : "cpu").process
        let suite = `An engine in another process`.self
        func results(_ device: () -> any DeviceEngine) throws -> (losses: [Double], units: [[Float]], start: [[Float]])
        {
            let engines = suite.engines(cuts, isTied: true, adapters: suite.adapters, weights: weights) { _ in device()
            }
            func units(_ results: [ComputeResult]) -> [[Float]] {
                results.flatMap { result -> [[Float]] in
                    guard case .state(let states) = result else { return [] }
                    return states.map {
                        ($0.parameters.all ?? []).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
                    }
                }
            }
            let start = units(
                engines.map { $0.perform(.exportState(units: $0.configuration!.units, includeMoments: false)) })
            var (losses, last): ([Double], [ComputeResult]) = ([], [])
            for round in 0..<2 {
                last = try suite.round(engines, from: 2 * round)
                for result in last {
                    if case .loss(let loss) = result { losses.append(Double(loss)) }
                    if case .evaluation(let sum, let tokens) = result { losses.append(sum / Double(tokens)) }
                }
            }
            return (losses, units(last), start)
        }
        let here = try results { CPUEngine(threads: 1) }
        let there = try results { WorkerEngine { () throws(Refusal) in try process.start() } }
        #expect(here.start == there.start && here.losses.count == 18 && there.losses.count == 18)
        for (a, b) in zip(here.losses, there.losses) { #expect(abs(a - b) < 1e-4, "\(a) \(b)") }
        let model = suite.configuration(isTied: true).model
        for unit in model.allUnits {
            var at = 0
            for tensor in model.tensors(unit: unit) {
                let part = at..<at + tensor.count
                at = part.upperBound
                let (old, own, other) = (here.start[unit][part], here.units[unit][part], there.units[unit][part])
                guard (1...3).contains(unit), suite.adapters.adapts(tensor) else {
                    #expect(old == other && own == other, "\(tensor.name)")
                    continue
                }
                let moved = zip(old, own).reduce(0) { $0 + pow(Double($1.1) - Double($1.0), 2) }
                let apart = zip(other, own).reduce(0) { $0 + pow(Double($1.1) - Double($1.0), 2) }
                #expect(moved > 0 && (apart / moved).squareRoot() < 0.02, "\(tensor.name): \(apart / moved)")
            }
        }
    }

    /// With gradients exchanged every step each virtual pipeline is summed by itself, also where the logits of the next one are made
    /// before this one goes backward.
    @Test(arguments: ["cpu", "cpu,cpu"])
    func `keeps the table's gradients of virtual pipelines apart`(devices: String) throws {
        let process = try Self.worker(devices).process
        let suite = `An engine in another process`.self
        func contributions(_ device: () -> any DeviceEngine) throws -> [[Float]] {
            let engines = [0..<2, 2..<5].map { units in
                var configuration = suite.configuration(units, mode: .everyStep, isTied: true)
                configuration.geometry.virtualPipelines = 4
                configuration.geometry.microBatchesPerVirtual = 1
                configuration.exchangeCodec = .fp32
                let engine = StageEngine(corpus: suite.corpus, on: device(), threads: 1)
                #expect(engine.perform(.configure(configuration)) == .done)
                return engine
            }
            // Virtual pipelines 0 and 2: neither is the other's sibling in the tree, so that each stays a sum of its own.
            let keys = [0, 2].map { MicroBatchKey(step: 0, virtualPipeline: $0, index: 0) }
            var gradients: [[UInt8]] = []
            for key in keys {
                guard case .activation(let hidden) = engines[0].perform(.forward(key, input: [])),
                    case .activation(let normed) = engines[1].perform(.forward(key, input: hidden)),
                    case .head(_, let gradient) = engines[0].perform(.head(key, input: normed))
                else { throw Refusal("forward") }
                gradients.append(gradient)
            }
            for (key, gradient) in zip(keys, gradients) {
                guard case .inputGradient(let out) = engines[1].perform(.backward(key, gradient: gradient)),
                    case .inputGradient = engines[0].perform(.backward(key, gradient: out))
                else { throw Refusal("backward") }
            }
            guard case .contribution(let units) = engines[0].perform(.encodeContribution) else {
                throw Refusal("encode")
            }
            let table = units.filter { $0.unit == 0 }
            #expect(table.count == 2)
            return table.map {
                Array(($0.bytes.all ?? []).dropFirst(4)).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            }
        }
        let here = try contributions { CPUEngine(threads: 1) }
        let there = try contributions { WorkerEngine { () throws(Refusal) in try process.start() } }
        for (a, b) in zip(here, there) {
            let size = a.reduce(0) { $0 + Double($1) * Double($1) }
            let distance = zip(a, b).reduce(0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
            #expect(a.count == b.count && size > 0 && (distance / size).squareRoot() < 1e-5)
        }
    }

    /// Gradients exchanged every step: whatever the device's are, all take the same step of their sum, to the bit.
    @Test(arguments: ["cpu", "cpu,cpu"])
    func `has the weights of a peer on its processor after every step`(devices: String) throws {
        let process = try Self.worker(devices).process
        let suite = `An engine in another process`.self
        let configuration = suite.configuration(mode: .everyStep)
        func engine(_ device: any DeviceEngine) -> StageEngine {
            let engine = StageEngine(corpus: suite.corpus, on: device, threads: 1)
            #expect(engine.perform(.configure(configuration)) == .done)
            return engine
        }
        let engines = [
            engine(CPUEngine(threads: 1)), engine(WorkerEngine { () throws(Refusal) in try process.start() }),
        ]
        var losses: [Float] = []
        for step in 0..<6 {
            var parts: [RankedContribution] = []
            for (rank, engine) in engines.enumerated() {
                var results: [ComputeResult] = []
                for index in 0..<2 {
                    let key = MicroBatchKey(step: step, virtualPipeline: rank, index: index)
                    try suite.pass(key, [engine], &results)
                }
                for case .loss(let loss) in results { losses.append(loss) }
                guard case .contribution(let units) = engine.perform(.encodeContribution) else {
                    throw Refusal("encode")
                }
                parts.append(RankedContribution(rank: rank, microBatches: 2, units: units))
            }
            for engine in engines {
                guard case .sumSquares(let sums) = engine.perform(.aggregateGradients(parts)) else {
                    throw Refusal("aggregate")
                }
                #expect(engine.perform(.optimizerStep(norm: gradientNorm(sums), learningRate: 0.01)) == .done)
            }
            let states = engines.map { $0.perform(.exportState(units: 0..<5, includeMoments: true)) }
            #expect(states[0] == states[1])
        }
        #expect(losses.count == 24 && losses.suffix(4).reduce(0, +) < losses.prefix(4).reduce(0, +) - 0.5)
    }
}

extension TorchTests {
    /// Whoever waits for what the others have summed is not to wait for ever.
    @Test func `of several devices ends as a whole when one of them ends`() throws {
        let process = try Self.worker("cpu,cpu").process
        nonisolated(unsafe) var links: [WorkerLink] = []
        let device = WorkerEngine { () throws(Refusal) in
            links.append(try process.start())
            return links.last!
        }
        #expect(try WorkerCheck.run(device).worst < 1e-5)
        let helper = try #require(Self.helpers().first)
        kill(helper, SIGKILL)
        #expect(throws: Refusal.self) { try WorkerCheck.run(device) }
        #expect(try WorkerCheck.run(device).worst < 1e-5)
        #expect(links.count == 2)
        for link in links { link.end() }
        #expect(Self.helpers().isEmpty)
    }

    @Test func `refuses devices that cannot sum together, by name`() throws {
        let device = try Self.worker("cpu,mps").engine()
        do throws(Refusal) {
            _ = try WorkerCheck.run(device)
            Issue.record("they summed")
        } catch { #expect(error.reason.contains("cpu,mps"), "\(error.reason)") }
    }

    /// Processes of this test's workers beside the first of each.
    private static func helpers() -> [pid_t] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.compactMap { pid_t($0) }.filter { process in
            guard let line = FileManager.default.contents(atPath: "/proc/\(process)/cmdline") else { return false }
            let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            guard words.contains("--helper") else { return false }
            // Of this process: its parent's parent.
            func parent(_ of: pid_t) -> pid_t? {
                let status = FileManager.default.contents(atPath: "/proc/\(of)/status").map {
                    String(decoding: $0, as: UTF8.self)
                }
                let line = status?.split(separator: "\n").first { $0.hasPrefix("PPid:") }
                return line.flatMap { pid_t($0.dropFirst(5).trimmingCharacters(in: .whitespaces)) }
            }
            return parent(process).flatMap(parent) == getpid()
        }
    }
}
