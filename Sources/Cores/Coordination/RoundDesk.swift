import Digests
import Exchange
public import Messages
public import Primitives
public import Record
import Telemetry
import Training

/// What the round in progress needs next, as one verdict.
package enum RoundVerdict {
    case wait
    case regroup(Regrouping)
    case say(Happening, about: PeerID?)
    /// The round is overdue: said once.
    case warn(Happening)
    case audit(AuditCase)
    case audited(AuditFinding)
    case seal([Int])
    /// Nobody can finish it.
    case rollBack(String)
}

/// A new group for the round's exchange.
package struct Regrouping {
    package var ranks: [Int]
    /// Nil: as before.
    package var way: ExchangeWay?
    package var barred: [Int]?
    package var why: String
    package init(ranks: [Int], way: ExchangeWay? = nil, barred: [Int]? = nil, why: String) {
        self.ranks = ranks
        self.way = way
        self.barred = barred
        self.why = why
    }
}

/// The round in progress: its progress, its group, its audit. Verdicts are computed anew from facts after every input.
public struct RoundDesk: Sendable {
    package var progress = RoundProgress(round: -1)
    package private(set) var terms = GroupTerms(round: -1, epoch: 0, version: 0, ranks: [], way: .allGather)
    /// When the terms were made, or the last contribution was computed.
    package private(set) var since = Instant.zero
    /// What the exchange should take: closed forms over measured lines.
    package private(set) var expected = 0.0
    package private(set) var started: Instant
    /// Somebody left, a plan changed, lines are measured: its time says nothing about the usual.
    package var isDisturbed = false
    /// Pipelines whose part others cannot use, and who says so.
    private var objections: [Int: Set<Int>] = [:]
    private var audit: AuditCase?
    private var isAudited = false
    /// The number that the round's first group has: above those that a leader before may have made.
    private var firstVersion = 0
    private var saidLate = false
    private var saidOverdue = false
    /// Over rounds.
    package var reputation = Reputation()
    package var setbacks = Setbacks()
    package var repairs = Repairs()
    /// Times in a row that nobody finished a round.
    package private(set) var stuck = 0

    package init(at now: Instant) { started = now }

    // MARK: changes

    package mutating func begin(_ round: Int, isDisturbed: Bool, firstVersion: Int = 0, at now: Instant) {
        self.firstVersion = firstVersion
        progress = RoundProgress(round: round)
        terms = GroupTerms(round: -1, epoch: 0, version: 0, ranks: [], way: .allGather)
        started = now
        self.isDisturbed = isDisturbed
    }
    /// A pipeline begins the round in progress anew.
    package mutating func restart(at now: Instant) {
        started = now
        isDisturbed = true
    }
    package mutating func computed(at now: Instant) { since = now }
    /// Nobody could be heard for so long, or this process slept: that time counts for nobody.
    package mutating func excuse(_ pause: Duration) {
        started += pause
        since += pause
        audit?.deadline += pause
        setbacks.excuse(pause)
        repairs.excuse(pause)
        isDisturbed = true
    }
    package mutating func sealed() { stuck = 0 }
    package mutating func countStuck() { stuck += 1 }
    package mutating func say(_ what: Happening) {
        if case .waitingFor = what { saidLate = true }
    }
    /// Who holds up an overdue round has been named: more is not said of it.
    package mutating func warned() { (saidLate, saidOverdue) = (true, true) }

    package mutating func objects(_ objection: Objection, by peer: PeerID, plan: PlacedPlan) -> Bool {
        guard objection.work.round == progress.round, terms.round == progress.round,
            let by = plan.placement(of: peer)?.rank, terms.ranks.contains(by)
        else { return false }
        let rank = objection.work.rank
        guard rank != by, terms.ranks.contains(rank), plan.pipelines[rank].attempt == objection.work.attempt else {
            return false
        }
        return objections[rank, default: []].insert(by).inserted
    }
    package mutating func reports(_ report: Audited, by peer: PeerID, plan: PlacedPlan) {
        guard let rank = plan.placement(of: peer)?.rank, report.group == terms.stamp else { return }
        audit?.receive(report, from: rank)
    }

    /// The group that the plan gives, until somebody is left out.
    private mutating func beginGroup(_ facts: RoundFacts) {
        terms = GroupTerms(round: facts.spec.round, plan: facts.plan)
        terms.version = firstVersion
        since = facts.now
        objections = [:]
        audit = nil
        isAudited = false
        saidLate = false
        saidOverdue = false
        expect(facts)
    }
    package mutating func regroup(_ change: Regrouping, _ facts: RoundFacts) {
        terms.version += 1
        terms.ranks = change.ranks
        terms.way = change.way ?? terms.way
        terms.barred = change.barred ?? terms.barred
        since = facts.now
        audit = nil
        saidOverdue = false
        expect(facts)
    }
    private mutating func expect(_ facts: RoundFacts) {
        expected = facts.survey(ranks: terms.ranks).seconds(
            terms.way, units: 0..<facts.state.parameters.model.unitCount)
    }
    package mutating func begin(_ audit: AuditCase) {
        self.audit = audit
        isAudited = true
    }
    package mutating func endAudit() { audit = nil }

    // MARK: the verdict

    package mutating func verdict(_ facts: RoundFacts) -> RoundVerdict {
        if terms.epoch != facts.plan.epoch || terms.round != facts.spec.round {
            beginGroup(facts)
            let barred = facts.plan.pipelines.indices.filter { rank in
                facts.plan.pipelines[rank].stages.contains { reputation.barredOwners.contains($0.peer) }
            }
            if terms.way.hasOwners, !barred.isEmpty {
                return .regroup(
                    Regrouping(ranks: terms.ranks, barred: barred, why: "an owner is not believed any more"))
            }
        }
        let whole = facts.ableRanks
        guard !whole.isEmpty else {
            guard !facts.state.wholeRanks.isEmpty, !facts.isAsking else { return .wait }
            return .rollBack("whoever had the start of round \(facts.spec.round) has left")
        }
        if let change = changeOfGroup(facts, whole) { return .regroup(change) }
        if let remark = lateRemark(facts) { return remark }
        let complete =
            terms.way.hasOwners ? sealableGroup(facts.plan) : progress.sealable(among: terms.ranks, facts.plan)
        if !complete.isEmpty, complete.count == terms.ranks.count { return sealOrAudit(complete, facts) }
        guard let deadline = exchangeDeadline(facts), deadline <= facts.now else { return .wait }
        return overdue(facts, complete: complete, deadline)
    }

    private func changeOfGroup(_ facts: RoundFacts, _ whole: [Int]) -> Regrouping? {
        let left = terms.ranks.filter { whole.contains($0) }
        if left.count < terms.ranks.count, !left.isEmpty { return Regrouping(ranks: left, why: "a member has left") }
        if let late = habitual(facts), late.until <= facts.now {
            return Regrouping(ranks: terms.ranks.filter { !late.ranks.contains($0) }, why: "late again")
        }
        let silent = silentRanks(facts)
        if !silent.isEmpty {
            return Regrouping(ranks: terms.ranks.filter { !silent.contains($0) }, why: "a member is silent")
        }
        if let change = judgeObjections(facts) { return change }
        guard terms.way.hasOwners, differing(facts) != nil else { return nil }
        return Regrouping(ranks: terms.ranks, way: .allGather, why: "members hold different sums")
    }

    private func sealOrAudit(_ ranks: [Int], _ facts: RoundFacts) -> RoundVerdict {
        guard terms.way.hasOwners else { return .seal(ranks) }
        if let audit {
            guard
                let finding = audit.finding(
                    facts, progress, terms, sum: gatheredChunk(audit.unit, audit.chunk, facts.plan))
            else { return .wait }
            return .audited(finding)
        }
        if !isAudited, let drawn = drawAudit(facts) { return .audit(drawn) }
        return .seal(ranks)
    }

    private func overdue(_ facts: RoundFacts, complete: [Int], _ deadline: Instant) -> RoundVerdict {
        if !saidOverdue, let what = overdueRemark(facts, among: terms.ranks.filter { !complete.contains($0) }) {
            return .warn(what)
        }
        if terms.way.hasOwners, let change = leaveOut(facts) { return .regroup(change) }
        if !complete.isEmpty { return .seal(complete) }
        // Nobody can finish it, and waiting longer has not helped: back to a state that can be had.
        guard !facts.isAsking, facts.now - started > (deadline - started) * 3 else { return .wait }
        return .rollBack("nobody finished round \(facts.spec.round)")
    }

    /// When something is to be looked at again although nothing has come.
    package func nextWake(_ facts: RoundFacts) -> Instant? {
        var next = earliest(exchangeDeadline(facts), audit?.deadline)
        if let deadline = exchangeDeadline(facts), deadline <= facts.now {
            next = earliest(next, started + (deadline - started) * 3 + .milliseconds(1))
        }
        next = earliest(next, lateAt(facts).map { max($0, facts.now + .seconds(1)) })
        if let silence = suspicion(facts), let due = facts.roster.nextSilence(silence, at: facts.now), due > facts.now {
            next = earliest(next, due)
        }
        return earliest(next, habitual(facts)?.until)
    }

    // MARK: patience

    /// Median + 6 MAD of the rounds under this plan that nothing disturbed, not a constant; before there are any, the prediction
    /// with much room.
    private func roundDeadline(_ facts: RoundFacts) -> Instant? {
        let patience =
            facts.books.roundPatience(epoch: facts.plan.epoch) ?? max(30, 4 * (facts.predictedSeconds ?? 10))
        // Whoever is still fetching weights is waited for once, rather than chased round after round.
        let seconds = facts.somebodyFetches ? max(90, patience) : patience
        return started + .nanoseconds(Int64(min(seconds, 1e9) * 1e9))
    }
    /// A group that was formed anew gets the time that an exchange took before.
    private func exchangeDeadline(_ facts: RoundFacts) -> Instant? {
        guard let deadline = roundDeadline(facts), terms.version > 0 else { return roundDeadline(facts) }
        let patience = facts.books.exchangePatience ?? max(10, 2 * expected, facts.predictedSeconds ?? 10)
        return max(deadline, since + .nanoseconds(Int64(min(patience, 1e9) * 1e9)))
    }
    /// When somebody who holds up the exchange is named: half as much again as it should take, and a second.
    private func lateAt(_ facts: RoundFacts) -> Instant? {
        guard !saidLate,
            terms.ranks.allSatisfy({ $0 < facts.plan.pipelines.count && progress.isComputed(rank: $0, facts.plan) })
        else { return nil }
        return since + .nanoseconds(Int64((1.5 * expected + 1) * 1e9))
    }
    /// Who was late for the last two rounds is not waited for until the deadline again, only a little longer than for all others: a
    /// quarter of what these took, at least a second. Nil while nobody is, or others have not computed either.
    ///
    /// Who has to fetch the round's start first is waited for all the same, for some rounds, and now and then: with a step a round whoever was left out has to, and
    /// would be late for that, and left out again, for ever.
    private func habitual(_ facts: RoundFacts) -> (ranks: [Int], until: Instant)? {
        let ranks = terms.ranks.filter { $0 < facts.plan.pipelines.count }
        let waited = ranks.filter { rank in
            !progress.isComputed(rank: rank, facts.plan)
                && facts.plan.pipelines[rank].stages.contains { isHabituallyLate($0.peer, facts) }
        }
        guard !waited.isEmpty, waited.count < ranks.count,
            ranks.allSatisfy({ waited.contains($0) || progress.isComputed(rank: $0, facts.plan) })
        else { return nil }
        return (waited, since + max(.seconds(1), (since - started) / 4))
    }

    private func isHabituallyLate(_ peer: PeerID, _ facts: RoundFacts) -> Bool {
        let rounds = reputation.lateRounds[peer] ?? 0
        let isExcused = rounds < Self.excused || rounds.isMultiple(of: Self.triedAgain)
        return rounds >= 2 && !(isExcused && facts.roster.hasFetched(facts.spec.round, peer))
    }
    /// After so many rounds that it was late for, a member that fetches is waited for no more than others,
    private static let excused = 5
    /// but once in so many: what made it late may be over, and only what it had to fetch keep it behind.
    private static let triedAgain = 4

    /// Of whom nothing has been heard for so long the others do not wait for in this round, though it is given up only later: 2.5 s and a round, or,
    /// once it is known how often members of this pool are heard, twice the longest gap and a quarter of a round. Nil where that is no sooner than it
    /// is given up.
    private func suspicion(_ facts: RoundFacts) -> Duration? {
        guard let median = facts.books.roundMedian(epoch: facts.plan.epoch) else { return nil }
        let round = Duration.nanoseconds(Int64(median * 1e9))
        let usual = Duration.milliseconds(2500) + round
        let silence = facts.roster.longestGap.map { min(usual, max(.milliseconds(1500), $0 * 2) + round / 4) } ?? usual
        return silence < .seconds(5) ? silence : nil
    }
    /// Pipelines of members that are silent for so long, when all the others have computed and some are left.
    private func silentRanks(_ facts: RoundFacts) -> [Int] {
        guard let silence = suspicion(facts) else { return [] }
        let silent = facts.roster.silent(for: silence, at: facts.now)
        guard !silent.isEmpty else { return [] }
        let ranks = terms.ranks.filter { $0 < facts.plan.pipelines.count }
        let waited = ranks.filter { rank in silent.contains { facts.plan.pipelines[rank].contains($0) } }
        let others = ranks.filter { !waited.contains($0) }
        guard !others.isEmpty, others.allSatisfy({ progress.isComputed(rank: $0, facts.plan) }) else { return [] }
        return waited
    }

    // MARK: sums

    private func gathered(_ peer: PeerID) -> Gathered? {
        progress.gathered[peer].flatMap { $0.group == terms.stamp ? $0 : nil }
    }
    /// The group's ranks when all of them have computed and gathered; else none.
    private func sealableGroup(_ plan: PlacedPlan) -> [Int] {
        let isDone = terms.ranks.allSatisfy { rank in
            progress.isComputed(rank: rank, plan) && plan.pipelines[rank].stages.allSatisfy { gathered($0.peer) != nil }
        }
        return isDone ? terms.ranks : []
    }
    /// What they gathered, one digest a unit.
    package func aggregates(_ plan: PlacedPlan, of ranks: [Int], unitCount: Int) -> [UnitDigest] {
        guard terms.way.hasOwners, let first = ranks.first else { return [] }
        return plan.pipelines[first].stages.flatMap { stage in
            (gathered(stage.peer)?.aggregates ?? []).filter { stage.units.contains($0.unit) }
        }
    }
    private func gatheredChunk(_ unit: Int, _ chunk: Int, _ plan: PlacedPlan) -> [UInt8]? {
        for rank in terms.ranks {
            guard let peer = plan.holder(rank, of: unit) else { continue }
            if let bytes = gathered(peer)?.chunks[unit: unit]?.chunk(chunk) { return bytes }
        }
        return nil
    }
    package func owners(_ facts: RoundFacts, unit: Int) -> [Int] {
        let configuration = facts.state.parameters.configuration(units: unit..<unit + 1, plan: facts.plan)
        return terms.owners(
            facts.plan, unit: unit, layout: configuration.chunkLayout(unit: unit), model: facts.state.parameters.model)
    }
    /// The first unit of which two members hold different sums, and the owner of the first chunk that differs.
    package func differing(_ facts: RoundFacts) -> (unit: Int, owner: PeerID)? {
        for unit in facts.state.parameters.model.allUnits {
            var seen: (digest: [UInt8], chunks: [UInt8])?
            for rank in terms.ranks {
                guard let peer = facts.plan.holder(rank, of: unit), let message = gathered(peer),
                    let entry = message.aggregates[unit: unit]
                else { continue }
                let chunks = message.chunks[unit: unit]?.bytes ?? []
                guard let before = seen else {
                    seen = (entry.bytes, chunks)
                    continue
                }
                guard before.digest != entry.bytes else { continue }
                let place = zip(before.chunks, chunks).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? 0
                let owners = owners(facts, unit: unit)
                guard !owners.isEmpty, let owner = facts.plan.holder(owners[min(place / 8, owners.count - 1)], of: unit)
                else { continue }
                return (unit, owner)
            }
        }
        return nil
    }

    // MARK: audits

    /// Draws, once a round, whether there is an audit, and of what.
    private func drawAudit(_ facts: RoundFacts) -> AuditCase? {
        guard terms.ranks.count > 1 else { return nil }
        // Nobody else can make this signature, so nobody knows the draw before; and every replay makes the same.
        let signature = facts.key.sign(Array("atoll/audit/1 \(facts.job.hex) \(facts.spec.round)".utf8))
        var generator = SeededGenerator(seed: sha256(signature).bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) })
        guard generator.uniform() < facts.auditShare else { return nil }
        let unit = generator.below(facts.state.parameters.model.unitCount)
        let owners = owners(facts, unit: unit)
        guard !owners.isEmpty else { return nil }
        let chunk = generator.below(owners.count)
        var others = terms.ranks.filter { rank in
            rank != owners[chunk]
                && facts.plan.holder(rank, of: unit).map { !reputation.barredOwners.contains($0) } ?? false
        }
        guard !others.isEmpty else { return nil }
        var auditors: [Int] = []
        while auditors.count < 2, !others.isEmpty { auditors.append(others.remove(at: generator.below(others.count))) }
        return AuditCase(
            group: terms.stamp, unit: unit, chunk: chunk, owner: owners[chunk], auditors: auditors.sorted(),
            deadline: facts.now + .nanoseconds(Int64((5 + expected) * 1e9)))
    }
    /// No audit in this round.
    package mutating func passAudit() { isAudited = true }

    // MARK: contributions that others cannot use

    /// One word against another excludes nobody: all look at it. A contribution that more than half of the others cannot use is left
    /// out of the round; an accuser that stands alone, all others holding what it cannot use, leaves the round itself. Nobody is
    /// expelled: an accusation proves nothing.
    private func judgeObjections(_ facts: RoundFacts) -> Regrouping? {
        for rank in objections.keys.sorted() where terms.ranks.contains(rank) {
            let accusers = objections[rank]!.filter { terms.ranks.contains($0) }.sorted()
            guard !accusers.isEmpty else { continue }
            if terms.way.hasOwners {
                return Regrouping(
                    ranks: terms.ranks, way: .allGather, why: "a contribution was refused; all look at it")
            }
            if accusers.count >= 2, 2 * accusers.count > terms.ranks.count - 1 {
                return Regrouping(
                    ranks: terms.ranks.filter { $0 != rank }, why: "most members cannot use a contribution")
            }
            guard accusers.count == 1, terms.ranks.count > 2 else { continue }
            let others = terms.ranks.filter { $0 != accusers[0] }
            guard progress.missing(rank: rank, among: others, facts.plan).isEmpty else { continue }
            return Regrouping(ranks: others, why: "only it refused a contribution that all others could use")
        }
        return nil
    }

    // MARK: who holds it up

    /// Past the deadline, with owners: the others go on without whoever holds them up. Nil where nobody can be named.
    private func leaveOut(_ facts: RoundFacts) -> Regrouping? {
        let computed = terms.ranks.filter { progress.isComputed(rank: $0, facts.plan) }
        guard !computed.isEmpty else { return nil }
        if computed.count < terms.ranks.count { return Regrouping(ranks: computed, why: "not done by the deadline") }
        guard let late = heldUpBy(facts)?.rank, terms.ranks.count > 1, terms.ranks.contains(late) else { return nil }
        return Regrouping(
            ranks: terms.ranks.filter { $0 != late }, why: "its part did not get through by the deadline")
    }

    /// The pipeline that most members wait for, and what one of them says of it. A missing contribution weighs more than a missing
    /// sum, which may wait for it.
    private func heldUpBy(_ facts: RoundFacts) -> (rank: Int, waiting: Heartbeat.Waiting)? {
        var votes: [Int: (count: Int, waiting: Heartbeat.Waiting)] = [:]
        for rank in terms.ranks where rank < facts.plan.pipelines.count {
            for stage in facts.plan.pipelines[rank].stages {
                guard let heartbeat = facts.roster[stage.peer]?.heartbeat, let waiting = heartbeat.waiting,
                    heartbeat.round == facts.spec.round, let waited = facts.plan.placement(of: waiting.peer)?.rank,
                    terms.ranks.contains(waited)
                else { continue }
                votes[waited, default: (0, waiting)].count += waiting.isContribution ? 1000 : 1
            }
        }
        guard let most = votes.keys.sorted().max(by: { votes[$0]!.count < votes[$1]!.count }) else { return nil }
        return (most, votes[most]!.waiting)
    }

    /// Says once who holds up an exchange that should be over, before the deadline makes an end of it.
    private func lateRemark(_ facts: RoundFacts) -> RoundVerdict? {
        guard let at = lateAt(facts), at <= facts.now, let late = heldUpBy(facts) else { return nil }
        return .say(
            .waitingFor(
                peers: facts.name(late.waiting.peer), round: facts.spec.round, why: lateness(late.waiting, facts)),
            about: nil)
    }
    /// "its part of units 3..<5 is 2.1 s late; link 4 of 20 Mbit/s".
    private func lateness(_ waiting: Heartbeat.Waiting, _ facts: RoundFacts) -> String {
        let late = max(0, (facts.now - since).inSeconds - expected)
        let what = waiting.isContribution ? "its part" : "its sum"
        var why =
            "\(what) of units \(waiting.units.lowerBound)..<\(waiting.units.upperBound) is \(fixed(late, 1)) s late"
        if let rate = waiting.rate {
            let link = fixed(rate.megabitsPerSecond, 1)
            let up = facts.lines.up(waiting.peer)
            why += "; link " + (up.map { "\(link) of \(fixed($0.megabitsPerSecond, 0)) Mbit/s" } ?? "\(link) Mbit/s")
        } else {
            why += "; nothing has come from it"
        }
        return why
    }
    /// The round is overdue: who has not finished, or else whom the members wait for.
    private func overdueRemark(_ facts: RoundFacts, among ranks: [Int]) -> Happening? {
        let into = "\(fixed((facts.now - started).inSeconds, 1)) s into the round"
        func waiting(_ peers: [PeerID], _ why: String) -> Happening {
            .waitingFor(
                peers: peers.map { facts.name($0) }.joined(separator: ","), round: facts.spec.round, why: why)
        }
        let ranks = ranks.filter { $0 < facts.plan.pipelines.count }
        let computing = ranks.flatMap { rank in
            facts.plan.pipelines[rank].stages.enumerated().filter { index, _ in
                progress.receipt(rank: rank, stage: index, facts.plan) == nil
            }.map(\.element.peer)
        }
        if !computing.isEmpty { return waiting(computing, "not done \(into)") }
        if let late = heldUpBy(facts) {
            return waiting([late.waiting.peer], "\(lateness(late.waiting, facts)), \(into)")
        }
        return waiting(
            ranks.flatMap { facts.plan.pipelines[$0].stages.map(\.peer) }, "parts have not reached everybody \(into)")
    }
}
