import Content
import Digests
public import Messages
import Primitives
import Record
import Telemetry
import Training

/// Units on their way to the coordinator: a checkpoint, or the end.
package struct Collection: Sendable {
    package let round: Int
    package let isFinal: Bool
    package var fetch: StateFetch
    /// How far it was, when it last got further, and when that was last said.
    package var progress = 0
    package var progressed: Instant
    package var said: Instant
    /// Since when some unit is with nobody who is here.
    package var lacksHolders: Instant?
    /// Nothing at all has come for this long: it will not.
    package static let patience = Duration.seconds(300)
    /// Nothing of a checkpoint has come for this long: a newer one is collected in its place.
    package static let checkpointPatience = Duration.seconds(10)
    private static let saying = Duration.seconds(2)

    package init(round: Int, isFinal: Bool, fetch: StateFetch, at now: Instant) {
        self.round = round
        self.isFinal = isFinal
        self.fetch = fetch
        progressed = now
        said = now
    }
    /// - Returns: what to say of it, now and then.
    package mutating func look(at now: Instant) -> Happening? {
        let (have, total) = fetch.progress
        if have != progress {
            progress = have
            progressed = now
        }
        guard isFinal, now - said >= Self.saying else { return nil }
        said = now
        return .collectionProgress(have: have, of: total)
    }
    /// Nobody could be heard for so long.
    package mutating func excuse(_ pause: Duration) {
        progressed += pause
        lacksHolders = lacksHolders.map { $0 + pause }
    }
    package func isGivenUp(at now: Instant) -> Bool { now - progressed >= Self.patience }
    package var nextWake: Instant? {
        earliest(fetch.nextWake, isFinal ? said + Self.saying : progressed + Self.patience)
    }
}

/// The last checkpoint: a source of states like any other, of its own round.
package struct Checkpoint: Sendable {
    package private(set) var round: Int?
    package private(set) var states: [UnitState] = []
    package var shelf = StateShelf()
    package init() {}

    package mutating func put(_ states: [UnitState], round: Int, at now: Instant) {
        shelf.removeAll()
        shelf.put(states, round: round, keep: nil, at: now)
        self.states = states
        self.round = round
    }
    /// What the log said of them.
    package var roots: [UnitRoots] {
        guard let round else { return [] }
        return shelf.offer(StateRequest(round: round, units: states.map(\.unit), moments: false))?.parts.map(\.roots)
            ?? []
    }
}

extension Coordinator {
    // MARK: serving

    /// Of the states that were collected last: the round whose start they are.
    public var collectedRound: Int? { checkpoint.round }

    /// Whether a request can be answered from what is here.
    public func serves(_ request: Message) -> Bool {
        guard !stage.isEnded else { return false }
        return switch request {
        case .indexRequest(let id, _), .chunkRequest(let id, _): text.holds(id) || checkpoint.shelf.shelf.holds(id)
        case .stateRequest(let request): checkpoint.round == request.round
        default: false
        }
    }

    /// What comes from, or goes to, anybody who may have contents of this job.
    mutating func receiveContent(_ message: Message, from peer: PeerID) {
        switch message {
        case .indexRequest(let id, let first):
            if let part = text.answer(indexOf: id, from: first, at: now)
                ?? checkpoint.shelf.answer(indexOf: id, from: first, at: now)
            {
                send(.indexPart(part), to: peer)
            }
        case .chunkRequest(let id, let number):
            let bytes =
                text.answer(chunk: number, of: id, at: now) ?? checkpoint.shelf.answer(chunk: number, of: id, at: now)
            // Before anybody has all of it, nothing can begin without; later others have it.
            if bytes == nil, number < text.chunks(of: id), state.plan == nil {
                fail(
                    "the job's text cannot be read any more, or is not what it was when the job was launched; put the file back, "
                        + "and launch the job again")
                return
            }
            send(
                bytes.map { .chunk(content: id, chunk: number, bytes: $0) }
                    ?? .chunkMissing(content: id, chunk: number), to: peer)
        case .stateRequest(let request):
            let offer = checkpoint.shelf.offer(request)
            let why = checkpoint.round.map { "the checkpoint is of round \($0)" } ?? "there is no checkpoint"
            send(.stateOffer(offer ?? StateOffer(round: request.round, parts: [], unavailable: why)), to: peer)
        case .stateOffer(let offer): collection?.fetch.receive(offer, from: peer, at: now)
        case .indexPart(let part): collection?.fetch.receive(part, from: peer, at: now)
        case .chunk(let id, let number, let bytes):
            collection?.fetch.receive(chunk: number, of: id, bytes, from: peer, at: now)
        case .chunkMissing(let id, let number): collection?.fetch.missing(chunk: number, of: id, at: peer, now: now)
        default: break
        }
    }

    // MARK: collecting

    private mutating func collect(final: Bool) {
        guard let plan = state.plan else { return }
        // With H = 1 the moments are the same at all holders; with rounds each pipeline has its own, and those of one do.
        let fetch = StateFetch(
            round: state.round, sources: finalHolders(plan), roots: state.agreed[state.round] ?? [:],
            moments: !final, model: parameters.model, offset: 0, room: options.room, at: now)
        collection = Collection(round: state.round, isFinal: final, fetch: fetch, at: now)
    }
    /// Who is here and has each unit as of the round that is over.
    private func finalHolders(_ plan: PlacedPlan) -> [Int: [PeerID]] {
        var sources: [Int: [PeerID]] = [:]
        // Where a plan has just changed, those of the one before have it, too.
        let before = state.plans.dropLast().last.flatMap { plan.round == state.round ? $0 : nil }
        for unit in parameters.model.allUnits {
            var holders = plan.holders(of: unit)
            for peer in before?.holders(of: unit) ?? [] where !holders.contains(peer) { holders.append(peer) }
            holders = holders.filter { state.isPresent($0) }
            // Different units of different holders first.
            let turn = holders.isEmpty ? 0 : unit % holders.count
            sources[unit] = Array(holders[turn...] + holders[..<turn])
        }
        return sources
    }

    mutating func beginCheckpoint() {
        guard stage.isRunning, state.spec != nil, parameters.checkpointRounds > 0,
            state.round % parameters.checkpointRounds == 0
        else { return }
        // One that comes in is not given up for the next, however short the rounds: else none would ever be complete.
        if let collection, now - collection.progressed < Collection.checkpointPatience { return }
        collect(final: false)
    }
    mutating func beginCollection() -> Bool {
        guard stage.isRunning, !awaitsLauncher() else { return false }
        stage.go(to: .collecting)
        event(.collectingWeights(round: state.round))
        collect(final: true)
        return true
    }

    mutating func stepCheckpoint() -> Bool {
        guard collection?.isFinal == false else { return false }
        guard collection?.isGivenUp(at: now) == false else {
            collection = nil
            return true
        }
        _ = collection!.look(at: now)
        return stepFetch()
    }
    mutating func stepCollection() -> Bool {
        guard collection != nil else { return false }
        if let what = collection!.look(at: now) { event(what) }
        if stepFetch() { return true }
        guard let collection else { return true }
        if let gone = collection.fetch.orphans.first { return waitForHolders(of: gone) }
        if let since = collection.lacksHolders {
            self.collection!.lacksHolders = nil
            event(.resumed(seconds: (now - since).inSeconds))
        }
        if agreement.isDisputed(collection.round), !state.isAgreed(collection.round) {
            return fallBack("holders of a unit do not agree on its weights, and nobody can say who is right")
        }
        if collection.isGivenUp(at: now) {
            return fallBack("nothing of the weights has come for \(fixed(Collection.patience.inSeconds, 0)) s")
        }
        return false
    }

    private static let returnedPatience = Duration.seconds(10)
    /// Away is not gone: what was trained to the end is not given up because its only holder is not heard just now.
    private mutating func waitForHolders(of unit: Int) -> Bool {
        // Who had it is here, and has it no more: another process. What it has on its disk may be worth a moment.
        let isLost = state.plan?.holders(of: unit).allSatisfy { state.isPresent($0) } ?? false
        let patience = isLost ? Self.returnedPatience : Self.standstillPatience
        guard let since = collection?.lacksHolders else {
            collection?.lacksHolders = now
            let seconds = fixed(patience.inSeconds, 0)
            event(.interrupted(why: "nobody is here who has unit \(unit); waiting \(seconds) s for who has it"))
            return true
        }
        if admit(roster.accepted), let plan = state.plan {
            let holders = finalHolders(plan)
            collection?.fetch.add(sources: holders, at: now)
            return true
        }
        guard now - since >= patience else { return false }
        // It is trained again, from the newest round that all units can be had of.
        collection = nil
        stage.trainsAgain()
        desk.want(.rollBack, "unit \(unit) was lost with its last holder")
        return true
    }

    /// One effect of the fetch.
    private mutating func stepFetch() -> Bool {
        guard let effect = collection?.fetch.poll() else {
            if let due = collection?.fetch.nextWake, due <= now { collection!.fetch.wake(at: now) }
            guard let effect = collection?.fetch.poll() else { return false }
            perform(effect)
            return true
        }
        perform(effect)
        return true
    }
    private mutating func perform(_ effect: StateFetch.Effect) {
        switch effect {
        case .send(let message, let peer): send(message, to: peer)
        case .wrong(let peer, let unit, _): event(.stateWrong(unit: unit), peer: peer)
        case .unavailable(let peer, let why): event(.stateUnavailable(why: why), peer: peer)
        case .done: collected()
        }
    }
    private mutating func collected() {
        guard var done = collection else { return }
        collection = nil
        let states = done.fetch.wantedUnits.compactMap { done.fetch.take($0) }
        checkpoint.put(states, round: done.round, at: now)
        if done.isFinal { return keepResult(states, round: done.round) }
        effects.push(.store(.checkpoint(job: job, round: done.round, states)))
    }

    /// With the weights that were collected last.
    mutating func finishWithCheckpoint() {
        guard let weights = weightsDigest(of: checkpoint.states) else {
            _ = fail("the weights that were collected cannot be read back from this machine's disk")
            return
        }
        finish(checkpoint.states, weights: weights)
    }

    /// The last checkpoint is the result, if there is one.
    private mutating func fallBack(_ why: String) -> Bool {
        collection = nil
        guard let round = checkpoint.round, round > 0 else { return fail("\(why), and no checkpoint was made") }
        event(.rolledBack(round: round, why: why))
        finishWithCheckpoint()
        return true
    }
}
