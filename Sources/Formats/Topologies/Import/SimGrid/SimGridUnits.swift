internal import Primitives

/// SimGrid's quantities, which carry their units.
extension SimGridReader {
    /// "98.095Mf" times the cores; of a list of states the one that `pstate` says, the first by default.
    func flops(_ element: XMLReader.Element, _ key: String = "speed") throws(FileProblem) -> Double {
        let allowed = "a speed greater than 0 with its unit, such as 98.095Mf"
        let states = (element["speed"] ?? element["power"])?.split(separator: ",") ?? []
        let state = Int(decimalNumber(element["pstate"] ?? "0") ?? -1)
        guard !states.isEmpty else { throw problem(.missingKey, element, "speed", allowed) }
        guard states.indices.contains(state) else {
            throw problem(.outOfRange, element, "pstate", "the number of a speed in the list, from 0")
        }
        guard let (number, unit) = splitUnit(states[state].filter { $0 != " " }),
            let prefix = SimGridReader.prefix(of: unit, before: ["flops", "f"])
        else { throw problem(.wrongType, element, "speed", allowed) }
        guard let cores = decimalNumber(element["core"] ?? "1"), cores >= 1, cores <= 1e6, cores == cores.rounded()
        else {
            throw problem(.outOfRange, element, "core", "a whole number from 1")
        }
        let value = number * prefix * cores
        guard value > 0, value <= 1e18 else { throw problem(.outOfRange, element, "speed", allowed) }
        return value
    }

    /// Bit/s: "125MBps" are bytes, "1Gbps" bits.
    func rate(_ element: XMLReader.Element, _ key: String, _ text: String) throws(FileProblem) -> Double {
        let allowed = "a rate greater than 0 with its unit, such as 125MBps or 1Gbps"
        // Of Wi-Fi the first modulation: the best.
        let first = text.split(separator: ",").first.map(String.init) ?? ""
        guard let (number, unit) = splitUnit(first) else { throw problem(.wrongType, element, key, allowed) }
        let value: Double
        if let prefix = SimGridReader.prefix(of: unit, before: ["Bps"]) {
            value = number * prefix * 8
        } else if let prefix = SimGridReader.prefix(of: unit, before: ["bps"]) {
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
}
