import Foundation
public import Planning
import Primitives
import Swarm
import Training

/// A job in one process, without a pool: to try a manifest, and the reference that everything distributed is compared with.
///
/// `auto` means one pipeline, one inner step and no compression here; given values are obeyed, each pipeline then being a
/// replica of the whole model.
public enum LocalRun {
    public struct Progress {
        public var step: Int
        public var steps: Int
        public var trainLoss: Double
        public var validationLoss: Double?
        public var tokensPerSecond: Double
    }

    public static func run(
        _ job: JobManifest, corpus: [UInt8], out: String, threads: Int, prompt: String, interrupted: () -> Bool,
        onProgress: (Progress) -> Void
    ) throws(NodeError) -> RunReport? {
        let parameters = JobParameters(job)
        let k = job.fixedMicroBatchesPerVirtual ?? 1
        let steps = job.steps(microBatchesPerVirtual: k)
        let innerSteps = job.innerSteps.value ?? 1
        let count = min(job.pipelines.value ?? 1, job.virtualPipelines)
        let shares = (0..<count).map { rank in
            Array(job.virtualPipelines * rank / count..<job.virtualPipelines * (rank + 1) / count)
        }
        let codec = job.exchangeCodec.value ?? .fp32
        let configuration = StageConfiguration(
            model: job.model, units: job.model.allUnits, geometry: job.geometry(microBatchesPerVirtual: k),
            seed: job.seed,
            optimizer: parameters.optimizer, mode: innerSteps == 1 ? .everyStep : .rounds, exchangeCodec: codec,
            activationCodec: .fp32, validationFraction: job.validationFraction)
        var trainer = LocalTrainer(
            configuration: configuration, pipelines: shares, innerSteps: innerSteps, totalSteps: steps)
        trainer.validationEvery = innerSteps == 1 ? 10 : 1
        try makeFolder(out)

        let started = Date()
        var rounds: [RunReport.Round] = []
        var stopped = false
        var last = started
        let weights: ModelParameters
        do throws(TrainingError) {
            weights = try trainer.run(corpus: corpus, threads: threads) { report in
                let elapsed = Date().timeIntervalSince(started)
                rounds.append(
                    RunReport.Round(
                        round: report.round, tokens: report.tokens, trainLoss: Double(report.trainLoss),
                        validationLoss: report.validationLoss, seconds: Date().timeIntervalSince(last)))
                last = Date()
                onProgress(
                    Progress(
                        step: report.steps, steps: steps, trainLoss: Double(report.trainLoss),
                        validationLoss: report.validationLoss, tokensPerSecond: Double(report.tokens) / elapsed))
                stopped = interrupted()
                return !stopped
            }
        } catch {
            throw .failed(error.description)
        }
        if stopped { return nil }
        let seconds = Date().timeIntervalSince(started)
        let result = try concludeRun(
            weights, corpus: corpus, fraction: job.validationFraction, out: out, threads: threads, prompt: prompt,
            seed: job.seed)
        // As on a pool: the figure after the last round is the one over all windows.
        if !rounds.isEmpty { rounds[rounds.count - 1].validationLoss = result.loss }
        let batch = job.geometry(microBatchesPerVirtual: k).batchTokens
        let perStep = rounds.compactMap(\.seconds).map { $0 / Double(innerSteps) }.sorted()
        let plan = RunReport.PlanPart(
            epoch: 1,
            pipelines: shares.enumerated().map { rank, share in
                RunReport.Pipeline(
                    stages: [
                        RunReport.Stage(peer: count == 1 ? "local" : "local-\(rank)", units: [0, job.model.unitCount])
                    ],
                    virtualPipelines: share, inFlight: 1)
            }, spares: [], innerSteps: innerSteps, batchTokens: batch, codec: codec.description, activations: "fp32",
            predicted: nil)
        let granted = steps * job.virtualPipelines * k
        let report = RunReport(
            job: sha256Hex(job.canonicalText), name: job.name, seed: job.seed, parameters: job.model.parameters,
            plan: plan,
            plans: [plan],
            stepSeconds: RunReport.StepSeconds(
                predicted: nil, measuredMedian: perStep.isEmpty ? nil : perStep[perStep.count / 2]),
            initialValidationLoss: nil, rounds: rounds,
            final: RunReport.Final(
                validationLoss: result.loss, bitsPerByte: result.loss / 0.693_147_180_559_945_3, tokens: steps * batch,
                seconds: seconds),
            validationFraction: job.validationFraction,
            bytes: RunReport.Bytes(sentByPeer: [:], exchangeSent: 0, fp32EveryStep: 0), events: [],
            microBatches: RunReport.MicroBatches(
                granted: granted, counted: granted, late: 0, lost: 0, superseded: 0, auditAgrees: true),
            speedupVsBestSinglePeer: 1, weightsSha256: weights.weightsDigest.hex, checkpoint: result.checkpoint,
            stretch: 1,
            sample: result.sample)
        try writeFile(out + "/report.json", Array(report.jsonText.utf8))
        return report
    }
}
