/// A strict reader of the part of XML 1.0 that graphs and platforms are written in: elements, attributes, text, character data,
/// comments, the five entities and characters by number.
///
/// Foundation's parser cannot be had in a core, which may touch no files, and it follows document types. Here a document
/// type is skipped unread, one with declarations of its own is refused, so nothing can unfold; depth and lengths are bounded.
struct XMLReader {
    struct Element {
        var name: String
        var attributes: [String: String]
        var line: Int
        subscript(key: String) -> String? { attributes[key] }
    }
    enum Event {
        case start(Element)
        case end(name: String)
        /// All text and character data between two tags, blanks around it trimmed; never empty.
        case text(String)
    }
    private static let deepest = 64
    private static let longest = 1 << 20

    private let bytes: [UInt8]
    let file: String
    private var index = 0
    private(set) var line = 1
    private var open: [String] = []
    private var pendingEnd: String?
    private var hasRoot = false

    init(_ bytes: [UInt8], file: String) {
        self.bytes = bytes
        self.file = file
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { index = 3 }
    }

    func problem(_ found: String, _ allowed: String) -> FileProblem {
        FileProblem(.unreadable, file: file, line: line, found: found, allowed: allowed)
    }

    /// nil at the end of the document.
    mutating func next() throws(FileProblem) -> Event? {
        if let name = pendingEnd {
            pendingEnd = nil
            open.removeLast()
            return .end(name: name)
        }
        var text: [UInt8] = []
        while index < bytes.count {
            if bytes[index] != UInt8(ascii: "<") {
                try readText(onto: &text)
                continue
            }
            if matches("<![CDATA[") {
                try readCharacterData(onto: &text)
                continue
            }
            if try skipMarkup() { continue }
            // The tag is read when the text before it has been taken.
            if let text = XMLReader.trimmed(text) { return .text(text) }
            if matches("</") { return .end(name: try endTag()) }
            return .start(try startTag())
        }
        if let name = open.last { throw problem("the end of the file inside <\(name)>", "</\(name)>") }
        guard hasRoot else { throw problem("no element", "one outermost element") }
        return nil
    }

    private func matches(_ word: String) -> Bool { bytes[index...].starts(with: word.utf8) }

    /// Moves past `end`, counting lines.
    private mutating func skip(past end: String) throws(FileProblem) {
        let from = line
        while index < bytes.count {
            if matches(end) {
                index += end.utf8.count
                return
            }
            step()
        }
        line = from
        throw problem("something that does not end", end)
    }
    private mutating func step() {
        if bytes[index] == 10 { line += 1 }
        index += 1
    }

    /// Comments, processing instructions and document types; true when there was one.
    private mutating func skipMarkup() throws(FileProblem) -> Bool {
        if matches("<!--") {
            index += 4
            try skip(past: "-->")
        } else if matches("<?") {
            try skip(past: "?>")
        } else if matches("<!DOCTYPE") {
            while index < bytes.count, bytes[index] != UInt8(ascii: ">") {
                guard bytes[index] != UInt8(ascii: "[") else {
                    throw problem("a document type with declarations", "none: entities are not unfolded; take them out")
                }
                step()
            }
            guard index < bytes.count else { throw problem("a document type that does not end", ">") }
            index += 1
        } else if matches("<!") {
            throw problem("a declaration", "elements only")
        } else {
            return false
        }
        return true
    }

    private mutating func readText(onto text: inout [UInt8]) throws(FileProblem) {
        let (from, at) = (index, line)
        while index < bytes.count, bytes[index] != UInt8(ascii: "<") { step() }
        let slice = bytes[from..<index]
        guard !open.isEmpty || slice.allSatisfy({ $0 <= 32 }), text.count + slice.count <= XMLReader.longest else {
            line = at
            throw problem(open.isEmpty ? "text outside of any element" : "a text longer than 1 MiB", "elements")
        }
        text += try decoded(slice).utf8
    }
    /// `<![CDATA[…]]>`: as it stands.
    private mutating func readCharacterData(onto text: inout [UInt8]) throws(FileProblem) {
        let (from, at) = (index + 9, line)
        index = from
        while index < bytes.count, !matches("]]>") { step() }
        guard index < bytes.count, !open.isEmpty, text.count + index - from <= XMLReader.longest,
            String(validating: bytes[from..<index], as: UTF8.self) != nil
        else {
            line = at
            throw problem("character data without an end, outside of any element, or longer than 1 MiB", "]]>")
        }
        text += bytes[from..<index]
        index += 3
    }
    /// nil when nothing but blanks is left.
    private static func trimmed(_ text: [UInt8]) -> String? {
        var slice = text[...]
        while let first = slice.first, first <= 32 { slice = slice.dropFirst() }
        while let last = slice.last, last <= 32 { slice = slice.dropLast() }
        return slice.isEmpty ? nil : String(decoding: slice, as: UTF8.self)
    }

    private mutating func endTag() throws(FileProblem) -> String {
        index += 2
        let name = try name()
        blanks()
        guard index < bytes.count, bytes[index] == UInt8(ascii: ">") else {
            throw problem("</\(name) without its end", ">")
        }
        index += 1
        guard open.last == name else {
            throw problem("</\(name)>", open.last.map { "</\($0)>" } ?? "no end without a start")
        }
        open.removeLast()
        return name
    }

    private mutating func startTag() throws(FileProblem) -> Element {
        guard !(open.isEmpty && hasRoot) else { throw problem("a second outermost element", "one") }
        let at = line
        index += 1
        var element = Element(name: try name(), attributes: [:], line: at)
        while true {
            blanks()
            guard index < bytes.count else { throw problem("<\(element.name) without its end", ">") }
            if matches("/>") {
                index += 2
                pendingEnd = element.name
                break
            }
            if bytes[index] == UInt8(ascii: ">") {
                index += 1
                break
            }
            let key = try name()
            guard let value = try value() else { throw problem("attribute \(key) without a value", "\(key)=\"…\"") }
            guard element.attributes.updateValue(value, forKey: key) == nil else {
                throw FileProblem(
                    .duplicateName, file: file, line: line, key: "\(element.name).\(key)", found: "the attribute twice",
                    allowed: "each attribute once")
            }
            guard element.attributes.count <= 64 else { throw problem("more than 64 attributes", "fewer") }
        }
        hasRoot = true
        open.append(element.name)
        guard open.count <= XMLReader.deepest else {
            throw problem("elements nested deeper than \(XMLReader.deepest)", "flatter ones")
        }
        return element
    }

    private mutating func blanks() { while index < bytes.count, bytes[index] <= 32 { step() } }

    private mutating func name() throws(FileProblem) -> String {
        let from = index
        while index < bytes.count, !" \t\r\n=/><\"'&".utf8.contains(bytes[index]), index - from < 256 { index += 1 }
        guard index > from, let name = String(validating: bytes[from..<index], as: UTF8.self) else {
            throw problem("markup without a name", "<name attribute=\"value\">")
        }
        return name
    }

    private mutating func value() throws(FileProblem) -> String? {
        blanks()
        guard index < bytes.count, bytes[index] == UInt8(ascii: "=") else { return nil }
        index += 1
        blanks()
        guard index < bytes.count, "\"'".utf8.contains(bytes[index]) else { return nil }
        let quote = bytes[index]
        let from = index + 1
        index = from
        while index < bytes.count, bytes[index] != quote {
            guard bytes[index] != UInt8(ascii: "<"), index - from < XMLReader.longest else { return nil }
            step()
        }
        guard index < bytes.count else { return nil }
        defer { index += 1 }
        return try decoded(bytes[from..<index])
    }

    /// The entities that every document has, and characters by number; no others.
    private func decoded(_ slice: ArraySlice<UInt8>) throws(FileProblem) -> String {
        guard let raw = String(validating: slice, as: UTF8.self) else {
            throw problem("bytes that are not UTF-8", "UTF-8")
        }
        guard raw.utf8.contains(UInt8(ascii: "&")) else { return raw }
        var out = ""
        var rest = raw[...]
        while let mark = rest.firstIndex(of: "&") {
            out += rest[..<mark]
            guard let end = rest[mark...].prefix(12).firstIndex(of: ";") else { throw problem("a lone &", "&amp;") }
            let entity = rest[rest.index(after: mark)..<end]
            switch entity {
            case "lt": out += "<"
            case "gt": out += ">"
            case "amp": out += "&"
            case "quot": out += "\""
            case "apos": out += "'"
            default:
                let digits = entity.hasPrefix("#x") ? entity.dropFirst(2) : entity.dropFirst()
                guard entity.hasPrefix("#"), let value = UInt32(digits, radix: entity.hasPrefix("#x") ? 16 : 10),
                    let scalar = Unicode.Scalar(value)
                else { throw problem("the entity &\(entity);", "lt, gt, amp, quot, apos, or a character's number") }
                out.unicodeScalars.append(scalar)
            }
            rest = rest[rest.index(after: end)...]
        }
        return out + rest
    }
}
