import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Testing
import Training
import Wire

@Suite struct `States for others` {
    private func request(_ round: Int, _ units: [Int], moments: Bool = true) -> StateRequest {
        StateRequest(round: round, units: units, moments: moments)
    }
    private func states(_ units: Range<Int>, moments: Bool) -> ComputeResult {
        .state(
            units.map { unit in
                var state = RememberingEngine.state(unit, 7)
                if !moments { (state.firstMoment, state.secondMoment) = ([], []) }
                return state
            })
    }
    private func drain(_ desk: inout StateDesk) -> (sent: [PeerID: [StateOffer]], exports: [(Range<Int>, Bool, Int)]) {
        var out: (sent: [PeerID: [StateOffer]], exports: [(Range<Int>, Bool, Int)]) = ([:], [])
        while let effect = desk.poll() {
            switch effect {
            case .send(.stateOffer(let offer), let peer): out.sent[peer, default: []].append(offer)
            case .send(let message, _): Issue.record("\(message)")
            case .export(let units, let moments, let round): out.exports.append((units, moments, round))
            case .read(let name): Issue.record("nothing of round \(name.round) is on the disk")
            }
        }
        return out
    }

    @Test func `are exported once for all who ask`() {
        var desk = StateDesk()
        for number in 1...5 { desk.receive(request(3, [0, 1]), from: Small.peer(number), .here(0..<3, round: 3)) }
        let first = drain(&desk)
        #expect(first.sent.isEmpty)
        #expect(first.exports.count == 1)
        #expect(first.exports[0] == (0..<3, true, 3))
        desk.exported(states(0..<3, moments: true), 0..<3, round: 3, .here(0..<3, round: 3), at: .zero)
        let then = drain(&desk)
        #expect(
            then.sent.count == 5 && then.sent.values.allSatisfy { $0.count == 1 && $0[0].parts.map(\.unit) == [0, 1] })
        #expect(then.exports.isEmpty)
        // Whoever comes later is answered at once, also for other units of the stage.
        desk.receive(request(3, [2]), from: Small.peer(6), .past(round: 3))
        #expect(drain(&desk).sent[Small.peer(6)]?.first?.parts.map(\.unit) == [2])
    }

    @Test func `come with moments only where they are wanted, and again where they were left out`() {
        var desk = StateDesk()
        desk.receive(request(3, [0], moments: false), from: Small.peer(1), .here(0..<2, round: 3))
        #expect(drain(&desk).exports.map(\.1) == [false])
        desk.exported(states(0..<2, moments: false), 0..<2, round: 3, .here(0..<2, round: 3), at: .zero)
        #expect(drain(&desk).sent[Small.peer(1)]?.count == 1)
        desk.receive(request(3, [0]), from: Small.peer(2), .here(0..<2, round: 3))
        #expect(drain(&desk).exports.map(\.1) == [true])
        desk.exported(states(0..<2, moments: true), 0..<2, round: 3, .here(0..<2, round: 3), at: .zero)
        #expect(drain(&desk).sent[Small.peer(2)]?.first?.parts.first?.moments != nil)
    }

    @Test func `are all that is on this member's own disk, though it lacks what was asked for`() {
        var desk = StateDesk()
        desk.kept = [KeptStage(round: 3, rank: 0, units: 0..<2, epoch: 1)]
        desk.receive(request(3, [0, 1]), from: Small.peer(1), .nothing)
        #expect(reads(&desk) == [StartName(round: 3)])
        desk.read(.read(start(3, 0..<2, share: [0])), .nothing, at: .zero)
        let offers = drain(&desk).sent[Small.peer(1)]
        #expect(offers?.count == 1 && offers?.first?.parts.map(\.unit) == [0, 1])
        #expect(offers?.first?.parts.first?.moments == nil)
    }

    private func reads(_ desk: inout StateDesk) -> [StartName] {
        var out: [StartName] = []
        while let effect = desk.poll() { if case .read(let name) = effect { out.append(name) } }
        return out
    }
    /// Without moments; a copy where nobody's share is named.
    private func start(_ round: Int, _ units: Range<Int>, share: [Int]) -> RoundStart {
        guard case .state(let states) = states(units, moments: false) else { return start(round, units, share: share) }
        return RoundStart(job: sha256([1]), round: round, epoch: 1, rank: 0, share: share, states: states)
    }

    /// A member's own file, and its copy of what others held.
    @Test func `come from all files of the round that have some of them, each read once`() {
        var desk = StateDesk()
        desk.kept = [
            KeptStage(round: 3, rank: 0, units: 0..<2, epoch: 1),
            KeptStage(round: 3, rank: 0, units: 1..<4, epoch: 1, isCopy: true),
            KeptStage(round: 2, rank: 0, units: 1..<4, epoch: 1, isCopy: true),
        ]
        for number in 1...3 { desk.receive(request(3, [0, 1, 2, 3]), from: Small.peer(number), .past(round: 5)) }
        #expect(reads(&desk) == [StartName(round: 3), StartName(round: 3, copyFrom: 1)])
        desk.read(.read(start(3, 1..<4, share: [])), .past(round: 5), at: .zero)
        #expect(drain(&desk).sent.isEmpty)
        desk.read(.read(start(3, 0..<2, share: [0])), .past(round: 5), at: .zero)
        let sent = drain(&desk).sent
        #expect(sent.count == 3 && sent.values.allSatisfy { $0[0].parts.map(\.unit) == [0, 1, 2, 3] })
        // What is damaged counts no more, and the rest is given.
        var other = StateDesk()
        other.kept = desk.kept
        other.receive(request(3, [0, 1, 2, 3]), from: Small.peer(1), .past(round: 5))
        _ = reads(&other)
        other.read(.read(start(3, 0..<2, share: [0])), .past(round: 5), at: .zero)
        other.kept.remove(at: 1)
        other.read(.refused(StartName(round: 3, copyFrom: 1)), .past(round: 5), at: .zero)
        #expect(drain(&other).sent[Small.peer(1)]?.first?.parts.map(\.unit) == [0, 1])
    }

    /// Moments are in the engine only.
    @Test func `come from the engine and not from a copy where both have them`() {
        var desk = StateDesk()
        let stock = Holding.Stock.here(0..<2, round: 3)
        desk.kept = [KeptStage(round: 3, rank: 0, units: 1..<4, epoch: 1, isCopy: true)]
        desk.receive(request(3, [1, 3]), from: Small.peer(1), stock)
        #expect(reads(&desk) == [StartName(round: 3, copyFrom: 1)])
        desk.read(.read(start(3, 1..<4, share: [])), stock, at: .zero)
        #expect(drain(&desk).exports.map(\.0) == [0..<2])
        desk.exported(states(0..<2, moments: true), 0..<2, round: 3, stock, at: .zero)
        let parts = drain(&desk).sent[Small.peer(1)]?.first?.parts ?? []
        #expect(parts.map(\.unit) == [1, 3] && parts.map { $0.moments != nil } == [true, false])
    }

    @Test func `that are not here are refused with a reason, those to come are waited for`() {
        let cases: [(Holding.Stock, StateRequest, String?)] = [
            (.nothing, request(3, [0]), "nothing held here"),
            (.here(0..<2, round: 3), request(3, [2, 3]), "units not held here"),
            (.here(0..<2, round: 4), request(3, [0]), "already past round 3"),
            (.past(round: 3), request(3, [0]), "already past round 3"),
            (.here(0..<2, round: 2), request(3, [0]), nil),
            (.past(round: 2), request(3, [0]), nil),
            (.coming(round: 3), request(3, [0]), nil),
            (.coming(round: 2), request(3, [0]), nil),
        ]
        for (stock, request, why) in cases {
            var desk = StateDesk()
            desk.receive(request, from: Small.peer(1), stock)
            let said = drain(&desk)
            #expect(said.sent[Small.peer(1)]?.first?.unavailable == why)
            #expect(said.exports.isEmpty)
            #expect(desk.waitingPeers == (why == nil ? [Small.peer(1)] : []))
        }
    }

    @Test func `are given in part where only a part is here`() {
        var desk = StateDesk()
        desk.receive(request(3, [1, 2, 3]), from: Small.peer(1), .here(0..<2, round: 3))
        _ = drain(&desk)
        desk.exported(states(0..<2, moments: true), 0..<2, round: 3, .here(0..<2, round: 3), at: .zero)
        #expect(drain(&desk).sent[Small.peer(1)]?.first?.parts.map(\.unit) == [1])
    }

    @Test func `that the engine cannot give are not asked of it for ever`() {
        var desk = StateDesk()
        desk.receive(request(3, [0]), from: Small.peer(1), .here(0..<2, round: 3))
        _ = drain(&desk)
        desk.exported(.refused("no"), 0..<2, round: 3, .here(0..<2, round: 3), at: .zero)
        let said = drain(&desk)
        #expect(said.exports.isEmpty)
        #expect(said.sent[Small.peer(1)]?.first?.unavailable != nil)
        #expect(desk.waitingPeers == [])
    }

    /// The log has gone back, and the round with that number will be another.
    @Test func `of rounds that were taken back are given to nobody`() {
        var desk = StateDesk()
        desk.receive(request(3, [0]), from: Small.peer(1), .here(0..<2, round: 3))
        desk.receive(request(2, [0]), from: Small.peer(2), .here(0..<2, round: 2))
        _ = drain(&desk)
        for round in [3, 2] {
            desk.exported(states(0..<2, moments: true), 0..<2, round: round, .here(0..<2, round: 3), at: .zero)
        }
        #expect(drain(&desk).sent.count == 2)
        desk.forget(after: 2)
        desk.receive(request(3, [0]), from: Small.peer(1), .here(0..<2, round: 2))
        desk.receive(request(2, [0]), from: Small.peer(2), .here(0..<2, round: 2))
        let said = drain(&desk)
        #expect(said.sent[Small.peer(1)] == nil && desk.waitingPeers == [Small.peer(1)])
        #expect(said.sent[Small.peer(2)]?.first?.parts.map(\.unit) == [0])
        // It is that of the new round 3 that is waited for.
        desk.serve(.here(0..<2, round: 3))
        #expect(drain(&desk).exports.map(\.2) == [3])
    }

    @Test func `wait for one request of each peer, and for nobody who has left`() {
        var desk = StateDesk()
        for round in 0..<100 { desk.receive(request(round, [0]), from: Small.peer(round % 3), .coming(round: 200)) }
        #expect(Set(desk.waitingPeers).count == 3 && desk.waitingPeers.count == 3)
        desk.forget(Small.peer(1))
        #expect(desk.waitingPeers.count == 2)
        desk.removeAll()
        #expect(desk.waitingPeers == [])
    }

    /// Any requests, any moves of what is held: each asker has one answer at most for each request, none is forgotten, and the engine
    /// has one export at a time for a round.
    private typealias Said = (sent: [PeerID: [StateOffer]], exports: [(Range<Int>, Bool, Int)])
    /// Each answer is to a request that is open, and to what it asked for.
    private func check(_ sent: [PeerID: [StateOffer]], _ open: inout [PeerID: StateRequest]) {
        for (peer, offers) in sent {
            #expect(offers.count == 1)
            guard let request = open.removeValue(forKey: peer) else {
                Issue.record("an answer to nobody")
                return
            }
            #expect(offers[0].round == request.round)
            #expect(offers[0].unavailable != nil || !offers[0].parts.isEmpty)
            #expect(offers[0].parts.allSatisfy { request.units.contains($0.unit) })
        }
    }
    @Test(arguments: 0..<40 as Range<UInt64>)
    func `are never forgotten and never exported twice at once`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed, stream: 8)
        var desk = StateDesk()
        var round = 0
        var stock = Holding.Stock.here(0..<2, round: 0)
        var open: [PeerID: StateRequest] = [:]
        var exports: [(Range<Int>, Bool, Int)] = []
        var now = Instant.zero
        func heed(_ said: Said) {
            check(said.sent, &open)
            for export in said.exports {
                #expect(stock == .here(export.0, round: export.2), "an export of what is not held")
                #expect(!exports.contains { $0.2 == export.2 && ($0.1 || !export.1) }, "two exports at once")
                exports.append(export)
            }
        }
        for _ in 0..<500 {
            now += .milliseconds(Int64(generator.below(3000)))
            switch generator.below(10) {
            case 0..<4:
                let peer = Small.peer(generator.below(4))
                let wanted = request(
                    max(0, round + generator.below(4) - 2), [generator.below(3)], moments: generator.below(2) == 0)
                open[peer] = wanted
                desk.receive(wanted, from: peer, stock)
            case 4, 5:
                guard !exports.isEmpty else { continue }
                let (units, moments, at) = exports.removeFirst()
                desk.exported(states(units, moments: moments), units, round: at, stock, at: now)
            case 6:
                round += 1
                stock = .here(0..<2, round: round)
                desk.serve(stock)
            case 7:
                stock = .past(round: round)
                desk.serve(stock)
            case 8:
                stock = .coming(round: round)
                desk.serve(stock)
            default: desk.wake(at: now)
            }
            heed(drain(&desk))
            #expect(Set(desk.waitingPeers) == Set(open.keys))
        }
        while !exports.isEmpty {
            let (units, moments, at) = exports.removeFirst()
            desk.exported(states(units, moments: moments), units, round: at, .here(0..<2, round: 1000), at: now)
        }
        desk.serve(.here(0..<2, round: 1000))
        heed(drain(&desk))
        #expect(open.isEmpty)
    }
}
