import Content
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

/// The result of a job that is over: who gets it, from whom, and that it is what the log says.
@Suite struct `Collecting a result` {
    private static let collector = Small.peer(70)
    /// Weights as of the start of a round.
    private func states(_ round: Int) -> [UnitState] {
        Small.model.allUnits.map { unit in
            let bytes = (0..<4 * Small.model.parameters(unit: unit)).map {
                UInt8(($0 &* 7 &+ unit &+ 31 &* round) & 255)
            }
            return UnitState(
                unit: unit, parameters: bytes, outerMomentum: [],
                firstMoment: [UInt8](repeating: 1, count: bytes.count),
                secondMoment: [UInt8](repeating: 2, count: bytes.count), optimizerSteps: 3)
        }
    }
    private func digest(_ states: [UnitState]) -> Digest256 {
        var hash = SHA256Stream()
        for state in states { hash.update(state.parameters.array) }
        return hash.finish()
    }
    /// A job of two peers, all sealed; holders have agreed on the start of two rounds.
    private func script(collectors: [PeerID] = [Self.collector]) throws -> Script {
        var parameters = Small.parameters(tokens: 200)
        parameters.collectors = collectors
        var script = try Script(parameters)
        try script.join([1, 2])
        try script.plan(Small.plan([[1], [2]]))
        while script.state.spec != nil {
            try script.seal([0, 1])
            let round = script.state.round
            var shelf = StateShelf()
            shelf.put(states(round), round: round, at: .zero)
            let offer = shelf.offer(StateRequest(round: round, units: Small.model.allUnits.map { $0 }, moments: false))
            try script.append(.states(States(round: round, units: offer!.parts.map(\.roots))))
        }
        return script
    }
    private func member(_ number: Int) -> Member {
        var member = Member(
            key: Small.key(number), terms: Village.terms("peer", accepts: []), wall: WallClock(seconds: 1, at: .zero),
            at: .zero, parse: { _ in Small.parameters() })
        while member.poll() != nil {}
        return member
    }
    private func ask(
        _ member: inout Member, _ message: Message, _ peer: PeerID, job: Digest256, at now: Instant = .zero
    ) -> (sent: [Message], said: [Happening]) {
        member.receive(Packet(job: job, message), from: peer, endpoint: nil, at: now)
        var out: (sent: [Message], said: [Happening]) = ([], [])
        while let effect = member.poll() {
            switch effect {
            case .send(let packet, peer): out.sent.append(packet.message)
            case .event(let event): out.said.append(event.what)
            default: break
            }
        }
        return out
    }

    @Test func `a member gives it to whoever the manifest names, and the launcher, and nobody else`() throws {
        let script = try script()
        let (round, job) = (script.state.round, script.record.job)
        var member = member(1)
        #expect(!member.answers(for: job))
        member.keep(result: states(round), round: round, of: script.record, at: .zero)
        #expect(member.answers(for: job) && !member.answers(for: sha256([9])) && !member.answers(for: nil))
        let request = Message.stateRequest(StateRequest(round: round, units: [0, 3, 9], moments: true))
        var content: Digest256?
        for peer in [Self.collector, Small.launcher.peerID] {
            guard case .stateOffer(let offer)? = ask(&member, request, peer, job: job).sent.first else {
                Issue.record("no offer to \(peer.short)")
                continue
            }
            // What is not here is left out; moments are nobody's result.
            #expect(offer.parts.map(\.roots.unit) == [0, 3] && offer.parts.allSatisfy { $0.moments == nil })
            content = offer.parts[0].roots.parameters
        }
        let id = try #require(content)
        for message in [
            request, .indexRequest(content: id, first: 0), .chunkRequest(content: id, chunk: 0),
        ] {
            // A member of the job that was, and somebody who never had to do with it.
            for stranger in [Small.peer(2), Small.peer(71)] {
                #expect(ask(&member, message, stranger, job: job).sent.isEmpty, "\(message.kind)")
            }
            #expect(ask(&member, message, Self.collector, job: sha256([9])).sent.isEmpty)
        }
        guard
            case .chunk(id, 0, let bytes)? = ask(
                &member, .chunkRequest(content: id, chunk: 0), Self.collector, job: job
            ).sent.first
        else {
            Issue.record("no chunk")
            return
        }
        #expect(bytes == states(round)[0].parameters.array)
        // It is said once in a while.
        let late = Instant.zero + .seconds(3000)
        #expect(ask(&member, request, Small.peer(71), job: job, at: late).said == [.notEntitled(message: request.kind)])
        #expect(ask(&member, request, Small.peer(71), job: job, at: late).said.isEmpty)
        // An hour is over.
        #expect(member.nextWake == .zero + .seconds(3600))
        member.wake(at: .zero + .seconds(3600))
        #expect(!member.answers(for: job) && member.nextWake == nil)
        #expect(ask(&member, request, Self.collector, job: job, at: .zero + .seconds(3600)).sent.isEmpty)
    }

    @Test func `where the manifest names nobody, nothing is kept`() throws {
        let script = try script(collectors: [])
        var member = member(1)
        member.keep(result: states(script.state.round), round: script.state.round, of: script.record, at: .zero)
        #expect(!member.answers(for: script.record.job) && !script.record.mayCollect(Small.launcher.peerID))
    }

    // MARK: fetching

    /// Runs a fetch against peers that hold something, until it is over.
    private func fetch(
        _ record: Record, weights: Digest256, _ desks: [PeerID: ResultDesk], seconds: Int = 200
    ) throws -> (states: [UnitState]?, why: String?, wrong: [PeerID], seconds: Int) {
        var desks = desks
        var fetch = try #require(
            ResultFetch(record, weights: weights, from: desks.keys.sorted(), patience: .seconds(60), at: .zero))
        var wrong: [PeerID] = []
        for second in 0...seconds {
            let now = Instant.zero + .seconds(second)
            fetch.wake(at: now)
            while let effect = fetch.poll() {
                switch effect {
                case .send(let message, let peer):
                    if case .send(let answer)? = desks[peer]!.answer(message, from: Self.collector, at: now) {
                        fetch.receive(answer, from: peer, at: now)
                    }
                case .event(.stateWrong, let peer?): wrong.append(peer)
                case .event: break
                case .done(let states): return (states, nil, wrong, second)
                case .failed(let why): return (nil, why, wrong, second)
                }
            }
        }
        return (nil, nil, wrong, seconds)
    }
    private func desk(_ states: [UnitState], round: Int, _ record: Record) -> ResultDesk {
        var desk = ResultDesk()
        desk.keep(states, round: round, of: record, at: .zero)
        return desk
    }

    @Test func `what one has and another lacks comes together, and a liar is passed over`() throws {
        let script = try script()
        let (record, round) = (script.record, script.state.round)
        let right = states(round)
        var lie = right
        lie[0].parameters.array[3] ^= 1
        let out = try fetch(
            record, weights: digest(right),
            [
                Small.peer(1): desk(Array(right[..<2]), round: round, record),
                Small.peer(2): desk(Array(right[2...]), round: round, record),
                Small.peer(3): desk(lie, round: round, record),
            ])
        #expect(out.states?.map(\.parameters) == right.map(\.parameters))
        #expect(out.wrong == [Small.peer(3)] && out.seconds < 10)
    }

    /// Nobody held the last round any more: the log's last entry names the weights of the checkpoint before.
    @Test func `a round of which there are parts only, or that is not the result, gives way to an older one`() throws {
        let script = try script()
        let (record, round) = (script.record, script.state.round)
        try #require(round >= 2)
        let (last, before) = (states(round), states(round - 1))
        for newer in [Array(last[1...]), last] {
            let out = try fetch(
                record, weights: digest(before),
                [
                    Small.peer(1): desk(newer, round: round, record),
                    Small.peer(2): desk(before, round: round - 1, record),
                ])
            #expect(out.states?.map(\.parameters) == before.map(\.parameters), "\(out.why ?? "")")
        }
    }

    @Test func `where nobody has it that is said, with what to try`() throws {
        let script = try script()
        let round = script.state.round
        let part = desk(Array(states(round)[1...]), round: round, script.record)
        let out = try fetch(script.record, weights: digest(states(round)), [Small.peer(1): part])
        let why = try #require(out.why)
        #expect(why.contains(digest(states(round)).hex) && why.contains("checkpoints/\(script.record.job.hex)"))
        #expect(out.seconds >= 60 && out.seconds < 120)
    }
}
