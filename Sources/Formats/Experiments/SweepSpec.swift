public import Topologies

/// An experiment in a file: what to run, on which topologies and jobs, and what changes from point to point. `docs/SWEEP.md` has the schema.
public struct SweepSpec {
    /// What a point does.
    public enum Run: String, Sendable, CaseIterable {
        case plan, replay
    }
    /// One value of one key, at its place in the file.
    public struct Assignment {
        public let key: String
        package let value: YAMLNode
        /// As a person would write it.
        public var text: String { value.inLine }
    }
    /// One row of the experiment, without its seed.
    public struct Combination {
        /// Every key that any point changes, in the file's order; later ones win over earlier ones.
        public let assignments: [Assignment]

        public func last(_ key: String) -> Assignment? { assignments.last { $0.key == key } }
    }

    public let file: String
    public let name: String
    public let about: String
    public let run: Run
    public let seeds: [UInt64]
    /// In the order of the file: the last key of the grid changes fastest.
    public let combinations: [Combination]
    /// Keys that differ from point to point, in the file's order.
    public let varied: [String]

    /// Beyond it a file is a mistake.
    public static let mostPoints = 100_000
    static let mostSeeds = 10_000
    static let plainKeys = ["topology", "job", "what_if"]
    static let plannerKeys = ["planner.iterations", "planner.exclude"]
    static let replayKeys = [
        "replay.steps", "replay.real", "replay.faults", "replay.plan", "replay.trace_scale", "replay.trace_offset",
    ]

    /// - Throws: ``FileProblem`` with file, line, key, what was found and what is allowed.
    public init(parsing bytes: [UInt8], file: String) throws(FileProblem) {
        let root = try YAMLNode(parsing: bytes, file: file)
        let top = try root.mapping([
            "name", "about", "run", "topology", "job", "seeds", "set", "grid", "list",
        ])
        self.file = file
        name = try top.required("name").name()
        about = try top["about"]?.text() ?? ""
        run = Run(rawValue: try top["run"]?.word(Run.allCases.map(\.rawValue)) ?? "plan") ?? .plan
        seeds = try SweepSpec.readSeeds(top["seeds"])
        var fixed: [Assignment] = []
        var axes: [[Assignment]] = []
        // A list of files is an axis like any other.
        for key in ["topology", "job"] {
            let node = try top.required(key)
            if node.isList {
                axes.append(try SweepSpec.values(key, node))
            } else {
                fixed.append(Assignment(key: key, value: try SweepSpec.checked(key, node)))
            }
        }
        if let node = top["set"] { fixed += try SweepSpec.assignments(node, run) }
        var given: [[Assignment]] = [[]]
        if let node = top["list"] {
            given = []
            for item in try node.list("a list of points", most: SweepSpec.mostPoints) {
                given.append(try SweepSpec.assignments(item, run))
            }
            guard !given.isEmpty else {
                throw node.problem(.outOfRange, found: "an empty list", allowed: "at least one point")
            }
        }
        if let node = top["grid"] {
            let entries = try node.entries()
            guard !entries.isEmpty else {
                throw node.problem(.outOfRange, found: "an empty grid", allowed: "at least one key with its values")
            }
            for (key, value) in entries {
                try SweepSpec.check(key, value, run)
                axes.append(try SweepSpec.values(key, value))
            }
        }
        let crossed = try SweepSpec.crossed(axes, given, seeds.count, root)
        combinations = crossed.map { Combination(assignments: fixed + $0) }
        varied = SweepSpec.varied(combinations)
    }

    private static func readSeeds(_ node: YAMLNode?) throws(FileProblem) -> [UInt64] {
        guard let node else { return [1] }
        guard node.isList else {
            return (1...UInt64(try node.integer(1...mostSeeds, "how many, or a list of seeds"))).map { $0 }
        }
        var seeds: [UInt64] = []
        for item in try node.list("a list of seeds", most: mostSeeds) {
            let seed = UInt64(try item.integer(0...Int.max))
            guard !seeds.contains(seed) else { throw item.problem(.duplicateName, allowed: "each seed once") }
            seeds.append(seed)
        }
        guard !seeds.isEmpty else {
            throw node.problem(.outOfRange, found: "an empty list", allowed: "at least one seed")
        }
        return seeds
    }

    private static func values(_ key: String, _ node: YAMLNode) throws(FileProblem) -> [Assignment] {
        var values: [Assignment] = []
        for item in try node.list("a list of values of \(key)", most: mostPoints) {
            values.append(Assignment(key: key, value: try checked(key, item)))
        }
        guard !values.isEmpty else {
            throw node.problem(.outOfRange, found: "an empty list", allowed: "at least one value of \(key)")
        }
        return values
    }
    private static func assignments(_ node: YAMLNode, _ run: Run) throws(FileProblem) -> [Assignment] {
        var found: [Assignment] = []
        for (key, value) in try node.entries() {
            try check(key, value, run)
            guard !found.contains(where: { $0.key == key }) else {
                throw value.problem(.duplicateName, found: "\(key) twice", allowed: "each key once")
            }
            found.append(Assignment(key: key, value: try checked(key, value)))
        }
        return found
    }

    private static func check(_ key: String, _ value: YAMLNode, _ run: Run) throws(FileProblem) {
        if plainKeys.contains(key) || key.hasPrefix("topology.") || key.hasPrefix("job.") { return }
        let known = plannerKeys + (run == .replay ? replayKeys : [])
        if known.contains(key) { return }
        let all = plainKeys + ["topology.KEY", "job.KEY"] + known
        var allowed = all.joined(separator: ", ")
        if run == .plan, replayKeys.contains(key) {
            allowed = "\(key) only with run: replay"
        } else if let meant = nearest(to: key, among: known + plainKeys) {
            allowed = "did you mean \(meant)? The keys here are " + allowed
        }
        throw value.problem(.unknownKey, found: "an unknown key, \(key)", allowed: allowed)
    }
    /// Values whose form does not depend on a topology or a job.
    private static func checked(_ key: String, _ value: YAMLNode) throws(FileProblem) -> YAMLNode {
        switch key {
        case "topology", "job", "replay.plan": _ = try value.text("a file")
        case "planner.iterations": _ = try value.integer(1...100_000_000)
        case "replay.steps": _ = try value.integer(1...1_000_000_000)
        case "replay.real", "replay.faults": _ = try value.boolean()
        case "replay.trace_scale": _ = try value.number(0...1e9, open: true)
        case "replay.trace_offset": _ = try value.number(-1e9...1e9)
        case "what_if", "planner.exclude": _ = try words(value)
        default: break
        }
        return value
    }
    /// One word or a list of them; `none` for nothing.
    private static func words(_ value: YAMLNode) throws(FileProblem) -> [String] {
        guard value.isList else {
            let word = try value.text("a text, a list of them, or none")
            return word == "none" ? [] : [word]
        }
        var all: [String] = []
        for item in try value.list() { all.append(try item.text()) }
        return all
    }

    private static func crossed(
        _ axes: [[Assignment]], _ given: [[Assignment]], _ seeds: Int, _ root: YAMLNode
    ) throws(FileProblem) -> [[Assignment]] {
        var count = given.count * seeds
        for axis in axes {
            count = count.multipliedReportingOverflow(by: axis.count).overflow ? Int.max : count * axis.count
            guard count <= mostPoints else {
                throw root.problem(
                    .outOfRange, found: "more than \(mostPoints) points", allowed: "fewer values, or a list of points")
            }
        }
        var all = given
        for axis in axes {
            all = all.flatMap { before in axis.map { before + [$0] } }
        }
        return all
    }
    private static func varied(_ combinations: [Combination]) -> [String] {
        var keys: [String] = []
        var seen: Set<String> = []
        for combination in combinations {
            for assignment in combination.assignments where seen.insert(assignment.key).inserted {
                keys.append(assignment.key)
            }
        }
        return keys.filter { key in
            let first = combinations[0].last(key)?.text
            return combinations.contains { $0.last(key)?.text != first }
        }
    }
}

extension SweepSpec.Combination {
    /// A file's name.
    public func file(_ key: String) -> String { last(key)?.text ?? "" }
    public func number(_ key: String) -> Double? { last(key).flatMap { try? $0.value.number(-1e18...1e18) } }
    public func integer(_ key: String) -> Int? { last(key).flatMap { try? $0.value.integer(0...Int.max) } }
    public func boolean(_ key: String) -> Bool? { last(key).flatMap { try? $0.value.boolean() } }
    /// A word or several; `none`: nothing.
    public func words(_ key: String) -> [String] {
        guard let value = last(key)?.value else { return [] }
        if let items = try? value.list() { return items.compactMap { try? $0.text() } }
        return value.inLine == "none" ? [] : [value.inLine]
    }

    /// A topology's or a job's file with what this point changes in it.
    ///
    /// - Parameter part: `topology` or `job`.
    /// - Throws: ``FileProblem`` at the place in the experiment's file where a change leads nowhere.
    public func edited(_ part: String, _ bytes: [UInt8], file: String) throws(FileProblem) -> [UInt8] {
        let changes = assignments.filter { $0.key.hasPrefix(part + ".") }
        guard !changes.isEmpty else { return bytes }
        var document = try YAMLDocument(parsing: bytes, file: file)
        for change in changes { try document.set(String(change.key.dropFirst(part.count + 1)), to: change.value) }
        return Array(document.text.utf8)
    }
    /// What this point changes in a topology or a job, for comparing.
    public func changes(of part: String) -> String {
        let own = assignments.filter { $0.key.hasPrefix(part + ".") || (part == "topology" && $0.key == "what_if") }
        return own.map { "\($0.key)=\($0.text)" }.joined(separator: "\n")
    }
    /// A problem at the place in the experiment's file where a key has its value.
    public func placed(_ problem: FileProblem, _ key: String) -> FileProblem {
        guard let value = last(key)?.value else { return problem }
        return FileProblem(
            problem.kind, file: value.file, line: value.line, key: value.path, found: problem.found,
            allowed: problem.allowed)
    }
    /// What a reader said of an edited file, at the place in the experiment's file that is to blame: the change of that key, else the
    /// last one; the problem as it is where nothing was changed.
    public func blamed(_ problem: FileProblem, _ part: String) -> FileProblem {
        let changes = assignments.filter { $0.key == "what_if" ? part == "topology" : $0.key.hasPrefix(part + ".") }
        let leaf = problem.key.split(separator: ".").last.map(String.init) ?? ""
        guard let change = changes.last(where: { $0.key.hasSuffix("." + leaf) }) ?? changes.last else { return problem }
        return FileProblem(
            problem.kind, file: change.value.file, line: change.value.line, key: change.value.path,
            found: "\(change.text) for \(problem.key.isEmpty ? change.key : problem.key), \(problem.found)",
            allowed: problem.allowed)
    }
}
