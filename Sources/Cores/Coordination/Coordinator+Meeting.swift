import Digests
import Messages
import Primitives
import Record
import Telemetry
import Wire

/// Peers that come: what they can do, whether they work for us, when they are written into the log.
extension Coordinator {
    mutating func receiveMeeting(_ message: Message, from peer: PeerID) {
        switch message {
        case .capability(let capability): receive(capability, from: peer)
        case .offerAnswer(let answer): receive(answer, from: peer)
        case .pong(let nonce):
            if let trip = lines.pong(nonce, from: peer, at: now) { roster.trip(trip, peer) }
        default: break
        }
    }

    private mutating func receive(_ capability: Capability, from peer: PeerID) {
        // A member says how fast it is at this job's work, once it has measured.
        if roster.isJoined(peer), capability.job == record.job.short { return roster.measures(capability.flops, peer) }
        guard let known = roster[peer], known.mayJoin else { return }
        guard capability.numerics == Record.numerics else {
            let why = "numerics \(capability.numerics), this job needs \(Record.numerics)"
            guard roster.declines(peer, why: why, at: now) else { return }
            return event(.peerUnfit(why: why), peer: peer)
        }
        // Whoever declined is asked again and again: it was found once.
        let isNews = known.capability == nil || known.times.declined == 0
        roster.says(capability, peer)
        // A longer list is said in part.
        let isAccepted =
            capability.accepts.count >= Capability.mostAccepted
            || PeerID(record.envelopes[0].signer).map { capability.accepts.contains($0) } ?? false
        roster.accepts(launcher: isAccepted ? launcher : nil, peer)
        if isNews {
            event(
                .peerFound(
                    device: capability.device, gflops: capability.flops / 1e9,
                    memoryMib: Double(capability.memory.bytes) / 1_048_576), peer: peer)
        }
        // Whoever computes nothing is of use to a job that several carry.
        if capability.computes || parameters.isCarriedByMany { offer(to: peer) }
    }
    mutating func offer(to peer: PeerID) {
        send(.offer(Offer(genesis: record.envelopes[0], electors: record.electorChanges)), to: peer)
    }

    private mutating func receive(_ answer: OfferAnswer, from peer: PeerID) {
        if let why = answer.refusal {
            guard roster[peer]?.mayJoin == true else { return }
            guard roster.declines(peer, why: why, at: now) else { return }
            return event(.peerDeclined(why: why), peer: peer)
        }
        if roster.accepts(peer, at: now) { event(.peerJoined, peer: peer) }
    }

    /// From a peer that has accepted and is not in the log yet: it may fetch the text, and say how far it is.
    mutating func receiveBeforeJoining(_ message: Message, from peer: PeerID) {
        switch message {
        case .readiness(let readiness): roster.isReady(readiness, peer, at: now)
        case .kept(let stages): roster.keeps(stages, peer, round: state.round)
        case .fitness(let fitness): roster.isFit(fitness, peer)
        case .heartbeat(let heartbeat):
            noticeProcessor(of: peer, heartbeat.processorShare)
            roster.beats(heartbeat, peer, at: now)
        case .farewell(let reason): lose(peer, reason: reason, saidGoodbye: true)
        case .indexRequest, .chunkRequest: receiveContent(message, from: peer)
        default: break
        }
    }

    /// Peers that have accepted are written into the log.
    @discardableResult
    mutating func admit(_ peers: [Roster.Peer]) -> Bool {
        guard !peers.isEmpty else { return false }
        guard propose(.members(MembersChange(joined: peers.map { joined($0) }, round: state.round))) else {
            return false
        }
        for peer in peers {
            roster.joins(peer.peer, in: state.round)
            catchUp(peer.peer, from: 0)
        }
        return true
    }
    /// Committed entries from an index on; whoever lacks more asks.
    mutating func catchUp(_ peer: PeerID, from index: Int) {
        if let entries = record.entries(from: index) { send(.logEntries(entries), to: peer) }
    }

    /// Whoever waits to be written into the log, and holds nothing of the round in progress, is not kept waiting by a round that takes
    /// long.
    mutating func admitWaiting() -> Bool {
        guard roster.acceptedCount > 0, !lines.isSurveying else { return false }
        return admit(
            roster.accepted.filter { peer in
                now - peer.idleSince >= Self.admissionPatience && state.plan?.placement(of: peer.peer) == nil
                    && state.nextPlan?.placement(of: peer.peer) == nil
            })
    }
    private static let admissionPatience = Duration.seconds(10)
    /// Members that are somewhere else than the log says: all others learn of it.
    mutating func tellMoves() {
        guard timers.movesTold.map({ now - $0 >= .seconds(10) }) ?? true else { return }
        let moved = roster.joined.filter { peer in
            state.member(peer.peer).map { $0.present && $0.endpoint != peer.endpoint } ?? false
        }
        guard !moved.isEmpty else { return }
        timers.movesTold = now
        propose(.members(MembersChange(joined: moved.map { joined($0) }, round: state.round)))
    }
    private func joined(_ peer: Roster.Peer) -> MembersChange.Joined {
        MembersChange.Joined(
            peer: peer.peer, endpoint: peer.endpoint, name: peer.name, device: peer.capability?.device ?? "",
            memory: peer.capability?.memory ?? ByteCount(0), flops: peer.capability?.flops ?? 0)
    }

    // MARK: gathering

    mutating func stepGathering(since: Instant, said: Instant) -> Bool {
        let accepted = roster.workerCount
        let isQuiet = now - roster.lastArrival >= options.quiet
        let isEnough =
            accepted >= options.neededPeers
            && (options.expectedPeers.map { accepted >= $0 } ?? (accepted > 0 && isQuiet))
        if isEnough, !waitsForHolders(since: since) { return beginSharing() }
        // Others may still come: only where as many have declined as were wanted, and nobody new has been met for a while.
        if accepted == 0, roster.declinedCount >= max(1, options.expectedPeers ?? 1),
            now - max(roster.lastArrival, roster.lastMet) >= options.quiet + .seconds(2), roster.declineForGood
        {
            let count = roster.declinedCount
            return fail(
                "\(count == 1 ? "the only peer found does not work" : "none of the \(count) peers found works") for this launcher "
                    + "(\(key.peerID.hex)): \(declineReasons). Where one does not know this launcher, ask its owner to add it to `accept`, or launch with a key that the invite names"
            )
        }
        if now - since >= options.gatherLimit {
            if accepted >= options.neededPeers, options.expectedPeers == nil { return beginSharing() }
            let wanted = max(options.expectedPeers ?? 1, options.neededPeers)
            let advice =
                roster.declinedCount == 0
                ? "start more with `atoll peer --invite FILE`, or check that they reach the pool's bootstrap node"
                : "of those who were found \(declineReasons). Launch again when they are free, give them longer (--wait), or "
                    + "start more with `atoll peer --invite FILE`"
            return fail(
                "only \(accepted) of the \(wanted) \(wanted == 1 ? "peer" : "peers") wanted came in "
                    + "\(fixed(options.gatherLimit.inSeconds, 0)) s; \(advice)")
        }
        if now - said >= Self.sayWaitingEvery {
            stage = .gathering(since: since, saidWaiting: now)
            event(.waitingForPeers(have: accepted, want: max(options.expectedPeers ?? 1, options.neededPeers)))
        }
        return false
    }

    /// Of the first few who declined: `ada: its owner has paused it; …`.
    private var declineReasons: String {
        let declined = roster.declined
        let left = declined.count - 3
        return declined.prefix(3).map { "\($0.name) declined: \($0.why)" }.joined(separator: "; ")
            + (left > 0 ? "; and \(left) more" : "")
    }

    // MARK: sharing the text

    /// Members learn of each other, so that the text spreads among them; links are measured when that is over.
    private mutating func beginSharing() -> Bool {
        stage.go(to: .sharing(since: now))
        admit(roster.accepted)
        event(.sharingText(peers: roster.joinedCount, bytes: record.genesis.contentBytes))
        return true
    }
    mutating func stepSharing() -> Bool {
        // Whoever comes now is a member like the others, at once.
        if roster.acceptedCount > 0, admit(roster.accepted) { return true }
        if !roster.hasWorkers { return gatherAgain() }
        let waited = roster.textless
        guard waited.values.allSatisfy({ now - $0 >= options.textPatience }), waited.count < roster.joinedCount else {
            // Nobody has it, and nobody gets any further.
            if waited.count == roster.joinedCount,
                waited.values.allSatisfy({ now - $0 >= options.textPatience * 4 })
            {
                return fail(
                    "no peer could fetch the text in \(fixed((options.textPatience * 4).inSeconds, 0)) s; check the line "
                        + "of this machine")
            }
            return false
        }
        stage.go(to: .surveying)
        let members = roster.joined
        for member in members { for _ in 0..<3 { send(lines.ping(member.peer, at: now), to: member.peer) } }
        let peers = members.filter(\.isPlannable).map(\.peer)
        event(.measuringLinks(peers: peers.count))
        lines.begin(of: peers, why: "the first plan", at: now)
        return true
    }
    var nextTextPatience: Instant? {
        let waited = roster.textless.values
        return waited.map { $0 + options.textPatience }.filter { $0 > now }.min()
            ?? waited.map { $0 + options.textPatience * 4 }.max()
    }
    /// Nobody is left to measure.
    mutating func stepMeetings() -> Bool { roster.hasWorkers ? false : gatherAgain() }
    /// More have left than can be done without, and there is nothing yet that could be lost: they are waited for as at the beginning.
    mutating func gatherAgain() -> Bool {
        if lines.isSurveying { _ = lines.end() }
        desk.drop()
        stage.go(to: .gathering(since: now, saidWaiting: now))
        event(.waitingForPeers(have: roster.workerCount, want: max(options.expectedPeers ?? 1, options.neededPeers)))
        return true
    }

    /// At a boundary: who came meanwhile enters the log after the seal, because whoever left and came back within a round did not
    /// take part in it. Whoever comes while links are measured waits for the next: its own are to be measured, too.
    mutating func admitNewcomers() {
        guard !lines.isSurveying else { return }
        let newcomers = roster.accepted
        guard admit(newcomers) else { return }
    }
    /// Members that have the text now, and have never been planned with.
    mutating func measureNewcomers() -> Bool {
        guard !lines.isSurveying, !desk.isAsking, !desk.hasAnswer else { return false }
        let ready = roster.joined.filter { $0.isPlannable && !desk.planned.contains($0.peer) }.map(\.peer)
        guard !ready.isEmpty else { return false }
        let why = "\(ready.count) joined"
        desk.planned.formUnion(ready)
        let unknown = ready.filter { !lines.isKnown($0) }
        if unknown.isEmpty {
            desk.want(.better, why)
        } else {
            lines.begin(of: unknown, among: roster.joined.filter(\.isPlannable).map(\.peer), why: why, at: now)
        }
        return true
    }
}
