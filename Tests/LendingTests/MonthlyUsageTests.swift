import Lending
import Primitives
import Testing

@Suite struct `What was used in a month, by a clock that may be wrong` {
    private func used(_ usage: MonthlyUsage) -> Int { usage.all.bytes }

    @Test func `a month that begins has used nothing`() {
        var usage = MonthlyUsage()
        usage.add(sent: 10, received: 5, month: 202_611)
        usage.add(sent: 0, received: 0, month: 202_612)
        #expect(used(usage) == 0)
        usage.add(sent: 1, received: 2, month: 202_612)
        #expect(usage.sent == 1 && usage.received == 2 && usage.month == 202_612)
    }
    @Test func `a clock that was years ahead for seconds forgets nothing, and its month is over with this one`() {
        var usage = MonthlyUsage()
        usage.add(sent: 1000, received: 0, month: 202_611)
        usage.add(sent: 3, received: 0, month: 203_401)
        #expect(used(usage) == 3)
        usage.add(sent: 5, received: 0, month: 202_611)
        #expect(used(usage) == 1008, "what was counted ahead counts here")
        usage.add(sent: 7, received: 0, month: 202_612)
        #expect(used(usage) == 7)
        usage.add(sent: 2, received: 0, month: 202_701)
        #expect(used(usage) == 2)
    }
    @Test func `a clock set back counts the later month, too, and what it counted goes along when it is right again`() {
        var usage = MonthlyUsage()
        usage.add(sent: 70, received: 0, month: 202_610)
        usage.add(sent: 1000, received: 0, month: 202_611)
        usage.add(sent: 4, received: 0, month: 202_610)
        #expect(used(usage) == 1074)
        usage.add(sent: 0, received: 0, month: 202_611)
        #expect(used(usage) == 1004)
        // And once more: nothing is counted twice.
        usage.add(sent: 4, received: 0, month: 202_610)
        usage.add(sent: 1, received: 0, month: 202_611)
        #expect(used(usage) == 1009)
        usage.add(sent: 0, received: 0, month: 202_612)
        #expect(used(usage) == 0)
    }
    @Test func `what was counted before this version existed belongs to the month that follows`() {
        var usage = MonthlyUsage()
        usage.add(sent: 40, received: 0, month: 197_001)
        usage.add(sent: 2, received: 0, month: 202_611)
        #expect(used(usage) == 42)
    }
    @Test func `counters stop at the most there is, and any walk of the clock loses no byte of its newest month`() {
        var usage = MonthlyUsage()
        usage.add(sent: .max, received: .max, month: 202_611)
        usage.add(sent: .max, received: 1, month: 202_611)
        #expect(used(usage) == .max)
        var state: UInt64 = 1
        for _ in 0..<200 {
            var walk = MonthlyUsage()
            var sum = 0
            for _ in 0..<40 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let (month, bytes) = (202_600 + 1 + Int(state >> 60) % 14, Int(state >> 40) % 1000)
                walk.add(sent: bytes, received: 0, month: month)
                sum += bytes
                #expect(walk.counts.count <= MonthlyUsage.most)
                #expect(zip(walk.counts, walk.counts.dropFirst()).allSatisfy { $0.month < $1.month })
                #expect(walk.all.bytes <= sum && walk.all.bytes >= bytes)
                #expect(MonthlyUsage(counts: walk.counts, month: walk.month, strays: walk.strays) == walk)
            }
        }
    }
    @Test func `a file that contradicts itself is not read`() {
        let one = MonthlyUsage.Count(month: 202_611, sent: 1, received: 1)
        let none = MonthlyUsage.Count(month: 0, sent: 0, received: 0)
        #expect(MonthlyUsage(counts: [one, one], month: 202_611, strays: none) == nil)
        #expect(MonthlyUsage(counts: [one], month: 202_612, strays: none) == nil)
        #expect(
            MonthlyUsage(counts: [.init(month: 202_611, sent: -1, received: 0)], month: 202_611, strays: none) == nil)
        #expect(MonthlyUsage(counts: [one], month: 202_611, strays: none) != nil)
    }
}
