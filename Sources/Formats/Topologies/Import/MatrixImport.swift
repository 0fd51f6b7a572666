internal import Links
internal import Primitives

/// Reads square matrices of latencies and bandwidths: values apart by commas, semicolons, tabs or blanks; names, where there
/// are any, in the first row and column; the unit in the corner cell, in a comment (`# latency_ms`), in the file's name, or
/// given. What stands on the diagonal is not read. What was not measured (nothing, -, nan, -1) is taken from the other direction.
struct MatrixImport {
    typealias Kind = Caption.Kind
    /// Larger ones have more than a million links.
    static let mostRows = 1024

    private let file: String
    private let options: ImportOptions
    private var names: [String]?
    /// Row by row, one-way seconds.
    private var latency: [[Double?]]?
    /// Row by row, bit/s.
    private var bandwidth: [[Double?]]?
    private var isRoundTrip = false
    private var saysWhich = false

    /// Something like numbers apart by something.
    static func looksLikeMatrix(_ lines: [Substring]) -> Bool {
        guard let row = lines.filter({ !TableLines.isComment($0) }).prefix(2).last else { return false }
        let cells = TableLines.cells(row)
        return cells.count >= 2 && cells.dropFirst().contains { decimalNumber($0) != nil || TableLines.isMissing($0) }
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
            if TableLines.isComment(content) {
                let said = Caption(words: String(content))
                guard said.unit != nil || said.kind != nil else { continue }
                if !rows.isEmpty { try finish(rows, caption, kind) }
                rows = []
                caption = said
            } else if !content.isEmpty {
                rows.append((index + 1, TableLines.cells(content, keepsEnd: true)))
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
        var pool = ImportedPool(
            members: latency.indices.map { ImportedPool.Member(name: names?[$0] ?? "h\($0)") }, mirrors: true)
        for from in latency.indices {
            for to in latency.indices where to != from {
                guard let seconds = latency[from][to] else { continue }
                let rate = bandwidth.map { $0[from][to] ?? $0[to][from] ?? .infinity } ?? .infinity
                pool[from, to] = ImportedPool.Way(seconds: seconds, rate: rate)
            }
        }
        if !saysWhich {
            pool.notes.append("Latencies are taken as one way; where they are round trips, say --unit rtt_ms.")
        } else if isRoundTrip {
            pool.notes.append("Latencies are round trips, and are halved.")
        }
        pool.widenLines()
        let (topology, notes) = try pool.topology(
            name: name, about: "\(latency.count) hosts, imported from matrices.", options: options, file: file)
        return ImportedTopology(topology, .matrix, notes: notes)
    }

    // MARK: one matrix

    private mutating func finish(
        _ rows: [(line: Int, cells: [Substring])], _ caption: Caption, _ forced: Kind?
    ) throws(FileProblem) {
        var rows = rows
        var caption = caption
        func isName(_ cell: Substring) -> Bool {
            decimalNumber(cell) == nil && (cell.isEmpty || !TableLines.isMissing(cell))
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
        MatrixImport.square(&rows, header?.count)
        if let count = header?.count, count > n + 1, header?.last == "" { header?.removeLast() }
        let isLabelled = rows.allSatisfy { $0.cells.count == n + 1 }
        if let header, header.count == n + 1 {
            let corner = Caption(words: String(header[0]))
            if corner.unit != nil {
                caption = Caption(words: String(header[0]))
                caption.kind = corner.kind ?? caption.kind
            } else if let kind = corner.kind {
                caption.kind = kind
            }
        }
        for row in rows where row.cells.count != (isLabelled ? n + 1 : n) {
            throw FileProblem(
                .outOfRange, file: file, line: row.line, found: "\(row.cells.count) values in a matrix of \(n) rows",
                allowed: "a square matrix: \(n) values in each row, or \(n + 1) with a name")
        }
        if let header { try readNames(header.suffix(n), line: rows[0].line - 1) }
        if isLabelled { try readNames(rows.map { $0.cells[0] }[...], line: rows[0].line) }
        let (kind, scale) = try unit(caption, forced, line: rows[0].line)
        let values = try values(of: rows, kind, scale)
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
    /// In base units; nil where nothing was measured, 0 from a host to itself.
    private func values(
        of rows: [(line: Int, cells: [Substring])], _ kind: Kind, _ scale: Double
    ) throws(FileProblem) -> [[Double?]] {
        var values: [[Double?]] = []
        for (i, row) in rows.enumerated() {
            var out: [Double?] = []
            for (j, cell) in row.cells.suffix(rows.count).enumerated() {
                if i == j {
                    out.append(0)
                    continue
                }
                if TableLines.isMissing(cell) {
                    out.append(nil)
                    continue
                }
                let value = (decimalNumber(cell) ?? .nan) * scale
                let fine = kind == .latency ? value >= 0 && value <= 100 : value >= 1 && value <= 1e13
                guard fine else {
                    throw FileProblem(
                        .outOfRange, file: file, line: row.line, key: "[\(i)][\(j)]", found: "“\(cell.prefix(60))”",
                        allowed: kind == .latency
                            ? "a latency from 0 to 100 s, or nan where it was not measured"
                            : "a rate greater than 0 and at most 10 Tbit/s")
                }
                out.append(value)
            }
            values.append(out)
        }
        return values
    }
    /// Drops what stands after a last separator on each line, and fills triangles up: rows that get longer by one, to the diagonal,
    /// or shorter by one, from it.
    private static func square(_ rows: inout [(line: Int, cells: [Substring])], _ header: Int?) {
        let n = rows.count
        let ends = rows.allSatisfy { $0.cells.count > 1 && $0.cells.last == "" }
        let width = rows[0].cells.count - 1
        if ends, width == n || width == n + 1, header.map({ $0 <= width }) ?? true {
            for row in rows.indices { rows[row].cells.removeLast() }
        }
        for names in [0, 1] where n > 1 {
            if rows.indices.allSatisfy({ rows[$0].cells.count == $0 + 1 + names }) {
                for row in rows.indices { rows[row].cells += [Substring](repeating: "", count: n - 1 - row) }
                return
            }
            if rows.indices.allSatisfy({ rows[$0].cells.count == n - $0 + names }) {
                for row in rows.indices {
                    rows[row].cells.insert(contentsOf: [Substring](repeating: "", count: row), at: names)
                }
                return
            }
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
    private mutating func unit(_ caption: Caption, _ forced: Kind?, line: Int) throws(FileProblem) -> (Kind, Double) {
        var kind = forced ?? caption.kind
        if kind == nil, caption.unit == nil {
            kind = options.latencyUnit != nil ? .latency : options.bandwidthUnit != nil ? .bandwidth : nil
        }
        let given = [options.latencyUnit, options.bandwidthUnit].compactMap { $0 }.map { Caption(words: $0) }
        let wanted = given.first { $0.unit != nil && (kind == nil || $0.unit?.kind == kind) }
        let used = wanted ?? caption
        guard let unit = used.unit, kind == nil || unit.kind == kind, unit.kind == .latency || unit.kind == .bandwidth
        else {
            throw FileProblem(
                .missingKey, file: file, line: line, found: "numbers without a unit",
                allowed: "a unit: --unit ms (us, s, rtt_ms, kbps, mbps, gbps), or a first line such as “# latency_ms”")
        }
        if unit.kind == .latency {
            isRoundTrip = used.isRoundTrip
            saysWhich = used.isRoundTrip || used.isOneWay
        }
        return (unit.kind, unit.scale)
    }
}
