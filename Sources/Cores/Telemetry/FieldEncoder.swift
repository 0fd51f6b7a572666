/// Reads kind and fields off a ``Happening`` by the encoding that the compiler derives for it: one keyed container named as the
/// case, in it one value a payload, under its label, in the order of the declaration. No table that could lag behind.
struct FieldEncoder: Encoder {
    /// What was read; a class because containers of an encoding are copies of each other.
    final class Reading {
        var name = ""
        var fields: [Event.Field] = []
    }
    let reading = Reading()
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        KeyedEncodingContainer(CaseContainer<Key>(reading: reading))
    }
    func unkeyedContainer() -> any UnkeyedEncodingContainer { preconditionFailure("a case is encoded by its name") }
    func singleValueContainer() -> any SingleValueEncodingContainer {
        preconditionFailure("a case is encoded by its name")
    }
}

/// Names the case.
private struct CaseContainer<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let reading: FieldEncoder.Reading
    var codingPath: [any CodingKey] { [] }

    mutating func nestedContainer<Nested>(
        keyedBy type: Nested.Type, forKey key: Key
    ) -> KeyedEncodingContainer<Nested> {
        reading.name = key.stringValue
        return KeyedEncodingContainer(PayloadContainer<Nested>(reading: reading))
    }
    mutating func encodeNil(forKey key: Key) {}
    mutating func encode<Value: Encodable>(_ value: Value, forKey key: Key) {}
    mutating func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
        preconditionFailure("\(key.stringValue): a payload is labelled")
    }
    mutating func superEncoder() -> any Encoder { FieldEncoder() }
    mutating func superEncoder(forKey key: Key) -> any Encoder { FieldEncoder() }
}

/// Collects the payload; a payload that is nil is left out.
private struct PayloadContainer<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let reading: FieldEncoder.Reading
    var codingPath: [any CodingKey] { [] }

    private func put(_ key: Key, _ value: Event.Value) {
        reading.fields.append(Event.Field(name: snakeCase(key.stringValue), value: value))
    }
    mutating func encodeNil(forKey key: Key) {}
    mutating func encode(_ value: Int, forKey key: Key) { put(key, .integer(value)) }
    mutating func encode(_ value: Double, forKey key: Key) { put(key, .real(value)) }
    mutating func encode(_ value: String, forKey key: Key) { put(key, .text(value)) }
    mutating func encode(_ value: Bool, forKey key: Key) { put(key, .text(value ? "yes" : "no")) }
    mutating func encode<Value: Encodable>(_ value: Value, forKey key: Key) {
        preconditionFailure("\(key.stringValue): a payload is an Int, Double, String or Bool, not \(Value.self)")
    }
    mutating func nestedContainer<Nested>(
        keyedBy type: Nested.Type, forKey key: Key
    ) -> KeyedEncodingContainer<Nested> { preconditionFailure("\(key.stringValue): a payload is one value") }
    mutating func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
        preconditionFailure("\(key.stringValue): a payload is one value")
    }
    mutating func superEncoder() -> any Encoder { FieldEncoder() }
    mutating func superEncoder(forKey key: Key) -> any Encoder { FieldEncoder() }
}

/// `memoryMib` as `memory_mib`.
func snakeCase(_ name: String) -> String {
    var out = ""
    for letter in name.unicodeScalars {
        if ("A"..."Z").contains(letter) {
            out += "_"
            out.unicodeScalars.append(Unicode.Scalar(letter.value + 32)!)
        } else {
            out.unicodeScalars.append(letter)
        }
    }
    return out
}
