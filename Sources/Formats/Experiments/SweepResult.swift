/// What one point of a sweep came to: a file of its own, named by what it was computed from.
public struct SweepResult: Codable, Hashable, Sendable {
    public struct Setting: Codable, Hashable, Sendable {
        public var key: String
        public var value: String
        public init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }
    public struct Measure: Codable, Hashable, Sendable {
        public var name: String
        /// `s`, `MiB`, `%`, `tokens`, `tokens/s`; `1` for a count.
        public var unit: String
        public var value: Double
        public init(_ name: String, _ unit: String, _ value: Double) {
            self.name = name
            self.unit = unit
            self.value = value
        }
    }
    /// A file that a point began with.
    public struct Source: Codable, Hashable, Sendable {
        /// As the experiment's file names it.
        public var file: String
        /// Of the file's bytes.
        public var sha256: String
        /// Of what it was after this point's changes, in canonical form.
        public var used: String
        public init(file: String, sha256: String, used: String) {
            self.file = file
            self.sha256 = sha256
            self.used = used
        }
    }
    /// SHA-256 of all that it depends on.
    public var point: String
    /// Its place among the experiment's combinations, from 0.
    public var combination: Int
    public var sweep: String
    public var run: String
    public var version: String
    /// What differs from point to point.
    public var settings: [Setting]
    public var seed: UInt64
    public var topology: Source
    public var job: Source
    public var measures: [Measure]
    /// Why there are none.
    public var failed: String?

    public init(
        point: String, combination: Int, sweep: String, run: String, version: String, settings: [Setting],
        seed: UInt64, topology: Source, job: Source, measures: [Measure] = [], failed: String? = nil
    ) {
        self.point = point
        self.combination = combination
        self.sweep = sweep
        self.run = run
        self.version = version
        self.settings = settings
        self.seed = seed
        self.topology = topology
        self.job = job
        self.measures = measures
        self.failed = failed
    }
}

/// Mean, and where it lies, over seeds.
public struct Spread: Hashable, Sendable {
    public var count: Int
    public var mean: Double
    /// Half the width of the 95 % interval of the mean (Student's t); nil for a single value.
    public var margin: Double?

    /// - Precondition: there is a value.
    public init(_ values: [Double]) {
        precondition(!values.isEmpty, "the spread of nothing")
        count = values.count
        let mean = values.reduce(0, +) / Double(values.count)
        self.mean = mean
        guard values.count > 1 else { return }
        let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
        let error = (squares / Double(values.count - 1) / Double(values.count)).squareRoot()
        margin = Spread.quantile(values.count - 1) * error
    }

    /// Of Student's t, 97.5 %, by degrees of freedom; beyond the table by the first terms of its expansion about the normal quantile
    /// (Abramowitz & Stegun 26.7.5).
    static func quantile(_ freedom: Int) -> Double {
        let table = [
            12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604,
            2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
        ]
        if freedom <= table.count { return table[freedom - 1] }
        let (z, n) = (1.959964, Double(freedom))
        let (cube, fifth) = (z * z * z, z * z * z * z * z)
        return z + (cube + z) / (4 * n) + (5 * fifth + 16 * cube + 3 * z) / (96 * n * n)
    }
}
