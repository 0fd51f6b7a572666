import Foundation
import Membership
import Messages
import Primitives
import Testing
import Training
import Wire

@Suite struct `A step that a leader asks about` {
    private func at(_ seconds: Double) -> Instant { .zero + .milliseconds(Int64(seconds * 1000)) }
    private func piece(_ step: Int, _ wish: inout StepWish, from: Double) {
        wish.note(.piece(.forward, step: step), from: at(from), to: at(from + 0.25))
        wish.note(.piece(.backward, step: step), from: at(from + 0.25), to: at(from + 0.75))
        wish.note(.update, from: at(from + 0.75), to: at(from + 1))
    }

    @Test func `is told once, when it is over, as old as it is`() throws {
        var wish = StepWish()
        piece(3, &wish, from: 3)
        #expect(wish.take(at: at(4)) == nil, "nobody asked")
        wish.wish(5, current: 4)
        for step in 4...5 { piece(step, &wish, from: Double(step)) }
        #expect(wish.take(at: at(6)) == nil, "it may go on")
        wish.note(.piece(.forward, step: 6), from: at(6), to: at(6.25))
        wish.wish(5, current: 6)
        let taken = wish.take(at: at(6.5))
        let report = try #require(taken)
        #expect(report.step == 5 && report.age == .milliseconds(1500))
        #expect(
            report.pieces == [
                .init(kind: .forward, from: .zero, to: .milliseconds(250)),
                .init(kind: .backward, from: .milliseconds(250), to: .milliseconds(750)),
                .init(kind: .update, from: .milliseconds(750), to: .seconds(1)),
            ])
        // Said again with every lease.
        wish.wish(5, current: 6)
        piece(7, &wish, from: 7)
        #expect(wish.take(at: at(9)) == nil)
    }

    @Test func `that has begun, or is passed by another way, is not told`() {
        var wish = StepWish()
        wish.wish(4, current: 4)
        for step in 4...8 { piece(step, &wish, from: Double(step)) }
        #expect(wish.take(at: at(9)) == nil)
        wish.wish(20, current: 8)
        for step in [18, 19, 21, 22, 23] { piece(step, &wish, from: Double(step)) }
        #expect(wish.take(at: at(24)) == nil)
        // Then the next one is.
        wish.wish(30, current: 23)
        for step in 29...31 { piece(step, &wish, from: Double(step)) }
        #expect(wish.take(at: at(32))?.step == 30)
    }

    @Test func `is told even where many more are over before the next heartbeat`() {
        var wish = StepWish()
        wish.wish(5, current: 4)
        for step in 5...300 { piece(step, &wish, from: Double(step)) }
        #expect(wish.take(at: at(302))?.step == 5)
    }

    private func sent(_ change: (inout PBHeartbeat.Trace) -> Void) throws -> StepReport? {
        var packet = PBPacket()
        packet.heartbeat.trace.step = 7
        packet.heartbeat.trace.ageMicroseconds = 2_000_000
        packet.heartbeat.trace.kinds = .init([1, 2, 3])
        packet.heartbeat.trace.begins = [0, 10, 30]
        packet.heartbeat.trace.ends = [10, 30, 31]
        change(&packet.heartbeat.trace)
        guard case .heartbeat(let heartbeat) = try Packet(packet).message else { return nil }
        return heartbeat.trace
    }

    @Test func `goes over the wire as it is, and what makes no sense does not`() throws {
        let report = try #require(try sent { _ in })
        #expect(report.age == .seconds(2) && report.pieces.map(\.kind) == [.forward, .backward, .update])
        #expect(report.pieces[2].from == .microseconds(30) && report.pieces[2].to == .microseconds(31))
        var heartbeat = Heartbeat()
        heartbeat.trace = report
        let framed = Packet(.heartbeat(heartbeat)).framed
        #expect(try Packet(framed.packet).message == .heartbeat(heartbeat))
        #expect(try Packet(Packet(.heartbeat(Heartbeat())).framed.packet).message == .heartbeat(Heartbeat()))
        for share in [0.005, 1, nil] {
            heartbeat.processorShare = share
            heartbeat.activity = .measuring
            #expect(try Packet(Packet(.heartbeat(heartbeat)).framed.packet).message == .heartbeat(heartbeat))
        }
        var odd = PBPacket()
        odd.heartbeat.processorPermille = 1001
        #expect(throws: MalformedBytes.self) { try Packet(odd) }
        for (what, change) in [
            ("step", { $0.step = .max }), ("age", { $0.ageMicroseconds = .max }),
            ("kind", { $0.kinds = .init([1, 2, 4]) }),
            ("none", { $0.kinds = .init([0, 2, 3]) }), ("fewer", { $0.begins = [0, 10] }),
            ("more", { $0.ends.append(40) }),
            ("backwards", { $0.ends = [10, 30, 29] }),
            (
                "many",
                {
                    let n = StepReport.mostPieces + 1
                    ($0.kinds, $0.begins) = (.init(repeating: 1, count: n), Array(repeating: 0, count: n))
                    $0.ends = $0.begins
                }
            ),
        ] as [(String, (inout PBHeartbeat.Trace) -> Void)] {
            #expect(throws: MalformedBytes.self, "\(what)") { try sent(change) }
        }
        // A lease that names a step, and one that names none.
        for step in [nil, 0, 41] {
            let lease = Message.lease(Lease(duration: .seconds(3), logLength: 4, tracedStep: step))
            #expect(try Packet(Packet(lease).framed.packet).message == lease)
        }
        var packet = PBPacket()
        packet.lease.tracedStep = .max
        #expect(throws: MalformedBytes.self) { try Packet(packet) }
    }
}

@Suite struct `How long rounds take, as seen here` {
    private func at(_ seconds: Double) -> Instant { .zero + .milliseconds(Int64(seconds * 1000)) }

    @Test func `is from seal to seal, of the last and of those before`() {
        var pace = RoundPace()
        for (round, second) in [(0, 0.0), (1, 7), (2, 10), (3, 13), (4, 17)] { pace.see(round: round, at: at(second)) }
        #expect(pace.last == 4 && pace.usual == 3, "when the first one began nobody saw")
        // Begun anew: it is new from then on.
        pace.see(round: 3, at: at(20))
        pace.see(round: 4, at: at(25))
        #expect(pace.last == 5)
    }

    /// Whoever comes in the middle hears of many rounds in a moment.
    @Test func `says nothing of rounds that were over when they were heard of`() {
        var pace = RoundPace()
        pace.see(round: 0, at: .zero)
        pace.see(round: 5, at: at(0.1))
        pace.see(round: 6, at: at(0.2))
        #expect(pace.last == nil, "5 had begun some time before")
        pace.see(round: 7, at: at(4.2))
        #expect(pace.last == 4 && pace.usual == nil)
        for (round, second) in [(8, 9.0), (9, 9.01), (10, 9.02)] {
            pace.see(round: round, isBehind: round < 10, at: at(second))
        }
        pace.see(round: 11, at: at(12.02))
        #expect(pace.last == 3 && abs((pace.usual ?? 0) - 4.8) < 1e-9)
    }
}
