public import Primitives
public import Telemetry

/// Decides what a peer may do now: what its owner allows, what sensors say and the time come in, an ``Allowance`` with its reasons comes out.
///
/// Whoever wants the machine back, its owner too, gets it at once: nothing is computed from then on (``Allowance/Mode/hold``). When that lasts, the
/// peer's place is handed over (``Allowance/Mode/away``); when it does not, the job goes on where it stood. What is known ahead (hours, a month's bytes)
/// lets a round end first (``Allowance/Mode/drain``). Each reason begins and ends with hysteresis of its own, so that a fan or a
/// burst of work elsewhere does not make a peer come and go.
public struct LimitDesk: Core, Sendable {
    public enum Effect: Hashable, Sendable {
        case allow(Allowance)
        case event(Happening)
    }
    /// What the owner asked for by command.
    enum Wish: Hashable, Sendable { case work, pause, drain }

    /// One reason, with what keeps it from flickering.
    struct Watch: Hashable, Sendable {
        var isOn = false
        var why = ""
        var until: String?
        var since = Instant.zero
        /// Since when the sensor has said the other thing.
        var changing: Instant?
        /// Since when the sensor has said nothing.
        var unseen: Instant?
    }
    public private(set) var limits: OwnerLimits
    public private(set) var allowance = Allowance()
    private var readings: Readings?
    private var watches: [LimitSense: Watch] = [:]
    private var wish = Wish.work
    private var wishedAt = Instant.zero
    private var heldSince: Instant?
    private var presence = UserPresence()
    private var effects = EffectQueue<Effect>()
    private var due: Instant?

    public init(_ limits: OwnerLimits) {
        self.limits = limits
        allowance = allowed(mode: .work, [], [])
    }

    // MARK: inputs

    public mutating func receive(_ readings: Readings, at now: Instant) {
        self.readings = readings
        evaluate(at: now)
    }
    public mutating func set(_ limits: OwnerLimits, at now: Instant) {
        for key in LimitKey.allCases where limits.text(key) != self.limits.text(key) {
            effects.push(
                .event(.limitChanged(limit: key.rawValue, from: self.limits.text(key), to: limits.text(key))))
        }
        self.limits = limits
        evaluate(at: now)
    }
    /// The owner wants the machine now; with `drain`, when a round has ended.
    public mutating func pauseByOwner(drain: Bool = false, at now: Instant) {
        wish = drain && wish != .pause ? .drain : .pause
        wishedAt = now
        evaluate(at: now)
    }
    public mutating func resumeByOwner(at now: Instant) {
        wish = .work
        evaluate(at: now)
    }
    public mutating func wake(at now: Instant) { evaluate(at: now) }
    public mutating func poll() -> Effect? { effects.pop() }
    public var nextWake: Instant? { due }

    // MARK: what sensors say of each limit

    private enum Finding {
        case fine
        case bites(String, until: String? = nil)
        case unseen(String, instead: String)
    }

    private static let paused = "its owner paused it"
    /// For so long the sensor has to say it before it counts.
    private func onset(_ sense: LimitSense) -> Duration { sense == .load ? .seconds(3) : .zero }
    /// For so long it has to be over before it is.
    private func release(_ sense: LimitSense) -> Duration {
        switch sense {
        case .heat, .load: limits.resumeAfter
        case .battery, .metered: .seconds(2)
        case .owner, .user, .hours, .quota: .zero
        }
    }

    private mutating func find(_ sense: LimitSense, _ readings: Readings) -> Finding {
        switch sense {
        case .owner: return wish == .pause ? .bites(Self.paused, until: "`atoll resume`") : .fine
        case .battery:
            return rule(
                limits.onBattery, readings.onBattery, "this machine runs on its battery", "at the lowest priority")
        case .user:
            let isActive = presence.see(readings.userIdle, after: limits.userIdleAfter)
            return rule(limits.userActive, isActive, "somebody uses this machine", "at the lowest priority")
        case .metered:
            return rule(
                limits.metered, readings.isMetered, "this connection is paid by volume",
                "as if it were not, within the caps")
        case .heat:
            // What has been too hot has to be five degrees cooler.
            let isOn = watches[.heat]?.isOn ?? false
            return level(
                limits.temperature.map { isOn ? $0 - 5 : $0 }, readings.temperature, "half of the time"
            ) { "a processor sensor says \(fixed($0, 0)) °C, and \(fixed(limits.temperature ?? 0, 0)) are allowed" }
        case .load:
            let isOn = watches[.load]?.isOn ?? false
            return level(
                limits.othersLoad.map { isOn ? $0 * 0.7 : $0 }, readings.othersLoad, "at the lowest priority"
            ) { "other programs wait for the processor \(fixed($0 * 100, 0)) % of the time" }
        case .hours:
            guard !limits.hours.isOpen(readings.moment) else { return .fine }
            return .bites("it is not among the hours for work", until: limits.hours.nextOpening(after: readings.moment))
        case .quota:
            guard let quota = limits.monthly else { return .fine }
            switch readings.monthBytes {
            case .value(let used) where used >= quota:
                return .bites("this month's \(quota) are used up", until: "the next month")
            case .value: return .fine
            // What has been used cannot be known: it may be all.
            case .unknown(let why):
                return .bites(
                    "what was sent this month is not known (\(why))", until: "the next month, or a new monthly_gib")
            }
        }
    }
    private func rule(_ rule: OwnerLimits.Rule, _ reading: Reading<Bool>, _ why: String, _ instead: String) -> Finding {
        guard rule == .pause else { return .fine }
        switch reading {
        case .value(true): return .bites(why)
        case .value(false), .unknown(Readings.notAsked): return .fine
        case .unknown(let unknown): return unseen(unknown, instead)
        }
    }
    private func level(
        _ limit: Double?, _ reading: Reading<Double>, _ instead: String, _ why: (Double) -> String
    ) -> Finding {
        guard let limit else { return .fine }
        switch reading {
        case .value(let value): return value > limit ? .bites(why(value)) : .fine
        // The limit is new: the next reading says more.
        case .unknown(Readings.notAsked): return .fine
        case .unknown(let unknown): return unseen(unknown, instead)
        }
    }
    private func unseen(_ why: String, _ instead: String) -> Finding {
        switch limits.unseen {
        case .careful: .unseen(why, instead: "it works \(instead)")
        case .work: .unseen(why, instead: "it works")
        case .pause: .bites("it cannot be seen whether it may work: \(why)")
        }
    }

    // MARK: what follows

    private mutating func evaluate(at now: Instant) {
        var unseen: [Allowance.Unseen] = []
        due = nil
        if let readings {
            for sense in LimitSense.allCases {
                let finding = find(sense, readings)
                if case .unseen(let why, let instead) = finding {
                    unseen.append(Allowance.Unseen(sense: sense, why: why, instead: instead))
                }
                follow(sense, remembered(sense, finding, at: now), at: now)
            }
        } else {
            follow(.owner, wish == .pause ? .bites(Self.paused, until: "`atoll resume`") : .fine, at: now)
        }
        var reasons = LimitSense.allCases.compactMap { sense -> Allowance.Reason? in
            guard let watch = watches[sense], watch.isOn else { return nil }
            return Allowance.Reason(sense: sense, why: watch.why, since: watch.since, until: watch.until)
        }
        if wish == .drain {
            reasons.append(
                .init(sense: .owner, why: "its owner asked it to leave", since: wishedAt, until: "`atoll resume`"))
        }
        change(to: allowed(mode: mode(reasons, at: now), reasons, unseen), at: now)
    }

    /// So long what was seen last is believed of a sensor that says nothing any more: a machine that was too hot is not cool because its
    /// thermometer is gone.
    static let memory = Duration.seconds(600)
    private mutating func remembered(_ sense: LimitSense, _ finding: Finding, at now: Instant) -> Finding {
        guard case .unseen = finding, let watch = watches[sense], watch.isOn else {
            watches[sense]?.unseen = nil
            return finding
        }
        let since = watch.unseen ?? now
        watches[sense]!.unseen = since
        guard now - since < Self.memory else { return finding }
        due = earliest(due, since + Self.memory)
        return .bites(watch.why, until: watch.until)
    }

    private mutating func follow(_ sense: LimitSense, _ finding: Finding, at now: Instant) {
        var watch = watches[sense] ?? Watch()
        defer { watches[sense] = watch }
        var bites = false
        if case .bites(let why, let until) = finding {
            bites = true
            // While it is nearly over, what it began with stays said.
            (watch.why, watch.until) = (why, until)
        }
        guard bites != watch.isOn else { return watch.changing = nil }
        let since = watch.changing ?? now
        let patience = bites ? onset(sense) : release(sense)
        guard now - since >= patience else {
            watch.changing = since
            due = earliest(due, since + patience)
            return
        }
        watch.changing = nil
        watch.isOn = bites
        watch.since = now
    }

    private mutating func mode(_ reasons: [Allowance.Reason], at now: Instant) -> Allowance.Mode {
        guard !reasons.isEmpty else {
            heldSince = nil
            return .work
        }
        if allowance.mode == .away { return .away }
        let urgent = reasons.filter { $0.sense.isUrgent && !(wish == .drain && $0.sense == .owner) }
        guard !urgent.isEmpty else {
            heldSince = nil
            return .drain
        }
        // What a connection costs is over only when nothing is sent any more.
        if urgent.contains(where: { $0.sense == .metered }) { return .away }
        let since = heldSince ?? now
        heldSince = since
        let end = handOver(of: urgent, heldSince: since)
        guard end > now else { return .away }
        due = earliest(due, end)
        return .hold
    }

    /// A reason that is over, and is soon believed to be, is not handed over for: the job goes on where it stands.
    private func handOver(of urgent: [Allowance.Reason], heldSince since: Instant) -> Instant {
        let end = since + limits.handOverAfter
        let over = urgent.map { reason in watches[reason.sense]?.changing.map { $0 + release(reason.sense) } }
        guard let last = over.map({ $0 ?? Instant(nanoseconds: .max) }).max(), last <= end + limits.handOverAfter else {
            return end
        }
        return max(end, last)
    }

    private func allowed(
        mode: Allowance.Mode, _ reasons: [Allowance.Reason], _ unseen: [Allowance.Unseen]
    ) -> Allowance {
        var out = Allowance()
        (out.mode, out.reasons, out.unseen) = (mode, reasons, unseen)
        let isCareful = limits.unseen == .careful && !unseen.isEmpty
        out.cpuShare = isCareful && unseen.contains { $0.sense == .heat } ? min(limits.cpuShare, 0.5) : limits.cpuShare
        // What a connection costs is spared by caps, not by computing slower.
        out.isLowestPriority = limits.priority == .idle || isCareful && unseen.contains { $0.sense != .metered }
        (out.upload, out.download) = (limits.upload, limits.download)
        return out
    }

    private mutating func change(to next: Allowance, at now: Instant) {
        let before = allowance
        guard next != before else { return }
        allowance = next
        for one in next.unseen where !before.unseen.contains(where: { $0.sense == one.sense }) {
            effects.push(.event(.limitUnseen(limit: one.sense.name, why: one.why, instead: one.instead)))
        }
        if next.mode != before.mode { effects.push(.event(happening(next, before, at: now))) }
        effects.push(.allow(next))
    }
    private func happening(_ next: Allowance, _ before: Allowance, at now: Instant) -> Happening {
        let first = next.reasons.first
        let limit = first?.sense.name ?? ""
        return switch next.mode {
        case .hold: .workHeld(limit: limit, why: first?.why ?? "")
        case .drain: .workDraining(limit: limit, why: first?.why ?? "")
        case .away: .workHandedOver(limit: limit, why: first?.why ?? "")
        case .work: .workTakenUp(seconds: before.reasons.map { (now - $0.since).inSeconds }.max() ?? 0)
        }
    }
}

extension LimitSense {
    /// The limit's key, where it has one.
    public var name: String { key?.rawValue ?? rawValue }
}
