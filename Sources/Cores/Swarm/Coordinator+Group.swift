import Digests
import Exchange
import Primitives
import Telemetry
import Training
import Wire

/// The exchange of the round in progress, as the coordinator sees it.
struct GroupWatch: Sendable {
    var terms = GroupTerms(round: -1, epoch: 0, version: 0, ranks: [], way: .allGather)
    /// When the terms were made, or the last contribution was computed.
    var since = Instant.zero
    /// What the exchange should take: closed forms over measured lines.
    var expected = 0.0
    /// Pipelines whose part others could not use, and who says so.
    var accusers: [Int: Set<Int>] = [:]
    var audit: AuditCase?
    var isAudited = false
    var saidLate = false
    var saidOverdue = false
}

/// Which way a round is exchanged, who is in it, and who is left out of it.
extension Coordinator {
    /// Measured lines into a plan's stages, and the cheapest way over them.
    mutating func setWay(_ plan: inout PlacedPlan) {
        for rank in plan.pipelines.indices {
            for stage in plan.pipelines[rank].stages.indices {
                let peer = plan.pipelines[rank].stages[stage].peer
                plan.pipelines[rank].stages[stage].up = line(links.up[peer])
                plan.pipelines[rank].stages[stage].down = line(links.down[peer])
            }
        }
        plan.exchangeWay = parameters.exchangeWay ?? survey(plan).cheapest
    }

    private func survey(_ plan: PlacedPlan, ranks: [Int]? = nil) -> ExchangeSurvey {
        let peers = Set(plan.peers)
        let slowest = links.roundTrips.filter { peers.contains($0.key.from) && peers.contains($0.key.to) }.values.max()
        return plan.survey(ranks: ranks, model: parameters.model, latency: (slowest ?? .zero) / 2)
    }

    /// Says what was chosen, for each run of units with equal holders.
    mutating func tellWay(_ plan: PlacedPlan) {
        guard plan.pipelines.count > 1 else { return }
        let survey = survey(plan)
        for units in plan.fragments(parameters.model) {
            event(
                "exchange_chosen",
                [
                    "units": .text("\(units.lowerBound)..<\(units.upperBound)"),
                    "way": .text(plan.exchangeWay.description),
                    "seconds": .real(survey.seconds(plan.exchangeWay, units: units)),
                    "all_gather_seconds": .real(survey.seconds(.allGather, units: units)),
                ])
        }
    }

    mutating func beginGroup() {
        guard let plan = state.plan else { return }
        watch = GroupWatch()
        watch.terms = GroupTerms(round: state.round, plan: plan)
        watch.since = now
        expect(plan)
        let barred = plan.pipelines.indices.filter { rank in
            plan.pipelines[rank].stages.contains { barredOwners.contains($0.peer) }
        }
        if watch.terms.way.hasOwners, !barred.isEmpty {
            regroup(watch.terms.ranks, plan, barred: barred, why: "an owner is not believed any more")
        }
    }

    private mutating func expect(_ plan: PlacedPlan) {
        watch.expected = survey(plan, ranks: watch.terms.ranks).seconds(
            watch.terms.way, units: 0..<parameters.model.unitCount)
    }

    /// As ``roundDeadline``; a group that was formed anew gets the time that an exchange took before.
    var exchangeDeadline: Instant? {
        guard let deadline = roundDeadline, watch.terms.version > 0 else { return roundDeadline }
        let patience =
            ExchangeCost.patience(Array(exchangeSeconds.suffix(16)), slack: 2)
            ?? max(10, 2 * watch.expected, answer?.roundSeconds ?? 10)
        return max(deadline, watch.since + .nanoseconds(Int64(patience * 1e9)))
    }

    /// When somebody who holds up the exchange is named: half as much again as it should take, and a second.
    var lateAt: Instant? {
        guard !watch.saidLate, let plan = state.plan, state.spec != nil,
            watch.terms.ranks.allSatisfy({ $0 < plan.pipelines.count && progress.isComputed(rank: $0, plan) })
        else { return nil }
        return watch.since + .nanoseconds(Int64((1.5 * watch.expected + 1) * 1e9))
    }

    /// Leaves out at once who has left; falls back to all-gather where members hold different sums.
    mutating func advanceGroup(_ plan: PlacedPlan, whole: [Int]) {
        if watch.terms.epoch != plan.epoch || watch.terms.round != state.round { beginGroup() }
        let left = watch.terms.ranks.filter { whole.contains($0) }
        if left.count < watch.terms.ranks.count { regroup(left, plan, why: "a member has left") }
        if let late = habitual, late.until <= now {
            regroup(watch.terms.ranks.filter { !late.ranks.contains($0) }, plan, why: "late again")
        }
        sayLate(plan)
        judgeContributions(plan)
        guard watch.terms.way.hasOwners, let odd = differing(plan) else { return }
        event("aggregates_differ", peer: odd.owner, ["unit": .integer(odd.unit), "round": .integer(state.round)])
        regroup(watch.terms.ranks, plan, way: .allGather, why: "members hold different sums")
    }

    mutating func regroup(
        _ ranks: [Int], _ plan: PlacedPlan, way: ExchangeWay? = nil, barred: [Int]? = nil, why: String
    ) {
        guard !ranks.isEmpty else { return }
        watch.terms.version += 1
        watch.terms.ranks = ranks
        watch.terms.way = way ?? watch.terms.way
        watch.terms.barred = barred ?? watch.terms.barred
        watch.since = now
        watch.audit = nil
        watch.saidOverdue = false
        expect(plan)
        event(
            "exchange_regrouped",
            [
                "round": .integer(state.round), "ranks": .text(ranks.map(String.init).joined(separator: ",")),
                "way": .text(watch.terms.way.description), "why": .text(why),
            ])
        for member in members { sendGroup(to: member.peer) }
    }

    /// Said again with every lease: a member that was away for a moment must not stay behind.
    mutating func sendGroup(to peer: PeerID) {
        guard watch.terms.version > 0, watch.terms.round == state.round else { return }
        var packet = PBPacket()
        packet.group.round = UInt64(watch.terms.round)
        packet.group.epoch = UInt64(watch.terms.epoch)
        packet.group.version = UInt32(watch.terms.version)
        packet.group.ranks = watch.terms.ranks.map { UInt32($0) }
        packet.group.way = watch.terms.way.description
        packet.group.barred = watch.terms.barred.map { UInt32($0) }
        send(packet, to: peer)
    }

    // MARK: sums

    /// A member's word that all sums of this group are there.
    private func gathered(_ peer: PeerID) -> PBGathered? {
        guard let message = progress.gathered[peer], Int(clamping: message.epoch) == watch.terms.epoch,
            Int(message.version) == watch.terms.version
        else { return nil }
        return message
    }

    private func hasGathered(_ rank: Int, _ plan: PlacedPlan) -> Bool {
        plan.pipelines[rank].stages.allSatisfy { gathered($0.peer) != nil }
    }

    /// The group's ranks when all of them have computed and gathered; else none.
    func sealableGroup(_ plan: PlacedPlan) -> [Int] {
        let done = watch.terms.ranks.filter { progress.isComputed(rank: $0, plan) && hasGathered($0, plan) }
        return done.count == watch.terms.ranks.count ? done : []
    }

    /// What they gathered, one digest a unit.
    func aggregates(_ plan: PlacedPlan, of ranks: [Int]) -> [PBUnitDigest] {
        guard let first = ranks.first else { return [] }
        return plan.pipelines[first].stages.flatMap { gathered($0.peer)?.aggregates ?? [] }
    }

    /// What a member gathered of a chunk: eight bytes of its SHA-256.
    func gatheredChunk(_ plan: PlacedPlan, unit: Int, chunk: Int) -> [UInt8]? {
        for rank in watch.terms.ranks {
            guard let stage = plan.pipelines[rank].stages.first(where: { $0.units.contains(unit) }),
                let entry = gathered(stage.peer)?.chunks.first(where: { Int($0.unit) == unit }),
                entry.digest.count >= 8 * (chunk + 1)
            else { continue }
            return Array(Array(entry.digest)[8 * chunk..<8 * chunk + 8])
        }
        return nil
    }

    func owners(_ plan: PlacedPlan, unit: Int) -> [Int] {
        let configuration = parameters.configuration(units: unit..<unit + 1, plan: plan)
        return watch.terms.owners(
            plan, unit: unit, layout: configuration.chunkLayout(unit: unit), model: parameters.model)
    }

    /// The first unit of which two members hold different sums, and the owner of the first chunk that differs.
    private func differing(_ plan: PlacedPlan) -> (unit: Int, owner: PeerID)? {
        for unit in parameters.model.allUnits {
            var seen: (digest: [UInt8], chunks: [UInt8])?
            for rank in watch.terms.ranks {
                guard let stage = plan.pipelines[rank].stages.first(where: { $0.units.contains(unit) }),
                    let message = gathered(stage.peer),
                    let entry = message.aggregates.first(where: { Int($0.unit) == unit })
                else { continue }
                let chunks = message.chunks.first { Int($0.unit) == unit }.map { Array($0.digest) } ?? []
                guard let before = seen else {
                    seen = (Array(entry.digest), chunks)
                    continue
                }
                guard before.digest != Array(entry.digest) else { continue }
                let place = zip(before.chunks, chunks).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? 0
                let owners = owners(plan, unit: unit)
                return (unit, holder(owners[min(place / 8, owners.count - 1)], of: unit, plan))
            }
        }
        return nil
    }

    func holder(_ rank: Int, of unit: Int, _ plan: PlacedPlan) -> PeerID {
        plan.pipelines[rank].stages.first { $0.units.contains(unit) }!.peer
    }
}
