import Checkpoints
internal import Compute
import Inference
import Primitives
import Telemetry
import Tokenizers
import Training
import Weights

/// What every run ends with, local or not: checkpoint, loss over all validation windows, a sample of text.
struct RunEnding {
    var corpus: CorpusBytes
    /// Where the corpus is a file of tokens.
    var dataTokens: Int?
    /// Of a mixture.
    var sources: [DataPart] = []
    var fraction: Double
    var out: String
    var threads: Int
    /// What the sample continues.
    var prompt: String
    var seed: UInt64
    var model: ContinuedModel?
    /// Hears of an evaluation that takes longer than two seconds, every two seconds.
    var tell: (Happening) -> Void
    private static let sampleTemperature = 0.8

    struct Result {
        var checkpoint: String
        var loss: Double
        /// Of a mixture: of each source.
        var sourceLosses: [Double?]
        var sample: String
    }

    func conclude(_ weights: ModelUnits) throws(NodeError) -> Result {
        let checkpoint = try Self.write(weights, to: out, like: model)
        let evaluation: Evaluation
        var sample = ""
        var told = ContinuousClock.now
        func progress(_ done: Int, of all: Int) {
            guard told.duration(to: .now) >= .seconds(2) else { return }
            told = .now
            tell(.evaluationProgress(windows: done, of: all))
        }
        do throws(TrainingError) {
            evaluation = try evaluateAll(
                weights, corpus: corpus, dataTokens: dataTokens, sources: sources, validationFraction: fraction,
                threads: threads, progress: progress)
            if dataTokens == nil, let parameters = weights.parameters {
                let bytes = try generate(
                    parameters, prompt: Array(prompt.utf8), count: 200, temperature: Self.sampleTemperature, seed: seed,
                    threads: threads)
                sample = prompt + String(decoding: bytes, as: UTF8.self)
            }
        } catch {
            throw .failed(error.description)
        }
        if dataTokens != nil { sample = try tokenSample(checkpoint) }
        return Result(
            checkpoint: checkpoint, loss: evaluation.meanLoss, sourceLosses: evaluation.sourceLosses, sample: sample)
    }

    /// - Returns: where the checkpoint is.
    static func write(
        _ weights: ModelUnits, to out: String, like model: ContinuedModel?
    ) throws(NodeError) -> String {
        try makeFolder(out)
        let checkpoint = out + "/checkpoint"
        do throws(CheckpointError) {
            try Checkpoint.write(weights, to: checkpoint, like: model)
        } catch {
            throw .failed(error.description)
        }
        return checkpoint
    }

    /// By the checkpoint that was written, and its tokenizer; nothing where it has none.
    private func tokenSample(_ checkpoint: String) throws(NodeError) -> String {
        guard let text = try? ModelText(checkpoint) else { return "" }
        do {
            guard let model = try ModelFolder(checkpoint).inferenceModel() else { return "" }
            var tokens = TokenEncoder(text.tokenizer).encode(Array(prompt.utf8))
            guard !tokens.isEmpty else { return "" }
            let (first, count) = (tokens.count, 60)
            let session = InferenceSession(model, capacity: min(model.shape.context, first + count), threads: threads)
            var sampler = Sampler(temperature: Self.sampleTemperature, seed: seed)
            var next = tokens
            while tokens.count < session.capacity {
                let token = sampler.choose(session.read(next.map { Int32($0) }))
                if text.endings.contains(token) || Int(token) >= text.tokenizer.count { break }
                tokens.append(token)
                next = [token]
            }
            let bytes = try text.tokenizer.decode(Array(tokens[first...]), skippingSpecial: true)
            return prompt + String(decoding: bytes, as: UTF8.self)
        } catch {
            throw .failed("a sample of \(checkpoint): \(error)")
        }
    }
}
