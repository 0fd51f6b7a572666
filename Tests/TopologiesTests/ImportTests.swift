import Links
import Primitives
import Testing
import Topologies

/// Small files of each format, written here; tests break one thing at a time.
enum Sample {
    static let shadow = """
        graph [
          directed 0
          node [ id 0 label "home, cable" host_bandwidth_down "90 Mbit" host_bandwidth_up "12 Mbit" ]
          node [ id 1 label "centre" host_bandwidth_down "10 Gbit" host_bandwidth_up "10 Gbit" ]
          node [ id 2 label "home, fibre" host_bandwidth_down "300 Mbit" host_bandwidth_up "300 Mbit" ]
          edge [ source 0 target 0 latency "2 ms" packet_loss 0.0 ]
          edge [ source 0 target 1 latency "18 ms" packet_loss 0.004 ]
          edge [ source 1 target 2 latency "0.009" packet_loss 0.0 ]
        ]
        """
    static let zoo = """
        graph [
          Network "Two"
          node [ id 0 label "A" Longitude 0.0 Latitude 0.0 ]
          node [ id 1 label "B" Longitude 90.0 Latitude 0.0 ]
          node [ id 2 label "C" Longitude 90.0 Latitude 1.0 ]
          edge [ source 0 target 1 LinkSpeedRaw 10000000000.0 ]
          edge [ source 1 target 2 LinkSpeedRaw 155000000.0 ]
        ]
        """
    static let graphml = """
        <?xml version="1.0" encoding="utf-8"?>
        <graphml xmlns="http://graphml.graphdrawing.org/xmlns">
          <key attr.name="label" attr.type="string" for="node" id="d0" />
          <key attr.name="Latitude" attr.type="double" for="node" id="d1" />
          <key attr.name="Longitude" attr.type="double" for="node" id="d2" />
          <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d3" />
          <graph edgedefault="undirected">
            <node id="0"><data key="d0">A &amp; A</data><data key="d1">0</data><data key="d2">0</data></node>
            <node id="1"><data key="d0">B</data><data key="d1">0</data><data key="d2">90</data></node>
            <edge source="0" target="1"><data key="d3">1e9</data></edge>
          </graph>
        </graphml>
        """
    static let simgrid = """
        <?xml version='1.0'?>
        <!DOCTYPE platform SYSTEM "platform.dtd">
        <platform version="4.1">
          <zone id="world" routing="Full">
            <host id="Tremblay" speed="98.095Mf" core="2"/>
            <host id="Jupiter" speed="76.296Mf,50Mf"/>
            <link id="a" bandwidth="41.279125MBps" latency="59.904us"/>
            <link id="b" bandwidth="1Gbps" latency="1ms"/>
            <route src="Tremblay" dst="Jupiter"><link_ctn id="a"/><link_ctn id="b"/></route>
          </zone>
        </platform>
        """
    static let dtfm = """
        {"constants": {"stages_way": 2, "replicas_partition_size": 1, "send_gradient_size_GB": 0.65, "send_activation_size_GB": 0.47},
         "delay_ms": [[0, 10], [11, 0]], "bandwidth_Gbps": [[0, 2], [1.5, 0]], "regions": ["x", "y"]}
        """
    static let matrix = """
        latency_ms,a,b,c
        a,0,10,20.5
        b,10,0,30
        c,20.5,30,0
        """
    static let bamboo = "480000,add,node1\n540000,add,node2\n600000,remove,node1\n660000,add,node1\n"
    static let skypilot = "{\"metadata\": {\"gap_seconds\": 60}, \"data\": [0, 1, 3, 3, 2]}"

    static let configuration = """
        general: {stop_time: 10s}
        network:
          use_shortest_path: true
          graph:
            type: gml
            inline: |
              graph [
                node [ id 0 host_bandwidth_up "10 Mbit" host_bandwidth_down "20 Mbit" ]
                node [ id 7 host_bandwidth_up "1 Gbit" host_bandwidth_down "1 Gbit" ]
                edge [ source 0 target 0 latency "2 ms" packet_loss 0.0 ]
                edge [ source 0 target 7 latency "18 ms" packet_loss 0.01 ]
              ]
        hosts:
          client: {network_node_id: 0, quantity: 2, processes: [{path: curl}]}
          server: {network_node_id: 7, bandwidth_up: 5 Mbit}
        """
    static let edges = "from,to,latency_ms,bandwidth_mbps\na,b,10,100\nb,c,5,50\nc,d,1e0,20\n"
    /// A torus of two by three, a fat tree, a dragonfly, a star with a backbone, a zone of cabinets and host links, all in one.
    static let clusters = """
        <?xml version='1.0'?>
        <platform version="4.1">
          <zone id="world" routing="Full">
            <cluster id="t" topology="TORUS" topo_parameters="3,2" prefix="t-" radical="0-5" suffix="" speed="1Gf" bw="1Gbps" lat="10us"/>
            <cluster id="s" prefix="s-" radical="1-2,4" suffix=".x" speed="2Gf" core="4" bw="1Gbps" lat="10us" bb_bw="2Gbps" bb_lat="5us"/>
            <zone id="z" routing="Cluster">
              <host id="lone" speed="1Gf"/>
              <link id="l" bandwidth="100Mbps" latency="30us" sharing_policy="SPLITDUPLEX"/>
              <host_link id="lone" up="l_UP" down="l_DOWN"/>
              <backbone id="bone" bandwidth="1Gbps" latency="7us"/>
              <cabinet id="c" prefix="c-" radical="1-2" suffix="" speed="1Gf" bw="1Gbps" lat="20us"/>
              <router id="door"/>
            </zone>
            <link id="far" bandwidth="50Mbps" latency="1ms"/>
            <zoneRoute src="s" dst="z" gw_src="s-s_router.x" gw_dst="door"><link_ctn id="far"/></zoneRoute>
            <zoneRoute src="t" dst="s" gw_src="t-t_router" gw_dst="s-s_router.x"><link_ctn id="far"/></zoneRoute>
            <zoneRoute src="t" dst="z" gw_src="t-0" gw_dst="door"><link_ctn id="far"/><link_ctn id="far"/></zoneRoute>
          </zone>
        </platform>
        """

    static let all: [(format: TopologyFormat, text: String)] = [
        (.gml, shadow), (.gml, zoo), (.graphml, graphml), (.simgrid, simgrid), (.dtfm, dtfm), (.matrix, matrix),
        (.bamboo, bamboo), (.skypilot, skypilot), (.shadow, configuration), (.edges, edges), (.simgrid, clusters),
    ]

    static func read(
        _ text: String, format: TopologyFormat? = nil, options: ImportOptions = ImportOptions(), base: Topology? = nil
    ) throws -> ImportedTopology {
        try ImportedTopology(
            reading: Array(text.utf8), file: "folder/sample.txt", format: format, options: options, base: base)
    }
    static func failure(_ text: String, format: TopologyFormat? = nil) -> TopologyError? {
        do throws(TopologyError) {
            _ = try ImportedTopology(reading: Array(text.utf8), file: "s.txt", format: format)
            return nil
        } catch { return error }
    }
}

@Suite struct `An imported file` {
    @Test(arguments: 0..<Sample.all.count) func `is known by its first bytes and written as a file that reads back`(
        index: Int
    ) throws {
        let (format, text) = Sample.all[index]
        #expect(TopologyFormat.detect(Array(text.utf8)) == format)
        let imported = try Sample.read(text)
        #expect(imported.format == format)
        #expect(try Topology(parsing: imported.topology.text) == imported.topology)
    }

    @Test func `of Shadow gives shortest paths, their loss, and hosts' own lines`() throws {
        let topology = try Sample.read(Sample.shadow).topology
        #expect(topology.hosts.map(\.name) == ["home-cable", "centre", "home-fibre"])
        #expect(topology.hosts[0].up == .megabits(12))
        let link = topology.link(from: 0, to: 2)
        #expect(link.latency == .milliseconds(27))
        #expect(abs(link.loss - 0.004) < 1e-9)
    }

    @Test func `of the Topology Zoo has latency by great circles and the narrowest cable's rate`() throws {
        let topology = try Sample.read(Sample.zoo).topology
        // A quarter of a great circle of a sphere with radius 6371 km, at 200 km a millisecond.
        let quarter = 6371 * Double.pi / 2 / 200
        #expect(abs(topology.latencySeconds(from: 0, to: 1) * 1000 - quarter) < 1e-5)
        #expect(abs(topology.latencySeconds(from: 0, to: 2) * 1000 - quarter * (1 + 1.0 / 90)) < 1e-4)
        #expect(topology.link(from: 0, to: 2).rate == .megabits(155))
        #expect(try Sample.read(Sample.graphml).topology.hosts[0].name == "A-A")
    }

    @Test func `of SimGrid sums latencies, takes the narrowest link and counts cores`() throws {
        let topology = try Sample.read(Sample.simgrid).topology
        #expect(abs(topology.hosts[0].flops - 196.19e6) < 1)
        #expect(abs(topology.hosts[1].flops - 76.296e6) < 1)
        #expect(topology.link(from: 1, to: 0).latency == .nanoseconds(1_059_904))
        #expect(abs(topology.link(from: 0, to: 1).rate!.megabitsPerSecond - 330.233) < 1e-6)
    }

    @Test func `of DT-FM names devices, keeps directions and brings its constants`() throws {
        let imported = try Sample.read(Sample.dtfm)
        #expect(imported.topology.hosts.map(\.name) == ["d0", "d1"])
        #expect(imported.topology.link(from: 1, to: 0).latency == .milliseconds(11))
        #expect(imported.topology.link(from: 1, to: 0).rate == .megabits(1500))
        #expect(
            imported.layout == LayoutFigures(stages: 2, replicas: 1, gradientGigabytes: 0.65, activationGigabytes: 0.47)
        )
    }

    @Test func `of matrices takes units from anywhere, halves round trips and joins two files`() throws {
        #expect(try Sample.read(Sample.matrix).topology.link(from: 0, to: 2).latency == .microseconds(20_500))
        let bare = "0 10\n10 0\n"
        #expect(Sample.failure(bare)?.kind == .missingKey)
        #expect(try Sample.read("# rtt_ms\n" + bare).topology.link(from: 0, to: 1).latency == .milliseconds(5))
        var options = ImportOptions()
        options.latencyUnit = "ms"
        #expect(try Sample.read(bare, options: options).topology.link(from: 0, to: 1).latency == .milliseconds(10))
        let both = try ImportedTopology(
            reading: Array("0;10\n10;0".utf8), file: "latency_ms.csv",
            bandwidths: (bytes: Array("0;3\n4;0".utf8), file: "bandwidth_gbps.csv")
        ).topology
        #expect(both.link(from: 1, to: 0).rate == .megabits(4000))
    }

    @Test func `of churn has lives on a time line, and an instance that comes back is another machine`() throws {
        let topology = try Sample.read(Sample.bamboo).topology
        #expect(topology.hosts.map(\.name) == ["node1", "node2", "node1-2"])
        #expect(
            topology.faults == [
                Fault(.join, at: .seconds(60), host: "node2"), Fault(.kill, at: .seconds(120), host: "node1"),
                Fault(.join, at: .seconds(180), host: "node1-2"),
            ])
        #expect(topology.lateJoiners == ["node2", "node1-2"])
        let base = try Shipped.topology("three-homes")
        let onto = try Sample.read(Sample.bamboo, base: base).topology
        #expect(onto.peers.map { onto.hosts[$0].name } == ["studio", "kitchen", "studio-2"])
        #expect(onto.firstMissingLink() == nil)
        let ticks = try Sample.read(Sample.skypilot).topology
        #expect(ticks.hosts.count == 3)
        #expect(ticks.faults.last == Fault(.kill, at: .seconds(180), host: "spot-2"))
    }

    @Test func `with thousands of routers places as many peers as asked for, at its edge`() throws {
        var text = "graph [\n"
        for id in 0..<4000 { text += "node [ id \(id) ]\n" }
        for id in 1..<4000 { text += "edge [ source \(id) target \((id - 1) / 3) latency \"1 ms\" ]\n" }
        var options = ImportOptions()
        options.mostPeers = 50
        let imported = try Sample.read(text + "]", options: options)
        #expect(imported.topology.hosts.count == 50)
        #expect(imported.topology.firstMissingLink() == nil)
    }
}

@Suite struct `What is wrong with an imported file` {
    @Test(arguments: [
        ("a node twice", Sample.shadow.replacing("id 1 ", with: "id 0 "), TopologyError.Kind.duplicateName),
        ("an edge to nobody", Sample.shadow.replacing("target 2", with: "target 9"), .unknownName),
        (
            "a lone node", Sample.shadow.replacing("edge [ source 1 target 2", with: "edge [ source 2 target 2"),
            .disconnected
        ),
        ("no latency", Sample.shadow.replacing("latency \"18 ms\"", with: ""), .missingKey),
        ("a negative latency", Sample.shadow.replacing("18 ms", with: "-18 ms"), .outOfRange),
        ("a latency that is no number", Sample.shadow.replacing("18 ms", with: "nan ms"), .wrongType),
        ("a rate without unit", Sample.shadow.replacing("90 Mbit", with: "90"), .wrongType),
        ("a rate of zero", Sample.shadow.replacing("90 Mbit", with: "0 Mbit"), .outOfRange),
        ("a loss of all", Sample.shadow.replacing("0.004", with: "1"), .outOfRange),
        ("no end", String(Sample.shadow.dropLast(1)), .unreadable),
        ("a place off the Earth", Sample.zoo.replacing("Latitude 1.0", with: "Latitude 91"), .outOfRange),
        ("a link speed below zero", Sample.zoo.replacing("155000000.0", with: "-1"), .outOfRange),
        ("a key never declared", Sample.graphml.replacing("data key=\"d3\"", with: "data key=\"d9\""), .unknownName),
        ("an element without end", Sample.graphml.replacing("</graph>\n", with: "\n"), .unreadable),
        ("an entity of its own", Sample.graphml.replacing("&amp;", with: "&boom;"), .unreadable),
        (
            "entities declared", Sample.simgrid.replacing("\"platform.dtd\"", with: "\"p.dtd\" [<!ENTITY a \"b\">]"),
            .unreadable
        ),
        (
            "a route over no link", Sample.simgrid.replacing("link_ctn id=\"b\"", with: "link_ctn id=\"z\""),
            .unknownName
        ),
        ("a host twice", Sample.simgrid.replacing("Jupiter\" speed", with: "Tremblay\" speed"), .duplicateName),
        ("a speed without unit", Sample.simgrid.replacing("98.095Mf", with: "98.095"), .wrongType),
        ("a bandwidth of zero", Sample.simgrid.replacing("1Gbps", with: "0Gbps"), .outOfRange),
        ("a latency without unit", Sample.simgrid.replacing("59.904us", with: "59.904"), .wrongType),
        ("hosts without route", Sample.simgrid.replacing("dst=\"Jupiter\"", with: "dst=\"Tremblay\""), .disconnected),
        ("a matrix not square", Sample.dtfm.replacing("[11, 0]", with: "[11]"), .outOfRange),
        ("a negative delay", Sample.dtfm.replacing("11,", with: "-11,"), .outOfRange),
        ("a delay that is no number", Sample.dtfm.replacing("11,", with: "NaN,"), .outOfRange),
        ("a grid for others", Sample.dtfm.replacing("\"stages_way\": 2", with: "\"stages_way\": 3"), .outOfRange),
        ("a row too short", Sample.matrix.replacing("b,10,0,30", with: "b,10,0"), .outOfRange),
        ("a row too few", Sample.matrix.replacing("\nc,20.5,30,0", with: ""), .outOfRange),
        ("a hole", Sample.matrix.replacing("20.5", with: "nan"), .disconnected),
        ("a negative cell", Sample.matrix.replacing("20.5,30,0", with: "-2,30,0"), .outOfRange),
        ("a name twice", Sample.matrix.replacing("a,b,c", with: "a,b,b"), .duplicateName),
        ("other names in rows", Sample.matrix.replacing("\nc,", with: "\nd,"), .unknownName),
        ("who was never there leaves", Sample.bamboo.replacing("remove,node1", with: "remove,node7"), .unknownName),
        ("who is there comes", Sample.bamboo.replacing("remove,node1", with: "add,node1"), .duplicateName),
        ("time goes back", Sample.bamboo.replacing("600000", with: "1"), .outOfRange),
        ("half an instance", Sample.skypilot.replacing("[0, 1,", with: "[0, 1.5,"), .wrongType),
        ("nobody ever", Sample.skypilot.replacing("[0, 1, 3, 3, 2]", with: "[0, 0]"), .missingKey),
        ("nothing", "", .unreadable), ("prose", "Once upon a time", .unreadable),
    ]) func `is said with its kind and place`(what: String, text: String, kind: TopologyError.Kind) {
        let problem = Sample.failure(text)
        #expect(problem?.kind == kind, "\(what): \(problem?.description ?? "read")")
        #expect(problem?.description.contains("allowed: ") == true)
    }

    @Test func `is its size when it is too large`() {
        let bytes = [UInt8](repeating: 32, count: ImportedTopology.maximumBytes + 1)
        #expect(throws: TopologyError.self) { try ImportedTopology(reading: bytes, file: "big.gml") }
    }

    /// Bytes changed, cut and doubled at random: an answer or a typed error, never a trap.
    @Test(arguments: 0..<Sample.all.count) func `never makes the reader crash`(index: Int) {
        let (format, text) = Sample.all[index]
        var random = SeededGenerator(seed: UInt64(index) + 1)
        let marks = Array("\"[]<>&;,.#-0 \n\u{0}9e".utf8)
        for _ in 0..<1500 {
            var bytes = Array(text.utf8)
            for _ in 0...random.below(4) {
                let at = random.below(bytes.count)
                switch random.below(4) {
                case 0: bytes[at] = marks[random.below(marks.count)]
                case 1: bytes.remove(at: at)
                case 2: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + random.below(40))], at: at)
                default: bytes[at] = UInt8(random.below(256))
                }
                if bytes.isEmpty { bytes = [32] }
            }
            if random.below(8) == 0 { bytes.removeSubrange(random.below(bytes.count)...) }
            for format in [format, nil] {
                if let imported = try? ImportedTopology(reading: bytes, file: "f", format: format) {
                    #expect(imported.topology.firstMissingLink() == nil)
                    _ = TopologyMap(imported.topology).text(columns: 60)
                }
            }
        }
    }
}
