internal import Primitives

/// Gives nodes and edges of GML or GraphML their meaning: Shadow's latencies and bandwidths, the Topology Zoo's places and
/// speeds, or lengths in kilometres.
struct GraphImport {
    private let graph: AttributedGraph
    private let format: TopologyFormat
    private let file: String
    private let options: ImportOptions
    private var indexOf: [String: Int] = [:]
    private(set) var routed = RoutedGraph()
    private(set) var notes: [String] = []
    /// What a latency without a unit is in, in seconds one way.
    private let bareLatency: Double

    init(
        _ graph: AttributedGraph, format: TopologyFormat, file: String, options: ImportOptions
    ) throws(FileProblem) {
        self.graph = graph
        self.format = format
        self.file = file
        self.options = options
        // Shadow's GML: seconds; its GraphML, until version 1: milliseconds.
        bareLatency = options.latencySeconds ?? (format == .graphml ? 1e-3 : 1)
        try readNodes()
        try readEdges()
        if let direct = graph.attributes["preferdirectpaths"]?.text.lowercased(), ["true", "1", "yes"].contains(direct)
        {
            routed.choice = .directFirst
        }
    }

    func imported(name: String) throws(FileProblem) -> ImportedTopology {
        let title = (graph.attributes["Network"] ?? graph.attributes["label"]).flatMap { usableName($0.text) }
        var pool = routed.pool(options)
        pool.notes = notes + pool.notes
        let (topology, found) = try pool.topology(
            name: name,
            about: "\(title.map { "The network \($0)" } ?? "A graph"), imported from \(format.rawValue).",
            options: options, file: file)
        return ImportedTopology(topology, format, notes: found)
    }

    /// The node with this id; nil where there is none.
    func node(_ id: String) -> Int? { indexOf[id] }

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
            out.up = try accessRate(node, ["host_bandwidth_up", "bandwidth_up", "bandwidthup"])
            out.down = try accessRate(node, ["host_bandwidth_down", "bandwidth_down", "bandwidthdown"])
            if let loss = node.attributes["packetloss"] ?? node.attributes["packet_loss"] {
                out.loss = try share(loss, "node.packet_loss")
            }
            routed.add(out)
        }
    }
    private func label(of node: AttributedGraph.Node) -> String? {
        node.attributes["label"].flatMap { usableName($0.text) }
    }

    /// With a unit, "20 Mbit"; Shadow's GraphML has KiB/s without one.
    private func accessRate(_ node: AttributedGraph.Node, _ keys: [String]) throws(FileProblem) -> BitRate? {
        for key in keys {
            guard let attribute = node.attributes[key] else { continue }
            guard key.hasPrefix("bandwidth"), !key.contains("_"), let bare = decimalNumber(attribute.text) else {
                return try rate(attribute, key)
            }
            let value = bare * 8192
            guard value >= 1, value <= 1e13 else {
                throw problem(.outOfRange, attribute, "node.\(key)", "KiB a second, greater than 0")
            }
            return BitRate(bitsPerSecond: value)
        }
        return nil
    }

    private func rate(_ attribute: AttributedGraph.Attribute, _ key: String) throws(FileProblem) -> BitRate {
        let allowed = "a number greater than 0 with its unit, such as “20 Mbit”"
        guard let (number, unit) = splitUnit(attribute.text), let scale = bitsPerUnit(unit) else {
            throw problem(.wrongType, attribute, key, allowed)
        }
        let value = number * scale
        guard value >= 1, value <= 1e13 else { throw problem(.outOfRange, attribute, key, allowed) }
        return BitRate(bitsPerSecond: value)
    }

    private func share(_ attribute: AttributedGraph.Attribute, _ key: String) throws(FileProblem) -> Double {
        guard let share = decimalNumber(attribute.text), share >= 0, share < 1 else {
            throw problem(.outOfRange, attribute, key, "a share from 0, less than 1")
        }
        return share
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

    /// Two nodes at one place are still some way apart: 2 km, say.
    private static let leastLengthSeconds = 1e-5

    private mutating func readEdges() throws(FileProblem) {
        let hasLatency = graph.edges.contains { $0.attributes["latency"] != nil || $0.attributes["latency_ms"] != nil }
        var places: [(latitude: Double, longitude: Double)?] = []
        for index in graph.nodes.indices { places.append(try place(of: index)) }
        var ends: [(from: Int, to: Int)] = []
        var seconds: [Double?] = []
        var bare = 0
        var short = 0
        for edge in graph.edges {
            let from = try node(edge.source, edge, "source")
            let to = try node(edge.target, edge, "target")
            ends.append((from, to))
            if hasLatency {
                seconds.append(try latency(of: edge, &bare))
            } else if let kilometres = try length(of: edge, places[from], places[to]) {
                let time = kilometres / options.kilometresPerMillisecond / 1000
                if from != to, time < GraphImport.leastLengthSeconds { short += 1 }
                seconds.append(max(GraphImport.leastLengthSeconds, time))
            } else {
                seconds.append(nil)
            }
        }
        let known = seconds.compactMap { $0 }.sorted()
        var usual = known.isEmpty ? 0 : known[known.count / 2]
        if let edge = seconds.firstIndex(where: { $0 == nil }), known.isEmpty {
            guard case .assume(let assumed) = options.disconnected else {
                throw FileProblem(
                    .missingKey, file: file, line: graph.edges[edge].line, key: "edge.latency", found: "no latency",
                    allowed: "latency with a unit, distance in km, Latitude and Longitude at both nodes, or "
                        + "--assume-latency MS for each edge")
            }
            usual = assumed
        }
        for (index, edge) in graph.edges.enumerated() {
            try lay(edge, ends[index].from, ends[index].to, seconds[index] ?? usual)
        }
        say(
            hasLatency: hasLatency, hasPlaces: places.contains { $0 != nil }, bare: bare, short: short,
            guessed: seconds.count { $0 == nil }, usual: usual)
    }

    private mutating func lay(
        _ edge: AttributedGraph.Edge, _ from: Int, _ to: Int, _ seconds: Double
    ) throws(FileProblem) {
        var cable = RoutedGraph.Cable(to: to, seconds: seconds)
        cable.rate = try speed(of: edge)
        if let loss = edge.attributes["packet_loss"] ?? edge.attributes["packetloss"] {
            cable.loss = try share(loss, "edge.packet_loss")
        }
        if let jitter = edge.attributes["jitter"] { cable.jitterSeconds = try time(jitter, "edge.jitter").seconds }
        routed.cables[from].append(cable)
        if !(edge.isDirected ?? graph.isDirected), from != to {
            cable.to = from
            routed.cables[to].append(cable)
        }
    }

    private mutating func say(
        hasLatency: Bool, hasPlaces: Bool, bare: Int, short: Int, guessed: Int, usual: Double
    ) {
        if hasLatency {
            let each =
                options.latencyUnit.map { "\($0), as asked" }
                ?? (format == .graphml ? "ms, as in Shadow 1" : "s, as in Shadow")
            if bare > 0 { notes.append("\(bare) latencies have no unit: \(each).") }
            if options.latencyUnit?.hasPrefix("rtt") != true {
                notes.append("Latencies are taken as one way; where they are round trips, say --unit rtt_ms.")
            }
            return
        }
        guard guessed < graph.edges.count else {
            return notes.append(
                "No edge has a latency or a length: \(fixed(usual * 1000, 3)) ms assumed for each, as asked.")
        }
        notes.append(
            "Latency from distance: \(fixed(options.kilometresPerMillisecond, 0)) km in a millisecond"
                + (hasPlaces ? ", along great circles." : "."))
        if guessed > 0 {
            notes.append(
                "\(guessed) edges have no length: the median of the others, \(fixed(usual * 1000, 2)) ms, is taken.")
        }
        if short > 0 { notes.append("\(short) edges join nodes at one place: 10 µs is taken, the floor.") }
    }

    private func node(_ id: String, _ edge: AttributedGraph.Edge, _ key: String) throws(FileProblem) -> Int {
        guard let index = indexOf[id] else {
            throw FileProblem(
                .unknownName, file: file, line: edge.line, key: "edge.\(key)", found: "“\(id.prefix(60))”",
                allowed: "the id of a node in this file")
        }
        return index
    }

    private func latency(of edge: AttributedGraph.Edge, _ bare: inout Int) throws(FileProblem) -> Double? {
        if let given = edge.attributes["latency_ms"] {
            guard let value = decimalNumber(given.text), value >= 0 else {
                throw problem(.outOfRange, given, "edge.latency_ms", "milliseconds, from 0")
            }
            return value / 1000
        }
        guard let given = edge.attributes["latency"] else {
            throw FileProblem(
                .missingKey, file: file, line: edge.line, key: "edge.latency", found: "nothing",
                allowed: "a latency for each edge, such as “20 ms”")
        }
        let (seconds, isBare) = try time(given, "edge.latency")
        if isBare { bare += 1 }
        return seconds
    }

    private func time(_ attribute: AttributedGraph.Attribute, _ key: String) throws(FileProblem) -> (
        seconds: Double, isBare: Bool
    ) {
        let allowed = "a time from 0 with its unit, such as “20 ms”"
        guard let (number, unit) = splitUnit(attribute.text),
            let scale = unit.isEmpty ? bareLatency : secondsPerUnit(unit)
        else { throw problem(.wrongType, attribute, key, allowed) }
        let value = number * scale * (unit.isEmpty || options.latencyUnit?.hasPrefix("rtt") != true ? 1 : 0.5)
        guard value >= 0, value <= 1e6 else { throw problem(.outOfRange, attribute, key, allowed) }
        return (value, unit.isEmpty)
    }

    /// In kilometres; nil where the file does not say.
    private func length(
        of edge: AttributedGraph.Edge, _ a: (latitude: Double, longitude: Double)?,
        _ b: (latitude: Double, longitude: Double)?
    ) throws(FileProblem) -> Double? {
        if let given = edge.attributes["distance"] ?? edge.attributes["dist"] {
            let (number, unit) = splitUnit(given.text) ?? (.nan, "")
            let scale = ["": 1.0, "km": 1, "m": 1e-3, "mi": 1.609344, "miles": 1.609344][unit] ?? .nan
            guard number * scale >= 0, number * scale <= 1e6 else {
                throw problem(.outOfRange, given, "edge.distance", "kilometres, from 0")
            }
            return number * scale
        }
        guard let a, let b else { return nil }
        return GreatCircle.kilometres(from: a, to: b)
    }

    /// Bit/s; infinite where the file does not say.
    private func speed(of edge: AttributedGraph.Edge) throws(FileProblem) -> Double {
        if let given = edge.attributes["bandwidth"] { return try rate(given, "edge.bandwidth").bitsPerSecond }
        for (key, scale) in [("LinkSpeedRaw", 1.0), ("capacity", 1), ("bandwidth_mbps", 1e6)] {
            guard let given = edge.attributes[key] else { continue }
            guard let value = decimalNumber(given.text), value > 0, value * scale >= 1, value * scale <= 1e15 else {
                throw problem(.outOfRange, given, "edge.\(key)", "a rate greater than 0, without its unit")
            }
            return value * scale
        }
        // The Zoo also has words and bounds such as "<10" there: those say nothing.
        if let number = edge.attributes["LinkSpeed"].flatMap({ decimalNumber($0.text) }), number > 0,
            let prefix = edge.attributes["LinkSpeedUnits"].flatMap({ prefixFactor($0.text) }), number * prefix >= 1,
            number * prefix <= 1e15
        {
            return number * prefix
        }
        return .infinity
    }
}
