import Benchmarks
import Flows
import Primitives
import Testing

private let stranger = Endpoint(ipv4: 99, 1, 2, 3, port: 5)

@Suite struct `Somebody hostile` {
    @Test func `leaves no state and gets fewer bytes than it sends, before its cookie has come back`() {
        var world = pair(seed: 1)
        for n in 0..<2_000 {
            world.inject(Forger.hello(asker: [UInt8(n & 255), UInt8(n >> 8), 1, 2, 3, 4, 5, 6]), from: stranger, to: 1)
        }
        #expect(world.homes[1].host.flowCount == 0)
        #expect(world.homes[1].host.nextWake == nil)
        world.run(.seconds(1))
        let answered = world.astray[stranger, default: 0]
        #expect(answered > 0 && answered * 10 < 2_000 * 1_200)
    }
    @Test func `gets nothing for a hello that is short`() {
        var world = pair(seed: 1)
        world.inject(Forger.hello(asker: [UInt8](repeating: 1, count: 8), size: 1_199), from: stranger, to: 1)
        world.run(.seconds(1))
        #expect(world.astray.isEmpty)
        #expect(world.homes[1].host.counters.malformed == 1)
    }
    /// A cookie is for one address, one asker, ten seconds.
    @Test func `opens nothing with a cookie that is not its own`() {
        var (world, forger) = watchedPair(seed: 2)
        let (asker, answerer, cookie) = (forger.asker, forger.answerer, forger.cookie)
        world.tell(1) { $0.close(2, at: $1) }
        world.run(.milliseconds(50))
        let home = world.homes[0].endpoint
        func count() -> Int { world.homes[1].host.flowCount }
        // From elsewhere, with every bit changed, for somebody else, for another ID.
        world.inject(Forger.begin(asker: asker, answerer: answerer, cookie: cookie, [1]), from: stranger, to: 1)
        for bit in 0..<160 {
            var changed = cookie
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            world.inject(Forger.begin(asker: asker, answerer: answerer, cookie: changed, [1]), from: home, to: 1)
        }
        world.inject(
            Forger.begin(asker: [9] + asker.dropFirst(), answerer: answerer, cookie: cookie, [1]), from: home, to: 1)
        world.inject(
            Forger.begin(asker: asker, answerer: [9] + answerer.dropFirst(), cookie: cookie, [1]), from: home, to: 1)
        #expect(count() == 0)
        #expect(world.homes[1].host.counters.cookies == 163)
        // Its own one is good, and only for a time.
        world.inject(Forger.begin(asker: asker, answerer: answerer, cookie: cookie, [1]), from: home, to: 1)
        #expect(count() == 1)
        world.tell(1) { $0.close(4, at: $1) }
        world.run(.seconds(12))
        world.inject(Forger.begin(asker: asker, answerer: answerer, cookie: cookie, [1]), from: home, to: 1)
        #expect(count() == 0)
    }
    @Test func `has thirty-two flows from one address, and no more`() {
        var world = pair(seed: 3)
        for n in 0..<60 { world.open(UInt64(2 * n + 1), from: 0, to: 1) }
        world.run(.seconds(2))
        #expect(world.homes[1].host.flowCount == FlowLimits.inboundOfSource)
        #expect(world.homes[1].host.counters.crowded > 0)
    }
    /// Ack: largest ‖ delay ‖ count ‖ first length ‖ (gap ‖ length)…
    @Test(
        arguments: [
            // Packets that were never sent; the ranges reach below nothing; count that is none, too large, not there.
            [2, 0x7f, 0xff, 0, 1, 0], [2, 5, 0, 1, 9], [2, 5, 0, 2, 0, 9, 0], [2, 5, 0, 2, 0, 0, 9], [2, 5, 0, 0, 0],
            [2, 5, 0, 65, 0], [2, 5, 0, 2, 0], [2, 5], [2],
            [2, 5, 0, 2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0],
            // Two in a packet.
            [2, 0, 0, 1, 0, 2, 0, 0, 1, 0],
            // Stream: beyond the window; longer than the packet; an offset near the end of numbers; without a length.
            [3, 0x90, 0, 0, 0, 0, 1, 7], [3, 0, 0, 9, 1], [3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 7],
            [3, 0],
            // The end before bytes that are there.
            [4, 10, 0, 1, 7],
            // Unknown kinds, numbers cut off.
            [9], [0x40], [0xff], [5], [5, 0xff], [6, 1, 2, 3], [7], [8],
        ] as [[UInt8]])
    func `ends its own flow with what no honest end says`(frames: [UInt8]) {
        var (world, forger) = watchedPair(seed: 4)
        let packet = forger.packet(fromAsker: true, number: 900, frames)
        world.inject(packet, from: world.homes[0].endpoint, to: 1)
        #expect(world.homes[1].host.counters.violations == 1)
        #expect(world.ends(1) == [.violated])
        #expect(world.homes[1].host.flowCount == 0)
        // The other one hears of it.
        world.run(.seconds(1))
        #expect(world.homes[0].host.flowCount == 0)
    }
    /// It acknowledges whatever comes next, without having looked; numbers that are left out give it away.
    @Test func `is found when it acknowledges ahead`() {
        var (world, forger) = watchedPair(seed: 5)
        world.tap = { _, to, bytes in
            forger.learn(bytes)
            return to == 1
        }
        world.writeEndlessly(0, 1)
        var number: UInt32 = 5_000
        for _ in 0..<4_000 where world.ends(0).isEmpty {
            world.run(.milliseconds(2))
            let sent = forger.seen.last { $0[0] == 0xA3 && Array($0[1..<9]) == forger.answerer }!
            let newest = sent[9..<13].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let largest = (0..<8).map {
                UInt8(truncatingIfNeeded: (newest | 0xC000_0000_0000_0000) >> UInt64(56 - 8 * $0))
            }
            // All from nothing to the newest.
            let window: [UInt8] = [5, 0xC0, 0, 0, 0, 0x7F, 0, 0, 0]
            let packet = forger.packet(fromAsker: false, number: number, [2] + largest + [0, 1] + largest + window)
            number += 1
            world.inject(packet, from: world.homes[1].endpoint, to: 0)
        }
        #expect(world.ends(0) == [.violated])
    }
    @Test func `holds no more memory than it is granted, however many pieces it sends`() {
        var (world, forger) = watchedPair(seed: 6)
        for n in 0..<4_000 {
            let offset = UInt32(0x8000_0000) | UInt32(6_000 + 2 * n)
            let frames: [UInt8] =
                [3] + (0..<4).map { UInt8(truncatingIfNeeded: offset >> UInt32(24 - 8 * $0)) } + [0, 1, 7]
            let packet = forger.packet(fromAsker: true, number: UInt32(2_000 + n), frames)
            world.inject(packet, from: world.homes[0].endpoint, to: 1)
        }
        #expect(world.homes[1].host.receiveMemory <= 2 * FlowLimits.firstWindow)
        #expect(world.ends(1).isEmpty)
    }
    @Test(arguments: UInt64(1)...20) func `breaks nothing but its own flow with drawn packets`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for round in 0..<15 {
            var (world, forger) = watchedPair(seed: seed &* 1000 &+ UInt64(round))
            for n in 0..<60 {
                var frames = random.bytes(1 + random.below(40))
                frames[0] = UInt8(random.below(10))
                let packet = forger.packet(fromAsker: true, number: UInt32(900 + n), frames)
                world.inject(packet, from: random.below(8) == 0 ? stranger : world.homes[0].endpoint, to: 1)
                // And what is not even sealed.
                world.inject([0xA0 + UInt8(random.below(16))] + random.bytes(random.below(60)), from: stranger, to: 1)
            }
            let memory = world.homes[1].host.receiveMemory
            #expect(memory <= 2 * FlowLimits.mostWindow)
            world.run(.milliseconds(100))
            // Somebody else opens a flow as ever.
            world.open(3, from: 0, to: 1)
            world.run(.milliseconds(100))
            #expect(world.said(0, .opened(3, remote: world.homes[1].endpoint, isInbound: false)))
        }
    }
    /// It takes packets off the way and has them come from a place that does not answer: nothing but challenges goes there, no more than came, and
    /// the flow stays where it is.
    @Test func `moves no flow to an address that does not answer`() {
        var (world, forger) = watchedPair(seed: 7)
        var (taken, spent, count) = ([[UInt8]](), 0, 0)
        // Guessed answers go in packets that it has taken off the way: with a number of its own it may hit one that was left out, and ends the flow.
        var free: [[UInt8]] = []
        world.tap = { from, _, bytes in
            forger.learn(bytes)
            count += 1
            guard from == 0, count % 20 == 0 else { return true }
            if count % 40 == 0 {
                taken.append(bytes)
            } else {
                free.append(bytes)
            }
            return false
        }
        world.writeEndlessly(0, 1)
        var guesses = 0
        for n in 0..<2_000 where guesses <= 200 {
            world.run(.milliseconds(5))
            for packet in taken {
                spent += packet.count
                world.inject(packet, from: stranger, to: 1)
            }
            taken = []
            // Guessed answers to the challenge.
            for packet in free {
                guesses += 1
                let number = packet[9..<13].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                let answer: [UInt8] = [7, 0, 0, 0, 0, 0, 0, 0, UInt8(n & 255)]
                let guess = forger.packet(fromAsker: true, number: number, packet[13..<packet.count - 16] + answer)
                spent += guess.count
                world.inject(guess, from: stranger, to: 1)
            }
            free = []
        }
        #expect(guesses > 100)
        #expect(world.homes[1].host.remote(2) == world.homes[0].endpoint)
        #expect(world.astray[stranger, default: 0] > 0)
        #expect(world.astray[stranger, default: 0] <= spent)
        world.stopWriting(0)
    }
    @Test func `cannot end a flow by saying that it is gone, without its key or its number`() {
        var (world, forger) = watchedPair(seed: 8)
        let home = world.homes[1].endpoint
        func gone(_ id: [UInt8], salt: UInt8, key: UInt64) -> [UInt8] {
            let salt = [UInt8](repeating: salt, count: 16)
            var bytes = [0xA4] + id + salt + [UInt8](repeating: 0, count: 16)
            let seal = SimulatedSeals(key: key).seal(for: Array("atoll flow 164 ".utf8) + salt)
            bytes.withUnsafeMutableBytes { seal.seal($0, clear: 25, number: 0) }
            return bytes
        }
        world.inject(gone(forger.answerer, salt: 1, key: 8), from: home, to: 0)
        world.inject(gone(forger.asker, salt: 1, key: 7), from: home, to: 0)
        world.inject(gone(forger.answerer, salt: 1, key: 7), from: stranger, to: 0)
        #expect(world.ends(0).isEmpty)
        world.inject(gone(forger.answerer, salt: 1, key: 7), from: home, to: 0)
        #expect(world.ends(0) == [.forgotten])
    }
    @Test func `of another pool hears nothing`() {
        var world = pair(seed: 9)
        var other = FlowHost(SimulatedSeals(key: 8), secret: [UInt8](repeating: 1, count: 32), at: world.now)
        other.open(1, to: world.homes[1].endpoint, at: world.now)
        while let effect = other.poll() {
            if case .send(let burst) = effect { world.inject(burst.bytes, from: stranger, to: 1) }
        }
        world.run(.seconds(1))
        #expect(world.astray.isEmpty)
        #expect(world.homes[1].host.counters.unsealed == 1)
    }
}
