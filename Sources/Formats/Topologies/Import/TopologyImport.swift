public import Primitives

/// What a file of peers and links is written in.
public enum TopologyFormat: String, Hashable, Sendable, CaseIterable {
    /// Atoll's own (`docs/TOPOLOGY.md`).
    case atoll
    /// Graph Modelling Language: Shadow, Topology Zoo, SNDlib; which one, its attributes say.
    case gml
    case graphml
    /// A configuration of Shadow, with its graph inline.
    case shadow
    /// Pairs of names with what lies between them, a line each.
    case edges
    /// SimGrid's platform description, version 4.
    case simgrid
    /// A placement scenario of DT-FM: two matrices and constants.
    case dtfm
    /// Latencies, and maybe bandwidths, of all pairs.
    case matrix
    /// A trace of spot instances as Bamboo publishes them: milliseconds, `add` or `remove`, name.
    case bamboo
    /// A trace of SkyPilot: how many instances were available at each tick.
    case skypilot

    /// Guessed from the first bytes, never from the name; nil when they look like nothing here.
    public static func detect(_ bytes: [UInt8]) -> TopologyFormat? {
        var head = bytes.prefix(4096)
        if head.starts(with: [0xEF, 0xBB, 0xBF]) { head = head.dropFirst(3) }
        let text = String(decoding: head, as: UTF8.self)
        let lines = text.split(whereSeparator: \.isNewline).map { $0.drop { $0 == " " || $0 == "\t" } }.filter {
            !$0.isEmpty
        }
        guard let first = lines.first else { return nil }
        if first.hasPrefix("<") {
            if text.contains("<graphml") { return .graphml }
            return text.contains("<platform") ? .simgrid : nil
        }
        if first.hasPrefix("{") {
            let all = String(decoding: bytes.prefix(1 << 16), as: UTF8.self)
            if all.contains("\"gap_seconds\"") { return .skypilot }
            return all.contains("\"delay_ms\"") || all.contains("\"bandwidth_Gbps\"") || all.contains("\"stages_way\"")
                ? .dtfm : nil
        }
        let meat = lines.filter { !$0.hasPrefix("#") && !$0.hasPrefix("%") && !$0.hasPrefix("//") }
        guard let line = meat.first else { return nil }
        // No topology of our own has these keys at its top.
        let isConfiguration = text.split(whereSeparator: \.isNewline).contains { line in
            ["general:", "network:", "experimental:"].contains { line.hasPrefix($0) }
        }
        if isConfiguration { return .shadow }
        if meat.contains(where: { isGMLOpening($0) }) { return .gml }
        let cells = line.split(separator: ",").map { $0.filter { $0 != " " && $0 != "\"" } }
        if cells.count == 3, cells[1] == "add" || cells[1] == "remove" { return .bamboo }
        let isYAML = meat.contains { line in
            ["name:", "about:", "expect:", "hosts:", "regions:", "default_link:"].contains { line.hasPrefix($0) }
        }
        if isYAML || line.hasPrefix("---") { return .atoll }
        if EdgeListImport.looksLikeEdges(lines) { return .edges }
        return MatrixImport.looksLikeMatrix(lines) ? .matrix : nil
    }
    /// `graph [`, whatever follows; or `graph` alone, its bracket on the next line.
    private static func isGMLOpening(_ line: Substring) -> Bool {
        guard line.hasPrefix("graph") else { return false }
        let rest = line.dropFirst(5).drop { $0 == " " || $0 == "\t" }
        return rest.isEmpty || rest.first == "["
    }
}

/// What imported files leave open: devices and access lines, mostly.
public struct ImportOptions: Hashable, Sendable {
    /// Of every peer whose file gives no speed: FLOP/s.
    public var flops = 50e9
    public var memory = ByteCount.mebibytes(4096)
    /// Access lines where the file gives none.
    public var up = BitRate.megabits(100)
    public var down = BitRate.megabits(100)
    /// Kilometres that a signal travels in a millisecond, where only distances are known: two thirds of the speed of light.
    public var kilometresPerMillisecond = 200.0
    /// Peers placed on a larger graph: at the nodes with fewest links, evenly chosen; the others only forward.
    public var mostPeers = 512
    /// For numbers that do not say: `us`, `ms`, `s`, and the same with `rtt_` before it for round trips, which are halved.
    public var latencyUnit: String?
    /// For matrices and edges that do not say: `kbps`, `mbps`, `gbps`, in bit/s.
    public var bandwidthUnit: String?
    /// What becomes of pairs between which the file has no way.
    public enum Disconnected: Hashable, Sendable {
        case refuse
        /// Hosts are left out until each two of the others have one.
        case largestPart
        /// Seconds, one way.
        case assume(Double)
    }
    public var disconnected = Disconnected.refuse
    public init() {}

    /// What a latency of 1 in ``latencyUnit`` is, in seconds one way; nil where nothing was asked for.
    var latencySeconds: Double? {
        guard let latencyUnit else { return nil }
        let isRoundTrip = latencyUnit.hasPrefix("rtt_")
        return secondsPerUnit(isRoundTrip ? String(latencyUnit.dropFirst(4)) : latencyUnit).map {
            isRoundTrip ? $0 / 2 : $0
        }
    }
}

/// What DT-FM adds to a network: the grid to be filled and what is sent over it.
public struct LayoutFigures: Hashable, Sendable {
    public var stages: Int
    public var replicas: Int
    /// Of one stage, in GB.
    public var gradientGigabytes: Double
    /// Of one replica's batch at a stage's boundary, in GB.
    public var activationGigabytes: Double
    public init(stages: Int, replicas: Int, gradientGigabytes: Double, activationGigabytes: Double) {
        self.stages = stages
        self.replicas = replicas
        self.gradientGigabytes = gradientGigabytes
        self.activationGigabytes = activationGigabytes
    }
}

/// A file of any known format, read.
public struct ImportedTopology: Hashable, Sendable {
    public var topology: Topology
    public var format: TopologyFormat
    /// Of a DT-FM scenario; nil for others.
    public var layout: LayoutFigures?
    /// What was assumed or left out, in sentences for people.
    public var notes: [String]

    /// Bytes of a file in a foreign format.
    public static let maximumBytes = 64 << 20

    /// - Parameters:
    ///   - format: nil to detect it.
    ///   - bandwidths: a second matrix, when `bytes` is one of latencies.
    ///   - base: the topology whose peers a churn trace takes as its instances; nil for a pool of like peers.
    /// - Throws: ``TopologyError`` with file, line, what was found and what is allowed; never crashes, whatever the bytes are.
    public init(
        reading bytes: [UInt8], file: String, format: TopologyFormat? = nil, options: ImportOptions = ImportOptions(),
        bandwidths: (bytes: [UInt8], file: String)? = nil, base: Topology? = nil
    ) throws(TopologyError) {
        for (bytes, file) in [(bytes, file)] + (bandwidths.map { [$0] } ?? []) {
            guard bytes.count <= ImportedTopology.maximumBytes else {
                throw FileProblem(
                    .unreadable, file: file, found: "\(bytes.count) bytes",
                    allowed: "at most \(ImportedTopology.maximumBytes) bytes; import a part of it")
            }
        }
        guard let format = format ?? TopologyFormat.detect(bytes) else {
            throw FileProblem(
                .unreadable, file: file, found: bytes.isEmpty ? "an empty file" : "a format that nothing here reads",
                allowed:
                    "one of \(TopologyFormat.allCases.map(\.rawValue).joined(separator: ", ")); name it with --format")
        }
        if bandwidths != nil, format != .matrix {
            throw FileProblem(
                .unknownKey, file: file, found: "a second matrix beside \(format.rawValue)",
                allowed: "--bandwidth beside a matrix of latencies only")
        }
        if base != nil, format != .bamboo, format != .skypilot {
            throw FileProblem(
                .unknownKey, file: file, found: "--onto beside \(format.rawValue)",
                allowed: "--onto with a churn trace only")
        }
        let name = importedName(file)
        switch format {
        case .atoll: self.init(try Topology(parsing: bytes, file: file), format)
        case .gml:
            let graph = try GMLReader.graph(bytes, file: file)
            self = try GraphImport(graph, format: format, file: file, options: options).imported(name: name)
        case .graphml:
            let graph = try GraphMLReader.graph(bytes, file: file)
            self = try GraphImport(graph, format: format, file: file, options: options).imported(name: name)
        case .shadow: self = try ShadowImport.imported(bytes, file: file, options: options, name: name)
        case .edges: self = try EdgeListImport(bytes, file: file, options: options).imported(name: name)
        case .simgrid: self = try SimGridImport.imported(bytes, file: file, options: options, name: name)
        case .dtfm: self = try DTFMImport.imported(bytes, file: file, options: options, name: name)
        case .matrix:
            var matrices = try MatrixImport(
                bytes, file: file, options: options, kind: bandwidths == nil ? nil : .latency)
            if let bandwidths {
                let second = try MatrixImport(
                    bandwidths.bytes, file: bandwidths.file, options: options, kind: .bandwidth)
                try matrices.add(second)
            }
            self = try matrices.imported(name: name)
        case .bamboo:
            let lives = try InstanceLives(bamboo: bytes, file: file)
            self = lives.imported(format, onto: base, options: options, name: name)
        case .skypilot:
            let lives = try InstanceLives(skypilot: bytes, file: file)
            self = lives.imported(format, onto: base, options: options, name: name)
        }
    }

    init(_ topology: Topology, _ format: TopologyFormat, layout: LayoutFigures? = nil, notes: [String] = []) {
        self.topology = topology
        self.format = format
        self.layout = layout
        self.notes = notes
    }
}

/// The last part of a path without its ending, as a topology's name.
func importedName(_ file: String) -> String {
    let last = file.split(separator: "/").last ?? "imported"
    let stem = last.lastIndex(of: ".").map { last[..<$0] } ?? last
    return usableName(String(stem)) ?? "imported"
}

/// Text as a host's name: runs of what names may not have become one hyphen; nil when nothing is left.
func usableName(_ text: String) -> String? {
    var out = ""
    var gap = false
    for byte in text.utf8 {
        let fine =
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
            || "-_.".utf8.contains(byte)
        if fine {
            if gap, !out.isEmpty { out += "-" }
            gap = false
            out.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            gap = true
        }
        if out.utf8.count >= 56 { break }
    }
    return out.isEmpty ? nil : out
}

/// A finite decimal number, nothing around it; nil for words such as nan and for hexadecimal.
func decimalNumber(_ text: some StringProtocol) -> Double? {
    guard !text.isEmpty, text.utf8.count <= 64,
        text.utf8.allSatisfy({ (48...57).contains($0) || ".+-eE".utf8.contains($0) })
    else { return nil }
    guard let value = Double(text), value.isFinite else { return nil }
    return value
}
