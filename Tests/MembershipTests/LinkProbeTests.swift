import JobFixtures
import Membership
import Messages
import Primitives
import Testing

@Suite struct `A probe of links` {
    private func target(_ number: Int) -> ProbeOrder.Target {
        ProbeOrder.Target(peer: Small.peer(number), endpoint: Small.endpoint(number))
    }
    private func order(
        _ turn: UInt64, pings: [Int] = [], bursts: [(Int, Int, Duration)] = [], senders: [Int] = []
    ) -> ProbeOrder {
        ProbeOrder(
            turn: turn, pings: pings.map { target($0) },
            bursts: bursts.map { ProbeOrder.Burst(to: target($0), bytes: $1, after: $2) },
            senders: senders.map { Small.peer($0) }, reportAfter: .seconds(2))
    }
    private struct Said {
        var pings: [(nonce: UInt64, to: PeerID)] = []
        var bursts: [(ProbeBurst, to: PeerID)] = []
        var connects: [PeerID] = []
        var reports: [ProbeResult] = []
    }
    private func drain(_ probe: inout LinkProbe) -> Said {
        var said = Said()
        while let effect = probe.poll() {
            switch effect {
            case .connect(let peer, _): said.connects.append(peer)
            case .send(.ping(let nonce), let peer): said.pings.append((nonce, peer))
            case .send(.probeBurst(let burst), let peer): said.bursts.append((burst, peer))
            case .send(let message, _): Issue.record("\(message)")
            case .report(let result): said.reports.append(result)
            }
        }
        return said
    }

    @Test func `says the least of a few round trips`() {
        var probe = LinkProbe()
        probe.receive(order(4, pings: [2]), at: .zero)
        var now = Instant.zero
        var reports: [ProbeResult] = []
        for milliseconds in [30, 12, 25, 40] {
            let said = drain(&probe)
            reports += said.reports
            guard let ping = said.pings.first else {
                Issue.record("no ping")
                return
            }
            #expect(ping.to == Small.peer(2))
            now += .milliseconds(Int64(milliseconds))
            // Another's answer, or one to another ping, says nothing.
            probe.receive(pong: ping.nonce, from: Small.peer(3), at: now)
            probe.receive(pong: ping.nonce + 7, from: Small.peer(2), at: now)
            probe.receive(pong: ping.nonce, from: Small.peer(2), at: now)
        }
        reports += drain(&probe).reports
        #expect(
            reports == [
                ProbeResult(
                    turn: 4, roundTrips: [ProbeResult.RoundTrip(peer: Small.peer(2), time: .milliseconds(12))],
                    arrivals: [], together: nil)
            ])
        #expect(probe.nextWake == nil)
    }

    @Test func `reports in time what it has, and leaves out what it has not`() {
        var probe = LinkProbe()
        probe.receive(order(1, pings: [2, 3], senders: [4]), at: .zero)
        let pings = drain(&probe).pings
        for ping in pings where ping.to == Small.peer(2) {
            probe.receive(pong: ping.nonce, from: ping.to, at: .zero + .milliseconds(5))
        }
        #expect(drain(&probe).reports == [])
        #expect(probe.nextWake == Instant.zero + .seconds(2))
        probe.wake(at: .zero + .seconds(2))
        let report = drain(&probe).reports
        #expect(report.count == 1)
        #expect(report.first?.roundTrips.map(\.peer) == [Small.peer(2)])
        #expect(report.first?.arrivals == [])
    }

    @Test func `sends bursts in parts, each when it is due`() {
        var probe = LinkProbe()
        probe.receive(order(2, bursts: [(2, 64 << 10, .zero), (3, 128 << 10, .milliseconds(100))]), at: .zero)
        let first = drain(&probe)
        #expect(Set(first.bursts.map(\.to)) == [Small.peer(2)])
        #expect(first.bursts.reduce(0) { $0 + $1.0.bytes } == 64 << 10)
        #expect(first.bursts.map(\.0.part) == Array(0..<first.bursts.count))
        #expect(probe.nextWake == Instant.zero + .milliseconds(100))
        probe.wake(at: .zero + .milliseconds(100))
        let second = drain(&probe)
        #expect(Set(second.bursts.map(\.to)) == [Small.peer(3)])
        #expect(second.bursts.reduce(0) { $0 + $1.0.bytes } == 128 << 10)
        #expect(second.reports.count == 1)
    }

    @Test func `times bursts that come, also before the order of their turn`() {
        var probe = LinkProbe()
        for part in 0..<20 {
            // 16 KiB every 10 ms: 13.1 Mbit/s.
            probe.receive(
                ProbeBurst(turn: 5, part: part, parts: 20, bytes: 16 << 10), from: Small.peer(4),
                at: .zero + .milliseconds(Int64(10 * part)))
            if part == 10 { probe.receive(order(5, senders: [4]), at: .zero + .milliseconds(100)) }
        }
        let report = drain(&probe).reports
        #expect(report.count == 1)
        let rate = report.first?.arrivals.first?.bitsPerSecond ?? 0
        #expect(abs(rate / 13.1072e6 - 1) < 0.01, "\(rate)")
    }

    @Test func `a figure that cannot be is left out`() {
        var probe = LinkProbe()
        probe.receive(order(5, senders: [4]), at: .zero)
        for part in 0..<20 {
            probe.receive(
                ProbeBurst(turn: 5, part: part, parts: 20, bytes: 64 << 20), from: Small.peer(4),
                at: .zero + .nanoseconds(Int64(part)))
        }
        let report = drain(&probe).reports
        #expect(report.count == 1)
        #expect(report.first?.arrivals == [])
    }

    /// Bursts of turns that never come take a bounded room.
    @Test func `keeps a few turns ahead, the nearest ones`() {
        var probe = LinkProbe()
        probe.receive(order(1, senders: [4]), at: .zero)
        for turn in (2...1000).reversed() as ReversedCollection<ClosedRange<UInt64>> {
            for part in 0..<2 {
                probe.receive(
                    ProbeBurst(turn: turn, part: part, parts: 2, bytes: 1000), from: Small.peer(4),
                    at: .zero + .milliseconds(Int64(part)))
            }
        }
        probe.wake(at: .zero + .seconds(3))
        _ = drain(&probe)
        probe.receive(order(2, senders: [4]), at: .zero + .seconds(4))
        #expect(drain(&probe).reports.first?.arrivals.count == 1)
    }
}
