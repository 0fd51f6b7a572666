import Planning
import Primitives
import Testing
import Topologies

@Suite struct `A plan that runs` {
    /// The same pool measured twelve times, each figure up to 5 % off: changes must be rare.
    @Test func `is not thrown over by noise in the measurements`() throws {
        let (truth, job, planned) = try `The planner`.demo()
        var random = SeededGenerator(seed: 11)
        var running = planned.plan
        var changes = 0
        for _ in 0..<12 {
            var measured = truth
            for index in measured.hosts.indices {
                func noise() -> Double { 0.95 + 0.1 * random.uniform() }
                measured.hosts[index].flops *= noise()
                measured.hosts[index].up.bitsPerSecond *= noise()
                measured.hosts[index].down.bitsPerSecond *= noise()
            }
            let next = try Planner.plan(topology: measured, job: job, current: running, iterations: 100).plan
            if next != running { changes += 1 }
            running = next
        }
        #expect(changes <= 2)
    }

    /// Parts of the search in any order, as on many cores, and one after the other.
    @Test func `does not depend on how the search is spread`() throws {
        let (topology, job, planned) = try `The planner`.demo()
        let backwards = Parallel { count, body in for index in (0..<count).reversed() { body(index) } }
        #expect(try Planner.plan(topology: topology, job: job, parallel: backwards) == planned)
    }

    @Test func `is one peer alone where that is quicker than all together`() throws {
        var topology = try Shipped.topology("demo")
        let job = try `The planner`.demoJob()
        let fast = topology.peers[3]
        topology.hosts[fast].flops *= 200
        topology.hosts[fast].memory = .mebibytes(4096)
        let planned = try Planner.plan(topology: topology, job: job)
        #expect(planned.plan.workers == [topology.hosts[fast].name])
        #expect(planned.plan.spares.count == topology.peers.count - 1)
        #expect(planned.explanation.contains { $0.contains("stay spare") })
    }
}
