import Flows
import Primitives
import Testing

@Suite struct `The parts of a flow` {
    @Test(arguments: UInt64(1)...20) func `ranges are a set of numbers`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var (ranges, naive) = (NumberRanges(), Set<UInt64>())
        for _ in 0..<300 {
            let low = UInt64(random.below(120))
            let range = low..<low + UInt64(random.below(12))
            if random.below(3) == 0 {
                ranges.remove(range)
                naive.subtract(range)
            } else {
                let expected = ranges.countInserting(range)
                let before = ranges.count
                ranges.insert(range)
                naive.formUnion(range)
                if !range.isEmpty { #expect(ranges.count <= max(expected, before)) }
            }
            #expect(ranges.ranges.flatMap { Array($0) } == naive.sorted())
            #expect(zip(ranges.ranges, ranges.ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
            for number in UInt64(0)..<140 where ranges.contains(number) != naive.contains(number) {
                Issue.record("\(number)")
            }
        }
    }
    /// RFC 9000, A.1.
    @Test(
        arguments: [
            (UInt64(151_288_809_941_952_652), [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
            (494_878_333, [0x9d, 0x7f, 0x3e, 0x7d]), (15_293, [0x7b, 0xbd]), (37, [0x25]),
        ] as [(UInt64, [UInt8])])
    func `numbers have the lengths of RFC 9000`(value: UInt64, expected: [UInt8]) {
        var bytes: [UInt8] = []
        bytes.write(number: value)
        #expect(bytes == expected)
        bytes.withUnsafeBytes {
            var reader = PacketReader($0)
            #expect(reader.number() == value)
        }
        for cut in 0..<bytes.count {
            bytes[..<cut].withUnsafeBytes {
                var reader = PacketReader($0)
                #expect(reader.number() == nil)
            }
        }
    }
    @Test(arguments: [0, 5, 1 << 31, 1 << 32 - 1, 1 << 32, 1 << 32 + 7, 1 << 40] as [UInt64])
    func `a packet's number is found from its end`(expected: UInt64) {
        for distance in [-2_000_000_000, -100, -1, 0, 1, 100, 2_000_000_000] as [Int64] {
            let number = Int64(expected) + distance
            guard number >= 0 else { continue }
            #expect(FlowPacket.number(UInt64(number) & 0xFFFF_FFFF, expecting: expected) == UInt64(number))
        }
    }
    @Test(arguments: UInt64(1)...30) func `pieces of a stream come together in whatever order`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var stream = ReceiveStream()
        let all = text(0..<20_000)
        var got: [UInt8] = []
        var starts = Array(stride(from: 0, to: all.count, by: 37))
        random.shuffle(&starts)
        var refused: [Int] = starts
        while !refused.isEmpty {
            let tried = refused
            refused = []
            for start in tried {
                let end = min(all.count, start + 37 + random.below(80))
                let outcome = all[start..<end].withUnsafeBytes {
                    stream.receive($0, at: UInt64(start), isLast: end == all.count)
                }
                #expect(outcome != .violation)
                if outcome == .refused { refused.append(start) }
                #expect(stream.waitingPieces <= FlowLimits.pieces)
                if random.below(5) == 0 { got += stream.takeReady() }
            }
        }
        got += stream.takeReady()
        #expect(got == all)
        #expect(stream.isComplete)
    }
    /// RFC 9002, §5.3: the first sample, then an eighth and a quarter of what is new; an acknowledgement that was held back counts without that.
    @Test func `round trips are smoothed as RFC 9002 has it`() {
        var roundTrip = RoundTrip()
        roundTrip.measured(.milliseconds(100), delay: .zero)
        #expect(roundTrip.smoothed == .milliseconds(100) && roundTrip.variation == .milliseconds(50))
        roundTrip.measured(.milliseconds(188), delay: .milliseconds(8))
        #expect(roundTrip.smoothed == .milliseconds(110))
        #expect(roundTrip.variation == .microseconds(57_500))
        // A delay that nobody may have is not believed.
        roundTrip.measured(.milliseconds(188), delay: .seconds(1))
        #expect(roundTrip.latest == .milliseconds(178))
    }
    @Test func `the law fills a bucket to its goal, leaves it to others, and comes back`() {
        // Rates as shares of the line's.
        var law = DelayLaw(rate: 0.05, least: 0.001)
        var (queue, worst) = (0.0, 0.0)
        func rounds(_ count: Int, other: Double) {
            for _ in 0..<count {
                let length = 0.024 + queue
                let inflow = law.rate + other
                queue = min(max(0, queue + (inflow - 1) * length), 0.2)
                let delivered = queue > 0 ? law.rate / max(1, inflow) : law.rate
                worst = max(worst, queue)
                law.update(
                    DelayLaw.Round(queue: queue, length: length, delivered: delivered, isLimited: true, loss: 0))
            }
        }
        rounds(40, other: 0)
        #expect(!law.isStarting)
        #expect(abs(law.rate - 1) < 0.1 && abs(queue - 0.02) < 0.006)
        rounds(40, other: 0.95)
        #expect(law.rate <= 1.5 * DelayLaw.floor)
        rounds(60, other: 0)
        #expect(abs(law.rate - 1) < 0.1 && abs(queue - 0.02) < 0.006)
    }
    @Test func `a cookie is good for ten seconds`() {
        let jar = CookieJar(secret: [UInt8](repeating: 9, count: 32))
        let place = Endpoint(ipv4: 1, 2, 3, 4, port: 5)
        let ticket = jar.ticket(for: place, connection: 77, at: Instant(seconds: 100))
        func check(_ seconds: Double) -> UInt64? {
            jar.check(ticket.cookie, from: place, connection: 77, at: Instant(seconds: seconds))
        }
        #expect(check(100) == ticket.connection && check(110) == ticket.connection)
        #expect(check(111) == nil && check(99) == nil)
        let other = Endpoint(ipv4: 1, 2, 3, 4, port: 6)
        #expect(jar.check(ticket.cookie, from: other, connection: 77, at: Instant(seconds: 100)) == nil)
        #expect(jar.check([], from: place, connection: 77, at: Instant(seconds: 100)) == nil)
    }
}
