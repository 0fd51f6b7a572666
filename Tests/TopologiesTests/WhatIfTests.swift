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

@Suite struct `A part of a topology` {
    @Test func `has of each kind of device its share, the first of them, and all services`() throws {
        let whole = try Shipped.topology("volunteers-256")
        let part = whole.keeping(peers: 64)
        func count(_ topology: Topology, _ device: String) -> Int { topology.hosts.count { $0.device == device } }
        #expect(part.peers.count == 64)
        for device in ["home computer", "gaming desktop"] {
            #expect(count(part, device) * 4 == count(whole, device))
        }
        #expect(part.hosts.filter { $0.role != .peer } == whole.hosts.filter { $0.role != .peer })
        let names = part.peers.map { part.hosts[$0].name }
        #expect(names == whole.hosts.map(\.name).filter { names.contains($0) }, "in the order of the file")
        let pairs = part.peers.prefix(8)
        for from in pairs {
            for to in pairs where from != to {
                let there = (whole.index(of: part.hosts[from].name)!, whole.index(of: part.hosts[to].name)!)
                #expect(part.link(from: from, to: to) == whole.link(from: there.0, to: there.1))
            }
        }
    }

    @Test func `is never more than asked for, whatever the rounding`() throws {
        let whole = try Shipped.topology("three-homes")
        for count in 0...whole.peers.count + 2 {
            #expect(whole.keeping(peers: count).peers.count == min(count, whole.peers.count))
        }
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
