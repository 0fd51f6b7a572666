/// The switches of a cluster that is more than a star, as SimGrid lays and walks them. All cables are alike.
enum SimGridFabric: Equatable {
    /// Sizes by dimension; ways go through one dimension after the other.
    case torus([Int])
    /// By level from the hosts up: children and parents of a switch, and cables between two.
    case fatTree(children: [Int], parents: [Int], cables: [Int])
    /// Groups of chassis of blades of nodes, with so many cables side by side between groups, chassis and blades.
    case dragonfly(groups: Int, chassis: Int, blades: Int, nodes: Int, between: [Int])

    /// How many hosts it holds.
    var count: Int {
        switch self {
        case .torus(let sizes): sizes.reduce(1, SimGridFabric.product)
        case .fatTree(let children, _, _): children.reduce(1, SimGridFabric.product)
        case .dragonfly(let groups, let chassis, let blades, let nodes, _):
            [groups, chassis, blades, nodes].reduce(1, SimGridFabric.product)
        }
    }
    /// Saturates: nothing of more than a million hosts is read.
    private static func product(_ a: Int, _ b: Int) -> Int { a > 1 << 20 || b > 1 << 20 ? 1 << 40 : a * b }

    /// Cables on the way from one host to another, by their ranks: how many are side by side on each.
    func cables(from: Int, to: Int) -> [Int] {
        switch self {
        case .torus(let sizes): [Int](repeating: 1, count: SimGridFabric.torusHops(sizes, from, to))
        case .fatTree(let children, _, _): [Int](repeating: 1, count: 2 * SimGridFabric.level(children, from, to))
        case .dragonfly(let groups, let chassis, let blades, let nodes, let between):
            SimGridFabric.dragonflyCables((groups, chassis, blades, nodes), between, from, to)
        }
    }

    /// The shorter way around in each dimension; of equal ones the one that SimGrid takes is as long.
    private static func torusHops(_ sizes: [Int], _ from: Int, _ to: Int) -> Int {
        var (hops, scale) = (0, 1)
        for size in sizes {
            let (a, b) = ((from / scale) % size, (to / scale) % size)
            let forth = (b - a + size) % size
            hops += goesForth(a, b, size) ? forth : (size - forth) % size
            scale *= size
        }
        return hops
    }
    /// Without wrapping where that is no more than half the ring, or by wrapping from its second half.
    private static func goesForth(_ a: Int, _ b: Int, _ size: Int) -> Bool {
        (b > a && b <= a + size / 2) || (a > size / 2 && (a + size / 2) % size >= b)
    }

    /// The level of the first switch that both are below. Switches below one that has them all are as good as each other.
    private static func level(_ children: [Int], _ from: Int, _ to: Int) -> Int {
        if from == to { return 0 }
        var (level, a, b) = (0, from, to)
        for count in children {
            (a, b) = (a / count, b / count)
            level += 1
            if a == b { break }
        }
        return level
    }

    /// From a node to its router, over a router for the other group and the first chassis to the only cable between the groups, and
    /// then by blade and by chassis.
    private static func dragonflyCables(
        _ size: (groups: Int, chassis: Int, blades: Int, nodes: Int), _ between: [Int], _ from: Int, _ to: Int
    ) -> [Int] {
        func place(_ rank: Int) -> (group: Int, chassis: Int, blade: Int) {
            let router = rank / size.nodes
            return (router / (size.blades * size.chassis), router / size.blades % size.chassis, router % size.blades)
        }
        let (start, end) = (place(from), place(to))
        var cables = [1]
        if start != end {
            var (chassis, blade) = (start.chassis, start.blade)
            if start.group != end.group {
                if blade != end.group { cables.append(between[2]) }
                if chassis != 0 { cables.append(between[1]) }
                cables.append(between[0])
                (chassis, blade) = (0, start.group)
            }
            if blade != end.blade {
                cables.append(between[2])
                // As SimGrid has it, one is in the first chassis then, whichever one came from.
                chassis = 0
            }
            if chassis != end.chassis { cables.append(between[1]) }
        }
        return cables + [1]
    }
}
