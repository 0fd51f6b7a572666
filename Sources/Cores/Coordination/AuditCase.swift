import Messages
import Primitives
import Record

/// One chunk that others add up once more.
///
/// Finding owners that add wrongly: after the sums are out and before the seal, in some rounds, one chunk is drawn; every contributor
/// sends its part of it to two other members, who add it up too. All inputs are compared with what the contributors signed, so the
/// owner is wrong only where two agree on another sum of the very bytes that it says it added.
package struct AuditCase: Sendable {
    package let group: GroupStamp
    package let unit: Int
    package let chunk: Int
    package let owner: Int
    package let auditors: [Int]
    package var deadline: Instant
    private var reports: [Int: Audited] = [:]

    package init(group: GroupStamp, unit: Int, chunk: Int, owner: Int, auditors: [Int], deadline: Instant) {
        self.group = group
        self.unit = unit
        self.chunk = chunk
        self.owner = owner
        self.auditors = auditors
        self.deadline = deadline
    }

    package var order: AuditOrder { AuditOrder(group: group, unit: unit, chunk: chunk, auditors: auditors) }

    package mutating func receive(_ report: Audited, from rank: Int) {
        guard report.group == group, report.unit == unit, report.chunk == chunk,
            rank == owner || auditors.contains(rank), reports[rank] == nil
        else { return }
        reports[rank] = report
    }

    /// What comes of it; nil while reports are to come.
    /// - Parameter sum: what members gathered of the chunk.
    package func finding(_ facts: RoundFacts, _ progress: RoundProgress, _ terms: GroupTerms, sum: [UInt8]?)
        -> AuditFinding?
    {
        guard reports.count == auditors.count + 1, let made = sum else {
            return deadline <= facts.now ? .unanswered(self) : nil
        }
        let signed = terms.ranks.flatMap {
            progress.signedChunk(rank: $0, unit: unit, chunk: chunk, facts.plan) ?? []
        }
        // Only who added the very bytes that were signed can say anything about the sum.
        let against = auditors.filter { reports[$0]!.inputs == signed && reports[$0]!.sum != made }
        let ownerAddedTheSame = reports[owner]!.inputs == signed
        if against.isEmpty, ownerAddedTheSame { return .confirmed }
        let sums = Set(against.map { reports[$0]!.sum })
        guard let ownerPeer = facts.plan.holder(owner, of: unit) else { return .confirmed }
        let accusers = against.compactMap { facts.plan.holder($0, of: unit) }
        let isProven = ownerAddedTheSame && against.count >= 2 && sums.count == 1
        return isProven
            ? .refuted(self, owner: ownerPeer, by: accusers) : .differs(self, owner: ownerPeer, by: accusers)
    }
}

/// What came of an audit.
package enum AuditFinding: Sendable {
    case confirmed
    case unanswered(AuditCase)
    case refuted(AuditCase, owner: PeerID, by: [PeerID])
    /// Word against word: nobody is blamed.
    case differs(AuditCase, owner: PeerID, by: [PeerID])
}

/// What rounds have shown of peers.
package struct Reputation: Sendable {
    /// Rounds of a plan in a row that a peer was late for.
    package private(set) var lateRounds: [PeerID: Int] = [:]
    private var epoch = 0
    /// With whom a peer has disagreed about a sum, without proof.
    private var disputes: [PeerID: Set<PeerID>] = [:]
    /// Peers that neither own nor audit any more.
    package private(set) var barredOwners: Set<PeerID> = []

    package init() {}

    /// - Parameter isPresent: whoever is not there is not late.
    package mutating func sealed(_ ranks: [Int], _ plan: PlacedPlan, isPresent: (PeerID) -> Bool) {
        // Others share the work otherwise: who was late with somebody who is gone may not be with others.
        if plan.epoch != epoch { (epoch, lateRounds) = (plan.epoch, [:]) }
        for (rank, pipeline) in plan.pipelines.enumerated() {
            for stage in pipeline.stages where isPresent(stage.peer) {
                lateRounds[stage.peer] = ranks.contains(rank) ? nil : (lateRounds[stage.peer] ?? 0) + 1
            }
        }
    }
    package mutating func bar(_ owner: PeerID) { barredOwners.insert(owner) }
    /// Who quarrels with two others is the one to avoid.
    package mutating func quarrel(_ owner: PeerID, _ accusers: [PeerID]) {
        for accuser in accusers {
            disputes[owner, default: []].insert(accuser)
            disputes[accuser, default: []].insert(owner)
            for peer in [owner, accuser] where disputes[peer]!.count >= 2 { barredOwners.insert(peer) }
        }
    }
    /// It left; when it comes back it is a newcomer.
    package mutating func forget(_ peer: PeerID) { lateRounds[peer] = nil }
}
