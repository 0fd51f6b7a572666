internal import Primitives

/// A SimGrid platform as peers and what they see of each other: every host a peer, its speed times its cores; ways as SimGrid finds
/// them (``SimGridRouting``), with summed latency and the rate of the narrowest link.
enum SimGridImport {
    static func imported(
        _ bytes: [UInt8], file: String, options: ImportOptions, name: String
    ) throws(FileProblem) -> ImportedTopology {
        var reader = SimGridReader(bytes, file: file)
        let platform = try reader.platform()
        var hosts: [(point: Int, flops: Double)] = []
        for (index, point) in platform.points.enumerated() {
            if case .host(let flops) = point.kind { hosts.append((index, flops)) }
        }
        let all = hosts.count
        if all > options.mostPeers { hosts = (0..<options.mostPeers).map { hosts[$0 * all / options.mostPeers] } }
        var taken: Set<String> = []
        var pool = ImportedPool(
            members: hosts.map { host in
                let point = platform.points[host.point]
                var name = usableName(point.name) ?? "n\(host.point)"
                while !taken.insert(name).inserted { name = "\(name.prefix(48))-\(host.point)" }
                return ImportedPool.Member(name: name, line: point.line, flops: host.flops)
            })
        var routing = SimGridRouting(platform)
        for (a, from) in hosts.enumerated() {
            for (b, to) in hosts.enumerated() where a != b {
                guard let leg = routing.way(from: from.point, to: to.point) else { continue }
                pool[a, b] = ImportedPool.Way(seconds: leg.seconds, rate: leg.rate)
            }
        }
        if hosts.count < all { pool.notes.append("\(hosts.count) of \(all) hosts hold a peer.") }
        if !reader.skipped.isEmpty {
            pool.notes.append("Not read: \(reader.skipped.sorted().joined(separator: ", ")).")
        }
        pool.widenLines()
        let (topology, notes) = try pool.topology(
            name: name, about: "A platform, imported from SimGrid.", options: options, file: file)
        return ImportedTopology(topology, .simgrid, notes: notes)
    }
}
