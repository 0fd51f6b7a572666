/// What is wrong with a file that a person wrote: where, what was found, what is allowed. One shape for every input file,
/// so that every message reads alike: “demo.yaml:12: hosts[3].up_mbps: found -4; allowed: a number greater than 0”.
public struct FileProblem: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Kind: String, Hashable, Sendable {
        /// Not UTF-8, too large, too deep, or not YAML.
        case unreadable
        case unknownKey
        case missingKey
        case wrongType
        /// The right type, but not a value that can be used: negative, NaN, too large, not a multiple.
        case outOfRange
        case duplicateName
        /// A name that nothing in the file has.
        case unknownName
        /// Two hosts with no link, no region latency and no default between them.
        case disconnected
    }
    public var kind: Kind
    /// As given by the caller: a path or a name.
    public var file: String
    /// From 1; nil when the whole file is meant.
    public var line: Int?
    /// Path of the key from the top: "hosts[3].up_mbps"; empty for the whole file.
    public var key: String
    /// At most 80 characters of it.
    public var found: String
    public var allowed: String

    public init(_ kind: Kind, file: String, line: Int? = nil, key: String = "", found: String, allowed: String) {
        self.kind = kind
        self.file = file
        self.line = line
        self.key = key
        self.found = found.count > 80 ? String(found.prefix(77)) + "…" : found
        self.allowed = allowed
    }

    public var description: String {
        let place = line.map { "\(file):\($0)" } ?? file
        return "\(place): \(key.isEmpty ? "" : "\(key): ")found \(found); allowed: \(allowed)"
    }
}

/// What is wrong with a topology file.
public typealias TopologyError = FileProblem

/// The candidate nearest to `word` by edit distance, if it is near enough to be what was meant.
public func nearest(to word: String, among candidates: [String]) -> String? {
    let word = Array(word.prefix(64))
    var best: (distance: Int, name: String)?
    for candidate in candidates {
        let distance = editDistance(word, Array(candidate))
        if distance < best?.distance ?? Int.max { best = (distance, candidate) }
    }
    guard let best, best.distance <= max(2, best.name.count / 3) else { return nil }
    return best.name
}

/// Levenshtein distance: insertions, deletions and replacements.
private func editDistance(_ a: [Character], _ b: [Character]) -> Int {
    guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
    var row = Array(0...b.count)
    for i in 1...a.count {
        var diagonal = row[0]
        row[0] = i
        for j in 1...b.count {
            let replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)
            diagonal = row[j]
            row[j] = min(replaced, row[j] + 1, row[j - 1] + 1)
        }
    }
    return row[b.count]
}
