import Charts
import Links
import Planning
import Primitives
import Testing
import Topologies

@Suite struct `A sweep` {
    static let topology = Topology(
        name: "pair",
        hosts: ["a", "b"].map {
            Host(name: $0, flops: 10e9, memory: .mebibytes(64), up: .megabits(50), down: .megabits(100))
        }, defaultLink: .init(latency: .milliseconds(20)))
    static func job() throws -> JobManifest {
        try JobManifest(
            parsing: """
                name: small
                model: {hidden_size: 64, layers: 4, heads: 4, intermediate_size: 128, context: 64}
                data: {path: none}
                train: {tokens: 200_000}
                parallel: {virtual_pipelines: 4, micro_batch: 2}
                """)
    }

    @Test(arguments: Sweep.Axis.allCases) func `has a finding and a point for each value, the same with the same seed`(
        axis: Sweep.Axis
    ) throws {
        let job = try Self.job()
        let sweep = Sweep.run(axis, topology: Self.topology, job: job, seed: 3, iterations: 100)
        #expect(sweep == Sweep.run(axis, topology: Self.topology, job: job, seed: 3, iterations: 100))
        #expect(sweep.points.count >= 2)
        #expect(!sweep.findings.isEmpty)
        for point in sweep.points {
            let seconds = try #require(point.seconds)
            #expect(seconds > 0 && (point.latencyFloorSeconds ?? 0) <= seconds)
        }
        #expect(sweep.text(columns: 80).split(separator: "\n").allSatisfy { $0.count <= 80 })
        #expect(sweep.svg.contains("latency floor"))
    }

    @Test func `says what memory stops`() throws {
        var topology = Self.topology
        for index in topology.hosts.indices { topology.hosts[index].memory = ByteCount(1000) }
        let sweep = Sweep.run(.latency, topology: topology, job: try Self.job(), iterations: 20)
        #expect(sweep.points.allSatisfy { $0.seconds == nil && $0.reason != nil })
        #expect(sweep.text(columns: 80).contains("nothing fits"))
    }

    @Test func `shares in whole per cent add to a hundred`() {
        #expect(PlanReport.percentages([1.0 / 3, 1.0 / 3, 1.0 / 3]) == [34, 33, 33])
        #expect(PlanReport.percentages([0.995, 0.005]).reduce(0, +) == 100)
    }
}
