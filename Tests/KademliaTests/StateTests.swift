import Digests
import Kademlia
import Primitives
import Testing

@Suite struct StateTests {
    private let pool = [UInt8](repeating: 7, count: 32)

    /// A rendezvous node that knows others and keeps an item and an announcement of theirs.
    private func world() -> World {
        var world = World(seed: 31)
        world.populate(6)
        world.run(.seconds(15))
        _ = world.finish(2) { $0.putMutable(value: Array("1:a".utf8), salt: [], sequence: 3, cas: nil, at: $1) }
        _ = world.finish(3) { $0.announce(NodeID(hashing: [1]), port: 77, at: $1) }
        return world
    }

    @Test func `a restart keeps the ID, the contacts and what was held for others`() throws {
        var world = world()
        let overlay = world.nodes[0].directory.overlay
        let bytes = overlay.state(at: world.now).encoded(poolKey: pool, wall: 1000)
        let state = try #require(OverlayState(bytes, poolKey: pool, wall: 1060))
        #expect(state.nodeID == overlay.nodeID)
        #expect(Set(state.contacts) == Set(overlay.contacts))
        let index = world.add(at: World.loopback(50), bootstrap: [], known: state.contacts, nodeID: state.nodeID)
        world.with(index) { directory, now in directory.perform(at: now) { $0.restore(state, at: now) } }
        #expect(world.nodes[index].directory.overlay.stored == overlay.stored)
        #expect(overlay.stored.items == 1)
        #expect(overlay.stored.infoHashes == 1)
        #expect(world.run(.milliseconds(60)) { $0.nodes[index].directory.overlay.isJoined })
    }

    @Test func `what ran out while the node was away is not taken back`() throws {
        let world = world()
        let bytes = world.nodes[0].directory.overlay.state(at: world.now).encoded(poolKey: pool, wall: 1000)
        for (wall, items, hashes) in [(1000 + 1900, 1, 1), (1000 + 2000, 1, 0), (1000 + 8000, 0, 0), (0, 1, 1)] {
            let state = try #require(OverlayState(bytes, poolKey: pool, wall: Int64(wall)))
            var overlay = Overlay(
                configuration: OverlayConfiguration(poolKey: pool, bootstrap: [], seed: 1), identity: World.identity(9),
                nodeID: nil, known: [], at: Instant(seconds: 5))
            overlay.restore(state, at: Instant(seconds: 5))
            #expect(overlay.stored.items == items, "\(wall)")
            #expect(overlay.stored.infoHashes == hashes, "\(wall)")
        }
    }

    @Test func `another pool's, damaged and forged states are refused`() throws {
        let world = world()
        let bytes = world.nodes[0].directory.overlay.state(at: world.now).encoded(poolKey: pool, wall: 1000)
        #expect(OverlayState(bytes, poolKey: nil, wall: 1000) == nil)
        #expect(OverlayState(bytes, poolKey: [UInt8](repeating: 8, count: 32), wall: 1000) == nil)
        #expect(OverlayState([], poolKey: pool, wall: 1000) == nil)
        for cut in stride(from: 1, to: bytes.count, by: 7) {
            #expect(OverlayState(Array(bytes.prefix(cut)), poolKey: pool, wall: 1000) == nil)
        }
        // A flipped bit in a signed item costs that item, or the file; it never becomes somebody's word.
        let original = try #require(OverlayState(bytes, poolKey: pool, wall: 1000))
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<500 {
            var damaged = bytes
            damaged[generator.below(damaged.count)] ^= 1 << UInt8(generator.below(8))
            guard let state = OverlayState(damaged, poolKey: pool, wall: 1000) else { continue }
            var overlay = Overlay(
                configuration: OverlayConfiguration(poolKey: pool, bootstrap: [], seed: 1), identity: World.identity(9),
                nodeID: nil, known: state.contacts, at: Instant(seconds: 5))
            overlay.restore(state, at: Instant(seconds: 5))
            #expect(overlay.stored.items <= 1)
        }
        #expect(original.contacts.count == 5)
    }
}
