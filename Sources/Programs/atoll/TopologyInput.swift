import Foundation
import Node
import Primitives
import Topologies

/// A topology file of any known format; notes on what was assumed go to stderr.
func loadImported(
    _ path: String, format: String = "auto", options: ImportOptions = ImportOptions(), bandwidth: String? = nil,
    onto: String? = nil, quiet: Bool = false
) throws -> ImportedTopology {
    let limit = ImportedTopology.maximumBytes
    let bytes = try readFile(path, limit: limit)
    var known: TopologyFormat?
    if format != "auto" {
        known = TopologyFormat(rawValue: format)
        guard known != nil else {
            let all = TopologyFormat.allCases.map(\.rawValue).joined(separator: ", ")
            throw NodeError.badInput("--format \(format): auto, or one of \(all)")
        }
    }
    let second = try bandwidth.map { (bytes: try readFile($0, limit: limit), file: $0) }
    let base = try onto.map { try loadImported($0, quiet: quiet).topology }
    do throws(TopologyError) {
        let imported = try ImportedTopology(
            reading: bytes, file: path, format: known, options: options, bandwidths: second, base: base)
        if !quiet { for note in imported.notes { complain("note: \(note)") } }
        return imported
    } catch {
        throw NodeError.badInput("\(error)")
    }
}

func loadTopology(_ path: String) throws -> Topology { try loadImported(path).topology }

/// Columns of the terminal, or `COLUMNS`, or 80; and whether stdout is one, for colour.
struct Terminal {
    let columns: Int
    let isTerminal: Bool

    init() {
        isTerminal = isatty(STDOUT_FILENO) == 1
        var size = winsize()
        let environment = ProcessInfo.processInfo.environment
        if let given = environment["COLUMNS"].flatMap({ Int($0) }), given >= 40 {
            columns = min(given, 400)
        } else if isTerminal, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col >= 40 {
            columns = Int(size.ws_col)
        } else {
            columns = 80
        }
    }
    func bold(_ text: String) -> String {
        isTerminal && ProcessInfo.processInfo.environment["NO_COLOR"] == nil ? "\u{1B}[1m\(text)\u{1B}[0m" : text
    }
}

func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
}
