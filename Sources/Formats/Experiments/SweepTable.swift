/// Results of a sweep as one tidy table: a line for each point, seed and measure, beside it the mean over seeds and where that lies.
public struct SweepTable: Sendable {
    public private(set) var results: [SweepResult]

    /// Why parts do not belong together.
    public struct Mismatch: Error, Hashable, Sendable, CustomStringConvertible {
        public let description: String
    }

    /// - Parameter results: in any order; those of the same point once.
    public init(_ results: [SweepResult]) {
        var seen: Set<String> = []
        let once = results.filter { seen.insert("\($0.combination) \($0.seed) \($0.point)").inserted }
        self.results = once.sorted { ($0.combination, $0.seed, $0.point) < ($1.combination, $1.seed, $1.point) }
    }

    /// - Parameter parts: results, and where they were read.
    /// - Throws: ``Mismatch`` that names what differs, and where.
    public init(merging parts: [(name: String, results: [SweepResult])]) throws(Mismatch) {
        var first: (part: String, result: SweepResult)?
        var files: [String: (part: String, digest: String)] = [:]
        var points: [String: (part: String, result: SweepResult)] = [:]
        for part in parts {
            for result in part.results {
                if let first {
                    try SweepTable.compare(first.part, first.result, part.name, result)
                } else {
                    first = (part.name, result)
                }
                for (kind, source) in [("topology", result.topology), ("job", result.job)] {
                    let key = "\(kind) \(source.file)"
                    if let known = files[key], known.digest != source.sha256 {
                        throw Mismatch(
                            description: "\(key) is not the same file in both: SHA-256 \(known.digest.prefix(12)) in "
                                + "\(known.part), \(source.sha256.prefix(12)) in \(part.name)")
                    }
                    files[key] = (part.name, source.sha256)
                }
                let place = "\(result.combination) \(result.seed)"
                if let known = points[place], known.result.point != result.point {
                    throw Mismatch(
                        description:
                            "point \(result.combination) with seed \(result.seed) is another in \(known.part) than in "
                            + "\(part.name): the experiment's file or what it reads changed between")
                }
                if let known = points[place], known.result != result {
                    throw Mismatch(
                        description:
                            "point \(result.combination) with seed \(result.seed) came to other figures in \(known.part) "
                            + "than in \(part.name), from the same input: one of them was changed by hand, or computed wrongly"
                    )
                }
                points[place] = (part.name, result)
            }
        }
        self.init(parts.flatMap(\.results))
    }
    private static func compare(
        _ a: String, _ one: SweepResult, _ b: String, _ other: SweepResult
    ) throws(Mismatch) {
        for (what, left, right) in [
            ("version", one.version, other.version), ("experiment", one.sweep, other.sweep),
            ("run", one.run, other.run),
        ] where left != right {
            throw Mismatch(description: "\(what) is \(left) in \(a), \(right) in \(b)")
        }
        let (left, right) = (one.settings.map(\.key), other.settings.map(\.key))
        guard left == right else {
            throw Mismatch(
                description: "points differ by \(left.joined(separator: ", ")) in \(a), by "
                    + "\(right.joined(separator: ", ")) in \(b)")
        }
    }

    /// Comma-separated (RFC 4180, LF), a header first.
    public var csv: String {
        let keys = results.first?.settings.map(\.key) ?? []
        var out = SweepTable.line(
            ["point"] + keys
                + [
                    "seed", "measure", "unit", "value", "seeds", "mean", "ci95_low", "ci95_high", "failed",
                    "topology_sha256",
                    "job_sha256", "version",
                ])
        for group in groups {
            for result in group {
                let settings = result.settings.map(\.value)
                let origin = [
                    String(result.topology.used.prefix(16)), String(result.job.used.prefix(16)), result.version,
                ]
                let head = [String(result.point.prefix(16))] + settings + ["\(result.seed)"]
                if let why = result.failed {
                    out += SweepTable.line(head + ["", "", "", "", "", "", "", why] + origin)
                }
                for measure in result.measures {
                    let spread = Spread(
                        group.compactMap { other in other.measures.first { $0.name == measure.name }?.value })
                    let ends = spread.margin.map { ["\(spread.mean - $0)", "\(spread.mean + $0)"] } ?? ["", ""]
                    out += SweepTable.line(
                        head + [measure.name, measure.unit, "\(measure.value)", "\(spread.count)", "\(spread.mean)"]
                            + ends + [""] + origin)
                }
            }
        }
        return out
    }
    /// By combination.
    private var groups: [[SweepResult]] {
        var out: [[SweepResult]] = []
        for result in results {
            if out.last?.first?.combination == result.combination {
                out[out.count - 1].append(result)
            } else {
                out.append([result])
            }
        }
        return out
    }

    private static func line(_ fields: [String]) -> String {
        fields.map { field in
            let plain = !field.contains { ",\"\n\r".contains($0) }
            return plain ? field : "\"" + field.replacing("\"", with: "\"\"") + "\""
        }.joined(separator: ",") + "\n"
    }
}
