import Planning
public import Primitives
import Record
import Telemetry
import Topologies

/// What befalls the machines that carry a record, one thing a world: how often the lead changes, and whether anything is lost. The arithmetic
/// is done in earnest.
public struct ElectorStudy: Sendable {
    public struct Outcome: Sendable {
        /// What struck.
        public var what: String
        /// How often another took the lead while it lasted and in the half minute after.
        public var changes: Int
        /// Micro-batches that were accepted or granted, and came to nothing.
        public var lost: Int
        /// The longest time between two seals, in seconds.
        public var pause: Double
        /// The weights are those of the job that nothing happened to.
        public var isSame: Bool
        /// What was not as it must be: with two leaders of a term, certificates that contradict each other, certified entries that are gone.
        public var violation: String?
        /// More changes of leader are not meant.
        public var changesMost: Int
        public var isGood: Bool { isSame && violation == nil && lost == 0 && changes <= changesMost }
    }
    public let outcomes: [Outcome]
    /// What is wrong with the job that nothing happened to.
    public let problem: String?

    /// - Parameters:
    ///   - minutes: that each trouble lasts, but for stalls, of four seconds.
    ///   - told: after each.
    public init(minutes: Int, seed: UInt64, told: (Outcome) -> Void = { _ in }) {
        let script = Self.script(minutes: minutes, seed: seed)
        let calm = StormRun(script)
        let chosen = calm.events.first { $0.event.kind == "electors_chosen" }?.event.text("electors") ?? ""
        let hosts = script.topology.hosts
        let follower = chosen.split(separator: ",").compactMap { name in hosts.firstIndex { $0.name == name } }.first
        problem = calm.violation ?? (follower == nil ? "nobody was chosen to carry the record" : nil)
        var outcomes: [Outcome] = []
        guard problem == nil, let follower else {
            self.outcomes = []
            return
        }
        let leader = hosts.firstIndex { $0.role == .coordinator }!
        let begin = (calm.moments(of: "round_sealed").first ?? 60) + 30
        let long = 60 * Double(minutes)
        func trouble(_ kind: Trouble.Kind, _ host: Int, _ length: Double, from moment: Double = begin) -> Trouble {
            Trouble(kind, host: host, name: hosts[host].name, from: moment, until: moment + length)
        }
        let worlds: [(String, [Trouble], Int)] = [
            ("the leader's disk stalls for 4 s", [trouble(.stall, leader, 4)], 1),
            ("a follower's disk stalls for 4 s", [trouble(.stall, follower, 4)], 0),
            ("the leader hears nobody", [trouble(.deaf, leader, long)], 1),
            ("nobody hears the leader", [trouble(.mute, leader, long)], 1),
            ("a follower does not hear the leader", [trouble(.oneWay(from: leader), follower, long)], 1),
            ("the leader does not hear a follower", [trouble(.oneWay(from: follower), leader, long)], 1),
            (
                "whoever leads is killed every minute",
                (0..<minutes).map { trouble(.dethroned, leader, 20, from: begin + 60 * Double($0)) }, minutes
            ),
        ]
        for (what, troubles, most) in worlds {
            var world = script
            world.troubles = troubles
            let run = StormRun(world)
            let until = (troubles.map(\.until).max() ?? 0) + 30
            let seals = run.moments(of: "round_sealed")
            let outcome = Outcome(
                what: what,
                changes: run.moments(of: "leadership_taken").count { $0 >= begin && $0 <= until },
                lost: run.totals.lost + run.totals.late,
                pause: zip(seals.dropFirst(), seals).map { $0 - $1 }.max() ?? 0,
                isSame: run.state.finished?.weights == calm.state.finished?.weights, violation: run.violation,
                changesMost: most)
            outcomes.append(outcome)
            told(outcome)
        }
        self.outcomes = outcomes
    }

    /// Six peers of which two train, with an exchange each step: whoever takes a place changes no bit. Rounds of some seconds.
    static func script(minutes: Int, seed: UInt64) -> StormScript {
        StormScript.study(
            peers: 6, pipelines: 2, stages: 1, innerSteps: 1, rounds: 17 * minutes + 20, seed: seed, isReal: true,
            flops: 6e6
        ) { $0.electors.count = .fixed(3) }
    }
}
