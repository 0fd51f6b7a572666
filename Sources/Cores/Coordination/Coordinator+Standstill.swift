import Messages
import Primitives
import Record
import Telemetry

/// Nothing can go on with who is here: everybody left, or the model does not fit those who are left. Whoever was away may be back soon,
/// so that the job waits, and says so.
struct Standstill: Sendable {
    let since: Instant
    let why: String
    /// With whom going on was tried in vain.
    var tried: [PeerID]

    /// Time in which nobody could be heard, or this process slept, is nobody's.
    func excused(_ pause: Duration, at now: Instant) -> Standstill {
        Standstill(since: min(since + pause, now), why: why, tried: tried)
    }
}

extension Coordinator {
    /// How long somebody is waited for with whom the job could go on.
    static let standstillPatience = Duration.seconds(120)

    /// - Parameter tried: with whom the planner could not go on.
    mutating func standStill(_ why: String, tried: [PeerID] = []) {
        guard timers.standstill == nil else {
            timers.standstill!.tried = tried
            return
        }
        timers.standstill = Standstill(since: now, why: why, tried: tried)
        event(
            .interrupted(
                why:
                    "\(why); waiting \(fixed(Self.standstillPatience.inSeconds, 0)) s for peers with which the job can go on"
            ))
    }

    /// No pipeline of the round is whole, and nobody has decided what comes of it: a leader before lost somebody, and did not live to go back.
    mutating func stepBroken() -> Bool {
        guard timers.standstill == nil, desk.wanted == nil, !desk.isAsking, !desk.hasAnswer, state.plan != nil,
            state.spec != nil, state.wholeRanks.isEmpty
        else { return false }
        standStill("no pipeline is whole")
        return true
    }

    /// Takes in who comes, and tries again with them.
    mutating func stepStandstill() -> Bool {
        guard let standstill = timers.standstill else { return false }
        if !lines.isSurveying, admit(roster.accepted) { return true }
        guard !desk.isAsking else { return false }
        let able = roster.joined.filter(\.isPlannable).map(\.peer)
        if !able.isEmpty, able != standstill.tried, !lacksHolders(since: standstill.since),
            !lacksSomebody(since: standstill.since)
        {
            timers.standstill!.tried = able
            desk.want(.rollBack, standstill.why)
            return true
        }
        guard now - standstill.since >= Self.standstillPatience else { return false }
        return fail(standstill.why)
    }
}
