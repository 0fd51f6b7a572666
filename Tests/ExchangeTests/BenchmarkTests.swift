import Exchange
import Foundation
import Testing

/// The benchmark's rows, with a clock that only counts. With `ATOLL_BENCH` = megabytes in the environment, a real run
/// printed.
struct BenchmarkTests {
    @Test func `every codec has its rows and goals`() {
        var ticks = 0.0
        let rows = ExchangeBenchmark.run(count: 5000, repetitions: 2) {
            ticks += 1
            return ticks
        }
        #expect(rows.count == 17 && rows[0].name == "memcpy")
        #expect(rows.allSatisfy { $0.ratioToMemcpy == 1 })
        let goals = rows.filter { $0.goal != nil }.map(\.name)
        #expect(goals == ["int8 encode", "sparse:k=64 encode, feedback", "sparse:k=64 mean of 8"])
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["ATOLL_BENCH"] != nil))
    func `the speeds are printed`() {
        let megabytes = Int(ProcessInfo.processInfo.environment["ATOLL_BENCH"]!) ?? 256
        let rows = ExchangeBenchmark.run(count: megabytes << 18) {
            // This thread's processor time, because the machine may be shared.
            var time = timespec()
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
            return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
        }
        print("\(megabytes) MB, \(ExchangeBenchmark.InstructionSet.best)")
        for row in rows {
            let goal = row.goal.map { " (goal \($0))" } ?? "", bits = row.bitsPerValue.map { ", \($0) bits" } ?? ""
            let name = row.name.padding(toLength: 32, withPad: " ", startingAt: 0)
            let speed = String(format: "%7.2f GB/s %6.2f x memcpy", row.bytesPerSecond / 1e9, row.ratioToMemcpy)
            print(name + speed, goal, bits)
        }
    }
}
