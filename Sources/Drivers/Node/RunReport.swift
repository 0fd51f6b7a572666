import Digests
import Exchange
import Foundation
import Planning
public import Primitives
import Training
import Wire

let ln2 = 0.693_147_180_559_945_3

/// `report.json`: what a run did, what was predicted before its first step, and whether its books balance. See docs/REPORT.md.
public struct RunReport: Codable, Sendable {
    public struct Stage: Codable, Sendable {
        public var peer: String
        public var units: [Int]
        public var recompute = false
    }
    public struct Pipeline: Codable, Sendable {
        public var stages: [Stage]
        public var virtualPipelines: [Int]
        public var inFlight: Int
    }
    public struct PlanPart: Codable, Sendable {
        public var epoch: Int
        public var pipelines: [Pipeline]
        public var spares: [String]
        public var innerSteps: Int
        public var batchTokens: Int
        public var codec: String
        public var activations: String
        public var predicted: Predicted?
    }
    public struct Predicted: Codable, Sendable {
        public var stepSeconds: Double
        public var roundSeconds: Double
        public var tokensPerSecond: Double
        public var totalSeconds: Double
        public var exposedExchangeSeconds: Double
        public var lossPenalty: Double
    }
    public struct StepSeconds: Codable, Sendable {
        public var predicted: Double?
        public var measuredMedian: Double?
        /// The same of the last plan, where there were several.
        public var lastEpoch: Int?
        public var lastPredicted: Double?
        public var lastMeasuredMedian: Double?
    }
    public struct Round: Codable, Sendable {
        public var round: Int
        public var tokens: Int
        public var trainLoss: Double
        public var validationLoss: Double?
        public var seconds: Double?
    }
    public struct Final: Codable, Sendable {
        public var validationLoss: Double
        /// Only where every byte is a token.
        public var bitsPerByte: Double?
        public var tokens: Int
        public var seconds: Double
        /// Sealed in ``seconds``; nil where those are all.
        public var tokensSeen: Int?
        /// Of a mixture: the loss of each source's validation part, null where that has no complete window.
        public var sourceLosses: [Double?]?
    }
    public struct Bytes: Codable, Sendable {
        public var sentByPeer: [String: Int]
        public var exchangeSent: Int
        public var fp32EveryStep: Int
    }
    public struct Told: Codable, Sendable {
        public var atS: Double
        public var kind: String
        public var peer: String
        public var detail: [String: String]
    }
    public struct MicroBatches: Codable, Sendable {
        public var granted: Int
        public var counted: Int
        public var late: Int
        public var lost: Int
        public var superseded: Int
        /// The independent audit of log and receipts came to the same numbers.
        public var auditAgrees: Bool
    }

    public var format = 1
    public var job: String
    public var name: String
    public var seed: UInt64
    public var parameters: Int
    /// The plan at the end; `plans` has all.
    public var plan: PlanPart
    public var plans: [PlanPart]
    public var stepSeconds: StepSeconds
    /// From the norms of the exchanges (``GradientNoise``).
    public var criticalBatchTokens: Double?
    public var initialValidationLoss: Double?
    public var rounds: [Round]
    public var final: Final
    public var validationFraction: Double
    public var validationNote = "rounds use 64 fixed windows, the final figure all complete windows"
    public var bytes: Bytes
    public var events: [Told]
    /// Events before the first of `events`, where there were more than a report keeps.
    public var eventsLeftOut: Int?
    public var microBatches: MicroBatches
    /// Predicted; nil where another leader of the job has planned it.
    public var speedupVsBestSinglePeer: Double?
    public var weightsSha256: String
    public var checkpoint: String
    public var stretch: Double
    public var sample: String

    public var jsonText: String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else { return "{}" }
        return String(decoding: data, as: UTF8.self) + "\n"
    }
}
