/// One of the limits that an owner sets: its name in peer.yaml, in `atoll limits set`, and, in capitals, after `ATOLL_LIMIT_`.
public enum LimitKey: String, CaseIterable, Codable, Sendable {
    case threads
    case cpuPercent = "cpu_percent"
    case priority
    case memory = "memory_mib"
    case disk = "disk_mib"
    case upload = "up_mbps"
    case download = "down_mbps"
    case monthly = "monthly_gib"
    case hours
    case onBattery = "on_battery"
    case userActive = "user_active"
    case userIdleAfter = "user_idle_after_s"
    case othersLoad = "others_load_percent"
    case temperature = "temperature_c"
    case metered
    case unseen
    case handOverAfter = "hand_over_after_s"
    case resumeAfter = "resume_after_s"

    /// What may be given, for people.
    public var allowed: String {
        switch self {
        case .threads: "auto, or a whole number from 1 to 1024"
        case .cpuPercent: "a number from 1 to 100"
        case .priority: "idle or normal"
        case .memory, .disk: "auto, or a number of MiB from 1 to 1000000000"
        case .upload, .download: "none, or a number of Mbit/s from 0.05 to 1000000"
        case .monthly: "none, or a number of GiB from 0.001 to 1000000"
        case .hours: "always, or times such as “mon-fri 19:00-23:00, sat, sun 10:00-22:00”, in local time"
        case .onBattery, .userActive, .metered: "pause or work"
        case .userIdleAfter: "a number of seconds from 5 to 86400"
        case .othersLoad: "none, or a number from 1 to 99"
        case .temperature: "none, or degrees Celsius from 30 to 110"
        case .unseen: "careful, pause or work"
        case .handOverAfter: "a number of seconds from 0 to 3600"
        case .resumeAfter: "a number of seconds from 0 to 86400"
        }
    }

    /// What it limits, for people.
    public var meaning: String {
        switch self {
        case .threads: "threads for arithmetic"
        case .cpuPercent: "share of the time that these threads compute"
        case .priority: "of threads: idle, only when nothing else wants the processor, or normal"
        case .memory: "memory offered to jobs"
        case .disk: "room for all that is kept in the peer's folder"
        case .upload: "most that is sent, over all sockets together; the local network apart"
        case .download: "most that is received, likewise"
        case .monthly: "most that is sent and received in a calendar month; the local network apart"
        case .hours: "when it may work"
        case .onBattery: "what it does while this machine runs on its battery"
        case .userActive: "what it does while somebody uses this machine"
        case .userIdleAfter: "nobody uses it after so long without a key or a movement"
        case .othersLoad: "it pauses while other programs wait for the processor so much of the time"
        case .temperature: "it pauses while any processor sensor is hotter"
        case .metered: "what it does while the connection is paid by volume"
        case .unseen:
            "where a sensor says nothing: lowest priority and, without a thermometer, half of the time; pause; or work"
        case .handOverAfter: "a pause that lasts longer hands the peer's place over"
        case .resumeAfter: "it works again after so long without a reason not to (load, heat)"
        }
    }
    /// Whether it counts from the next start only.
    public var needsRestart: Bool { self == .threads || self == .memory || self == .priority }
}

/// A value that cannot be used; says what was found and what is allowed.
public struct LimitProblem: Error, Hashable, Sendable, CustomStringConvertible {
    public var key: LimitKey
    /// At most 60 characters of it.
    public var found: String
    public var allowed: String
    public init(_ key: LimitKey, found: String, allowed: String? = nil) {
        self.key = key
        self.found = String(found.prefix(60))
        self.allowed = allowed ?? key.allowed
    }
    public var description: String { "\(key.rawValue): found “\(found)”; allowed: \(allowed)" }
}
