public import Primitives

/// What the owner of a machine lets a peer have of it. Defaults are those of a machine that somebody else wants, too.
public struct OwnerLimits: Hashable, Sendable {
    public enum Priority: String, Sendable {
        /// `SCHED_IDLE`.
        case idle
        case normal
    }
    public enum Rule: String, Sendable { case pause, work }
    /// What is done where a sensor says nothing.
    public enum Unseen: String, Sendable { case careful, pause, work }

    /// Nil: as many as the command line says, else one.
    public var threads: Int?
    /// 0...1 of the time.
    public var cpuShare = 1.0
    public var priority = Priority.idle
    /// Nil: half of what the system and other peers of the machine leave.
    public var memory: ByteCount?
    public var disk: ByteCount?
    public var upload: BitRate?
    public var download: BitRate?
    public var monthly: ByteCount?
    public var hours = OpenHours.always
    public var onBattery = Rule.pause
    public var userActive = Rule.work
    public var userIdleAfter = Duration.seconds(180)
    /// 0...1 of the time.
    public var othersLoad: Double?
    /// Degrees Celsius.
    public var temperature: Double?
    public var metered = Rule.pause
    public var unseen = Unseen.careful
    public var handOverAfter = Duration.seconds(5)
    public var resumeAfter = Duration.seconds(10)

    public init() {}

    /// - Throws: what was found and what is allowed.
    public mutating func set(_ key: LimitKey, to text: String) throws(LimitProblem) {
        switch key {
        case .threads: threads = try Self.number(key, text, 1...1024, whole: true, none: "auto").map { Int($0) }
        case .memory: memory = try Self.mebibytes(key, text)
        case .disk: disk = try Self.mebibytes(key, text)
        case .upload: upload = try Self.rate(key, text)
        case .download: download = try Self.rate(key, text)
        case .monthly:
            monthly = try Self.number(key, text, 0.001...1e6, none: "none").map { ByteCount.mebibytes($0 * 1024) }
        case .cpuPercent: cpuShare = try Self.required(key, text, 1...100) / 100
        case .othersLoad: othersLoad = try Self.number(key, text, 1...99, none: "none").map { $0 / 100 }
        case .temperature: temperature = try Self.number(key, text, 30...110, none: "none")
        case .userIdleAfter: userIdleAfter = .milliseconds(Int64(try Self.required(key, text, 5...86_400) * 1000))
        case .handOverAfter: handOverAfter = .milliseconds(Int64(try Self.required(key, text, 0...3600) * 1000))
        case .resumeAfter: resumeAfter = .milliseconds(Int64(try Self.required(key, text, 0...86_400) * 1000))
        case .priority: priority = try Self.word(key, text)
        case .onBattery: onBattery = try Self.word(key, text)
        case .userActive: userActive = try Self.word(key, text)
        case .metered: metered = try Self.word(key, text)
        case .unseen: unseen = try Self.word(key, text)
        case .hours:
            guard let hours = OpenHours(text) else { throw LimitProblem(key, found: text) }
            self.hours = hours
        }
    }

    /// The value as ``set(_:to:)`` takes it.
    public func text(_ key: LimitKey) -> String {
        switch key {
        case .threads: threads.map { "\($0)" } ?? "auto"
        case .cpuPercent: plain(cpuShare * 100)
        case .priority: priority.rawValue
        case .memory: memory.map { plain(Double($0.bytes) / 1_048_576) } ?? "auto"
        case .disk: disk.map { plain(Double($0.bytes) / 1_048_576) } ?? "auto"
        case .upload: upload.map { plain($0.megabitsPerSecond) } ?? "none"
        case .download: download.map { plain($0.megabitsPerSecond) } ?? "none"
        case .monthly: monthly.map { plain(Double($0.bytes) / 1_073_741_824) } ?? "none"
        case .hours: hours.description
        case .onBattery: onBattery.rawValue
        case .userActive: userActive.rawValue
        case .userIdleAfter: plain(userIdleAfter.inSeconds)
        case .othersLoad: othersLoad.map { plain($0 * 100) } ?? "none"
        case .temperature: temperature.map { plain($0) } ?? "none"
        case .metered: metered.rawValue
        case .unseen: unseen.rawValue
        case .handOverAfter: plain(handOverAfter.inSeconds)
        case .resumeAfter: plain(resumeAfter.inSeconds)
        }
    }

    // MARK: values in text

    /// A finite number in plain digits, in range; nil where `none` was said.
    private static func number(
        _ key: LimitKey, _ text: String, _ range: ClosedRange<Double>, whole: Bool = false, none: String
    ) throws(LimitProblem) -> Double? {
        if text == none { return nil }
        let isPlain =
            !text.isEmpty && text.utf8.count <= 20 && text.utf8.allSatisfy { (48...57).contains($0) || $0 == 46 }
        guard isPlain, let value = Double(text), range.contains(value), !whole || value == value.rounded() else {
            throw LimitProblem(key, found: text)
        }
        return value
    }
    private static func required(
        _ key: LimitKey, _ text: String, _ range: ClosedRange<Double>
    ) throws(LimitProblem) -> Double {
        // Nothing is named so: a number has to be given.
        guard let value = try number(key, text, range, none: "\0") else { throw LimitProblem(key, found: text) }
        return value
    }
    private static func mebibytes(_ key: LimitKey, _ text: String) throws(LimitProblem) -> ByteCount? {
        try number(key, text, 1...1e9, none: "auto").map { ByteCount.mebibytes($0) }
    }
    private static func rate(_ key: LimitKey, _ text: String) throws(LimitProblem) -> BitRate? {
        try number(key, text, 0.05...1e6, none: "none").map { BitRate.megabits($0) }
    }
    private static func word<Word: RawRepresentable<String>>(
        _ key: LimitKey, _ text: String
    ) throws(LimitProblem) -> Word {
        guard let word = Word(rawValue: text) else { throw LimitProblem(key, found: text) }
        return word
    }
}

/// "5", "0.25": at most three decimals, none that say nothing.
func plain(_ value: Double) -> String {
    var text = fixed(value, 3)
    while text.hasSuffix("0") { text.removeLast() }
    if text.hasSuffix(".") { text.removeLast() }
    return text
}
