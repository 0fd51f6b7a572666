import Links
import Primitives
public import Topologies

/// One-way delays between simulated nodes: a constant, or a matrix whose rows the nodes are dealt out to.
public struct LatencyModel: Sendable {
    /// One-way milliseconds, row by row.
    private let milliseconds: [Float]
    public let size: Int
    /// Relative: each datagram takes between 1 - jitter and 1 + jitter of its pair's delay.
    public var jitter = 0.1

    /// Every pair the same round trip.
    public init(roundTrip: Duration) {
        milliseconds = [Float(roundTrip.inMilliseconds / 2)]
        size = 1
    }

    /// The hosts of a topology, their links' latencies.
    public init(_ topology: Topology) {
        size = max(1, topology.hosts.count)
        var all = [Float](repeating: 0.5, count: size * size)
        for from in topology.hosts.indices {
            for to in topology.hosts.indices where from != to {
                all[from * size + to] = Float(topology.link(from: from, to: to).latency.inMilliseconds)
            }
        }
        milliseconds = all
    }

    /// A square matrix of round trips in milliseconds: one row a line, separated by commas, blanks or tabs; lines that begin
    /// with # are left out. Two nodes of one row are half a millisecond apart.
    ///
    /// - Throws: ``ScenarioError`` with the line that is wrong.
    public init(matrix text: String, name: String) throws(ScenarioError) {
        var all: [Float] = []
        var rows = 0
        var width: Int?
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            if line.hasPrefix("#") || line.allSatisfy(\.isWhitespace) { continue }
            let cells = line.split { $0 == "," || $0 == ";" || $0 == " " || $0 == "\t" }
            guard width == nil || width == cells.count else {
                throw ScenarioError(
                    name, index + 1, "\(cells.count) columns, \(width!) before", "make all rows equally long")
            }
            width = cells.count
            guard cells.count <= 5000 else {
                throw ScenarioError(name, index + 1, "more than 5000 columns", "take fewer places")
            }
            for cell in cells {
                guard let value = Float(cell), value.isFinite, value >= 0, value < 1e7 else {
                    throw ScenarioError(
                        name, index + 1, "\"\(cell.prefix(40))\" is not a round trip",
                        "milliseconds, 0 or more, are expected")
                }
                all.append(value / 2)
            }
            rows += 1
        }
        guard rows > 0 else { throw ScenarioError(name, 0, "no rows", "a square matrix of milliseconds is expected") }
        guard rows == width else {
            throw ScenarioError(name, 0, "\(rows) rows of \(width ?? 0) columns", "a latency matrix is square")
        }
        for row in 0..<rows where all[row * rows + row] == 0 { all[row * rows + row] = 0.25 }
        milliseconds = all
        size = rows
    }

    /// What lies between two nodes.
    func link(_ from: Int, _ to: Int) -> LinkProperties {
        let base = Double(milliseconds[from % size * size + to % size])
        // Draws that are even between 1 - j and 1 + j deviate by j ÷ √3.
        return LinkProperties(
            latency: .nanoseconds(Int64(max(1000, base * 1e6))), jitter: .nanoseconds(Int64(base * jitter * 577_350.27))
        )
    }
    /// The mean over all pairs, there and back.
    public var meanRoundTrip: Duration {
        let sum = milliseconds.reduce(0.0) { $0 + Double($1) }
        return .nanoseconds(Int64(sum / Double(milliseconds.count) * 2e6))
    }
}

/// A scenario's file that cannot be used: what, where, what to try.
public struct ScenarioError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ file: String, _ line: Int, _ what: String, _ remedy: String) {
        description = "\(file)\(line > 0 ? ", line \(line)" : ""): \(what); \(remedy)"
    }
}
