extension JSONValue {
    /// Reads one value and nothing after it. Strict: RFC 8259 without extensions, valid UTF-8, no lone surrogates, no key
    /// twice, at most `maximumDepth` levels.
    public init(parsing bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int = 64) throws(JSONError) {
        var parser = JSONParser(bytes: bytes, maximumDepth: maximumDepth)
        self = try parser.value(depth: 0)
        parser.skipSpace()
        guard parser.at == bytes.count else { throw parser.error("something comes after the value") }
    }

    public init(parsing bytes: [UInt8], maximumDepth: Int = 64) throws(JSONError) {
        let result = bytes.withUnsafeBufferPointer { buffer in
            Result<JSONValue, JSONError> { () throws(JSONError) in
                try JSONValue(parsing: buffer, maximumDepth: maximumDepth)
            }
        }
        self = try result.get()
    }
}

struct JSONParser {
    let bytes: UnsafeBufferPointer<UInt8>
    let maximumDepth: Int
    var at = 0

    init(bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int) {
        self.bytes = bytes
        self.maximumDepth = maximumDepth
    }

    func error(_ problem: String) -> JSONError {
        let before = bytes[..<min(at, bytes.count)]
        let line = before.reduce(1) { $0 + ($1 == 10 ? 1 : 0) }
        let start = before.lastIndex(of: 10).map { $0 + 1 } ?? 0
        return JSONError(line: line, column: at - start + 1, problem: problem)
    }

    mutating func skipSpace() {
        while at < bytes.count {
            switch bytes[at] {
            case 32, 9, 10, 13: at += 1
            default: return
            }
        }
    }

    mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        skipSpace()
        guard at < bytes.count else { throw error("the text ends where a value should be") }
        switch bytes[at] {
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "{"): return .object(try object(depth: depth + 1))
        case UInt8(ascii: "["): return .array(try array(depth: depth + 1))
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: throw error("no value begins so")
        }
    }

    private mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        let matches = word.withUTF8Buffer { expected in
            bytes.count - at >= expected.count && bytes[at..<at + expected.count].elementsEqual(expected)
        }
        guard matches else { throw error("no value begins so") }
        at += word.utf8CodeUnitCount
        return value
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONObject {
        guard depth <= maximumDepth else { throw error("more than \(maximumDepth) levels") }
        at += 1
        var members: [JSONObject.Member] = []
        var keys: Set<ByteKey> = []
        skipSpace()
        if at < bytes.count, bytes[at] == UInt8(ascii: "}") {
            at += 1
            return JSONObject()
        }
        while true {
            skipSpace()
            guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { throw error("a key should be here") }
            let place = at
            let key = try string()
            // A set pays only for many keys.
            if members.count == 8 { for member in members { keys.insert(ByteKey(text: member.key)) } }
            let isNew =
                members.count < 8
                ? !members.contains { $0.key.utf8.elementsEqual(key.utf8) } : keys.insert(ByteKey(text: key)).inserted
            guard isNew else {
                at = place
                throw error("key “\(key.prefix(80))” comes a second time")
            }
            skipSpace()
            guard at < bytes.count, bytes[at] == UInt8(ascii: ":") else { throw error("a colon should be here") }
            at += 1
            members.append(JSONObject.Member(key, try value(depth: depth)))
            if try !next(closing: UInt8(ascii: "}")) { return JSONObject(members) }
        }
    }

    private mutating func array(depth: Int) throws(JSONError) -> [JSONValue] {
        guard depth <= maximumDepth else { throw error("more than \(maximumDepth) levels") }
        at += 1
        skipSpace()
        if at < bytes.count, bytes[at] == UInt8(ascii: "]") {
            at += 1
            return []
        }
        var values: [JSONValue] = []
        while true {
            values.append(try value(depth: depth))
            if try !next(closing: UInt8(ascii: "]")) { return values }
        }
    }

    /// After a comma true, after the closing bracket false.
    private mutating func next(closing: UInt8) throws(JSONError) -> Bool {
        skipSpace()
        guard at < bytes.count else { throw error("the text ends within an array or an object") }
        guard bytes[at] == UInt8(ascii: ",") || bytes[at] == closing else {
            throw error("a comma or a closing bracket should be here")
        }
        at += 1
        return bytes[at - 1] != closing
    }

    private mutating func number() throws(JSONError) -> JSONNumber {
        let start = at
        if bytes[at] == UInt8(ascii: "-") { at += 1 }
        let first = at
        try digits()
        guard bytes[first] != UInt8(ascii: "0") || at == first + 1 else { throw error("a number begins with 0") }
        if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
            at += 1
            try digits()
        }
        if at < bytes.count, bytes[at] | 32 == UInt8(ascii: "e") {
            at += 1
            if at < bytes.count, bytes[at] == UInt8(ascii: "+") || bytes[at] == UInt8(ascii: "-") { at += 1 }
            try digits()
        }
        guard at - start <= 400 else { throw error("a number of \(at - start) digits") }
        return JSONNumber(text: String(decoding: bytes[start..<at], as: UTF8.self))
    }

    private mutating func digits() throws(JSONError) {
        let start = at
        while at < bytes.count, bytes[at] &- 48 < 10 { at += 1 }
        guard at > start else { throw error("a digit should be here") }
    }

    private mutating func string() throws(JSONError) -> String {
        at += 1
        let start = at
        while at < bytes.count {
            switch bytes[at] {
            case UInt8(ascii: "\""):
                guard let text = String(validating: UnsafeBufferPointer(rebasing: bytes[start..<at]), as: UTF8.self)
                else {
                    throw error("a text that is not UTF-8")
                }
                at += 1
                return text
            case UInt8(ascii: "\\"): return try escapedString(from: start)
            case 0..<32: throw error("a control byte within a text")
            default: at += 1
            }
        }
        throw error("the file ends within a text")
    }

    /// The whole of a string whose first escape is at ``at``.
    private mutating func escapedString(from start: Int) throws(JSONError) -> String {
        var text = Array(bytes[start..<at])
        while at < bytes.count {
            let byte = bytes[at]
            switch byte {
            case UInt8(ascii: "\""):
                guard let string = String(validating: text, as: UTF8.self) else {
                    throw error("a text that is not UTF-8")
                }
                at += 1
                return string
            case UInt8(ascii: "\\"):
                at += 1
                text.append(contentsOf: String(try escape()).utf8)
            case 0..<32: throw error("a control byte within a text")
            default:
                text.append(byte)
                at += 1
            }
        }
        throw error("the file ends within a text")
    }

    /// What comes after a backslash.
    private mutating func escape() throws(JSONError) -> Unicode.Scalar {
        guard at < bytes.count else { throw error("the file ends within a text") }
        let byte = bytes[at]
        at += 1
        switch byte {
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "u"):
            let high = try hexadecimal()
            if let scalar = Unicode.Scalar(high) { return scalar }
            guard high < 0xDC00, at + 1 < bytes.count, bytes[at] == UInt8(ascii: "\\"),
                bytes[at + 1] == UInt8(ascii: "u")
            else { throw error("half of a surrogate pair") }
            at += 2
            let low = try hexadecimal()
            guard (0xDC00..<0xE000).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (high - 0xD800) << 10 + (low - 0xDC00))
            else { throw error("half of a surrogate pair") }
            return scalar
        default:
            at -= 1
            throw error("no escape is written so")
        }
    }

    private mutating func hexadecimal() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard at < bytes.count, let digit = hexadecimalDigit(bytes[at]) else {
                throw error("four hexadecimal digits should be here")
            }
            value = value << 4 | digit
            at += 1
        }
        return value
    }

    private func hexadecimalDigit(_ byte: UInt8) -> UInt32? {
        switch byte {
        case 48...57: UInt32(byte) - 48
        case 65...70: UInt32(byte) - 55
        case 97...102: UInt32(byte) - 87
        default: nil
        }
    }
}

/// A text by its bytes: é composed and é decomposed are two.
struct ByteKey: Hashable {
    let text: String
    static func == (left: ByteKey, right: ByteKey) -> Bool { left.text.utf8.elementsEqual(right.text.utf8) }
    func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}
