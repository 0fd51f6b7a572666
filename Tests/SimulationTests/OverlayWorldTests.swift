import Kademlia
import Primitives
import Simulation
import Testing

/// The overlay's core, five hundred at a time, in virtual time.
@Suite struct OverlayWorldTests {
    private func run(
        seed: UInt64 = 1, nodes: Int = 500, _ world: (inout OverlayWorldOptions) -> Void = { _ in },
        _ scenario: (inout OverlayScenario.Options) -> Void = { _ in }
    ) -> OverlayScenario {
        var options = OverlayWorldOptions()
        options.nodes = nodes
        options.seed = seed
        world(&options)
        var course = OverlayScenario.Options()
        course.rounds = 60
        scenario(&course)
        let out = OverlayScenario(OverlayWorld(options), course)
        out.run()
        return out
    }
    private func success(_ scenario: OverlayScenario) -> Double {
        let all = scenario.summaries.reduce(0) { $0 + $1.count }
        return Double(scenario.summaries.reduce(0) { $0 + $1.succeeded }) / Double(all)
    }

    @Test func `the same seed gives the same transcript, another seed another`() {
        func transcript(_ seed: UInt64) -> String {
            run(
                seed: seed, nodes: 100,
                {
                    $0.loss = 0.05
                    $0.malicious = 0.1
                },
                {
                    $0.rounds = 20
                    $0.churn = .sessions(median: .seconds(120), .exponential)
                }
            ).world.transcript
        }
        let first = transcript(1)
        #expect(transcript(1) == first)
        #expect(transcript(2) != first)
    }

    @Test func `everything is found, in two or three hops, and idle nodes are quiet`() {
        let scenario = run()
        #expect(success(scenario) == 1)
        for row in scenario.summaries {
            #expect(row.count >= 30)
            #expect(row.percentile(0.95) <= 250, "\(row.name)")
            #expect(row.meanHops <= 3)
        }
        #expect(scenario.idleBytes < 1000)
    }

    @Test func `a third of dead contacts costs no operation a second`() {
        let scenario = run(scenario: { $0.dead = 0.3 })
        #expect(success(scenario) == 1)
        for row in scenario.summaries { #expect(row.percentile(0.95) <= 1000, "\(row.name)") }
    }

    @Test func `nodes that stay ten minutes keep what they are given`() {
        let scenario = run(scenario: {
            $0.churn = .sessions(median: .seconds(600), .exponential)
            $0.pause = .seconds(60)
            $0.rounds = 100
        })
        #expect(scenario.arrivals > 50)
        #expect(success(scenario) >= 0.99)
    }

    @Test func `a fifth of malicious nodes hides nothing`() {
        #expect(success(run(world: { $0.malicious = 0.2 }, scenario: { $0.rounds = 100 })) >= 0.99)
    }

    @Test func `a tenth of lost datagrams hides nothing`() {
        #expect(success(run(world: { $0.loss = 0.1 })) == 1)
    }

    @Test func `dormant nodes find the closest as living ones do, and are cores only while they are asked`() {
        let scenario = run(nodes: 20_000, { $0.dormant = true }, { $0.lookupsOnly = true })
        #expect(success(scenario) == 1)
        #expect(scenario.world.peakCores < 2000)
    }

    private func run(
        world: (inout OverlayWorldOptions) -> Void = { _ in }, scenario: (inout OverlayScenario.Options) -> Void
    )
        -> OverlayScenario
    { run(seed: 1, nodes: 500, world, scenario) }
    private func run(world: (inout OverlayWorldOptions) -> Void) -> OverlayScenario { run(seed: 1, nodes: 500, world) }
}

@Suite struct ScenarioFileTests {
    @Test func `traces of both kinds are read, in order of time`() throws {
        let own = try ChurnTrace(text: "# mine\n0,a,up\n5,b,up\r\n3.5,a,down\n9,b,up\n", name: "t")
        #expect(own.nodeCount == 2)
        // b comes up once; saying so again changes nothing.
        #expect(own.changes.map(\.at) == [.seconds(0), .milliseconds(3500), .seconds(5)])
        #expect(own.changes.map(\.isUp) == [true, false, true])
        let spot = try ChurnTrace(text: "0,add,node1\n60000,remove,node1\n", name: "t")
        #expect(spot.changes.map(\.at) == [.zero, .seconds(60)])
    }

    @Test(arguments: [
        ("", "no changes"), ("1,a\n", "line 1: 2 fields"), ("0,a,up\nx,a,down\n", "line 2: \"x\" is not a moment"),
        ("-1,a,up\n", "line 1"), ("nan,a,up\n", "line 1"), ("inf,a,up\n", "line 1"), ("0,a,sideways\n", "line 1"),
        ("0,,up\n", "line 1"), ("1e13,a,up\n", "line 1"),
    ])
    func `a wrong line of a trace is named`(text: String, expected: String) {
        let error = #expect(throws: ScenarioError.self) { try ChurnTrace(text: text, name: "churn.csv") }
        #expect(error?.description.contains(expected) == true)
        #expect(error?.description.hasPrefix("churn.csv") == true)
    }

    @Test func `a matrix of round trips is read`() throws {
        let model = try LatencyModel(matrix: "# ms\n0, 10, 20\n10 0 30\n20;30;0\n", name: "m")
        #expect(model.size == 3)
        #expect(model.meanRoundTrip > .milliseconds(13) && model.meanRoundTrip < .milliseconds(14))
    }

    @Test(arguments: [
        ("", "no rows"), ("1,2\n3\n", "line 2: 1 columns, 2 before"), ("1,2\n", "1 rows of 2 columns"),
        ("1,x\n2,3\n", "line 1: \"x\""), ("1,-2\n2,3\n", "line 1"), ("1,nan\n2,3\n", "line 1"),
        ("1,1e9\n2,3\n", "line 1"),
    ])
    func `a wrong matrix is refused with its place`(text: String, expected: String) {
        let error = #expect(throws: ScenarioError.self) { try LatencyModel(matrix: text, name: "rtt.csv") }
        #expect(error?.description.contains(expected) == true)
    }
}
