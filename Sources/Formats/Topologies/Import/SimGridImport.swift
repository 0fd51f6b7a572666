internal import Primitives

/// Reads a SimGrid platform (XML, version 4): zones, hosts, routers, links, routes, clusters and peers.
///
/// A host's `speed` times its cores is its FLOP/s; a route has the summed latency of its links and the rate of the narrowest.
/// With Full routing a host forwards nothing; profiles and state files are not read.
struct SimGridImport {
    struct Link {
        var seconds: Double
        var rate: Double
    }
    struct Route {
        var line: Int
        var from: String
        var to: String
        var isSymmetric: Bool
        var links: [(name: String, line: Int)] = []
        var isWhole: Bool
    }
    let file: String
    let options: ImportOptions
    var graph = RoutedGraph()
    var indexOf: [String: Int] = [:]
    var links: [String: Link] = [:]
    private var routes: [Route] = []
    private var zones: [String] = []
    private var peers: [(node: Int, coordinates: [Double])] = []
    private var skipped: Set<String> = []

    init(file: String, options: ImportOptions) {
        self.file = file
        self.options = options
    }

    mutating func imported(_ bytes: [UInt8], name: String) throws(FileProblem) -> ImportedTopology {
        var reader = XMLReader(bytes, file: file)
        var route: Route?
        while let event = try reader.next() {
            switch event {
            case .start(let element):
                switch element.name {
                case "route", "zoneRoute", "ASroute": route = try openRoute(element)
                case "link_ctn":
                    route?.links.append((try needed(element, "id"), element.line))
                    guard route?.links.count ?? 0 <= 1000 else {
                        throw reader.problem("a route of more than 1000 links", "fewer")
                    }
                default: try read(element)
                }
            case .end(let name):
                if ["route", "zoneRoute", "ASroute"].contains(name), let done = route {
                    routes.append(done)
                    route = nil
                    guard routes.count <= AttributedGraph.mostEdges else {
                        throw reader.problem("more than \(AttributedGraph.mostEdges) routes", "fewer")
                    }
                } else if name == "zone" || name == "AS" {
                    zones.removeLast()
                }
            case .text: break
            }
        }
        for route in routes { try lay(route) }
        try meshPeers()
        for node in graph.nodes.indices where graph.nodes[node].up == nil {
            let widest = graph.cables[node].map(\.rate).filter(\.isFinite).max()
            graph.nodes[node].up = widest.map { BitRate(bitsPerSecond: $0) }
            graph.nodes[node].down = graph.nodes[node].up
        }
        var (topology, notes) = try graph.topology(
            name: name, about: "A platform, imported from SimGrid.", options: options, file: file)
        topology.name = name
        if !skipped.isEmpty { notes.append("Not read: \(skipped.sorted().joined(separator: ", ")).") }
        return ImportedTopology(topology, .simgrid, notes: notes)
    }

    func needed(_ element: XMLReader.Element, _ key: String) throws(FileProblem) -> String {
        guard let value = element[key], !value.isEmpty else {
            throw FileProblem(
                .missingKey, file: file, line: element.line, key: "\(element.name).\(key)", found: "nothing",
                allowed: "this attribute is needed")
        }
        return value
    }

    private mutating func read(_ element: XMLReader.Element) throws(FileProblem) {
        switch element.name {
        case "zone", "AS": zones.append(element["routing"] ?? "Full")
        case "host":
            let speed = try flops(element, element["speed"] ?? element["power"])
            guard let cores = Double(element["core"] ?? "1"), cores >= 1, cores <= 1e6 else {
                throw problem(.outOfRange, element, "core", "a whole number from 1")
            }
            try add(try needed(element, "id"), element, flops: speed * cores)
        case "router": try add(try needed(element, "id"), element, flops: nil)
        case "link":
            let id = try needed(element, "id")
            let link = Link(
                seconds: try seconds(element, "latency"),
                rate: try rate(element, "bandwidth", try needed(element, "bandwidth")))
            guard links.updateValue(link, forKey: id) == nil else {
                throw problem(.duplicateName, element, "id", "each link's id once")
            }
            guard links.count <= AttributedGraph.mostEdges else {
                throw problem(.outOfRange, element, "id", "fewer links")
            }
        case "cluster": try readCluster(element)
        case "peer":
            try add(try needed(element, "id"), element, flops: try flops(element, element["speed"]))
            let node = graph.nodes.count - 1
            graph.nodes[node].down = BitRate(bitsPerSecond: try rate(element, "bw_in", try needed(element, "bw_in")))
            graph.nodes[node].up = BitRate(bitsPerSecond: try rate(element, "bw_out", try needed(element, "bw_out")))
            let text = try needed(element, "coordinates")
            let numbers = text.split(separator: " ").map { decimalNumber($0) }
            guard numbers.count >= 2, numbers.count <= 4, numbers.allSatisfy({ abs($0 ?? .nan) <= 1e6 }) else {
                throw problem(.wrongType, element, "coordinates", "two coordinates and a height, in milliseconds")
            }
            peers.append((node, numbers.compactMap { $0 }))
            guard peers.count <= 2048 else { throw problem(.outOfRange, element, "id", "at most 2048 peers") }
        case "platform", "prop", "config", "argument": break
        default: skipped.insert("<\(element.name.prefix(32))>")
        }
        for key in ["state_file", "availability_file", "bandwidth_file", "latency_file"] where element[key] != nil {
            skipped.insert(key)
        }
    }

    func problem(_ kind: FileProblem.Kind, _ element: XMLReader.Element, _ key: String, _ allowed: String)
        -> FileProblem
    {
        FileProblem(
            kind, file: file, line: element.line, key: "\(element.name).\(key)",
            found: element[key].map { "“\($0.prefix(60))”" } ?? "nothing", allowed: allowed)
    }

    mutating func add(_ id: String, _ element: XMLReader.Element, flops: Double?) throws(FileProblem) {
        guard indexOf.updateValue(graph.nodes.count, forKey: id) == nil else {
            throw problem(.duplicateName, element, "id", "each name once")
        }
        var name = usableName(id) ?? "n\(graph.nodes.count)"
        if name != id, graph.nodes.contains(where: { $0.name == name }) { name += "-\(graph.nodes.count)" }
        var node = RoutedGraph.Node(name: name, line: element.line)
        node.isPeer = flops != nil
        node.relays = flops == nil || zones.last != "Full"
        node.flops = flops
        graph.add(node)
        guard graph.nodes.count <= AttributedGraph.mostNodes else {
            throw problem(.outOfRange, element, "id", "at most \(AttributedGraph.mostNodes) hosts and routers")
        }
    }

    // MARK: routes

    private func openRoute(_ element: XMLReader.Element) throws(FileProblem) -> Route {
        let isZone = element.name != "route"
        return Route(
            line: element.line, from: try needed(element, isZone ? "gw_src" : "src"),
            to: try needed(element, isZone ? "gw_dst" : "dst"),
            isSymmetric: !["no", "false"].contains((element["symmetrical"] ?? "yes").lowercased()),
            isWhole: !isZone && zones.last == "Full")
    }

    private mutating func lay(_ route: Route) throws(FileProblem) {
        func node(_ name: String) throws(FileProblem) -> Int {
            guard let index = indexOf[name] else { throw unknown(name, route.line, "host or router") }
            return index
        }
        let (from, to) = (try node(route.from), try node(route.to))
        guard from != to else { return }
        var cable = RoutedGraph.Cable(to: to, seconds: 0)
        for (name, line) in route.links {
            guard let link = links[name] else { throw unknown(name, line, "link") }
            cable.seconds += link.seconds
            cable.rate = min(cable.rate, link.rate)
        }
        if !route.isWhole {
            graph.nodes[from].relays = true
            graph.nodes[to].relays = true
        }
        join(from, cable, whole: route.isWhole, bothWays: route.isSymmetric)
    }

    mutating func join(_ from: Int, _ cable: RoutedGraph.Cable, whole: Bool, bothWays: Bool) {
        let to = cable.to
        var back = cable
        back.to = from
        graph.cables[from].append(cable)
        if bothWays { graph.cables[to].append(back) }
        if whole {
            graph.routes[Topology.Pair(from, to)] = cable
            if bothWays { graph.routes[Topology.Pair(to, from)] = back }
        }
    }
    private func unknown(_ name: String, _ line: Int, _ what: String) -> FileProblem {
        FileProblem(
            .unknownName, file: file, line: line, key: "route", found: "“\(name.prefix(60))”",
            allowed: "the id of a \(what) in this file")
    }

    /// Vivaldi coordinates: the distance in the plane and both heights, in milliseconds one way.
    private mutating func meshPeers() throws(FileProblem) {
        guard peers.count <= options.mostPeers || graph.nodes.count == peers.count else { return }
        let chosen = peers.count <= options.mostPeers ? peers : Array(peers.prefix(options.mostPeers))
        if chosen.count < peers.count {
            for peer in peers.dropFirst(options.mostPeers) { graph.nodes[peer.node].isPeer = false }
        }
        for a in chosen {
            for b in chosen where a.node != b.node {
                let (x, y) = (a.coordinates[0] - b.coordinates[0], a.coordinates[1] - b.coordinates[1])
                let heights =
                    (a.coordinates.count > 2 ? a.coordinates[2] : 0) + (b.coordinates.count > 2 ? b.coordinates[2] : 0)
                graph.routes[Topology.Pair(a.node, b.node)] = RoutedGraph.Cable(
                    to: b.node, seconds: max(0, (x * x + y * y).squareRoot() + heights) / 1000)
            }
        }
    }
}
