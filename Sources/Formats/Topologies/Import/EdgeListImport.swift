internal import Primitives

/// Reads lists of edges or of measured pairs, a line each: two names, then numbers. What the numbers are, a heading says
/// (`from,to,latency_ms,bandwidth_mbps`), or a comment or the file's name, or `--unit`; units may stand at the numbers.
///
/// A list that has every pair is taken as measured: what stands there is the way. One that has not is a graph, and pairs see the
/// shortest path. A pair that stands there in one direction only counts in both, unless a comment says `directed`.
struct EdgeListImport {
    private struct Column {
        var kind: Caption.Kind
        /// To seconds one way, or to bit/s; nil: each number has its unit.
        var scale: Double?
    }
    private struct Edge {
        var from: Int
        var to: Int
        var line: Int
        var seconds: Double?
        var jitter = 0.0
        var loss = 0.0
        var rate = Double.infinity
    }

    private let file: String
    private let options: ImportOptions
    private var names: [String] = []
    private var lines: [Int] = []
    private var indices: [String: Int] = [:]
    private var taken: Set<String> = []
    private var columns: [Column] = []
    private var edges: [Edge] = []
    private var isDirected = false
    private var isRoundTrip = false
    private var saysWhich = false
    private var missing = 0

    private static let fromWords = ["from", "source", "src", "node", "a", "i", "sender", "host", "u"]
    private static let toWords = ["to", "target", "dst", "dest", "destination", "b", "j", "receiver", "peer", "v"]

    /// Whether a row names its first two columns as ends of edges.
    private static func isHeading(_ cells: [Substring]) -> Bool {
        guard cells.count >= 2 else { return false }
        func word(_ cell: Substring) -> String { String(cell.lowercased().prefix { $0.isLetter }) }
        guard fromWords.contains(word(cells[0])), toWords.contains(word(cells[1])) else { return false }
        // Hosts may be called a and b.
        return cells.count == 2
            ? word(cells[0]).count > 1 : cells.dropFirst(2).allSatisfy { splitUnit(String($0)) == nil }
    }

    /// Rows of three to six cells, more of them than a square has, or a heading that names ends.
    static func looksLikeEdges(_ lines: [Substring]) -> Bool {
        var rows: [[Substring]] = []
        for line in lines {
            if TableLines.isComment(line) {
                if rows.isEmpty { continue }
                break
            }
            rows.append(TableLines.cells(line))
        }
        guard let first = rows.first else { return false }
        if isHeading(first) { return rows.count > 1 }
        guard (3...6).contains(first.count), rows.count > first.count + 1 else { return false }
        // The last line may have been cut.
        return rows.dropLast().allSatisfy { row in
            row.count == first.count
                && row.dropFirst(2).contains { splitUnit(String($0)) != nil || TableLines.isMissing($0) }
        }
    }

    init(_ bytes: [UInt8], file: String, options: ImportOptions) throws(FileProblem) {
        self.file = file
        self.options = options
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw FileProblem(.unreadable, file: file, found: "bytes that are not UTF-8", allowed: "edges as text")
        }
        var said = Caption(words: file.split(separator: "/").last.map(String.init) ?? "")
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let content = line.drop { " \t\r\u{FEFF}".contains($0) }
            if content.isEmpty { continue }
            if TableLines.isComment(content) {
                let caption = Caption(words: String(content))
                if caption.kind != nil || caption.unit != nil { said = caption }
                if content.lowercased().split(whereSeparator: { !$0.isLetter }).contains("directed") {
                    isDirected = true
                }
                continue
            }
            let cells = TableLines.cells(content)
            if columns.isEmpty {
                if EdgeListImport.isHeading(cells) {
                    try setColumns(cells.dropFirst(2).map { Caption(words: String($0)) }, said, index + 1)
                    continue
                }
                try setColumns([], said, index + 1)
            }
            try readEdge(cells, index + 1)
        }
        guard !edges.isEmpty else {
            throw FileProblem(
                .unreadable, file: file, found: "no edge", allowed: "two names and a latency on each line")
        }
    }

    private mutating func setColumns(_ captions: [Caption], _ said: Caption, _ line: Int) throws(FileProblem) {
        let given = options.bandwidthUnit.flatMap { Caption(words: $0).unit?.scale }
        guard !captions.isEmpty else {
            // Without a heading: a latency, then a bandwidth.
            let latency = options.latencySeconds ?? (said.unit?.kind == .latency ? said.unit?.scale : nil)
            columns = [
                Column(kind: .latency, scale: latency),
                Column(kind: .bandwidth, scale: given ?? (said.unit?.kind == .bandwidth ? said.unit?.scale : nil)),
                Column(kind: .loss, scale: 1),
            ]
            note(options.latencyUnit.map { Caption(words: $0) } ?? said)
            return
        }
        for caption in captions {
            guard let kind = caption.kind ?? caption.unit?.kind else {
                throw FileProblem(
                    .unknownKey, file: file, line: line, found: "a column of which nothing is known",
                    allowed: "headings such as latency_ms, rtt_ms, bandwidth_mbps, loss_percent, jitter_ms")
            }
            switch kind {
            case .latency:
                columns.append(Column(kind: kind, scale: options.latencySeconds ?? caption.unit?.scale))
                note(options.latencyUnit.map { Caption(words: $0) } ?? caption)
            case .jitter: columns.append(Column(kind: kind, scale: caption.unit?.scale))
            case .bandwidth: columns.append(Column(kind: kind, scale: given ?? caption.unit?.scale))
            case .loss: columns.append(Column(kind: kind, scale: caption.unit?.scale ?? 1))
            }
        }
    }
    private mutating func note(_ caption: Caption) {
        isRoundTrip = caption.isRoundTrip
        saysWhich = caption.isRoundTrip || caption.isOneWay
    }

    private mutating func readEdge(_ cells: [Substring], _ line: Int) throws(FileProblem) {
        guard cells.count >= 2, cells.count <= 2 + columns.count else {
            throw FileProblem(
                .outOfRange, file: file, line: line, found: "\(cells.count) cells",
                allowed: "two names, then up to \(columns.count) numbers")
        }
        var edge = Edge(from: try index(cells[0], line), to: try index(cells[1], line), line: line)
        for (column, cell) in zip(columns, cells.dropFirst(2)) {
            if TableLines.isMissing(cell) {
                if column.kind == .latency { missing += 1 }
                continue
            }
            let value = try number(cell, column, line)
            switch column.kind {
            case .latency: edge.seconds = value
            case .bandwidth: edge.rate = value
            case .loss: edge.loss = value
            case .jitter: edge.jitter = value
            }
        }
        if edge.from != edge.to { edges.append(edge) }
        guard edges.count <= AttributedGraph.mostEdges else {
            throw FileProblem(
                .outOfRange, file: file, line: line, found: "more than \(AttributedGraph.mostEdges) edges",
                allowed: "fewer; import a part")
        }
    }

    private mutating func index(_ cell: Substring, _ line: Int) throws(FileProblem) -> Int {
        let word = String(cell.prefix(128))
        if let known = indices[word] { return known }
        guard names.count < AttributedGraph.mostNodes, !word.isEmpty else {
            throw FileProblem(
                .outOfRange, file: file, line: line, found: word.isEmpty ? "no name" : "too many names",
                allowed: "a name for each end, at most \(AttributedGraph.mostNodes) of them")
        }
        let isNumber = word.utf8.allSatisfy { (48...57).contains($0) }
        var name = isNumber ? "n\(word)" : usableName(word) ?? "n\(names.count)"
        while !taken.insert(name).inserted { name = "\(name.prefix(48))-\(names.count)" }
        indices[word] = names.count
        names.append(name)
        lines.append(line)
        return names.count - 1
    }

    private func number(_ cell: Substring, _ column: Column, _ line: Int) throws(FileProblem) -> Double {
        let allowed: String
        let range: ClosedRange<Double>
        switch column.kind {
        case .latency, .jitter:
            (allowed, range) = (
                "a time from 0 to 100 s, with its unit (20 ms) or under a heading that has one", 0...100
            )
        case .bandwidth:
            (allowed, range) = (
                "a rate greater than 0, at most 10 Tbit/s, with its unit or under a heading that has one", 1...1e13
            )
        case .loss: (allowed, range) = ("a share from 0, less than 1", 0...0.99)
        }
        func problem(_ kind: FileProblem.Kind) -> FileProblem {
            FileProblem(
                kind, file: file, line: line, key: column.kind.rawValue, found: "“\(cell.prefix(60))”", allowed: allowed
            )
        }
        guard let (value, unit) = splitUnit(String(cell.prefix(64))) else { throw problem(.wrongType) }
        let scale: Double?
        if unit.isEmpty {
            scale = column.scale
        } else {
            switch column.kind {
            case .latency: scale = secondsPerUnit(unit).map { isRoundTrip ? $0 / 2 : $0 }
            case .jitter: scale = secondsPerUnit(unit)
            case .bandwidth: scale = bitsPerUnit(unit)
            case .loss: scale = unit == "%" ? 0.01 : nil
            }
        }
        guard let scale else { throw problem(unit.isEmpty ? .missingKey : .wrongType) }
        guard range.contains(value * scale) else { throw problem(.outOfRange) }
        return value * scale
    }

    // MARK: what it comes to

    func imported(name: String) throws(FileProblem) -> ImportedTopology {
        var notes: [String] = []
        let latency = try latencies(&notes)
        var pool = isWhole(latency) ? measured(latency, &notes) : graph(latency, &notes)
        if !saysWhich {
            notes.append("Latencies are taken as one way; where they are round trips, say --unit rtt_ms.")
        } else if isRoundTrip {
            notes.append("Latencies are round trips, and are halved.")
        }
        pool.notes = notes + pool.notes
        pool.widenLines()
        let (topology, found) = try pool.topology(
            name: name, about: "\(names.count) hosts, imported from a list of edges.", options: options, file: file)
        return ImportedTopology(topology, .edges, notes: found)
    }

    /// Of each edge, what was measured, or what is assumed where the list has none at all.
    private func latencies(_ notes: inout [String]) throws(FileProblem) -> [Double?] {
        if edges.contains(where: { $0.seconds != nil }) {
            if missing > 0 { notes.append("\(missing) edges have no latency: they are left out.") }
            return edges.map(\.seconds)
        }
        guard case .assume(let seconds) = options.disconnected else {
            throw FileProblem(
                .missingKey, file: file, line: edges[0].line, key: "latency", found: "no latency",
                allowed: "a third column, such as “20 ms”, or --assume-latency MS for each edge")
        }
        notes.append("No edge has a latency: \(fixed(seconds * 1000, 3)) ms assumed for each, as asked.")
        return edges.map { _ in seconds }
    }

    /// Whether every pair stands there, in one direction at least.
    private func isWhole(_ latency: [Double?]) -> Bool {
        guard names.count <= options.mostPeers else { return false }
        var pairs: Set<Topology.Pair> = []
        for (edge, seconds) in zip(edges, latency) where seconds != nil {
            pairs.insert(Topology.Pair(min(edge.from, edge.to), max(edge.from, edge.to)))
        }
        return pairs.count == names.count * (names.count - 1) / 2
    }

    /// Of a pair that stands there more than once the quickest counts.
    private func measured(_ latency: [Double?], _ notes: inout [String]) -> ImportedPool {
        var pool = ImportedPool(
            members: zip(names, lines).map { ImportedPool.Member(name: $0, line: $1) }, mirrors: !isDirected)
        var again = 0
        for (edge, seconds) in zip(edges, latency) {
            guard let seconds else { continue }
            let way = ImportedPool.Way(
                seconds: seconds, jitterSeconds: edge.jitter, loss: edge.loss, rate: edge.rate)
            if let known = pool[edge.from, edge.to] {
                again += 1
                if known.seconds <= seconds { continue }
            }
            pool[edge.from, edge.to] = way
        }
        if again > 0 { notes.append("\(again) edges stand there again: of each pair the quickest counts.") }
        return pool
    }

    private func graph(_ latency: [Double?], _ notes: inout [String]) -> ImportedPool {
        var routed = RoutedGraph()
        for (name, line) in zip(names, lines) { routed.add(RoutedGraph.Node(name: name, line: line)) }
        var listed: Set<Topology.Pair> = []
        for (edge, seconds) in zip(edges, latency) where seconds != nil {
            listed.insert(Topology.Pair(edge.from, edge.to))
        }
        for (edge, seconds) in zip(edges, latency) {
            guard let seconds else { continue }
            var cable = RoutedGraph.Cable(
                to: edge.to, seconds: seconds, jitterSeconds: edge.jitter, loss: edge.loss, rate: edge.rate)
            routed.cables[edge.from].append(cable)
            if !isDirected, !listed.contains(Topology.Pair(edge.to, edge.from)) {
                cable.to = edge.from
                routed.cables[edge.to].append(cable)
            }
        }
        notes.append("Not every pair stands there: it is a graph, and pairs see the shortest path.")
        return routed.pool(options)
    }
}
