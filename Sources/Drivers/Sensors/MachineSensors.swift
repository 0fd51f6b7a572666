import Glibc
public import Lending
public import Primitives

/// All sensors of this machine that limits ask for. Reading may take a while (a bus that does not answer, a slow thermometer): off the loop,
/// one reading at a time.
public final class MachineSensors: @unchecked Sendable {
    /// Before `/proc` and `/sys`; empty for this machine.
    public let root: String
    private let battery: BatterySensor
    private let thermometer: Thermometer
    private var pressure: PressureMeter
    private var bus: SystemBus?
    private let hasBus: Bool
    /// Slow ones are not asked each time.
    private var idle = Kept<Duration>(every: .seconds(1))
    private var metered = Kept<Bool>(every: .seconds(10))
    private var heat = Kept<Double>(every: .seconds(3))
    /// A bus that was not there is looked for again so often.
    private var busAt: Instant?
    private var busWhy = ""

    /// What was read last, for a time.
    private struct Kept<Value: Hashable & Sendable> {
        let every: Duration
        private var last: (reading: Reading<Value>, at: Instant)?
        init(every: Duration) { self.every = every }
        mutating func get(at now: Instant, _ read: () -> Reading<Value>) -> Reading<Value> {
            if let last, now - last.at < every { return last.reading }
            let reading = read()
            last = (reading, now)
            return reading
        }
    }

    /// - Parameter root: before `/proc` and `/sys`; empty for this machine. Of another root there is no bus.
    public init(root: String = "") {
        self.root = root
        let files = SensorFiles(root: root)
        battery = BatterySensor(files: files)
        thermometer = Thermometer(files: files)
        pressure = PressureMeter(files)
        hasBus = root.isEmpty
    }

    public func read(
        for limits: OwnerLimits, moment: LocalMoment, monthBytes: Reading<ByteCount>, at now: Instant
    ) -> Readings {
        func notAsked<Value>(_ needed: Bool, _ read: () -> Reading<Value>) -> Reading<Value> {
            needed ? read() : .unknown(Readings.notAsked)
        }
        return Readings(
            onBattery: notAsked(limits.onBattery == .pause) { battery.read() },
            userIdle: notAsked(limits.userActive == .pause) { idle.get(at: now) { userIdle(at: now) } },
            othersLoad: notAsked(limits.othersLoad != nil) { pressure.read(at: now) },
            temperature: notAsked(limits.temperature != nil) { heat.get(at: now) { thermometer.read() } },
            isMetered: notAsked(limits.metered == .pause) { metered.get(at: now) { isMetered(at: now) } },
            moment: moment, monthBytes: monthBytes)
    }

    private func withBus<Value>(
        at now: Instant, _ body: (SystemBus) throws(SystemBus.Failure) -> Value
    ) -> Reading<Value> {
        guard hasBus else { return .unknown("there is no system bus") }
        if bus?.isBroken == true { (bus, busWhy) = (nil, "the system bus has gone") }
        if bus == nil {
            if let busAt, now - busAt < .seconds(30) { return .unknown(busWhy) }
            busAt = now
            do throws(SystemBus.Failure) { bus = try SystemBus() } catch {
                busWhy = error.why
                return .unknown(error.why)
            }
        }
        do throws(SystemBus.Failure) { return .value(try body(bus!)) } catch { return .unknown(error.why) }
    }

    /// logind's hint (org.freedesktop.login1(5)), which desktops set, or do not.
    private func userIdle(at now: Instant) -> Reading<Duration> {
        let (service, path) = ("org.freedesktop.login1", "/org/freedesktop/login1")
        let interface = service + ".Manager"
        return withBus(at: now) { bus throws(SystemBus.Failure) in
            guard try bus.truth(service, path, "IdleHint", interface: interface) else { return .zero }
            let since = try bus.wide(service, path, "IdleSinceHintMonotonic", interface: interface)
            var clock = timespec()
            clock_gettime(CLOCK_MONOTONIC, &clock)
            let microseconds = Int64(clock.tv_sec) * 1_000_000 + Int64(clock.tv_nsec) / 1000
            return .microseconds(max(0, microseconds - Int64(clamping: since)))
        }
    }
    /// NetworkManager's guess (NMMetered): 1 and 3 are yes, 2 and 4 no, 0 it does not know.
    private func isMetered(at now: Instant) -> Reading<Bool> {
        let service = "org.freedesktop.NetworkManager"
        let guess = withBus(at: now) { bus throws(SystemBus.Failure) in
            try bus.number(service, "/org/freedesktop/NetworkManager", "Metered")
        }
        switch guess {
        case .unknown(let why): return .unknown(why)
        case .value(1), .value(3): return .value(true)
        case .value(2), .value(4): return .value(false)
        case .value: return .unknown("NetworkManager does not know")
        }
    }
}
