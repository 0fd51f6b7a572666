internal import Links
internal import Primitives

/// Reads a placement scenario of DT-FM (Yuan et al. 2022): `delay_ms` and `bandwidth_Gbps`, square matrices over the devices
/// d0, d1, …, with the grid and the sizes of messages under `constants`.
enum DTFMImport {
    private static let mostDevices = 1024

    static func imported(_ bytes: [UInt8], file: String, options: ImportOptions, name: String) throws(FileProblem)
        -> ImportedTopology
    {
        // JSON is YAML.
        let top = try YAMLNode(parsing: bytes, file: file).entries()
        func needed(_ key: String) throws(FileProblem) -> YAMLNode {
            guard let node = top.first(where: { $0.key == key })?.value else {
                throw FileProblem(.missingKey, file: file, key: key, found: "nothing", allowed: "this key is needed")
            }
            return node
        }
        let delay = try matrix(try needed("delay_ms"), "milliseconds from 0") { (cell) throws(FileProblem) in
            try cell.number(0...100_000)
        }
        let bandwidthNode = try needed("bandwidth_Gbps")
        let bandwidth = try matrix(bandwidthNode, "Gbit/s greater than 0") { (cell) throws(FileProblem) in
            try cell.number(0...10_000, open: true)
        }
        guard bandwidth.count == delay.count else {
            throw bandwidthNode.problem(
                .outOfRange, found: "\(bandwidth.count) rows", allowed: "\(delay.count), as in delay_ms")
        }
        var topology = Topology(
            name: name, about: "A placement scenario of DT-FM: \(delay.count) devices.",
            expectation: "With --objective dtfm, the layout of its grid.", hosts: [])
        let regions = try regionNames(top.first { $0.key == "regions" }?.value, count: delay.count)
        for region in regions where !topology.regions.contains(where: { $0.name == region }) {
            topology.regions.append(Region(name: region))
        }
        // Access lines that never bind: pairs have rates of their own.
        let widest = BitRate.megabits(max(100, bandwidth.joined().max() ?? 0) * 1000)
        for device in delay.indices {
            topology.hosts.append(
                Host(
                    name: "d\(device)", device: "V100", flops: 15e12, memory: .mebibytes(16_384),
                    up: widest, down: widest,
                    region: regions.isEmpty ? nil : topology.regions.firstIndex { $0.name == regions[device] }))
        }
        for i in delay.indices {
            for j in delay.indices where i != j {
                topology.links[Topology.Pair(i, j)] = LinkProperties(
                    latency: .nanoseconds(Int64((delay[i][j] * 1e6).rounded())), rate: .megabits(bandwidth[i][j] * 1000)
                )
            }
        }
        topology.foldRegions()
        let layout = try figures(top.first { $0.key == "constants" }?.value)
        if let layout, layout.stages * layout.replicas != delay.count {
            throw FileProblem(
                .outOfRange, file: file, key: "constants",
                found: "\(layout.stages) stages × \(layout.replicas) replicas for \(delay.count) devices",
                allowed: "a grid that holds each device once")
        }
        return ImportedTopology(
            topology, .dtfm, layout: layout,
            notes: [
                "The scenario gives neither speed nor memory: those of its V100s, 15 TFLOP/s and 16 GiB, are taken."
            ])
    }

    private static func matrix(
        _ node: YAMLNode, _ what: String, _ cell: (YAMLNode) throws(FileProblem) -> Double
    ) throws(FileProblem) -> [[Double]] {
        let rows = try node.list("a square matrix, a list of rows: \(what)", most: mostDevices)
        guard !rows.isEmpty else { throw node.problem(.outOfRange, found: "no row", allowed: "a square matrix") }
        var out: [[Double]] = []
        for (i, row) in rows.enumerated() {
            let cells = try row.list("a row of \(rows.count) numbers", most: mostDevices)
            guard cells.count == rows.count else {
                throw row.problem(
                    .outOfRange, found: "\(cells.count) numbers in a row of a matrix with \(rows.count) rows",
                    allowed: "a square matrix: \(rows.count)")
            }
            var line: [Double] = []
            // What a device has to itself means nothing and may be anything.
            for (j, node) in cells.enumerated() { line.append(i == j ? 0 : try cell(node)) }
            out.append(line)
        }
        return out
    }

    private static func regionNames(_ node: YAMLNode?, count: Int) throws(FileProblem) -> [String] {
        guard let node else { return [] }
        let items = try node.list("a list of names", most: mostDevices)
        guard items.count == count else {
            throw node.problem(.outOfRange, found: "\(items.count) names", allowed: "\(count), one for each device")
        }
        var out: [String] = []
        for item in items { out.append(usableName(try item.text("a name")) ?? "region") }
        return out
    }

    private static func figures(_ node: YAMLNode?) throws(FileProblem) -> LayoutFigures? {
        guard let node else { return nil }
        let entries = try node.entries()
        func find(_ key: String) -> YAMLNode? { entries.first { $0.key == key }?.value }
        guard let stages = find("stages_way"), let replicas = find("replicas_partition_size"),
            let gradient = find("send_gradient_size_GB"), let activation = find("send_activation_size_GB")
        else { return nil }
        return LayoutFigures(
            stages: try stages.integer(1...mostDevices), replicas: try replicas.integer(1...mostDevices),
            gradientGigabytes: try gradient.number(0...1e6, open: true),
            activationGigabytes: try activation.number(0...1e6, open: true))
    }
}

extension Topology {
    /// Says once for regions what all their pairs have in common; links that differ stay.
    mutating func foldRegions() {
        guard !regions.isEmpty else { return }
        var shared: [Pair: LinkProperties?] = [:]
        for (pair, link) in links {
            guard let a = hosts[pair.from].region, let b = hosts[pair.to].region else { continue }
            if let known = shared[Pair(a, b)] {
                if known != link { shared[Pair(a, b)] = .some(nil) }
            } else {
                shared[Pair(a, b)] = link
            }
        }
        for pair in shared.keys.sorted() {
            guard case .some(.some(let link)) = shared[pair] else { continue }
            if pair.from == pair.to { regions[pair.from].inside = link } else { regionLinks[pair] = link }
        }
        links = links.filter { pair, link in
            guard let a = hosts[pair.from].region, let b = hosts[pair.to].region else { return true }
            return shared[Pair(a, b)] != .some(.some(link))
        }
    }
}
