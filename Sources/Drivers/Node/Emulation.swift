import Primitives
import SecureTransport
public import Topologies

/// One machine pretending to be many: this process is `host` of a topology, its links shaped and its compute paced to the
/// file's figures. The code paths are those of a real run, which has no emulation.
public struct Emulation: Sendable {
    public let topology: Topology
    public let host: Int
    /// All time is multiplied by this where the machine is too slow for the paced speeds.
    public let stretch: Double
    public let seed: UInt64

    public init(topology: Topology, host: String, stretch: Double, seed: UInt64) throws(NodeError) {
        let topology = topology.withServices()
        guard let index = topology.index(of: host) else {
            let names = topology.hosts.map(\.name).joined(separator: ", ")
            throw .badInput("topology \(topology.name) has no host \(host); its hosts are \(names)")
        }
        guard stretch >= 1, stretch.isFinite else { throw .badInput("--stretch \(stretch): at least 1") }
        self.topology = topology
        self.host = index
        self.stretch = stretch
        self.seed = seed
    }

    public var entry: Host { topology.hosts[host] }

    /// Where each host of an emulated topology lives on this machine: an address of its own on loopback.
    public static func address(of host: Int) -> [UInt8] { [127, 77, UInt8(host / 250 & 255), UInt8(host % 250 + 1)] }

    var shaping: ShapingPlan {
        var plan = ShapingPlan(up: entry.up, down: entry.down, stretch: stretch, seed: seed &+ UInt64(host))
        for other in topology.hosts.indices where other != host {
            plan.links[Self.address(of: other)] = topology.link(from: host, to: other)
        }
        return plan
    }
}
