/// Nodes and edges with attributes by name, as GML and GraphML have them.
struct AttributedGraph {
    /// A text, and whether it was written as a number or in quotes is forgotten.
    struct Attribute {
        var text: String
        var line: Int
    }
    struct Node {
        /// As the file writes it.
        var id: String
        var line: Int
        var attributes: [String: Attribute]
    }
    struct Edge {
        var source: String
        var target: String
        var line: Int
        /// nil: as the graph says.
        var isDirected: Bool?
        var attributes: [String: Attribute]
    }
    var isDirected = false
    var attributes: [String: Attribute] = [:]
    var nodes: [Node] = []
    var edges: [Edge] = []

    /// More than any published network has; bounds memory and time.
    static let mostNodes = 50_000
    static let mostEdges = 500_000
}

/// A number with a unit, "20 Mbit" or "1.5ms": split where the letters begin.
func splitUnit(_ text: String) -> (number: Double, unit: String)? {
    let bytes = Array(text.utf8)
    var end = 0
    while end < bytes.count {
        let byte = bytes[end]
        if (48...57).contains(byte) || ".+-".utf8.contains(byte) {
            end += 1
            continue
        }
        // An exponent, not the first letter of a unit.
        if byte == 101 || byte == 69, end > 0, end + 1 < bytes.count,
            (48...57).contains(bytes[end + 1])
                || ("+-".utf8.contains(bytes[end + 1]) && end + 2 < bytes.count && (48...57).contains(bytes[end + 2]))
        {
            end += 2
            continue
        }
        break
    }
    guard let number = decimalNumber(String(decoding: bytes[..<end], as: UTF8.self)) else { return nil }
    let rest = String(decoding: bytes[end...], as: UTF8.self)
    return (number, String(rest.drop { $0 == " " }))
}

/// Seconds; nil for a unit nobody knows. Without unit: nil too.
func secondsPerUnit(_ unit: String) -> Double? {
    switch unit {
    case "ps", "picosecond", "picoseconds": 1e-12
    case "ns", "nanosecond", "nanoseconds": 1e-9
    case "us", "µs", "μs", "microsecond", "microseconds": 1e-6
    case "ms", "millisecond", "milliseconds": 1e-3
    case "s", "sec", "secs", "second", "seconds": 1
    case "m", "min", "mins", "minute", "minutes": 60
    case "h", "hr", "hrs", "hour", "hours": 3600
    case "d", "day", "days": 86_400
    case "w", "week", "weeks": 604_800
    default: nil
    }
}

/// Bit/s: "Mbit", "Mbps", "KiB", "MBps", "Gbit/s"; nil for a unit nobody knows, or none.
func bitsPerUnit(_ unit: String) -> Double? {
    let unit = unit.hasSuffix("/s") ? String(unit.dropLast(2)) : unit
    let known = [("bits", 1.0), ("bit", 1), ("bytes", 8), ("byte", 8), ("bps", 1), ("Bps", 8), ("B", 8), ("b", 1)]
    for (suffix, bits) in known where unit.hasSuffix(suffix) {
        if let prefix = prefixFactor(String(unit.dropLast(suffix.count))) { return prefix * bits }
    }
    return nil
}

/// What a prefix multiplies by: `K` and `kilo` are decimal, `Ki` and `kibi` binary.
func prefixFactor(_ prefix: String) -> Double? {
    switch prefix {
    case "": 1
    case "k", "K", "kilo": 1e3
    case "M", "mega": 1e6
    case "G", "giga": 1e9
    case "T", "tera": 1e12
    case "P", "peta": 1e15
    case "E", "exa": 1e18
    case "Ki", "kibi": 1024
    case "Mi", "mebi": 1_048_576
    case "Gi", "gibi": 1_073_741_824
    case "Ti", "tebi": 1_099_511_627_776
    default: nil
    }
}
