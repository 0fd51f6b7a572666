internal import Primitives

/// What a real run came to, beside the topology on which it ran: the last part of a record's file (`record:`).
///
/// A topology that has one is what a launcher measured; its events are what happened to the peers. Times are seconds of the machines
/// that ran it.
public struct RunRecord: Hashable, Sendable {
    /// The job's name.
    public var job: String
    /// Sealed.
    public var steps: Int
    public var rounds: Int
    /// H of the first plan.
    public var innerSteps: Int
    /// Before the first step, for the first plan; and what came of it.
    public var predicted: Figures
    public var measured: Figures
    /// Of each loss, until the first step beyond where the job was.
    public var recoverySeconds: [Double]
    /// What the run began with; nil in records of before this was kept.
    public var plan: RecordedPlan?

    public struct Figures: Hashable, Sendable {
        /// Median of undisturbed rounds, from seal to seal; ÷ H.
        public var stepSeconds: Double?
        public var roundSeconds: Double?
        /// From the first round's beginning to the last seal.
        public var totalSeconds: Double?
        /// By all peers, in the whole job.
        public var sentBytes: Double?
        public init(
            stepSeconds: Double? = nil, roundSeconds: Double? = nil, totalSeconds: Double? = nil,
            sentBytes: Double? = nil
        ) {
            self.stepSeconds = stepSeconds
            self.roundSeconds = roundSeconds
            self.totalSeconds = totalSeconds
            self.sentBytes = sentBytes
        }
    }

    public init(
        job: String, steps: Int, rounds: Int, innerSteps: Int, predicted: Figures, measured: Figures,
        recoverySeconds: [Double] = [], plan: RecordedPlan? = nil
    ) {
        self.plan = plan
        self.job = job
        self.steps = steps
        self.rounds = rounds
        self.innerSteps = innerSteps
        self.predicted = predicted
        self.measured = measured
        self.recoverySeconds = recoverySeconds
    }
}

extension RunRecord {
    private static let figureKeys = ["step_s", "round_s", "total_s", "sent_mib"]
    private static let mostLosses = 10_000

    init(_ node: YAMLNode) throws(FileProblem) {
        let top = try node.mapping([
            "job", "steps", "rounds", "inner_steps", "predicted", "measured", "recovery_s", "plan",
        ])
        func figures(_ key: String) throws(FileProblem) -> Figures {
            guard let entry = try top[key]?.mapping(RunRecord.figureKeys) else { return Figures() }
            func number(_ key: String) throws(FileProblem) -> Double? { try entry[key]?.number(0...1e12) }
            return Figures(
                stepSeconds: try number("step_s"), roundSeconds: try number("round_s"),
                totalSeconds: try number("total_s"), sentBytes: try number("sent_mib").map { $0 * 1_048_576 })
        }
        var recovery: [Double] = []
        for item in try top["recovery_s"]?.list("a list of seconds", most: RunRecord.mostLosses) ?? [] {
            recovery.append(try item.number(0...1e9))
        }
        self.init(
            job: try top.required("job").text(), steps: try top.required("steps").integer(0...1_000_000_000),
            rounds: try top.required("rounds").integer(0...1_000_000_000),
            innerSteps: try top.required("inner_steps").integer(1...1_000_000), predicted: try figures("predicted"),
            measured: try figures("measured"), recoverySeconds: recovery,
            plan: try top["plan"].map { (node) throws(FileProblem) in try RecordedPlan(node) })
    }

    /// As the file has it.
    var text: String {
        func fields(_ figures: Figures) -> String {
            let values = [
                figures.stepSeconds, figures.roundSeconds, figures.totalSeconds,
                figures.sentBytes.map { $0 / 1_048_576 },
            ]
            return zip(RunRecord.figureKeys, values).compactMap { key, value in
                value.map { "\(key): \(yamlNumber($0))" }
            }.joined(separator: ", ")
        }
        var out = "record:\n  job: \(yamlScalar(job))\n  steps: \(steps)\n  rounds: \(rounds)\n"
        out += "  inner_steps: \(innerSteps)\n"
        out += "  predicted: {\(fields(predicted))}\n  measured: {\(fields(measured))}\n"
        out += "  recovery_s: [\(recoverySeconds.map(yamlNumber).joined(separator: ", "))]\n"
        if let plan { out += plan.text }
        return out
    }
}
