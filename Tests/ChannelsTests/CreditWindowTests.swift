import Channels
import Primitives
import Testing

/// Bytes that come at a rate, in pieces, and a grant whenever a quarter of the window is used up, as the inbox does it.
private func follow(_ window: inout CreditWindow, bytesPerSecond rate: Double, pieces: Int = 4096, for time: Duration) {
    var now = Instant.zero
    var used = 0
    let each = Duration.nanoseconds(Int64(Double(pieces) / rate * 1e9))
    while now < .zero + time {
        now += each
        window.received(pieces, at: now)
        used += pieces
        guard used * 4 >= window.bytes else { continue }
        window.adapt()
        used = 0
    }
}

@Suite struct `A window of credit` {
    @Test(arguments: [25_000.0, 100_000, 400_000, 2_000_000])
    func `holds what a line passes in about a second`(rate: Double) {
        var window = CreditWindow(from: 65_536, upTo: 4 << 20)
        follow(&window, bytesPerSecond: rate, for: .seconds(20))
        let wanted = min(max(rate, 65_536), 4_194_304)
        #expect(Double(window.bytes) > 0.9 * wanted && Double(window.bytes) < 1.1 * wanted, "\(window.bytes)")
    }

    @Test func `is the most on a fast line at once, and shrinks by halves where that slows down`() {
        var window = CreditWindow(from: 65_536, upTo: 4 << 20)
        window.received(16_384, at: .zero)
        window.adapt()
        // All that came came at once: nothing says how fast.
        #expect(window.bytes == 65_536)
        for frame in 1...2 { window.received(16_384, at: .zero + .milliseconds(frame)) }
        window.adapt()
        #expect(window.bytes == 4 << 20)
        var sizes: [Int] = []
        for step in 1...9 {
            window.received(5_000, at: .zero + .milliseconds(2 + 100 * step))
            window.adapt()
            sizes.append(window.bytes)
        }
        #expect(sizes == [21, 20, 19, 18, 17, 16, 16, 16, 16].map { 1 << $0 })
    }

    /// Whoever says little says nothing about the line.
    @Test func `does not shrink because its sender pauses`() {
        var window = CreditWindow(from: 65_536, upTo: 4 << 20)
        follow(&window, bytesPerSecond: 2e6, for: .seconds(10))
        let before = window.bytes
        var now = Instant.zero + .seconds(100)
        for _ in 0..<1000 {
            now += .seconds(5)
            for _ in 0..<8 {
                now += .milliseconds(2)
                window.received(4096, at: now)
            }
            window.adapt()
        }
        #expect(window.bytes >= before)
    }

    @Test func `is never more than its most, nor less than its first unless that is more`() {
        #expect(CreditWindow(from: 65_536, upTo: 100).bytes == 100)
        var window = CreditWindow(from: 100, upTo: 1000)
        for _ in 0..<10 { window.adapt() }
        #expect(window.bytes == 100)
    }
}
