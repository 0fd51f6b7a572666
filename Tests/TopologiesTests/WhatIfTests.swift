import Links
import Primitives
import Testing
import Topologies

@Suite struct `A what-if` {
    static func applied(_ text: String) throws -> Topology {
        try WhatIf(text).applied(to: try Shipped.topology("three-homes"))
    }

    @Test func `sets, adds and multiplies`() throws {
        #expect(try Self.applied("barn.up=50 Mbit/s").hosts[5].up == .megabits(50))
        #expect(try Self.applied("barn.up=+20Mbit/s").hosts[5].up == .megabits(26))
        #expect(try Self.applied("barn.memory=x2").hosts[5].memory == .mebibytes(96))
        #expect(try Self.applied("speed×2").hosts[0].flops == 28e9)
        let topology = try Self.applied("latency=-10 ms")
        #expect(topology.link(from: 0, to: 5).latency == .milliseconds(14))
        #expect(topology.link(from: 0, to: 2).latency == .zero)
        #expect(try Self.applied("studio/barn.latency=5 ms").link(from: 5, to: 0).latency == .milliseconds(5))
    }

    @Test(arguments: [
        "barn.up=50", "barn.up=-50 Mbit/s", "nobody.up=1 Mbit/s", "barn.colour=1", "latency", "barn.up=nan Mbit/s",
        "barn.up=x-1", "availability=2", "a/b.up=1 Mbit/s", "", "=", "x", "×", "barn.memory=0 MiB", "loss=100 %",
    ]) func `that cannot be is refused`(text: String) {
        #expect(throws: TopologyError.self) { try Self.applied(text) }
    }
}

@Suite struct `A map` {
    @Test(arguments: Shipped.names) func `keeps to its columns and shows every peer in one cluster`(name: String) throws
    {
        let topology = try Shipped.topology(name)
        let map = TopologyMap(topology)
        #expect(map.clusters.reduce(0) { $0 + $1.peers.count } == topology.peers.count)
        #expect(map.clusters.count <= 12)
        for columns in [40, 80, 120] {
            #expect(map.text(columns: columns).split(separator: "\n").allSatisfy { $0.count <= columns })
        }
    }
}
