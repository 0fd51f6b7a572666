import Links
import Primitives
import Testing

/// One host's shaper and the receptions of its destinations on a virtual clock: the arithmetic of the simulator.
private struct Bench {
    var now = Instant.zero
    var shapers: [HostID: Shaper<String>] = [:]
    var receptions: [HostID: Reception<String>] = [:]
    /// (payload, seconds) in the order of delivery.
    var delivered: [(String, Double)] = []

    mutating func host(_ id: UInt64, up: Double?, down: Double? = nil, seed: UInt64 = 1) {
        shapers[HostID(id)] = Shaper(up: up.map { .megabits($0) }, seed: seed)
        receptions[HostID(id)] = Reception(down: down.map { .megabits($0) })
    }
    mutating func link(_ a: UInt64, _ b: UInt64, _ properties: LinkProperties) {
        shapers[HostID(a)]!.setLink(to: HostID(b), properties)
    }
    mutating func offer(_ bytes: Int, _ name: String, _ a: UInt64, _ b: UInt64, stream: UInt64 = 0) {
        shapers[HostID(a)]!.offerStream(bytes: bytes, name, to: HostID(b), stream: stream, at: now)
    }
    mutating func run() {
        let ids = shapers.keys.sorted()
        for _ in 0..<1_000_000 {
            for id in ids {
                while let effect = shapers[id]!.poll() {
                    guard case .arrive(var parcel) = effect else { continue }
                    let to = parcel.host
                    parcel.host = id
                    receptions[to]!.arrive(parcel, at: now)
                }
            }
            for id in ids {
                while case .deliver(let parcel)? = receptions[id]!.poll() {
                    if let name = parcel.payload { delivered.append((name, now.seconds)) }
                }
            }
            var next: Instant?
            for id in ids { next = earliest(next, earliest(shapers[id]!.nextWake, receptions[id]!.nextWake)) }
            guard let next else { return }
            precondition(next > now || next == now, "time goes forward")
            now = max(now, next)
            for id in ids {
                shapers[id]!.wake(at: now)
                receptions[id]!.wake(at: now)
            }
        }
    }
}
private func milliseconds(_ n: Double) -> Duration { .nanoseconds(Int64(n * 1e6)) }
private func close(_ a: Double, _ b: Double, within: Double = 1e-6) -> Bool { abs(a - b) <= within }

@Test func `a megabyte at 20 Mbit per second over 80 ms arrives after 0.48 s`() {
    var bench = Bench()
    bench.host(1, up: 20)
    bench.host(2, up: 20, down: 20)
    bench.link(1, 2, LinkProperties(latency: milliseconds(80)))
    bench.offer(1_000_000, "megabyte", 1, 2)
    bench.run()
    #expect(bench.delivered.count == 1)
    #expect(close(bench.delivered[0].1, 0.48))
}

@Test func `two flows share an up line equally and the short one leaves early`() {
    var bench = Bench()
    bench.host(1, up: 16)  // 2 bytes a microsecond: a chunk takes 8.192 ms
    bench.host(2, up: nil)
    bench.host(3, up: nil)
    bench.offer(10 * 16_384, "long", 1, 2)
    bench.offer(4 * 16_384, "short", 1, 3)
    bench.run()
    #expect(bench.delivered.map(\.0) == ["short", "long"])
    #expect(close(bench.delivered[0].1, 8 * 0.008192))
    #expect(close(bench.delivered[1].1, 14 * 0.008192))
}

@Test func `two streams to one host take turns`() {
    var bench = Bench()
    bench.host(1, up: 16)
    bench.host(2, up: nil)
    bench.offer(3 * 16_384, "bulk", 1, 2, stream: 1)
    bench.offer(100, "control", 1, 2, stream: 2)
    bench.run()
    #expect(bench.delivered.map(\.0) == ["control", "bulk"])
    #expect(close(bench.delivered[0].1, 0.008192 + 0.00005))
}

@Test func `a flow is capped by its pair and leaves the rest of the line to others`() {
    var bench = Bench()
    bench.host(1, up: 100)
    bench.host(2, up: nil)
    bench.host(3, up: nil)
    bench.link(1, 2, LinkProperties(latency: .zero, rate: .megabits(10)))
    bench.offer(1_250_000, "capped", 1, 2)
    bench.offer(10_000_000, "free", 1, 3)
    bench.run()
    let times = Dictionary(uniqueKeysWithValues: bench.delivered)
    // 1 s at 10 Mbit/s; each chunk may wait for one chunk of the other flow.
    #expect(times["capped"]! >= 1 && times["capped"]! < 1.11)
    // 10 MB at what is left: between 90 and 92 Mbit/s for the first second.
    #expect(times["free"]! > 0.88 && times["free"]! < 0.901)
}

@Test func `a slow down line is shared by its senders`() {
    var bench = Bench()
    bench.host(1, up: 100)
    bench.host(2, up: 100)
    bench.host(3, up: nil, down: 20)
    bench.offer(1_000_000, "a", 1, 3)
    bench.offer(1_000_000, "b", 2, 3)
    bench.run()
    // 2 MB at 20 Mbit/s; the first chunk of the busy period passes at once.
    let chunk = 16_384 * 8 / 20e6
    #expect(close(bench.delivered[1].1, 0.8, within: chunk))
    #expect(bench.delivered[0].1 > 0.8 - 3 * chunk)
}

@Test func `a stream keeps its order under jitter and loss, and the same seed gives the same times`() {
    func run(seed: UInt64) -> [(String, Double)] {
        var bench = Bench()
        bench.host(1, up: 50, seed: seed)
        bench.host(2, up: nil)
        bench.link(1, 2, LinkProperties(latency: milliseconds(20), jitter: milliseconds(8), loss: 0.02))
        for index in 0..<200 { bench.offer(5_000, "\(index)", 1, 2) }
        bench.run()
        return bench.delivered
    }
    let first = run(seed: 7)
    #expect(first.map(\.0) == (0..<200).map(String.init))
    #expect(first.map(\.1) == run(seed: 7).map(\.1))
    #expect(first.map(\.1) != run(seed: 8).map(\.1))
    // A loss costs a round trip, so the last byte is later than without.
    #expect(first.last!.1 > 0.16 + 0.04)
}

@Test func `datagrams are lost at the link's rate and streams are not`() {
    var shaper = Shaper<Int>(up: nil, seed: 3)
    let there = HostID(9)
    shaper.setLink(to: there, LinkProperties(latency: milliseconds(1), loss: 0.1))
    var arrived = 0
    for index in 0..<5_000 {
        let now = Instant(seconds: Double(index) * 0.01)
        shaper.offerDatagram(bytes: 200, index, to: there, at: now)
        shaper.wake(at: now + milliseconds(5))
        while let effect = shaper.poll() { if case .arrive = effect { arrived += 1 } }
    }
    #expect(arrived + shaper.datagramsLost == 5_000)
    #expect(abs(shaper.datagramsLost - 500) < 80)
}

@Test func `jitter has the standard deviation that was asked for`() {
    var shaper = Shaper<Int>(up: nil, seed: 5)
    let there = HostID(1)
    shaper.setLink(to: there, LinkProperties(latency: milliseconds(100), jitter: milliseconds(5)))
    var sum = 0.0
    var squares = 0.0
    for index in 0..<4_000 {
        let start = Instant(seconds: Double(index))
        shaper.offerDatagram(bytes: 1, index, to: there, at: start)
        while case .left? = shaper.poll() {}
        let delay = (shaper.nextWake! - start).inMilliseconds
        sum += delay
        squares += delay * delay
        shaper.wake(at: shaper.nextWake!)
        while shaper.poll() != nil {}
    }
    let mean = sum / 4_000
    let deviation = (squares / 4_000 - mean * mean).squareRoot()
    #expect(abs(mean - 100) < 0.3)
    #expect(abs(deviation - 5) < 0.3)
}

@Test func `late wake-ups cost no rate`() {
    var shaper = Shaper<Int>(up: .megabits(16), seed: 1)
    let there = HostID(1)
    shaper.offerStream(bytes: 100 * 16_384, 0, to: there, stream: 1, at: .zero)
    var now = Instant.zero
    var arrived = 0
    while arrived < 100 * 16_384 {
        now += milliseconds(13)  // a chunk takes 8.192 ms
        shaper.wake(at: now)
        while let effect = shaper.poll() { if case .arrive(let parcel) = effect { arrived += parcel.bytes } }
    }
    #expect(now.seconds >= 0.8192 && now.seconds < 0.8192 + 0.026)
}

@Test func `what waits is counted until the up line has carried it, and can be cancelled`() {
    var shaper = Shaper<Int>(up: .megabits(16), seed: 1)
    let there = HostID(1)
    shaper.setLink(to: there, LinkProperties(latency: milliseconds(500)))
    shaper.offerStream(bytes: 40_000, 0, to: there, stream: 1, at: .zero)
    #expect(shaper.queuedBytes(to: there, stream: 1) == 40_000)
    shaper.wake(at: Instant(seconds: 0.01))
    #expect(shaper.queuedBytes(to: there, stream: 1) == 40_000 - 16_384)
    shaper.cancel(to: there, stream: 1)
    #expect(shaper.queuedBytes(to: there, stream: 1) == 0)
    shaper.wake(at: Instant(seconds: 2))
    while let effect = shaper.poll() { if case .arrive = effect { Issue.record("nothing may arrive") } }
    #expect(shaper.nextWake == nil)
}

@Test func `datagrams beyond the queue are dropped and counted`() {
    var shaper = Shaper<Int>(up: .megabits(1), seed: 1)
    for index in 0..<400 { shaper.offerDatagram(bytes: 1_000, index, to: HostID(1), at: .zero) }
    #expect(shaper.datagramsLost == 400 - 263)
}

@Test func `an access line is first in, first out`() {
    var line = AccessLine(rate: .megabits(8))
    #expect(line.admit(bytes: 1_000, at: .zero) == Instant(seconds: 0.001))
    #expect(line.admit(bytes: 1_000, at: .zero) == Instant(seconds: 0.002))
    #expect(line.admit(bytes: 1_000, at: Instant(seconds: 1)) == Instant(seconds: 1) + milliseconds(1))
    #expect(line.busyUntil == Instant(seconds: 1) + milliseconds(1))
}
