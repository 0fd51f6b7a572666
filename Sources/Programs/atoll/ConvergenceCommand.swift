import ArgumentParser
import Benchmarks
import Checkpoints
import Exchange
import Foundation
import Node
import Primitives
import Training
import Weights

/// `atoll bench convergence`: the loss of a small job under a codec, from the weights and in the data order of another
/// program (`Tools/exchange/export_reference.py`); several folders are several seeds.
struct ConvergenceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convergence", abstract: "The loss of the reference job under a codec.")

    @Argument(help: "Folders that Tools/exchange/export_reference.py wrote, one a seed.") var folders: [String]
    @Option(help: "The text that the order is of.") var text: String
    @Option(help: "Codec of the exchange.") var codec = "sparse:k=128"
    @Option(help: "H, steps between exchanges.") var innerSteps = 15
    @Option(help: "Learning rate of the outer step.") var outerRate: Float = 1
    @Option(help: "Nesterov momentum of the outer step.") var outerMomentum: Float = 0
    @Option(help: "What a sparse codec's error feedback is multiplied by each round.") var decay = Codec.feedbackDecay
    @Option(help: "Inner steps that hide the exchange, at a round's end.") var delay = 0
    @Option(help: "With a delay: the share of what those steps change that is kept.") var carry =
        OuterOptimizer
        .usualCarry
    @Option(help: "Peak learning rate of the inner steps; the reference's where left out.") var innerRate: Float?
    @Option(help: "Of the inner steps: adamw or muon.") var optimizer = "adamw"
    @Option(help: "Steps, where not all are wanted.") var steps: Int?
    @Flag(help: "With H = 1: exchange the change of the weights, not gradients.") var localSteps = false
    @Option(help: "Threads.") var threads = 1
    @Flag(help: "One JSON object.") var json = false

    func run() throws {
        guard let scheme = Codec(codec) else { throw NodeError.badInput(Codec.problem(codec)) }
        guard let kind = InnerOptimizer.Kind(rawValue: optimizer) else {
            throw NodeError.badInput("--optimizer \(optimizer): adamw or muon")
        }
        guard innerSteps >= 1 else { throw NodeError.badInput("--inner-steps \(innerSteps): at least 1") }
        guard delay >= 0, delay == 0 || delay < innerSteps else {
            throw NodeError.badInput("--delay \(delay): from 0 to less than --inner-steps \(innerSteps)")
        }
        guard carry >= 0, carry <= 1 else { throw NodeError.badInput("--carry \(carry): from 0 to 1") }
        let corpus = try readFile(text)
        var runs: [[String: Any]] = []
        var losses: [Double] = []
        for folder in folders {
            var (job, seed) = try load(folder, corpus: corpus)
            job.optimizer = kind
            let outer = OuterOptimizer(
                learningRate: outerRate, momentum: outerMomentum, feedbackDecay: decay, delay: delay, carry: carry)
            let outcome: ConvergenceJob.Outcome
            do throws(TrainingError) {
                outcome = try job.run(
                    codec: scheme, innerSteps: innerSteps, outer: outer, localSteps: localSteps, threads: threads)
            } catch {
                throw NodeError.failed(error.description)
            }
            losses.append(outcome.loss)
            runs.append([
                "seed": seed, "loss": outcome.loss, "payload_bytes": outcome.payloadBytes, "rounds": outcome.rounds,
                "bytes_ratio": outcome.bytesRatio, "weights_sha256": outcome.weightsDigest,
            ])
            if !json {
                let ratio = String(format: "%.0f", outcome.bytesRatio)
                print("seed \(seed): \(String(format: "%.4f", outcome.loss)) nats a byte, 1 : \(ratio) bytes")
            }
        }
        let mean = losses.reduce(0, +) / Double(losses.count)
        let squares = losses.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
        let deviation = losses.count > 1 ? (squares / Double(losses.count - 1)).squareRoot() : 0
        if json {
            let object: [String: Any] = [
                "codec": scheme.description, "inner_steps": innerSteps, "outer_rate": Double(outerRate),
                "outer_momentum": Double(outerMomentum), "optimizer": kind.rawValue, "feedback_decay": Double(decay),
                "delay": delay,
                "carry": Double(carry),
                "inner_rate": innerRate.map { Double($0) } as Any? ?? NSNull(),
                "local_steps": localSteps, "runs": runs, "mean_loss": mean, "standard_deviation": deviation,
            ]
            let data = try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys])
            print(String(decoding: data, as: UTF8.self))
        } else {
            print(
                String(
                    format: "mean %.4f, standard deviation between seeds %.4f, of the mean %.4f", mean, deviation,
                    deviation / Double(losses.count).squareRoot()))
        }
    }

    private func load(_ folder: String, corpus: [UInt8]) throws -> (ConvergenceJob, Int) {
        struct Order: Decodable {
            var workers, sequences, steps, seed, text_bytes, warmup_steps: Int
            var learning_rate: Float
            var starts, validation_starts: [Int]
        }
        let path = folder + "/order.json"
        let order: Order
        do { order = try JSONDecoder().decode(Order.self, from: Data(try readFile(path))) } catch let error as NodeError
        { throw error } catch {
            throw NodeError.badInput("\(path): not what Tools/exchange/export_reference.py writes; export it again")
        }
        let initial: ModelParameters
        do throws(CheckpointError) { initial = try Checkpoint.read(from: folder) } catch {
            throw NodeError.badInput(error.description)
        }
        let last = corpus.count - initial.shape.context - 1
        let perStep = order.workers * order.sequences
        guard order.text_bytes == corpus.count, order.workers > 0, order.sequences > 0,
            order.starts.count == order.steps * perStep, !order.validation_starts.isEmpty,
            order.validation_starts.count % ConvergenceJob.validationBatch == 0,
            (order.starts + order.validation_starts).allSatisfy({ (0...last).contains($0) })
        else {
            throw NodeError.badInput(
                "\(path) is of a text of \(order.text_bytes) bytes, \(text) has \(corpus.count); export it again from "
                    + "this text")
        }
        let starts = Array(order.starts.prefix((steps ?? order.steps) * perStep))
        let job = ConvergenceJob(
            corpus: corpus, initial: initial, order: RecordedOrder(starts: starts, sequencesPerStep: perStep),
            validationStarts: order.validation_starts, workers: order.workers,
            learningRate: innerRate ?? order.learning_rate, warmupSteps: order.warmup_steps)
        return (job, order.seed)
    }
}
