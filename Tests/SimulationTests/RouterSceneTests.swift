import Coordination
import Links
import Planning
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
    /// Nobody can be dialled, the launcher neither; every pair of them meets over the node.
    static func homes(_ kind: NATKind, relay: BitRate) -> Scene {
        var scene = scene([kind])
        var captain = Scene.host("captain")
        captain.role = .coordinator
        captain.nat = kind
        var node = Scene.host("node")
        node.role = .bootstrap
        node.relayRate = relay
        scene.hosts += [captain, node]
        return scene
    }
    @Test func `where nobody can be dialled one node brings everybody together`() throws {
        let outcome = Self.homes(.symmetric, relay: .megabits(50)).run()
        try outcome.checkFinished()
        let berths = outcome.world.events.filter { $0.event.kind == "berth_granted" }.map(\.host)
        #expect(Set(berths) == Set((0..<8).map { "peer-\($0)" } + ["captain"]))
        #expect(outcome.events("connection_relayed").count >= 2 * 8)
        #expect(outcome.totals.late == 0)
    }
    /// Each can be dialled, by everybody but the other: networks that do not exchange traffic, or two behind one router that lets nobody inside in from outside.
    @Test func `two that everybody but the other can dial meet at a node`() throws {
        var scene = Self.scene([.none])
        // Long enough for somebody to give up dialling.
        scene.hosts = (0..<8).map { Scene.host("peer-\($0)", flops: 1e6) }
        // With a router anywhere all are on the internet.
        scene.hosts[1].nat = .firewall
        scene.limit = .seconds(3600)
        var node = Scene.host("node")
        node.role = .bootstrap
        node.relayRate = .megabits(50)
        scene.hosts.append(node)
        scene.apart = [(0, 2), (4, 6)]
        let outcome = scene.run()
        try outcome.checkFinished()
        let relayed = outcome.events("connection_relayed").map(\.peer)
        #expect(Set(relayed).isSuperset(of: ["peer-0", "peer-2"]), "\(relayed)")
        #expect(Set(relayed).isSubset(of: ["peer-0", "peer-2", "peer-4", "peer-6"]), "\(relayed)")
    }
    /// A node that carries records is a member, and waited for somebody to confirm that it can be dialled, which nobody could.
    @Test func `one node brings everybody together also where it carries the record`() throws {
        var scene = Self.homes(.symmetric, relay: .megabits(50))
        scene.job.electors.count = .fixed(3)
        let outcome = scene.run()
        try outcome.checkFinished()
        let chosen = outcome.events("electors_chosen").compactMap { $0.text("electors") }
        #expect(chosen.contains { $0.contains("node") }, "\(chosen), \(outcome.world.electors)")
        let berths = outcome.world.events.filter { $0.event.kind == "berth_granted" }.map(\.host)
        #expect(Set(berths) == Set((0..<8).map { "peer-\($0)" } + ["captain"]))
    }
    @Test func `the plan says who is relayed by whom, and what a forwarded port would save`() throws {
        let outcome = Self.homes(.symmetric, relay: .megabits(10)).run()
        try outcome.checkFinished()
        let said = outcome.events("pair_relayed")
        #expect(!said.isEmpty)
        for event in said {
            #expect(event.peer.hasPrefix("peer-") && event.text("to")?.hasPrefix("peer-") == true)
            #expect(event.text("by")?.isEmpty == false && (event.real("megabits") ?? 99) <= 10)
            #expect(event.text("forward") == event.peer || event.text("forward") == event.text("to"))
            #expect((event.real("saved_step_seconds") ?? 0) > 0)
        }
    }
    /// Networks that let no datagrams through: nobody hears of the overlay, and connections are all there is.
    @Test(arguments: [(NATKind.noUDP, 4000), (.webOnly, 4000), (.webOnly, 443)] as [(NATKind, UInt16)])
    func `whoever gets no datagrams through is carried all the same`(_ kind: NATKind, port: UInt16) throws {
        var scene = Self.homes(.symmetric, relay: .megabits(50))
        for index in [2, 5] { scene.hosts[index].nat = kind }
        // From behind `web-only` nothing reaches any other port than the web's two.
        scene.hosts[scene.hosts.count - 1].port = port
        let outcome = scene.run()
        let expected = kind == .noUDP || port == 443
        let berths = outcome.world.events.filter { $0.event.kind == "berth_granted" }.map(\.host)
        #expect(Set(berths).isSuperset(of: ["peer-2", "peer-5"]) == expected)
        let joined = Set(outcome.events("peer_joined").map(\.peer))
        #expect(joined.isSuperset(of: ["peer-2", "peer-5"]) == expected, "\(joined)")
        if expected { try outcome.checkFinished() }
    }
    /// As many routers do: a SYN never comes in. Datagrams do, so that a flow carries each pair, with its losses and what its line takes at once.
    @Test func `where no connection comes in homes come together by flows`() throws {
        var scene = Self.homes(.noConnectionsIn, relay: .megabits(50))
        scene.hosts[2].mtu = 1280
        for index in 0..<8 {
            scene.links[Topology.Pair(index, (index + 1) % 8)] = LinkProperties(
                latency: .milliseconds(15), loss: 0.01)
        }
        let outcome = scene.run()
        try outcome.checkFinished()
        let punched = outcome.events("connection_punched")
        #expect(!punched.isEmpty && punched.allSatisfy { $0.text("endpoint")?.hasSuffix("by datagrams") == true })
        let carried = outcome.events("connection_relayed").filter { $0.peer.hasPrefix("peer-") }.count
        #expect(punched.count { $0.peer.hasPrefix("peer-") } >= carried - 2, "nearly every pair has left the relay")
        #expect(outcome.totals.late == 0)
    }
    @Test func `symmetric routers are not punched through`() throws {
        let outcome = Self.homes(.symmetric, relay: .megabits(50)).run()
        #expect(!outcome.events("connection_relayed").isEmpty && outcome.events("connection_punched").isEmpty)
    }
    @Test func `where the relay carries nothing no job begins`() {
        let outcome = Self.homes(.symmetric, relay: BitRate(bitsPerSecond: 0)).run()
        #expect(outcome.totals.counted == 0 && outcome.events("peer_joined").isEmpty)
    }
    @Test func `half of the peers behind symmetric routers train with the others, without being late`() throws {
        var scene = Self.scene([.symmetric, .none])
        var node = Scene.host("node")
        node.role = .bootstrap
        node.relayRate = .megabits(50)
        scene.hosts.append(node)
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.totals.late == 0)
        #expect(!outcome.events("connection_relayed").isEmpty)
        #expect(outcome.world.virtualSeconds < 30, "it was 130 s without relays")
    }

    /// A line gets another address while the job runs. Its owner and those who worked with it know each other's old dials only: no dial comes through by
    /// itself, they are carried, and the relay introduces them.
    @Test(arguments: [NATKind.portRestricted, .symmetric])
    func `a home that gets another address is introduced to those whom it worked with, unless routers are symmetric`(
        _ kind: NATKind
    ) throws {
        var scene = Self.homes(kind, relay: .megabits(50))
        scene.job.tokens *= 12
        // By progress: such jobs are over in seconds, and a fault after the end is none.
        scene.faults = [Fault(.renumber, at: .progress(0.3), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("fault").count == 1)
        func pairs(_ kind: String) -> Set<String> {
            Set(outcome.world.events.filter { $0.event.kind == kind && $0.event.peer == "peer-1" }.map(\.host))
        }
        let carried = pairs("connection_relayed")
        #expect(carried.isSuperset(of: (0..<8).filter { $0 != 1 }.map { "peer-\($0)" }))
        guard kind == .portRestricted else {
            #expect(outcome.events("connection_punched").isEmpty)
            return
        }
        #expect(pairs("connection_punched").isSuperset(of: carried), "none of them is left with the relay")
        for host in carried.sorted() {
            func moment(_ kind: String) -> Double? {
                outcome.world.events.first { $0.host == host && $0.event.kind == kind && $0.event.peer == "peer-1" }?
                    .event.at.seconds
            }
            let (relayed, punched) = try (
                #require(moment("connection_relayed")), #require(moment("connection_punched"))
            )
            #expect(punched - relayed < 0.5, "\(host): six messages and a dial, of 5 ms each way")
        }
    }

    /// Two relays; while the job runs one dies, a home gets another address, and another one's router forgets everything.
    @Test func `a relay that dies, a new address and a router that forgets stop nothing`() throws {
        var scene = Self.homes(.symmetric, relay: .megabits(50))
        scene.job.tokens *= 12
        var second = Scene.host("second")
        second.role = .bootstrap
        second.relayRate = .megabits(50)
        scene.hosts.append(second)
        scene.faults = [
            Fault(.kill, at: .seconds(15), host: "node"), Fault(.renumber, at: .seconds(17), host: "peer-1"),
            Fault(.remap, at: .seconds(19), host: "peer-2"),
        ]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("fault").count == 3, "all of it in the job's time")
        // Whose line was silent for longer than a leader waits is given up, and comes again; the relay's death costs nobody.
        #expect(Set(outcome.events("peer_lost").map(\.peer)).isSubset(of: ["peer-1", "peer-2"]))
        #expect(outcome.events("berth_lost").count >= 9)
    }
}
