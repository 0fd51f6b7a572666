/// Ways over a platform, as SimGrid finds them: the rule of the innermost zone that holds both ends, and from its members' doors
/// down to the ends.
struct SimGridRouting {
    /// What lies on a way.
    struct Leg {
        var seconds = 0.0
        var rate = Double.infinity
        var doors: (from: Int?, to: Int?) = (nil, nil)

        mutating func add(_ link: SimGridPlatform.Link, times: Double = 1) {
            seconds += link.seconds
            rate = min(rate, link.rate * times)
        }
        mutating func join(_ other: Leg) {
            seconds += other.seconds
            rate = min(rate, other.rate)
        }
    }
    private let platform: SimGridPlatform
    /// By zone and member: the edge before each member on the way from there, with its first and last edge's doors.
    private var trees: [Topology.Pair: [Int: Int]] = [:]
    /// By zone: edges out of each member, in the order of the file.
    private var edges: [Int: [Int: [Int]]] = [:]

    /// Legs walked so far: a hostile nest of zones could make each way split at each door.
    private var legs = 0
    private static let mostLegs = 20_000_000

    init(_ platform: SimGridPlatform) { self.platform = platform }

    /// nil where the platform has none.
    mutating func way(from: Int, to: Int) -> Leg? { way(from, to, depth: 0) }

    private mutating func way(_ from: Int, _ to: Int, depth: Int) -> Leg? {
        // A bypass's door may lie behind the bypass again.
        if from == to { return Leg() }
        legs += 1
        guard depth < SimGridPlatform.deepest, legs < SimGridRouting.mostLegs else { return nil }
        let (a, b) = (platform.ancestors(from), platform.ancestors(to))
        var common = -1
        while common + 1 < min(a.count, b.count), a[common + 1] == b[common + 1] { common += 1 }
        guard common >= 0 else { return nil }
        let zone = a[common]
        if let found = bypass(from, to, a, b, common, depth) { return found }
        let ends = (
            from: common + 1 < a.count ? platform.zones[a[common + 1]].point : from,
            to: common + 1 < b.count ? platform.zones[b[common + 1]].point : to
        )
        guard var leg = local(zone, ends.from, ends.to) else { return nil }
        if ends.from != from {
            guard let door = leg.doors.from ?? door(of: ends.from), let inner = way(from, door, depth: depth + 1) else {
                return nil
            }
            leg.join(inner)
        }
        if ends.to != to {
            guard let door = leg.doors.to ?? door(of: ends.to), let inner = way(door, to, depth: depth + 1) else {
                return nil
            }
            leg.join(inner)
        }
        leg.doors = (nil, nil)
        return leg
    }
    private func door(of point: Int) -> Int? {
        guard case .zone(let zone) = platform.points[point].kind else { return nil }
        return platform.zones[zone].door
    }

    /// The common zone's bypasses: between the ends themselves, or zones that hold them, the nearest to the ends first.
    private mutating func bypass(
        _ from: Int, _ to: Int, _ a: [Int], _ b: [Int], _ common: Int, _ depth: Int
    ) -> Leg? {
        let bypasses = platform.zones[a[common]].bypasses
        if bypasses.isEmpty { return nil }
        if a.count == common + 1, b.count == common + 1 {
            return bypasses[Topology.Pair(from, to)].map { leg(over: $0.uses) }
        }
        let starts = a[(common + 1)...].reversed().map { platform.zones[$0].point }
        let goals = b[(common + 1)...].reversed().map { platform.zones[$0].point }
        func found(_ i: Int, _ j: Int) -> Topology.Pair? {
            guard i < starts.count, j < goals.count else { return nil }
            let pair = Topology.Pair(starts[i], goals[j])
            return bypasses[pair] == nil ? nil : pair
        }
        var chosen: Topology.Pair?
        search: for most in 0..<max(starts.count, goals.count) {
            for less in 0..<most {
                chosen = found(less, most) ?? found(most, less)
                if chosen != nil { break search }
            }
            chosen = found(most, most)
            if chosen != nil { break }
        }
        guard let chosen, let route = bypasses[chosen], let first = route.doors.from, let last = route.doors.to else {
            return nil
        }
        var whole = leg(over: route.uses)
        guard let before = way(from, first, depth: depth + 1), let after = way(last, to, depth: depth + 1) else {
            return nil
        }
        whole.join(before)
        whole.join(after)
        return whole
    }

    private func leg(over uses: [SimGridPlatform.Use]) -> Leg {
        var leg = Leg()
        for use in uses { leg.add(platform.links[use.link]) }
        return leg
    }
    private func leg(_ route: SimGridPlatform.Route) -> Leg {
        var leg = leg(over: route.uses)
        leg.doors = route.doors
        return leg
    }

    // MARK: within one zone

    private mutating func local(_ index: Int, _ from: Int, _ to: Int) -> Leg? {
        let zone = platform.zones[index]
        switch zone.rule {
        case .none: return nil
        case .full: return zone.routes[Topology.Pair(from, to)].map { leg($0) }
        case .shortest: return shortest(index, from, to)
        case .star: return star(zone, from, to)
        case .vivaldi: return vivaldi(zone, from, to)
        case .wifi: return wifi(zone, from, to)
        case .fabric(let fabric, let cable, let limiter):
            let (a, b) = (platform.points[from], platform.points[to])
            guard case .host = a.kind, case .host = b.kind else { return Leg() }
            var leg = Leg()
            if let limiter { leg.rate = limiter }
            for count in fabric.cables(from: a.rank, to: b.rank) { leg.add(cable, times: Double(count)) }
            return leg
        }
    }

    /// Up to the middle and down from it; what both share, such as a backbone, counts once.
    private func star(_ zone: SimGridPlatform.Zone, _ from: Int, _ to: Int) -> Leg? {
        guard let up = zone.up[from], let down = zone.down[to] else { return nil }
        var seen: Set<SimGridPlatform.Use> = []
        var leg = leg(over: (up.uses + down.uses).filter { seen.insert($0).inserted })
        leg.doors = (up.doors.from, down.doors.to)
        return leg
    }
    /// The way over the plane and both heights, beside the links where there are any.
    private func vivaldi(_ zone: SimGridPlatform.Zone, _ from: Int, _ to: Int) -> Leg? {
        let (a, b) = (platform.points[from].coordinates, platform.points[to].coordinates)
        guard a.count == 3, b.count == 3 else { return nil }
        var leg = star(zone, from, to) ?? Leg()
        let (x, y) = (a[0] - b[0], a[1] - b[1])
        leg.seconds += ((x * x + y * y).squareRoot() + abs(a[2]) + abs(b[2])) / 1000
        if leg.doors.from == nil { leg.doors.from = namedDoor(from) }
        if leg.doors.to == nil { leg.doors.to = namedDoor(to) }
        return leg
    }
    /// Of a zone called `a`, a router called `router_a`.
    private func namedDoor(_ point: Int) -> Int? {
        guard case .zone = platform.points[point].kind else { return nil }
        return platform.pointIndex["router_" + platform.points[point].name]
    }
    /// Through the air to the access point, and from it.
    private func wifi(_ zone: SimGridPlatform.Zone, _ from: Int, _ to: Int) -> Leg? {
        guard let air = zone.air else { return nil }
        var leg = Leg()
        for end in [from, to] where end != zone.accessPoint { leg.add(platform.links[air]) }
        return leg
    }

    /// Fewest links; of equal ways the one whose edges stand first.
    private mutating func shortest(_ index: Int, _ from: Int, _ to: Int) -> Leg? {
        let before = tree(index, from)
        let zone = platform.zones[index]
        var leg = Leg()
        var (at, door): (Int, Int?) = (to, nil)
        while at != from {
            guard let edge = before[at], let route = zone.routes[zone.edges[edge]] else { return nil }
            if at == to {
                leg.doors.to = route.doors.to
            } else if let door, let last = route.doors.to, door != last {
                // Through a zone on the way, from the door one comes in by to the one that one leaves by.
                guard let inside = way(last, door, depth: 1) else { return nil }
                leg.join(inside)
            }
            leg.join(self.leg(over: route.uses))
            door = route.doors.from
            at = zone.edges[edge].from
        }
        leg.doors.from = door
        return leg
    }

    /// Edges by which members are reached from one of them.
    private mutating func tree(_ index: Int, _ from: Int) -> [Int: Int] {
        let key = Topology.Pair(index, from)
        if let known = trees[key] { return known }
        let zone = platform.zones[index]
        if edges[index] == nil {
            var out: [Int: [Int]] = [:]
            for (number, pair) in zone.edges.enumerated() { out[pair.from, default: []].append(number) }
            edges[index] = out
        }
        let out = edges[index] ?? [:]
        var (costs, before): ([Int: Int], [Int: Int]) = ([from: 0], [:])
        var heap = NodeHeap()
        heap.push((0, from))
        while let (cost, at) = heap.pop() {
            if cost > Double(costs[at] ?? 0) { continue }
            for edge in out[at] ?? [] {
                let pair = zone.edges[edge]
                let next = Int(cost) + (zone.routes[pair]?.uses.count ?? 0)
                if next < costs[pair.to] ?? .max {
                    costs[pair.to] = next
                    before[pair.to] = edge
                    heap.push((Double(next), pair.to))
                }
            }
        }
        trees[key] = before
        return before
    }
}
