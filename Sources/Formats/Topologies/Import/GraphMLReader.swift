/// Reads GraphML (Brandes et al. 2002): nodes, edges and their data by the names that the keys declare.
enum GraphMLReader {
    static func graph(_ bytes: [UInt8], file: String) throws(FileProblem) -> AttributedGraph {
        var reader = XMLReader(bytes, file: file)
        var graph = AttributedGraph()
        var names: [String: String] = [:]
        var defaults: [(isNode: Bool, name: String, value: AttributedGraph.Attribute)] = []
        var key: (id: String, kind: String)?
        /// Which element the data belongs to.
        var owner = Owner.graph
        var data: String?
        var graphs = 0
        func missing(_ element: XMLReader.Element, _ attribute: String) -> FileProblem {
            FileProblem(
                .missingKey, file: file, line: element.line, key: "\(element.name).\(attribute)", found: "nothing",
                allowed: "this attribute is needed")
        }
        while let event = try reader.next() {
            switch event {
            case .start(let element):
                switch element.name {
                case "key":
                    guard let id = element["id"] else { throw missing(element, "id") }
                    names[id] = element["attr.name"] ?? id
                    guard names.count <= 256 else { throw reader.problem("more than 256 keys", "fewer") }
                    key = (id, element["for"] ?? "all")
                case "graph":
                    graphs += 1
                    guard graphs == 1 else { throw reader.problem("a second graph", "one graph, not nested") }
                    graph.isDirected = element["edgedefault"] == "directed"
                case "node":
                    guard let id = element["id"] else { throw missing(element, "id") }
                    graph.nodes.append(AttributedGraph.Node(id: id, line: element.line, attributes: [:]))
                    owner = .node
                    guard graph.nodes.count <= AttributedGraph.mostNodes else {
                        throw reader.problem("more than \(AttributedGraph.mostNodes) nodes", "fewer")
                    }
                case "edge":
                    guard let source = element["source"] else { throw missing(element, "source") }
                    guard let target = element["target"] else { throw missing(element, "target") }
                    graph.edges.append(
                        AttributedGraph.Edge(source: source, target: target, line: element.line, attributes: [:]))
                    owner = .edge
                    guard graph.edges.count <= AttributedGraph.mostEdges else {
                        throw reader.problem("more than \(AttributedGraph.mostEdges) edges", "fewer")
                    }
                case "data":
                    guard let id = element["key"] else { throw missing(element, "key") }
                    guard let name = names[id] else {
                        throw FileProblem(
                            .unknownName, file: file, line: element.line, key: "data.key", found: "“\(id)”",
                            allowed: "the id of a key declared above")
                    }
                    data = name
                case "hyperedge": throw reader.problem("a hyperedge", "edges between two nodes")
                default: break
                }
            case .text(let text):
                let value = AttributedGraph.Attribute(text: text, line: reader.line)
                if let name = data {
                    switch owner {
                    case .graph: graph.attributes[name] = value
                    case .node: graph.nodes[graph.nodes.count - 1].attributes[name] = value
                    case .edge: graph.edges[graph.edges.count - 1].attributes[name] = value
                    }
                } else if let key, let name = names[key.id] {
                    if key.kind != "edge" { defaults.append((true, name, value)) }
                    if key.kind != "node" { defaults.append((false, name, value)) }
                }
            case .end(let name):
                switch name {
                case "node", "edge": owner = .graph
                case "data": data = nil
                case "key": key = nil
                default: break
                }
            }
        }
        guard graphs == 1 else { throw reader.problem("no graph", "<graphml><graph>…</graph></graphml>") }
        for (isNode, name, value) in defaults {
            if isNode {
                for index in graph.nodes.indices where graph.nodes[index].attributes[name] == nil {
                    graph.nodes[index].attributes[name] = value
                }
            } else {
                for index in graph.edges.indices where graph.edges[index].attributes[name] == nil {
                    graph.edges[index].attributes[name] = value
                }
            }
        }
        return graph
    }
    private enum Owner { case graph, node, edge }
}
