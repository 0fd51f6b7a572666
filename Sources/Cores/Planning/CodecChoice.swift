public import Primitives

/// A codec for the exchange, and a sentence telling why it was taken.
public struct CodecChoice: Hashable, Sendable {
    public var codec: Codec
    public var reason: String
    public init(codec: Codec, reason: String) {
        self.codec = codec
        self.reason = reason
    }

    /// What decides: a group of equal members who send their contributions to each other.
    public struct Situation: Hashable, Sendable {
        /// Of one member's access.
        public var up: BitRate
        public var down: BitRate
        public var parameters: Int
        /// M: members, each with a pipeline of its own.
        public var pipelines: Int
        /// H, and the steps of the whole job.
        public var innerSteps: Int
        public var steps: Int
        /// Of one inner step.
        public var computeSeconds: Double
        /// How much higher the loss may end, relatively (``LossPenalty``).
        public var qualityBudget: Double

        public init(
            up: BitRate, down: BitRate, parameters: Int, pipelines: Int, innerSteps: Int, steps: Int,
            computeSeconds: Double, qualityBudget: Double
        ) {
            self.up = up
            self.down = down
            self.parameters = parameters
            self.pipelines = pipelines
            self.innerSteps = innerSteps
            self.steps = steps
            self.computeSeconds = computeSeconds
            self.qualityBudget = qualityBudget
        }

        /// Seconds of a round: H steps, then each member's message to each other one through its own access.
        func roundSeconds(_ codec: Codec) -> Double {
            let bytes = Double(pipelines - 1) * Double(parameters) * codec.bitsPerValue / 8
            return Double(innerSteps) * computeSeconds + bytes / min(up.bytesPerSecond, down.bytesPerSecond)
        }
        func penalty(_ codec: Codec) -> Double {
            LossPenalty.relative(
                pipelines: pipelines, innerSteps: innerSteps, codec: codec, activations: .fp32, steps: steps)
        }
    }

    /// A coarser codec must save this share of the time.
    static let worthwhile = 0.002

    /// Of the codecs within the quality budget (or the mildest, where none is) the fastest; a coarser one only where it
    /// saves 0.2 %.
    public static func choose(_ situation: Situation) -> CodecChoice {
        guard situation.pipelines > 1 else {
            return CodecChoice(codec: .fp32, reason: "fp32: one pipeline has nobody to exchange with.")
        }
        var candidates = CostModel.codecs.filter {
            LossPenalty.mayBeChosen($0, innerSteps: situation.innerSteps, steps: situation.steps)
        }
        candidates.sort { situation.penalty($0) < situation.penalty($1) }
        var within = candidates.filter { situation.penalty($0) <= situation.qualityBudget }
        if within.isEmpty { within = [candidates[0]] }
        func timed(_ codecs: [Codec]) -> [(Codec, Double)] { codecs.map { ($0, situation.roundSeconds($0)) } }
        return choose(
            timed(within), penalty: situation.penalty, of: "a round",
            tooCoarse: timed(candidates.filter { !within.contains($0) }))
    }

    /// From (codec, seconds) in order of rising penalty, and those that were too coarse.
    static func choose(
        _ seconds: [(Codec, Double)], penalty: (Codec) -> Double, of what: String, tooCoarse: [(Codec, Double)]
    ) -> CodecChoice {
        var best = seconds[0]
        for candidate in seconds where candidate.1 < best.1 * (1 - worthwhile) { best = candidate }
        return CodecChoice(
            codec: best.0, reason: sentence(best, seconds, penalty: penalty, of: what, tooCoarse: tooCoarse))
    }

    static func sentence(
        _ best: (Codec, Double), _ seconds: [(Codec, Double)], penalty: (Codec) -> Double, of what: String,
        tooCoarse: [(Codec, Double)]
    ) -> String {
        func share(_ x: Double) -> String { fixed(100 * x, 1) + " %" }
        var text = "Exchange in \(best.0): \(what) takes \(fixed(best.1, 2)) s"
        if best.0 != .fp32, let full = seconds.first(where: { $0.0 == .fp32 }) {
            text += ", in fp32 \(fixed(full.1, 2)) s"
            text += ", for \(share(max(0, penalty(best.0) - penalty(.fp32)))) more loss"
        }
        if let faster = tooCoarse.filter({ $0.1 < best.1 * (1 - worthwhile) }).min(by: { $0.1 < $1.1 }) {
            text +=
                "; \(faster.0), \(fixed(faster.1, 2)) s, would cost \(share(penalty(faster.0))) of loss, more than allowed"
        } else if best.0 == .fp32 {
            text += "; no coarser codec saves \(share(worthwhile)) of it"
        }
        return text + "."
    }
}

extension LossPenalty {
    /// Whether the planner takes a codec by itself: a sparse one only in rounds that can send most weights, and none for
    /// single steps that nobody measured there.
    static func mayBeChosen(_ codec: Codec, innerSteps: Int, steps: Int) -> Bool {
        if let coverage = coverage(codec: codec, innerSteps: innerSteps, steps: steps),
            coverage < leastCoverage || innerSteps == 1
        {
            return false
        }
        return !(codec == .int4 && innerSteps == 1)
    }
}

extension Campaign {
    /// Why a plan exchanges as it does: its own codec's time against the others', on its own pipelines.
    func codecChoice(_ plan: Plan) -> CodecChoice {
        let lanes = cost.lanes(plan), pacing = cost.pacing(plan)
        if let given = cost.job.exchangeCodec.value {
            return CodecChoice(codec: given, reason: "Exchange in \(given), as the job asks.")
        }
        guard lanes.count > 1 else {
            return CodecChoice(codec: pacing.codec, reason: "One pipeline has nobody to exchange with.")
        }
        func total(_ codec: Codec) -> Double {
            var other = pacing
            other.codec = codec
            return cost.totalSeconds(cost.round(lanes, other), lanes, other)
        }
        func penalty(_ codec: Codec) -> Double {
            var other = pacing
            other.codec = codec
            return cost.penalty(pipelines: lanes.count, other)
        }
        let steps = cost.job.steps(microBatchesPerVirtual: pacing.microBatchesPerVirtual)
        let tooCoarse = CostModel.codecs.filter {
            penalty($0) > cost.job.qualityBudget
                || !LossPenalty.mayBeChosen($0, innerSteps: pacing.innerSteps, steps: steps)
        }
        let sentence = CodecChoice.sentence(
            (pacing.codec, total(pacing.codec)), [(.fp32, total(.fp32))], penalty: penalty, of: "the job",
            tooCoarse: tooCoarse.filter { $0 != pacing.codec }.map { ($0, total($0)) })
        return CodecChoice(codec: pacing.codec, reason: sentence)
    }
}
