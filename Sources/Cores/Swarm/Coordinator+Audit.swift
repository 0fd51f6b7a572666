import Digests
import Exchange
import Primitives
import Telemetry
import Training
import Wire

/// One chunk that others add up once more.
struct AuditCase: Sendable {
    var key: AuditKey
    var owner: Int
    var auditors: [Int]
    var deadline: Instant
    var reports: [Int: PBAudited] = [:]
}

/// Finding owners that add wrongly. After the sums are out and before the seal, in some rounds, one chunk is drawn; every
/// contributor sends its part of it to two other members, who add it up too. All inputs are compared with what the
/// contributors signed, so the owner is wrong only where two agree on another sum of the very bytes that it says it added.
extension Coordinator {
    /// True when nothing stands in the way of the seal. Draws, once a round, whether there is an audit.
    mutating func auditIsSettled(_ plan: PlacedPlan) -> Bool {
        if watch.audit != nil { return watch.audit!.deadline <= now ? giveUpAudit() : judge(plan) }
        guard !watch.isAudited else { return true }
        watch.isAudited = true
        guard watch.terms.ranks.count > 1 else { return true }
        // Nobody else can make this signature, so nobody knows the draw before; and every replay makes the same.
        let signature = key.sign(Array("atoll/audit/1 \(log.job.hex) \(state.round)".utf8))
        var generator = SeededGenerator(seed: sha256(signature).bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) })
        guard generator.uniform() < options.auditShare else { return true }
        let unit = generator.below(parameters.model.unitCount)
        let owners = owners(plan, unit: unit)
        let chunk = generator.below(owners.count)
        var others = watch.terms.ranks.filter { rank in
            rank != owners[chunk] && !barredOwners.contains(holder(rank, of: unit, plan))
        }
        guard !others.isEmpty else { return true }
        var auditors: [Int] = []
        while auditors.count < 2, !others.isEmpty { auditors.append(others.remove(at: generator.below(others.count))) }
        watch.audit = AuditCase(
            key: AuditKey(unit: unit, chunk: chunk), owner: owners[chunk], auditors: auditors.sorted(),
            deadline: now + .nanoseconds(Int64((5 + watch.expected) * 1e9)))
        var packet = PBPacket()
        packet.audit.round = UInt64(state.round)
        packet.audit.epoch = UInt64(watch.terms.epoch)
        packet.audit.version = UInt32(watch.terms.version)
        packet.audit.unit = UInt32(unit)
        packet.audit.chunk = UInt32(chunk)
        packet.audit.auditors = auditors.sorted().map { UInt32($0) }
        for rank in watch.terms.ranks { send(packet, to: holder(rank, of: unit, plan)) }
        return false
    }

    /// An audit that is not answered proves nothing.
    private mutating func giveUpAudit() -> Bool {
        guard let audit = watch.audit else { return true }
        watch.audit = nil
        event(
            "audit_unanswered",
            ["unit": .integer(audit.key.unit), "chunk": .integer(audit.key.chunk), "round": .integer(state.round)])
        return true
    }

    mutating func receive(_ report: PBAudited, from peer: PeerID) {
        guard let plan = state.plan, let rank = plan.placement(of: peer)?.rank, let audit = watch.audit,
            Int(clamping: report.round) == state.round, Int(clamping: report.epoch) == watch.terms.epoch,
            Int(report.version) == watch.terms.version, Int(report.unit) == audit.key.unit,
            Int(report.chunk) == audit.key.chunk, rank == audit.owner || audit.auditors.contains(rank)
        else { return }
        watch.audit!.reports[rank] = report
    }

    /// Compares what has been reported; true when the owner is confirmed.
    private mutating func judge(_ plan: PlacedPlan) -> Bool {
        guard let audit = watch.audit, audit.reports.count == audit.auditors.count + 1,
            let made = gatheredChunk(plan, unit: audit.key.unit, chunk: audit.key.chunk)
        else { return false }
        let signed = watch.terms.ranks.flatMap {
            progress.signedChunk(rank: $0, unit: audit.key.unit, chunk: audit.key.chunk, plan) ?? []
        }
        // Only who added the very bytes that were signed can say anything about the sum.
        let heard = audit.auditors.filter { Array(audit.reports[$0]!.inputs) == signed }
        let against = heard.filter { Array(audit.reports[$0]!.sum) != made }
        let ownerAddedTheSame = Array(audit.reports[audit.owner]!.inputs) == signed
        watch.audit = nil
        if against.isEmpty, ownerAddedTheSame { return true }
        let owner = holder(audit.owner, of: audit.key.unit, plan)
        let accusers = against.map { holder($0, of: audit.key.unit, plan) }
        let sums = Set(against.map { Array(audit.reports[$0]!.sum) })
        let isProven = ownerAddedTheSame && against.count >= 2 && sums.count == 1
        event(
            isProven ? "owner_refuted" : "audit_differs", peer: owner,
            [
                "unit": .integer(audit.key.unit), "chunk": .integer(audit.key.chunk), "round": .integer(state.round),
                "by": .text(accusers.map { candidates[$0]?.name ?? "?" }.joined(separator: ",")),
            ])
        if isProven { barredOwners.insert(owner) }
        // Word against word: nobody is blamed, but who quarrels with two others is the one to avoid.
        for accuser in accusers where !isProven {
            disputes[owner, default: []].insert(accuser)
            disputes[accuser, default: []].insert(owner)
            for peer in [owner, accuser] where disputes[peer]!.count >= 2 { barredOwners.insert(peer) }
        }
        regroup(
            watch.terms.ranks, plan, way: .allGather,
            why: isProven ? "an owner added wrongly" : "an audit found another sum")
        return false
    }
}
