import Digests
import Exchange
import Messages
import Primitives
import Training

package struct AuditKey: Hashable, Comparable, Sendable {
    package var unit: Int
    package var chunk: Int
    package static func < (a: AuditKey, b: AuditKey) -> Bool { (a.unit, a.chunk) < (b.unit, b.chunk) }
}

/// A chunk that is added up once more: its contributions as they arrive.
package struct AuditSheet: Sendable {
    /// The leader asked for it; parts may arrive before that.
    package var isOrdered = false
    package var parts: [Int: [UInt8]] = [:]
    package var isComputing = false
}

/// Adding a chunk up a second time, so that a wrong owner is found. Who is audited is drawn after the sums are out.
extension RoundExchange {
    /// Chunks under audit at a time; more are passed over.
    private static let auditLimit = 8

    package mutating func receive(_ order: AuditOrder) {
        guard terms.way.hasOwners, order.group == terms.stamp, units.contains(order.unit) else { return }
        let key = AuditKey(unit: order.unit, chunk: order.chunk)
        let auditors = order.auditors.filter { terms.ranks.contains($0) }
        let mine = core.part(of: rank, unit: key.unit, chunk: key.chunk)
        if let mine, terms.ranks.contains(rank) {
            for auditor in auditors where auditor != rank {
                guard let holder = destination(of: key.unit, in: auditor) else { continue }
                send([ExchangePart.Chunk(unit: key.unit, chunk: key.chunk, bytes: mine)], as: .audit, to: holder)
            }
        }
        if auditors.contains(rank) {
            guard audits[key] != nil || audits.count < Self.auditLimit else { return }
            audits[key, default: AuditSheet()].isOrdered = true
            if let mine { audits[key]!.parts[rank] = mine }
            continueAudit(key)
        } else if core.owner(unit: key.unit, chunk: key.chunk) == rank,
            let sum = core.aggregate(unit: key.unit, chunk: key.chunk)
        {
            // The owner, for its part, says what it added.
            let inputs = terms.ranks.compactMap { core.part(of: $0, unit: key.unit, chunk: key.chunk) }
            guard inputs.count == terms.ranks.count else { return }
            report(key, inputs: inputs, sum: sum)
        }
        drain()
    }

    package mutating func receive(audited chunk: ExchangePart.Chunk, from sender: Int) {
        guard terms.way.hasOwners, terms.ranks.contains(sender),
            let own = core.units.first(where: { $0.unit == chunk.unit }),
            own.contributionLimits.indices.contains(chunk.chunk),
            chunk.bytes.count <= own.contributionLimits[chunk.chunk]
        else { return }
        let key = AuditKey(unit: chunk.unit, chunk: chunk.chunk)
        guard audits[key] != nil || audits.count < Self.auditLimit else { return }
        if audits[key]?.parts[sender] == nil { audits[key, default: AuditSheet()].parts[sender] = chunk.bytes }
        continueAudit(key)
    }

    private mutating func continueAudit(_ key: AuditKey) {
        guard let sheet = audits[key], sheet.isOrdered, !sheet.isComputing,
            terms.ranks.allSatisfy({ sheet.parts[$0] != nil })
        else { return }
        audits[key]!.isComputing = true
        let parts = terms.ranks.map { GroupExchange.Ranked(rank: $0, bytes: sheet.parts[$0]!) }
        effects.push(.compute(average(key.unit, key.chunk, parts), .audit(terms.stamp, key)))
    }

    package mutating func audited(_ result: ComputeResult, _ key: AuditKey) {
        guard let sheet = audits[key] else { return }
        let sum: [UInt8] = if case .chunk(let bytes) = result { bytes } else { [] }
        report(key, inputs: terms.ranks.compactMap { sheet.parts[$0] }, sum: sum)
    }

    private mutating func report(_ key: AuditKey, inputs: [[UInt8]], sum: [UInt8]) {
        let audited = Audited(
            group: terms.stamp, unit: key.unit, chunk: key.chunk, inputs: inputs.flatMap { sha256($0).bytes.prefix(8) },
            sum: Array(sha256(sum).bytes.prefix(8)))
        effects.push(.report(.audited(audited)))
    }
}
