internal import Primitives

/// SimGrid's quantities, which carry their units, and its clusters.
extension SimGridImport {
    /// "98.095Mf"; of a list the first, the fastest.
    func flops(_ element: XMLReader.Element, _ text: String?) throws(FileProblem) -> Double {
        let allowed = "a speed greater than 0 with its unit, such as 98.095Mf"
        guard let first = text?.split(separator: ",").first else {
            throw problem(.missingKey, element, "speed", allowed)
        }
        guard let (number, unit) = splitUnit(String(first)),
            let prefix = SimGridImport.prefix(of: unit, before: ["flops", "f"])
        else { throw problem(.wrongType, element, "speed", allowed) }
        let value = number * prefix
        guard value > 0, value <= 1e18 else { throw problem(.outOfRange, element, "speed", allowed) }
        return value
    }

    /// Bit/s: "125MBps" are bytes, "1Gbps" bits.
    func rate(_ element: XMLReader.Element, _ key: String, _ text: String) throws(FileProblem) -> Double {
        let allowed = "a rate greater than 0 with its unit, such as 125MBps or 1Gbps"
        guard let (number, unit) = splitUnit(text) else { throw problem(.wrongType, element, key, allowed) }
        let value: Double
        if let prefix = SimGridImport.prefix(of: unit, before: ["Bps"]) {
            value = number * prefix * 8
        } else if let prefix = SimGridImport.prefix(of: unit, before: ["bps"]) {
            value = number * prefix
        } else {
            throw problem(.wrongType, element, key, allowed)
        }
        guard value >= 1, value <= 1e18 else { throw problem(.outOfRange, element, key, allowed) }
        return min(value, 1e13)
    }

    /// Zero where there is none.
    func seconds(_ element: XMLReader.Element, _ key: String) throws(FileProblem) -> Double {
        guard let text = element[key] else { return 0 }
        let allowed = "a time from 0 with its unit, such as 50us"
        guard let (number, unit) = splitUnit(text), let scale = number == 0 ? 1 : secondsPerUnit(unit) else {
            throw problem(.wrongType, element, key, allowed)
        }
        guard number >= 0, number * scale <= 100 else { throw problem(.outOfRange, element, key, allowed) }
        return number * scale
    }

    private static func prefix(of unit: String, before suffixes: [String]) -> Double? {
        for suffix in suffixes where unit.hasSuffix(suffix) {
            if let factor = prefixFactor(String(unit.dropLast(suffix.count))) { return factor }
        }
        return nil
    }

    /// Hosts around a switch, each with a cable of its own, and maybe a backbone that all of them share.
    mutating func readCluster(_ element: XMLReader.Element) throws(FileProblem) {
        let id = try needed(element, "id")
        let (prefix, suffix) = (element["prefix"] ?? "", element["suffix"] ?? "")
        let speed = try flops(element, element["speed"])
        var cable = RoutedGraph.Cable(to: 0, seconds: try seconds(element, "lat"))
        cable.rate = try rate(element, "bw", try needed(element, "bw"))
        if let backbone = element["bb_bw"] { cable.rate = min(cable.rate, try rate(element, "bb_bw", backbone)) }
        cable.seconds += try seconds(element, "bb_lat") / 2
        guard let cores = Double(element["core"] ?? "1"), cores >= 1, cores <= 1e6 else {
            throw problem(.outOfRange, element, "core", "a whole number from 1")
        }
        try add(element["router_id"] ?? "\(id)_router", element, flops: nil)
        let hub = graph.nodes.count - 1
        for part in try needed(element, "radical").split(separator: ",") {
            let ends = part.split(separator: "-").map { Int($0.filter { $0 != " " }) }
            guard ends.count == 1 || ends.count == 2, let first = ends[0], let last = ends.last ?? nil, first >= 0,
                last >= first,
                last - first < AttributedGraph.mostNodes
            else { throw problem(.wrongType, element, "radical", "numbers and ranges, such as 0-99,105") }
            for number in first...last {
                try add("\(prefix)\(number)\(suffix)", element, flops: speed * cores)
                cable.to = hub
                join(graph.nodes.count - 1, cable, whole: false, bothWays: true)
            }
        }
    }
}
