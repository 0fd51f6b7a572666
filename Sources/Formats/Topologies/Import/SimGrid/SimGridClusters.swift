/// Clusters, cabinets and host links: what unfolds to many hosts, or joins them to the middle of a star.
extension SimGridReader {
    mutating func readCluster(_ element: XMLReader.Element) throws(FileProblem) {
        let id = try needed(element, "id")
        let (prefix, suffix) = (element["prefix"] ?? "", element["suffix"] ?? "")
        let numbers = try radical(element)
        let speed = try flops(element)
        var cable = SimGridPlatform.Link(
            seconds: try seconds(element, "lat"), rate: try rate(element, "bw", try needed(element, "bw")))
        cable.isDuplex = ["SPLITDUPLEX", "FULLDUPLEX"].contains(
            (element["sharing_policy"] ?? "SPLITDUPLEX").uppercased())
        let limiter = try element["limiter_link"].flatMap { $0.isEmpty ? nil : $0 }.map { (text) throws(FileProblem) in
            try rate(element, "limiter_link", text)
        }
        let fabric = try fabric(element, hosts: numbers.count)
        try enter(id, element, fabric.map { .fabric($0, cable: cable, limiter: limiter) } ?? .star)
        let zone = current
        var backbone: SimGridPlatform.Use?
        if fabric == nil, let text = element["bb_bw"], !text.isEmpty {
            let link = SimGridPlatform.Link(
                seconds: try seconds(element, "bb_lat"), rate: try rate(element, "bb_bw", text))
            backbone = SimGridPlatform.Use(link: try add(link, "\(id)_backbone", element))
        }
        for number in numbers {
            let host = try add("\(prefix)\(number)\(suffix)", element, .host(flops: speed))
            guard fabric == nil else { continue }
            var uses: [SimGridPlatform.Use] = []
            if let limiter {
                let link = SimGridPlatform.Link(seconds: 0, rate: limiter)
                uses.append(SimGridPlatform.Use(link: try add(link, "\(id)_link_\(number)_limiter", element)))
            }
            uses.append(SimGridPlatform.Use(link: try add(cable, "\(id)_link_\(number)", element)))
            if let backbone { uses.append(backbone) }
            built.zones[zone].up[host] = SimGridPlatform.Route(uses: uses)
            built.zones[zone].down[host] = SimGridPlatform.Route(
                uses: uses.reversed().map {
                    SimGridPlatform.Use(link: $0.link, isBack: built.links[$0.link].isDuplex)
                })
        }
        let given = element["router_id"] ?? ""
        let door = try add(given.isEmpty ? "\(prefix)\(id)_router\(suffix)" : given, element, .router)
        built.zones[zone].up[door] = SimGridPlatform.Route(uses: [])
        built.zones[zone].down[door] = SimGridPlatform.Route(uses: [])
        built.zones[zone].door = door
        try closeZone()
    }

    /// "0-99,105": numbers and ranges, in that order.
    private func radical(_ element: XMLReader.Element) throws(FileProblem) -> [Int] {
        var numbers: [Int] = []
        for part in try needed(element, "radical").split(separator: ",") {
            let ends = part.split(separator: "-").map { Int($0.filter { $0 != " " }) ?? -1 }
            guard ends.count == 1 || ends.count == 2, let first = ends.first, let last = ends.last, first >= 0,
                last >= first, last - first < SimGridPlatform.most, numbers.count < SimGridPlatform.most
            else { throw problem(.wrongType, element, "radical", "numbers and ranges, such as 0-99,105") }
            numbers += Array(first...last)
        }
        guard !numbers.isEmpty else {
            throw problem(.wrongType, element, "radical", "numbers and ranges, such as 0-99,105")
        }
        return numbers
    }

    /// nil for a star.
    private func fabric(_ element: XMLReader.Element, hosts: Int) throws(FileProblem) -> SimGridFabric? {
        let kind = (element["topology"] ?? "FLAT").uppercased()
        if kind == "FLAT" { return nil }
        let text = try needed(element, "topo_parameters")
        let parts = text.split(separator: ";").map { part in
            part.split(separator: ",", omittingEmptySubsequences: false).map { Int($0.filter { $0 != " " }) ?? -1 }
        }
        let isSane =
            !parts.isEmpty
            && parts.allSatisfy { part in part.count <= 16 && part.allSatisfy { (1...1_000_000).contains($0) } }
        var fabric: SimGridFabric?
        switch (kind, parts.count) {
        case ("TORUS", 1) where isSane: fabric = .torus(parts[0])
        case ("FAT_TREE", 4)
        where isSane && parts[0].count == 1 && parts.dropFirst().allSatisfy { $0.count == parts[0][0] }:
            fabric = .fatTree(children: parts[1], parents: parts[2], cables: parts[3])
        case ("DRAGONFLY", 4) where isSane && parts.map(\.count) == [2, 2, 2, 1]:
            // A group's router towards group n is its n-th blade.
            if parts[0][0] <= parts[2][0] {
                fabric = .dragonfly(
                    groups: parts[0][0], chassis: parts[1][0], blades: parts[2][0], nodes: parts[3][0],
                    between: [parts[0][1], parts[1][1], parts[2][1]])
            }
        case ("TORUS", _), ("FAT_TREE", _), ("DRAGONFLY", _): break
        default: throw problem(.outOfRange, element, "topology", "FLAT, TORUS, FAT_TREE or DRAGONFLY")
        }
        guard let fabric else {
            throw problem(
                .wrongType, element, "topo_parameters",
                "TORUS 3,2,2; FAT_TREE 2;4,4;1,2;1,2; DRAGONFLY 3,4;3,2;3,1;2, with no more groups than blades")
        }
        guard fabric.count == hosts else {
            throw problem(
                .outOfRange, element, "radical", "as many hosts as the topology holds, \(fabric.count), not \(hosts)")
        }
        return fabric
    }

    mutating func readCabinet(_ element: XMLReader.Element, _ backbone: SimGridPlatform.Use?) throws(FileProblem) {
        let (prefix, suffix) = (element["prefix"] ?? "", element["suffix"] ?? "")
        let speed = try flops(element)
        let cable = SimGridPlatform.Link(
            seconds: try seconds(element, "lat"), rate: try rate(element, "bw", try needed(element, "bw")))
        for number in try radical(element) {
            let name = "\(prefix)\(number)\(suffix)"
            let host = try add(name, element, .host(flops: speed))
            let up = SimGridPlatform.Use(link: try add(cable, "link_\(name)_UP", element))
            let down = SimGridPlatform.Use(link: try add(cable, "link_\(name)_DOWN", element))
            connect(host, up, down, backbone)
        }
    }
    mutating func readHostLink(_ element: XMLReader.Element, _ backbone: SimGridPlatform.Use?) throws(FileProblem) {
        guard let host = built.pointIndex[try needed(element, "id")], built.points[host].zone == current else {
            throw problem(.unknownName, element, "id", "the id of a host in this zone")
        }
        func use(_ key: String) throws(FileProblem) -> SimGridPlatform.Use {
            guard let use = built.use(try needed(element, key), direction: key.uppercased()) else {
                throw problem(.unknownName, element, key, "the id of a link above")
            }
            return use
        }
        connect(host, try use("up"), try use("down"), backbone)
    }
    private mutating func connect(
        _ host: Int, _ up: SimGridPlatform.Use, _ down: SimGridPlatform.Use, _ backbone: SimGridPlatform.Use?
    ) {
        built.zones[current].up[host] = SimGridPlatform.Route(uses: [up] + (backbone.map { [$0] } ?? []))
        built.zones[current].down[host] = SimGridPlatform.Route(uses: (backbone.map { [$0] } ?? []) + [down])
    }
}
