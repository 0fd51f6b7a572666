import Links
import Primitives
import Testing
import Topologies

/// Platforms of SimGrid. Expected ways were worked out by hand from its rules and agree with SimGrid 3.32 itself.
@Suite struct `A platform of SimGrid` {
    static func way(_ topology: Topology, _ from: String, _ to: String) throws -> (
        microseconds: Double, megabits: Double
    ) {
        let (a, b) = (try #require(topology.index(of: from)), try #require(topology.index(of: to)))
        let link = topology.link(from: a, to: b)
        return ((link.latency / .microseconds(1) * 1000).rounded() / 1000, (link.rate?.megabitsPerSecond ?? .infinity))
    }
    static func platform(_ body: String, routing: String = "Full") -> String {
        "<platform version=\"4.1\"><zone id=\"world\" routing=\"\(routing)\">\(body)</zone></platform>"
    }
    static func cluster(_ topology: String, _ parameters: String, _ count: Int) -> String {
        platform(
            "<cluster id=\"c\" topology=\"\(topology)\" topo_parameters=\"\(parameters)\" prefix=\"n\" radical=\"0-\(count - 1)\" "
                + "suffix=\"\" speed=\"1Gf\" bw=\"1Gbps\" lat=\"10us\"/>")
    }

    @Test func `sees clusters' routers, backbones, cabinets and host links`() throws {
        let topology = try Sample.read(Sample.clusters).topology
        #expect(topology.hosts.count == 12)
        #expect(topology.hosts.map(\.flops).contains(8e9))
        // Cable, backbone, cable; then by the doors over what lies between the zones.
        #expect(try Self.way(topology, "s-1.x", "s-4.x") == (25, 1000))
        #expect(try Self.way(topology, "c-1", "c-2") == (47, 1000))
        #expect(try Self.way(topology, "lone", "c-2") == (57, 100))
        #expect(try Self.way(topology, "s-2.x", "lone") == (10 + 5 + 1000 + 7 + 30, 50))
        #expect(try Self.way(topology, "lone", "s-2.x") == (30 + 7 + 1000 + 5 + 10, 50))
        // A torus's router is no member of it.
        #expect(try Self.way(topology, "t-4", "s-2.x").microseconds == 1000 + 5 + 10)
        #expect(try Self.way(topology, "t-4", "c-1").microseconds == 20 + 2000 + 7 + 20)
    }

    @Test func `goes around a torus the shorter way, up a tree as far as it must, and by blade and chassis`() throws {
        let torus = try Sample.read(Self.cluster("TORUS", "3,2,2", 12)).topology
        #expect(try Self.way(torus, "n0", "n2") == (10, 1000))
        #expect(try Self.way(torus, "n0", "n11") == (30, 1000))
        let tree = try Sample.read(Self.cluster("FAT_TREE", "2;4,4;1,2;1,2", 16)).topology
        #expect(try Self.way(tree, "n0", "n3") == (20, 1000))
        #expect(try Self.way(tree, "n0", "n4") == (40, 1000))
        let fly = try Sample.read(Self.cluster("DRAGONFLY", "3,4;3,2;3,1;2", 54)).topology
        #expect(try Self.way(fly, "n0", "n1") == (20, 1000))
        // Node, router, and the blade beside it.
        #expect(try Self.way(fly, "n0", "n2") == (30, 1000))
        // Two cables side by side between chassis.
        #expect(try Self.way(fly, "n0", "n6") == (30, 1000))
        // The blade for the other group, the one cable there, and the blade there.
        #expect(try Self.way(fly, "n0", "n18") == (40, 1000))
        #expect(Sample.failure(Self.cluster("TORUS", "3,2,2", 11))?.kind == .outOfRange)
        #expect(Sample.failure(Self.cluster("FAT_TREE", "2;4,4;1,2", 16))?.kind == .wrongType)
        #expect(Sample.failure(Self.cluster("HYPERCUBE", "2", 4))?.kind == .outOfRange)
    }

    @Test func `has coordinates, with lines or without`() throws {
        let body = """
            <host id="a" coordinates="3.0 0.0 1.0" speed="1Gf"/><host id="b" coordinates="0 4 -2.5" speed="1Gf"/>
            <peer id="c" coordinates="0 0 0" speed="1Gf" bw_in="10Mbps" bw_out="2Mbps"/>
            <peer id="d" coordinates="0 1 0" speed="1Gf" bw_in="5Mbps" bw_out="3Mbps"/>
            """
        let topology = try Sample.read(Self.platform(body, routing: "Vivaldi")).topology
        #expect(try Self.way(topology, "a", "b") == (8500, .infinity))
        #expect(try Self.way(topology, "c", "d") == (1000, 2))
        #expect(try Self.way(topology, "d", "c") == (1000, 3))
    }

    @Test func `takes the fewest links, passes bypasses, and no host forwards where every route is given`() throws {
        let hosts = ["a", "b", "c"].map { "<host id=\"\($0)\" speed=\"1Gf,2Gf\" pstate=\"1\"/>" }.joined()
        let links = (1...3).map { "<link id=\"l\($0)\" bandwidth=\"1Gbps\" latency=\"\($0)ms\"/>" }.joined()
        func route(_ name: String, _ from: String, _ to: String, _ links: [Int], _ more: String = "") -> String {
            "<\(name) src=\"\(from)\" dst=\"\(to)\"\(more)>" + links.map { "<link_ctn id=\"l\($0)\"/>" }.joined()
                + "</\(name)>"
        }
        let line = hosts + links + route("route", "a", "b", [1]) + route("route", "b", "c", [2])
        let floyd = try Sample.read(Self.platform(line, routing: "Floyd")).topology
        #expect(floyd.hosts[0].flops == 2e9)
        #expect(try Self.way(floyd, "a", "c").microseconds == 3000)
        #expect(Sample.failure(Self.platform(line))?.kind == .disconnected)
        // Two links are more than one, though they are quicker.
        let triangle = line + route("route", "a", "c", [3, 3, 3])
        #expect(
            try Self.way(try Sample.read(Self.platform(triangle, routing: "Dijkstra")).topology, "a", "c").microseconds
                == 3000)
        let passed = line + route("bypassRoute", "a", "c", [1])
        let bypassed = try Sample.read(Self.platform(passed, routing: "Floyd")).topology
        #expect(try Self.way(bypassed, "a", "c").microseconds == 1000)
        #expect(try Self.way(bypassed, "c", "a").microseconds == 3000)
        #expect(Sample.failure(Self.platform(line + route("route", "b", "a", [1])))?.kind == .duplicateName)
        let oneWay = line + route("route", "c", "a", [3], " symmetrical=\"NO\"")
        #expect(
            try Self.way(try Sample.read(Self.platform(oneWay, routing: "Floyd")).topology, "c", "a").microseconds
                == 3000)
    }

    @Test func `nests zones, and a door is where one enters`() throws {
        func zone(_ id: String) -> String {
            """
            <zone id="\(id)" routing="Full"><zone id="\(id)\(id)" routing="Full">
            <host id="\(id)1" speed="1Gf"/><router id="\(id)r"/><link id="\(id)l" bandwidth="1Gbps" latency="1ms"/>
            <route src="\(id)1" dst="\(id)r"><link_ctn id="\(id)l"/></route></zone></zone>
            """
        }
        let link = "<link id=\"x\" bandwidth=\"10Mbps\" latency=\"10ms\"/>"
        let route = "<zoneRoute src=\"p\" dst=\"q\" gw_src=\"pr\" gw_dst=\"qr\"><link_ctn id=\"x\"/></zoneRoute>"
        let topology = try Sample.read(Self.platform(zone("p") + zone("q") + link + route)).topology
        #expect(try Self.way(topology, "p1", "q1") == (12_000, 10))
        let wrong = route.replacing("gw_dst=\"qr\"", with: "gw_dst=\"pr\"")
        #expect(Sample.failure(Self.platform(zone("p") + zone("q") + link + wrong))?.kind == .unknownName)
    }
}
