public import EventLoop
import Foundation
public import Lending
public import Membership
public import Primitives
public import Sensors
public import Telemetry

/// Has a peer keep to what its owner lends: reads the sensors once a second, off the loop, lets a ``LimitDesk`` decide, and does what it says.
public final class LimitKeeper {
    private var desk: LimitDesk
    public private(set) var layers: LimitLayers
    private let sensors: MachineSensors
    private let usage: UsageFile
    private let folder: String
    private weak var daemon: LiveDaemon?
    private var timer: EventLoop.Timer?
    private var wakeUp: EventLoop.Timer?
    /// Since when sensors are being read.
    private var readingSince: Instant?
    private var counted = (sent: 0, received: 0)
    private var savedAt = Instant.zero
    private var applied = (mode: Allowance.Mode.work, isSpared: false, claim: MachineClaim.limit)
    private var usageWasTold = false
    private var isSaving = false
    /// Bytes of the last second.
    private var pace = 0
    private var isDraining = false

    private static let readEvery = Duration.seconds(1)
    private static let saveEvery = Duration.seconds(30)
    /// A round that does not end by then is not waited for.
    static let drainPatience = Duration.seconds(120)

    /// - Parameters:
    ///   - layers: where each limit was given; commands change one of them.
    ///   - folder: the peer's.
    ///   - sensors: of this machine.
    public init(_ layers: LimitLayers, folder: String, sensors: MachineSensors = MachineSensors()) {
        self.layers = layers
        self.folder = folder
        self.sensors = sensors
        desk = LimitDesk(layers.limits)
        usage = UsageFile(folder: folder)
    }

    /// Before the daemon starts: what the sensors say counts for the first job, too.
    func attach(to daemon: LiveDaemon) {
        self.daemon = daemon
        let loop = daemon.loop
        if let damage = usage.damage { tell(.usageUnread(why: damage)) }
        if desk.limits.monthly != nil {
            // What is written down ahead belongs to a month.
            usage.add(sent: 0, received: 0, month: moment.month)
            saveSoon(daemon)
        }
        daemon.lend(desk.allowance)
        // Whoever waits for a sensor that does not answer cannot be asked anything either.
        let first = read(daemon)
        desk.receive(first.wait(seconds: Self.firstPatience) ?? silent, at: loop.now)
        timer = EventLoop.Timer(loop) { [unowned self] in look() }
        wakeUp = EventLoop.Timer(loop) { [unowned self] in
            desk.wake(at: loop.now)
            drain()
        }
        drain()
        timer?.arm(at: loop.now + Self.readEvery)
    }
    func close() {
        count()
        save()
        timer?.close()
        wakeUp?.close()
    }

    // MARK: sensors

    private var moment: LocalMoment { localMoment(secondsSince1970: time(nil)) }
    private static let firstPatience = 2.0
    /// A sensor that takes longer counts as not seen until it answers.
    private static let patience = Duration.seconds(5)

    private var silent: Readings {
        .silent("the sensors do not answer", for: desk.limits, moment: moment, monthBytes: usage.used)
    }
    /// Off the loop; the desk hears of it.
    private func read(_ daemon: LiveDaemon) -> FirstReading {
        let (sensors, limits, moment, used, now) = (sensors, desk.limits, moment, usage.used, daemon.loop.now)
        let first = FirstReading()
        readingSince = now
        daemon.offLoop({
            let readings = sensors.read(for: limits, moment: moment, monthBytes: used, at: now)
            first.give(readings)
            return readings
        }) { [weak self] readings in
            guard let self, let daemon = self.daemon else { return }
            readingSince = nil
            desk.receive(readings, at: daemon.loop.now)
            drain()
        }
        return first
    }
    private func look() {
        guard let daemon else { return }
        count()
        if isSaveDue(at: daemon.loop.now) { saveSoon(daemon) }
        timer?.arm(at: daemon.loop.now + Self.readEvery)
        // A sensor that takes long is not asked a second time meanwhile; hours and the month's bytes need none.
        guard let since = readingSince else {
            _ = read(daemon)
            return
        }
        guard daemon.loop.now - since >= Self.patience else { return }
        desk.receive(silent, at: daemon.loop.now)
        drain()
    }
    private func count() {
        guard let daemon else { return }
        let bytes = daemon.meteredBytes
        usage.add(sent: bytes.sent - counted.sent, received: bytes.received - counted.received, month: moment.month)
        pace = bytes.sent - counted.sent + bytes.received - counted.received
        counted = bytes
    }
    /// What is written down before it is used. As much as some seconds need, for each time that it is written costs the disk something; and a small part
    /// of the month's, for it is lost when this process is killed.
    private var ahead: Int {
        guard let quota = desk.limits.monthly else { return 0 }
        return max(min(quota.bytes / 256, 64 << 20), 64 << 10, 3 * pace)
    }
    private func isSaveDue(at now: Instant) -> Bool {
        if now - savedAt >= Self.saveEvery { return true }
        // What a burst has asked for is given back when it is over: a peer that is killed loses little.
        return desk.limits.monthly != nil && (usage.isDue(next: pace) || usage.ahead > 2 * ahead)
    }
    /// A disk may be slow: off the loop.
    private func saveSoon(_ daemon: LiveDaemon) {
        guard !isSaving else { return }
        (isSaving, savedAt) = (true, daemon.loop.now)
        let writing = usage.take(ahead)
        daemon.offLoop({ () -> String? in
            do throws(NodeError) { try writing.perform() } catch { return error.description }
            return nil
        }) { [weak self] problem in
            self?.isSaving = false
            if let problem { self?.unsaved(problem) }
        }
    }
    private func save() {
        do throws(NodeError) { try usage.save() } catch { unsaved(error.description) }
    }
    private func unsaved(_ why: String) {
        usage.failed()
        if !usageWasTold { tell(.storageFailed(what: "what was sent this month", why: why)) }
        usageWasTold = true
    }
    private func tell(_ what: Happening) {
        guard let daemon else { return }
        daemon.onEvent?(Event(what, at: daemon.loop.now))
    }

    // MARK: what the desk says

    private func drain() {
        guard !isDraining, let daemon else { return }
        isDraining = true
        while let effect = desk.poll() {
            switch effect {
            case .event(let what): tell(what)
            case .allow(let allowance):
                daemon.lend(allowance)
                apply(allowance.mode, daemon)
            }
        }
        isDraining = false
        wakeUp?.arm(at: desk.nextWake)
    }
    private func apply(_ mode: Allowance.Mode, _ daemon: LiveDaemon) {
        // The processor, for whoever wants it, and heat are spared by not computing; what a connection costs allows nothing more.
        let isSpared = mode == .away && !desk.allowance.reasons.contains { $0.sense == .metered }
        let claim: MachineClaim = desk.allowance.reasons.first?.sense == .owner ? .owner : .limit
        guard (mode, isSpared, claim) != applied else { return }
        applied = (mode, isSpared, claim)
        let deadline = daemon.loop.now + Self.drainPatience
        let wish: OwnersWish =
            switch mode {
            case .work: .work
            case .hold: .hold(claim)
            case .away: isSpared ? .yield(claim, by: deadline) : .pause(claim)
            case .drain: .leave(claim, by: deadline)
            }
        daemon.heedOwner(wish)
    }

    // MARK: the owner

    func pauseByOwner(drain byRound: Bool = false) {
        guard let daemon else { return }
        desk.pauseByOwner(drain: byRound, at: daemon.loop.now)
        drain()
    }
    func resumeByOwner() {
        guard let daemon else { return }
        desk.resumeByOwner(at: daemon.loop.now)
        drain()
    }
    /// `default` takes back what a command gave.
    ///
    /// - Returns: what the owner should know of it, in a sentence.
    func set(_ name: String, to text: String) throws(NodeError) -> String {
        guard let daemon else { throw .failed("the daemon ends") }
        let (key, winner) = try LimitFiles.change(&layers, name, to: text, in: folder, root: sensors.root)
        if key == .monthly { usage.forgive() }
        desk.set(layers.limits, at: daemon.loop.now)
        drain()
        let value = "\(key.rawValue) is \(layers.limits.text(key))"
        if let winner { return "\(value), as \(winner) says for this process; what you gave counts without that" }
        return key.needsRestart ? "\(value) from the next start on" : "\(value) from now on"
    }

    /// Of what the owner's disk limit leaves: nil where there is none.
    var disk: ByteCount? { desk.limits.disk }

    func status(at now: Instant) -> LimitStatus {
        let allowance = desk.allowance
        return LimitStatus(
            mode: allowance.mode,
            reasons: allowance.reasons.map {
                .init(limit: $0.sense.name, why: $0.why, seconds: (now - $0.since).inSeconds, until: $0.until)
            },
            unseen: allowance.unseen.map { .init(limit: $0.sense.name, why: $0.why, instead: $0.instead) },
            values: LimitKey.allCases.map {
                .init(
                    key: $0.rawValue, value: layers.limits.text($0), source: layers.source(of: $0), meaning: $0.meaning)
            },
            cpuPercent: allowance.cpuShare * 100, isLowestPriority: allowance.isLowestPriority,
            month: usage.month, monthSentBytes: usage.sent, monthReceivedBytes: usage.received,
            monthDamage: usage.damage)
    }
}

/// What one thread reads, and another waits for, not for ever.
private final class FirstReading: @unchecked Sendable {
    private let changed = NSCondition()
    private var readings: Readings?

    func give(_ readings: Readings) {
        changed.withLock {
            self.readings = readings
            changed.signal()
        }
    }
    func wait(seconds: Double) -> Readings? {
        let end = Date(timeIntervalSinceNow: seconds)
        return changed.withLock {
            while readings == nil, changed.wait(until: end) {}
            return readings
        }
    }
}

/// What a peer may do and why not more, for its owner. Its JSON is described in docs/STATUS.md.
public struct LimitStatus: Codable, Hashable, Sendable {
    public struct Reason: Codable, Hashable, Sendable {
        /// The limit's key in peer.yaml, or `owner`.
        public var limit: String
        public var why: String
        /// So long it has been so.
        public var seconds: Double
        public var until: String?
    }
    public struct Unseen: Codable, Hashable, Sendable {
        public var limit: String
        public var why: String
        public var instead: String
    }
    public struct Value: Codable, Hashable, Sendable {
        public var key: String
        public var value: String
        /// Who gave it; nil for the default.
        public var source: String?
        public var meaning: String
    }
    public var mode: Allowance.Mode
    public var reasons: [Reason]
    public var unseen: [Unseen]
    public var values: [Value]
    public var cpuPercent: Double
    public var isLowestPriority: Bool
    /// Year and month, such as 202611.
    public var month: Int
    public var monthSentBytes: Int
    public var monthReceivedBytes: Int
    /// Why these are not all.
    public var monthDamage: String?
}
