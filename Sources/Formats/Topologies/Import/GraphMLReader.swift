/// Reads GraphML (Brandes et al. 2002): nodes, edges and their data by the names that the keys declare, wherever those stand. What
/// editors nest into data (shapes, colours) is skipped.
struct GraphMLReader {
    private enum Owner { case graph, node, edge }
    private struct Key {
        var name: String
        /// "node", "edge", "graph" or "all": whom its default is for.
        var kind: String
        var preset: AttributedGraph.Attribute?
    }
    private struct Datum {
        var owner: Owner
        /// Of a node or an edge.
        var index: Int
        var key: String
        var value: AttributedGraph.Attribute
    }

    private var reader: XMLReader
    private var graph = AttributedGraph()
    private var keys: [String: Key] = [:]
    private var order: [String] = []
    private var data: [Datum] = []
    private var owner = Owner.graph
    private var graphs = 0
    /// The key that is being declared, the data that is being read, and how deep inside of it.
    private var declared: String?
    private var datum: String?
    private var nested = 0

    static func graph(_ bytes: [UInt8], file: String) throws(FileProblem) -> AttributedGraph {
        var reader = GraphMLReader(reader: XMLReader(bytes, file: file))
        while let event = try reader.reader.next() { try reader.read(event) }
        return try reader.finished()
    }
    private init(reader: XMLReader) { self.reader = reader }

    private mutating func read(_ event: XMLReader.Event) throws(FileProblem) {
        switch event {
        case .start(let element):
            if datum != nil { nested += 1 } else { try start(element) }
        case .text(let text):
            guard nested == 0 else { return }
            let value = AttributedGraph.Attribute(text: text, line: reader.line)
            if let datum { add(datum, value) } else if let declared { keys[declared]?.preset = value }
        case .end(let name):
            if nested > 0 { return nested -= 1 }
            switch name {
            case "node", "edge": owner = .graph
            case "data": datum = nil
            case "key": declared = nil
            default: break
            }
        }
    }

    private mutating func start(_ element: XMLReader.Element) throws(FileProblem) {
        switch element.name {
        case "key":
            let id = try needed(element, "id")
            if keys[id] == nil { order.append(id) }
            keys[id] = Key(name: element["attr.name"] ?? id, kind: element["for"] ?? "all")
            guard keys.count <= 256 else { throw reader.problem("more than 256 keys", "fewer") }
            declared = id
        case "graph":
            graphs += 1
            guard graphs == 1 else { throw reader.problem("a second graph", "one graph, not nested") }
            graph.isDirected = element["edgedefault"] == "directed"
        case "node":
            graph.nodes.append(
                AttributedGraph.Node(id: try needed(element, "id"), line: element.line, attributes: [:]))
            owner = .node
            guard graph.nodes.count <= AttributedGraph.mostNodes else {
                throw reader.problem("more than \(AttributedGraph.mostNodes) nodes", "fewer")
            }
        case "edge":
            let (source, target) = (try needed(element, "source"), try needed(element, "target"))
            graph.edges.append(
                AttributedGraph.Edge(
                    source: source, target: target, line: element.line,
                    isDirected: element["directed"].map { ["true", "1"].contains($0.lowercased()) }, attributes: [:]))
            owner = .edge
            guard graph.edges.count <= AttributedGraph.mostEdges else {
                throw reader.problem("more than \(AttributedGraph.mostEdges) edges", "fewer")
            }
        case "data": datum = try needed(element, "key")
        case "hyperedge": throw reader.problem("a hyperedge", "edges between two nodes")
        default: break
        }
    }
    private func needed(_ element: XMLReader.Element, _ attribute: String) throws(FileProblem) -> String {
        guard let value = element[attribute] else {
            throw FileProblem(
                .missingKey, file: reader.file, line: element.line, key: "\(element.name).\(attribute)",
                found: "nothing", allowed: "this attribute is needed")
        }
        return value
    }
    private mutating func add(_ key: String, _ value: AttributedGraph.Attribute) {
        let index =
            switch owner {
            case .graph: 0
            case .node: graph.nodes.count - 1
            case .edge: graph.edges.count - 1
            }
        data.append(Datum(owner: owner, index: index, key: key, value: value))
    }

    private mutating func finished() throws(FileProblem) -> AttributedGraph {
        guard graphs == 1 else { throw reader.problem("no graph", "<graphml><graph>…</graph></graphml>") }
        for datum in data {
            guard let key = keys[datum.key] else {
                throw FileProblem(
                    .unknownName, file: reader.file, line: datum.value.line, key: "data.key", found: "“\(datum.key)”",
                    allowed: "the id of a key that the file declares")
            }
            switch datum.owner {
            case .graph: graph.attributes[key.name] = datum.value
            case .node: graph.nodes[datum.index].attributes[key.name] = datum.value
            case .edge: graph.edges[datum.index].attributes[key.name] = datum.value
            }
        }
        for id in order {
            guard let key = keys[id], let preset = key.preset else { continue }
            if key.kind == "node" || key.kind == "all" {
                for index in graph.nodes.indices where graph.nodes[index].attributes[key.name] == nil {
                    graph.nodes[index].attributes[key.name] = preset
                }
            }
            if key.kind == "edge" || key.kind == "all" {
                for index in graph.edges.indices where graph.edges[index].attributes[key.name] == nil {
                    graph.edges[index].attributes[key.name] = preset
                }
            }
            if key.kind == "graph" || key.kind == "all", graph.attributes[key.name] == nil {
                graph.attributes[key.name] = preset
            }
        }
        return graph
    }
}
