/// A number of bytes.
public struct ByteCount: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var bytes: Int
    public init(_ bytes: Int) { self.bytes = bytes }
    public static func mebibytes(_ n: Double) -> ByteCount { ByteCount(Int(n * 1_048_576)) }
    public static func < (a: ByteCount, b: ByteCount) -> Bool { a.bytes < b.bytes }
    public static func + (a: ByteCount, b: ByteCount) -> ByteCount { ByteCount(a.bytes + b.bytes) }
    public static func += (a: inout ByteCount, b: ByteCount) { a.bytes += b.bytes }

    /// Rounded for people, in binary units: "513 B", "6.2 MiB".
    public var description: String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(bytes)
        var unit = 0
        while abs(value) >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return unit == 0 ? "\(bytes) B" : "\(fixed(value, 1)) \(units[unit])"
    }
}

/// A data rate in bits per second. Always finite and positive where a link carries it.
public struct BitRate: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var bitsPerSecond: Double
    public init(bitsPerSecond: Double) { self.bitsPerSecond = bitsPerSecond }
    public static func megabits(_ n: Double) -> BitRate { BitRate(bitsPerSecond: n * 1e6) }
    public static func < (a: BitRate, b: BitRate) -> Bool { a.bitsPerSecond < b.bitsPerSecond }
    public var bytesPerSecond: Double { bitsPerSecond / 8 }
    public var megabitsPerSecond: Double { bitsPerSecond / 1e6 }
    /// How long `bytes` occupy the line at this rate.
    @inlinable public func time(for bytes: Int) -> Duration {
        .nanoseconds(Int64((Double(bytes) * 8e9 / bitsPerSecond).rounded()))
    }
    public var description: String { "\(fixed(megabitsPerSecond, megabitsPerSecond < 10 ? 1 : 0)) Mbit/s" }
}

/// `value` with exactly `digits` decimals, without locale and without Foundation. NaN and infinities print as words.
public func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (abs(value) * scale).rounded()
    guard scaled < 9e15 else { return "\(value)" }
    let whole = Int64(scaled)
    let sign = value < 0 && whole != 0 ? "-" : ""
    guard digits > 0 else { return "\(sign)\(whole)" }
    let unit = Int64(scale)
    let fraction = String(whole % unit)
    return "\(sign)\(whole / unit)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

/// "a, b, c and 12 more": a list for a sentence, of at most `most` names.
public func shortList(_ names: [String], most: Int) -> String {
    guard names.count > most + 1 else { return names.joined(separator: ", ") }
    return "\(names.prefix(most).joined(separator: ", ")) and \(names.count - most) more"
}

/// "1 peer", "3 peers".
public func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }

/// What to try where the system refuses a file or a folder with these words of its own.
public func fileAdvice(_ problem: String) -> String {
    let known = [
        ("No such file", "check the path"), ("ermission", "check its permissions"),
        ("permitted", "check its permissions"),
        ("Read-only", "choose a place that can be written"), ("No space", "make room there"),
        ("quota", "make room there"), ("director", "name a file"), ("folder", "name a file"),
        ("ordinary file", "name a file"), ("Input/output", "the disk may be failing: copy what is on it"),
    ]
    return known.first { problem.contains($0.0) }?.1 ?? "check the path and its permissions"
}
