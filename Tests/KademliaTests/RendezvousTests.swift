import Kademlia
import Primitives
import Testing

/// What the layers above count on: everybody is met, whoever starts when, and silence is cheap.
@Suite struct RendezvousTests {
    private static let topic = Array("atoll/peers/1".utf8)

    @Test(arguments: [1, 2, 3, 4, 5, 6])
    func `a watcher discovers all twenty announcers among thirty nodes, whatever the start order`(seed: UInt64) {
        var world = World(seed: 100 + seed)
        world.delay = .milliseconds(20)
        var order = Array(0..<30)
        world.generator.shuffle(&order)
        var place = [Int](repeating: 0, count: 30)
        for number in order {
            let bootstrap = number == 0 ? [] : [World.loopback(0)]
            place[number] = world.add(at: World.loopback(number), bootstrap: bootstrap)
            world.with(place[number]) { directory, now in
                if number == 29 { directory.watch(topic: Self.topic, at: now) }
                if (1...20).contains(number) {
                    directory.announce(topic: Self.topic, port: UInt16(7000 + number), at: now)
                }
            }
            if seed % 2 == 0 { world.run(.milliseconds(300)) }
        }
        let started = world.now
        let wanted = Set((1...20).map { UInt16(7000 + $0) })
        let watcher = place[29]
        let met = world.run(.seconds(20)) { world in
            wanted.isSubset(of: Self.discovered(world.nodes[watcher]).map(\.port))
        }
        #expect(met, "missing \(wanted.subtracting(Self.discovered(world.nodes[watcher]).map(\.port)).sorted())")
        #expect(world.now - started < .seconds(10), "took \(world.now - started)")
        #expect(Self.discovered(world.nodes[watcher]).allSatisfy { $0.address == [127, 0, 0, 1] })
        #expect(world.run(.seconds(15)) { $0.nodes.allSatisfy { $0.directory.overlay.isJoined } })
    }

    @Test func `an announcer that starts a minute late is discovered within the longest pause between two questions`() {
        var world = World(seed: 120)
        world.delay = .milliseconds(20)
        world.populate(10)
        world.with(3) { $0.watch(topic: Self.topic, at: $1) }
        world.run(.seconds(60))
        let late = world.add(bootstrap: [World.loopback(0)])
        world.with(late) { $0.announce(topic: Self.topic, port: 7777, at: $1) }
        let started = world.now
        #expect(world.run(.seconds(60)) { Self.discovered($0.nodes[3]).contains { $0.port == 7777 } })
        #expect(world.now - started < .seconds(36), "took \(world.now - started)")
    }

    @Test func `half of the nodes falling silent keeps every lookup under two seconds`() throws {
        var world = World(seed: 121)
        world.delay = .milliseconds(20)
        world.populate(30)
        world.run(.seconds(30))
        for index in stride(from: 1, to: 30, by: 2) { world.nodes[index].isSilent = true }
        for round in 0..<10 {
            let target = NodeID(hashing: [UInt8(round), 9])
            let found = try #require(world.finish(round % 5 * 2 + 2) { $0.getPeers(target, at: $1) })
            #expect(found.elapsed < .seconds(2), "round \(round) took \(found.elapsed)")
        }
    }

    private static func discovered(_ node: World.Node) -> [Endpoint] {
        node.events.flatMap { event -> [Endpoint] in
            if case .discovered(_, let endpoints, _) = event.effect { endpoints } else { [] }
        }
    }
}
