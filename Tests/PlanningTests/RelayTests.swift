import Exchange
import Links
import Planning
import Primitives
import Testing
import Topologies

/// What a relay costs a plan, against figures worked out by hand.
@Suite struct `A relay in the cost model` {
    /// Two replicas at home, whose contributions a third host carries; none of its own work.
    static func homes(carries megabits: Double, lines: Double = 8, peers: Int = 2) -> Topology {
        var pool = `A term of the cost model`.pool(peers, megabits: lines)
        var crane = Host(
            name: "crane", role: .bootstrap, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
            down: .megabits(100))
        crane.relayRate = .megabits(megabits)
        pool.hosts.append(crane)
        let link = LinkProperties(latency: .milliseconds(40))
        for a in 0..<peers {
            for b in 0..<peers where a != b {
                pool.links[Topology.Pair(a, b)] = link
                pool.relays[Topology.Pair(a, b)] = peers
            }
        }
        return pool
    }
    static let job = `A term of the cost model`.job()

    @Test func `carries both directions, one after the other, at its rate`() {
        let plan = `A term of the cost model`.replicas([4, 4], Self.job, innerSteps: 4)
        let direct = predict(plan: plan, topology: `A term of the cost model`.pool(2), job: Self.job)
        // As fast as the lines, it has to carry twice what each of the lines does.
        let relayed = predict(plan: plan, topology: Self.homes(carries: 8), job: Self.job)
        let bytes = Double(direct.peers[0].sentBytes)
        let one = bytes * 8 / 8e6
        #expect(relayed.roundSeconds > direct.roundSeconds + 0.9 * one)
        #expect(relayed.roundSeconds < direct.roundSeconds + 1.1 * one)
        // With rate enough for both it costs nothing beyond the way.
        let wide = predict(plan: plan, topology: Self.homes(carries: 80), job: Self.job)
        `A term of the cost model`.agree(wide.roundSeconds, direct.roundSeconds)
    }

    @Test func `is shared by all pairs that it carries`() {
        let job = Self.job
        func exposed(_ peers: Int) -> Double {
            let shares = [Int](repeating: 8 / peers, count: peers)
            let plan = `A term of the cost model`.replicas(shares, job, innerSteps: 4)
            let topology = Self.homes(carries: 1, lines: 1000, peers: peers)
            return predict(plan: plan, topology: topology, job: job).exposedExchangeSeconds
        }
        // All-gather among two is two messages, among four (owners: half of what each sends to each) no fewer than six.
        #expect(exposed(4) > 2.5 * exposed(2))
    }

    @Test func `counts on the line of a peer that carries beside its own work`() {
        // h2 works and carries for h0 and h1: its line has its own bytes and theirs.
        let job = Self.job
        var pool = `A term of the cost model`.pool(3, megabits: 8)
        let plan = `A term of the cost model`.replicas([3, 3, 2], job, innerSteps: 4)
        let before = predict(plan: plan, topology: pool, job: job)
        pool.hosts[2].relayRate = .megabits(1000)
        for pair in [Topology.Pair(0, 1), Topology.Pair(1, 0)] {
            pool.links[pair] = LinkProperties(latency: .milliseconds(40))
            pool.relays[pair] = 2
        }
        let after = predict(plan: plan, topology: pool, job: job)
        let own = Double(before.peers[2].sentBytes)
        #expect(after.roundSeconds >= 8 * (own + 2 * own / 2) / 8e6)
        #expect(after.roundSeconds > before.roundSeconds)
    }

    @Test func `makes the steps of a pipeline as long as its activations take`() {
        let job = Self.job
        let plan = Plan(
            pipelines: [
                Plan.Pipeline(
                    stages: [Plan.Stage(peer: "h0", units: 0..<1), Plan.Stage(peer: "h1", units: 1..<3)],
                    virtualPipelines: Array(0..<8), inFlight: 2)
            ], innerSteps: 4, microBatchesPerVirtual: 1, exchangeCodec: .fp32, activationCodec: .fp32, spares: [])
        let relayed = predict(plan: plan, topology: Self.homes(carries: 1), job: job)
        // Eight micro-batches of 256 rows of 128 numbers, there and back.
        let bytes = 2.0 * 8 * 256 * 128 * 4
        #expect(relayed.stepSeconds >= 8 * bytes / 1e6)
        #expect(relayed.stepSeconds < 1.3 * 8 * bytes / 1e6)
        #expect(relayed.binding.bandwidth > 0.5)
    }

    @Test func `is said with what would help`() throws {
        var topology = Self.homes(carries: 2)
        topology.hosts[1].port = 7070
        let plan = `A term of the cost model`.replicas([4, 4], Self.job, innerSteps: 4)
        let planned = try Planner.planned(plan, topology: topology, job: Self.job)
        let pair = try #require(planned.relayed.first)
        #expect(planned.relayed.count == 1)
        #expect(pair.from == "h0" && pair.to == "h1" && pair.relay == "crane" && pair.megabits == 2)
        let direct = predict(plan: plan, topology: topology.reaching(0), job: Self.job)
        let steps = Double(planned.prediction.steps)
        `A term of the cost model`.agree(
            pair.savedStepSeconds, (planned.prediction.totalSeconds - direct.totalSeconds) / steps)
        #expect(pair.forward == "h0" && pair.port == nil)
        #expect(pair.text.hasPrefix("h0–h1: relayed by crane, 2.0 Mbit/s; forward h0's port, TCP and UDP, to save "))
        #expect(planned.explanation.contains(pair.text + "."))
        topology.hosts[0].port = 7171
        let again = RelayedPair.all(of: plan, topology: topology, job: Self.job)
        #expect(again[0].text.contains("; forward TCP and UDP 7171 to h0 to save "))
        // A relay that is as good as a way of their own: nothing to forward.
        let wide = RelayedPair.all(of: plan, topology: Self.homes(carries: 80), job: Self.job)
        #expect(wide[0].forward == nil && wide[0].text == "h0–h1: relayed by crane, 8.0 Mbit/s")
    }

    @Test func `is avoided where another cut needs it less`() throws {
        // Four peers in two homes: inside they see each other, between them a relay carries 1 Mbit/s.
        var topology = `A term of the cost model`.pool(4, megabits: 1000, milliseconds: 5)
        var crane = Host(
            name: "crane", role: .bootstrap, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
            down: .megabits(100))
        crane.relayRate = .megabits(1)
        topology.hosts.append(crane)
        // Places in the file alternate, so that the order tells nothing.
        for (a, b) in [(0, 1), (0, 3), (2, 1), (2, 3)] {
            for pair in [Topology.Pair(a, b), Topology.Pair(b, a)] {
                topology.links[pair] = LinkProperties(latency: .milliseconds(5))
                topology.relays[pair] = 4
            }
        }
        var job = `A term of the cost model`.job(layers: 4)
        job.pipelines = .fixed(2)
        job.stages = .fixed(2)
        job.innerSteps = .fixed(8)
        let plan = try Planner.plan(topology: topology, job: job, seed: 3).plan
        for pipeline in plan.pipelines {
            let places = pipeline.stages.compactMap { topology.index(of: $0.peer) }
            #expect(topology.relays[Topology.Pair(places[0], places[1])] == nil, "\(pipeline.stages.map(\.peer))")
        }
    }
}
