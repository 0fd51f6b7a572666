internal import Links
public import Primitives

/// The five network scenarios of DT-FM (Yuan et al. 2022, “Decentralized Training of Foundation Models in Heterogeneous
/// Environments”, §4.1), from the figures that the paper gives for its places: 64 devices each.
///
/// Delays are one way, in milliseconds, and bandwidths of single pairs, in Gbit/s, as the paper's scheduler reads them. Devices are
/// named `d0`…`d63`, in the order of their places.
public struct PublishedScenario: Hashable, Sendable {
    /// Devices that see each other over the same link.
    public struct Place: Hashable, Sendable {
        public var name: String
        public var devices: Int
    }
    /// Between two devices, both directions alike.
    public struct Path: Hashable, Sendable {
        public var latencyMilliseconds: Double
        public var bandwidthGigabits: Double
    }
    /// "datacenter", "spot", "multi_dc", "regional", "worldwide".
    public var name: String
    /// What it is in the world: one sentence.
    public var about: String
    public var places: [Place]
    /// [place, place], symmetric; the diagonal is what devices of one place see of each other.
    public var paths: [[Path]]

    /// Index of each device's place.
    public var placeOfDevice: [Int] {
        places.indices.flatMap { [Int](repeating: $0, count: places[$0].devices) }
    }
    public var deviceNames: [String] { placeOfDevice.indices.map { "d\($0)" } }
    /// [from, to], in milliseconds; zero from a device to itself.
    public var latencyMilliseconds: [[Double]] { matrix(\.latencyMilliseconds, diagonal: 0) }
    /// [from, to], in Gbit/s; from a device to itself what its place has, which nobody reads.
    public var bandwidthGigabits: [[Double]] { matrix(\.bandwidthGigabits, diagonal: nil) }

    private func matrix(_ value: KeyPath<Path, Double>, diagonal: Double?) -> [[Double]] {
        let place = placeOfDevice
        return place.indices.map { i in
            place.indices.map { j in
                if i == j, let diagonal { return diagonal }
                return paths[place[i]][place[j]][keyPath: value]
            }
        }
    }
}

extension PublishedScenario {
    /// All five, in the paper's order.
    public static let all = [case1, case2, case3, case4, case5]

    /// 1, data centre: eight instances of eight devices; 100 Gbit/s inside, 25 Gbit/s a shared card outside.
    public static let case1 = uniform(
        name: "datacenter", about: "Eight instances of eight GPUs in one data centre, on demand.",
        places: (0..<8).map { Place(name: "instance-\($0)", devices: 8) },
        inside: Path(latencyMilliseconds: 0, bandwidthGigabits: 100),
        outside: Path(latencyMilliseconds: 0, bandwidthGigabits: 3.125))

    /// 2, spot: eight instances of four devices and 32 of one, 10 Gbit/s a card and 1.25 a device.
    public static let case2 = uniform(
        name: "spot", about: "Eight spot instances of four GPUs and 32 of one, in one data centre.",
        places: (0..<8).map { Place(name: "instance-\($0)", devices: 4) }
            + (0..<32).map { Place(name: "single-\($0)", devices: 1) },
        inside: Path(latencyMilliseconds: 0, bandwidthGigabits: 100),
        outside: Path(latencyMilliseconds: 0, bandwidthGigabits: 1.25))

    /// 3, two data centres: Ohio and Virginia.
    public static let case3 = uniform(
        name: "multi_dc", about: "Two data centres, Ohio and Virginia, 32 GPUs each.",
        places: ["Ohio", "Virginia"].map { Place(name: $0, devices: 32) },
        inside: Path(latencyMilliseconds: 1, bandwidthGigabits: 5),
        outside: Path(latencyMilliseconds: 11, bandwidthGigabits: 1.12))

    /// 4, regional: four places in the United States.
    public static let case4 = measured(
        name: "regional", about: "Four regions of one country, 16 GPUs each.",
        places: ["Virginia", "Oregon", "California", "Ohio"], devices: 16,
        above: [
            [(67, 1.15), (59, 1.05), (11, 1.12)],
            [(12, 1.25), (49, 1.1)],
            [(52, 1.02)],
        ])

    /// 5, worldwide: eight cities.
    public static let case5 = measured(
        name: "worldwide", about: "Eight cities around the world, eight GPUs each.",
        places: ["Oregon", "Virginia", "Ohio", "Tokyo", "Seoul", "London", "Frankfurt", "Ireland"], devices: 8,
        above: [
            [(67, 0.79), (49, 1.1), (96, 0.523), (124, 0.46), (136, 0.42), (143, 0.404), (124, 0.482)],
            [(11, 1.12), (143, 0.524), (172, 0.5), (76, 1.16), (90, 1.02), (67, 1.05)],
            [(130, 0.694), (159, 0.529), (86, 1.05), (99, 0.799), (77, 1.14)],
            [(34, 1.1), (210, 0.366), (223, 0.36), (199, 0.465)],
            [(238, 0.342), (235, 0.358), (228, 0.335)],
            [(14, 1.14), (12, 1.09)],
            [(24, 1.08)],
        ])

    private static func uniform(name: String, about: String, places: [Place], inside: Path, outside: Path) -> Self {
        PublishedScenario(
            name: name, about: about, places: places,
            paths: places.indices.map { a in places.indices.map { $0 == a ? inside : outside } })
    }
    /// 5 ms and 2 Gbit/s inside each place, as in the paper; `above` is the table above its diagonal: ms, Gbit/s.
    private static func measured(
        name: String, about: String, places: [String], devices: Int, above: [[(Double, Double)]]
    ) -> Self {
        let paths = places.indices.map { a in
            places.indices.map { b in
                if a == b { return Path(latencyMilliseconds: 5, bandwidthGigabits: 2) }
                let (latency, bandwidth) = above[min(a, b)][max(a, b) - min(a, b) - 1]
                return Path(latencyMilliseconds: latency, bandwidthGigabits: bandwidth)
            }
        }
        return PublishedScenario(
            name: name, about: about, places: places.map { Place(name: $0, devices: devices) }, paths: paths)
    }
}

extension PublishedScenario {
    /// The scenario as a topology: places as regions, pair rates as caps, access lines that never bind.
    ///
    /// - Parameters: `flops` in FLOP/s and `memory` of each device, which the scenario does not give (the paper's are V100s).
    public func topology(flops: Double = 15e12, memory: ByteCount = .mebibytes(16_384)) -> Topology {
        func link(_ path: Path) -> LinkProperties {
            var link = LinkProperties(
                latency: .nanoseconds(Int64((path.latencyMilliseconds * 1e6).rounded())))
            link.rate = .megabits(path.bandwidthGigabits * 1000)
            return link
        }
        var topology = Topology(name: "dtfm-\(name.replacing("_", with: "-"))", about: about, hosts: [])
        for (index, place) in places.enumerated() {
            topology.regions.append(Region(name: place.name, inside: link(paths[index][index])))
        }
        for a in places.indices {
            for b in places.indices where b != a { topology.regionLinks[Topology.Pair(a, b)] = link(paths[a][b]) }
        }
        for (device, place) in placeOfDevice.enumerated() {
            topology.hosts.append(
                Host(
                    name: "d\(device)", device: "V100", flops: flops, memory: memory, up: .megabits(100_000),
                    down: .megabits(100_000), region: place))
        }
        return topology
    }
}
