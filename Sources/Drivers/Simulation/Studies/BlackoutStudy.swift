import Exchange
import Planning
public import Primitives
import Record
import Telemetry
import Topologies

/// Everything is switched off at one moment of a job and begins again, for many moments: what it costs, and whether it changes anything. The
/// arithmetic is done in earnest.
public struct BlackoutStudy: Sendable {
    public struct Outcome: Sendable {
        /// Virtual seconds: when, and for how long.
        public var moment: Double
        public var length: Double
        /// That were sealed then.
        public var rounds: Int
        /// Of these, how many were done again.
        public var again: Int
        /// Every stage went on from its own file.
        public var isExact: Bool
        /// The weights are those of the job that nothing happened to.
        public var isSame: Bool
        /// What was not as it must be.
        public var violation: String?
        public var isGood: Bool { isSame && violation == nil }
    }
    public let outcomes: [Outcome]
    /// What is wrong with the job that nothing happened to.
    public let problem: String?

    /// - Parameters:
    ///   - moments: as many, between the first plan and the last seal.
    ///   - told: after each.
    public init(moments: Int, seed: UInt64, told: (Outcome) -> Void = { _ in }) {
        let script = Self.script(seed: seed)
        let calm = StormRun(script)
        problem = calm.violation ?? (calm.state.finished?.weights == nil ? "the job did not end" : nil)
        var draw = SeededGenerator(seed: seed, stream: 0x6f66_66)
        let seals = calm.moments(of: "round_sealed")
        let first = calm.moments(of: "planned").first ?? 0
        let last = seals.last ?? 0
        var outcomes: [Outcome] = []
        for _ in 0..<(problem == nil ? moments : 0) {
            let (moment, length) = (first + (last - first) * draw.uniform(), 1 + 14 * draw.uniform())
            let outcome = Self.outcome(script, calm, moment, length)
            outcomes.append(outcome)
            told(outcome)
        }
        self.outcomes = outcomes
    }

    /// Two pipelines of two stages, with error feedback, rounds of about a second.
    static func script(seed: UInt64) -> StormScript {
        StormScript.study(
            peers: 4, pipelines: 2, stages: 2, innerSteps: 2, rounds: 16, seed: seed, isReal: true
        ) { $0.exchangeCodec = .fixed(.sparse(k: 8, values: .signMagnitude)) }
    }

    private static func outcome(
        _ script: StormScript, _ calm: StormRun, _ moment: Double, _ length: Double
    ) -> Outcome {
        var script = script
        script.troubles = [
            Trouble(.blackout, host: 0, name: script.topology.hosts[0].name, from: moment, until: moment + length)
        ]
        let run = StormRun(script)
        let back = run.events.last { $0.event.kind == "rolled_back" }?.event
        let chosen = run.events.last { $0.event.kind == "supply_chosen" }?.event
        let round = back?.integer("round") ?? 0
        return Outcome(
            moment: moment, length: length, rounds: run.moments(of: "round_sealed").count { $0 < moment },
            again: (back?.integer("from") ?? round) - round,
            // Without a choice it began anew from the seed, which is exact, too.
            isExact: chosen.map { $0.text("exact") == "yes" } ?? true,
            isSame: run.state.finished?.weights == calm.state.finished?.weights, violation: run.violation)
    }
}

extension StormRun {
    /// Virtual seconds at which somebody said this.
    func moments(of kind: String) -> [Double] {
        events.filter { $0.event.kind == kind }.map { $0.event.at.seconds }
    }
}
