internal import Yams

/// A place in a YAML file that knows its file, line and key path, so that whatever is wrong there can be said precisely.
///
/// Reading is strict: unknown keys, wrong types and numbers that are not finite are errors. Aliases are refused (they let a
/// small file unfold into a huge one), size and depth are bounded before anything is parsed. No input makes it crash.
package struct YAMLNode {
    /// Bytes of a file; ten thousand hosts take about two million.
    package static let maximumBytes = 16 << 20
    static let maximumDepth = 64

    private let node: Node
    package let file: String
    package let path: String

    private init(_ node: Node, file: String, path: String) {
        self.node = node
        self.file = file
        self.path = path
    }

    package init(parsing bytes: [UInt8], file: String) throws(FileProblem) {
        func unreadable(_ found: String, line: Int? = nil) -> FileProblem {
            FileProblem(.unreadable, file: file, line: line, found: found, allowed: "one YAML document in UTF-8")
        }
        guard bytes.count <= YAMLNode.maximumBytes else {
            throw FileProblem(
                .unreadable, file: file, found: "\(bytes.count) bytes",
                allowed: "at most \(YAMLNode.maximumBytes) bytes")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw unreadable("bytes that are not UTF-8") }
        if let (line, found) = YAMLNode.refused(bytes) { throw unreadable(found, line: line) }
        let root: Node?
        do {
            root = try Yams.compose(yaml: text, .basic)
        } catch let error as YamlError {
            switch error {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
                .composer(_, let problem, let mark, _):
                throw unreadable("text that is not YAML (\(problem))", line: mark.line)
            case .duplicatedKeysInMapping(let keys, let context):
                let key = keys.first ?? ""
                throw FileProblem(
                    .duplicateName, file: file, line: YAMLNode.second(key, in: text, from: context.mark.line), key: key,
                    found: "the key twice", allowed: "each key once")
            default: throw unreadable("text that is not YAML")
            }
        } catch { throw unreadable("text that is not YAML") }
        guard let root else { throw unreadable("nothing") }
        self.init(root, file: file, path: "")
    }

    /// Whether there is nothing but blank lines and comments.
    package static func isEmpty(_ bytes: [UInt8]) -> Bool {
        bytes.split(whereSeparator: { $0 == 10 || $0 == 13 }).allSatisfy { line in
            (line.first { $0 != 32 && $0 != 9 } ?? UInt8(ascii: "#")) == UInt8(ascii: "#")
        }
    }

    /// Where a mapping that begins in a line has a key for the second time; that line where it cannot be found.
    private static func second(_ key: String, in text: String, from first: Int) -> Int {
        var seen: Int?
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
        where index + 1 >= first {
            let indent = line.prefix { $0 == " " }.count
            let rest = line.dropFirst(indent)
            guard rest.hasPrefix(key + ":") || rest.hasPrefix("\"\(key)\":") || rest.hasPrefix("'\(key)':") else {
                continue
            }
            if seen == indent { return index + 1 }
            seen = seen ?? indent
        }
        return first
    }

    /// A cheap look before parsing: nesting, anchors and aliases. May refuse a legal text (a lone `*word` in prose), never
    /// the other way round.
    private static func refused(_ bytes: [UInt8]) -> (line: Int, found: String)? {
        var line = 1
        var depth = 0
        var leading = 0
        var inLead = true
        var inComment = false
        var previous = UInt8(ascii: "\n")
        for (index, byte) in bytes.enumerated() {
            defer { previous = byte }
            if byte == UInt8(ascii: "\n") {
                (line, leading, inLead, inComment) = (line + 1, 0, true, false)
                continue
            }
            if inComment { continue }
            let opens = " \t\n[{,:-?".utf8.contains(previous)
            switch byte {
            case UInt8(ascii: "#") where " \t\n".utf8.contains(previous):
                inComment = true
                continue
            case UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
            case UInt8(ascii: "]"), UInt8(ascii: "}"): depth = max(0, depth - 1)
            case UInt8(ascii: "&") where opens, UInt8(ascii: "*") where opens:
                if index + 1 < bytes.count, !" \t\r\n".utf8.contains(bytes[index + 1]) {
                    return (line, "an anchor or alias (&name, *name)")
                }
            default: break
            }
            if inLead, " -?:".utf8.contains(byte) { leading += 1 } else { inLead = false }
            if depth > maximumDepth || leading > 2 * maximumDepth {
                return (line, "nesting deeper than \(maximumDepth)")
            }
        }
        return nil
    }

    /// What is here, as the parser has it.
    var content: Node { node }
    /// A value as a person would write it in one line.
    package var inLine: String {
        switch node {
        case .scalar(let scalar): scalar.string
        case .sequence(let items): "[" + items.map { nested($0).inLine }.joined(separator: ", ") + "]"
        case .mapping(let pairs):
            "{" + pairs.map { "\(nested($0).inLine): \(nested($1).inLine)" }.joined(separator: ", ") + "}"
        case .alias: ""
        }
    }
    private func nested(_ node: Node) -> YAMLNode { YAMLNode(node, file: file, path: path) }

    package var line: Int? {
        guard let line = node.mark?.line, line > 0 else { return nil }
        return line
    }

    // MARK: what is wrong here

    package func problem(_ kind: FileProblem.Kind, found: String? = nil, allowed: String) -> FileProblem {
        FileProblem(kind, file: file, line: line, key: path, found: found ?? shown, allowed: allowed)
    }
    /// The value as people would name it; long ones are cut by ``FileProblem``.
    package var shown: String {
        switch node {
        case .scalar(let scalar): scalar.string.isEmpty ? "nothing" : "“\(String(scalar.string.prefix(100)))”"
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }

    // MARK: reading

    package var isScalar: Bool { node.scalar != nil }

    package func text(_ allowed: String = "a text") throws(FileProblem) -> String {
        guard let scalar = node.scalar else { throw problem(.wrongType, allowed: allowed) }
        guard !scalar.string.isEmpty else { throw problem(.wrongType, allowed: allowed) }
        return scalar.string
    }
    /// One of a fixed set of words.
    package func word(_ allowed: [String]) throws(FileProblem) -> String {
        let list = allowed.joined(separator: ", ")
        let text = try text(list)
        guard allowed.contains(text) else { throw problem(.outOfRange, allowed: list) }
        return text
    }
    /// 32 to 126: a name that can be printed, typed and put in a path.
    package func name() throws(FileProblem) -> String {
        let name = try text(Self.allowedName)
        guard Self.isName(name) else { throw problem(.outOfRange, allowed: Self.allowedName) }
        return name
    }
    package static let allowedName = "a name of 1 to 64 letters, digits, '-', '_', '.' or blanks"
    package static func isName(_ name: String) -> Bool {
        let isFine = name.utf8.allSatisfy { byte in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
                || "-_. ".utf8.contains(byte)
        }
        return isFine && (1...64).contains(name.utf8.count) && name.first != " " && name.last != " "
    }
    package func boolean() throws(FileProblem) -> Bool { try word(["true", "false"]) == "true" }

    package func integer(_ range: ClosedRange<Int>, _ hint: String? = nil) throws(FileProblem) -> Int {
        let allowed = hint ?? "a whole number from \(range.lowerBound) to \(range.upperBound)"
        guard let scalar = node.scalar, let digits = plainNumber(scalar.string) else {
            throw problem(.wrongType, allowed: allowed)
        }
        guard let value = Int(digits) else {
            let isWhole = digits.utf8.allSatisfy { (48...57).contains($0) || "+-".utf8.contains($0) }
            throw problem(isWhole && Double(digits) != nil ? .outOfRange : .wrongType, allowed: allowed)
        }
        guard range.contains(value) else { throw problem(.outOfRange, allowed: allowed) }
        return value
    }
    /// A finite number; `open` leaves the lower bound itself out.
    package func number(_ range: ClosedRange<Double>, open: Bool = false) throws(FileProblem) -> Double {
        let allowed = "a number \(open ? "greater than" : "from") \(range.lowerBound), at most \(range.upperBound)"
        guard let scalar = node.scalar else { throw problem(.wrongType, allowed: allowed) }
        guard let digits = plainNumber(scalar.string), let value = Double(digits), value.isFinite else {
            let special = [".nan", "nan", ".inf", "-.inf", "inf"].contains(scalar.string.lowercased())
            throw problem(special ? .outOfRange : .wrongType, allowed: allowed)
        }
        guard range.contains(value), !open || value > range.lowerBound else {
            throw problem(.outOfRange, allowed: allowed)
        }
        return value
    }
    /// Digits, sign, point, exponent; underscores between digits are dropped. nil for anything else, hexadecimal included.
    private func plainNumber(_ text: String) -> String? {
        guard !text.isEmpty, text.utf8.count <= 40 else { return nil }
        var out = ""
        for byte in text.utf8 {
            if byte == UInt8(ascii: "_") { continue }
            guard (48...57).contains(byte) || ".+-eE".utf8.contains(byte) else { return nil }
            out.unicodeScalars.append(Unicode.Scalar(byte))
        }
        return out.utf8.contains(where: { (48...57).contains($0) }) ? out : nil
    }

    package var isList: Bool { node.sequence != nil }
    package func list(_ allowed: String = "a list", most: Int = 1_000_000) throws(FileProblem) -> [YAMLNode] {
        guard let sequence = node.sequence else { throw problem(.wrongType, allowed: allowed) }
        guard sequence.count <= most else {
            throw problem(.outOfRange, found: "\(sequence.count) entries", allowed: "at most \(most)")
        }
        return sequence.enumerated().map { YAMLNode($1, file: file, path: "\(path)[\($0)]") }
    }
    /// A mapping with keys of any name, in the file's order: for files that others write.
    package func entries() throws(FileProblem) -> [(key: String, value: YAMLNode)] {
        guard let mapping = node.mapping else { throw problem(.wrongType, allowed: "a mapping") }
        return mapping.map { key, value in
            let name = key.scalar?.string ?? "(not a word)"
            return (name, YAMLNode(value, file: file, path: path.isEmpty ? name : "\(path).\(name)"))
        }
    }
    /// A mapping whose keys are all among `keys`.
    package func mapping(_ keys: [String]) throws(FileProblem) -> YAMLMapping {
        guard let mapping = node.mapping else {
            throw problem(.wrongType, allowed: "a mapping with \(keys.joined(separator: ", "))")
        }
        var entries: [String: YAMLNode] = [:]
        for (key, value) in mapping {
            let name = key.scalar?.string ?? "(not a word)"
            let child = YAMLNode(value, file: file, path: path.isEmpty ? name : "\(path).\(name)")
            guard key.scalar != nil, keys.contains(name) else {
                let meant = nearest(to: name, among: keys)
                throw FileProblem(
                    .unknownKey, file: file, line: key.mark?.line ?? line, key: child.path,
                    found: "an unknown key",
                    allowed: meant.map { "did you mean \($0)? The keys here are " + keys.joined(separator: ", ") }
                        ?? keys.joined(separator: ", "))
            }
            entries[name] = child
        }
        return YAMLMapping(place: self, keys: keys, entries: entries)
    }
}

/// A mapping with known keys.
package struct YAMLMapping {
    package let place: YAMLNode
    let keys: [String]
    private let entries: [String: YAMLNode]

    init(place: YAMLNode, keys: [String], entries: [String: YAMLNode]) {
        self.place = place
        self.keys = keys
        self.entries = entries
    }
    package subscript(key: String) -> YAMLNode? {
        precondition(keys.contains(key), "\(key) is not a key of this mapping")
        return entries[key]
    }
    package func required(_ key: String) throws(FileProblem) -> YAMLNode {
        guard let node = self[key] else {
            throw FileProblem(
                .missingKey, file: place.file, line: place.line,
                key: place.path.isEmpty ? key : "\(place.path).\(key)", found: "nothing", allowed: "this key is needed")
        }
        return node
    }
}

/// Text as a YAML scalar that reads back equal: plain where that is safe, else double-quoted.
package func yamlScalar(_ text: String) -> String {
    let safe = text.utf8.allSatisfy { byte in
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || "-_./".utf8.contains(byte)
    }
    if safe, let first = text.utf8.first, first != UInt8(ascii: "-"), first != UInt8(ascii: ".") { return text }
    var out = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": out += "\\\""
        case "\\": out += "\\\\"
        case "\n": out += "\\n"
        case "\t": out += "\\t"
        default:
            if scalar.value < 32 || scalar.value == 127 || (0x80...0x9F).contains(scalar.value) {
                let digits = String(scalar.value, radix: 16)
                out += "\\x" + (digits.count == 1 ? "0" : "") + digits
            } else {
                out.unicodeScalars.append(scalar)
            }
        }
    }
    return out + "\""
}

/// A number as short as it reads back equal: “4096”, “0.003”, “2.5e-07”.
package func yamlNumber(_ value: Double) -> String {
    if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
    return "\(value)"
}
