/// A JSON value (RFC 8259) as it was written: members in their order, numbers as their digits.
///
/// Beside Foundation's reader because that one keeps neither order nor places, takes the last of two equal keys in
/// silence, and looks keys up by canonical equivalence: a vocabulary that holds é twice, composed and decomposed, would
/// lose one of them.
public indirect enum JSONValue: Sendable {
    case null
    case bool(Bool)
    case number(JSONNumber)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    /// What kind of value it is, in words for errors.
    public var kind: String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .number(let number): number.text
        case .string(let text): "“\(text.prefix(80))”"
        case .array: "an array"
        case .object: "an object"
        }
    }

    public var isNull: Bool { if case .null = self { true } else { false } }
    public var text: String? { if case .string(let text) = self { text } else { nil } }
    public var flag: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var array: [JSONValue]? { if case .array(let values) = self { values } else { nil } }
    public var object: JSONObject? { if case .object(let object) = self { object } else { nil } }
    /// A number that is whole and fits: 12, 12.0 and 1.2e1 alike.
    public var integer: Int? { if case .number(let number) = self { number.integer } else { nil } }
    public var double: Double? { if case .number(let number) = self { number.double } else { nil } }
}

/// A number as its digits, so that what is carried through a file comes out as it went in.
public struct JSONNumber: Hashable, Sendable {
    public let text: String

    /// `text` must be a number in JSON's grammar.
    init(text: String) { self.text = text }
    public init(_ value: Int) { text = String(value) }
    /// A finite number; the shortest digits that give it back.
    public init(_ value: Double) {
        precondition(value.isFinite, "JSON has no \(value)")
        text = value == value.rounded() && abs(value) < 1e15 ? "\(Int(value)).0" : "\(value)"
    }
    /// A finite number; the shortest digits that give it back in single precision.
    public init(shortest value: Float) {
        precondition(value.isFinite, "JSON has no \(value)")
        text = "\(value)"
    }

    public var integer: Int? {
        if let value = Int(text) { return value }
        guard let value = Double(text), value == value.rounded(), abs(value) <= 0x1p53 else { return nil }
        return Int(value)
    }
    /// nil where it is beyond what a double holds.
    public var double: Double? { Double(text).flatMap { $0.isFinite ? $0 : nil } }
}

/// Members in the order in which they were written; no key occurs twice.
public struct JSONObject: Sendable {
    public struct Member: Sendable {
        public let key: String
        public var value: JSONValue
        public init(_ key: String, _ value: JSONValue) {
            self.key = key
            self.value = value
        }
    }
    public private(set) var members: [Member]

    public init() { members = [] }
    /// Of keys that differ.
    public init(_ members: [Member]) { self.members = members }

    /// Looks through the members in order: for objects of a few keys. Setting nil removes the member; a new one is added
    /// last.
    public subscript(key: String) -> JSONValue? {
        get { members.first { $0.key.utf8.elementsEqual(key.utf8) }?.value }
        set {
            let index = members.firstIndex { $0.key.utf8.elementsEqual(key.utf8) }
            switch (index, newValue) {
            case (let index?, let value?): members[index].value = value
            case (let index?, nil): members.remove(at: index)
            case (nil, let value?): members.append(Member(key, value))
            case (nil, nil): break
            }
        }
    }
}

extension JSONValue: Equatable {
    /// Strings are equal when their bytes are; objects when keys, order and values are.
    public static func == (left: JSONValue, right: JSONValue) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.number(let a), .number(let b)): a == b
        case (.string(let a), .string(let b)): a.utf8.elementsEqual(b.utf8)
        case (.array(let a), .array(let b)): a == b
        case (.object(let a), .object(let b)):
            a.members.count == b.members.count
                && zip(a.members, b.members).allSatisfy {
                    $0.key.utf8.elementsEqual($1.key.utf8) && $0.value == $1.value
                }
        default: false
        }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByNilLiteral, ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .number(JSONNumber(value)) }
    public init(floatLiteral value: Double) { self = .number(JSONNumber(value)) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(nilLiteral: ()) { self = .null }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(JSONObject(elements.map { JSONObject.Member($0.0, $0.1) }))
    }
    public init(_ value: Int) { self = .number(JSONNumber(value)) }
    public init(_ value: Double) { self = .number(JSONNumber(value)) }
}

/// Where a text is no JSON, and why.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    /// From 1; the column counts bytes.
    public let line: Int
    public let column: Int
    public let problem: String
    public var description: String { "line \(line), column \(column): \(problem)" }
}
