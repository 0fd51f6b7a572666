internal import Links
internal import Primitives

/// Reads square matrices of latencies and bandwidths: values apart by commas, semicolons, tabs or blanks; names, where there
/// are any, in the first row and column; the unit in the corner cell, in a comment (`# latency_ms`), in the file's name, or
/// given. What stands on the diagonal is not read.
struct MatrixImport {
    enum Kind: String { case latency, bandwidth }
    /// Larger ones have more than a million links.
    static let mostRows = 1024

    private let file: String
    private let options: ImportOptions
    private var names: [String]?
    /// Row by row, one-way seconds.
    private var latency: [[Double]]?
    /// Row by row, bit/s.
    private var bandwidth: [[Double]]?

    /// Something like numbers apart by something.
    static func looksLikeMatrix(_ lines: [Substring]) -> Bool {
        guard let row = lines.filter({ !$0.hasPrefix("#") }).prefix(2).last else { return false }
        let cells = cells(row)
        return cells.count >= 2 && cells.dropFirst().contains { decimalNumber($0) != nil || $0.lowercased() == "nan" }
    }

    private static func cells(_ line: Substring) -> [Substring] {
        func trimmed(_ text: Substring) -> Substring {
            var text = text.drop { " \t\"\r".contains($0) }
            while let last = text.last, " \t\"\r".contains(last) { text.removeLast() }
            return text
        }
        for separator in [Character(","), ";", "\t"] where line.contains(separator) {
            var out = line.split(separator: separator, omittingEmptySubsequences: false).map(trimmed)
            if out.count > 1, out.last == "" { out.removeLast() }
            return out
        }
        return line.split { $0 == " " || $0 == "\r" }.map(trimmed)
    }

    init(_ bytes: [UInt8], file: String, options: ImportOptions, kind: Kind?) throws(FileProblem) {
        self.file = file
        self.options = options
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw FileProblem(.unreadable, file: file, found: "bytes that are not UTF-8", allowed: "a matrix as text")
        }
        var caption = Caption(words: file.split(separator: "/").last.map(String.init) ?? "")
        var rows: [(line: Int, cells: [Substring])] = []
        for (index, line) in text.split(
            omittingEmptySubsequences: false, whereSeparator: \.isNewline
        ).enumerated() {
            let content = line.drop { " \t\r\u{FEFF}".contains($0) }
            if content.first == "#" {
                let said = Caption(words: String(content))
                guard said.unit != nil || said.kind != nil else { continue }
                if !rows.isEmpty { try finish(rows, caption, kind) }
                rows = []
                caption = said
            } else if !content.isEmpty {
                rows.append((index + 1, MatrixImport.cells(content == line ? line : content)))
                guard rows.count <= MatrixImport.mostRows + 1 else {
                    throw FileProblem(
                        .outOfRange, file: file, line: index + 1, found: "more than \(MatrixImport.mostRows) rows",
                        allowed: "at most \(MatrixImport.mostRows); import a part")
                }
            }
        }
        guard !rows.isEmpty else {
            throw FileProblem(.unreadable, file: file, found: "no row", allowed: "a square matrix")
        }
        try finish(rows, caption, kind)
    }

    mutating func add(_ other: MatrixImport) throws(FileProblem) {
        guard let second = other.bandwidth, let first = latency else {
            throw FileProblem(.missingKey, file: other.file, found: "no bandwidths", allowed: "a matrix of bandwidths")
        }
        guard second.count == first.count else {
            throw FileProblem(
                .outOfRange, file: other.file, found: "\(second.count) rows", allowed: "\(first.count), as in \(file)")
        }
        if let a = names, let b = other.names, a != b {
            throw FileProblem(
                .unknownName, file: other.file, found: "other names than in \(file)",
                allowed: "the same names in the same order")
        }
        names = names ?? other.names
        bandwidth = second
    }

    func imported(name: String) throws(FileProblem) -> ImportedTopology {
        guard let latency else {
            throw FileProblem(
                .missingKey, file: file, found: "bandwidths without latencies",
                allowed: "the matrix of latencies, and this one beside it with --bandwidth")
        }
        var topology = Topology(
            name: name, about: "\(latency.count) hosts, imported from matrices.",
            expectation: "Imported: nobody has said yet what to expect.", hosts: [])
        for i in latency.indices {
            // A line that carries what its best pair carries.
            let up = bandwidth.map { rates in latency.indices.filter { $0 != i }.map { rates[i][$0] }.max() ?? 1e8 }
            let down = bandwidth.map { rates in latency.indices.filter { $0 != i }.map { rates[$0][i] }.max() ?? 1e8 }
            topology.hosts.append(
                Host(
                    name: names?[i] ?? "h\(i)", flops: options.flops, memory: options.memory,
                    up: up.map { BitRate(bitsPerSecond: $0) } ?? options.up,
                    down: down.map { BitRate(bitsPerSecond: $0) } ?? options.down))
            for j in latency.indices where j != i {
                topology.links[Topology.Pair(i, j)] = LinkProperties(
                    latency: .nanoseconds(Int64((latency[i][j] * 1e9).rounded())),
                    rate: bandwidth.map { BitRate(bitsPerSecond: $0[i][j]) })
            }
        }
        var notes = [
            "Speed and memory are not in a matrix: \(fixed(options.flops / 1e9, 1)) GFLOP/s and \(options.memory) assumed for each."
        ]
        if bandwidth == nil { notes.append("No bandwidths: up \(options.up), down \(options.down) assumed for each.") }
        return ImportedTopology(topology, .matrix, notes: notes)
    }

    // MARK: one matrix

    private mutating func finish(
        _ rows: [(line: Int, cells: [Substring])], _ caption: Caption, _ forced: Kind?
    ) throws(FileProblem) {
        var rows = rows
        var caption = caption
        func isName(_ cell: Substring) -> Bool {
            decimalNumber(cell) == nil && !["nan", "inf", "-inf", "-"].contains(cell.lowercased())
        }
        var header: [Substring]?
        if let first = rows.first, first.cells.dropFirst().contains(where: { isName($0) && !$0.isEmpty }) {
            header = first.cells
            rows.removeFirst()
        } else if let first = rows.first, rows.count > 1, first.cells.count == rows[1].cells.count,
            isName(first.cells[0]),
            rows.count == first.cells.count, !isName(rows[1].cells.last ?? "")
        {
            // Names that look like numbers below a corner that does not.
            header = first.cells
            rows.removeFirst()
        }
        let n = rows.count
        guard n > 0 else {
            throw FileProblem(.unreadable, file: file, found: "names without rows", allowed: "a square matrix")
        }
        let isLabelled = rows.allSatisfy { $0.cells.count == n + 1 }
        if let header, header.count == n + 1 {
            let corner = Caption(words: String(header[0]))
            caption = Caption(kind: corner.kind ?? caption.kind, unit: corner.unit ?? caption.unit)
        }
        for row in rows where row.cells.count != (isLabelled ? n + 1 : n) {
            throw FileProblem(
                .outOfRange, file: file, line: row.line, found: "\(row.cells.count) values in a matrix of \(n) rows",
                allowed: "a square matrix: \(n) values in each row, or \(n + 1) with a name")
        }
        if let header { try readNames(header.suffix(n), line: rows[0].line - 1) }
        if isLabelled { try readNames(rows.map { $0.cells[0] }[...], line: rows[0].line) }
        let (kind, scale) = try unit(caption, forced, line: rows[0].line)
        var values: [[Double]] = []
        for (i, row) in rows.enumerated() {
            var out: [Double] = []
            for (j, cell) in row.cells.suffix(n).enumerated() {
                if i == j {
                    out.append(0)
                    continue
                }
                let value = (decimalNumber(cell) ?? .nan) * scale
                let fine = kind == .latency ? value >= 0 && value <= 100 : value >= 1 && value <= 1e13
                guard fine else {
                    throw FileProblem(
                        .outOfRange, file: file, line: row.line, key: "[\(i)][\(j)]", found: "“\(cell.prefix(60))”",
                        allowed: kind == .latency
                            ? "a latency from 0 to 100 s; take hosts out that were not measured"
                            : "a rate greater than 0 and at most 10 Tbit/s")
                }
                out.append(value)
            }
            values.append(out)
        }
        if kind == .latency {
            guard latency == nil else { throw twice(kind, rows[0].line) }
            latency = values
        } else {
            guard bandwidth == nil else { throw twice(kind, rows[0].line) }
            bandwidth = values
        }
        if let latency, let bandwidth, latency.count != bandwidth.count {
            throw FileProblem(
                .outOfRange, file: file, line: rows[0].line, found: "\(bandwidth.count) rows beside \(latency.count)",
                allowed: "matrices of one size")
        }
    }
    private func twice(_ kind: Kind, _ line: Int) -> FileProblem {
        FileProblem(
            .duplicateName, file: file, line: line, found: "a second matrix of \(kind.rawValue)",
            allowed: "one of each kind")
    }

    private mutating func readNames(_ cells: ArraySlice<Substring>, line: Int) throws(FileProblem) {
        var out: [String] = []
        var seen: Set<String> = []
        for (index, cell) in cells.enumerated() {
            let name = usableName(String(cell)) ?? "h\(index)"
            guard seen.insert(name).inserted else {
                throw FileProblem(
                    .duplicateName, file: file, line: line, found: "“\(name)” twice", allowed: "each host's name once")
            }
            out.append(name)
        }
        if let names, names != out {
            throw FileProblem(
                .unknownName, file: file, line: line, found: "other names than before",
                allowed: "the same names, in the same order, in rows and columns")
        }
        names = out
    }

    /// What one is worth in seconds one way, or in bit/s.
    private func unit(_ caption: Caption, _ forced: Kind?, line: Int) throws(FileProblem) -> (Kind, Double) {
        var kind = forced ?? caption.kind
        if kind == nil, caption.unit == nil {
            kind = options.latencyUnit != nil ? .latency : options.bandwidthUnit != nil ? .bandwidth : nil
        }
        let given = [options.latencyUnit, options.bandwidthUnit].compactMap { $0 }.map {
            Caption(words: $0).unit ?? .none
        }
        let wanted = given.compactMap { $0 }.first { kind == nil || $0.kind == kind }
        if let unit = wanted ?? caption.unit, kind == nil || unit.kind == kind { return (unit.kind, unit.scale) }
        throw FileProblem(
            .missingKey, file: file, line: line, found: "numbers without a unit",
            allowed: "a unit: --unit ms (us, s, rtt_ms, kbps, mbps, gbps), or a first line such as “# latency_ms”")
    }
}

/// What a heading says about numbers: “latency_ms”, “RTT (us)”, “bandwidth Gbit/s”.
private struct Caption {
    struct Unit {
        var kind: MatrixImport.Kind
        var scale: Double
    }
    var kind: MatrixImport.Kind?
    var unit: Unit?

    init(kind: MatrixImport.Kind?, unit: Unit?) {
        self.kind = kind
        self.unit = unit
    }
    init(words: String) {
        let parts = words.prefix(400).lowercased().split { !($0.isLetter || $0 == "µ" || $0 == "μ") }
        let roundTrip = parts.contains("rtt")
        for part in parts {
            switch part {
            case "latency", "latencies", "delay", "delays", "rtt", "ping": kind = .latency
            case "bandwidth", "bandwidths", "rate", "rates", "capacity", "throughput": kind = .bandwidth
            case "us", "µs", "μs": unit = Unit(kind: .latency, scale: 1e-6)
            case "ms", "milliseconds": unit = Unit(kind: .latency, scale: 1e-3)
            case "s", "sec", "seconds": unit = unit ?? Unit(kind: .latency, scale: 1)
            case "bps": unit = Unit(kind: .bandwidth, scale: 1)
            case "kbps", "kbit": unit = Unit(kind: .bandwidth, scale: 1e3)
            case "mbps", "mbit": unit = Unit(kind: .bandwidth, scale: 1e6)
            case "gbps", "gbit": unit = Unit(kind: .bandwidth, scale: 1e9)
            default: break
            }
        }
        // A lone s beside no other word may be anything: a plural, a file called s.txt.
        if kind == nil, parts.contains("s"), unit?.scale == 1, unit?.kind == .latency { unit = nil }
        if roundTrip, unit?.kind == .latency { unit?.scale /= 2 }
    }
}
