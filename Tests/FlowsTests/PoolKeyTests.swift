import Benchmarks
import Flows
import Primitives
import Testing

/// A pool that changes its key: docs/MEMBERSHIP.md.
@Suite struct `While the pool's key is changed` {
    private let old = SimulatedSeals(key: 7)
    private let new = SimulatedSeals(key: 8)
    private func opens(_ world: inout FlowWorld, _ id: UInt64, from a: Int) -> Bool {
        let other = world.homes[1 - a].endpoint
        world.open(id, from: a, to: 1 - a)
        world.write(a, id, text(0..<3_000))
        world.run(.seconds(7))
        return world.said(a, .opened(id, remote: other, isInbound: false))
            && world.kept[1 - a].values.contains(text(0..<3_000))
    }

    @Test func `those that have heard and those that have not open flows to each other`() {
        var world = pair(seed: 1)
        // Both keys are right, and the old one still in use at one end only.
        world.tell(0) { host, _ in host.use([new, old]) }
        world.tell(1) { host, _ in host.use([old, new]) }
        #expect(opens(&world, 1, from: 0))
        #expect(opens(&world, 1, from: 1))
    }
    @Test func `flows that are open go on, and new ones need the new key`() {
        var world = pair(seed: 2)
        #expect(opens(&world, 1, from: 0))
        for home in 0...1 { world.tell(home) { host, _ in host.use([new]) } }
        let before = world.homes[1].received.values.reduce(0, +)
        world.write(0, 1, text(0..<50_000))
        world.run(.seconds(2))
        #expect(world.homes[1].received.values.reduce(0, +) == before + 50_000)
        #expect(opens(&world, 3, from: 0))
        // One that was removed knows the old key only.
        world.tell(0) { host, _ in host.use([old]) }
        world.open(5, from: 0, to: 1)
        world.run(.seconds(7))
        #expect(!world.said(0, .opened(5, remote: world.homes[1].endpoint, isInbound: false)))
        #expect(world.homes[1].host.counters.unsealed > 0)
        #expect(world.said(0, .closed(5, .timedOut)))
    }
}
