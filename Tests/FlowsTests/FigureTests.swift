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
}
