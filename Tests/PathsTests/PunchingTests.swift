import Paths
import Primitives
import Testing

/// 0 is a relay, 1 and 2 are at home, have berths there, and a session that it carries. Messages take 10 ms.
private func homes(relays: Int = 1, port: @escaping (Int, Int) -> UInt16 = { _, _ in 4000 }) -> Harbour {
    var harbour = Harbour(
        reachable: [true, false, false] + [Bool](repeating: true, count: relays - 1),
        limits: RelayLimits(rate: .megabits(8), daily: ByteCount(1 << 30)))
    harbour.port = port
    for relay in [0] + (3..<3 + relays - 1) {
        harbour.connect(1, relay)
        harbour.connect(2, relay)
    }
    harbour.run()
    return harbour
}

extension Harbour {
    fileprivate var meetings: [Meeting] {
        said.compactMap { if case .meet(let meeting) = $0.message { meeting } else { nil } }
    }
    fileprivate func count(_ isMeant: (CarriageMessage) -> Bool) -> Int { said.count { isMeant($0.message) } }
    fileprivate var refusals: [UnmetReason] {
        said.compactMap { if case .unmet(_, _, let why) = $0.message { why } else { nil } }
    }
    /// A meeting that a relay says somebody wants.
    fileprivate mutating func offer(_ endpoints: [String], of peer: Int, number: UInt32 = 1, from: Int, to: Int) {
        say(
            .meet(
                Meeting(
                    Self.id(peer), number: number, mapping: .unknown, endpoints: endpoints.map { Endpoint($0)! })),
            from: from, to: to)
    }
}

@Suite struct `Introduced by a relay` {
    @Test func `a relayed pair begins by itself: both dial in one moment where the relay sees them`() {
        // The routers show other ports than those that are listened at.
        var harbour = homes { node, _ in UInt16(40_000 + node) }
        let begun = harbour.now
        harbour.connect(1, 2, via: 0)
        harbour.run()
        let (one, two) = (Endpoint("60.0.1.1:40001")!, Endpoint("60.0.2.1:40002")!)
        // The other candidate is the address seen with the port that the peer says it listens at.
        #expect(harbour.punches[1].prefix(2).map(\.to) == [two, Harbour.endpoint(2)])
        #expect(harbour.punches[2].prefix(2).map(\.to) == [one, Harbour.endpoint(1)])
        #expect(harbour.punches[1][0].at == harbour.punches[2][0].at)
        #expect(harbour.punches[1][0].at - begun == .milliseconds(60), "six messages, one after another")
        #expect(harbour.nodes[0].introducer.counts.introduced == 1 && harbour.nodes[0].introducer.pendingCount == 0)
        harbour.connect(1, 2)
        #expect(harbour.punched[1] == [Harbour.id(2): Harbour.endpoint(2)])
        #expect(harbour.punched[2].keys.sorted() == [Harbour.id(1)])
        #expect(harbour.nodes[1].punching.pairCount == 0 && harbour.nodes[2].punching.pairCount == 0)
        // There is nothing more to do.
        let said = harbour.meetings.count
        harbour.run(7200)
        #expect(harbour.meetings.count == said)
    }

    @Test func `what comes to nothing is tried three times, then once an hour, and anew at another address`() {
        var harbour = homes()
        harbour.connect(1, 2, via: 0)
        harbour.run(60)
        #expect(harbour.nodes[0].introducer.counts.introduced == 3)
        #expect(harbour.nodes[1].punching.counts.rounds == 3)
        // A dial that stands is not begun again by the transport; it is asked three times a round.
        #expect(harbour.punches[1].count == 9)
        harbour.run(3 * 3600)
        #expect(harbour.nodes[0].introducer.counts.introduced == 3 + 3, "\(harbour.meetings.count)")
        harbour.move(1, to: Endpoint("60.0.77.1:4000")!)
        harbour.run(60)
        #expect(harbour.nodes[0].introducer.counts.introduced == 3 + 3 + 3)
        #expect(harbour.nodes[1].punching.counts.probes <= 9 * 3)
    }

    @Test func `the larger one begins where the smaller one does not, and a pair does not begin twice`() {
        var harbour = homes()
        harbour.drops = { if case .meet(let meeting) = $0 { meeting.peer == Harbour.id(2) } else { false } }
        harbour.connect(1, 2, via: 0)
        harbour.run(4.9)
        #expect(harbour.punches[1].isEmpty)
        harbour.drops = { _ in false }
        harbour.run(1)
        #expect(!harbour.punches[1].isEmpty && !harbour.punches[2].isEmpty)
        #expect(harbour.nodes[0].introducer.counts.introduced == 1)
    }

    @Test func `a router that shows each relay another port is not knocked at, and does not knock`() {
        var harbour = homes(relays: 2) { node, other in UInt16(node == 2 ? 40_000 + other : 4000) }
        #expect(harbour.nodes[1].mapping == .same && harbour.nodes[2].mapping == .varies)
        harbour.connect(1, 2, via: 0)
        harbour.run(60)
        #expect(harbour.refusals.contains(.symmetric))
        #expect(harbour.punches[1].isEmpty && harbour.punches[2].isEmpty)
        #expect(harbour.nodes[1].punching.counts.rounds == 1, "nothing is gained by asking again soon")
    }

    @Test func `what left from another port says nothing about the router`() {
        var harbour = homes()
        for relay in [0, 0] {
            harbour.nodes[1].connected(
                Harbour.id(relay), at: Harbour.endpoint(relay), via: nil, wasDialled: true, isStray: true,
                now: harbour.now)
        }
        harbour.say(.terms(Self.terms(seen: "60.0.1.1:4000")), from: 0, to: 1)
        harbour.nodes[1].connected(
            Harbour.id(5), at: Harbour.endpoint(5), via: nil, wasDialled: true, now: harbour.now)
        harbour.say(.terms(Self.terms(seen: "60.0.1.1:4711")), from: 5, to: 1)
        #expect(harbour.nodes[1].mapping == .unknown)
        // Who was dialled by others sees nothing of the listening port either.
        harbour.say(.terms(Self.terms(seen: "60.0.1.1:4712")), from: 2, to: 1)
        #expect(harbour.nodes[1].mapping == .unknown)
    }
    static func terms(seen: String) -> BerthTerms {
        BerthTerms(
            .full, rate: .megabits(1), left: ByteCount(0), circuits: 0, seen: Endpoint(seen))
    }

    @Test func `a relay that carries no more still introduces`() {
        var limits = RelayLimits(rate: .megabits(8), daily: ByteCount(1 << 30))
        limits.circuits = 0
        var harbour = Harbour(reachable: [true, false, false], limits: limits)
        harbour.connect(1, 0)
        harbour.connect(2, 0)
        harbour.run()
        harbour.open(1, 1, to: 2, via: 0)
        harbour.run()
        #expect(harbour.ended[1][1] == .full)
        #expect(
            harbour.punches[1].first?.to == Harbour.endpoint(2) && harbour.punches[2].first?.to == Harbour.endpoint(1))
        // Once: there is no session that would need it again.
        harbour.run(7200)
        #expect(harbour.nodes[1].punching.counts.rounds == 1 && harbour.nodes[1].punching.pairCount == 0)
    }

    @Test func `where the relay is lost in between another one introduces`() {
        var harbour = homes(relays: 2)
        harbour.drops = { if case .go = $0 { true } else { false } }
        harbour.connect(1, 2, via: 0)
        harbour.run(0.5)
        harbour.disconnect(1, 0)
        harbour.disconnect(2, 0)
        harbour.drops = { _ in false }
        harbour.connect(1, 2, via: 3)
        harbour.run(1)
        #expect(
            harbour.nodes[3].introducer.counts.introduced == 1 && harbour.punches[1].first?.to == Harbour.endpoint(2))
    }
}

@Suite struct `Introductions of bad manners` {
    @Test func `strangers' addresses, loopback, private ones, multicast and one's own are not knocked at`() {
        var harbour = homes()
        let bad = [
            "127.0.0.1:4000", "10.0.0.1:22", "192.168.1.1:80", "224.0.0.1:5", "0.0.0.0:7", "60.0.0.9:0", "[::1]:9",
            "[fe80::1]:9", "60.0.1.1:4000",
        ]
        for (number, text) in bad.enumerated() {
            harbour.offer([text], of: 2, number: UInt32(number + 1), from: 0, to: 1)
        }
        #expect(harbour.punches[1].isEmpty && harbour.refusals == [UnmetReason](repeating: .nobody, count: bad.count))
        // Of somebody who carries nothing of ours: wherever it is.
        harbour.connect(2, 1, via: 0)
        harbour.offer(["60.0.9.9:4000"], of: 7, number: 1, from: 2, to: 1)
        #expect(harbour.punches[1].isEmpty && harbour.refusals.last == .refused)
        // Of somebody who is connected.
        harbour.offer(["60.0.9.9:4000"], of: 0, number: 1, from: 0, to: 1)
        #expect(harbour.punches[1].isEmpty && harbour.refusals.last == .needless)
        // Nobody is dialled without a meeting that was agreed on.
        harbour.say(.go(Harbour.id(2), number: 1), from: 0, to: 1)
        harbour.say(.go(Harbour.id(2), number: 1), from: 2, to: 1)
        #expect(harbour.punches[1].isEmpty)
    }

    @Test func `an introducer that names strangers makes few packets, and those only to public addresses`() {
        var harbour = homes()
        harbour.drops = { _ in true }
        for number: UInt32 in 1...2000 {
            let node = Int(10 + number % 40)
            harbour.offer(["60.0.\(node).1:\(1000 + number)"], of: node, number: number, from: 0, to: 1)
            harbour.say(.go(Harbour.id(node), number: number), from: 0, to: 1)
        }
        let counts = harbour.nodes[1].punching.counts
        #expect(counts.probes <= Punching.probesAMinute && 3 * harbour.punches[1].count == counts.probes)
        #expect(counts.refused >= 1900)
        #expect(harbour.nodes[1].punching.pairCount <= 256)
        harbour.run(5)
        // A dial of three SYNs with the kernel's repetitions; it is repeated only where it has failed at once.
        for endpoint in Set(harbour.punches[1].map(\.to)) {
            #expect(harbour.punches[1].count { $0.to == endpoint } <= 3)
        }
    }

    @Test func `floods of wishes: one message in, at most one out to each, and no state`() {
        var harbour = homes()
        let before = harbour.said.count
        for number: UInt32 in 1...1000 {
            harbour.say(.meet(Meeting(Harbour.id(2), number: number, mapping: .unknown)), from: 1, to: 0)
            harbour.say(.ready(Harbour.id(2), number: number), from: 1, to: 0)
            harbour.say(.ready(Harbour.id(9), number: number), from: 1, to: 0)
        }
        let counts = harbour.nodes[0].introducer.counts
        #expect(harbour.said.count - before <= 1000 && harbour.nodes[0].introducer.pendingCount <= 1)
        #expect(counts.refused >= 1000 - Introducer.wishesAMinute && counts.introduced == 0)
        // One alone does not have itself introduced, nor to whom nobody knows.
        harbour.run(120)
        harbour.say(.meet(Meeting(Harbour.id(1), number: 1, mapping: .unknown)), from: 1, to: 0)
        harbour.say(.meet(Meeting(Harbour.id(8), number: 2, mapping: .unknown)), from: 1, to: 0)
        #expect(harbour.refusals.suffix(2) == [.nobody, .nobody])
    }

    @Test func `nobody is told of who comes over a relay, or is seen in a private network`() {
        var harbour = homes()
        harbour.connect(0, 4 - 2, via: 1)
        harbour.say(.meet(Meeting(Harbour.id(2), number: 1, mapping: .unknown)), from: 1, to: 0)
        #expect(harbour.refusals == [.nobody])
        harbour.nodes[0].connected(
            Harbour.id(2), at: Endpoint("192.168.1.7:4000")!, via: nil, wasDialled: false,
            source: Endpoint("192.168.1.7:4000"), now: harbour.now)
        harbour.say(.meet(Meeting(Harbour.id(2), number: 2, mapping: .unknown)), from: 1, to: 0)
        #expect(harbour.refusals == [.nobody, .nobody])
    }
}
