import Primitives

/// A metric with its series, for whoever scrapes them. Names follow Prometheus: base units in the name, `_total` at counters (added when written).
public struct MetricFamily: Hashable, Sendable {
    public enum Kind: Hashable, Sendable { case counter, gauge, histogram }
    public struct Label: Hashable, Sendable {
        public let name: String
        public let value: String
        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }
    struct Sample: Hashable, Sendable {
        /// `_bucket`, `_sum` and `_count` of a histogram.
        var suffix = ""
        var labels: [Label]
        var value: Double
    }

    /// Without `_total`.
    public let name: String
    public let kind: Kind
    /// A sentence.
    public let help: String
    private(set) var samples: [Sample] = []
    /// Others decide how many peers there are, and each new series costs whoever scrapes.
    public static let seriesMost = 256
    /// Bytes of a label's value.
    static let labelMost = 128

    private init(_ name: String, _ kind: Kind, _ help: String) {
        self.name = name
        self.kind = kind
        self.help = help
    }

    /// Something that only grows while the process runs.
    public static func counter(_ name: String, _ help: String, _ value: Double) -> MetricFamily {
        counter(name, help, [([], value)])
    }
    public static func counter(_ name: String, _ help: String, _ series: [([Label], Double)]) -> MetricFamily {
        var family = MetricFamily(name, .counter, help)
        family.add(series)
        return family
    }
    /// - Parameter value: nil where it is not known: the family has no series then, as nothing measured is not 0.
    public static func gauge(_ name: String, _ help: String, _ value: Double?) -> MetricFamily {
        gauge(name, help, value.map { [([], $0)] } ?? [])
    }
    public static func gauge(_ name: String, _ help: String, _ series: [([Label], Double)]) -> MetricFamily {
        var family = MetricFamily(name, .gauge, help)
        family.add(series)
        return family
    }
    public static func histogram(_ name: String, _ help: String, _ histogram: Histogram) -> MetricFamily {
        var family = MetricFamily(name, .histogram, help)
        guard histogram.count > 0 else { return family }
        var below = 0
        for (bound, count) in zip(histogram.bounds + [.infinity], histogram.counts) {
            below += count
            family.samples.append(
                Sample(suffix: "_bucket", labels: [Label("le", Self.text(bound))], value: Double(below)))
        }
        family.samples.append(Sample(suffix: "_sum", labels: [], value: histogram.sum))
        family.samples.append(Sample(suffix: "_count", labels: [], value: Double(histogram.count)))
        return family
    }

    /// Names of others are made harmless here. Two that look alike afterwards would make the whole page unreadable: the first one stays.
    private mutating func add(_ series: [([Label], Double)]) {
        var seen: Set<[Label]> = []
        for (labels, value) in series {
            let clean = labels.map { Label($0.name, cleaned($0.value, bytes: Self.labelMost)) }
            guard samples.count < Self.seriesMost, seen.insert(clean).inserted else { continue }
            samples.append(Sample(labels: clean, value: value))
        }
    }

    /// How a page of metrics is written.
    public enum Format: Sendable {
        /// Prometheus' text format, 0.0.4.
        case prometheus
        /// OpenMetrics 1.0.
        case openMetrics

        /// By an `Accept` header.
        public init(accept: String?) {
            self = accept?.lowercased().contains("application/openmetrics-text") == true ? .openMetrics : .prometheus
        }
        public var contentType: String {
            switch self {
            case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
            case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }

    /// A page. Families without a series are left out.
    public static func page(_ families: [MetricFamily], _ format: Format = .prometheus) -> String {
        var out = ""
        for family in families where !family.samples.isEmpty { family.write(to: &out, format) }
        if format == .openMetrics { out += "# EOF\n" }
        return out
    }

    private func write(to out: inout String, _ format: Format) {
        let sampleName = kind == .counter ? name + "_total" : name
        let familyName = format == .openMetrics ? name : sampleName
        let type =
            switch kind {
            case .counter: "counter"
            case .gauge: "gauge"
            case .histogram: "histogram"
            }
        out +=
            "# HELP \(familyName) \(Self.escaped(help, quotes: format == .openMetrics))\n# TYPE \(familyName) \(type)\n"
        for sample in samples {
            out += sampleName + sample.suffix
            if !sample.labels.isEmpty {
                out +=
                    "{" + sample.labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",") + "}"
            }
            out += " \(Self.text(sample.value))\n"
        }
    }
    private static func escaped(_ text: String, quotes: Bool = true) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\"" where quotes: out += "\\\""
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
    private static func text(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "NaN" : value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value), abs(whole) < 1 << 53 { return "\(whole)" }
        return "\(value)"
    }
}

/// How often a quantity was at most so much.
public struct Histogram: Hashable, Sendable {
    /// Upper bounds, growing; one more count is of what is above them all.
    public let bounds: [Double]
    public private(set) var counts: [Int]
    public private(set) var sum = 0.0
    public private(set) var count = 0

    public init(bounds: [Double]) {
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds \(bounds) do not grow")
        self.bounds = bounds
        counts = [Int](repeating: 0, count: bounds.count + 1)
    }
    /// What is no number is not counted.
    public mutating func append(_ value: Double) {
        guard value.isFinite else { return }
        counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
        sum += value
        count += 1
    }
}
