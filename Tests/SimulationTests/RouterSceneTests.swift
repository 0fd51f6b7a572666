import Coordination
import Links
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// Jobs of peers some of whom are behind routers: the launcher and a node are not.
@Suite struct `Behind routers` {
    /// Four pipelines of two stages: any two of the four at home meet in an exchange.
    static func scene(_ kinds: [NATKind]) -> Scene {
        var scene = Scene(peers: 8, pipelines: 4, stages: 2, innerSteps: 2, steps: 8)
        scene.hosts = (0..<8).map { Scene.host("peer-\($0)", flops: 1e9) }
        for index in scene.hosts.indices { scene.hosts[index].nat = kinds[index % kinds.count] }
        scene.probeBytes = 32 << 10
        scene.limit = .seconds(300)
        return scene
    }

    @Test func `whoever has a public address trains as ever, and finds out that it has one`() throws {
        let outcome = Self.scene([.none, .firewall, .none, .none, .none, .none, .none, .none]).run()
        try outcome.checkFinished()
        let verdicts = outcome.world.events.filter { $0.event.kind == "reachability" }
        #expect(verdicts.contains { $0.host == "peer-0" && $0.event.text("reachable") == "yes" })
        #expect(verdicts.contains { $0.host == "peer-1" && $0.event.text("reachable") == "no" })
    }
    @Test func `two homes that dial each other in one moment come together, as long as neither router is symmetric`()
        throws
    {
        try Self.scene([.portRestricted, .none]).run().checkFinished()
    }
    @Test func `where nobody can be dialled and routers are symmetric no job begins`() {
        var scene = Self.scene([.symmetric])
        var captain = Scene.host("captain")
        captain.role = .coordinator
        captain.nat = .symmetric
        var node = Scene.host("node")
        node.role = .bootstrap
        scene.hosts += [captain, node]
        let outcome = scene.run()
        #expect(outcome.totals.counted == 0 && outcome.events("peer_joined").isEmpty)
    }
}
