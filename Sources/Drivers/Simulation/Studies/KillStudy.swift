public import Primitives
import Telemetry
import Topologies

/// One peer is gone at a random moment, and does not come back: how long until the next round is sealed.
public struct KillStudy: Sendable {
    public struct Outcome: Sendable {
        public var moment: Double
        public var host: String
        /// Nobody is told: the machine lost its power. Else the process was killed, and its connections close.
        public var isSilent: Bool
        /// Seconds until the next seal.
        public var wait: Double
        public var violation: String?
    }
    public let outcomes: [Outcome]
    /// Seconds of a round when nothing happens.
    public let median: Double

    /// Two pipelines of two stages, and a spare; rounds of some seconds.
    public init(kills: Int, seed: UInt64, told: (Outcome) -> Void = { _ in }) {
        let script = StormScript.study(peers: 5, pipelines: 2, stages: 2, innerSteps: 3, rounds: 24, seed: seed)
        let seals = StormRun(script).moments(of: "round_sealed")
        let lengths = zip(seals.dropFirst(), seals).map { $0 - $1 }.sorted()
        median = lengths.isEmpty ? 0 : lengths[lengths.count / 2]
        var draw = SeededGenerator(seed: seed, stream: 0x6b69_6c6c)
        var outcomes: [Outcome] = []
        for number in 0..<(seals.count > 8 ? kills : 0) {
            let moment = seals[2] + (seals[seals.count - 4] - seals[2]) * draw.uniform()
            let host = draw.below(5)
            let isSilent = number % 2 == 1
            var world = script
            world.troubles = [
                Trouble(
                    isSilent ? .powerCut : .crash(otherPort: false), host: host, name: "peer-\(host)", from: moment,
                    until: moment + 100_000)
            ]
            let run = StormRun(world)
            let next = run.moments(of: "round_sealed").first { $0 > moment }
            let outcome = Outcome(
                moment: moment, host: "peer-\(host)", isSilent: isSilent, wait: next.map { $0 - moment } ?? .infinity,
                violation: run.violation)
            outcomes.append(outcome)
            told(outcome)
        }
        self.outcomes = outcomes
    }
}
