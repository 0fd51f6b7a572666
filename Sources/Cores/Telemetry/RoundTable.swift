public import Primitives

/// `rounds.csv`: a row for each sealed round, in the order of seals. A round that was done again has two rows: the later one counts.
/// Columns are described in docs/METRICS.md.
public enum RoundTable {
    public static let header =
        "round,steps_done,tokens,train_loss,validation_loss_at_start,seconds,predicted_seconds,pipelines,plan_epoch,"
        + "undisturbed,critical_batch_tokens,at_s\n"

    /// - Parameter origin: `at_s` is counted from here.
    public static func row(_ round: JobView.Round, since origin: Instant) -> String {
        let cells = [
            "\(round.round)", "\(round.stepsDone)", "\(round.tokens)", text(round.trainLoss),
            text(round.validationLoss), text(round.seconds), text(round.predictedSeconds), "\(round.pipelines)",
            "\(round.planEpoch)", round.isUndisturbed ? "1" : "0", text(round.criticalBatch),
            fixed((round.at - origin).inSeconds, 3),
        ]
        return cells.joined(separator: ",") + "\n"
    }
    /// Empty for what is not known, or no number.
    private static func text(_ value: Double?) -> String {
        guard let value, value.isFinite else { return "" }
        return "\(value)"
    }
}

/// A figure on a curve of TensorBoard.
public struct Scalar: Hashable, Sendable {
    public let tag: String
    /// Steps of the optimizer that were done.
    public let step: Int
    public let value: Double
    public init(tag: String, step: Int, value: Double) {
        self.tag = tag
        self.step = step
        self.value = value
    }
}

extension JobView.Round {
    /// What is drawn of a round. Tags are fixed: no name of a peer is one.
    public var scalars: [Scalar] {
        let tokens =
            seconds > 0 && steps > 0 && stepsDone > 0
            ? Double(self.tokens) / Double(stepsDone) * Double(steps) / seconds : nil
        let values: [(String, Int, Double?)] = [
            ("loss/train", stepsDone, trainLoss), ("loss/validation", stepsDone - steps, validationLoss),
            ("round/seconds", stepsDone, seconds), ("round/predicted_seconds", stepsDone, predictedSeconds),
            ("round/tokens_per_second", stepsDone, tokens), ("round/pipelines", stepsDone, Double(pipelines)),
            ("critical_batch_tokens", stepsDone, criticalBatch),
        ]
        return values.compactMap { tag, step, value in
            value.flatMap { $0.isFinite ? Scalar(tag: tag, step: max(0, step), value: $0) : nil }
        }
    }
}
