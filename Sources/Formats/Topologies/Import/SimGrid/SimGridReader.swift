/// Reads the XML of a SimGrid platform, version 4: zones, hosts, routers, links, routes, bypasses, clusters, cabinets, host links, peers.
/// Profiles, state files, traces, disks and actors are not read, and named.
struct SimGridReader {
    private struct Pending {
        var zone: Int
        var element: XMLReader.Element
        var links: [XMLReader.Element] = []
    }
    /// What a zone of clusters says before its end.
    struct Open {
        var zone: Int
        var hostLinks: [XMLReader.Element] = []
        var cabinets: [XMLReader.Element] = []
        var backbone: SimGridPlatform.Use?
        var accessPoint: String?
    }

    let file: String
    private var reader: XMLReader
    var built = SimGridPlatform()
    var open: [Open] = []
    private var routes: [Pending] = []
    private(set) var skipped: Set<String> = []

    init(_ bytes: [UInt8], file: String) {
        self.file = file
        reader = XMLReader(bytes, file: file)
    }

    private static let routeNames: Set<String> = [
        "route", "zoneRoute", "ASroute", "bypassRoute", "bypassZoneRoute", "bypassASroute",
    ]

    mutating func platform() throws(FileProblem) -> SimGridPlatform {
        built.zones.append(SimGridPlatform.Zone(name: "", rule: .none, parent: nil, point: -1))
        open.append(Open(zone: 0))
        var inRoute = false
        while let event = try reader.next() {
            switch event {
            case .start(let element):
                if SimGridReader.routeNames.contains(element.name) {
                    routes.append(Pending(zone: current, element: element))
                    inRoute = true
                    guard routes.count <= AttributedGraph.mostEdges else {
                        throw reader.problem("more than \(AttributedGraph.mostEdges) routes", "fewer")
                    }
                } else if element.name == "link_ctn", inRoute {
                    routes[routes.count - 1].links.append(element)
                    guard routes[routes.count - 1].links.count <= 1000 else {
                        throw reader.problem("a route of more than 1000 links", "fewer")
                    }
                } else {
                    try read(element)
                }
            case .end(let name):
                if SimGridReader.routeNames.contains(name) { inRoute = false }
                if name == "zone" || name == "AS" { try closeZone() }
            case .text: break
            }
        }
        for route in routes { try lay(route) }
        return built
    }
    var current: Int { open[open.count - 1].zone }

    func needed(_ element: XMLReader.Element, _ key: String) throws(FileProblem) -> String {
        guard let value = element[key], !value.isEmpty else {
            throw FileProblem(
                .missingKey, file: file, line: element.line, key: "\(element.name).\(key)", found: "nothing",
                allowed: "this attribute is needed")
        }
        return value
    }
    func problem(
        _ kind: FileProblem.Kind, _ element: XMLReader.Element, _ key: String, _ allowed: String
    ) -> FileProblem {
        FileProblem(
            kind, file: file, line: element.line, key: "\(element.name).\(key)",
            found: element[key].map { "“\($0.prefix(60))”" } ?? "nothing", allowed: allowed)
    }

    // MARK: what is there

    private mutating func read(_ element: XMLReader.Element) throws(FileProblem) {
        switch element.name {
        case "zone", "AS": try openZone(element)
        case "host":
            let point = try add(try needed(element, "id"), element, .host(flops: try flops(element)))
            built.points[point].coordinates = try coordinates(element)
        case "router":
            let point = try add(try needed(element, "id"), element, .router)
            built.points[point].coordinates = try coordinates(element)
            // A router is the middle itself.
            built.zones[current].up[point] = SimGridPlatform.Route(uses: [])
            built.zones[current].down[point] = SimGridPlatform.Route(uses: [])
        case "link", "backbone": try readLink(element)
        case "cluster": try readCluster(element)
        case "cabinet": open[open.count - 1].cabinets.append(element)
        case "host_link": open[open.count - 1].hostLinks.append(element)
        case "peer": try readPeer(element)
        case "prop":
            if element["id"] == "access_point" { open[open.count - 1].accessPoint = element["value"] }
        case "include":
            throw problem(.unknownKey, element, "file", "one file: SimGrid itself no longer includes others")
        case "platform", "config", "argument", "actor", "process", "random", "link_ctn": break
        default: skipped.insert("<\(element.name.prefix(32))>")
        }
        for key in ["state_file", "availability_file", "speed_file", "bandwidth_file", "latency_file"]
        where element[key]?.isEmpty == false {
            skipped.insert(key)
        }
    }

    /// Three numbers in milliseconds; none where there are none.
    private func coordinates(_ element: XMLReader.Element) throws(FileProblem) -> [Double] {
        guard let text = element["coordinates"], !text.isEmpty else { return [] }
        let numbers = text.split(separator: " ").map { decimalNumber($0) ?? .nan }
        guard numbers.count == 2 || numbers.count == 3, numbers.allSatisfy({ abs($0) <= 1e6 }) else {
            throw problem(.wrongType, element, "coordinates", "two coordinates and a height, in milliseconds")
        }
        return numbers.count == 2 ? numbers + [0] : numbers
    }

    mutating func add(
        _ id: String, _ element: XMLReader.Element, _ kind: SimGridPlatform.Kind
    ) throws(FileProblem) -> Int {
        guard built.pointIndex[id] == nil else { throw problem(.duplicateName, element, "id", "each name once") }
        guard built.points.count < SimGridPlatform.most else {
            throw problem(.outOfRange, element, "id", "at most \(SimGridPlatform.most) hosts, routers and zones")
        }
        let point = built.append(SimGridPlatform.Point(name: id, kind: kind, zone: current, line: element.line))
        built.pointIndex[id] = point
        return point
    }

    private mutating func readLink(_ element: XMLReader.Element) throws(FileProblem) {
        let id = try needed(element, "id")
        let policy = (element["sharing_policy"] ?? "SHARED").uppercased()
        let link = SimGridPlatform.Link(
            seconds: try seconds(element, "latency"),
            rate: try rate(element, "bandwidth", try needed(element, "bandwidth")),
            isDuplex: ["SPLITDUPLEX", "FULLDUPLEX"].contains(policy))
        let index = try add(link, id, element)
        if element.name == "backbone" { open[open.count - 1].backbone = SimGridPlatform.Use(link: index) }
        if policy == "WIFI", built.zones[current].air == nil { built.zones[current].air = index }
    }
    mutating func add(_ link: SimGridPlatform.Link, _ id: String, _ element: XMLReader.Element) throws(FileProblem)
        -> Int
    {
        guard built.linkIndex.updateValue(built.links.count, forKey: id) == nil else {
            throw problem(.duplicateName, element, "id", "each link's id once")
        }
        guard built.links.count < AttributedGraph.mostEdges else {
            throw problem(.outOfRange, element, "id", "fewer links")
        }
        built.links.append(link)
        return built.links.count - 1
    }

    private mutating func readPeer(_ element: XMLReader.Element) throws(FileProblem) {
        let id = try needed(element, "id")
        let point = try add(id, element, .host(flops: try flops(element)))
        _ = try needed(element, "coordinates")
        built.points[point].coordinates = try coordinates(element)
        for (key, ending, isUp) in [("bw_out", "UP", true), ("bw_in", "DOWN", false)] {
            let link = SimGridPlatform.Link(seconds: 0, rate: try rate(element, key, try needed(element, key)))
            let route = SimGridPlatform.Route(
                uses: [SimGridPlatform.Use(link: try add(link, "link_\(id)_\(ending)", element))])
            if isUp { built.zones[current].up[point] = route } else { built.zones[current].down[point] = route }
        }
    }

    // MARK: zones

    private mutating func openZone(_ element: XMLReader.Element) throws(FileProblem) {
        let rules: [String: SimGridPlatform.Rule] = [
            "full": .full, "floyd": .shortest, "dijkstra": .shortest, "dijkstracache": .shortest, "cluster": .star,
            "vivaldi": .vivaldi, "none": .none, "wifi": .wifi,
        ]
        guard let rule = rules[(element["routing"] ?? "Full").lowercased()] else {
            throw problem(
                .outOfRange, element, "routing", "Full, Floyd, Dijkstra, DijkstraCache, Cluster, Vivaldi, Wifi or None")
        }
        try enter(try needed(element, "id"), element, rule)
    }
    /// A zone within the current one, which it becomes.
    mutating func enter(_ id: String, _ element: XMLReader.Element, _ rule: SimGridPlatform.Rule) throws(FileProblem) {
        guard built.zoneIndex[id] == nil else { throw problem(.duplicateName, element, "id", "each zone's id once") }
        guard open.count < SimGridPlatform.deepest, built.points.count < SimGridPlatform.most else {
            throw problem(
                .outOfRange, element, "id", "zones nested at most \(SimGridPlatform.deepest) deep, and fewer of them")
        }
        let zone = built.zones.count
        built.zoneIndex[id] = zone
        let point = built.append(
            SimGridPlatform.Point(name: id, kind: .zone(zone), zone: current, line: element.line))
        built.zones.append(SimGridPlatform.Zone(name: id, rule: rule, parent: current, point: point))
        open.append(Open(zone: zone))
    }
    mutating func closeZone() throws(FileProblem) {
        let closed = open[open.count - 1]
        for cabinet in closed.cabinets { try readCabinet(cabinet, closed.backbone) }
        for hostLink in closed.hostLinks { try readHostLink(hostLink, closed.backbone) }
        if let name = closed.accessPoint { built.zones[closed.zone].accessPoint = built.pointIndex[name] }
        open.removeLast()
    }

    // MARK: routes

    private mutating func lay(_ pending: Pending) throws(FileProblem) {
        let element = pending.element
        let isZone = !["route", "bypassRoute"].contains(element.name)
        func end(_ key: String) throws(FileProblem) -> Int {
            let name = try needed(element, key)
            let found = isZone ? built.zoneIndex[name].map { built.zones[$0].point } : built.pointIndex[name]
            guard let point = found else {
                throw problem(
                    .unknownName, element, key, "the id of a \(isZone ? "zone" : "host or router") in this file")
            }
            return point
        }
        func door(_ key: String, of zone: Int) throws(FileProblem) -> Int? {
            guard isZone, let name = element[key], !name.isEmpty else { return nil }
            guard case .zone(let inside) = built.points[zone].kind, let point = built.pointIndex[name],
                built.ancestors(point).contains(inside)
            else { throw problem(.unknownName, element, key, "the id of a host or router in that zone") }
            return point
        }
        let (from, to) = (try end("src"), try end("dst"))
        var route = SimGridPlatform.Route(uses: [])
        route.doors = (try door("gw_src", of: from), try door("gw_dst", of: to))
        for link in pending.links {
            guard let use = built.use(try needed(link, "id"), direction: link["direction"]?.uppercased()) else {
                throw problem(.unknownName, link, "id", "the id of a link in this file")
            }
            route.uses.append(use)
        }
        guard from != to else { return }
        if element.name.hasPrefix("bypass") {
            built.zones[pending.zone].bypasses[Topology.Pair(from, to)] = route
            return
        }
        guard built.points[from].zone == pending.zone, built.points[to].zone == pending.zone else {
            let key = built.points[from].zone == pending.zone ? "dst" : "src"
            throw problem(.unknownName, element, key, "a member of the zone that the route stands in")
        }
        try lay(route, from, to, pending)
        if ["no", "false"].contains((element["symmetrical"] ?? "yes").lowercased()) { return }
        route.doors = (route.doors.to, route.doors.from)
        route.uses = route.uses.reversed().map { use in
            SimGridPlatform.Use(link: use.link, isBack: built.links[use.link].isDuplex ? !use.isBack : false)
        }
        try lay(route, to, from, pending)
    }
    private mutating func lay(
        _ route: SimGridPlatform.Route, _ from: Int, _ to: Int, _ pending: Pending
    ) throws(FileProblem) {
        let pair = Topology.Pair(from, to)
        guard built.zones[pending.zone].routes.updateValue(route, forKey: pair) == nil else {
            throw problem(
                .duplicateName, pending.element, "src",
                "each route once; routes go both ways unless they say symmetrical=\"NO\"")
        }
        built.zones[pending.zone].edges.append(pair)
    }
}
