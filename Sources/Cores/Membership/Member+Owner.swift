import Messages
public import Primitives
import Record
import Telemetry

/// Who wants a machine for something else: what others are told.
public enum MachineClaim: Hashable, Sendable {
    /// Its owner said so.
    case owner
    /// A limit that its owner has set. Which one is the owner's business.
    case limit

    var paused: String {
        switch self {
        case .owner: "its owner has paused it"
        case .limit: "a limit of its owner has paused it"
        }
    }
    var leaves: String {
        switch self {
        case .owner: "its owner asked it to leave"
        case .limit: "a limit of its owner asked it to leave"
        }
    }
}

/// What is wanted of a member for its machine's sake.
public enum OwnersWish: Hashable, Sendable {
    case work
    /// Computing nothing for the moment.
    case hold(MachineClaim)
    /// Leaving when the round is over, or then.
    case leave(MachineClaim, by: Instant)
    /// Computing nothing, and leaving when others have what it alone holds, or then.
    case yield(MachineClaim, by: Instant)
    /// Leaving at once.
    case pause(MachineClaim)

    /// Whether it will be in its job no more.
    public var ends: Bool {
        switch self {
        case .work, .hold: false
        case .leave, .yield, .pause: true
        }
    }
}

/// How its owner keeps a member from working.
struct OwnersPause {
    var isOn = false
    var claim = MachineClaim.owner
    /// Who offered something meanwhile: they are told when it is over.
    var askers: [PeerID] = []
    /// It leaves when this round is over and others have these units, or then.
    var leaving: (round: Int, units: Range<Int>, since: Instant, by: Instant)?
    /// It computes nothing meanwhile.
    var isYielding = false
    /// It computes nothing for the moment, and keeps its job.
    var isHeld = false
    /// It was held when no plan had a place for it: none is to have one.
    var isSpared = false

    /// For a plan without it, where it alone holds something; and two rounds.
    static let handOverPatience = Duration.seconds(15)

    func nextWake(after now: Instant) -> Instant? {
        guard isYielding, let since = leaving?.since, now < since + Self.handOverPatience else { return leaving?.by }
        return earliest(leaving?.by, since + Self.handOverPatience)
    }
}

/// The owner's word, and that of limits.
extension Member {
    /// Whether its owner has paused it: it leaves its job, and takes no other.
    public var isPausedByOwner: Bool { ownersPause.isOn }
    /// Whether it computes nothing, and stays until others have what it holds.
    public var isYieldingByOwner: Bool { ownersPause.isYielding }
    /// Whether it leaves when the round is over.
    public var isLeavingByOwner: Bool { ownersPause.leaving != nil }

    public mutating func heedOwner(_ wish: OwnersWish, at now: Instant) {
        if wish.ends { ownersPause.isHeld = false }
        switch wish {
        case .work: resumeByOwner(at: now)
        case .hold(let claim): holdByOwner(claim, at: now)
        case .leave(let claim, let deadline): leaveByOwner(claim, by: deadline, at: now)
        case .yield(let claim, let deadline): yieldByOwner(claim, by: deadline, at: now)
        case .pause(let claim): pauseByOwner(claim, at: now)
        }
    }

    /// The owner wants the machine now: what it works on is handed back, and offers are declined until ``resumeByOwner(at:)``.
    public mutating func pauseByOwner(_ claim: MachineClaim = .owner, at now: Instant) {
        guard !ownersPause.isOn else { return }
        ownersPause.isOn = true
        let reason = ownersPause.leaving == nil || ownersPause.isYielding ? claim.paused : claim.leaves
        ownersPause.claim = claim
        ownersPause.leaving = nil
        ownersPause.isYielding = false
        effects.push(.event(Event(.ownerPaused, at: now)))
        if let job = present {
            ownersPause.askers = [job.leader]
            self.job!.report(.farewell(reason: reason))
            self.job!.end(reason)
        }
        drain(at: now)
    }
    /// The owner has it leave where the next round begins, by `deadline` at the latest: what others wait for is done first, and what nobody else
    /// holds is given to whoever takes its place under the plan that its leader makes for that, which takes one round more. Offers are declined from
    /// now on, as by ``pauseByOwner(_:at:)``, which follows.
    public mutating func leaveByOwner(_ claim: MachineClaim = .owner, by deadline: Instant, at now: Instant) {
        guard !ownersPause.isOn, ownersPause.leaving == nil else { return }
        // Nobody waits for who holds nothing.
        guard let position = present?.position, let units = position.units else {
            return pauseByOwner(claim, at: now)
        }
        ownersPause.claim = claim
        ownersPause.leaving = (position.round, units, now, deadline)
        job!.say(isLeaving: true)
        effects.push(.event(Event(.ownerLeaves(round: position.round), at: now)))
        drain(at: now)
    }
    /// The owner wants the processor now, and what this member alone holds is not to be lost with it: nothing is computed from now on, and the
    /// member leaves when others have that, or by `deadline`. Where nobody waits for it, or nobody is here who could have it, it leaves at once.
    public mutating func yieldByOwner(_ claim: MachineClaim = .owner, by deadline: Instant, at now: Instant) {
        guard !ownersPause.isOn, !ownersPause.isYielding else { return }
        guard let position = present?.position, let units = position.units, job!.isOnlyHolder(of: units),
            job!.hasColleagues
        else { return pauseByOwner(claim, at: now) }
        ownersPause.claim = claim
        ownersPause.leaving = (position.round, units, now, deadline)
        ownersPause.isYielding = true
        job!.now = now
        job!.say(isLeaving: true, atOnce: true)
        drain(at: now)
    }
    /// Nothing is computed for the moment, which may soon be over: the job is kept, and with it the place in it. Whoever has none gets none
    /// meanwhile: its leader is told to plan without it. Without a job it takes none while its owner has said so.
    public mutating func holdByOwner(_ claim: MachineClaim = .limit, at now: Instant) {
        ownersPause.isHeld = true
        ownersPause.claim = claim
        drain(at: now)
    }
    public mutating func resumeByOwner(at now: Instant) {
        let wasOver = ownersPause.isOn || ownersPause.leaving != nil
        guard wasOver || ownersPause.isHeld else { return }
        // It has given up its part of the round, and the leader may still wait for that: it comes back like somebody else.
        if ownersPause.isYielding, let present, present.job.plan?.placement(of: present.me) != nil {
            pauseByOwner(ownersPause.claim, at: now)
        }
        let askers = ownersPause.askers
        ownersPause = OwnersPause()
        job?.now = now
        job?.say(isLeaving: false)
        if wasOver { effects.push(.event(Event(.ownerResumed, at: now))) }
        // Whoever leads a job offers it to those who say what they can do.
        for peer in askers { answerCapability(to: peer) }
        drain(at: now)
    }

    /// Why an offer is declined for the owner's sake; whoever made it hears when that is over.
    mutating func declinesByOwner(from peer: PeerID) -> String? {
        let isHeld = ownersPause.isHeld && ownersPause.claim == .owner && job == nil
        guard ownersPause.isOn || ownersPause.leaving != nil || isHeld else { return nil }
        if !ownersPause.askers.contains(peer), ownersPause.askers.count < 64 { ownersPause.askers.append(peer) }
        return ownersPause.claim.paused
    }

    /// After each input.
    mutating func followOwner(at now: Instant) {
        leaveIfRoundIsOver(at: now)
        guard ownersPause.isHeld, let present else { return }
        if present.job.plan?.placement(of: present.me) == nil { ownersPause.isSpared = true }
        guard ownersPause.isSpared else { return }
        job!.now = now
        job!.say(isLeaving: true, atOnce: ownersPause.isYielding)
    }
    private mutating func leaveIfRoundIsOver(at now: Instant) {
        guard let leaving = ownersPause.leaving else { return }
        if ownersPause.isYielding, let present, now < leaving.by {
            let isPlaced = present.job.plan?.placement(of: present.me) != nil
            // Nobody else can have it, or its leader is not there.
            if isPlaced, now - leaving.since < OwnersPause.handOverPatience { return }
            if !isPlaced, present.isOnlyHolder(of: leaving.units) { return }
        } else if let present, now < leaving.by {
            let isPlaced = present.job.plan?.placement(of: present.me) != nil
            guard present.job.round > leaving.round, !isPlaced || present.agreedRound ?? 0 > leaving.round else {
                return
            }
            if present.isOnlyHolder(of: leaving.units) {
                // Where nobody can take its place, it does not wait for that for ever.
                let isAsked =
                    present.job.round > leaving.round + 1 && now - leaving.since >= OwnersPause.handOverPatience
                guard isPlaced, isAsked else { return }
            }
        }
        pauseByOwner(ownersPause.claim, at: now)
    }
}
