import Digests
package import Messages
package import Primitives
package import Record

/// From where a job can go on: a round whose start every unit can be had of.
///
/// Members hold the start of the round in progress in memory, those of some earlier rounds on their own disks; the launcher has those of its
/// last checkpoint. What of it counts is what the log says that its holders agreed on. A supply is *exact* where every stage of the plan of
/// that round has its own: then the job goes on as if nothing had been. Else somebody gets weights and outer momentum without its own
/// moments and error feedback. Of a unit that all who held it have lost others may have a copy, without anybody's moments.
package struct Supply: Hashable, Sendable {
    /// What a present member can give.
    package struct Holder: Hashable, Sendable {
        package var peer: PeerID
        /// On its disk.
        package var kept: [KeptStage]
        /// The round whose start it holds of what the plan in force gives it, in memory.
        package var held: Int?
        package init(peer: PeerID, kept: [KeptStage], held: Int?) {
            self.peer = peer
            self.kept = kept
            self.held = held
        }
    }
    package var round: Int
    /// Of that round, where everybody of it has its own.
    package var plan: PlacedPlan?
    /// Who has each unit.
    package var sources: [Int: [PeerID]]
    /// Units that are only had from copies: without moments.
    package var copied: [Int] = []
    package var isExact: Bool { plan != nil }
    /// An exact one, or one without copies, may be older by so many rounds than what is taken otherwise.
    package static let tolerance = 8

    /// The newest there is; an exact one even where one that is not is newer by few rounds; and one that has moments of all units even where
    /// one with copies is.
    ///
    /// - Parameters:
    ///   - limit: not later.
    ///   - checkpoint: the round that the launcher has all units of.
    package static func newest(
        _ state: JobState, _ holders: [Holder], checkpoint: Int?, launcher: PeerID, atMost limit: Int
    ) -> Supply? {
        var rounds = Set(holders.flatMap { $0.kept.map(\.round) })
        if let checkpoint { rounds.insert(checkpoint) }
        if holders.contains(where: { $0.held == state.round }) { rounds.insert(state.round) }
        var newest: Supply?
        var first: Int?
        for round in rounds.sorted(by: >) where round > 0 && round <= min(limit, state.round) {
            guard state.isAgreed(round) || round == checkpoint else { continue }
            if let first, first - round > tolerance { break }
            let here = Supply(
                round, state, holders, checkpoint: round == checkpoint ? launcher : nil)
            guard let here else { continue }
            first = first ?? round
            if here.isExact { return here }
            if newest == nil || !newest!.copied.isEmpty && here.copied.isEmpty { newest = here }
        }
        return newest
    }

    /// Nil where some unit is nowhere.
    private init?(_ round: Int, _ state: JobState, _ holders: [Holder], checkpoint: PeerID?) {
        self.round = round
        let known = Dictionary(holders.map { ($0.peer, $0) }, uniquingKeysWith: { first, _ in first })
        if let then = state.plan(ofRound: round), state.isAgreed(round) {
            let isWhole = then.pipelines.enumerated().allSatisfy { rank, pipeline in
                pipeline.stages.allSatisfy { stage in
                    guard let holder = known[stage.peer] else { return false }
                    if round == state.round, holder.held == round { return true }
                    return holder.kept.contains {
                        !$0.isCopy && ($0.round, $0.rank, $0.units) == (round, rank, stage.units)
                    }
                }
            }
            if isWhole { plan = then }
        }
        sources = [:]
        for unit in state.parameters.model.allUnits {
            var out: [PeerID] = []
            var copies: [PeerID] = []
            for holder in holders {
                let isHeld =
                    round == state.round && holder.held == round
                    && state.plan?.stage(of: holder.peer)?.units.contains(unit) == true
                let kept = holder.kept.filter { state.isAgreed(round) && $0.round == round && $0.units.contains(unit) }
                if isHeld || kept.contains(where: { !$0.isCopy }) {
                    out.append(holder.peer)
                } else if !kept.isEmpty {
                    copies.append(holder.peer)
                }
            }
            // Whoever leads may hold layers, too.
            if let checkpoint, !out.contains(checkpoint) { out.append(checkpoint) }
            if out.isEmpty { copied.append(unit) }
            sources[unit] = out.isEmpty ? copies : out
            guard sources[unit] != [] else { return nil }
        }
    }
}

extension JobState {
    /// The plan under which a round was worked on: that of its seal, or the one in force.
    func plan(ofRound round: Int) -> PlacedPlan? {
        if round == self.round { return plan }
        guard let seal = seals.last(where: { $0.round == round }), plans.indices.contains(seal.planEpoch - 1) else {
            return nil
        }
        return plans[seal.planEpoch - 1]
    }
}

extension Coordinator {
    /// What present members say that they have.
    private var holders: [Supply.Holder] {
        roster.joined.filter { state.isPresent($0.peer) }.map { peer in
            var held: Int?
            if case .atRound(_, let round) = peer.readiness { held = round }
            return Supply.Holder(peer: peer.peer, kept: peer.kept, held: held)
        }
    }
    func supply(atMost limit: Int) -> Supply? {
        Supply.newest(state, holders, checkpoint: checkpoint.round, launcher: key.peerID, atMost: limit)
    }

    /// How long all who were in the plan are waited for before a job goes on without some of them: only with all of them it goes on exactly.
    static let wholePatience = Duration.seconds(20)
    /// Whether somebody of the plan is not here yet, and may still come.
    func lacksSomebody(since: Instant) -> Bool {
        guard state.round > 0, now - since < Self.wholePatience, let plan = state.plan else { return false }
        return !plan.peers.allSatisfy { roster[$0]?.standing == .accepted || roster.isJoined($0) }
    }
}
