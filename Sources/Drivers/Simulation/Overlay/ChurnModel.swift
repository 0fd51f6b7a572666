import Foundation
import Primitives

/// Who is up when.
public enum ChurnModel: Sendable {
    /// Nobody comes or goes.
    case none
    /// Sessions of this median; whoever leaves is replaced at once by a newcomer, so that the size stays.
    case sessions(median: Duration, SessionShape)
    /// Recorded comings and goings; node names are dealt out in order of appearance.
    case trace(ChurnTrace)
}

/// How session times are distributed around their median.
public enum SessionShape: String, Sendable, CaseIterable {
    /// Memoryless: a Poisson process of departures.
    case exponential
    /// Heavy-tailed, shape 1.1: most leave soon, some stay for ever, as measured in file-sharing networks.
    case pareto
    /// Shape 0.5: in between.
    case weibull

    func draw(_ median: Duration, _ generator: inout SeededGenerator) -> Duration {
        let u = max(1e-12, 1 - generator.uniform())
        let ratio =
            switch self {
            case .exponential: -log(u) / log(2)
            case .pareto: pow(u, -1 / 1.1) / pow(2, 1 / 1.1)
            case .weibull: pow(-log(u) / log(2), 2)
            }
        return .nanoseconds(Int64(min(1e9, median.inSeconds * ratio) * 1e9))
    }
}

/// Recorded comings and goings.
public struct ChurnTrace: Sendable {
    public struct Change: Sendable {
        public let at: Duration
        public let node: Int
        public let isUp: Bool
    }
    /// In order of time.
    public let changes: [Change]
    public let nodeCount: Int

    /// Lines of `seconds,NODE,up` or `…,down`; or, as traces of spot instances are published, `milliseconds,add,NODE` or
    /// `…,remove,NODE`. Which of the two a file is, its first line says. Lines that begin with # are left out.
    ///
    /// - Throws: ``ScenarioError`` with the line that is wrong.
    public init(text: String, name: String) throws(ScenarioError) {
        var numbers: [String: Int] = [:]
        var all: [Change] = []
        var isUp: [Bool] = []
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            if line.hasPrefix("#") || line.allSatisfy(\.isWhitespace) { continue }
            func wrong(_ what: String) -> ScenarioError {
                ScenarioError(name, index + 1, what, "seconds,NODE,up|down or milliseconds,add|remove,NODE is expected")
            }
            let cells = line.split(separator: ",", omittingEmptySubsequences: false)
            guard cells.count == 3 else { throw wrong("\(cells.count) fields") }
            guard let moment = Double(cells[0]), moment.isFinite, moment >= 0, moment < 1e12 else {
                throw wrong("\"\(cells[0].prefix(40))\" is not a moment")
            }
            let spot = cells[1] == "add" || cells[1] == "remove"
            let word = spot ? cells[1] : cells[2]
            let node = String(spot ? cells[2] : cells[1])
            guard ["up", "down", "add", "remove"].contains(word) else {
                throw wrong("\"\(word.prefix(40))\" is neither up nor down")
            }
            guard !node.isEmpty, node.utf8.count <= 100 else { throw wrong("a node's name is missing or too long") }
            let number = numbers[node] ?? numbers.count
            if number == numbers.count {
                guard number < 1_000_000 else { throw wrong("more than a million nodes") }
                numbers[node] = number
                isUp.append(false)
            }
            let up = word == "up" || word == "add"
            // Saying twice what is so already changes nothing.
            guard isUp[number] != up else { continue }
            isUp[number] = up
            all.append(Change(at: .nanoseconds(Int64(moment * (spot ? 1e6 : 1e9))), node: number, isUp: up))
        }
        guard !all.isEmpty else {
            throw ScenarioError(name, 0, "no changes", "a line for each coming and going is expected")
        }
        // Files are in order of time; those that are not are put in order, the order of equals kept.
        changes = all.enumerated().sorted { ($0.element.at, $0.offset) < ($1.element.at, $1.offset) }.map(\.element)
        nodeCount = numbers.count
    }
}
