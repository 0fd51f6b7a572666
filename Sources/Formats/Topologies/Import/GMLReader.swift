/// Reads Graph Modelling Language (Himsolt 1997): keys followed by a number, a quoted text, or a list in brackets.
///
/// Text outside of `graph`, `node` and `edge` is skipped; nesting is bounded; every position has its line.
struct GMLReader {
    private enum Token: Equatable {
        case word(String)
        case text(String)
        case open, close, end
    }
    private static let deepest = 32

    private let bytes: [UInt8]
    private let file: String
    private var index = 0
    private var line = 1
    private var graph = AttributedGraph()

    /// - Parameter firstLine: where the graph begins in its file.
    static func graph(_ bytes: [UInt8], file: String, firstLine: Int = 1) throws(FileProblem) -> AttributedGraph {
        var reader = GMLReader(bytes: bytes, file: file)
        reader.line = firstLine
        try reader.readFile()
        return reader.graph
    }
    private init(bytes: [UInt8], file: String) {
        self.bytes = bytes
        self.file = file
    }

    private func problem(_ found: String, _ allowed: String, line: Int? = nil) -> FileProblem {
        FileProblem(.unreadable, file: file, line: line ?? self.line, found: found, allowed: allowed)
    }

    private mutating func readFile() throws(FileProblem) {
        var found = false
        while true {
            switch try next() {
            case .end:
                guard found else { throw problem("no graph", "graph [ … ] with nodes and edges") }
                return
            case .word("graph"):
                guard !found else { throw problem("a second graph", "one graph in a file") }
                guard try next() == .open else { throw problem("graph without its list", "graph [ … ]") }
                found = true
                try readGraph()
            case .word: try skipValue(depth: 0)
            default: throw problem("a value without a key", "a key such as graph before each value")
            }
        }
    }

    private mutating func readGraph() throws(FileProblem) {
        while true {
            let token = try next()
            let at = line
            switch token {
            case .close: return
            case .end: throw problem("the end of the file inside graph [", "a closing ]")
            case .word("node"):
                let attributes = try readList(of: "node")
                guard let id = attributes["id"] else {
                    throw FileProblem(
                        .missingKey, file: file, line: at, key: "node.id", found: "nothing", allowed: "a number")
                }
                graph.nodes.append(AttributedGraph.Node(id: id.text, line: at, attributes: attributes))
                guard graph.nodes.count <= AttributedGraph.mostNodes else {
                    throw problem("more than \(AttributedGraph.mostNodes) nodes", "fewer; cut the graph down")
                }
            case .word("edge"):
                let attributes = try readList(of: "edge")
                guard let source = attributes["source"], let target = attributes["target"] else {
                    throw FileProblem(
                        .missingKey, file: file, line: at,
                        key: "edge.\(attributes["source"] == nil ? "source" : "target")",
                        found: "nothing", allowed: "the id of a node")
                }
                graph.edges.append(
                    AttributedGraph.Edge(
                        source: source.text, target: target.text, line: at,
                        isDirected: attributes["directed"].map { $0.text == "1" }, attributes: attributes))
                guard graph.edges.count <= AttributedGraph.mostEdges else {
                    throw problem("more than \(AttributedGraph.mostEdges) edges", "fewer; cut the graph down")
                }
            case .word(let key):
                if let value = try readValue(depth: 1) { graph.attributes[key] = value }
                if key == "directed" { graph.isDirected = graph.attributes[key]?.text == "1" }
            default: throw problem("a value without a key", "keys and values in turn")
            }
        }
    }

    private mutating func readList(of what: String) throws(FileProblem) -> [String: AttributedGraph.Attribute] {
        guard try next() == .open else { throw problem("\(what) without its list", "\(what) [ … ]") }
        var out: [String: AttributedGraph.Attribute] = [:]
        while true {
            switch try next() {
            case .close: return out
            case .end: throw problem("the end of the file inside \(what) [", "a closing ]")
            case .word(let key):
                if let value = try readValue(depth: 2), out.updateValue(value, forKey: key) != nil,
                    ["id", "source", "target", "latency"].contains(key)
                {
                    throw FileProblem(
                        .duplicateName, file: file, line: line, key: "\(what).\(key)", found: "the key twice",
                        allowed: "each key once")
                }
            default: throw problem("a value without a key", "keys and values in turn")
            }
        }
    }

    /// nil for a list, which is skipped.
    private mutating func readValue(depth: Int) throws(FileProblem) -> AttributedGraph.Attribute? {
        switch try next() {
        case .word(let text), .text(let text): return AttributedGraph.Attribute(text: text, line: line)
        case .open:
            try skipList(depth: depth + 1)
            return nil
        case .close, .end: throw problem("a key without a value", "a number, a quoted text, or a list")
        }
    }
    private mutating func skipValue(depth: Int) throws(FileProblem) { _ = try readValue(depth: depth) }

    private mutating func skipList(depth: Int) throws(FileProblem) {
        guard depth <= GMLReader.deepest else {
            throw problem("lists nested deeper than \(GMLReader.deepest)", "flatter lists")
        }
        var open = 1
        while open > 0 {
            switch try next() {
            case .open: open += 1
            case .close: open -= 1
            case .end: throw problem("the end of the file inside a list", "a closing ]")
            default: break
            }
            guard open <= GMLReader.deepest else {
                throw problem("lists nested deeper than \(GMLReader.deepest)", "flatter lists")
            }
        }
    }

    private mutating func next() throws(FileProblem) -> Token {
        while index < bytes.count {
            let byte = bytes[index]
            switch byte {
            case 10:
                line += 1
                index += 1
            case 32, 9, 13, 0xEF, 0xBB, 0xBF: index += 1
            case UInt8(ascii: "#"):
                while index < bytes.count, bytes[index] != 10 { index += 1 }
            case UInt8(ascii: "["):
                index += 1
                return .open
            case UInt8(ascii: "]"):
                index += 1
                return .close
            case UInt8(ascii: "\""): return .text(try quoted())
            default: return .word(try word())
            }
        }
        return .end
    }

    private mutating func quoted() throws(FileProblem) -> String {
        let from = index + 1
        let opened = line
        index = from
        while index < bytes.count, bytes[index] != UInt8(ascii: "\"") {
            if bytes[index] == 10 { line += 1 }
            index += 1
            guard index - from <= 65_536 else {
                throw problem("a text of more than 65536 bytes", "a closing \"", line: opened)
            }
        }
        guard index < bytes.count else { throw problem("a text without its end", "a closing \"", line: opened) }
        defer { index += 1 }
        return String(decoding: bytes[from..<index], as: UTF8.self)
    }

    private mutating func word() throws(FileProblem) -> String {
        let from = index
        while index < bytes.count, !" \t\r\n[]\"#".utf8.contains(bytes[index]) {
            guard bytes[index] >= 33, bytes[index] < 127, index - from < 256 else {
                throw problem("bytes that are not GML", "keys, numbers, texts in double quotes, and lists in [ ]")
            }
            index += 1
        }
        return String(decoding: bytes[from..<index], as: UTF8.self)
    }
}
