import Coordination
import JobFixtures
import Messages
import Primitives
import Testing

@Suite struct `A book of lines` {
    private static let peers = (1...4).map { Small.peer($0) }
    private let none: (PeerID) -> Duration = { _ in .zero }

    /// Members that answer every order with lines of these rates, bits a second; some may be silent.
    private func survey(
        _ book: inout LineBook, up: [Double], down: [Double], silent: Set<Int> = [], from start: Instant = .zero
    ) -> (turns: [UInt64], end: Instant) {
        var now = start
        var turns: [UInt64] = []
        func place(_ peer: PeerID) -> Int { Self.peers.firstIndex(of: peer)! }
        while true {
            #expect(book.isDue(at: now))
            guard let next = book.next(most: 1 << 20, trip: none, at: now) else { break }
            turns.append(next.turn)
            for order in next.orders where !silent.contains(place(order.to)) {
                // Slowly: what a hub's bursts took says nothing here.
                now += .seconds(1)
                let result = ProbeResult(
                    turn: next.turn,
                    roundTrips: order.pings.map { .init(peer: $0, time: .milliseconds(Int64(10 * (place($0) + 1)))) },
                    arrivals: order.senders.filter { !silent.contains(place($0)) }.map {
                        .init(sender: $0, bitsPerSecond: min(up[place($0)], down[place(order.to)]))
                    }, together: nil)
                book.receive(result, from: order.to, trip: none, at: now)
            }
            if book.isDue(at: now) { continue }
            // Somebody has not reported.
            guard let deadline = book.deadline else {
                Issue.record("waits for ever")
                break
            }
            now = max(now, deadline)
        }
        return (turns, now)
    }

    @Test func `is empty before anybody has measured`() {
        var book = LineBook()
        #expect(!book.isSurveying && book.deadline == nil && !book.isDue(at: .zero))
        #expect(book.up(Small.peer(1)) == nil && !book.isKnown(Small.peer(1)))
        #expect(book.latency(among: Self.peers) == .zero)
        #expect(book.end() == "")
    }

    @Test func `knows the lines when everybody has reported`() {
        var book = LineBook()
        book.begin(of: Self.peers, why: "the first plan", at: .zero)
        #expect(book.isSurveying)
        let up = [10e6, 20e6, 5e6, 40e6]
        _ = survey(&book, up: up, down: [1e9, 1e9, 1e9, 1e9])
        #expect(book.end() == "the first plan")
        #expect(!book.isSurveying && book.deadline == nil)
        for (place, peer) in Self.peers.enumerated() {
            let found = book.up(peer)?.bitsPerSecond ?? 0
            #expect(abs(found / up[place] - 1) < 0.3, "\(place): \(found)")
            #expect(book.isKnown(peer) && book.down(peer) != nil)
        }
        // One way, of the slowest pair: the fourth is 40 ms away and back.
        #expect(book.latency(among: Self.peers) == .milliseconds(20))
        #expect(book.latency(among: [Self.peers[0], Self.peers[1]]) == .milliseconds(10))
    }

    @Test func `goes on without who does not report, and never waits for ever`() {
        var book = LineBook()
        book.begin(of: Self.peers, why: "", at: .zero)
        let (_, end) = survey(&book, up: [1e7, 1e7, 1e7, 1e7], down: [1e8, 1e8, 1e8, 1e8], silent: [2])
        #expect(end < .zero + .seconds(60))
        _ = book.end()
        #expect(!book.isKnown(Self.peers[2]))
        #expect(book.isKnown(Self.peers[0]) && book.isKnown(Self.peers[3]))
        // Nobody at all: it is over after one turn.
        var deaf = LineBook()
        deaf.begin(of: Self.peers, why: "", at: .zero)
        let nobody = survey(&deaf, up: [], down: [], silent: [0, 1, 2, 3])
        #expect(nobody.turns.count == 1)
    }

    @Test func `numbers its turns once, over all surveys`() {
        var book = LineBook()
        var turns: [UInt64] = []
        var now = Instant.zero
        for round in 0..<3 {
            if round == 1 {
                book.begin(of: [Self.peers[3]], among: Self.peers, why: "", at: now)
            } else {
                book.begin(of: Self.peers, why: "", rings: 1, at: now)
            }
            let (more, end) = survey(&book, up: [1e7, 1e7, 1e7, 1e7], down: [1e8, 1e8, 1e8, 1e8], from: now)
            turns += more
            now = end
            _ = book.end()
        }
        #expect(turns == turns.sorted() && Set(turns).count == turns.count)
    }

    @Test func `takes a line for worse only when it is much worse`() {
        var book = LineBook()
        for (rates, expected) in [(10e6, 10e6), (8e6, 10e6), (30e6, 30e6), (3e6, 3e6)] {
            book.begin(of: Self.peers, why: "", at: .zero)
            _ = survey(&book, up: Array(repeating: rates, count: 4), down: Array(repeating: 1e9, count: 4))
            _ = book.end()
            let found = book.up(Self.peers[0])?.bitsPerSecond ?? 0
            #expect(abs(found / expected - 1) < 0.3, "\(rates): \(found)")
        }
    }

    @Test func `a ping is answered by whom it was sent to, once`() throws {
        var book = LineBook()
        guard case .ping(let nonce) = book.ping(Small.peer(1), at: .zero),
            case .ping(let other) = book.ping(Small.peer(2), at: .zero)
        else {
            Issue.record("no ping")
            return
        }
        #expect(nonce != other)
        let later = Instant.zero + .milliseconds(30)
        #expect(book.pong(nonce, from: Small.peer(2), at: later) == nil)
        #expect(book.pong(99, from: Small.peer(1), at: later) == nil)
        #expect(book.pong(nonce, from: Small.peer(1), at: later) == .milliseconds(30))
        #expect(book.pong(nonce, from: Small.peer(1), at: later) == nil)
        // Those that are never answered take no room for ever, and late ones are nobody's.
        for _ in 0..<10_000 { _ = book.ping(Small.peer(1), at: later) }
        #expect(book.pong(other, from: Small.peer(2), at: later) == nil)
    }

    @Test func `a member that leaves is not waited for`() {
        var book = LineBook()
        book.begin(of: [Self.peers[0], Self.peers[1]], why: "", at: .zero)
        let first = book.next(most: 1 << 20, trip: none, at: .zero)
        #expect(first?.orders.count == 2)
        #expect(!book.isDue(at: .zero))
        for peer in Self.peers { book.forget(peer) }
        #expect(book.isDue(at: .zero))
        let after = book.next(most: 1 << 20, trip: none, at: .zero)
        #expect(after == nil)
    }

    @Test func `does not ask for another survey while one is under way`() {
        var book = LineBook()
        book.begin(of: Self.peers, why: "", at: .zero)
        for _ in 0..<50 { #expect(book.sealed(9, at: .zero) == nil) }
        _ = book.end()
        let alarms = (0..<50).compactMap { _ in book.sealed(9, at: .zero) }
        #expect(alarms == [9])
    }

    @Test func `measures those again that have come together behind their relay, and nobody else`() throws {
        let (a, b, c) = (Self.peers[0], Self.peers[1], Self.peers[2])
        let crane = Small.peer(9)
        var book = LineBook()
        let relayed = PeerPath.relayed(by: crane, rate: .megabits(2))
        for peer in [a, b] { book.receive(PeerPaths([peer == a ? b : a: relayed]), from: peer, at: .zero) }
        book.begin(of: Self.peers, why: "", at: .zero)
        let fast = [1e7, 1e7, 1e7, 1e7]
        let (_, end) = survey(&book, up: fast, down: [2e6, 2e6, 1e8, 1e8])
        _ = book.end()
        var now = end + .seconds(60)
        func begin(_ book: inout LineBook) -> String? {
            book.beginOfChangedPaths(among: Self.peers, at: now, name: { "\(Self.peers.firstIndex(of: $0)!)" })
        }
        // As they were measured: nothing to do. Of one end a word is enough.
        #expect(book.relayed(among: Self.peers).map(\.relay) == [crane] && book.relayed(among: [a, c]).isEmpty)
        #expect(begin(&book) == nil)
        let slow = book.known.pairs[.init(from: a, to: b)]
        #expect(slow == 2e6)
        book.receive(PeerPaths([b: .punched]), from: a, at: now)
        #expect(book.relayed(among: Self.peers).count == 1, "the other end has not heard yet")
        book.receive(PeerPaths([a: .punched]), from: b, at: now)
        #expect(book.relayed(among: Self.peers).isEmpty)
        #expect(begin(&book) == nil, "it may move again in a moment")
        now += .seconds(5)
        let why = begin(&book)
        #expect(why?.hasSuffix("reach each other by another path") == true)
        #expect(book.isSurveying)
        let up = book.up(a)
        _ = survey(&book, up: [9e6, 8e6, 1, 1], down: [1e8, 1e8, 1, 1], from: now)
        #expect(book.end() == why)
        // What the old path did counts no more, though the new one is hardly better than what was known of lines.
        #expect(book.known.pairs[.init(from: a, to: b)] == 9e6 && book.known.pairs[.init(from: b, to: a)] == 8e6)
        #expect(book.up(a) == up, "one pair says nothing of a line")
        now += .seconds(60)
        #expect(begin(&book) == nil)
        // Relayed again, by somebody else.
        book.receive(PeerPaths([b: .relayed(by: c, rate: nil)]), from: a, at: now)
        now += .seconds(5)
        #expect(begin(&book) != nil)
        // Who does not answer is asked again later, not at once.
        while book.next(most: 1 << 20, trip: none, at: now) != nil { now += .seconds(10) }
        _ = book.end()
        #expect(begin(&book) == nil)
        now += .seconds(30)
        #expect(begin(&book) != nil)
    }
}
