import Exchange
import Primitives
import Telemetry
import Wire

/// Measuring links and asking for the first plan.
extension Coordinator {
    /// Members learn of each other, so that the text spreads among them; links are measured when that is over.
    mutating func beginSharing() {
        phase = .sharing
        sharingSince = now
        var members = PBMembers()
        for member in self.members { members.joined.append(joined(member)) }
        append(.members(members))
        for member in self.members {
            sendLog(to: member.peer, from: 0)
        }
        event("sharing_text", ["peers": .integer(self.members.count), "bytes": .integer(contentBytes.count)])
        advance()
    }

    mutating func beginProbing() {
        phase = .probing
        for member in members { for _ in 0..<3 { ping(member.peer) } }
        event("measuring_links", ["peers": .integer(self.members.count)])
        probeRound = 0
        nextProbeRound()
    }

    func joined(_ member: Candidate) -> PBMembers.Joined {
        var entry = PBMembers.Joined()
        entry.peer = bytesOf(member.peer)
        entry.endpoint = bytesOf(member.endpoint.compact)
        entry.name = member.name
        return entry
    }

    /// Round k: everybody pings everybody (once) and sends a burst to the k-th next, so that each access line carries one
    /// burst out and one in at a time.
    mutating func nextProbeRound() {
        let present = members
        probeRound += 1
        guard present.count > 1, probeRound <= min(3, present.count - 1) else {
            return question(reason: "the first plan")
        }
        probeWaiting = []
        probePings = probeRound == 1 ? Set(present.map(\.peer)) : []
        for (index, member) in present.enumerated() {
            var packet = PBPacket()
            let nonce = UInt64(probeRound) << 32 | UInt64(index)
            packet.probeOrder.nonce = nonce
            probeWaiting.insert(nonce)
            if probeRound == 1 {
                packet.probeOrder.ping = present.filter { $0.peer != member.peer }.map { target($0) }
            }
            packet.probeOrder.burstTo = target(present[(index + probeRound) % present.count])
            packet.probeOrder.burstBytes = UInt32(options.probeBytes)
            send(packet, to: member.peer)
        }
        probeDeadline = now + .seconds(8)
    }
    private func target(_ candidate: Candidate) -> PBProbeOrder.Target {
        var target = PBProbeOrder.Target()
        target.peer = bytesOf(candidate.peer)
        target.endpoint = bytesOf(candidate.endpoint.compact)
        return target
    }

    mutating func receive(_ result: PBProbeResult, from peer: PeerID) {
        guard phase == .probing else { return }
        for trip in result.roundTrips where trip.nanoseconds > 0 {
            guard let other = PeerID(trip.peer), candidates[other] != nil else { continue }
            let pair = PlanQuestion.Pair(from: peer, to: other)
            let time = Duration.nanoseconds(Int64(clamping: trip.nanoseconds))
            roundTrips[pair] = min(roundTrips[pair] ?? time, time)
        }
        if !result.roundTrips.isEmpty { probePings.remove(peer) }
        if let sender = PeerID(result.burstFrom), candidates[sender] != nil, result.burstNanoseconds > 0 {
            // What one burst saw is the lesser of the sender's up and the receiver's down line: each line is at least that.
            let rate = BitRate(bitsPerSecond: Double(result.burstBytes) * 8e9 / Double(result.burstNanoseconds))
            candidates[sender]!.up = max(candidates[sender]!.up ?? rate, rate)
            candidates[peer]!.down = max(candidates[peer]!.down ?? rate, rate)
            probeWaiting.remove(result.nonce)
        }
        if probeWaiting.isEmpty, !probePings.isEmpty { probeWaiting.insert(.max) }
        if probePings.isEmpty { probeWaiting.remove(.max) }
    }

    /// Puts what is known to the planner.
    mutating func question(reason: String, rollBack: Bool = false) {
        if phase == .probing { phase = .planning }
        guard planningFor == nil else {
            wantsPlan = reason
            return
        }
        planningFor = (reason, rollBack)
        let question = PlanQuestion(
            manifest: manifest,
            candidates: members.map { member in
                PlanQuestion.Candidate(
                    peer: member.peer, name: member.name, device: member.capability!.device,
                    flops: speed(of: member.peer),
                    memory: ByteCount(Int(clamping: member.capability!.memoryBytes)), up: member.up, down: member.down,
                    coordinatorRoundTrip: member.roundTrip)
            }, roundTrips: roundTrips, current: state.plan, tokensLeft: max(1, state.tokens - state.sealedTokens),
            seed: parameters.seed)
        event("planning", ["why": .text(reason), "peers": .integer(members.count)])
        effects.push(.plan(question))
    }

    /// The planner's answer, or why nothing fits.
    public mutating func planned(_ result: Result<PlanAnswer, PlanRefusal>, at now: Instant) {
        self.now = now
        guard phase != .ended, let purpose = planningFor else { return }
        planningFor = nil
        switch result {
        case .failure(let refusal):
            if state.plan == nil || purpose.rollBack {
                fail(refusal.description)
            } else {
                event("plan_refused", ["why": .text(refusal.description)])
            }
        case .success(let answer):
            // Somebody may have left while the planner thought.
            let peers = answer.plan.peers
            guard peers.allSatisfy({ isMember($0) }) else {
                return question(reason: purpose.reason, rollBack: purpose.rollBack)
            }
            if state.plan == nil {
                begin(answer)
            } else if purpose.rollBack {
                rollBack(to: answer, reason: purpose.reason)
            } else {
                readyAnswer = (answer, purpose.reason)
            }
            if let again = wantsPlan {
                wantsPlan = nil
                question(reason: again)
            }
        }
        advance()
    }

    /// Who holds layers, in rank and stage order.
    mutating func tellPlacement(_ plan: PlacedPlan) {
        let workers = plan.peers.map { candidates[$0]?.name ?? $0.short }
        event("placed", ["workers": .text(workers.joined(separator: ","))])
    }

    private mutating func begin(_ answer: PlanAnswer) {
        self.answer = answer
        predictionAtStart = answer
        var plan = answer.plan
        plan.epoch = 1
        plan.round = 0
        plan.spares = members.map(\.peer).filter { !plan.peers.contains($0) }
        setWay(&plan)
        event(
            "planned",
            [
                "epoch": .integer(1), "pipelines": .integer(plan.pipelines.count),
                "stages": .integer(plan.pipelines.map(\.stages.count).max() ?? 0),
                "inner_steps": .integer(plan.innerSteps),
                "codec": .text(plan.exchangeCodec.description), "activations": .text(plan.activationCodec.description),
                "exchange": .text(plan.exchangeWay.description),
                "step_seconds": .real(answer.roundSeconds / Double(plan.innerSteps)),
                "total_seconds": .real(answer.totalSeconds),
            ])
        tellPlacement(plan)
        tellWay(plan)
        phase = .preparing
        append(.plan(plan.message(reason: "the first plan")))
        beginRound()
    }
}

/// Why the planner found nothing, and what to try.
public struct PlanRefusal: Error, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
