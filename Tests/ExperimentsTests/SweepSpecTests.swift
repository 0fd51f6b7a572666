import Experiments
import Links
import Primitives
import Testing
import Topologies

/// An experiment's file: what it says, and what is wrong in it.
@Suite struct `The file of an experiment` {
    static let text = """
        name: thin lines
        about: How long a job takes, by latency and H.
        topology: [lan.yaml, homes.yaml]
        job: job.yaml
        seeds: 3
        set:
          job.train.tokens: 200_000
          planner.iterations: 50
        grid:
          what_if: [none, latency=x2]
          job.parallel.inner_steps: [1, 4, auto]
        """
    static func read(_ text: String) throws(FileProblem) -> SweepSpec {
        try SweepSpec(parsing: Array(text.utf8), file: "s.yaml")
    }

    @Test func `has every combination, the last key changing fastest, and every seed`() throws {
        let spec = try Self.read(Self.text)
        #expect(spec.name == "thin lines" && spec.run == .plan && spec.seeds == [1, 2, 3])
        #expect(spec.combinations.count == 12)
        #expect(spec.varied == ["topology", "what_if", "job.parallel.inner_steps"])
        let settings = spec.combinations.map { combination in spec.varied.map { combination.last($0)?.text ?? "" } }
        #expect(settings[0] == ["lan.yaml", "none", "1"])
        #expect(settings[1] == ["lan.yaml", "none", "4"])
        #expect(settings[3] == ["lan.yaml", "latency=x2", "1"])
        #expect(settings[11] == ["homes.yaml", "latency=x2", "auto"])
        #expect(Set(settings.map { $0.joined(separator: "|") }).count == 12)
        #expect(spec.combinations[5].integer("planner.iterations") == 50)
        #expect(spec.combinations[0].words("what_if") == [] && spec.combinations[3].words("what_if") == ["latency=x2"])
    }

    @Test func `may list its points, and cross them with a grid`() throws {
        let spec = try Self.read(
            """
            name: x
            run: replay
            topology: a.yaml
            job: j.yaml
            seeds: [7, 3]
            list:
              - {replay.steps: 4, replay.faults: false}
              - {replay.steps: 8, job: k.yaml}
            grid: {replay.trace_scale: [1, 2]}
            """)
        #expect(spec.combinations.count == 4 && spec.seeds == [7, 3])
        #expect(spec.combinations[0].boolean("replay.faults") == false)
        // A later setting wins over an earlier one.
        #expect(spec.combinations.map { $0.file("job") } == ["j.yaml", "j.yaml", "k.yaml", "k.yaml"])
        #expect(spec.combinations.map { $0.number("replay.trace_scale") } == [1, 2, 1, 2])
    }

    @Test(arguments: [
        ("grid:", "grit:", 9, "grit"), ("seeds: 3", "seeds: 0", 5, "seeds"), ("seeds: 3", "seeds: []", 5, "seeds"),
        ("seeds: 3", "seeds: [1, 1]", 5, "seeds[1]"),
        ("topology: [lan.yaml, homes.yaml]", "topology: []", 3, "topology"),
        ("[1, 4, auto]", "[]", 11, "grid.job.parallel.inner_steps"), ("what_if:", "whatif:", 10, "grid.whatif"),
        ("planner.iterations: 50", "planner.iterations: 0", 8, "set.planner.iterations"),
        ("planner.iterations: 50", "planner.iteration: 5", 8, "set.planner.iteration"),
        ("planner.iterations: 50", "replay.steps: 5", 8, "set.replay.steps"),
        ("name: thin lines", "name: \"\"", 1, "name"), ("about:", "run: dance\nabout:", 2, "run"),
        ("none, latency=x2", "none, {a: b}", 10, "grid.what_if[1]"),
    ])
    func `that is wrong is refused by line and key`(found: String, put: String, line: Int, key: String) throws {
        #expect(Self.text.contains(found))
        do throws(FileProblem) {
            _ = try Self.read(Self.text.replacing(found, with: put))
            Issue.record("\(put) was read")
        } catch {
            #expect(error.file == "s.yaml" && error.line == line && error.key == key, "\(error)")
        }
    }

    @Test func `with an empty grid or more points than anybody means is refused`() throws {
        let head = "name: x\ntopology: a\njob: b\n"
        for tail in [
            "grid: {}", "list: []",
            "seeds: 1000\ngrid: {planner.iterations: [\(Array(repeating: "1", count: 101).joined(separator: ","))]}",
        ] {
            #expect(throws: FileProblem.self) { try Self.read(head + tail) }
        }
    }

    @Test func `cut off anywhere is read or refused`() {
        let bytes = Array(Self.text.utf8)
        for length in bytes.indices {
            guard let spec = try? SweepSpec(parsing: Array(bytes.prefix(length)), file: "s.yaml") else { continue }
            #expect(spec.combinations.count <= 12)
        }
    }
}

/// What a point changes in the files it reads.
@Suite struct `A change of a sweep` {
    static let pool = """
        name: pool
        about: "A: pool."
        expect: Nothing.
        default_link: {latency_ms: 5}
        hosts:
          - {name: a.b, gflops: 3, memory_mib: 64, up_mbps: 5, down_mbps: 50}
          - {name: a, gflops: 4, memory_mib: 64, up_mbps: 5, down_mbps: 50}
        """
    static func combination(_ changes: String) throws -> SweepSpec.Combination {
        let text = "name: x\ntopology: p.yaml\njob: j.yaml\nset:\n  \(changes)\n"
        return try SweepSpec(parsing: Array(text.utf8), file: "s.yaml").combinations[0]
    }

    @Test(arguments: [
        ("topology.hosts.a.up_mbps: 7", 1, 7.0), ("topology.hosts.a.b.up_mbps: 8", 0, 8),
        ("topology.hosts.1.up_mbps: 9", 1, 9),
        ("topology.hosts.*.up_mbps: 2.5", 0, 2.5), ("topology.hosts.*.up_mbps: 2.5", 1, 2.5),
    ])
    func `finds hosts by name, by place, or all of them`(change: String, host: Int, up: Double) throws {
        let edited = try Self.combination(change).edited("topology", Array(Self.pool.utf8), file: "p.yaml")
        let topology = try Topology(parsing: edited, file: "p.yaml")
        #expect(topology.hosts[host].up == .megabits(up))
        #expect(topology.about == "A: pool." && topology.hosts.map(\.name) == ["a.b", "a"])
    }

    @Test func `adds a key that the file leaves out`() throws {
        let change = "topology.default_link: {latency_ms: 5, jitter_ms: 2}"
        let edited = try Self.combination(change).edited("topology", Array(Self.pool.utf8), file: "p.yaml")
        let topology = try Topology(parsing: edited)
        #expect(topology.defaultLink?.jitter == .milliseconds(2))
        let more = try Self.combination("topology.hosts.a.mean_session_s: 60")
        let host = try Topology(parsing: more.edited("topology", Array(Self.pool.utf8), file: "p.yaml")).hosts[1]
        #expect(host.meanSession == .seconds(60))
    }

    @Test(arguments: [
        "topology.hosts.c.up_mbps: 7", "topology.hosts.a.up_mbps.x: 7", "topology.hosts..up_mbps: 7",
        "topology.hosts.9.up_mbps: 7",
    ])
    func `that leads nowhere is refused at its line`(change: String) throws {
        let combination = try Self.combination(change)
        do throws(FileProblem) {
            _ = try combination.edited("topology", Array(Self.pool.utf8), file: "p.yaml")
            Issue.record("\(change) was made")
        } catch {
            #expect(error.file == "s.yaml" && error.line == 5, "\(error)")
        }
    }

    @Test func `that its reader refuses is blamed on its line`() throws {
        let combination = try Self.combination("topology.hosts.a.gflop: 7\n  topology.hosts.a.up_mbps: -7")
        let edited = try combination.edited("topology", Array(Self.pool.utf8), file: "p.yaml")
        do throws(FileProblem) {
            _ = try Topology(parsing: edited, file: "p.yaml")
            Issue.record("it was read")
        } catch {
            let blamed = combination.blamed(error, "topology")
            #expect(blamed.file == "s.yaml" && blamed.line == 5 && blamed.found.contains("gflop"), "\(blamed)")
        }
    }
}
