import Content
import Messages
import Primitives
import Record
import Telemetry
import Training

/// What the engine holds, and what is done with it: nothing; units on their way in; units as of the start of a round, with the work on
/// that round; a seal being applied.
///
/// Everything follows from the record: after every input ``follow(_:leader:at:)`` compares what is held with what the log says, and
/// takes one step after another until they agree or something has to come first. A member that the plan does not name keeps what it
/// holds as long as it is the start of the round in progress: others may fetch it, and it may be placed again.
package struct Holding: Sendable {
    package enum Effect: Sendable {
        case compute(ComputeJob, EngineDesk.Purpose)
        /// Steps under way count no more.
        case void
        case send(Message, to: PeerID)
        /// For the leader.
        case report(Message)
        case receipt(Receipt)
        case store(StorageRequest)
        case notEntitled(PeerID, Message)
        case event(Happening, PeerID?)
    }
    /// Why an empty engine stays empty for a while.
    package enum Pause: Hashable, Sendable {
        /// This plan's units do not fit here.
        case underPlan(Int)
        case until(Instant)
    }
    /// Units in the engine as of the start of `round`.
    package struct Held: Sendable {
        package var units: Range<Int>
        package var round: Int
        /// Whether the engine recomputes.
        package var recomputes: Bool
        /// Nil in a spare, and before it begins.
        package var work: RoundWork?
        /// Since when sealed parts are waited for.
        package var missingSince: Instant?
    }
    package enum State: Sendable {
        case empty(Pause?)
        case fetching(StateMove)
        case atRound(Held)
        /// The seal of the round is being applied.
        case applying(Held)
    }

    package let context: StageContext
    package var state = State.empty(nil)
    /// The leader's last word on who exchanges, by round.
    package var terms: [Int: GroupTerms] = [:]
    package var early = EarlyMail()
    /// Of all plans that were entered.
    private var newestAttempt = 0
    /// What this engine's states are, by round and unit, as it has reported them.
    package var roots: [Int: [Int: UnitRoots]] = [:]
    /// What is on this member's own disk; the last work whose start was kept; and the file that the engine's units are from.
    package var starts: RoundStarts
    package var kept: WorkKey?
    package var restored: KeptStage?
    /// Copies of others' units.
    package var copies = CopyDesk()
    /// Nothing is computed for the round in progress any more: what is held stays as of its start, for whoever may fetch it. A round that this
    /// stage has contributed to may still be sealed.
    package var isYielding = false
    /// Where the plan of an epoch places this member.
    private var seat: (epoch: Int, place: (rank: Int, stage: Int)?)?
    package var effects = EffectQueue<Effect>()

    /// Parts of a sealed round are waited for so long; then the result is fetched.
    package static let patience = Duration.seconds(3)
    /// After a state that the engine refused.
    package static let pause = Duration.seconds(5)

    package init(_ context: StageContext, _ starts: RoundStarts) {
        self.context = context
        self.starts = starts
    }

    package mutating func poll() -> Effect? { effects.pop() }

    // MARK: what is here

    /// For whoever asks for a state.
    package enum Stock: Hashable, Sendable {
        case nothing
        /// On its way to the start of this round.
        case coming(round: Int)
        case here(Range<Int>, round: Int)
        /// The start of this round is gone.
        case past(round: Int)

        func isHere(at round: Int) -> Bool { if case .here(_, round) = self { true } else { false } }
    }
    package var stock: Stock {
        switch state {
        case .empty: .nothing
        case .fetching(let move): .coming(round: move.round)
        case .atRound(let held): .here(held.units, round: held.round)
        case .applying(let held): .past(round: held.round)
        }
    }
    package var work: RoundWork? {
        switch state {
        case .atRound(let held), .applying(let held): held.work
        case .empty, .fetching: nil
        }
    }
    /// What decides about the next step, without the work itself.
    package struct Glance {
        package var units: Range<Int>
        package var round: Int
        package var recomputes: Bool
        /// Of the terms that its work follows.
        package var stamp: GroupStamp?
        package var hasBegun: Bool
        package var missingSince: Instant?
    }
    package var glance: Glance? {
        switch state {
        case .atRound(let held), .applying(let held):
            Glance(
                units: held.units, round: held.round, recomputes: held.recomputes, stamp: held.work?.stamp,
                hasBegun: held.work?.hasBegun ?? false, missingSince: held.missingSince)
        case .empty, .fetching: nil
        }
    }
    package var activity: Activity {
        switch state {
        case .empty: return .waiting
        case .fetching(let move): return .fetchingState(have: move.progress.have, of: move.progress.of)
        case .atRound(let held): return held.work?.activity ?? .waiting
        case .applying: return .applying
        }
    }
    /// What is said of it; nil between two rounds, when nothing new is to be said.
    package func readiness(_ job: JobState) -> Readiness? {
        guard let plan = job.plan, let stage = plan.stage(of: context.me) else { return .hasText }
        switch state {
        case .empty, .fetching: return .fetchingState(epoch: plan.epoch)
        case .atRound(let held):
            guard held.round == job.round, held.units == stage.units else { return nil }
            return .atRound(epoch: plan.epoch, round: held.round)
        case .applying: return nil
        }
    }
    package var nextWake: Instant? {
        let own: Instant? =
            switch state {
            case .empty(.until(let due)?): due
            case .empty: nil
            case .fetching(let move): move.nextWake
            case .atRound(let held): held.missingSince.map { $0 + Self.patience }
            case .applying: nil
            }
        return earliest(own, copies.nextWake)
    }

    // MARK: following the log

    /// An entry has been folded.
    package mutating func entered(_ entry: Entry, at now: Instant) {
        switch entry {
        case .plan(let change) where change.rolledBack:
            roots = roots.filter { $0.key <= change.plan.round }
            starts.forget(after: change.plan.round, by: change.plan.epoch)
            copies.forget(after: change.plan.round)
            drainStarts()
            switch state {
            // Made of seals that are void.
            case .atRound(let held) where held.round > change.plan.round: drop()
            case .applying(let held) where held.round >= change.plan.round: drop()
            case .fetching(let move) where move.round > change.plan.round: drop()
            default: break
            }
        case .states(let states):
            if context.parameters.copiesStart(of: states.round) { copies.hear(of: states.round) }
            withMove { $0.agreed(states.units, at: now) }
            let isOther = states.units.contains { unit in roots[states.round]?[unit.unit].map { $0 != unit } ?? false }
            // Not what the group agreed on: it is fetched.
            if isOther { drop() }
        case .members(let change):
            for left in change.left {
                early.forget(left.peer, upTo: newestAttempt)
                withMove { $0.lost(left.peer, at: now) }
                withCopies { $0.lost(left.peer, at: now) }
            }
        case .genesis, .plan, .seal, .finish, .opening, .electors: break
        }
        if case .plan(let change) = entry {
            newestAttempt = max(newestAttempt, change.plan.pipelines.map(\.attempt).max() ?? 0)
        }
    }

    /// Brings the engine to where the log says it should be.
    package mutating func follow(_ job: JobState, leader: PeerID, at now: Instant) {
        guard job.finished == nil, let plan = job.plan else { return waitForNothing() }
        while step(job, plan, leader: leader, at: now) {}
        copy(plan, job, at: now)
    }

    /// - Returns: whether there may be more to do.
    private mutating func step(_ job: JobState, _ plan: PlacedPlan, leader: PeerID, at now: Instant) -> Bool {
        let place = place(plan)
        let stage = place.map { plan.pipelines[$0.rank].stages[$0.stage] }
        switch state {
        case .empty(let pause):
            guard let stage else {
                waitForNothing()
                return false
            }
            switch pause {
            case .underPlan(plan.epoch)?: return false
            case .until(let due)? where due > now: return false
            default: beginMove(to: stage, plan, job, leader: leader, at: now)
            }
            return true
        case .fetching(let move):
            guard let stage else {
                drop()
                return false
            }
            guard move.round == job.round, move.units == stage.units else {
                beginMove(to: stage, plan, job, leader: leader, at: now)
                return true
            }
            if move.epoch != plan.epoch { followMove(plan, job, leader: leader, at: now) }
            // Whoever had them is gone. The leader may have a checkpoint of the round by now, of which the plan could not know.
            if !move.orphans.isEmpty {
                withMove {
                    let sources = Dictionary(uniqueKeysWithValues: $0.orphans.map { ($0, [leader]) })
                    $0.add(sources: sources, at: now)
                }
            }
            return false
        case .atRound:
            guard let held = glance, held.round >= job.round else { return applySeal(job, at: now) }
            guard let place, let stage else {
                rest()
                return false
            }
            guard held.round == job.round, held.units == stage.units else {
                beginMove(to: stage, plan, job, leader: leader, at: now)
                return true
            }
            waitForNothing()
            if isYielding { if work?.hasContributed != true { rest() } } else { run(plan, place, job, at: now) }
            return false
        case .applying: return lookAfter(job)
        }
    }

    /// The seal whose parts were missing is void, the place is another's, or the job is over: nothing is tried again.
    private mutating func waitForNothing() {
        if case .empty(.until?) = state { state = .empty(nil) }
        guard glance?.missingSince != nil, case (var held, let isApplying)? = takeHeld() else { return }
        held.missingSince = nil
        putBack(held, isApplying: isApplying)
    }

    private mutating func place(_ plan: PlacedPlan) -> (rank: Int, stage: Int)? {
        if let seat, seat.epoch == plan.epoch { return seat.place }
        let place = plan.placement(of: context.me)
        seat = (plan.epoch, place)
        return place
    }

    /// What is held counts no more: it has to come from others.
    package mutating func drop() {
        effects.push(.void)
        state = .empty(nil)
        roots = [:]
    }
    /// The member is no longer one: nothing of it is left.
    package mutating func reset() {
        drop()
        terms = [:]
        early = EarlyMail()
        copies = CopyDesk()
        seat = nil
    }

    // MARK: one state at a time

    /// Takes what is held out, so that it is unique while it changes; the caller puts it back.
    package mutating func takeHeld() -> (held: Held, isApplying: Bool)? {
        switch state {
        case .empty, .fetching: return nil
        case .atRound, .applying: break
        }
        switch exchange(&state, with: .empty(nil)) {
        case .atRound(let held): return (held, false)
        case .applying(let held): return (held, true)
        case .empty, .fetching: return nil
        }
    }
    package mutating func putBack(_ held: Held, isApplying: Bool) {
        state = isApplying ? .applying(held) : .atRound(held)
    }

    /// Changes the round's work, where there is some, and performs what follows.
    package mutating func withWork<T>(_ body: (inout RoundWork) -> T) -> T? {
        guard case (var held, let isApplying)? = takeHeld() else { return nil }
        guard held.work != nil else {
            putBack(held, isApplying: isApplying)
            return nil
        }
        let result = body(&held.work!)
        let outcome = drain(&held.work!)
        putBack(held, isApplying: isApplying)
        if let outcome { applied(outcome) }
        return result
    }
    package mutating func withMove(_ body: (inout StateMove) -> Void) {
        guard case .fetching = state, case .fetching(var move) = exchange(&state, with: .empty(nil)) else { return }
        body(&move)
        drain(&move)
        state = .fetching(move)
    }
}
