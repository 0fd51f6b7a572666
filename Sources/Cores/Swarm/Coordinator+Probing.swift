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
        survey = LinkSurvey(of: members.map(\.peer), why: "the first plan", turn: surveyTurn, at: now)
        advance()
    }

    func joined(_ member: Candidate) -> PBMembers.Joined {
        var entry = PBMembers.Joined()
        entry.peer = bytesOf(member.peer)
        entry.endpoint = bytesOf(member.endpoint.compact)
        entry.name = member.name
        return entry
    }

    /// Goes on with the survey in progress, if any.
    mutating func advanceSurvey() {
        guard var survey, survey.isDue(at: now) else { return }
        let orders = survey.next(
            most: options.probeBytes, trip: { candidates[$0]?.roundTrip ?? .zero }, at: now)
        surveyTurn = survey.turn
        guard let orders else { return surveyed(survey) }
        self.survey = survey
        for order in orders {
            var packet = PBPacket()
            packet.probeOrder.turn = surveyTurn
            packet.probeOrder.ping = order.pings.map { target($0) }
            packet.probeOrder.bursts = order.bursts.map { peer, bytes, after in
                var burst = PBProbeOrder.Burst()
                burst.to = target(peer)
                burst.bytes = UInt32(bytes)
                burst.microseconds = UInt32(after.wholeNanoseconds / 1000)
                return burst
            }
            packet.probeOrder.senders = order.senders.map { bytesOf($0) }
            packet.probeOrder.milliseconds = UInt32(LinkSurvey.reportAfter.inMilliseconds)
            send(packet, to: order.to)
        }
    }
    private func target(_ peer: PeerID) -> PBProbeOrder.Target {
        var target = PBProbeOrder.Target()
        target.peer = bytesOf(peer)
        if let candidate = candidates[peer] { target.endpoint = bytesOf(candidate.endpoint.compact) }
        return target
    }

    private mutating func surveyed(_ survey: LinkSurvey) {
        self.survey = nil
        links.merge(survey.found)
        func range(_ rates: [PeerID: Double]) -> String {
            let rates = members.compactMap { rates[$0.peer] }
            guard let least = rates.min(), let most = rates.max() else { return "unknown" }
            return "\(fixed(least / 1e6, least < 1e7 ? 1 : 0))-\(fixed(most / 1e6, most < 1e7 ? 1 : 0))"
        }
        event(
            "links_measured",
            [
                "peers": .integer(members.count), "up_mbps": .text(range(links.up)),
                "down_mbps": .text(range(links.down)),
            ])
        question(reason: survey.why)
    }

    /// A line or a pair's rate; nil when nothing is known.
    func line(_ bitsPerSecond: Double?) -> BitRate? { bitsPerSecond.map { BitRate(bitsPerSecond: $0) } }

    /// Members that came later are measured with some of the others; then they are planned with.
    mutating func measure(_ newcomers: [PeerID], why: String) {
        survey = LinkSurvey(
            of: newcomers, among: members.map(\.peer), why: why, before: links, turn: surveyTurn, at: now)
    }

    /// Rounds take other than predicted, and no peer's speed explains it: perhaps a line is not what it was.
    mutating func watchPace(_ seconds: Double, steps: Int) {
        guard phase == .training, survey == nil, let answer,
            let ratio = paces.sealed(seconds / answer.seconds(ofSteps: steps))
        else { return }
        let factor = fixed(ratio > 1 ? ratio : 1 / ratio, 1)
        let why = "rounds are \(factor) × \(ratio > 1 ? "slower" : "faster") than predicted"
        event("measuring_links", ["peers": .integer(members.count), "why": .text(why)])
        survey = LinkSurvey(
            of: members.map(\.peer), why: why, before: links, rings: 3, turn: surveyTurn, at: now)
    }

    /// Puts what is known to the planner.
    mutating func question(reason: String, rollBack: Bool = false) {
        if phase == .probing { phase = .planning }
        guard planningFor == nil else {
            wantsPlan = reason
            return
        }
        planningFor = (reason, rollBack)
        let members = self.members
        let caps = links.caps(among: members.map(\.peer)).mapValues { $0.mapValues { BitRate(bitsPerSecond: $0) } }
        let question = PlanQuestion(
            manifest: manifest, textBytes: contentBytes.count,
            candidates: members.map { member in
                PlanQuestion.Candidate(
                    peer: member.peer, name: member.name, device: member.capability!.device,
                    flops: speed(of: member.peer),
                    memory: ByteCount(Int(clamping: member.capability!.memoryBytes)),
                    up: line(links.up[member.peer]), down: line(links.down[member.peer]),
                    coordinatorRoundTrip: member.roundTrip)
            }, roundTrips: links.roundTrips, caps: caps, current: state.plan,
            tokensLeft: max(1, state.tokens - state.sealedTokens),
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
            } else if wantsPlan == nil {
                // More has become known since it was asked: the next answer counts.
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
