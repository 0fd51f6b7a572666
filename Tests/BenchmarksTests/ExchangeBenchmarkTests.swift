import Benchmarks
import Testing

/// The benchmark's rows, with a clock that only counts; `make bench-exchange` is the real run.
struct ExchangeBenchmarkTests {
    @Test func `every codec has its rows and goals`() {
        var ticks = 0.0
        let rows = ExchangeBenchmark.run(count: 5000, repetitions: 2) {
            ticks += 1
            return ticks
        }
        #expect(rows.count == 25 && rows[0].name == "memcpy")
        #expect(rows.allSatisfy { $0.ratioToMemcpy == 1 })
        let goals = rows.filter { $0.goal != nil }.map(\.name)
        #expect(
            goals == [
                "int8 encode", "int8 mean of 8", "int4 mean of 8", "sparse:k=64 encode, feedback",
                "sparse:k=64 mean of 8",
            ])
    }
}
