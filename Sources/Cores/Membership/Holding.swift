import Primitives
import Telemetry
import Training
import Wire

/// Units on their way into the engine, as of the start of `round`.
struct StateMove: Sendable {
    let units: Range<Int>
    let round: Int
    let epoch: Int
    var arrived: [Int: UnitState] = [:]
    /// Who was asked last, how often, and when.
    var asked: (peer: PeerID, at: Instant)?
    var tries = 0
    /// Answers "unavailable" since the last pause: after a few the next request waits for the next wake.
    var refusals = 0
    var importing = false
    static let patience = Duration.seconds(20)
}

/// Moving weights between peers: a replacement takes them from its layer group, the coordinator collects checkpoints.
extension MemberJob {
    mutating func beginMove(to units: Range<Int>, plan: PlacedPlan) {
        abandonRunner()
        generation += 1
        contributed = nil
        applying = nil
        missingSince = nil
        group = nil
        let round = state.round
        // The last stage goes backward at once and keeps one micro-batch; the others as many as are in flight.
        let isLast = units.upperBound == parameters.model.unitCount
        let kept = isLast ? 1 : placement.map { plan.pipelines[$0.rank].inFlight } ?? 1
        let recompute = placement.map { plan.pipelines[$0.rank].stages[$0.stage].recompute } ?? false
        let needed = parameters.model.memory(
            units: units, rounds: plan.mode == .rounds, sequences: parameters.microBatch, inFlight: kept,
            recompute: recompute)
        guard needed <= memoryOffered else {
            var packet = PBPacket()
            packet.farewell.reason =
                "units \(units.lowerBound)..<\(units.upperBound) need \(needed); I offer \(memoryOffered)"
            send(packet, on: .control, to: launcher)
            event("placement_refused", ["why": .text(packet.farewell.reason)])
            holding = .nothing
            return
        }
        var waits = false
        if case .units(let held, round) = holding, retainedRound != round {
            waits = true
            export(held, round: round)
        }
        holding = .moving(StateMove(units: units, round: round, epoch: plan.epoch))
        if !waits { continueMove(generation) }
    }

    /// Asks for the next missing units, or loads the engine when all are here.
    mutating func continueMove(_ generation: Int) {
        guard generation == self.generation, case .moving(var move) = holding, !move.importing, let plan = state.plan
        else {
            return
        }
        var states: [UnitState] = []
        var missing: [(unit: Int, sources: [PeerID])] = []
        for unit in move.units {
            if let state = move.arrived[unit] ?? (retainedRound == move.round ? retained[unit] : nil) {
                states.append(state)
                continue
            }
            let candidates = plan.round == move.round ? plan.sources[unit] ?? [] : plan.holders(of: unit) + [launcher]
            let sources = candidates.filter { $0 != me && ($0 == launcher || state.isPresent($0)) }
            if sources.isEmpty, move.round == 0 { continue }  // drawn from the seed by `configure`
            missing.append((unit, sources))
        }
        guard let first = missing.first else {
            move.importing = true
            holding = .moving(move)
            recomputes = placement.map { plan.pipelines[$0.rank].stages[$0.stage].recompute } ?? false
            compute(
                .configure(parameters.configuration(units: move.units, plan: plan, recompute: recomputes)), .ignored)
            compute(.importState(states), .imported(generation: generation))
            return
        }
        if let asked = move.asked, asked.at + StateMove.patience > now {
            holding = .moving(move)
            return
        }
        guard !first.sources.isEmpty else {
            holding = .moving(move)
            return
        }
        let source = first.sources[(move.tries + Int(me.bytes[1])) % first.sources.count]
        // Everything else that the same peer can give comes along.
        let units = missing.filter { $0.sources.contains(source) }.map(\.unit)
        move.asked = (source, now)
        move.tries += 1
        holding = .moving(move)
        var packet = PBPacket()
        packet.stateRequest.round = UInt64(move.round)
        packet.stateRequest.units = units.map { UInt32($0) }
        packet.stateRequest.moments = true
        send(packet, on: .control, to: source)
        event(
            "state_requested", peer: state.name(of: source),
            ["units": .text("\(units)"), "round": .integer(move.round)])
    }

    /// At every heartbeat: ask again where nobody had what is missing.
    mutating func retryMove() {
        guard case .moving(var move) = holding, exporting == 0 else { return }
        move.refusals = 0
        holding = .moving(move)
        continueMove(generation)
    }

    mutating func receive(_ message: PBState, payload: [UInt8], from peer: PeerID) {
        guard case .moving(var move) = holding, move.asked?.peer == peer, Int(clamping: message.round) == move.round
        else {
            return
        }
        move.asked = nil
        do throws(MalformedBytes) {
            for state in try decodeState(message, payload: payload, model: parameters.model) {
                move.arrived[state.unit] = state
            }
        } catch {
            event("state_malformed", peer: state.name(of: peer), ["why": .text(error.description)])
        }
        if !message.unavailable.isEmpty {
            event("state_unavailable", peer: state.name(of: peer), ["why": .text(message.unavailable)])
            move.refusals += 1
        }
        holding = .moving(move)
        if move.refusals < 4 { continueMove(generation) }
    }

    mutating func finishMove(_ generation: Int) {
        guard generation == self.generation, case .moving(let move) = holding else { return }
        holding = .units(move.units, round: move.round)
        readyReported = nil
        event(
            "state_ready",
            ["round": .integer(move.round), "units": .text("\(move.units.lowerBound)..<\(move.units.upperBound)")])
    }

    // MARK: serving

    mutating func receive(_ message: PBStateRequest, from peer: PeerID) {
        guard requests.count < 1024, message.units.count <= parameters.model.unitCount else { return }
        requests.append(
            WaitingRequest(
                from: peer, round: Int(clamping: message.round), units: message.units.map { Int($0) }.sorted(),
                moments: message.moments))
        serveRequests()
    }

    /// Answers what can be answered now; the rest waits until this peer gets to that round.
    mutating func serveRequests() {
        var waiting: [WaitingRequest] = []
        for request in requests {
            if retainedRound == request.round, request.units.allSatisfy({ retained[$0] != nil }) {
                sendState(request.units.map { retained[$0]! }, round: request.round, to: request.from)
                continue
            }
            switch holding {
            case .units(let units, request.round) where applying != request.round:
                guard let first = request.units.first, let last = request.units.last, units.contains(first),
                    units.contains(last)
                else {
                    refuse(request, "units not held here")
                    continue
                }
                compute(
                    .exportState(units: first..<last + 1, includeMoments: request.moments),
                    .export(to: request.from, round: request.round))
            case .units(_, let round) where round > request.round || applying == request.round:
                refuse(request, "already past round \(request.round)")
            case .nothing where exporting > 0: waiting.append(request)
            case .nothing: refuse(request, "nothing held here")
            default: waiting.append(request)
            }
        }
        requests = waiting
    }

    private mutating func refuse(_ request: WaitingRequest, _ why: String) {
        var packet = PBPacket()
        packet.state.round = UInt64(request.round)
        packet.state.unavailable = why
        send(packet, on: .control, to: request.from)
    }

    mutating func sendState(_ units: [UnitState], round: Int, to peer: PeerID) {
        let (message, payload) = encodeState(units, round: round)
        var packet = PBPacket()
        packet.state = message
        send(packet, payload: payload, on: .bulk, to: peer)
    }
}

func encodeState(_ units: [UnitState], round: Int) -> (PBState, [UInt8]) {
    var message = PBState()
    message.round = UInt64(round)
    var payload: [UInt8] = []
    payload.reserveCapacity(units.reduce(0) { $0 + $1.parameters.count * 4 })
    for unit in units {
        var part = PBState.Part()
        part.unit = UInt32(unit.unit)
        part.parameters = UInt32(unit.parameters.count)
        part.outerMomentum = UInt32(unit.outerMomentum.count)
        part.firstMoment = UInt32(unit.firstMoment.count)
        part.secondMoment = UInt32(unit.secondMoment.count)
        part.optimizerSteps = UInt64(unit.optimizerSteps)
        message.parts.append(part)
        payload += unit.parameters
        payload += unit.outerMomentum
        payload += unit.firstMoment
        payload += unit.secondMoment
    }
    return (message, payload)
}

/// Checks every length against the model before anything is copied.
func decodeState(_ message: PBState, payload: [UInt8], model: ModelShape) throws(MalformedBytes) -> [UnitState] {
    var reader = ByteReader(payload)
    var out: [UnitState] = []
    for part in message.parts {
        let unit = Int(part.unit)
        guard unit < model.unitCount else { throw MalformedBytes("unit \(unit) of \(model.unitCount)") }
        let bytes = model.parameters(unit: unit) * 4
        guard Int(part.parameters) == bytes else {
            throw MalformedBytes("unit \(unit) has \(part.parameters) bytes, not \(bytes)")
        }
        for size in [part.outerMomentum, part.firstMoment, part.secondMoment] where size != 0 && Int(size) != bytes {
            throw MalformedBytes("state of unit \(unit) has \(size) bytes, not \(bytes)")
        }
        out.append(
            UnitState(
                unit: unit, parameters: Array(try reader.take(Int(part.parameters))),
                outerMomentum: Array(try reader.take(Int(part.outerMomentum))),
                firstMoment: Array(try reader.take(Int(part.firstMoment))),
                secondMoment: Array(try reader.take(Int(part.secondMoment))),
                optimizerSteps: Int(clamping: part.optimizerSteps)))
    }
    try reader.finish()
    return out
}
