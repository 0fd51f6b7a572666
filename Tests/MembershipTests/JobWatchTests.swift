import Consensus
import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Training
import Wire

/// A job as somebody sees it who has no part in it.
@Suite struct `Watching a job` {
    @Test func `tells what its log says as its leader would, and ends with it`() throws {
        var log = try Carried(entries: 0)
        let joined = MembersChange.Joined(peer: Small.peer(7), endpoint: Small.endpoint(7), name: "heron")
        try log.append(.members(MembersChange(joined: [joined], round: 0)))
        var watch = JobWatch(choosing: { _, genesis, _ in genesis.manifest == "good" }, at: .zero, parse: Carried.parse)
        var events: [Happening] = []
        var ended: Finish?
        var now = Instant.zero
        func answers(_ packet: Packet) throws -> [Packet] {
            guard case .readRequest(let from) = packet.message else { return [] }
            var record = log.record
            record.commit(through: record.length)
            var entries = record.entries(from: from) ?? LogEntries([], length: record.length)
            entries.certificate = log.certificate(by: 0, 2)
            var heartbeat = Heartbeat()
            heartbeat.step = 5
            return [
                Packet(job: record.job, .logEntries(entries)),
                Packet(job: record.job, term: 1, .lease(Lease(duration: .zero, logLength: record.length))),
                Packet(job: record.job, term: 1, .heartbeat(heartbeat)),
            ]
        }
        func run(_ seconds: Int) throws {
            for _ in 0..<seconds {
                now += .seconds(1)
                watch.wake(at: now)
                while let effect = watch.poll() {
                    switch effect {
                    case .send(let packet, let peer):
                        for answer in try answers(packet) { watch.receive(answer, from: peer, at: now) }
                    case .event(let event): events.append(event.what)
                    case .ended(let finish): ended = finish
                    }
                }
            }
        }
        watch.established(Small.peer(7), at: now)
        // Whoever was not asked is not heard.
        watch.receive(try answers(Packet(.readRequest(from: 0)))[0], from: Small.peer(8), at: now)
        #expect(watch.record == nil)
        try run(15)
        #expect(watch.record?.length == log.record.length && ended == nil)
        let kinds = events.map(\.name)
        #expect(kinds.first == .jobOpened && kinds.contains(.peerJoined))
        let chosen = events.contains {
            if case .electorsChosen(let who, "agreed") = $0 { who.split(separator: ",").count == 3 } else { false }
        }
        #expect(chosen)
        let isSeen = events.contains {
            if case .status(_, 5, _, _, _, _, _, _, _, _, _, let doing) = $0 { doing == "heron=free" } else { false }
        }
        #expect(isSeen)
        // Nobody who can be reached has a leader: said once.
        #expect(kinds.filter { $0 == .interrupted }.count == 1)
        try log.append(.finish(Finish(reason: Finish.done)))
        try run(2)
        #expect(ended?.reason == Finish.done && watch.nextWake == nil)
    }

    /// Members let go of a job with its last entry: whoever asks a moment later hears of none.
    @Test func `ends where all is trained and nobody leads it, though its last entry was not seen`() throws {
        var script = try Script()
        try script.join([1, 2])
        try script.plan(Small.plan([[1], [2]]))
        let parameters = script.record.parameters
        var watch = JobWatch(choosing: { _, genesis, _ in genesis.manifest == "small" }, at: .zero) { _ in parameters }
        watch.established(Small.peer(1), at: .zero)
        var (now, ended, isSilent) = (Instant.zero, false, false)
        func run(_ seconds: Int) throws {
            script.stored(through: script.record.length)
            let certificate = try #require(script.record.claim.flatMap { Certificate([Ack($0, by: Small.launcher)]) })
            for _ in 0..<seconds {
                now += .seconds(1)
                watch.wake(at: now)
                while let effect = watch.poll() {
                    switch effect {
                    case .send(let packet, let peer):
                        guard !isSilent, case .readRequest(let from) = packet.message else { continue }
                        var entries = script.record.entries(from: from) ?? LogEntries([], length: script.record.length)
                        entries.certificate = certificate
                        watch.receive(Packet(job: script.record.job, .logEntries(entries)), from: peer, at: now)
                    case .event: break
                    case .ended(let finish): ended = finish.reason == Finish.done
                    }
                }
            }
        }
        try script.seal([0, 1])
        try run(20)
        #expect(!ended && watch.record?.state.round == 1)
        while script.state.spec != nil { try script.seal([0, 1]) }
        try run(3)
        isSilent = true
        try run(15)
        #expect(ended && watch.nextWake == nil && watch.finish?.reason == Finish.done)
    }
}
