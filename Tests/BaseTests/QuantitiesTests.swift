import Primitives
import Testing

@Suite struct `Moments and durations` {
    @Test func `adding a duration and taking it away again returns to the same nanosecond`() {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<200 {
            let start = Instant(nanoseconds: Int64(generator.below(1 << 50)))
            let step = Duration.nanoseconds(Int64(generator.below(1 << 50)))
            #expect((start + step) - step == start)
            #expect((start + step) - start == step)
            var moved = start
            moved += step
            #expect(moved == start + step)
            #expect(moved.nanoseconds == start.nanoseconds + step.wholeNanoseconds)
        }
    }

    @Test func `a duration longer than a second keeps its seconds and its rest`() {
        #expect((Duration.seconds(90) + .nanoseconds(7)).wholeNanoseconds == 90_000_000_007)
        #expect(Duration.milliseconds(-1500).wholeNanoseconds == -1_500_000_000)
        #expect(Duration.milliseconds(1500).inSeconds == 1.5)
        #expect(Duration.microseconds(2500).inMilliseconds == 2.5)
        #expect(Instant(seconds: 1.25).nanoseconds == 1_250_000_000)
        #expect(Instant(nanoseconds: 1_250_000_000).seconds == 1.25)
    }

    @Test func `instants are ordered by their nanoseconds`() {
        #expect(Instant.zero < Instant(nanoseconds: 1))
        #expect(!(Instant.zero < Instant.zero))
        #expect(Instant(nanoseconds: -1) < .zero)
    }

    @Test func `the earliest of two optional moments treats nil as never`() {
        let (a, b) = (Instant(nanoseconds: 3), Instant(nanoseconds: 5))
        #expect(earliest(a, b) == a)
        #expect(earliest(b, a) == a)
        #expect(earliest(nil, b) == b)
        #expect(earliest(a, nil) == a)
        #expect(earliest(nil, nil) == nil)
    }
}

@Suite struct `Numbers for people` {
    @Test(arguments: [
        (0.0, 2, "0.00"), (1.005, 1, "1.0"), (-0.04, 1, "0.0"), (-0.06, 1, "-0.1"), (12.5, 0, "13"),
        (9.999, 2, "10.00"),
        (0.05, 2, "0.05"), (1234.5678, 3, "1234.568"), (-7, 0, "-7"), (.nan, 2, "nan"), (.infinity, 2, "inf"),
        (-.infinity, 2, "-inf"),
    ])
    func `writes exactly the wanted decimals`(value: Double, digits: Int, text: String) {
        #expect(fixed(value, digits) == text)
    }

    @Test(arguments: [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (6_501_171, "6.2 MiB"), (3 << 40, "3.0 TiB")])
    func `byte counts use binary units`(bytes: Int, text: String) {
        #expect(ByteCount(bytes).description == text)
    }

    @Test func `a line's time for bytes follows from its rate`() {
        #expect(BitRate.megabits(8).time(for: 1_000_000) == .seconds(1))
        #expect(BitRate.megabits(100).bytesPerSecond == 12_500_000)
        #expect(BitRate.megabits(1.5).description == "1.5 Mbit/s")
        #expect(BitRate.megabits(100).description == "100 Mbit/s")
    }
}

@Suite struct `Effect queues` {
    @Test func `give out in the order in which they took in, like a plain array`() {
        var generator = SeededGenerator(seed: 11)
        var queue = EffectQueue<Int>()
        var model: [Int] = []
        for value in 0..<20_000 {
            // Fill in the first half, drain in the second, so that the queue is compacted on the way.
            if generator.below(10) < (value < 10_000 ? 7 : 3) {
                queue.push(value)
                model.append(value)
            } else {
                #expect(queue.pop() == (model.isEmpty ? nil : model.removeFirst()))
            }
            #expect(queue.count == model.count)
        }
        while let value = queue.pop() { #expect(value == model.removeFirst()) }
        #expect(model.isEmpty)
        #expect(queue.isEmpty)
    }
}
