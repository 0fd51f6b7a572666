import Glibc
public import Lending
public import Primitives

/// Whether this machine runs on its battery (sysfs-class-power).
struct BatterySensor {
    let files: SensorFiles
    private static let folder = "/sys/class/power_supply"

    /// On battery is who has a battery of its own and no line that says it is connected: mains, or a charger at a USB port. A mouse's battery is
    /// not the machine's.
    func read() -> Reading<Bool> {
        let names: [String]
        switch files.names(Self.folder) {
        case .success(let found): names = found
        case .failure(let unread): return .unknown(unread.why)
        }
        var look = SensorFiles.Look(files)
        var states: [String] = []
        var (lines, online) = (0, false)
        for name in names {
            let path = Self.folder + "/" + name
            guard let kind = look.text(path + "/type") else { continue }
            if kind == "Battery" {
                guard look.text(path + "/scope") != "Device", look.text(path + "/present") != "0" else { continue }
                let state = look.text(path + "/status") ?? ""
                states.append(state.isEmpty ? "Unknown" : state)
            } else if let state = look.integer(path + "/online") {
                lines += 1
                online = online || state > 0
            }
        }
        if online { return .value(false) }
        // What could not be read may be the battery, or its line.
        if let why = look.blind { return .unknown(why) }
        if states.isEmpty { return .value(false) }
        if lines > 0 { return .value(true) }
        // Nothing says whether a line is connected; the battery knows.
        if states.contains("Discharging") { return .value(true) }
        if states.allSatisfy({ $0 == "Unknown" }) {
            return .unknown("there is a battery, and nothing in \(Self.folder) says what feeds it")
        }
        return .value(false)
    }
}

/// The hottest sensor of a processor, by the name of its driver: numbers of sensors change from boot to boot.
struct Thermometer {
    let files: SensorFiles
    private static let drivers: Set = [
        "coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "via_cputemp",
    ]
    private static let zones: Set = ["x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal"]

    func read() -> Reading<Double> {
        var look = SensorFiles.Look(files)
        var hottest: Double?
        for name in look.names("/sys/class/hwmon") {
            let path = "/sys/class/hwmon/" + name
            guard let driver = look.text(path + "/name"), Self.drivers.contains(driver) else { continue }
            for input in look.names(path) where input.hasPrefix("temp") && input.hasSuffix("_input") {
                see(look.integer(path + "/" + input), &hottest)
            }
        }
        for name in look.names("/sys/class/thermal") where name.hasPrefix("thermal_zone") {
            let path = "/sys/class/thermal/" + name
            if let kind = look.text(path + "/type"), Self.zones.contains(kind) {
                see(look.integer(path + "/temp"), &hottest)
            }
        }
        return hottest.map { .value($0) }
            ?? .unknown(look.blind ?? "no sensor of a processor in /sys/class/hwmon or /sys/class/thermal")
    }
    /// Thousandths of a degree; what no processor survives, or none was ever at, is not believed.
    private func see(_ value: Int?, _ hottest: inout Double?) {
        guard let value, value > 1000, value < 130_000 else { return }
        hottest = max(hottest ?? 0, Double(value) / 1000)
    }
}

/// How much of the time other programs have waited for the processor since the last look: pressure stall information (psi.rst) less the time
/// that threads of this process have waited (sched-stats.rst).
///
/// Threads of the lowest priority wait for as long as others have all processors: then nothing would be left of the pressure. So it is at least the
/// share of the last looks at which more threads of others could run than there are processors (proc_stat(5), `procs_running`).
struct PressureMeter {
    let files: SensorFiles
    private var last: (pressure: Double, own: Double, at: Instant)?
    private var known = Reading<Double>.unknown("nobody has looked yet")
    /// Of the last looks, the newest last: whether others had to wait.
    private var crowded: [Bool] = []
    private static let looks = 5
    /// Looks that are nearer to each other say nothing.
    private static let shortest = Duration.milliseconds(500)

    init(_ files: SensorFiles) { self.files = files }

    mutating func read(at now: Instant) -> Reading<Double> {
        if let last, now - last.at < Self.shortest { return known }
        known = measure(at: now)
        return known
    }
    private mutating func measure(at now: Instant) -> Reading<Double> {
        if let crowds = crowds() { crowded = crowded.suffix(Self.looks - 1) + [crowds] }
        let text: String
        switch files.read("/proc/pressure/cpu") {
        case .success(let found): text = found
        case .failure(let unread):
            return .unknown(
                unread.isAbsent ? "the kernel does not count who waits for the processor: \(unread.why)" : unread.why)
        }
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("some ") }),
            let total = Self.field("total", line), let average = Self.field("avg10", line)
        else { return .unknown("/proc/pressure/cpu has no line that begins with “some”") }
        var look = SensorFiles.Look(files)
        guard let own = ownWait(&look) else {
            return .unknown(look.blind ?? "the kernel does not say how long this process has waited")
        }
        defer { last = (total, own, now) }
        // The process has just begun: what waited before were others.
        guard let last else { return .value(min(1, max(0, average / 100))) }
        let seconds = (now - last.at).inSeconds
        let share = (total - last.pressure) / 1e6 / seconds - min(1, (own - last.own) / 1e9 / seconds)
        let seen = crowded.count < Self.looks ? 0 : Double(crowded.count { $0 }) / Double(Self.looks)
        return .value(min(1, max(0, share, seen)))
    }
    /// Whether more threads of others can run now than there are processors; nil where the system does not say.
    private func crowds() -> Bool? {
        guard let lines = files.text("/proc/stat")?.split(separator: "\n"),
            let running = lines.first(where: { $0.hasPrefix("procs_running ") })?.split(separator: " ").last,
            let all = Int(running), let threads = try? files.names("/proc/self/task").get()
        else { return nil }
        let processors = lines.count { $0.hasPrefix("cpu") && $0.dropFirst(3).first?.isNumber == true }
        let own = threads.count { thread in
            // After the name, which may have any characters.
            let state = files.text("/proc/self/task/\(thread)/stat")?.split(separator: ")").last
            return state?.split(separator: " ").first == "R"
        }
        return processors > 0 && all - own > processors
    }
    private static func field(_ name: String, _ line: Substring) -> Double? {
        line.split(separator: " ").first { $0.hasPrefix(name + "=") }.flatMap { Double($0.dropFirst(name.count + 1)) }
    }
    /// Nanoseconds of all threads together; nil where one of them cannot be asked, for then others would have waited for it.
    private func ownWait(_ look: inout SensorFiles.Look) -> Double? {
        let threads = look.names("/proc/self/task")
        guard !threads.isEmpty else { return nil }
        var sum = 0.0
        for thread in threads {
            guard let text = look.text("/proc/self/task/\(thread)/schedstat") else { continue }
            let parts = text.split(separator: " ")
            guard parts.count >= 2, let wait = Double(parts[1]) else { return nil }
            sum += wait
        }
        return look.blind == nil ? sum : nil
    }
}

/// What of a machine's memory this process may have: the least of what is built in and what its control groups allow.
public struct MachineMemory {
    private let files: SensorFiles
    /// - Parameter root: before `/proc` and `/sys`; empty for this machine.
    public init(root: String = "") { files = SensorFiles(root: root) }

    /// With what it is that limits it, for people.
    public func read() -> Reading<ByteCount> {
        guard
            let line = files.text("/proc/meminfo")?.split(separator: "\n").first(where: { $0.hasPrefix("MemTotal:") }),
            let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        else { return .unknown("/proc/meminfo does not say how much there is") }
        return .value(ByteCount(min(kibibytes << 10, groupLimit ?? .max)))
    }
    /// What control groups allow; nil where they allow everything.
    public var groupLimit: Int? {
        var least: Int?
        for line in files.text("/proc/self/cgroup")?.split(separator: "\n") ?? [] {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            let isSecond = parts[0] == "0" && parts[1].isEmpty
            guard isSecond || parts[1].split(separator: ",").contains("memory") else { continue }
            let (base, file) =
                isSecond ? ("/sys/fs/cgroup", "memory.max") : ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            // A group is limited by all that it is in.
            var path = parts[2].split(separator: "/")
            while true {
                let folder = path.isEmpty ? "" : "/" + path.joined(separator: "/")
                // “max”, and numbers near 2^63, are no limit.
                if let limit = files.integer(base + folder + "/" + file), limit > 0, limit < 1 << 60 {
                    least = min(least ?? limit, limit)
                }
                if path.isEmpty { break }
                path.removeLast()
            }
        }
        return least
    }
}

/// The owner's time of day.
public func localMoment(secondsSince1970 seconds: Int) -> LocalMoment {
    var (time, parts) = (time_t(seconds), tm())
    localtime_r(&time, &parts)
    return LocalMoment(
        weekday: (Int(parts.tm_wday) + 6) % 7, minute: Int(parts.tm_hour) * 60 + Int(parts.tm_min),
        month: (Int(parts.tm_year) + 1900) * 100 + Int(parts.tm_mon) + 1)
}
