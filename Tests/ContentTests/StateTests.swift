import Content
import Digests
import JobFixtures
import Messages
import Primitives
import Testing
import Training
import Wire

/// States of the small model, made up.
enum States {
    static func state(_ unit: Int, seed: UInt64, moments: UInt64? = nil) -> UnitState {
        let bytes = 4 * Small.model.parameters(unit: unit)
        return UnitState(
            unit: unit, parameters: SeededGenerator.bytes(bytes, seed: seed, stream: UInt64(unit)),
            outerMomentum: SeededGenerator.bytes(bytes, seed: seed, stream: UInt64(100 + unit)),
            firstMoment: SeededGenerator.bytes(bytes, seed: moments ?? seed, stream: UInt64(200 + unit)),
            secondMoment: SeededGenerator.bytes(bytes, seed: moments ?? seed, stream: UInt64(300 + unit)),
            optimizerSteps: 7)
    }
    static func roots(_ state: UnitState) -> UnitRoots {
        let digests = UnitDigests(of: state)!
        return UnitRoots(unit: state.unit, parameters: digests.parameters, outerMomentum: digests.outerMomentum)
    }
}

extension StateFetch {
    /// All of it, once it is done.
    fileprivate func states() -> [UnitState] {
        var copy = self
        return wantedUnits.compactMap { copy.take($0) }
    }
}

@Suite struct `A shelf of states` {
    private func shelf(_ rounds: [Int], keep: Duration? = StateShelf.keep, at now: Instant = .zero) -> StateShelf {
        var shelf = StateShelf()
        for round in rounds { shelf.put([States.state(0, seed: UInt64(round))], round: round, keep: keep, at: now) }
        return shelf
    }
    private func request(_ round: Int, _ units: [Int] = [0], moments: Bool = true) -> StateRequest {
        StateRequest(round: round, units: units, moments: moments)
    }

    @Test func `offers what is on it, and nothing else`() throws {
        let shelf = shelf([3])
        let offer = try #require(shelf.offer(request(3)))
        #expect(offer.parts.map(\.roots) == [States.roots(States.state(0, seed: 3))])
        #expect(offer.parts[0].moments != nil && offer.parts[0].optimizerSteps == 7)
        #expect(try #require(shelf.offer(request(3, moments: false))).parts[0].moments == nil)
        #expect(shelf.offer(request(4)) == nil)
        #expect(shelf.offer(request(3, [0, 1])) == nil)
    }

    /// A member had fetched a copy of what it had held itself, and whoever came for it went on without moments: two holders of a layer differed.
    @Test func `keeps moments when a copy without them comes on it`() throws {
        var shelf = shelf([3])
        let before = try #require(shelf.offer(request(3)))
        var copy = States.state(0, seed: 3)
        (copy.firstMoment, copy.secondMoment) = ([], [])
        shelf.put([copy], round: 3, at: .zero)
        #expect(shelf.offer(request(3)) == before)
        // Another state is another state.
        copy.parameters.array[0] ^= 1
        shelf.put([copy], round: 3, at: .zero)
        #expect(try #require(shelf.offer(request(3))).parts[0].moments == nil)
    }

    @Test func `gives back the bytes in chunks`() throws {
        var shelf = shelf([3])
        let part = try #require(shelf.offer(request(3))).parts[0]
        let state = States.state(0, seed: 3)
        for (id, bytes) in [
            (part.roots.parameters, state.parameters.array), (part.roots.outerMomentum!, state.outerMomentum.array),
            (part.moments!, state.firstMoment.array + state.secondMoment.array),
        ] {
            let answer = shelf.answer(indexOf: id, from: 0, at: .zero)
            let list = try #require(answer)
            let index = try ContentIndex(encoded: list.entries, id: id)
            let chunks = (0..<index.count).flatMap { shelf.answer(chunk: $0, of: id, at: .zero) ?? [] }
            #expect(chunks == bytes)
            #expect(shelf.answer(chunk: index.count, of: id, at: .zero) == nil)
        }
        #expect(shelf.answer(indexOf: sha256([9]), from: 0, at: .zero) == nil)
    }

    @Test func `keeps a state while any part of it is asked for, and no longer`() throws {
        var shelf = shelf([3])
        let part = try #require(shelf.offer(request(3))).parts[0]
        #expect(shelf.nextWake == Instant.zero + StateShelf.keep)
        // Only one of three contents is asked for: slow lines fetch one after another.
        for minute in 1...5 {
            let now = Instant.zero + .seconds(Int64(50 * minute))
            #expect(shelf.answer(chunk: 0, of: part.roots.parameters, at: now) != nil)
            shelf.wake(at: now)
        }
        #expect(shelf.answer(chunk: 0, of: part.moments!, at: .zero + .seconds(250)) != nil)
        shelf.wake(at: .zero + .seconds(309))
        #expect(shelf.rounds == [3])
        shelf.wake(at: .zero + .seconds(310))
        #expect(shelf.rounds == [])
        #expect(shelf.answer(chunk: 0, of: part.moments!, at: .zero + .seconds(310)) == nil)
        #expect(shelf.nextWake == nil)
    }

    @Test func `keeps a few rounds for a time, and those without a time as long as it is told`() throws {
        var shelf = shelf([1], keep: nil)
        for round in 2..<9 {
            let now = Instant.zero + .seconds(Int64(round))
            shelf.put([States.state(0, seed: UInt64(round))], round: round, at: now)
            if let part = shelf.offer(request(2))?.parts.first {
                // This one is still being fetched.
                #expect(shelf.answer(chunk: 0, of: part.roots.parameters, at: now) != nil)
            }
        }
        #expect(shelf.rounds == [1, 2, 7, 8])
        shelf.wake(at: .zero + .seconds(10_000))
        #expect(shelf.rounds == [1])
        shelf.removeAll()
        #expect(shelf.rounds == [])
    }

    @Test func `keeps a content that two rounds have in common`() throws {
        var shelf = StateShelf()
        let state = States.state(0, seed: 1)
        shelf.put([state], round: 1, at: .zero)
        shelf.put([state], round: 2, at: .zero + .seconds(30))
        let id = States.roots(state).parameters
        shelf.wake(at: .zero + .seconds(60))
        #expect(shelf.rounds == [2])
        #expect(shelf.answer(chunk: 0, of: id, at: .zero + .seconds(60)) != nil)
    }
}

@Suite struct `Fetching states` {
    /// Holders by number, each with what it would give.
    private struct Holders {
        var shelves: [PeerID: StateShelf] = [:]
        var silent: Set<PeerID> = []
        /// They offer, and send nothing.
        var mute: Set<PeerID> = []
        var late: Set<PeerID> = []
        var neverReady: Set<PeerID> = []
    }
    private let units = 0..<4
    private let truth = (0..<4).map { States.state($0, seed: 42) }

    private func fetch(
        _ sources: [Int: [PeerID]], roots: Bool = true, moments: Bool = true, needsMoments: Bool = false
    ) -> StateFetch {
        let agreed = Dictionary(uniqueKeysWithValues: truth.map { ($0.unit, States.roots($0)) })
        return StateFetch(
            round: 5, sources: sources, roots: roots ? agreed : [:], moments: moments, needsMoments: needsMoments,
            model: Small.model, offset: 3,
            at: .zero)
    }
    private func holders(_ states: [Int: [UnitState]]) -> Holders {
        var out = Holders()
        for (number, list) in states {
            var shelf = StateShelf()
            shelf.put(list, round: 5, keep: nil, at: .zero)
            out.shelves[Small.peer(number)] = shelf
        }
        return out
    }
    private struct Result {
        var isDone = false
        var wrong: [PeerID] = []
        var unavailable: [PeerID] = []
        var asked: [PeerID] = []
    }
    /// Answers everything that is asked until nothing is, waking it up to a limit.
    private func run(_ fetch: inout StateFetch, _ holders: inout Holders, limit: Duration = .seconds(120)) -> Result {
        var result = Result()
        var now = Instant.zero
        while !result.isDone {
            while let effect = fetch.poll() {
                switch effect {
                case .done: result.isDone = true
                case .wrong(let peer, _, _): result.wrong.append(peer)
                case .unavailable(let peer, _): result.unavailable.append(peer)
                case .send(let message, let peer):
                    result.asked.append(peer)
                    guard !holders.silent.contains(peer), holders.shelves[peer] != nil else { continue }
                    now += .milliseconds(1)
                    answer(message, peer, &fetch, &holders, at: now)
                }
            }
            guard !result.isDone, let next = fetch.nextWake, next <= .zero + limit else { break }
            now = max(now, next)
            holders.late = []
            fetch.wake(at: now)
        }
        return result
    }
    private func answer(
        _ message: Message, _ peer: PeerID, _ fetch: inout StateFetch, _ holders: inout Holders, at now: Instant
    ) {
        switch message {
        case .stateRequest(let request):
            if holders.late.contains(peer) || holders.neverReady.contains(peer) {
                return fetch.receive(
                    StateOffer(round: 5, parts: [], unavailable: "not yet"), from: peer, at: now)
            }
            var trimmed = request
            trimmed.units = request.units.filter { unit in
                holders.shelves[peer]!.offer(StateRequest(round: 5, units: [unit], moments: false)) != nil
            }
            if let offer = holders.shelves[peer]!.offer(trimmed) { fetch.receive(offer, from: peer, at: now) }
        case .indexRequest where holders.mute.contains(peer), .chunkRequest where holders.mute.contains(peer): break
        case .indexRequest(let id, let first):
            if let part = holders.shelves[peer]!.answer(indexOf: id, from: first, at: now) {
                fetch.receive(part, from: peer, at: now)
            }
        case .chunkRequest(let id, let number):
            if let bytes = holders.shelves[peer]!.answer(chunk: number, of: id, at: now) {
                fetch.receive(chunk: number, of: id, bytes, from: peer, at: now)
            } else {
                fetch.missing(chunk: number, of: id, at: peer, now: now)
            }
        default: Issue.record("\(message)")
        }
    }
    private func all(_ numbers: [Int]) -> [Int: [PeerID]] {
        Dictionary(uniqueKeysWithValues: units.map { ($0, numbers.map { Small.peer($0) }) })
    }

    @Test func `ends with what its holders agreed on`() {
        var fetch = fetch(all([1, 2]))
        var holders = holders([1: truth, 2: truth])
        let result = run(&fetch, &holders)
        #expect(result.isDone)
        #expect(fetch.states() == truth)
        #expect(fetch.inexact == [])
    }

    /// Its request was none that the other side takes, and it asked for ever.
    @Test func `asks who is named twice for each unit once`() {
        var fetch = fetch(all([1, 2, 1]))
        var asked: [[Int]] = []
        while let effect = fetch.poll() {
            if case .send(.stateRequest(let request), _) = effect { asked.append(request.units) }
        }
        #expect(asked == [Array(units), Array(units)])
    }

    @Test func `waits until they have agreed`() {
        var fetch = fetch(all([1]), roots: false)
        var holders = holders([1: truth])
        let early = run(&fetch, &holders, limit: .seconds(10))
        #expect(!early.isDone)
        fetch.agreed(truth.map { States.roots($0) }, at: .zero + .seconds(11))
        let result = run(&fetch, &holders)
        #expect(result.isDone)
        #expect(fetch.states() == truth)
    }

    @Test func `takes nothing from who offers another state, and names it`() {
        var fetch = fetch(all([1, 2, 3]))
        var holders = holders([1: (0..<4).map { States.state($0, seed: 9) }, 2: truth, 3: truth])
        let result = run(&fetch, &holders)
        #expect(result.isDone)
        #expect(Set(result.wrong) == [Small.peer(1)])
        #expect(fetch.states() == truth)
    }

    /// The only holder found out later than it was asked that it held something else.
    @Test func `takes it from who offered another state before, when it offers the right one`() {
        var fetch = fetch(all([1]))
        var holders = holders([1: (0..<4).map { States.state($0, seed: 9) }])
        let first = run(&fetch, &holders, limit: .seconds(60))
        #expect(!first.isDone)
        // Each unit is named once, however often it is asked.
        #expect(first.wrong.count == 4)
        #expect(first.asked.count >= 3 && first.asked.count <= 5)
        #expect(fetch.orphans == [0, 1, 2, 3])
        holders = self.holders([1: truth])
        let then = run(&fetch, &holders, limit: .seconds(200))
        #expect(then.isDone && then.wrong == [])
        #expect(fetch.states() == truth)
    }

    /// What nobody is asked for is nothing to wake up for.
    @Test func `never wants to be woken for what is past`() {
        var fetch = fetch(all([1, 2]))
        var holders = holders([1: truth, 2: truth])
        holders.silent = [Small.peer(2)]
        var now = Instant.zero
        for _ in 0..<100 {
            while let effect = fetch.poll() {
                if case .send(let message, let peer) = effect, peer == Small.peer(1) {
                    answer(message, peer, &fetch, &holders, at: now)
                }
            }
            guard let next = fetch.nextWake else { break }
            #expect(next > now)
            now = next
            fetch.wake(at: now)
        }
        #expect(fetch.states() == truth)
        #expect(now < .zero + .seconds(60))
    }

    @Test func `does without who is silent, late, or gone`() {
        var fetch = fetch(all([1, 2, 3]))
        var holders = holders([1: truth, 2: truth, 3: truth])
        holders.silent = [Small.peer(1)]
        holders.late = [Small.peer(2)]
        fetch.lost(Small.peer(3), at: .zero)
        let result = run(&fetch, &holders)
        #expect(result.isDone)
        #expect(result.unavailable == [Small.peer(2)])
        #expect(fetch.states() == truth)
    }

    /// It answers once what it holds, then no more. That another source is asked again and again is no sign of life of this one.
    @Test func `goes on without who offers and then sends nothing`() {
        var fetch = fetch(all([1, 2, 3]))
        var holders = holders([1: truth, 2: truth, 3: truth])
        holders.silent = [Small.peer(3)]
        holders.mute = [Small.peer(1)]
        let result = run(&fetch, &holders, limit: .seconds(60))
        #expect(result.isDone)
        #expect(fetch.states() == truth)
    }

    @Test func `hardly waits for who has nothing, so that it is done before the next round`() {
        var fetch = fetch(all([1, 2, 3]))
        var holders = holders([1: truth, 2: truth, 3: truth])
        holders.neverReady = [Small.peer(3)]
        let result = run(&fetch, &holders, limit: .seconds(1))
        #expect(result.isDone)
        #expect(result.unavailable == [Small.peer(3)])
        #expect(fetch.states() == truth)
    }

    @Test func `does not wait for who has nothing where the preferred holder offers`() {
        var holders = holders([1: truth, 2: truth, 3: truth])
        holders.neverReady = [Small.peer(3)]
        var first = fetch(all([1, 2, 3]))
        #expect(run(&first, &holders, limit: .milliseconds(200)).isDone)
        #expect(first.states() == truth)
        // Where the preferred one has nothing yet, it may have in a moment.
        var last = fetch(all([3, 1, 2]))
        #expect(!run(&last, &holders, limit: .milliseconds(200)).isDone)
        #expect(run(&last, &holders, limit: .seconds(1)).isDone)
    }

    @Test func `weights come while it is not decided whose moments are taken`() {
        var fetch = fetch(all([1, 2, 3]))
        var holders = holders([1: truth, 2: truth, 3: truth])
        holders.silent = [Small.peer(3)]
        #expect(!run(&fetch, &holders, limit: .seconds(1)).isDone)
        let early = fetch.progress
        #expect(early.have == early.of && early.have > 0)
        #expect(run(&fetch, &holders, limit: .seconds(3)).isDone)
        #expect(fetch.progress.of > early.of, "and then the moments")
        #expect(fetch.states() == truth)
        // All who offered are gone before: then without moments.
        var alone = self.fetch(all([1, 3]))
        #expect(!run(&alone, &holders, limit: .seconds(1)).isDone)
        for number in [1, 3] { alone.lost(Small.peer(number), at: .zero + .seconds(1)) }
        #expect(run(&alone, &holders, limit: .seconds(3)).isDone)
        #expect(alone.states().allSatisfy { $0.firstMoment.isEmpty && !$0.parameters.isEmpty })
    }

    /// A launcher's checkpoint was there first, and two holders of a unit were different after the next step.
    @Test func `no copy without moments is taken where all go on alike while somebody may have them`() {
        var copies = truth
        for unit in copies.indices { (copies[unit].firstMoment, copies[unit].secondMoment) = ([], []) }
        var holders = holders([1: truth, 2: copies])
        holders.silent = [Small.peer(1)]
        var fetch = fetch(all([1, 2]), needsMoments: true)
        #expect(!run(&fetch, &holders, limit: .seconds(30)).isDone)
        holders.silent = []
        #expect(run(&fetch, &holders, limit: .seconds(60)).isDone)
        #expect(fetch.states() == truth)
        // Where they differ from pipeline to pipeline anyway it is said, and they begin anew; and so it is where nobody is left.
        holders.silent = [Small.peer(1)]
        var rounds = self.fetch(all([1, 2]))
        #expect(run(&rounds, &holders, limit: .seconds(30)).isDone)
        #expect(rounds.states().allSatisfy { $0.firstMoment.isEmpty })
        var last = self.fetch(all([1, 2]), needsMoments: true)
        #expect(!run(&last, &holders, limit: .seconds(30)).isDone)
        last.lost(Small.peer(1), at: .zero + .seconds(31))
        #expect(run(&last, &holders, limit: .seconds(60)).isDone)
        #expect(last.states().allSatisfy { $0.firstMoment.isEmpty })
    }

    @Test func `moments are those of most, and it is told when there were others`() {
        var fetch = fetch(all([1, 2, 3]))
        let other = (0..<4).map { States.state($0, seed: 42, moments: 8) }
        var holders = holders([1: other, 2: truth, 3: truth])
        let result = run(&fetch, &holders)
        #expect(result.isDone)
        #expect(fetch.states() == truth)
        #expect(fetch.inexact == [0, 1, 2, 3])
    }

    @Test func `units come from whoever holds them`() {
        var sources: [Int: [PeerID]] = [:]
        for unit in units { sources[unit] = [Small.peer(unit < 2 ? 1 : 2)] }
        var fetch = fetch(sources, moments: false)
        var holders = holders([1: Array(truth[..<2]), 2: Array(truth[2...])])
        let result = run(&fetch, &holders)
        #expect(result.isDone)
        #expect(fetch.states().map(\.parameters) == truth.map(\.parameters))
        #expect(fetch.states().allSatisfy { $0.firstMoment.isEmpty })
    }

    @Test func `a unit that nobody holds any more is an orphan, until somebody does`() {
        var fetch = fetch(all([1]))
        var holders = holders([1: truth, 2: truth])
        fetch.lost(Small.peer(1), at: .zero)
        #expect(fetch.orphans == [0, 1, 2, 3])
        fetch.add(sources: all([2]), at: .zero + .seconds(1))
        let result = run(&fetch, &holders)
        #expect(result.isDone)
        #expect(fetch.states() == truth)
    }
}
