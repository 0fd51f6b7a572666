public import Primitives

/// What a sensor says, or why it says nothing. Nothing is no value: it is neither yes nor no, and not zero.
public enum Reading<Value: Hashable & Sendable>: Hashable, Sendable {
    case value(Value)
    case unknown(String)
    public var value: Value? { if case .value(let value) = self { value } else { nil } }
    public var why: String? { if case .unknown(let why) = self { why } else { nil } }
}

/// What all sensors of a machine say at one moment. Those that no limit asks for need not be read.
public struct Readings: Hashable, Sendable {
    /// Of a sensor that was not read, because no limit needed it then.
    public static let notAsked = "no limit asks for it"
    public var onBattery: Reading<Bool>
    /// How long nobody has used the machine.
    public var userIdle: Reading<Duration>
    /// 0...1: the share of the time in which other programs waited for the processor.
    public var othersLoad: Reading<Double>
    /// Degrees Celsius of the hottest processor sensor.
    public var temperature: Reading<Double>
    public var isMetered: Reading<Bool>
    public var moment: LocalMoment
    /// Sent and received this month, the local network apart.
    public var monthBytes: Reading<ByteCount>

    public init(
        onBattery: Reading<Bool>, userIdle: Reading<Duration>, othersLoad: Reading<Double>,
        temperature: Reading<Double>, isMetered: Reading<Bool>, moment: LocalMoment, monthBytes: Reading<ByteCount>
    ) {
        self.onBattery = onBattery
        self.userIdle = userIdle
        self.othersLoad = othersLoad
        self.temperature = temperature
        self.isMetered = isMetered
        self.moment = moment
        self.monthBytes = monthBytes
    }

    /// Of sensors that do not answer: what needs none of them is known all the same.
    public static func silent(
        _ why: String, for limits: OwnerLimits, moment: LocalMoment, monthBytes: Reading<ByteCount>
    ) -> Readings {
        func unknown<Value>(_ isNeeded: Bool) -> Reading<Value> { .unknown(isNeeded ? why : notAsked) }
        return Readings(
            onBattery: unknown(limits.onBattery == .pause), userIdle: unknown(limits.userActive == .pause),
            othersLoad: unknown(limits.othersLoad != nil), temperature: unknown(limits.temperature != nil),
            isMetered: unknown(limits.metered == .pause), moment: moment, monthBytes: monthBytes)
    }
}

/// Whether somebody uses the machine, by a sensor of which nobody knows whether it works: some desktops never say that a user is idle,
/// others never that one is not. It is believed when it has been seen to change.
struct UserPresence: Hashable, Sendable {
    private var first: Bool?
    private(set) var isTrusted = false

    /// - Returns: whether somebody uses it; unknown while the sensor is not to be believed.
    mutating func see(_ idle: Reading<Duration>, after limit: Duration) -> Reading<Bool> {
        switch idle {
        case .unknown(let why): return .unknown(why)
        case .value(let idle):
            let isActive = idle < limit
            if let first, first != isActive { isTrusted = true }
            if first == nil { first = isActive }
            return isTrusted
                ? .value(isActive)
                : .unknown(
                    "the desktop has said only “\(isActive ? "in use" : "idle")” so far: believed when it changes")
        }
    }
}
