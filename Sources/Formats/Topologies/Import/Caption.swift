/// What a heading says about the numbers below it: “latency_ms”, “RTT (us)”, “bandwidth Gbit/s”.
struct Caption {
    enum Kind: String { case latency, bandwidth, loss, jitter }
    struct Unit {
        var kind: Kind
        /// What one is worth in seconds one way, or in bit/s.
        var scale: Double
    }
    var kind: Kind?
    var unit: Unit?
    /// Whether it says that latencies are round trips, which ``unit`` halves.
    var isRoundTrip = false
    /// Whether it says that they are one way.
    var isOneWay = false

    init(kind: Kind? = nil, unit: Unit? = nil) {
        self.kind = kind
        self.unit = unit
    }
    init(words: String) {
        let parts = words.prefix(400).lowercased().split { !($0.isLetter || $0 == "µ" || $0 == "μ") }
        isRoundTrip = parts.contains { ["rtt", "rtts", "ping", "roundtrip", "round"].contains($0) }
        isOneWay = parts.contains { ["oneway", "one", "owd"].contains($0) }
        for part in parts {
            switch part {
            case "latency", "latencies", "delay", "delays", "rtt", "rtts", "ping", "owd": kind = .latency
            case "bandwidth", "bandwidths", "rate", "rates", "capacity", "throughput": kind = .bandwidth
            case "loss", "losses", "packetloss": kind = .loss
            case "jitter": kind = .jitter
            case "us", "µs", "μs", "microseconds", "usec": unit = Unit(kind: .latency, scale: 1e-6)
            case "ms", "milliseconds", "msec": unit = Unit(kind: .latency, scale: 1e-3)
            case "s", "sec", "seconds": unit = unit ?? Unit(kind: .latency, scale: 1)
            case "bps": unit = Unit(kind: .bandwidth, scale: 1)
            case "kbps", "kbit": unit = Unit(kind: .bandwidth, scale: 1e3)
            case "mbps", "mbit": unit = Unit(kind: .bandwidth, scale: 1e6)
            case "gbps", "gbit": unit = Unit(kind: .bandwidth, scale: 1e9)
            case "percent": unit = Unit(kind: .loss, scale: 0.01)
            default: break
            }
        }
        // A lone s beside no other word may be anything: a plural, a file called s.txt.
        if kind == nil, parts.contains("s"), unit?.scale == 1, unit?.kind == .latency { unit = nil }
        if isRoundTrip, unit?.kind == .latency { unit?.scale /= 2 }
    }
}

/// Lines of numbers and names: apart by commas, semicolons, tabs or blanks.
enum TableLines {
    /// - Parameter keepsEnd: whether nothing after a last separator is a cell.
    static func cells(_ line: Substring, keepsEnd: Bool = false) -> [Substring] {
        func trimmed(_ text: Substring) -> Substring {
            var text = text.drop { " \t\"\r\u{FEFF}".contains($0) }
            while let last = text.last, " \t\"\r".contains(last) { text.removeLast() }
            return text
        }
        for separator in [Character(","), ";", "\t"] where line.contains(separator) {
            var out = line.split(separator: separator, omittingEmptySubsequences: false).map(trimmed)
            if !keepsEnd, out.count > 1, out.last == "" { out.removeLast() }
            return out
        }
        return line.split { $0 == " " || $0 == "\r" }.map(trimmed)
    }
    /// Words for what was not measured.
    static func isMissing(_ cell: Substring) -> Bool {
        ["", "-", "--", "*", "?", "nan", "na", "n/a", "null", "none", "inf", "-1", "-1.0"].contains(cell.lowercased())
    }
    static func isComment(_ line: Substring) -> Bool {
        line.hasPrefix("#") || line.hasPrefix("%") || line.hasPrefix("//")
    }
}
