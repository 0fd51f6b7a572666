import Coordination
import Foundation
import Links
import Planning
import Primitives
import Record
import Simulation
import Testing
import Topologies

/// The oracle: what is pinned here does not change when code only moves.
///
/// `make transcripts` writes the files anew. A changed line is looked at, explained in the commit that changes it, and pinned.
@Suite struct `Pinned transcripts` {
    @Test(arguments: PinnedWorld.Pool.allCases)
    func `tell the same story as they did`(pool: PinnedWorld.Pool) throws {
        let lines = try PinnedWorld.all(in: pool).map { try $0.line() }
        try Pins(file: "\(pool.rawValue).txt").check(lines, header: PinnedWorld.header)
    }
}

/// Small worlds told as plays: a change of what peers say or decide is read as a diff of these.
@Suite struct `Golden transcripts` {
    @Test func `two peers train two rounds, every step averaged`() throws {
        try check(Self.scene(peers: 2, pipelines: 2, stages: 1, innerSteps: 1, steps: 2), "two-peers.play")
    }
    @Test func `a pipeline of two trains two rounds of two steps`() throws {
        try check(Self.scene(peers: 2, pipelines: 1, stages: 2, innerSteps: 2, steps: 4), "one-pipeline.play")
    }
    @Test func `one of three is killed and the spare takes its place`() throws {
        var scene = Self.scene(peers: 3, pipelines: 2, stages: 1, innerSteps: 2, steps: 6)
        scene.faults = [Fault(.kill, at: .progress(0.3), host: "peer-0")]
        try check(scene, "a-kill.play")
    }
    @Test func `a third comes late and is taken in`() throws {
        var scene = Self.scene(peers: 3, pipelines: 2, stages: 1, innerSteps: 2, steps: 6)
        scene.faults = [Fault(.join, at: .progress(0.3), host: "peer-2")]
        try check(scene, "a-late-join.play")
    }

    private static func scene(peers: Int, pipelines: Int, stages: Int, innerSteps: Int, steps: Int) -> Scene {
        var scene = Scene(
            peers: peers, pipelines: pipelines, stages: stages, innerSteps: innerSteps, steps: steps)
        scene.keepsPlay = true
        scene.probeBytes = 64 << 10
        return scene
    }
    private func check(_ scene: Scene, _ file: String) throws {
        let outcome = scene.run()
        try outcome.checkFinished()
        let lines = try #require(outcome.world.play).split(separator: "\n").map(String.init)
        try Pins(file: file).check(lines, header: "seconds, what happened; between: who said what to whom")
    }
}

/// A small job on some hosts of a shipped topology, without arithmetic.
struct PinnedWorld {
    enum Pool: String, CaseIterable, Sendable {
        case campus, demo, lan, laptops, spot
        case threeHomes = "three-homes"
        case twoDataCentres = "two-data-centres"
        case worldwide = "dtfm-worldwide"
        case volunteers = "volunteers-256"
    }
    enum Happening: String, CaseIterable {
        case nothing, kill, join
    }
    let pool: Pool
    let happening: Happening
    let innerSteps: Int
    let seed: UInt64

    static let header = "pool, what happens, H, seed; rounds, seconds, deliveries, bytes; SHA-256 of the transcript"
    /// Of a topology's peers only so many take part: the oracle must be cheap.
    static let peers = 6

    static func all(in pool: Pool) -> [PinnedWorld] {
        Happening.allCases.flatMap { happening in
            [1, 2].flatMap { innerSteps in
                (1...3).map { PinnedWorld(pool: pool, happening: happening, innerSteps: innerSteps, seed: $0) }
            }
        }
    }

    private func topology() throws -> Topology {
        let shipped = try Topology.shipped(pool.rawValue)
        let stays = Set(shipped.peers.prefix(Self.peers))
        var topology = shipped.keeping { shipped.hosts[$0].role != .peer || stays.contains($0) }
        let last = topology.hosts[topology.peers.last!].name
        switch happening {
        case .nothing: topology.faults = []
        case .kill: topology.faults = [Fault(.kill, at: .progress(0.4), host: topology.hosts[topology.peers[0]].name)]
        case .join: topology.faults = [Fault(.join, at: .progress(0.2), host: last)]
        }
        return topology
    }

    func line() throws -> String {
        // With somebody away, four peers make two pipelines of one stage only.
        let stages = pool == .lan ? 1 : 2
        let job = Scene(peers: 0, pipelines: 2, stages: stages, innerSteps: innerSteps, steps: 4 * innerSteps).job
        var options = WorldOptions()
        options.seed = seed
        options.limit = .seconds(600)
        options.probeBytes = 64 << 10
        let world = World(
            topology: try topology(), manifest: job.canonicalText, parameters: JobParameters(job),
            corpus: Scene.corpus, options: options)
        if case .failed(let why) = world.run() { Issue.record("\(self): \(why)") }
        return [
            "\(pool.rawValue) \(happening.rawValue) H=\(innerSteps) seed=\(seed)",
            "\(world.coordinator.state.seals.count) \(fixed(world.virtualSeconds, 3))",
            "\(world.deliveries) \(world.deliveredBytes) \(world.transcriptDigest)",
        ].joined(separator: " ")
    }
}
