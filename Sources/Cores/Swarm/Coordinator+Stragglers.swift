import Exchange
import Primitives
import Telemetry
import Training
import Wire

/// Who holds up an exchange, why, and what becomes of it.
extension Coordinator {
    /// Past the deadline, with owners: the others go on without whoever holds them up. False where nobody can be named.
    mutating func leaveOut(_ plan: PlacedPlan) -> Bool {
        let ranks = watch.terms.ranks
        let computed = ranks.filter { progress.isComputed(rank: $0, plan) }
        guard !computed.isEmpty else { return false }
        if computed.count < ranks.count {
            regroup(computed, plan, why: "not done by the deadline")
            return true
        }
        guard let late = heldUpBy(plan)?.rank, ranks.count > 1, ranks.contains(late) else { return false }
        regroup(ranks.filter { $0 != late }, plan, why: "its part did not get through by the deadline")
        return true
    }

    /// Who was late for the last two rounds is not waited for until the deadline again, only a little longer than for all
    /// others: a quarter of what these took, at least a second. Nil while nobody is, or others have not computed either.
    var habitual: (ranks: [Int], until: Instant)? {
        guard let plan = state.plan, watch.terms.round == state.round else { return nil }
        let ranks = watch.terms.ranks.filter { $0 < plan.pipelines.count }
        let waited = ranks.filter { rank in
            !progress.isComputed(rank: rank, plan)
                && plan.pipelines[rank].stages.contains { lateRounds[$0.peer] ?? 0 >= 2 }
        }
        guard !waited.isEmpty, waited.count < ranks.count,
            ranks.allSatisfy({ waited.contains($0) || progress.isComputed(rank: $0, plan) })
        else { return nil }
        return (waited, watch.since + max(.seconds(1), (watch.since - roundStarted) / 4))
    }

    /// The pipeline that most members wait for, and what one of them says of it. A missing contribution weighs more than a
    /// missing sum, which may wait for it.
    private func heldUpBy(_ plan: PlacedPlan) -> (rank: Int, waiting: PBHeartbeat.Waiting)? {
        var votes: [Int: (count: Int, waiting: PBHeartbeat.Waiting)] = [:]
        for rank in watch.terms.ranks {
            for stage in plan.pipelines[rank].stages {
                guard let heartbeat = candidates[stage.peer]?.heartbeat, heartbeat.hasWaiting,
                    Int(clamping: heartbeat.round) == state.round, let peer = PeerID(heartbeat.waiting.peer),
                    let waited = plan.placement(of: peer)?.rank, watch.terms.ranks.contains(waited)
                else { continue }
                votes[waited, default: (0, heartbeat.waiting)].count += heartbeat.waiting.contribution ? 1000 : 1
            }
        }
        guard let most = votes.keys.sorted().max(by: { votes[$0]!.count < votes[$1]!.count }) else { return nil }
        return (most, votes[most]!.waiting)
    }

    /// Says once who holds up an exchange that should be over, before the deadline makes an end of it.
    mutating func sayLate(_ plan: PlacedPlan) {
        guard let at = lateAt, at <= now, let late = heldUpBy(plan) else { return }
        watch.saidLate = true
        waitingFor(
            [PeerID(late.waiting.peer).flatMap { candidates[$0]?.name } ?? "?"], why: lateness(late.waiting))
    }

    /// "its part of units 3..<5 is 2.1 s late; link 4 of 20 Mbit/s".
    private func lateness(_ waiting: PBHeartbeat.Waiting) -> String {
        let late = max(0, (now - watch.since).inSeconds - watch.expected)
        let what = waiting.contribution ? "its part" : "its sum"
        var why = "\(what) of units \(waiting.firstUnit)..<\(waiting.endUnit) is \(fixed(late, 1)) s late"
        if waiting.bitsPerSecond > 0 {
            let link = fixed(Double(waiting.bitsPerSecond) / 1e6, 1)
            let up = PeerID(waiting.peer).flatMap { line(links.up[$0]) }
            why += "; link " + (up.map { "\(link) of \(fixed($0.bitsPerSecond / 1e6, 0)) Mbit/s" } ?? "\(link) Mbit/s")
        } else {
            why += "; nothing has come from it"
        }
        return why
    }

    private mutating func waitingFor(_ peers: [String], why: String) {
        event(
            "waiting_for",
            ["peers": .text(peers.joined(separator: ",")), "round": .integer(state.round), "why": .text(why)])
    }

    /// The round is overdue: who has not finished, or else whom the members wait for.
    mutating func sayOverdue(_ plan: PlacedPlan, among ranks: [Int]) {
        guard !watch.saidOverdue else { return }
        watch.saidOverdue = true
        func name(_ peer: PeerID) -> String { candidates[peer]?.name ?? "?" }
        let into = "\(fixed((now - roundStarted).inSeconds, 1)) s into the round"
        let computing = ranks.flatMap { rank in
            plan.pipelines[rank].stages.enumerated().filter { index, _ in
                progress.receipts[.init(rank: rank, attempt: plan.pipelines[rank].attempt)]?[index] == nil
            }.map { name($0.element.peer) }
        }
        if !computing.isEmpty { return waitingFor(computing, why: "not done \(into)") }
        if let late = heldUpBy(plan) {
            let peer = PeerID(late.waiting.peer)
            return waitingFor([peer.map { name($0) } ?? "?"], why: "\(lateness(late.waiting)), \(into)")
        }
        waitingFor(
            ranks.flatMap { plan.pipelines[$0].stages.map { name($0.peer) } },
            why: "parts have not reached everybody \(into)")
    }

    // MARK: contributions that others cannot use

    /// A member could not decode what another contributed. One word against another excludes nobody: all are given the
    /// contribution, and who then stands alone is in the wrong.
    mutating func receive(_ refusal: PBRefusal, from accuser: PeerID) {
        guard let plan = state.plan, Int(clamping: refusal.work.round) == state.round, watch.terms.round == state.round,
            let by = plan.placement(of: accuser)?.rank, watch.terms.ranks.contains(by)
        else { return }
        let rank = Int(refusal.work.rank)
        guard rank != by, watch.terms.ranks.contains(rank), plan.pipelines[rank].attempt == Int(refusal.work.attempt)
        else { return }
        guard watch.accusers[rank, default: []].insert(by).inserted else { return }
        event(
            "contribution_refused", peer: plan.pipelines[rank].stages[0].peer,
            [
                "by": .text(candidates[accuser]?.name ?? "?"), "round": .integer(state.round),
                "why": .text(String(refusal.why.prefix(200))),
            ])
        if watch.terms.way.hasOwners, watch.accusers[rank]!.count == 1 {
            regroup(watch.terms.ranks, plan, way: .allGather, why: "a contribution was refused; all look at it")
        }
    }

    /// Two accusers exclude a contribution. An accuser that stands alone, all others holding what it cannot use, goes itself.
    mutating func judgeContributions(_ plan: PlacedPlan) {
        for rank in watch.accusers.keys.sorted() where watch.terms.ranks.contains(rank) {
            let accusers = watch.accusers[rank]!.filter { watch.terms.ranks.contains($0) }.sorted()
            if accusers.count >= 2 {
                regroup(watch.terms.ranks.filter { $0 != rank }, plan, why: "two members refused a contribution")
                for stage in plan.pipelines[rank].stages { blame(stage.peer) }
                continue
            }
            guard let lone = accusers.first, watch.terms.ranks.count > 2, !watch.terms.way.hasOwners else { continue }
            let others = watch.terms.ranks.filter { $0 != lone }
            guard progress.missing(rank: rank, among: others, plan).isEmpty else { continue }
            regroup(others, plan, why: "only it refused a contribution that all others could use")
            for stage in plan.pipelines[lone].stages { blame(stage.peer) }
        }
    }

    /// Left out for its own fault; after three such rounds it is sent away.
    private mutating func blame(_ peer: PeerID) {
        faults[peer, default: 0] += 1
        guard faults[peer]! >= 3 else { return }
        var packet = PBPacket()
        packet.farewell.reason = "others could not use your contributions in three rounds"
        send(packet, to: peer)
        memberLost(peer, reason: "its contributions were refused in three rounds")
    }
}
