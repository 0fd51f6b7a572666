import Digests
import Exchange
import Primitives
import Training
import Wire

struct AuditKey: Hashable, Comparable, Sendable {
    var unit: Int
    var chunk: Int
    static func < (a: AuditKey, b: AuditKey) -> Bool { (a.unit, a.chunk) < (b.unit, b.chunk) }
}

/// A chunk that is added up once more: its contributions as they arrive.
struct AuditSheet: Sendable {
    /// The coordinator asked for it; parts may arrive before that.
    var isOrdered = false
    var parts: [Int: [UInt8]] = [:]
    var isComputing = false
}

/// Adding a chunk up a second time, so that a wrong owner is found. Who is audited is drawn after the sums are out.
extension MemberJob {
    /// Chunks under audit at a time; more are passed over.
    private static let auditLimit = 8

    mutating func receive(_ order: PBAudit) {
        guard let group, group.terms.way.hasOwners, Int(clamping: order.round) == group.terms.round,
            Int(clamping: order.epoch) == group.terms.epoch, Int(order.version) == group.terms.version
        else { return }
        let key = AuditKey(unit: Int(order.unit), chunk: Int(order.chunk))
        guard group.units.contains(key.unit) else { return }
        let auditors = order.auditors.map { Int($0) }.filter { group.terms.ranks.contains($0) }
        let mine = group.core.part(of: group.core.rank, unit: key.unit, chunk: key.chunk)
        if let mine, group.terms.ranks.contains(group.core.rank) {
            for auditor in auditors where auditor != group.core.rank {
                guard let holder = group.plan.pipelines[auditor].stages.first(where: { $0.units.contains(key.unit) })
                else {
                    continue
                }
                let part = PartBundle<PeerID>.Chunk(unit: key.unit, chunk: key.chunk, bytes: mine)
                send(PartBundle(to: holder.peer, isAggregate: false, chunks: [part]), isAudit: true)
            }
        }
        if auditors.contains(group.core.rank) {
            guard self.group!.audits.count < Self.auditLimit else { return }
            self.group!.audits[key, default: AuditSheet()].isOrdered = true
            if let mine { self.group!.audits[key]!.parts[group.core.rank] = mine }
            continueAudit(key)
        } else if group.core.owner(unit: key.unit, chunk: key.chunk) == group.core.rank,
            let sum = group.core.aggregate(unit: key.unit, chunk: key.chunk)
        {
            // The owner, for its part, says what it added.
            let inputs = group.terms.ranks.compactMap { group.core.part(of: $0, unit: key.unit, chunk: key.chunk) }
            guard inputs.count == group.terms.ranks.count else { return }
            report(key, inputs: inputs, sum: sum)
        }
    }

    mutating func audit(part bytes: [UInt8], unit: Int, chunk: Int, from rank: Int) {
        guard let group, group.terms.ranks.contains(rank),
            let own = group.core.units.first(where: { $0.unit == unit }),
            own.contributionLimits.indices.contains(chunk),
            bytes.count <= own.contributionLimits[chunk]
        else { return }
        let key = AuditKey(unit: unit, chunk: chunk)
        guard group.audits[key] != nil || group.audits.count < Self.auditLimit else { return }
        if group.audits[key]?.parts[rank] == nil { self.group!.audits[key, default: AuditSheet()].parts[rank] = bytes }
        continueAudit(key)
    }

    private mutating func continueAudit(_ key: AuditKey) {
        guard let group, let sheet = group.audits[key], sheet.isOrdered, !sheet.isComputing,
            group.terms.ranks.allSatisfy({ sheet.parts[$0] != nil })
        else { return }
        self.group!.audits[key]!.isComputing = true
        let parts = group.terms.ranks.map { GroupExchange.Ranked(rank: $0, bytes: sheet.parts[$0]!) }
        compute(averageJob(key.unit, key.chunk, parts), .audit(group.terms, key))
    }

    mutating func audited(_ result: ComputeResult, _ terms: GroupTerms, _ key: AuditKey) {
        guard let group, group.terms == terms, let sheet = group.audits[key] else { return }
        let sum: [UInt8] = if case .chunk(let bytes) = result { bytes } else { [] }
        report(key, inputs: terms.ranks.compactMap { sheet.parts[$0] }, sum: sum)
    }

    private mutating func report(_ key: AuditKey, inputs: [[UInt8]], sum: [UInt8]) {
        guard let group else { return }
        var packet = PBPacket()
        packet.audited.round = UInt64(group.terms.round)
        packet.audited.epoch = UInt64(group.terms.epoch)
        packet.audited.version = UInt32(group.terms.version)
        packet.audited.unit = UInt32(key.unit)
        packet.audited.chunk = UInt32(key.chunk)
        packet.audited.inputs = bytesOf(inputs.flatMap { sha256($0).bytes.prefix(8) })
        packet.audited.sum = bytesOf(sha256(sum).bytes.prefix(8))
        send(packet, on: .control, to: launcher)
    }
}
