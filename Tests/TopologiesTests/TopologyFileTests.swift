import Foundation
import Links
import Primitives
import Testing
import Topologies

@Suite struct `A topology file` {
    /// Two hosts and nothing wrong; tests break one thing at a time.
    static func file(hosts: String? = nil, rest: String = "default_link: {latency_ms: 5}") -> String {
        """
        name: test
        about: "Two computers."
        expect: "Nothing."
        \(rest)
        hosts:
        \(hosts ?? """
          - {name: a, gflops: 1, memory_mib: 10, up_mbps: 20, down_mbps: 100}
          - {name: b, gflops: 2, memory_mib: 10, up_mbps: 20, down_mbps: 100}
        """)
        """
    }
    static func failure(_ text: String) -> TopologyError? {
        do {
            _ = try Topology(parsing: text, file: "t.yaml")
            return nil
        } catch { return error }
    }

    @Test(arguments: Shipped.names) func `that ships is read, opens with two sentences and reads back equal`(
        name: String
    ) throws {
        let topology = try Shipped.topology(name)
        #expect(topology.name == name)
        #expect(topology.about.hasSuffix(".") && topology.expectation.hasSuffix("."))
        // The published scenarios have their devices only; they are given the rest.
        let whole = name.hasPrefix("dtfm-") ? topology.withServices() : topology
        #expect(whole.hosts.contains { $0.role == .coordinator } && whole.hosts.contains { $0.role == .bootstrap })
        #expect(try Topology(parsing: topology.text) == topology)
        #expect(try Topology(parsing: topology.text).text == topology.text)
    }

    @Test func `says which pairs a relay carries, and reads back equal`() throws {
        let hosts = """
              - {name: a, gflops: 1, memory_mib: 10, up_mbps: 20, down_mbps: 100, port: 7070}
              - {name: b, gflops: 2, memory_mib: 10, up_mbps: 20, down_mbps: 100}
              - {name: crane, role: bootstrap, up_mbps: 100, down_mbps: 100, relay_mbps: 5}
            """
        func read(_ links: String) throws -> Topology {
            try Topology(parsing: Self.file(hosts: hosts) + "\nlinks:\n\(links)")
        }
        let topology = try read(
            "  - {between: [a, b], relayed_by: crane}\n  - {from: a, to: crane, latency_ms: 12}\n"
                + "  - {from: crane, to: a, latency_ms: 20}\n")
        // From each end to the relay, and from there to the other one.
        #expect(topology.latencySeconds(from: 0, to: 1) == 0.017 && topology.latencySeconds(from: 1, to: 0) == 0.025)
        #expect(topology.relays == [Topology.Pair(0, 1): 2, Topology.Pair(1, 0): 2])
        #expect(topology.sendRate(from: 0, to: 1) == .megabits(5) && topology.hosts[0].port == 7070)
        #expect(try Topology(parsing: topology.text) == topology)
        let direct = topology.reaching(1)
        #expect(direct.relays.isEmpty && direct.sendRate(from: 0, to: 1) == .megabits(20))
        let measured = try read("  - {from: a, to: b, latency_ms: 9, rate_mbps: 3, relayed_by: crane}\n")
        #expect(measured.relays == [Topology.Pair(0, 1): 2] && measured.sendRate(from: 0, to: 1) == .megabits(3))
        #expect(measured.latencySeconds(from: 0, to: 1) == 0.009)
        #expect(try Topology(parsing: measured.text) == measured)
        // Without the relay the pair is as it says.
        #expect(measured.keeping { $0 < 2 }.relays.isEmpty)
        for wrong in [
            "{between: [a, b], relayed_by: b}", "{between: [a, b], relayed_by: nobody}", "{from: a, to: b}",
            "{between: [a, b], relayed_by: [crane]}",
        ] {
            #expect(throws: TopologyError.self, "\(wrong)") { try read("  - \(wrong)\n") }
        }
        #expect(
            Self.failure(
                Self.file(
                    hosts: hosts,
                    rest: "regions: [{name: x}, {name: y}]\n"
                        + "region_links: [{between: [x, y], latency_ms: 5, relayed_by: crane}]\ndefault_link: {latency_ms: 5}"
                )) != nil)
        // A way to the relay that is relayed itself is none.
        #expect(throws: TopologyError.self) {
            try read(
                "  - {between: [a, b], relayed_by: crane}\n  - {between: [a, crane], latency_ms: 1, relayed_by: b}\n")
        }
    }

    @Test func `ships at least a dozen`() { #expect(Shipped.names.count >= 12) }

    @Test func `writes many alike hosts in one entry, drawn from its seed`() throws {
        func drawn(_ entry: String) throws -> Topology {
            let regions = "default_link: {latency_ms: 5}\nregions: [{name: x}, {name: y}, {name: z}]"
            return try Topology(parsing: Self.file(hosts: "  - {\(entry)}", rest: regions))
        }
        let text =
            "name: v, count: 300, first: 7, seed: 5, gflops: [2, 18], memory_mib: 64, up_mbps: [3, 40], down_mbps: 100, "
            + "region: [x, y, z], reachability: [home, open]"
        let topology = try drawn(text)
        #expect(topology.hosts.count == 300)
        #expect(topology.hosts[0].name == "v7" && topology.hosts[299].name == "v306")
        for (index, host) in topology.hosts.enumerated() {
            #expect(host.region == index % 3)
            #expect(host.reachability == (index.isMultiple(of: 2) ? .home : .open))
        }
        let speeds = topology.hosts.map { $0.flops / 1e9 }
        #expect(speeds.allSatisfy { (2...18).contains($0) })
        // u² of a uniform u has the mean 1/3 and the median 1/4.
        let (mean, median) = (speeds.reduce(0, +) / 300, speeds.sorted()[150])
        #expect((6.33...8.33).contains(mean))
        #expect((4.5...7.5).contains(median))
        #expect(try drawn(text) == topology)
        #expect(try drawn(text.replacingOccurrences(of: "seed: 5", with: "seed: 6")) != topology)
        // A host's figures hang on the seed and its place only, not on how many there are.
        let fewer = try drawn(text.replacingOccurrences(of: "count: 300", with: "count: 30"))
        #expect(Array(topology.hosts.prefix(30)) == fewer.hosts)
        #expect(try Topology(parsing: topology.text) == topology)
    }
    @Test(arguments: [
        ("name: v, count: 2, gflops: [5, 2], memory_mib: 1, up_mbps: 1, down_mbps: 1", "the lowest first"),
        ("name: v, count: 2, gflops: [1, 2, 3], memory_mib: 1, up_mbps: 1, down_mbps: 1", "[lowest, highest]"),
        ("name: v, count: 2, gflops: [0, 3], memory_mib: 1, up_mbps: 1, down_mbps: 1", "greater than"),
        ("name: v, count: 0, gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1", "from 1"),
        ("name: v, count: 20001, gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1", "20000"),
        ("name: v, seed: 3, gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1", "beside count"),
        ("name: v, gflops: [1, 2], memory_mib: 1, up_mbps: 1, down_mbps: 1", "number"),
        ("name: v, count: 3, device: [], gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1", "one word"),
    ]) func `refuses entries of many hosts that mean nothing`(entry: String, hint: String) throws {
        let problem = try #require(Self.failure(Self.file(hosts: "  - {\(entry)}")))
        #expect("\(problem)".contains(hint) && problem.line == 6)
    }
    @Test func `refuses two entries whose hosts get the same name`() throws {
        let entry = "gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1"
        let text = Self.file(hosts: "  - {name: v, count: 12, \(entry)}\n  - {name: v1, count: 2, first: 0, \(entry)}")
        #expect(Self.failure(text).map { "\($0)" }?.contains("v10") == true)
    }

    @Test func `gives the demo eight unequal peers in three places with fifty gigaflops together`() throws {
        let demo = try Shipped.topology("demo")
        #expect(demo.peers.count == 8)
        #expect(demo.regions.count == 3)
        #expect(demo.peers.reduce(0.0) { $0 + demo.hosts[$1].flops } == 50e9)
        let latencies = demo.peers.flatMap { a in demo.peers.map { demo.latencySeconds(from: a, to: $0) } }
        #expect(latencies.max() == 0.08)
    }

    @Test func `prefers the link of a pair over that of its regions over the default`() throws {
        let topology = try Topology(
            parsing: """
                name: t
                about: "x."
                expect: "y."
                default_link: {latency_ms: 100}
                regions: [{name: north, latency_ms: 1}, {name: south}]
                region_links: [{between: [north, south], latency_ms: 30, jitter_ms: 2, loss_percent: 1, rate_mbps: 5}]
                hosts:
                  - {name: a, gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1, region: north}
                  - {name: b, gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1, region: north}
                  - {name: c, gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1, region: south}
                  - {name: d, gflops: 1, memory_mib: 1, up_mbps: 1, down_mbps: 1, region: south}
                links: [{from: a, to: b, latency_ms: 7}]
                """)
        func milliseconds(_ a: Int, _ b: Int) -> Double { topology.latencySeconds(from: a, to: b) * 1000 }
        #expect(milliseconds(0, 1) == 7)
        #expect(milliseconds(1, 0) == 1)
        #expect(milliseconds(0, 2) == 30)
        #expect(milliseconds(2, 3) == 100)
        #expect(milliseconds(0, 0) == 0)
        #expect(
            topology.link(from: 2, to: 0)
                == LinkProperties(latency: .milliseconds(30), jitter: .milliseconds(2), loss: 0.01, rate: .megabits(5)))
    }

    @Test(arguments: [
        ("hosts:\n  - {name: a}", FileProblem.Kind.missingKey, "gflops"),
        ("", .missingKey, "hosts"),
        ("hosts: []", .outOfRange, "hosts"),
        ("hosts: seven", .wrongType, "hosts"),
        ("hosts: [1, 2]", .wrongType, "hosts[0]"),
    ]) func `without proper hosts is refused`(rest: String, kind: FileProblem.Kind, key: String) {
        let problem = Self.failure("name: t\nabout: \"x.\"\nexpect: \"y.\"\n" + rest)
        #expect(problem?.kind == kind)
        #expect(problem?.key.contains(key) == true)
    }

    @Test(arguments: ["0", "-4", ".nan", "nan", ".inf", "1e999", "fast", "0x10", "[1]", "\"\""])
    func
        `with an impossible rate names file, line, key, what was found and what is allowed`(value: String)
    {
        let hosts = """
              - {name: a, gflops: 1, memory_mib: 10, up_mbps: 20, down_mbps: 100}
              - {name: b, gflops: 1, memory_mib: 10, up_mbps: \(value), down_mbps: 100}
            """
        let problem = Self.failure(Self.file(hosts: hosts))
        #expect(problem?.file == "t.yaml")
        #expect(problem?.line == 7)
        #expect(problem?.key == "hosts[1].up_mbps")
        #expect(problem?.allowed.contains("greater than 0") == true)
        #expect("\(problem!)".hasPrefix("t.yaml:7: hosts[1].up_mbps: found "))
    }

    @Test func `with a misspelt key suggests the one that was meant`() {
        let problem = Self.failure(Self.file(rest: "default_link: {latency: 5}"))
        #expect(problem?.kind == .unknownKey)
        #expect(problem?.allowed.contains("did you mean latency_ms?") == true)
        #expect(problem?.line == 4)
    }

    @Test func `with the same name twice, or a name that nobody has, is refused`() {
        let twice = """
              - {name: a, gflops: 1, memory_mib: 10, up_mbps: 20, down_mbps: 100}
              - {name: a, gflops: 1, memory_mib: 10, up_mbps: 20, down_mbps: 100}
            """
        #expect(Self.failure(Self.file(hosts: twice))?.kind == .duplicateName)
        let link = Self.failure(Self.file() + "\nlinks: [{from: a, to: bb, latency_ms: 1}]")
        #expect(link?.kind == .unknownName)
        #expect(link?.allowed.contains("did you mean b?") == true)
        #expect(Self.failure(Self.file() + "\nevents: [{at_s: 1, kind: kill, host: zebra}]")?.kind == .unknownName)
        #expect(Self.failure(Self.file() + "\nlinks: [{from: a, to: a, latency_ms: 1}]")?.kind == .outOfRange)
        let again = "\nlinks: [{between: [a, b], latency_ms: 1}, {from: b, to: a, latency_ms: 2}]"
        #expect(Self.failure(Self.file() + again)?.kind == .duplicateName)
        #expect(Self.failure(Self.file() + "\nname: again")?.kind == .duplicateName)
    }

    @Test func `whose hosts are not all connected says which pair is not`() {
        let problem = Self.failure(Self.file(rest: "links: [{from: a, to: b, latency_ms: 1}]"))
        #expect(problem?.kind == .disconnected)
        #expect(problem?.found == "no link from b to a")
        #expect(Self.failure(Self.file(rest: "links: [{between: [a, b], latency_ms: 1}]")) == nil)
    }

    @Test func `keeps its time line`() throws {
        let topology = try Topology(
            parsing: Self.file() + """

                events:
                  - {at_s: 3, kind: kill, host: a}
                  - {at_progress: 0.5, kind: slow, factor: 2, host: b}
                  - {at_s: 4, kind: cut, for_s: 1.5, host: b}
                """)
        #expect(
            topology.faults == [
                Fault(.kill, at: .seconds(3), host: "a"), Fault(.slow(factor: 2), at: .progress(0.5), host: "b"),
                Fault(.cut(seconds: 1.5), at: .seconds(4), host: "b"),
            ])
        #expect(try Topology(parsing: topology.text) == topology)
        #expect(Self.failure(Self.file() + "\nevents: [{kind: kill, host: a}]")?.kind == .missingKey)
    }

    @Test func `keeps what its hosts are behind, and when that changes`() throws {
        let hosts = """
              - {name: a, gflops: 1, memory_mib: 10, up_mbps: 20, down_mbps: 100, nat: port-restricted, nat_timeout_s: 40, mtu_bytes: 1400}
              - {name: b, count: 3, gflops: 2, memory_mib: 10, up_mbps: 20, down_mbps: 100, nat: [symmetric, none]}
            """
        let events = "\nevents: [{at_s: 3, kind: renumber, host: a}, {at_s: 4, kind: remap, host: b0}]"
        let topology = try Topology(parsing: Self.file(hosts: hosts) + events)
        #expect(topology.hosts.map(\.nat) == [.portRestricted, .symmetric, .none, .symmetric])
        #expect(topology.hosts.map(\.natTimeout) == [.seconds(40), nil, nil, nil])
        #expect(topology.hosts.map(\.mtu) == [1400, nil, nil, nil])
        #expect(topology.faults.map(\.kind) == [.renumber, .remap])
        #expect(try Topology(parsing: topology.text) == topology)
        #expect(topology.hasRouters && !topology.withPeers(behind: [.none]).hasRouters)
        let entry = "{name: a, gflops: 1, memory_mib: 10, up_mbps: 20, down_mbps: 100, nat: cone}"
        let problem = Self.failure(Self.file(hosts: "  - \(entry)"))
        #expect(problem?.allowed.contains("port-restricted") == true)
    }

    @Test func `that is too large, too deep, not UTF-8 or unfolds is refused before it is parsed`() {
        let huge = [UInt8](repeating: 32, count: 17 << 20)
        #expect(throws: FileProblem.self) { try Topology(parsing: huge) }
        #expect(Self.failure(String(repeating: "[", count: 50_000))?.kind == .unreadable)
        #expect(Self.failure(String(repeating: "- ", count: 50_000) + "x")?.kind == .unreadable)
        #expect(throws: FileProblem.self) { try Topology(parsing: [0x6E, 0xFF, 0xFE, 0x00]) }
        let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nname: *b"
        #expect(Self.failure(bomb)?.kind == .unreadable)
        #expect(Self.failure("")?.kind == .unreadable)
        #expect(Self.failure("a: b: c")?.kind == .unreadable)
    }

    @Test func `that was damaged at random is read or refused, never fatal`() throws {
        let good = try Shipped.bytes("demo")
        var random = SeededGenerator(seed: 11)
        var refused = 0
        for _ in 0..<400 {
            var bytes = good
            for _ in 0...random.below(4) {
                let place = random.below(bytes.count)
                switch random.below(4) {
                case 0: bytes[place] = UInt8(random.below(256))
                case 1: bytes.remove(at: place)
                case 2: bytes.insert(Array("[]{}:,-\"'&*!|>#\n".utf8)[random.below(16)], at: place)
                default: bytes.removeSubrange(place..<min(bytes.count, place + random.below(60)))
                }
            }
            do { _ = try Topology(parsing: bytes) } catch { refused += 1 }
        }
        #expect(refused > 100)
    }

    @Test func `with thousands of hosts is read in one go`() throws {
        var hosts = ""
        for i in 0..<3000 {
            hosts += "  - {name: h\(i), gflops: 1, memory_mib: 10, up_mbps: 20, down_mbps: 100}\n"
        }
        let topology = try Topology(parsing: Self.file(hosts: hosts))
        #expect(topology.hosts.count == 3000)
        #expect(topology.latencySeconds(from: 2999, to: 0) == 0.005)
    }
}
