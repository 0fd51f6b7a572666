/// Builds a ``Happening`` from its name and a source of field values, by the decoding that the compiler derives for it: the
/// counterpart of ``FieldEncoder``. The source is asked for each field in the order of the declaration.
package struct FieldDecoder: Decoder {
    package enum Kind: Hashable, Sendable { case integer, real, text, truth }
    /// What a declaration says of one payload.
    package struct Request: Hashable, Sendable {
        /// In snake case.
        package var field: String
        package var kind: Kind
        /// The field may be absent.
        package var isOptional: Bool
    }
    let name: String
    let source: (Request) -> Event.Value?
    package var codingPath: [any CodingKey] { [] }
    package var userInfo: [CodingUserInfoKey: Any] { [:] }

    package func container<Key>(keyedBy type: Key.Type) -> KeyedDecodingContainer<Key> {
        KeyedDecodingContainer(CaseContainer<Key>(name: name, source: source))
    }
    package func unkeyedContainer() throws -> any UnkeyedDecodingContainer { throw notThere("an unkeyed container") }
    package func singleValueContainer() throws -> any SingleValueDecodingContainer { throw notThere("a single value") }
}

private func notThere(_ what: String) -> DecodingError {
    .dataCorrupted(.init(codingPath: [], debugDescription: "a case has no \(what)"))
}

/// Says which case it is.
private struct CaseContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let name: String
    let source: (FieldDecoder.Request) -> Event.Value?
    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { Key(stringValue: name).map { [$0] } ?? [] }

    func contains(_ key: Key) -> Bool { key.stringValue == name }
    func decodeNil(forKey key: Key) -> Bool { !contains(key) }
    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value { throw notThere("plain value") }
    func nestedContainer<Nested>(keyedBy type: Nested.Type, forKey key: Key) -> KeyedDecodingContainer<Nested> {
        KeyedDecodingContainer(PayloadContainer<Nested>(source: source))
    }
    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer { throw notThere("list") }
    func superDecoder() throws -> any Decoder { throw notThere("super") }
    func superDecoder(forKey key: Key) throws -> any Decoder { throw notThere("super") }
}

/// Asks the source for each payload; numbers are taken as the declaration wants them, where that loses nothing.
private struct PayloadContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let source: (FieldDecoder.Request) -> Event.Value?
    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { [] }

    private func value(_ key: Key, _ kind: FieldDecoder.Kind, optional: Bool) -> Event.Value? {
        source(.init(field: snakeCase(key.stringValue), kind: kind, isOptional: optional))
    }
    private func demand<Value>(_ key: Key, _ value: Value?) throws -> Value {
        guard let value else {
            throw DecodingError.keyNotFound(key, .init(codingPath: [], debugDescription: "absent, or of another kind"))
        }
        return value
    }
    private func integer(_ key: Key, optional: Bool) -> Int? {
        switch value(key, .integer, optional: optional) {
        case .integer(let n)?: n
        case .real(let x)?: Int(exactly: x)
        default: nil
        }
    }
    private func real(_ key: Key, optional: Bool) -> Double? {
        switch value(key, .real, optional: optional) {
        case .integer(let n)?: Double(n)
        case .real(let x)?: x
        default: nil
        }
    }
    private func text(_ key: Key, optional: Bool) -> String? {
        if case .text(let text)? = value(key, .text, optional: optional) { text } else { nil }
    }
    private func truth(_ key: Key, optional: Bool) -> Bool? {
        switch value(key, .truth, optional: optional) {
        case .text("yes")?: true
        case .text("no")?: false
        default: nil
        }
    }

    // Absence shows when the value is asked for.
    func contains(_ key: Key) -> Bool { true }
    func decodeNil(forKey key: Key) -> Bool { false }
    func decode(_ type: Int.Type, forKey key: Key) throws -> Int { try demand(key, integer(key, optional: false)) }
    func decode(_ type: Double.Type, forKey key: Key) throws -> Double { try demand(key, real(key, optional: false)) }
    func decode(_ type: String.Type, forKey key: Key) throws -> String { try demand(key, text(key, optional: false)) }
    func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { try demand(key, truth(key, optional: false)) }
    func decodeIfPresent(_ type: Int.Type, forKey key: Key) -> Int? { integer(key, optional: true) }
    func decodeIfPresent(_ type: Double.Type, forKey key: Key) -> Double? { real(key, optional: true) }
    func decodeIfPresent(_ type: String.Type, forKey key: Key) -> String? { text(key, optional: true) }
    func decodeIfPresent(_ type: Bool.Type, forKey key: Key) -> Bool? { truth(key, optional: true) }
    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value { throw notThere("\(type)") }

    func nestedContainer<Nested>(
        keyedBy type: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> { throw notThere("nested value") }
    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer { throw notThere("list") }
    func superDecoder() throws -> any Decoder { throw notThere("super") }
    func superDecoder(forKey key: Key) throws -> any Decoder { throw notThere("super") }
}
