import Messages
import Primitives
import Record

/// What holders say that they hold after a seal, until they agree.
///
/// A unit is agreed on when more than half of those who are to report it say the same. Nobody is expelled by a tie, and nobody's
/// word counts for a unit that others hold, too, before they have spoken or gone.
package struct Agreement: Sendable {
    /// Who holds each unit after a round, and what they said, by round.
    private struct Ballot: Sendable {
        var reports: [PeerID: [Int: UnitRoots]] = [:]
        var blamed: Set<PeerID> = []
        var disputed: Set<Int> = []
        var isSettled = false
    }
    package enum Finding: Hashable, Sendable {
        case agreed(States)
        case differs(PeerID, unit: Int, round: Int)
        /// All have spoken, and none has a majority.
        case disputed(unit: Int, round: Int, peers: [PeerID])
    }
    private var ballots: [Int: Ballot] = [:]
    private static let kept = 3

    package init() {}

    package mutating func receive(_ applied: Applied, from peer: PeerID, state: JobState) {
        guard applied.round < state.round, applied.round >= state.round - Self.kept, applied.round >= 0 else { return }
        var ballot = ballots[applied.round] ?? Ballot()
        guard ballot.reports[peer] == nil else { return }
        let holds = Self.plan(of: applied.round, state)?.stage(of: peer)?.units
        ballot.reports[peer] = Dictionary(
            applied.units.filter { holds?.contains($0.unit) == true }.map { ($0.unit, $0) },
            uniquingKeysWith: { first, _ in first })
        ballots[applied.round] = ballot
    }

    private static func plan(of round: Int, _ state: JobState) -> PlacedPlan? {
        guard let seal = state.seals.last(where: { $0.round == round }), seal.planEpoch >= 1,
            seal.planEpoch <= state.plans.count
        else { return nil }
        return state.plans[seal.planEpoch - 1]
    }

    /// What can be said now, each thing once.
    ///
    /// - Parameter isExpected: whether a holder that took part in a round reports it: it is present since then, and does not fetch instead.
    package mutating func findings(_ state: JobState, isExpected: (PeerID, _ round: Int) -> Bool) -> [Finding] {
        var out: [Finding] = []
        for round in ballots.keys.sorted() {
            if round < state.round - Self.kept || round >= state.round {
                ballots[round] = nil
                continue
            }
            guard let plan = Self.plan(of: round, state) else { continue }
            out += findings(round, plan, state, isExpected)
        }
        return out
    }

    private mutating func findings(
        _ round: Int, _ plan: PlacedPlan, _ state: JobState, _ isExpected: (PeerID, _ round: Int) -> Bool
    ) -> [Finding] {
        var ballot = ballots[round]!
        var out: [Finding] = []
        var agreed: [UnitRoots] = []
        var isWhole = true
        // Whoever was left out of the round may take its result from others instead, and never report it.
        let contributors = Set(
            state.seals.last { $0.round == round }?.contributions.flatMap { part in
                plan.pipelines.indices.contains(part.rank) ? plan.pipelines[part.rank].stages.map(\.peer) : []
            } ?? [])
        for unit in state.parameters.model.allUnits {
            let holders = plan.holders(of: unit)
            let spoken = holders.filter { ballot.reports[$0]?[unit] != nil }
            let expected = holders.filter {
                ballot.reports[$0]?[unit] != nil || (contributors.contains($0) && isExpected($0, round))
            }
            if let known = state.agreed[round + 1]?[unit] {
                for peer in spoken where ballot.reports[peer]![unit] != known && ballot.blamed.insert(peer).inserted {
                    out.append(.differs(peer, unit: unit, round: round))
                }
                continue
            }
            var votes: [UnitRoots: Int] = [:]
            for peer in spoken { votes[ballot.reports[peer]![unit]!, default: 0] += 1 }
            let leading = spoken.compactMap { ballot.reports[$0]![unit] }.max { votes[$0]! < votes[$1]! }
            if let leading, 2 * votes[leading]! > expected.count {
                agreed.append(leading)
            } else {
                isWhole = false
                if spoken.count == expected.count, votes.count > 1, ballot.disputed.insert(unit).inserted {
                    out.append(.disputed(unit: unit, round: round, peers: spoken))
                }
            }
        }
        // All at once, so that the log has one entry a round; in parts only where some cannot be agreed on.
        if !agreed.isEmpty, isWhole || !ballot.disputed.isEmpty {
            out.append(.agreed(States(round: round + 1, units: agreed)))
        }
        ballots[round] = ballot
        return out
    }

    /// Whether a unit of the start of `round` is in dispute.
    package func isDisputed(_ round: Int) -> Bool { ballots[round - 1].map { !$0.disputed.isEmpty } ?? false }
    package mutating func forgetAll() { ballots = [:] }
}
