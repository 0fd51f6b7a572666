internal import Primitives

/// Reads a configuration of Shadow (version 2 on): hosts at nodes of a graph that stands in the file, or of its built-in switch. What
/// hosts run is not read.
enum ShadowImport {
    /// Hosts of one configuration, at most.
    static let mostHosts = 4096
    /// `1_gbit_switch`: one node that everybody is at.
    private static let gigabitSwitch = """
        graph [ node [ id 0 host_bandwidth_up "1 Gbit" host_bandwidth_down "1 Gbit" ]
          edge [ source 0 target 0 latency "1 ms" ] ]
        """

    static func imported(
        _ bytes: [UInt8], file: String, options: ImportOptions, name: String
    ) throws(FileProblem) -> ImportedTopology {
        let top = try YAMLNode(parsing: bytes, file: file).entries()
        func value(_ key: String, _ among: [(key: String, value: YAMLNode)]) -> YAMLNode? {
            among.first { $0.key == key }?.value
        }
        guard let network = value("network", top), let hosts = value("hosts", top) else {
            throw FileProblem(
                .missingKey, file: file, key: value("network", top) == nil ? "network" : "hosts", found: "nothing",
                allowed: "network and hosts, as in a configuration of Shadow")
        }
        let settings = try network.entries()
        guard let described = value("graph", settings) else {
            throw network.problem(.missingKey, found: "no graph", allowed: "graph, with type and inline")
        }
        let (text, line) = try graphText(described)
        var graph = try GMLReader.graph(Array(text.utf8), file: file, firstLine: line)
        // Attributes of the graph are not the configuration's name.
        graph.attributes["label"] = nil
        let nodes = try GraphImport(graph, format: .gml, file: file, options: options)
        var routed = nodes.routed
        // Without it only nodes with an edge between them see each other.
        let searches = try value("use_shortest_path", settings)?.boolean() ?? true
        routed.choice = searches ? .shortest : .direct
        var taken: Set<String> = []
        var residents: [RoutedGraph.Resident] = []
        for (key, host) in try hosts.entries() {
            for resident in try settled(key, host, nodes) {
                guard taken.insert(resident.name).inserted else {
                    throw host.problem(
                        .duplicateName, found: "“\(resident.name)” twice", allowed: "each host's name once")
                }
                residents.append(resident)
                guard residents.count <= mostHosts else {
                    throw host.problem(.outOfRange, found: "more than \(mostHosts) hosts", allowed: "fewer")
                }
            }
        }
        guard !residents.isEmpty else {
            throw hosts.problem(.missingKey, found: "no host", allowed: "at least one host")
        }
        routed.residents = residents
        var pool = routed.pool(options)
        pool.notes = nodes.notes + ["What hosts run is not read."] + pool.notes
        let (topology, notes) = try pool.topology(
            name: name, about: "A network, imported from a configuration of Shadow.", options: options, file: file)
        return ImportedTopology(topology, .shadow, notes: notes)
    }

    /// GML, and the line of the file on which it begins.
    private static func graphText(_ described: YAMLNode) throws(FileProblem) -> (String, Int) {
        let entries = try described.entries()
        let kind = try entries.first { $0.key == "type" }?.value.word(["gml", "1_gbit_switch"]) ?? "gml"
        if kind == "1_gbit_switch" { return (gigabitSwitch, described.line ?? 1) }
        if let inline = entries.first(where: { $0.key == "inline" })?.value {
            return (try inline.text("the graph, as GML"), (inline.line ?? 1) + 1)
        }
        throw described.problem(
            .missingKey, found: "a graph in another file",
            allowed: "inline: the graph itself, in this file; or import that file, which has the same network")
    }

    /// One host, or as many copies as it asks for.
    private static func settled(
        _ key: String, _ host: YAMLNode, _ nodes: GraphImport
    ) throws(FileProblem) -> [RoutedGraph.Resident] {
        let entries = try host.entries()
        func value(_ key: String) -> YAMLNode? { entries.first { $0.key == key }?.value }
        guard let given = value("network_node_id") else {
            throw host.problem(.missingKey, found: "no network_node_id", allowed: "the id of a node of the graph")
        }
        guard let node = nodes.node(try given.text("the id of a node")) else {
            throw given.problem(.unknownName, allowed: "the id of a node of the graph")
        }
        func rate(_ key: String) throws(FileProblem) -> BitRate? {
            guard let given = value(key) else { return nil }
            let allowed = "a rate with its unit, such as “20 Mbit”"
            guard let (number, unit) = splitUnit(try given.text(allowed)), let scale = bitsPerUnit(unit),
                number * scale >= 1, number * scale <= 1e13
            else { throw given.problem(.outOfRange, allowed: allowed) }
            return BitRate(bitsPerSecond: number * scale)
        }
        let count = try value("quantity")?.integer(1...mostHosts) ?? 1
        let (up, down) = (try rate("bandwidth_up"), try rate("bandwidth_down"))
        return (0..<count).map { copy in
            RoutedGraph.Resident(
                name: usableName(count == 1 ? key : "\(key)\(copy + 1)") ?? "h\(copy)", node: node,
                line: host.line ?? 1, up: up ?? nodes.routed.nodes[node].up,
                down: down ?? nodes.routed.nodes[node].down)
        }
    }
}
