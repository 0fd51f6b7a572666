import Benchmarks
import Primitives
import Testing

/// What `atoll bench flow-lines` prints, against its goals: ratios of a simulated line of 20 Mbit/s, in virtual time.
@Suite struct `On a simulated line of 20 Mbit/s` {
    private let most: Duration = .milliseconds(40)

    @Test(arguments: UInt64(1)...3) func `a flow fills it and leaves the owner's pings alone`(seed: UInt64) throws {
        let row = FlowLines.alone(20, seed)
        #expect(row.flows! >= 0.9)
        #expect(row.addedMedian! <= .milliseconds(30))
        #expect(row.addedP95! <= most)
        // CUBIC on the same line, so that the figure means something.
        #expect(row.cubicAdded! > .milliseconds(100))
    }
    @Test(arguments: UInt64(1)...3) func `the owner's own upload has it`(seed: UInt64) {
        #expect(FlowLines.owner(20, seed).owner! >= 0.85)
    }
    /// Longer than a minute, when what always waits might be taken for the way.
    @Test func `the owner's own upload has it for two minutes`() {
        let row = FlowLines.owner(120, 1)
        #expect(row.owner! >= 0.85)
        #expect(row.flows! > 0.01)
    }
    @Test(arguments: UInt64(1)...3) func `losses of one in a hundred are no reason to be slow`(seed: UInt64) {
        #expect(FlowLines.lossy("", FlowLines.way, 0.01, 20, seed).flows! >= 0.87)
    }
    @Test(arguments: UInt64(1)...3) func `nor is a long way`(seed: UInt64) {
        #expect(FlowLines.lossy("", .milliseconds(150), 0.002, 20, seed).flows! >= 0.85)
    }
    @Test(arguments: UInt64(1)...3) func `flows of one host share it, whoever came last`(seed: UInt64) {
        let row = FlowLines.three(20, seed)
        #expect(row.flows! >= 0.88)
        #expect(row.fairness! >= 0.5)
        #expect(row.addedP95! <= most)
    }
    @Test(arguments: UInt64(1)...3) func `a small buffer is filled by loss and not emptied by it`(seed: UInt64) {
        #expect(FlowLines.shallow(20, seed).flows! >= 0.85)
    }
    @Test(arguments: UInt64(1)...3) func `a slow peer does not slow the others`(seed: UInt64) {
        let row = FlowLines.slowPeer(20, seed)
        #expect(row.flows! >= 0.85)
        #expect(row.addedP95! <= most)
    }
    /// What a busy process does not send in time is no word of the line: it sends what the line has let out meanwhile, when it gets its turn.
    @Test(arguments: [5, 20, 30]) func `processes that are late fill it all the same`(milliseconds: Int) {
        for seed in UInt64(1)...3 {
            let row = FlowLines.busy(.milliseconds(milliseconds), 20, seed)
            #expect(row.flows! >= 0.75)
            #expect(row.addedP95! <= most)
        }
    }
    /// One call of the kernel for a millisecond of a fast line: what a flow costs depends on it.
    @Test func `bursts are of many datagrams`() {
        var world = FlowWorld(seed: 1)
        let fast = DatagramLine.Properties(rate: .megabits(400), buffer: 1 << 21)
        for _ in 0..<2 { _ = world.add(up: fast, down: fast) }
        world.connect(0, 1, DatagramLine.Properties(delay: .milliseconds(5)))
        world.open(1, from: 0, to: 1)
        world.writeEndlessly(0, 1)
        world.run(until: world.now + .seconds(5))
        #expect(world.homes[0].mostDatagrams >= 20)
        #expect(world.homes[1].received[2, default: 0] > 100_000_000)
    }
}
