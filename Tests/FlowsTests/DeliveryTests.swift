import Benchmarks
import Flows
import Primitives
import Testing

/// Worlds that are drawn: what lines do to datagrams, what is written, and what changes meanwhile.
@Suite struct `Whatever a line does` {
    private struct Drawn {
        var world: FlowWorld
        let sizes: [Int]
        let trouble: Int
    }
    private func draw(_ seed: UInt64) -> Drawn {
        var random = SeededGenerator(seed: seed)
        var world = FlowWorld(seed: seed)
        let rates: [BitRate] = [.megabits(1), .megabits(8), .megabits(50), .megabits(400)]
        for _ in 0..<2 {
            let up = DatagramLine.Properties(rate: rates[random.below(4)], buffer: 8_000 + random.below(200_000))
            _ = world.add(up: up, down: DatagramLine.Properties(rate: .megabits(100), buffer: 1 << 19))
        }
        world.connect(
            0, 1,
            DatagramLine.Properties(
                delay: .microseconds(Int64(200 + random.below(100_000))),
                jitter: .microseconds(Int64(random.below(5_000))),
                loss: random.below(2) == 0 ? 0 : random.uniform() * 0.15,
                duplication: random.below(2) == 0 ? 0 : random.uniform() * 0.2,
                reordering: random.below(2) == 0 ? 0 : random.uniform() * 0.3,
                largest: [1_500, 1_420, 1_300][random.below(3)]))
        world.keeps = true
        return Drawn(
            world: world, sizes: [random.below(600_000), random.below(100_000)], trouble: random.below(6))
    }
    private func make(_ trouble: Int, _ world: inout FlowWorld) {
        switch trouble {
        case 1: world.change(0, 1) { $0.largest = 1_280 }
        case 2: world.renumber(0, to: Endpoint(ipv4: 61, 1, 1, 1, port: 9))
        case 3: world.renumber(1, to: Endpoint(ipv4: 61, 1, 1, 2, port: 9))
        case 4: world.change(0, 1) { $0.loss = 1 }
        default: break
        }
    }

    @Test(arguments: UInt64(1)...80)
    func `every byte comes once and in order, both ways`(seed: UInt64) {
        let drawn = draw(seed)
        var world = drawn.world
        let there = text(0..<drawn.sizes[0], 1)
        let back = text(0..<drawn.sizes[1], 2)
        world.open(1, from: 0, to: 1)
        world.write(0, 1, Array(there.prefix(there.count / 2)))
        world.run(.milliseconds(1_500))
        world.write(0, 1, Array(there.suffix(from: there.count / 2)))
        world.tell(1) { $0.write(2, back, at: $1) }
        world.run(.milliseconds(100))
        make(drawn.trouble, &world)
        world.run(.milliseconds(1_500))
        if drawn.trouble == 4 { world.change(0, 1) { $0.loss = 0 } }
        world.tell(0) { $0.finish(1, at: $1) }
        world.tell(1) { $0.finish(2, at: $1) }
        var most = 0
        for _ in 0..<1_200 where world.ends(0).isEmpty || world.ends(1).isEmpty {
            world.run(.milliseconds(200))
            most = max(most, world.homes[1].host.receiveMemory)
        }
        // Not compared in the macro, which would print them.
        let (arrived, returned) = (world.kept[1][2, default: []], world.kept[0][1, default: []])
        let (isThere, isBack) = (arrived == there, returned == back)
        #expect(isThere, "\(arrived.count) of \(there.count) bytes; seed \(seed), trouble \(drawn.trouble)")
        #expect(isBack, "\(returned.count) of \(back.count) bytes; seed \(seed), trouble \(drawn.trouble)")
        #expect(world.ends(0) == [.closed], "seed \(seed), trouble \(drawn.trouble)")
        #expect(world.ends(1) == [.closed], "seed \(seed), trouble \(drawn.trouble)")
        #expect(most <= 2 * FlowLimits.mostWindow)
        #expect(world.homes[0].host.counters.violations + world.homes[1].host.counters.violations == 0)
        // What lingers goes, too, and nothing wakes any more.
        world.run(.seconds(60))
        #expect(world.homes[0].host.nextWake == nil && world.homes[1].host.nextWake == nil)
    }

    @Test func `changed bytes are as good as lost`() {
        var world = pair(seed: 5)
        var random = SeededGenerator(seed: 5)
        world.tap = { _, _, bytes in
            if random.below(30) == 0 { bytes[random.below(bytes.count)] ^= UInt8(1 + random.below(255)) }
            return true
        }
        let sent = text(0..<300_000)
        world.open(1, from: 0, to: 1)
        world.write(0, 1, sent)
        world.run(.seconds(30))
        #expect(world.kept[1][2] == sent)
        let (a, b) = (world.homes[0].host.counters, world.homes[1].host.counters)
        #expect(a.unsealed + b.unsealed > 0)
        #expect(a.violations + b.violations == 0)
    }
}

@Suite struct `A flow` {
    @Test func `opens in one round trip and carries bytes with the second`() {
        var world = pair(seed: 1)
        let start = world.now
        world.open(1, from: 0, to: 1)
        world.write(0, 1, text(0..<100))
        world.run(until: start + .milliseconds(300)) { $0.kept[1][2] == nil }
        #expect(world.now - start < .milliseconds(31))
        #expect(world.said(0, .opened(1, remote: world.homes[1].endpoint, isInbound: false)))
        #expect(world.said(1, .opened(2, remote: world.homes[0].endpoint, isInbound: true)))
    }
    @Test func `says that nobody answers`() {
        var world = pair(seed: 1, way: .init(delay: .milliseconds(10), loss: 1))
        world.open(1, from: 0, to: 1)
        world.run(.seconds(6))
        #expect(world.ends(0) == [.timedOut])
        #expect(world.homes[0].host.nextWake == nil)
    }
    @Test func `is over when the other end was started anew, within a round trip`() {
        var (world, _) = watchedPair(seed: 2)
        world.restart(1)
        world.write(0, 1, text(0..<5_000))
        world.run(.milliseconds(100))
        #expect(world.ends(0) == [.forgotten])
    }
    @Test func `is over when nothing is acknowledged for ten seconds`() {
        var (world, _) = watchedPair(seed: 2)
        world.change(0, 1) { $0.loss = 1 }
        world.write(0, 1, text(0..<5_000))
        world.run(.seconds(9))
        #expect(world.ends(0).isEmpty)
        world.run(.seconds(2))
        #expect(world.ends(0) == [.timedOut])
    }
    @Test func `that is closed tells the other end`() {
        var (world, _) = watchedPair(seed: 3)
        world.tell(1) { $0.close(2, at: $1) }
        world.run(.milliseconds(50))
        #expect(world.ends(0) == [.closed])
        #expect(world.homes.allSatisfy { $0.host.flowCount == 0 })
    }
    @Test func `that is idle keeps its mapping alive with a packet in fifteen seconds`() {
        var (world, forger) = watchedPair(seed: 4)
        world.run(.seconds(1))
        let before = forger.seen.count
        world.run(.seconds(120))
        #expect(world.ends(0).isEmpty && world.ends(1).isEmpty)
        #expect((8...40).contains(forger.seen.count - before))
    }
    @Test func `that nobody reads stops its sender, and goes on when somebody does`() {
        var (world, _) = watchedPair(seed: 5)
        world.tell(1) { $0.hold(2, true, at: $1) }
        world.writeEndlessly(0, 1)
        world.run(.seconds(9))
        let held = world.kept[1][2]!.count
        #expect(held == 5_000)
        #expect(world.homes[1].host.receiveMemory <= 2 * FlowLimits.firstWindow)
        #expect(world.ends(0).isEmpty)
        world.tell(1) { $0.hold(2, false, at: $1) }
        world.run(.seconds(1))
        #expect(world.kept[1][2]!.count > held + 1_000_000)
    }
    /// A path that carried large datagrams and then does not: nothing says so, they vanish.
    @Test func `leaves a black hole for large datagrams within two seconds`() {
        var world = pair(seed: 6)
        world.open(1, from: 0, to: 1)
        world.run(.milliseconds(300))
        world.writeEndlessly(0, 1)
        world.run(.seconds(2))
        #expect(world.homes[0].host.datagramSize(1) == 1_452)
        world.change(0, 1) { $0.largest = 1_280 }
        world.run(.seconds(2))
        #expect(world.homes[0].host.datagramSize(1) == 1_200)
        let before = world.kept[1][2]!.count
        world.run(.seconds(1))
        #expect(world.kept[1][2]!.count > before + 1_000_000)
        world.stopWriting(0)
    }
    @Test(arguments: [0, 1]) func `follows an end to its new address, once that has proven itself`(who: Int) {
        var world = pair(seed: 7)
        world.open(1, from: 0, to: 1)
        world.run(.milliseconds(300))
        world.writeEndlessly(who, who == 0 ? 1 : 2)
        world.run(.seconds(2))
        let elsewhere = Endpoint(ipv4: 62, 9, 9, 9, port: 77)
        world.renumber(who, to: elsewhere)
        world.run(.seconds(1))
        let (other, id, ours) = who == 0 ? (1, UInt64(2), UInt64(1)) : (0, 1, 2)
        #expect(world.said(other, .moved(id, to: elsewhere)))
        let before = world.kept[other][id]!.count
        world.run(.seconds(1))
        #expect(world.kept[other][id]!.count > before + 1_000_000)
        #expect(world.homes[other].host.remote(id) == elsewhere)
        #expect(world.homes[who].host.remote(ours) == world.homes[other].endpoint)
    }
    @Test func `tells its other end at once when this machine has another address`() {
        var (world, _) = watchedPair(seed: 8)
        let elsewhere = Endpoint(ipv4: 62, 9, 9, 9, port: 77)
        world.renumber(0, to: elsewhere)
        world.tell(0) { $0.lineChanged(at: $1) }
        world.run(.milliseconds(60))
        #expect(world.homes[1].host.remote(2) == elsewhere)
    }
}
