/// A platform as SimGrid builds it from its description: zones within zones, each with a rule of its own for ways between its
/// members, which are hosts, routers and other zones (Bobelin et al. 2012, "Scalable multi-purpose network representation for large
/// scale distributed system simulation").
struct SimGridPlatform {
    struct Link: Equatable {
        var seconds: Double
        /// Bit/s.
        var rate: Double
        /// Whether each direction is a link of its own.
        var isDuplex = false
    }
    /// A link in a direction; of a link that is not duplex both directions are the same.
    struct Use: Hashable {
        var link: Int
        var isBack = false
    }
    /// What one travels over, and through which doors of zones.
    struct Route {
        var uses: [Use]
        /// Points inside of the two zones; nil between hosts and routers, or where the zone's own door is meant.
        var doors: (from: Int?, to: Int?) = (nil, nil)
    }
    enum Kind: Equatable {
        case host(flops: Double)
        case router
        case zone(Int)
    }
    /// A host, a router, or a zone seen from outside.
    struct Point {
        var name: String
        var kind: Kind
        /// The zone it is in; nil for the outermost.
        var zone: Int?
        var line: Int
        /// Vivaldi's: a plane and a height, in milliseconds.
        var coordinates: [Double] = []
        /// The place among its zone's members, in the order of the file.
        var rank = 0
    }
    enum Rule {
        case full
        /// Fewest links.
        case shortest
        case star
        case vivaldi
        case none
        case wifi
        case fabric(SimGridFabric, cable: Link, limiter: Double?)
    }
    struct Zone {
        var name: String
        var rule: Rule
        var parent: Int?
        /// What it is in its parent.
        var point: Int
        var members: [Int] = []
        /// Of Full: each pair's. Of the others: edges, in the order of the file.
        var routes: [Topology.Pair: Route] = [:]
        var edges: [Topology.Pair] = []
        var bypasses: [Topology.Pair: Route] = [:]
        /// Of a star: from a member to the middle, and from the middle to it.
        var up: [Int: Route] = [:]
        var down: [Int: Route] = [:]
        /// The door of a zone that names none in its routes.
        var door: Int?
        /// Of Wi-Fi: the link that all share, and the member that is the access point.
        var air: Int?
        var accessPoint: Int?
    }

    var links: [Link] = []
    var linkIndex: [String: Int] = [:]
    var points: [Point] = []
    /// Hosts and routers; zones apart, which may bear the same names.
    var pointIndex: [String: Int] = [:]
    var zoneIndex: [String: Int] = [:]
    var zones: [Zone] = []

    /// Everything is bounded: what a cluster unfolds to as well.
    static let most = AttributedGraph.mostNodes
    static let deepest = 32

    mutating func append(_ point: Point) -> Int {
        var point = point
        if let zone = point.zone {
            point.rank = zones[zone].members.count
            zones[zone].members.append(points.count)
        }
        points.append(point)
        return points.count - 1
    }

    /// Zones from the outermost to the one that holds the point.
    func ancestors(_ point: Int) -> [Int] {
        var path: [Int] = []
        var zone = points[point].zone
        while let current = zone {
            path.append(current)
            zone = zones[current].parent
        }
        return path.reversed()
    }

    /// A link by its name, or half of a duplex one: `name_UP`, `name_DOWN`.
    func use(_ name: String, direction: String?) -> Use? {
        if let link = linkIndex[name] { return Use(link: link, isBack: links[link].isDuplex && direction == "DOWN") }
        for (ending, isBack) in [("_UP", false), ("_DOWN", true)] where name.hasSuffix(ending) {
            if let link = linkIndex[String(name.dropLast(ending.count))], links[link].isDuplex {
                return Use(link: link, isBack: isBack)
            }
        }
        return nil
    }
}
