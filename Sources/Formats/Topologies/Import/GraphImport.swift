internal import Primitives

/// Gives nodes and edges of GML or GraphML their meaning: Shadow's latencies and bandwidths, the Topology Zoo's places and
/// speeds, or lengths in kilometres.
struct GraphImport {
    private let graph: AttributedGraph
    private let file: String
    private let options: ImportOptions
    private var indexOf: [String: Int] = [:]
    private var routed = RoutedGraph()
    private var notes: [String] = []

    init(_ graph: AttributedGraph, file: String, options: ImportOptions) throws(FileProblem) {
        self.graph = graph
        self.file = file
        self.options = options
        try readNodes()
        try readEdges()
    }

    func imported(_ format: TopologyFormat, name: String) throws(FileProblem) -> ImportedTopology {
        let title = (graph.attributes["Network"] ?? graph.attributes["label"]).flatMap { usableName($0.text) }
        let (topology, found) = try routed.topology(
            name: name,
            about: "\(title.map { "The network \($0)" } ?? "A graph"), imported from \(format.rawValue).",
            options: options, file: file)
        return ImportedTopology(topology, format, notes: notes + found)
    }

    private func problem(
        _ kind: FileProblem.Kind, _ attribute: AttributedGraph.Attribute, _ key: String, _ allowed: String
    ) -> FileProblem {
        FileProblem(
            kind, file: file, line: attribute.line, key: key, found: "“\(attribute.text.prefix(80))”", allowed: allowed)
    }

    // MARK: nodes

    private mutating func readNodes() throws(FileProblem) {
        guard !graph.nodes.isEmpty else {
            throw FileProblem(.missingKey, file: file, found: "no node", allowed: "a graph with nodes")
        }
        var labels: [String: Int] = [:]
        for node in graph.nodes {
            if let name = label(of: node) { labels[name, default: 0] += 1 }
        }
        var taken: Set<String> = []
        for node in graph.nodes {
            guard indexOf.updateValue(routed.nodes.count, forKey: node.id) == nil else {
                throw FileProblem(
                    .duplicateName, file: file, line: node.line, key: "node.id", found: "“\(node.id)” again",
                    allowed: "each node's id once")
            }
            let id = usableName(node.id) ?? "\(routed.nodes.count)"
            var name = label(of: node) ?? "n\(id)"
            if labels[name, default: 0] > 1 { name += "-\(id)" }
            while !taken.insert(name).inserted { name = "\(name.prefix(48))-\(routed.nodes.count)" }
            var out = RoutedGraph.Node(name: String(name.prefix(64)), line: node.line)
            out.up = try rate(
                node.attributes["host_bandwidth_up"] ?? node.attributes["bandwidth_up"], "host_bandwidth_up")
            out.down = try rate(
                node.attributes["host_bandwidth_down"] ?? node.attributes["bandwidth_down"], "host_bandwidth_down")
            routed.add(out)
        }
    }
    private func label(of node: AttributedGraph.Node) -> String? {
        node.attributes["label"].flatMap { usableName($0.text) }
    }

    /// With a unit: "20 Mbit".
    private func rate(_ attribute: AttributedGraph.Attribute?, _ key: String) throws(FileProblem) -> BitRate? {
        guard let attribute else { return nil }
        let allowed = "a number greater than 0 with its unit, such as “20 Mbit”"
        guard let (number, unit) = splitUnit(attribute.text) else { throw problem(.wrongType, attribute, key, allowed) }
        let known = [("bits", 1.0), ("bit", 1), ("bytes", 8), ("byte", 8), ("bps", 1), ("Bps", 8), ("B", 8), ("b", 1)]
        for (suffix, bits) in known where unit.hasSuffix(suffix) {
            guard let prefix = prefixFactor(String(unit.dropLast(suffix.count))) else { continue }
            let value = number * prefix * bits
            guard value >= 1, value <= 1e13 else { throw problem(.outOfRange, attribute, key, allowed) }
            return BitRate(bitsPerSecond: value)
        }
        throw problem(.wrongType, attribute, key, allowed)
    }

    private func place(of index: Int) throws(FileProblem) -> (latitude: Double, longitude: Double)? {
        let node = graph.nodes[index].attributes
        guard let latitude = node["Latitude"] ?? node["lat"] ?? node["latitude"],
            let longitude = node["Longitude"] ?? node["lon"] ?? node["longitude"]
        else { return nil }
        guard let north = decimalNumber(latitude.text), abs(north) <= 90 else {
            throw problem(.outOfRange, latitude, "node.Latitude", "degrees from -90 to 90")
        }
        guard let east = decimalNumber(longitude.text), abs(east) <= 180 else {
            throw problem(.outOfRange, longitude, "node.Longitude", "degrees from -180 to 180")
        }
        return (north, east)
    }

    // MARK: edges

    private mutating func readEdges() throws(FileProblem) {
        let isShadow = graph.edges.contains { $0.attributes["latency"] != nil || $0.attributes["latency_ms"] != nil }
        var places: [(latitude: Double, longitude: Double)?] = []
        for index in graph.nodes.indices { places.append(try place(of: index)) }
        var ends: [(from: Int, to: Int)] = []
        var seconds: [Double?] = []
        for edge in graph.edges {
            let from = try node(edge.source, edge, "source")
            let to = try node(edge.target, edge, "target")
            ends.append((from, to))
            seconds.append(
                try isShadow
                    ? latency(of: edge)
                    : length(of: edge, places[from], places[to]).map { kilometres in
                        max(1e-5, kilometres / options.kilometresPerMillisecond / 1000)
                    })
        }
        let known = seconds.compactMap { $0 }.sorted()
        if let edge = seconds.firstIndex(where: { $0 == nil }), known.isEmpty {
            throw FileProblem(
                .missingKey, file: file, line: graph.edges[edge].line, key: "edge.latency", found: "no latency",
                allowed: "latency with a unit, distance in km, or Latitude and Longitude at both nodes")
        }
        let usual = known.isEmpty ? 0 : known[known.count / 2]
        for (index, edge) in graph.edges.enumerated() where ends[index].from != ends[index].to {
            var cable = RoutedGraph.Cable(to: ends[index].to, seconds: seconds[index] ?? usual)
            cable.rate = try speed(of: edge)
            if let loss = edge.attributes["packet_loss"] {
                guard let share = decimalNumber(loss.text), share >= 0, share < 1 else {
                    throw problem(.outOfRange, loss, "edge.packet_loss", "a share from 0, less than 1")
                }
                cable.loss = share
            }
            if let jitter = edge.attributes["jitter"] {
                cable.jitterSeconds = try time(jitter, "edge.jitter", open: false)
            }
            routed.cables[ends[index].from].append(cable)
            if !graph.isDirected {
                cable.to = ends[index].from
                routed.cables[ends[index].to].append(cable)
            }
        }
        if !isShadow {
            notes.append(
                "Latency from distance: \(fixed(options.kilometresPerMillisecond, 0)) km in a millisecond"
                    + (places.contains { $0 != nil } ? ", along great circles." : "."))
            let guessed = seconds.count { $0 == nil }
            if guessed > 0 {
                notes.append(
                    "\(guessed) edges have no length: the median of the others, \(fixed(usual * 1000, 2)) ms, is taken."
                )
            }
        }
    }

    private func node(_ id: String, _ edge: AttributedGraph.Edge, _ key: String) throws(FileProblem) -> Int {
        guard let index = indexOf[id] else {
            throw FileProblem(
                .unknownName, file: file, line: edge.line, key: "edge.\(key)", found: "“\(id.prefix(60))”",
                allowed: "the id of a node in this file")
        }
        return index
    }

    private func latency(of edge: AttributedGraph.Edge) throws(FileProblem) -> Double? {
        if let given = edge.attributes["latency_ms"] {
            guard let value = decimalNumber(given.text), value > 0 else {
                throw problem(.outOfRange, given, "edge.latency_ms", "milliseconds, greater than 0")
            }
            return value / 1000
        }
        guard let given = edge.attributes["latency"] else {
            throw FileProblem(
                .missingKey, file: file, line: edge.line, key: "edge.latency", found: "nothing",
                allowed: "a latency for each edge, such as “20 ms”")
        }
        return try time(given, "edge.latency", open: true)
    }

    /// Shadow: without a unit these are seconds.
    private func time(_ attribute: AttributedGraph.Attribute, _ key: String, open: Bool) throws(FileProblem) -> Double {
        let allowed =
            "a time \(open ? "greater than 0" : "from 0") with its unit, such as “20 ms”; without a unit seconds"
        guard let (number, unit) = splitUnit(attribute.text), let scale = unit.isEmpty ? 1 : secondsPerUnit(unit) else {
            throw problem(.wrongType, attribute, key, allowed)
        }
        let value = number * scale
        guard value >= 0, !open || value > 0, value <= 1e6 else { throw problem(.outOfRange, attribute, key, allowed) }
        return value
    }

    /// In kilometres; nil where the file does not say.
    private func length(
        of edge: AttributedGraph.Edge, _ a: (latitude: Double, longitude: Double)?,
        _ b: (latitude: Double, longitude: Double)?
    ) throws(FileProblem) -> Double? {
        if let given = edge.attributes["distance"] ?? edge.attributes["dist"] {
            guard let value = decimalNumber(given.text), value >= 0, value <= 1e6 else {
                throw problem(.outOfRange, given, "edge.distance", "kilometres, from 0")
            }
            return value
        }
        guard let a, let b else { return nil }
        return GreatCircle.kilometres(from: a, to: b)
    }

    /// Bit/s; infinite where the file does not say.
    private func speed(of edge: AttributedGraph.Edge) throws(FileProblem) -> Double {
        if let given = edge.attributes["bandwidth"] {
            return try rate(given, "edge.bandwidth")?.bitsPerSecond ?? .infinity
        }
        for (key, scale) in [("LinkSpeedRaw", 1.0), ("capacity", 1), ("bandwidth_mbps", 1e6)] {
            guard let given = edge.attributes[key] else { continue }
            guard let value = decimalNumber(given.text), value > 0, value * scale >= 1, value * scale <= 1e15 else {
                throw problem(.outOfRange, given, "edge.\(key)", "a rate greater than 0, without its unit")
            }
            return value * scale
        }
        return .infinity
    }
}
