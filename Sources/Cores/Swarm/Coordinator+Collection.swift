import Digests
import Primitives
import Telemetry
import Training
import Wire

/// Units on their way to the coordinator: a checkpoint, or the end.
struct Collection: Sendable {
    let round: Int
    let isFinal: Bool
    var states: [Int: UnitState] = [:]
    var asked: [Int: PeerID] = [:]
    var tries: [Int: Int] = [:]
    var deadline: Instant
}

extension Coordinator {
    mutating func beginCollection() {
        guard phase != .collecting, phase != .ended else { return }
        phase = .collecting
        event("collecting_weights", ["round": .integer(state.round)])
        collect(final: true)
    }

    mutating func collect(final: Bool) {
        collection = Collection(round: state.round, isFinal: final, deadline: now + .seconds(60))
        askForUnits()
    }

    private mutating func askForUnits() {
        guard var collection, let plan = state.plan else { return }
        var requests: [PeerID: [Int]] = [:]
        for unit in parameters.model.allUnits where collection.states[unit] == nil && collection.asked[unit] == nil {
            let holders = plan.holders(of: unit).filter { state.isPresent($0) }
            guard !holders.isEmpty else { continue }
            let holder = holders[(unit + (collection.tries[unit] ?? 0)) % holders.count]
            collection.asked[unit] = holder
            requests[holder, default: []].append(unit)
        }
        self.collection = collection
        for holder in requests.keys.sorted() {
            // One request for each run of adjacent units.
            var run: [Int] = []
            for unit in requests[holder]! + [-1] {
                if let last = run.last, unit != last + 1 {
                    var packet = PBPacket()
                    packet.stateRequest.round = UInt64(collection.round)
                    packet.stateRequest.units = run.map { UInt32($0) }
                    // With H = 1 the moments are part of what all holders agree on; with rounds each pipeline has its own.
                    packet.stateRequest.moments = !collection.isFinal && plan.mode == .everyStep
                    send(packet, to: holder)
                    run = []
                }
                run.append(unit)
            }
        }
    }

    mutating func receive(_ message: PBState, payload: [UInt8], from peer: PeerID) {
        guard var collection, Int(clamping: message.round) == collection.round else { return }
        do throws(MalformedBytes) {
            for state in try decodeState(message, payload: payload, model: parameters.model) {
                guard collection.asked[state.unit] == peer else { continue }
                let digest = ContentIndex.id(of: state.parameters)
                let known = appliedDigests[collection.round - 1]?[state.unit] ?? [:]
                if !known.isEmpty, !known.values.contains(digest) {
                    event("state_refused", peer: peer, ["unit": .integer(state.unit)])
                    collection.asked[state.unit] = nil
                    collection.tries[state.unit, default: 0] += 1
                    continue
                }
                collection.states[state.unit] = state
            }
        } catch {
            event("state_malformed", peer: peer, ["why": .text(error.description)])
        }
        if !message.unavailable.isEmpty {
            for (unit, holder) in collection.asked where holder == peer && collection.states[unit] == nil {
                collection.asked[unit] = nil
                collection.tries[unit, default: 0] += 1
            }
        }
        self.collection = collection
        // A periodic checkpoint whose round has passed is simply dropped.
        if collection.isFinal || collection.round == state.round { askForUnits() }
        advanceCollection()
    }

    /// The last checkpoint is a source like any other, of its own round.
    mutating func serve(_ request: PBStateRequest, to peer: PeerID) {
        guard isMember(peer) else { return }
        var packet = PBPacket()
        let round = Int(clamping: request.round)
        let units = checkpoint.filter { state in request.units.contains { Int($0) == state.unit } }
        guard checkpointRound == round, !units.isEmpty else {
            packet.state.round = request.round
            packet.state.unavailable = "the checkpoint is of round \(checkpointRound)"
            return send(packet, to: peer)
        }
        let (message, payload) = encodeState(units, round: round)
        packet.state = message
        send(packet, payload: payload, on: .bulk, to: peer)
    }

    mutating func collectionLost(_ peer: PeerID) {
        guard var collection else { return }
        for (unit, holder) in collection.asked where holder == peer && collection.states[unit] == nil {
            collection.asked[unit] = nil
            collection.tries[unit, default: 0] += 1
        }
        self.collection = collection
        askForUnits()
        advanceCollection()
    }

    mutating func advanceCollection() {
        guard let collection else { return }
        let units = parameters.model.allUnits
        if collection.states.count == units.count {
            let states = units.map { collection.states[$0]! }
            self.collection = nil
            checkpointRound = collection.round
            checkpoint = states
            if collection.isFinal { return finish(states) }
            effects.push(.storeCheckpoint(round: collection.round, states))
            event("checkpoint_saved", ["round": .integer(collection.round)])
            return
        }
        guard collection.isFinal else { return }
        if let gone = units.first(where: { unit in
            collection.states[unit] == nil && state.plan!.holders(of: unit).allSatisfy { !state.isPresent($0) }
        }) {
            guard checkpointRound >= 0 else {
                return fail("unit \(gone) was lost with its last holder, and no checkpoint was made")
            }
            event(
                "rolled_back",
                ["round": .integer(checkpointRound), "why": .text("unit \(gone) was lost with its last holder")])
            return finish(checkpoint)
        }
        if collection.deadline <= now {
            self.collection!.asked = [:]
            self.collection!.deadline = now + .seconds(60)
            for unit in units { self.collection!.tries[unit, default: 0] += 1 }
            askForUnits()
        }
    }

    private mutating func finish(_ states: [UnitState]) {
        var hash = SHA256Stream()
        for state in states { hash.update(state.parameters) }
        var body = PBFinish()
        body.reason = "done"
        body.weights = bytesOf(hash.finish())
        append(.finish(body))
        farewell("done")
        phase = .ended
        ended = now
        effects.push(.ended(.finished(states)))
    }
}
