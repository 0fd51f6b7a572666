import Coordination
import Links
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// A small job on a pool, so that its links are measured: what the coordinator then believes beside what is.
private struct Measured {
    var real: Topology
    var topology: Topology
    var outcome: Outcome

    init(_ topology: Topology, steps: Int = 2) throws {
        real = topology
        real.faults = []
        var job = JobManifest(
            name: "measured", model: Scene.model, data: .path("text"), tokens: 512 * steps, virtualPipelines: 16,
            microBatch: 1)
        job.batchTokens = .fixed(512)
        job.innerSteps = .fixed(1)
        job.qualityBudget = 10
        job.checkpoint.everyRounds = 1_000_000
        var options = WorldOptions()
        options.limit = .seconds(3600)
        let world = World(
            topology: real, manifest: job.canonicalText, parameters: JobParameters(job),
            corpus: Scene.corpus, options: options)
        outcome = Outcome(world: world, end: world.run(), model: job.model)
        self.topology = try #require(world.coordinator.predictionAtStart).topology
    }
    /// Each peer as measured, and as it is.
    var peers: [(measured: Topologies.Host, real: Topologies.Host)] {
        topology.hosts.compactMap { host in
            real.hosts.first { $0.name == host.name && $0.role == .peer }.map { (host, $0) }
        }
    }
    /// What lets bytes through between two peers: lines and what lies between.
    static func rate(_ topology: Topology, _ a: String, _ b: String) -> Double {
        let (i, j) = (
            topology.hosts.firstIndex { $0.name == a }!, topology.hosts.firstIndex { $0.name == b }!
        )
        let lines = min(topology.hosts[i].up, topology.hosts[j].down).bitsPerSecond
        return min(lines, topology.link(from: i, to: j).rate?.bitsPerSecond ?? lines)
    }
    /// Of all ordered pairs: measured over real.
    var pairRatios: [Double] {
        let names = peers.map(\.real.name)
        return names.flatMap { a in
            names.filter { $0 != a }.map { Self.rate(topology, a, $0) / Self.rate(real, a, $0) }
        }.sorted()
    }
}

@Suite struct `A pool's links, measured` {
    @Test(arguments: ["demo", "lan", "campus"]) func `are what they are, up and down`(name: String) throws {
        let measured = try Measured(.shipped(name))
        #expect(measured.peers.count == measured.real.hosts.count { $0.role == .peer })
        for (host, real) in measured.peers {
            #expect(abs(host.up.bitsPerSecond / real.up.bitsPerSecond - 1) < 0.1, "\(name), \(host.name): \(host.up)")
            #expect(
                abs(host.down.bitsPerSecond / real.down.bitsPerSecond - 1) < 0.1, "\(name), \(host.name): \(host.down)")
        }
        let ratios = measured.pairRatios
        #expect(ratios.first! > 0.85 && ratios.last! < 1.15, "\(name): pairs \(ratios.first!) to \(ratios.last!)")
    }

    /// Ten gigabits at each end, a fiftieth of it between: no access line is to blame.
    @Test func `show what lies between two places`() throws {
        let measured = try Measured(.shipped("two-data-centres"))
        let ratios = measured.pairRatios
        #expect(ratios.first! > 0.85 && ratios.last! < 1.15, "pairs \(ratios.first!) to \(ratios.last!)")
        #expect(measured.peers.allSatisfy { $0.measured.up > .megabits(9000) && $0.measured.down > .megabits(9000) })
    }

    /// Not every pair of 40 sends to each other; what nobody measured is like what is measured next to it.
    @Test func `of pairs that never met are guessed from their neighbours`() throws {
        let hosts = (0..<40).map { index in
            Topologies.Host(
                name: "h\(index)", flops: 1e9, memory: .mebibytes(64), up: .megabits(400), down: .megabits(400))
        }
        var links: [Topology.Pair: LinkProperties] = [:]
        for a in 0..<40 {
            for b in 0..<40 where a != b {
                let far = (a % 3) != (b % 3)
                links[Topology.Pair(a, b)] = LinkProperties(
                    latency: .milliseconds(far ? 40 : 1), rate: far ? .megabits(50) : nil)
            }
        }
        let measured = try Measured(
            Topology(
                name: "three places", hosts: hosts, links: links,
                defaultLink: LinkProperties(latency: .milliseconds(10))))
        let ratios = measured.pairRatios
        #expect(ratios.first! > 0.8 && ratios.last! < 1.25, "pairs \(ratios.first!) to \(ratios.last!)")
    }

    @Test func `of somebody who sends to many at once are seen together`() throws {
        var hosts = (0..<6).map { index in
            Topologies.Host(
                name: "home\(index)", flops: 1e9, memory: .mebibytes(64), up: .megabits(10), down: .megabits(20))
        }
        hosts.append(
            Topologies.Host(name: "server", flops: 1e9, memory: .mebibytes(64), up: .megabits(90), down: .megabits(90)))
        let measured = try Measured(
            Topology(name: "a server", hosts: hosts, links: [:], defaultLink: LinkProperties(latency: .milliseconds(8)))
        )
        let server = try #require(measured.peers.first { $0.real.name == "server" }?.measured)
        // Six homes take 120 Mbit/s and give 60.
        #expect(abs(server.up.megabitsPerSecond - 86) < 14, "\(server.up)")
        #expect(abs(server.down.megabitsPerSecond - 60) < 6, "\(server.down)")
    }

    @Test func `of a newcomer are measured before it is planned with`() throws {
        var scene = Scene(peers: 5, pipelines: 2, stages: 1, innerSteps: 2, steps: 60)
        scene.hosts[4].up = .megabits(7)
        scene.hosts[4].down = .megabits(31)
        scene.hosts[4].flops = 4e8
        scene.faults = [Fault(.join, at: .progress(0.2), host: "peer-4")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("links_measured").count == 2)
        #expect(outcome.workers.contains("peer-4"))
        let host = try #require(outcome.world.coordinator.answer?.topology.hosts.first { $0.name == "peer-4" })
        #expect(abs(host.up.bitsPerSecond / 7e6 - 1) < 0.15, "\(host.up)")
        #expect(abs(host.down.bitsPerSecond / 31e6 - 1) < 0.15, "\(host.down)")
    }
}

@Suite struct `A plan that is asked for again` {
    /// Somebody of no use joins: everything stays.
    @Test func `and comes out the same changes nothing`() throws {
        var scene = Scene(peers: 5, pipelines: 2, stages: 2, innerSteps: 2, steps: 160)
        scene.hosts[4] = Scene.host("snail", flops: 2e7)
        scene.faults = [Fault(.join, at: .progress(0.1), host: "snail")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("planning").count == 2)
        #expect(outcome.events("replanned").isEmpty && outcome.world.coordinator.state.plan?.epoch == 1)
    }
}

@Suite struct `When a line is not as fast as planned` {
    /// Four of five peers do the work of two pipelines; exchanges matter.
    private func scene(_ faults: [Fault]) -> Scene {
        var scene = Scene(peers: 5, pipelines: 2, stages: 2, innerSteps: 2, steps: 80)
        for index in scene.hosts.indices {
            scene.hosts[index].up = .megabits(4)
            scene.hosts[index].down = .megabits(8)
        }
        scene.hosts[4] = Scene.host("spare", flops: 4.5e7)
        scene.hosts[4].up = .megabits(4)
        scene.hosts[4].down = .megabits(8)
        scene.faults = faults
        return scene
    }

    @Test func `links are measured again and the plan moves away from it, once`() throws {
        let calm = scene([]).run()
        try calm.checkFinished()
        #expect(calm.events("links_measured").count == 1 && calm.events("replanned").isEmpty)
        let slow = try #require(calm.workers.first)

        let outcome = scene([Fault(.throttle(factor: 8), at: .progress(0.2), host: slow)]).run()
        try outcome.checkFinished()
        #expect(outcome.events("links_measured").count >= 2)
        #expect(outcome.events("speed_changed").isEmpty)
        #expect(outcome.events("replanned").count == 1)
        #expect(!outcome.workers.contains(slow))
        let seconds = outcome.events("round_sealed").compactMap { $0.real("seconds") }
        let usual = calm.events("round_sealed").compactMap { $0.real("seconds") }.sorted()[20]
        #expect((seconds.max() ?? 0) > 2 * usual)
        #expect((seconds.suffix(5).max() ?? .infinity) < 1.3 * usual)
    }
}
