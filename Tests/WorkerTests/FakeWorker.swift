import CPU
import Compute
import Foundation
import Primitives
import Synchronization
import Worker

/// A worker on a thread of this process, which does what it is asked with the processor's engine, and misbehaves where it is told.
final class FakeWorker: Sendable {
    enum Fault: Hashable, Sendable {
        case dies, isSilent, sendsGarbage, announcesTooMuch, answersAnother, answersNothing, sendsNotANumber
        case refuses(String)
        /// Once; the length is right.
        case damages(seed: UInt64)
    }
    /// At the first of these requests.
    let fault: (operation: String, fault: Fault)?
    private let configuration: @Sendable () -> StageConfiguration
    /// Workers started so far, and requests seen.
    let started = Mutex(0)
    let seen = Mutex<[String]>([])

    init(_ fault: (String, Fault)? = nil, configuration: @escaping @Sendable () -> StageConfiguration) {
        self.fault = fault
        self.configuration = configuration
    }

    /// An engine whose workers are these; only the first is faulty.
    func engine(patience: Double = 5) -> WorkerEngine {
        WorkerEngine(patience: patience, startPatience: patience) { () throws(Refusal) in self.start() }
    }

    private func start() -> WorkerLink {
        var pair: [Int32] = [-1, -1]
        let made = socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair)
        precondition(made == 0)
        let number = started.withLock {
            $0 += 1
            return $0
        }
        let theirs = WorkerChannel(socket: pair[1])
        let ended = Mutex(false)
        let box = Box(ended: ended.withLock { $0 })
        Thread { [self] in serve(theirs, box, isFirst: number == 1) }.start()
        return WorkerLink(channel: WorkerChannel(socket: pair[0])) { box.ended.withLock { $0 = true } }
    }
    private final class Box: Sendable {
        let ended: Mutex<Bool>
        init(ended: Bool) { self.ended = Mutex(ended) }
    }

    private func serve(_ channel: WorkerChannel, _ box: Box, isFirst: Bool) {
        var state = State()
        var hasDamaged = false
        while !box.ended.withLock({ $0 }) {
            let message: [String: Any]
            let descriptor: Int32?
            do throws(WorkerChannel.Failure) {
                (message, descriptor) = try channel.receive(within: .milliseconds(200))
            } catch .late { continue } catch { return }
            let operation = message["op"] as! String
            seen.withLock { $0.append(operation) }
            var reply: [String: Any] = ["seq": message["seq"]!, "ok": true]
            let isFaulty = isFirst && operation == fault?.operation
            if isFaulty {
                switch fault!.fault {
                case .dies: return
                case .isSilent: continue
                case .sendsGarbage: return channel.sendRaw([7, 0, 0, 0] + Array("{\"seq\":".utf8))
                case .announcesTooMuch: return channel.sendRaw([255, 255, 255, 127])
                case .answersAnother: reply["seq"] = 1_000_000
                case .answersNothing: reply["ok"] = nil
                case .refuses(let kind): reply = ["seq": message["seq"]!, "error": ["kind": kind, "message": "no"]]
                case .sendsNotANumber, .damages: break
                }
            }
            do {
                if reply["ok"] != nil { try state.perform(operation, message, descriptor, configuration(), &reply) }
                if isFaulty, fault!.fault == .sendsNotANumber { state.spoil(message, &reply) }
                if isFaulty, !hasDamaged, case .damages(let seed) = fault!.fault {
                    hasDamaged = true
                    channel.sendRaw(Self.damaged(reply, seed: seed))
                } else {
                    try channel.send(reply)
                }
            } catch { return }
        }
    }

    /// A frame of which some bytes are others, are missing, or are there twice.
    private static func damaged(_ reply: [String: Any], seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        var body = [UInt8]((try? JSONSerialization.data(withJSONObject: reply, options: [.sortedKeys])) ?? Data())
        for _ in 0...generator.below(3) where !body.isEmpty {
            let at = generator.below(body.count)
            switch generator.below(5) {
            case 0: body[at] = UInt8(generator.below(256))
            case 1: body.insert(Array("0123456789-.eE\"{}[],:tfn".utf8)[generator.below(24)], at: at)
            case 2: body.removeSubrange(at..<min(body.count, at + 1 + generator.below(6)))
            case 3: body.insert(contentsOf: body[at..<min(body.count, at + generator.below(20))], at: at)
            default: body.insert(contentsOf: Array("99999999999999999999".utf8), at: at)
            }
        }
        return withUnsafeBytes(of: UInt32(body.count).littleEndian) { [UInt8]($0) } + body
    }

    /// What a worker holds.
    private struct State {
        let engine = CPUEngine(threads: 1)
        var stage: StageConfiguration?
        var base: UnsafeMutableRawPointer?
        var bytes = 0
        var version = 0

        func floats(_ message: [String: Any], _ name: String) -> UnsafeMutableBufferPointer<Float>? {
            guard let place = message[name] as? [String: Int] else { return nil }
            let (offset, count) = (place["offset"]!, place["count"]!)
            precondition(offset >= 0 && offset + 4 * count <= bytes, "\(name) lies outside of the arena")
            return UnsafeMutableBufferPointer(
                start: (base! + offset).assumingMemoryBound(to: Float.self), count: count)
        }
        func integers(_ message: [String: Any], _ name: String) -> [Int32] {
            guard let place = message[name] as? [String: Int] else { return [] }
            let start = (base! + place["offset"]!).assumingMemoryBound(to: Int32.self)
            return Array(UnsafeBufferPointer(start: start, count: place["count"]!))
        }
        func text(_ message: [String: Any]) -> TokenText? {
            var text = TokenText()
            (text.tokens, text.targets) = (integers(message, "tokens"), integers(message, "targets"))
            text.firstSeen = integers(message, "first_seen")
            return text.tokens.isEmpty ? nil : text
        }
        func key(_ message: [String: Any]) -> MicroBatchKey {
            let numbers = message["key"] as! [Int]
            return MicroBatchKey(step: numbers[0], virtualPipeline: numbers[1], index: numbers[2])
        }
        func quantity(_ message: [String: Any]) -> DeviceQuantity {
            switch message["quantity"] as! String {
            case "parameters": .parameters
            case "first_moment": .firstMoment
            case "second_moment": .secondMoment
            default: .gradient
            }
        }

        func spoil(_ message: [String: Any], _ reply: inout [String: Any]) {
            if let out = floats(message, "out") { out[out.count / 2] = .nan }
            reply["loss"] = reply["loss"] == nil ? nil : "not a number"
        }

        mutating func perform(
            _ operation: String, _ message: [String: Any], _ descriptor: Int32?, _ configuration: StageConfiguration,
            _ reply: inout [String: Any]
        ) throws {
            precondition(message["version"] as! Int == version, "\(operation) is meant for another state")
            let out = floats(message, "out")
            let input = floats(message, "in").map { UnsafeBufferPointer($0) }
            switch operation {
            case "hello": (reply["protocol"], reply["device"]) = (1, "a thread")
            case "load":
                let model = message["model"] as! [String: Any]
                precondition(model["hidden_size"] as! Int == configuration.model.hiddenSize)
                precondition(
                    message["units"] as! [Int] == [configuration.units.lowerBound, configuration.units.upperBound])
                stage = configuration
                engine.configure(configuration)
            case "arena":
                bytes = message["bytes"] as! Int
                base = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor!, 0)
                close(descriptor!)
            case "recompute": try engine.recompute(message["on"] as! Bool)
            // The processor's engine draws the same itself.
            case "put" where message["quantity"] as? String == "adapters": precondition(input!.contains { $0 != 0 })
            case "put": try engine.write(quantity(message), unit: message["unit"] as! Int, from: input!)
            case "get": try engine.read(quantity(message), unit: message["unit"] as! Int, into: out!)
            case "forward":
                reply["loss"] = Double(
                    try engine.forward(key(message), text: text(message), input: input, output: out))
            case "head": reply["loss"] = Double(try engine.head(key(message), input: input!, gradient: out!))
            case "evaluate_head":
                try engine.evaluateHead(
                    sequences: message["sequences"] as! Int, text: text(message)!, input: input!, output: out!)
            case "backward": try engine.backward(key(message), gradient: input, inputGradient: out)
            case "evaluate":
                try engine.evaluate(
                    sequences: message["sequences"] as! Int, text: text(message), input: input, output: out!)
            case "take":
                // With nothing else in flight: the processor's engine sums virtual pipelines itself.
                let unit = message["unit"] as! Int
                if unit == stage!.units.lowerBound { _ = try engine.finishGradient(microBatches: 1) }
                try engine.read(.gradient, unit: unit, into: out!)
                if unit == stage!.units.upperBound - 1 { try engine.dropWork() }
            case "finish":
                let sums = try engine.finishGradient(microBatches: message["micro_batches"] as! Int)
                _ = out!.update(fromContentsOf: sums)
            case "step":
                try engine.optimizerStep(
                    DeviceStep(
                        learningRate: Float(message["learning_rate"] as! Double),
                        gradientScale: Float(message["gradient_scale"] as! Double), steps: message["steps"] as! [Int]))
            case "drop": try engine.dropWork()
            case "benchmark": engine.benchmark(flops: 1)
            default: preconditionFailure("\(operation)")
            }
            if ["put", "forward", "head", "backward", "take", "finish", "step", "drop"].contains(operation) {
                version += 1
            }
        }
    }
}
