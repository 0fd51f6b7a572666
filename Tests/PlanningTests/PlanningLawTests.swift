import Benchmarks
import Planning
import Primitives
import Testing
import Topologies

@Suite struct `Laws of planning` {
    /// The plan does not depend on how the input is written down, nor on the unit of time.
    @Test(arguments: 0..<4) func `names, the order of hosts, the way of asking and the unit of time change nothing`(
        group: UInt64
    ) {
        let laws = PlanningLaws(peers: 2...24, laws: [.order, .whatIf, .scale], iterations: 200)
        let outcomes = laws.check(seeds: (0..<10).map { 4 * $0 + group })
        #expect(outcomes.flatMap(\.violations) == [])
        #expect(outcomes.reduce(0) { $0 + $1.checks } >= 20)
    }

    /// Of peers that are equal in all but their links each keeps its own.
    @Test func `peers alike in all but their links are told apart by them`() throws {
        var random = SeededGenerator(seed: 5)
        for seed in 0..<6 as Range<UInt64> {
            var instance = PlanningInstance(seed: seed, peers: 5...9)
            for host in instance.topology.peers {
                let first = instance.topology.hosts[instance.topology.peers[0]]
                instance.topology.hosts[host].flops = first.flops
                instance.topology.hosts[host].memory = first.memory
                (instance.topology.hosts[host].up, instance.topology.hosts[host].down) = (first.up, first.down)
            }
            let other = instance.reordered(&random)
            let before = try? Planner.plan(topology: instance.topology, job: instance.job, iterations: 200)
            let after = try? Planner.plan(topology: other, job: instance.job, iterations: 200)
            #expect(before?.prediction.totalSeconds == after?.prediction.totalSeconds)
        }
    }

    /// Planners with a fault each, and the law that tells it.
    @Test func `faulty planners are told`() {
        func broken(_ law: PlanningLaw, _ planner: @escaping PlanningLaws.Planner) -> Int {
            PlanningLaws(peers: 3...6, laws: [law], planner: planner).check(seeds: Array(0..<8))
                .reduce(0) { $0 + $1.violations.count }
        }
        @Sendable func plan(_ topology: Topology, _ job: JobManifest, _ excluding: Set<String>) -> PlannedJob? {
            try? Planner.plan(topology: topology, job: job, excluding: excluding, iterations: 100)
        }
        // Leaves out who comes first.
        let byPlace: PlanningLaws.Planner = { topology, job, excluding in
            plan(topology, job, excluding.union([topology.hosts[topology.peers[0]].name]))
        }
        #expect(broken(.order, byPlace) > 0)
        // Adds a second, whatever a second is.
        let bySeconds: PlanningLaws.Planner = { topology, job, excluding in
            var found = plan(topology, job, excluding)
            found?.prediction.totalSeconds += 1
            return found
        }
        #expect(broken(.scale, bySeconds) > 0)
        // Takes the more memory there is the longer.
        let byMemory: PlanningLaws.Planner = { topology, job, excluding in
            var found = plan(topology, job, excluding)
            found?.prediction.totalSeconds *= topology.hosts.reduce(1) { $0 + Double($1.memory.bytes) }
            return found
        }
        #expect(broken(.memory, byMemory) > 0)
        #expect(broken(.useless, byMemory) > 0)
    }
}
