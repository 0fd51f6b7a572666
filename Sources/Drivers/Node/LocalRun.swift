import Checkpoints
import Coordination
import Digests
import Exchange
import Foundation
public import Planning
import Primitives
import Record
public import Telemetry
import Training
public import Weights
public import Wire

/// A job in one process, without a pool: to try a manifest, and the reference that everything distributed is compared with.
///
/// `auto` means one pipeline, one inner step and no compression here; given values are obeyed, each pipeline then being a
/// replica of the whole model. It tells of itself as a pool's job does: `round_sealed` and `status` after every round.
public enum LocalRun {
    /// - Returns: nil when it was interrupted.
    public static func run(
        _ job: JobManifest, corpus stored: StoredBytes, model: ContinuedModel? = nil, out: String, threads: Int,
        prompt: String,
        interrupted: () -> Bool, onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> RunReport? {
        let arrangement = LocalArrangement(job)
        var trainer = LocalTrainer(
            configuration: arrangement.configuration, pipelines: arrangement.shares,
            innerSteps: arrangement.innerSteps, totalSteps: arrangement.steps)
        trainer.initial = try initial(model)
        trainer.validationEvery = arrangement.innerSteps == 1 ? 10 : 1
        try makeFolder(out)
        guard let corpus = CorpusBytes(stored) else { throw .failed("the job's text cannot be read any more") }

        let started = Date()
        var rounds: [RunReport.Round] = []
        var stopped = false
        var last = started
        var view = JobView()
        let series = RunSeries(in: out, continuing: false, origin: .zero)
        let weights: ModelParameters
        do throws(TrainingError) {
            weights = try trainer.run(corpus: corpus, threads: threads) { report in
                let elapsed = Date().timeIntervalSince(started)
                let round = RunReport.Round(
                    round: report.round, tokens: report.tokens, trainLoss: Double(report.trainLoss),
                    validationLoss: report.validationLoss, seconds: Date().timeIntervalSince(last))
                let before = rounds.last?.validationLoss
                rounds.append(round)
                last = Date()
                for what in arrangement.happenings(round, after: before, steps: report.steps, elapsed: elapsed) {
                    let event = Event(what, at: Instant(seconds: elapsed))
                    view.apply(event)
                    series.note(event, view)
                    onEvent(event)
                }
                stopped = interrupted()
                return !stopped
            }
        } catch {
            throw .failed(error.description)
        }
        if stopped { return nil }
        let seconds = Date().timeIntervalSince(started)
        onEvent(Event(.evaluating, at: Instant(seconds: seconds)))
        let ending = RunEnding(
            corpus: corpus, dataTokens: job.text.tokens, sources: job.text.parts,
            fraction: job.validationFraction, out: out, threads: threads, prompt: prompt, seed: job.seed, model: model
        ) { onEvent(Event($0, at: Instant(seconds: Date().timeIntervalSince(started)))) }
        let result = try ending.conclude(ModelUnits(weights))
        // As on a pool: the figure after the last round is the one over all windows.
        if !rounds.isEmpty { rounds[rounds.count - 1].validationLoss = result.loss }
        let report = arrangement.report(rounds, weights: weights.weightsDigest, result, seconds: seconds)
        try writeFile(out + "/report.json", Array(report.jsonText.utf8))
        return report
    }

    /// What the job begins with, where that is not drawn from its seed.
    private static func initial(_ model: ContinuedModel?) throws(NodeError) -> ModelParameters? {
        guard let model else { return nil }
        do throws(CheckpointError) {
            var states: [UnitState] = []
            for unit in model.shape.allUnits { states.append(try model.state(unit)) }
            return ModelParameters(shape: model.shape, states: states)
        } catch {
            throw .badInput(error.description)
        }
    }
}

/// How a job is done in one process.
private struct LocalArrangement {
    let job: JobManifest
    let configuration: StageConfiguration
    /// Virtual pipelines of each replica.
    let shares: [[Int]]
    let innerSteps: Int
    let steps: Int
    private let microBatchesPerVirtual: Int

    init(_ job: JobManifest) {
        self.job = job
        let k = job.fixedMicroBatchesPerVirtual ?? 1
        microBatchesPerVirtual = k
        steps = job.steps(microBatchesPerVirtual: k)
        innerSteps = job.innerSteps.value ?? 1
        let count = min(job.pipelines.value ?? 1, job.virtualPipelines)
        shares = (0..<count).map { rank in
            Array(job.virtualPipelines * rank / count..<job.virtualPipelines * (rank + 1) / count)
        }
        var configuration = StageConfiguration(
            model: job.model, units: job.model.allUnits, geometry: job.geometry(microBatchesPerVirtual: k),
            seed: job.seed, optimizer: JobParameters(job).optimizer, mode: innerSteps == 1 ? .everyStep : .rounds,
            exchangeCodec: job.exchangeCodec.value ?? .fp32, activationCodec: .fp32,
            validationFraction: job.validationFraction, dataTokens: job.text.tokens)
        configuration.dataParts = job.text.parts
        self.configuration = configuration
    }
    var batchTokens: Int { configuration.geometry.batchTokens }

    /// What a coordinator would tell of a round, and once a second of everything.
    ///
    /// - Parameter validationLoss: of the weights that the round began with.
    func happenings(
        _ round: RunReport.Round, after validationLoss: Double?, steps done: Int, elapsed: Double
    ) -> [Happening] {
        [
            .roundSealed(
                round: round.round, steps: done, tokens: round.tokens, trainLoss: round.trainLoss,
                validationLoss: validationLoss, pipelines: shares.count, seconds: round.seconds ?? 0),
            .status(
                phase: "training", step: done, round: round.round + 1, stepsTotal: steps, tokens: round.tokens,
                tokensTotal: steps * batchTokens, tokensPerSecond: elapsed > 0 ? Double(round.tokens) / elapsed : 0,
                trainLoss: round.trainLoss, validationLoss: round.validationLoss ?? 0, sentBytes: 0,
                uncompressedBytes: 0, doing: ""),
        ]
    }

    func report(
        _ rounds: [RunReport.Round], weights: Digest256, _ result: RunEnding.Result,
        seconds: Double
    ) -> RunReport {
        let perStep = rounds.compactMap(\.seconds).map { $0 / Double(innerSteps) }.sorted()
        let plan = RunReport.PlanPart(
            epoch: 1,
            pipelines: shares.enumerated().map { rank, share in
                RunReport.Pipeline(
                    stages: [
                        RunReport.Stage(
                            peer: shares.count == 1 ? "local" : "local-\(rank)", units: [0, job.model.unitCount])
                    ], virtualPipelines: share, inFlight: 1)
            }, spares: [], innerSteps: innerSteps, batchTokens: batchTokens,
            codec: configuration.exchangeCodec.description, activations: "fp32", predicted: nil)
        let granted = steps * job.virtualPipelines * microBatchesPerVirtual
        return RunReport(
            job: sha256(Array(job.canonicalText.utf8)).hex, name: job.name, seed: job.seed,
            parameters: job.model.parameters, plan: plan, plans: [plan],
            stepSeconds: RunReport.StepSeconds(
                predicted: nil, measuredMedian: perStep.isEmpty ? nil : perStep[perStep.count / 2]),
            initialValidationLoss: nil, rounds: rounds,
            final: RunReport.Final(
                validationLoss: result.loss, bitsPerByte: job.text.tokens == nil ? result.loss / ln2 : nil,
                tokens: steps * batchTokens, seconds: seconds,
                sourceLosses: result.sourceLosses.isEmpty ? nil : result.sourceLosses),
            validationFraction: job.validationFraction,
            bytes: RunReport.Bytes(sentByPeer: [:], exchangeSent: 0, fp32EveryStep: 0), events: [],
            microBatches: RunReport.MicroBatches(
                granted: granted, counted: granted, late: 0, lost: 0, superseded: 0, auditAgrees: true),
            speedupVsBestSinglePeer: 1, weightsSha256: weights.hex, checkpoint: result.checkpoint, stretch: 1,
            sample: result.sample)
    }
}
