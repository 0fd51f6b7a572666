import Paths
import Primitives
import Testing

private func peer(_ n: Int) -> PeerID { PeerID([UInt8(n >> 8), UInt8(n & 255)] + [UInt8](repeating: 0, count: 30))! }
/// A public address for each number.
private func place(_ n: Int, port: UInt16 = 7070) -> Endpoint {
    Endpoint(ipv4: 40 + UInt8(n >> 16), UInt8(n >> 8 & 255), UInt8(n & 255), 1, port: port)
}
private func at(_ seconds: Double) -> Instant { Instant(seconds: 100 + seconds) }

/// Runs a dialer on a virtual clock; `answer` says what becomes of a dial, at once.
private struct Bench {
    var dialer: Dialer
    var now = at(0)
    var dials: [(at: Instant, dial: Dialer.Dial)] = []
    var given: [Dialer.GivenUp] = []
    init(_ limits: DialLimits = DialLimits()) { dialer = Dialer(limits, seed: 1) }

    mutating func run(for duration: Duration, answer: (Dialer.Dial) -> PeerID?) {
        let end = now + duration
        while true {
            while let dial = dialer.next(at: now) {
                dials.append((now, dial))
                if let found = answer(dial) {
                    _ = dialer.settled(found, at: dial.address.endpoint, by: dial.number, now: now)
                } else if let over = dialer.failed(dial.number, final: false, patient: false, at: now) {
                    given.append(over)
                }
            }
            guard let next = dialer.nextWake, next <= end else { break }
            now = max(now, next)
            dialer.wake(at: now)
        }
        now = end
    }
}

@Test func `one answer with 28 174 invented endpoints causes at most 188 dials in a minute, and delays nobody`() {
    var bench = Bench()
    let liar = place(0)
    for n in 0..<28_174 { bench.dialer.hear(of: place(n + 1000), from: liar, at: bench.now) }
    bench.dialer.hear(of: place(5), from: place(1), at: bench.now)
    #expect(bench.dialer.endpointsKept <= 65)
    for _ in 0..<60 {
        bench.run(for: .seconds(1)) { $0.address.endpoint == place(5) ? peer(5) : nil }
        for n in 0..<28_174 where n % 40 == 0 { bench.dialer.hear(of: place(n + 1000), from: liar, at: bench.now) }
    }
    #expect(bench.dials.count <= 188)
    #expect(bench.dials.prefix(2).contains { $0.dial.address.endpoint == place(5) }, "tellers take turns")
    #expect(bench.dialer.endpointsKept < 1500)
}

@Test func `liars that are many share what one would have had`() {
    var bench = Bench()
    for n in 0..<40_000 { bench.dialer.hear(of: place(n + 1000), from: place(n % 500), at: bench.now) }
    #expect(bench.dialer.endpointsKept <= 32 * 64)
    bench.run(for: .seconds(60)) { _ in nil }
    #expect(bench.dials.count <= 188)
}

@Test func `what leads to members costs nothing`() {
    var bench = Bench()
    for n in 0..<1000 {
        bench.dialer.hear(of: place(n), from: place(2000 + n % 20), at: bench.now)
        if n % 50 == 49 {
            bench.run(for: .zero) {
                peer(Int($0.address.endpoint.address[1]) << 8 | Int($0.address.endpoint.address[2]))
            }
        }
    }
    #expect(bench.dials.count == 1000)
    // Told of again, nobody who is connected is dialled; who was lost is.
    for n in 0..<1000 { bench.dialer.hear(of: place(n), from: place(1), at: bench.now) }
    bench.run(for: .seconds(10)) { _ in nil }
    #expect(bench.dials.count == 1000)
    bench.dialer.lost(peer(7))
    bench.dialer.hear(of: place(7), from: place(1), at: bench.now)
    bench.run(for: .zero) { _ in peer(7) }
    #expect(bench.dials.count == 1001)
}

@Test func `wanted peers come before what others told`() {
    var bench = Bench()
    for n in 0..<10 { bench.dialer.hear(of: place(n), from: nil, at: bench.now) }
    for n in 0..<3 { _ = bench.dialer.want(peer(n), at: [.direct(place(100 + n))], now: bench.now) }
    bench.run(for: .zero) { $0.peer }
    #expect(bench.dials.prefix(3).map(\.dial.peer) == [peer(0), peer(1), peer(2)])
}

@Test func `every address is tried before the pause grows, and the one that worked last comes first`() {
    var bench = Bench()
    let addresses = (0..<3).map { Address.direct(place($0)) }
    _ = bench.dialer.want(peer(1), at: addresses, now: bench.now)
    bench.run(for: .seconds(14)) { _ in nil }
    let dialled = bench.dials.map(\.dial.address)
    for round in stride(from: 0, to: dialled.count - 2, by: 3) {
        #expect(Set(dialled[round..<round + 3]) == Set(addresses))
    }
    // Rounds of three at 250 ms, 500 ms, 1 s, 2 s, each a quarter more or less.
    #expect((9...15).contains(dialled.count))
    bench.run(for: .seconds(9)) { $0.address == addresses[1] ? peer(1) : nil }
    #expect(bench.given.isEmpty && !bench.dialer.isWanted(peer(1)))
    bench.dials = []
    _ = bench.dialer.want(peer(1), at: [], now: bench.now)
    bench.run(for: .zero) { _ in nil }
    #expect(bench.dials.map(\.dial.address) == [addresses[1]])
}

@Test func `a changed network ends every pause at once`() {
    var bench = Bench()
    _ = bench.dialer.want(peer(1), at: [.direct(place(1))], now: bench.now)
    bench.dialer.hear(of: place(2), from: nil, at: bench.now)
    bench.run(for: .seconds(12)) { _ in nil }
    let before = bench.dials.count
    bench.run(for: .milliseconds(1)) { _ in nil }
    #expect(bench.dials.count == before, "both pause")
    bench.dialer.hurry(at: bench.now)
    bench.dialer.hear(of: place(2), from: nil, at: bench.now)
    bench.run(for: .milliseconds(1)) { _ in nil }
    #expect(bench.dials.count == before + 2)
}

@Test func `a wanted peer is given up after its time, and a new address is tried at once`() {
    var bench = Bench()
    _ = bench.dialer.want(peer(1), at: [.direct(place(1))], now: bench.now)
    bench.run(for: .seconds(15)) { _ in nil }
    let before = bench.dials.count
    _ = bench.dialer.want(peer(1), at: [.direct(place(2))], now: bench.now)
    bench.run(for: .zero) { _ in nil }
    #expect(bench.dials.count == before + 1 && bench.dials.last?.dial.address == .direct(place(2)))
    bench.run(for: .seconds(60)) { _ in nil }
    #expect(bench.given == [.peer(peer(1))])
    let isKept = bench.dialer.want(peer(9), at: [], now: bench.now)
    #expect(!isKept, "no address is known")
}

@Test func `an endpoint rests after its tries, longer each time, whatever is told of it`() {
    var bench = Bench()
    for second in 0..<400 {
        bench.dialer.hear(of: place(3), from: place(second % 5), at: bench.now)
        bench.run(for: .seconds(1)) { _ in nil }
    }
    // Four tries each at about 0, 34, 98 and 222 s.
    #expect(bench.dials.count == 16)
    #expect(bench.given == [.endpoint(place(3))], "said once")
}

@Test func `whom the owner named is knocked at however often it has failed, until it leads to somebody`() {
    var bench = Bench()
    for _ in 0..<60 {
        bench.dialer.knock(at: place(3), now: bench.now)
        bench.run(for: .seconds(5)) { _ in nil }
    }
    let before = bench.dials.count
    #expect((60...240).contains(before))
    #expect(zip(bench.dials, bench.dials.dropFirst()).allSatisfy { $1.at - $0.at <= .seconds(5) })
    for _ in 0..<60 {
        bench.dialer.knock(at: place(3), now: bench.now)
        bench.run(for: .seconds(5)) { _ in peer(3) }
    }
    #expect(bench.dials.count == before + 1)
}

@Test func `nobody is scanned, and nothing impossible or of this machine is dialled for others`() {
    var bench = Bench()
    for port in 1..<2000 { bench.dialer.hear(of: place(3, port: UInt16(port)), from: place(port), at: bench.now) }
    for text in ["0.0.0.0:1", "224.0.0.1:5", "255.255.255.255:5", "[ff02::1]:5", "[::]:5", "9.9.9.9:0", "127.0.0.1:5"] {
        bench.dialer.hear(of: Endpoint(text)!, from: place(1), at: bench.now)
    }
    bench.run(for: .seconds(5)) { dial in
        #expect(dial.address.endpoint.address == place(3).address)
        return nil
    }
    #expect(Set(bench.dials.map(\.dial.address)).count == 12)
}

@Test func `whatever is told and happens, bounds hold, and a dial is made once and ends once`() {
    for seed in 0..<30 {
        var random = SeededGenerator(seed: UInt64(seed))
        var limits = DialLimits()
        limits.inFlight = 6
        limits.hearsayInFlight = 4
        limits.wanted = 10
        limits.resting = 20
        limits.fruitlessPerSecond = 50
        var dialer = Dialer(limits, seed: UInt64(seed))
        var now = at(0)
        var flying: [Dialer.Dial] = []
        var last: UInt64 = 0
        for _ in 0..<2_000 {
            let other = peer(random.below(20))
            switch random.below(9) {
            case 0: _ = dialer.want(other, at: [.direct(place(random.below(60)))], now: now)
            case 1: dialer.hear(of: place(random.below(60)), from: place(random.below(5)), at: now)
            case 2 where !flying.isEmpty:
                let dial = flying.remove(at: random.below(flying.count))
                if let gone = dialer.settled(dial.peer ?? other, at: dial.address.endpoint, by: dial.number, now: now) {
                    #expect(flying.contains { $0.number == gone })
                    flying.removeAll { $0.number == gone }
                }
            case 3 where !flying.isEmpty, 4 where !flying.isEmpty:
                let dial = flying.remove(at: random.below(flying.count))
                _ = dialer.failed(dial.number, final: random.below(5) == 0, patient: random.below(3) == 0, at: now)
            case 5 where !flying.isEmpty:
                dialer.postponed(flying.remove(at: random.below(flying.count)).number, at: now)
            case 6: dialer.lost(other)
            case 7 where random.below(20) == 0: dialer.hurry(at: now)
            default:
                now += .milliseconds(random.below(400))
                dialer.wake(at: now)
            }
            while let dial = dialer.next(at: now) {
                #expect(dial.number % 2 == 1 && dial.number > last)
                last = dial.number
                flying.append(dial)
            }
            #expect(flying.count <= 6 && flying.count { $0.peer == nil } <= 4)
            #expect(Set(flying.compactMap(\.peer)).count == flying.count { $0.peer != nil })
            #expect(dialer.endpointsKept <= 60)
            if let wake = dialer.nextWake { #expect(wake >= now - .seconds(1)) }
        }
    }
}
