import Planning
public import Primitives
import Record
import Topologies

/// Peers go for good, and others come in their place, all the time: what is left of the throughput.
public struct ChurnStudy: Sendable {
    public struct World: Sendable {
        public var seconds: Double
        public var rounds: Int
        public var granted: Int
        public var counted: Int
        public var violation: String?
    }
    /// Nothing happens; and the same job with peers that go and come.
    public let calm: World
    public let churned: World
    public let replaced: Int
    public var kept: Double { churned.seconds > 0 ? calm.seconds / churned.seconds : 0 }

    /// Ten peers in pipelines of two stages; rounds of about twenty seconds. Every ten minutes three of them go, half of them killed and half
    /// without power, and three others come up to twenty seconds later.
    public init(hours: Double, seed: UInt64, told: (World) -> Void = { _ in }) {
        let peers = 10
        let windows = Int((hours * 6).rounded(.up)) + 1
        let all = peers + 3 * windows
        var script = Self.script(peers: all, hours: hours, seed: seed)
        let later = (peers..<all).map { script.trouble(.late, $0, from: 0, until: 1e6) }
        script.troubles = later
        calm = World(StormRun(script))
        told(calm)
        var draw = SeededGenerator(seed: seed, stream: 0x6368_75)
        var present = Array(0..<peers)
        var troubles: [Trouble] = []
        for number in 0..<3 * windows {
            let moment = 600 * (Double(number / 3) + draw.uniform())
            let gone = present.remove(at: draw.below(present.count))
            let kind: Trouble.Kind = draw.below(2) == 0 ? .crash(otherPort: false) : .powerCut
            troubles.append(script.trouble(kind, gone, from: moment, until: 1e6))
            troubles.append(script.trouble(.late, peers + number, from: 0, until: moment + 20 * draw.uniform()))
            present.append(peers + number)
        }
        script.troubles = troubles
        let run = StormRun(script)
        churned = World(run)
        told(churned)
        replaced = troubles.count { $0.kind != .late && $0.from < run.virtualSeconds }
    }

    private static func script(peers: Int, hours: Double, seed: UInt64) -> StormScript {
        let rounds = Int(hours * 180)
        let (virtual, context, steps, microBatch) = (20, 32, 4, 14)
        let pool = StormScript.studyPool(peers)
        let script = StormScript.study(peers: peers, pipelines: 5, stages: 2, innerSteps: steps, rounds: 1, seed: seed)
        {
            $0.virtualPipelines = virtual
            $0.microBatch = microBatch
            $0.batchTokens = .fixed(virtual * context * microBatch)
            $0.tokens = virtual * context * microBatch * steps * rounds
            $0.pipelines = .auto
        }
        return StormScript(seed: seed, topology: pool, job: script.job, corpus: script.corpus, troubles: [])
    }
}

extension ChurnStudy.World {
    init(_ run: StormRun) {
        self.init(
            seconds: run.virtualSeconds, rounds: run.rounds, granted: run.totals.granted, counted: run.totals.counted,
            violation: run.violation)
    }
}

extension StormScript {
    func trouble(_ kind: Trouble.Kind, _ host: Int, from: Double, until: Double) -> Trouble {
        Trouble(kind, host: host, name: topology.hosts[host].name, from: from, until: until)
    }
}
