import Links
import Primitives
import Testing
import Topologies

/// Kinds of graphs and tables that others write: what each means here.
@Suite struct `A graph that others wrote` {
    static func latency(_ topology: Topology, _ from: String, _ to: String) throws -> Double {
        let (a, b) = (try #require(topology.index(of: from)), try #require(topology.index(of: to)))
        return (topology.latencySeconds(from: a, to: b) * 1e12).rounded() / 1e9
    }
    static func graphml(_ keys: String, _ body: String, directed: Bool = false) -> String {
        """
        <graphml xmlns="http://graphml.graphdrawing.org/xmlns">\(keys)
        <graph edgedefault="\(directed ? "directed" : "undirected")">\(body)</graph></graphml>
        """
    }
    static let latencyKey = "<key id=\"w\" for=\"edge\" attr.name=\"latency\" attr.type=\"string\"/>"

    @Test func `of Shadow 1 is in milliseconds and KiB a second, and nodes lose packets too`() throws {
        let keys = ["packetloss", "latency"].map {
            "<key attr.name=\"\($0)\" attr.type=\"double\" for=\"edge\" id=\"e-\($0)\"/>"
        }
        let more = ["bandwidthup", "bandwidthdown", "packetloss"].map {
            "<key attr.name=\"\($0)\" attr.type=\"double\" for=\"node\" id=\"n-\($0)\"/>"
        }
        func node(_ id: String, loss: Double) -> String {
            "<node id=\"\(id)\"><data key=\"n-packetloss\">\(loss)</data><data key=\"n-bandwidthup\">1024</data>"
                + "<data key=\"n-bandwidthdown\">2048</data></node>"
        }
        let text = Self.graphml(
            (keys + more).joined(),
            node("a", loss: 0) + node("b", loss: 0.1)
                + "<edge source=\"a\" target=\"b\"><data key=\"e-latency\">40.5</data><data key=\"e-packetloss\">0.2</data></edge>"
        )
        let imported = try Sample.read(text)
        let topology = imported.topology
        #expect(try Self.latency(topology, "na", "nb") == 40.5)
        #expect(topology.hosts[0].up == BitRate(bitsPerSecond: 8_388_608))
        #expect(topology.hosts[1].down == BitRate(bitsPerSecond: 16_777_216))
        #expect(abs(topology.link(from: 0, to: 1).loss - (1 - 0.8 * 0.9)) < 1e-9)
        #expect(imported.notes.contains { $0.contains("no unit: ms") })
        // The same in GML is of a later Shadow: seconds.
        let gml = "graph [ node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 latency 0.0405 ] ]"
        #expect(try Self.latency(try Sample.read(gml).topology, "n0", "n1") == 40.5)
        var options = ImportOptions()
        options.latencyUnit = "rtt_ms"
        #expect(try Self.latency(try Sample.read(text, options: options).topology, "na", "nb") == 20.25)
    }

    @Test func `has edges with a direction of their own`() throws {
        let body = """
            <node id="a"/><node id="b"/><node id="c"/>
            <edge source="a" target="b" directed="true"><data key="w">10 ms</data></edge>
            <edge source="b" target="a" directed="true"><data key="w">90 ms</data></edge>
            <edge source="b" target="c"><data key="w">20 ms</data></edge>
            """
        let topology = try Sample.read(Self.graphml(Self.latencyKey, body)).topology
        #expect(try Self.latency(topology, "na", "nb") == 10)
        #expect(try Self.latency(topology, "nb", "na") == 90)
        #expect(try Self.latency(topology, "nc", "na") == 110)
        let one = body.replacing(
            "<edge source=\"b\" target=\"a\" directed=\"true\"><data key=\"w\">90 ms</data></edge>", with: "")
        #expect(Sample.failure(Self.graphml(Self.latencyKey, one))?.kind == .disconnected)
        let undirected = body.replacing(" directed=\"true\"", with: " directed=\"false\"")
        let both = try Sample.read(
            Self.graphml(Self.latencyKey, undirected, directed: true).replacing(
                "target=\"c\"", with: "target=\"c\" directed=\"false\"")
        ).topology
        #expect(try Self.latency(both, "nb", "na") == 10)
    }

    @Test func `has character data, keys declared late, by kind, and shapes of an editor`() throws {
        let body = """
            <node id="a"><data key="shape"><y:Box xmlns:y="y"><y:Label>latency 9 ms</y:Label></y:Box></data></node><node id="b"/>
            <edge source="a" target="b"><data key="w"><!-- so --><![CDATA[10 ]]>ms</data></edge>
            """
        let text =
            Self.graphml("<key id=\"shape\" for=\"node\" yfiles.type=\"nodegraphics\"/>", body)
            .replacing("</graphml>", with: Self.latencyKey + "</graphml>")
        #expect(try Self.latency(try Sample.read(text).topology, "na", "nb") == 10)
        // A default of nodes is none of edges, though both keys bear one name.
        let keys = """
            <key id="n" for="node" attr.name="latency" attr.type="string"><default>1 ms</default></key>
            <key id="g" for="graph" attr.name="latency" attr.type="string"><default>2 ms</default></key>
            <key id="w" for="edge" attr.name="latency" attr.type="string"><default>3 ms</default></key>
            """
        let plain = "<node id=\"a\"/><node id=\"b\"/><edge source=\"a\" target=\"b\"/>"
        #expect(try Self.latency(try Sample.read(Self.graphml(keys, plain)).topology, "na", "nb") == 3)
    }

    @Test(arguments: [
        "\u{FEFF}graph [ directed 0\r\n node [ id 0 ]\r\n node [ id 1 label \"\" ]\r\n edge [ source 0 target 1 latency \"1.5e1 ms\" ]\r\n]\r\n",
        "Creator \"x\"\ngraph\n[\n# a comment\n node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 latency \"15000us\" ]\n edge [ source 0 target 1 latency \"20 ms\" ] ]",
        "graph [ node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 latency_ms 15 key 0 ] edge [ source 1 target 0 latency_ms 1.6E+1 key 1 ] ]",
    ]) func `is read with whatever ends its lines, however its numbers are written, and with cables side by side`(
        text: String
    ) throws {
        #expect(TopologyFormat.detect(Array(text.utf8)) == .gml)
        #expect(try Self.latency(try Sample.read(text).topology, "n0", "n1") == 15)
    }

    @Test func `whose signals take no time gets the floor, and says so`() throws {
        let imported = try Sample.read(Sample.shadow.replacing("\"18 ms\"", with: "\"0 ms\""))
        #expect(imported.topology.link(from: 0, to: 1).latency == .microseconds(1))
        #expect(imported.notes.contains { $0.contains("floor") })
    }

    @Test func `in parts is refused, or its largest part is taken, or the ways between are assumed`() throws {
        let text = """
            graph [ node [ id 0 ] node [ id 1 ] node [ id 2 ] node [ id 3 ] node [ id 4 ]
            edge [ source 0 target 1 latency "1 ms" ] edge [ source 3 target 4 latency "2 ms" ]
            edge [ source 2 target 3 latency "4 ms" ] ]
            """
        let problem = try #require(Sample.failure(text))
        #expect(problem.kind == .disconnected && problem.allowed.contains("--largest-component"))
        var options = ImportOptions()
        options.disconnected = .largestPart
        let part = try Sample.read(text, options: options)
        #expect(part.topology.hosts.map(\.name) == ["n2", "n3", "n4"])
        #expect(part.notes.contains { $0.contains("2 of 5 hosts are left out") })
        options.disconnected = .assume(0.05)
        let whole = try Sample.read(text, options: options)
        #expect(whole.topology.hosts.count == 5)
        #expect(try Self.latency(whole.topology, "n0", "n4") == 50)
        #expect(try Self.latency(whole.topology, "n2", "n4") == 6)
        #expect(whole.notes.contains { $0.contains("12 ways are not in the file") })
    }

    @Test func `of Shadow's configuration puts hosts at nodes, two at one node over its own cable`() throws {
        let topology = try Sample.read(Sample.configuration).topology
        #expect(topology.hosts.map(\.name) == ["client1", "client2", "server"])
        #expect(try Self.latency(topology, "client1", "client2") == 2)
        #expect(try Self.latency(topology, "server", "client2") == 18)
        #expect(topology.hosts[0].up == .megabits(10) && topology.hosts[2].up == .megabits(5))
        #expect(topology.hosts[2].down == .megabits(1000))
        let apart = Sample.configuration.replacing("target 7", with: "target 0")
        #expect(Sample.failure(apart)?.kind == .disconnected)
        let elsewhere = Sample.configuration.replacing("type: gml", with: "file: {path: net.gml}").replacing(
            "inline", with: "x")
        #expect(Sample.failure(elsewhere)?.allowed.contains("inline") == true)
        #expect(Sample.failure(Sample.configuration.replacing("latency \"18 ms\"", with: "latency \"x\""))?.line == 11)
        let gigabit = """
            network: {graph: {type: 1_gbit_switch}}
            hosts: {a: {network_node_id: 0}, b: {network_node_id: 0}}
            """
        #expect(try Self.latency(try Sample.read(gigabit).topology, "a", "b") == 1)
    }
}

@Suite struct `A table that others wrote` {
    @Test func `of edges is a graph when pairs are missing, and measured when none is`() throws {
        let graph = try Sample.read(Sample.edges)
        #expect(graph.topology.hosts.map(\.name) == ["a", "b", "c", "d"])
        #expect(try `A graph that others wrote`.latency(graph.topology, "a", "d") == 16)
        #expect(graph.topology.link(from: 3, to: 0).rate == .megabits(20))
        #expect(graph.topology.hosts[3].up == .megabits(20))
        let triples = "% i j rtt us\n1 2 10000\n2 1 12000\n1 3 30000\n2 3 5000\n1 3 40000\n3 2 7000\n"
        let measured = try Sample.read(triples)
        #expect(measured.format == .edges)
        let topology = measured.topology
        #expect(try `A graph that others wrote`.latency(topology, "n1", "n2") == 5)
        #expect(try `A graph that others wrote`.latency(topology, "n2", "n1") == 6)
        // As measured, though the way over the second is shorter.
        #expect(try `A graph that others wrote`.latency(topology, "n3", "n1") == 15)
        #expect(measured.notes.contains { $0.contains("round trips, and are halved") })
        #expect(measured.notes.contains { $0.contains("stand there again") })
        #expect(
            try Sample.read("# directed\n" + Sample.edges + "d,a,1 s,2 kbps\n").topology.link(from: 3, to: 0).latency
                == .seconds(1))
    }

    @Test(arguments: [
        ("a name alone", "from,to,latency_ms\na\n", TopologyError.Kind.outOfRange),
        ("a column nobody knows", "from,to,colour\na,b,red\n", .unknownKey),
        ("no unit anywhere", "a b 1\na c 2\nb c 3\na d 3\nb d 1\n", .missingKey),
        ("a negative latency", "from,to,latency_ms\na,b,-3\n", .outOfRange),
        ("no latency at all", "from,to\na,b\nb,c\n", .missingKey),
        ("two parts", "from,to,latency_ms\na,b,1\nc,d,1\n", .disconnected),
    ]) func `of edges says what is wrong with it`(what: String, text: String, kind: TopologyError.Kind) {
        let problem = Sample.failure(text, format: .edges)
        #expect(problem?.kind == kind, "\(what): \(problem?.description ?? "read")")
    }

    @Test func `with holes takes the other direction, or leaves out who was not measured`() throws {
        let holes = "latency_ms,a,b,c\na,0,10,nan\nb,-,0,30\nc,20.5,-1,0\n"
        let filled = try Sample.read(holes)
        #expect(try `A graph that others wrote`.latency(filled.topology, "a", "c") == 20.5)
        #expect(filled.notes.contains { $0.contains("3 ways are known in the other direction only") })
        var options = ImportOptions()
        options.disconnected = .largestPart
        let part = try Sample.read(holes.replacing("20.5", with: "*"), options: options)
        #expect(part.topology.hosts.count == 2)
        for triangle in [
            "# latency_ms\n0\n10,0\n20,30,0\n", "# latency_ms\n0,10,20\n0,30\n0\n",
            "latency_ms,a,b,c\na,0,10,20\nb,0,30\nc,0\n",
        ] {
            let topology = try Sample.read(triangle, format: .matrix).topology
            #expect(topology.link(from: 2, to: 1).latency == .milliseconds(30))
            #expect(topology.link(from: 0, to: 1).latency == .milliseconds(10))
        }
    }

    @Test func `says whether it took round trips or one way`() throws {
        #expect(try Sample.read(Sample.matrix).notes.contains { $0.contains("--unit rtt_ms") })
        let halved = try Sample.read(Sample.matrix.replacing("latency_ms", with: "rtt ms"))
        #expect(halved.notes.contains { $0.contains("halved") })
        #expect(halved.topology.link(from: 0, to: 1).latency == .milliseconds(5))
    }
}
