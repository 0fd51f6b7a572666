/// A large value behind one reference, copied only when it is changed while somebody else holds it too: a plain value to its
/// users, and cheap to hand around. For the few large parts that a core consists of.
public struct Indirect<Value> {
    @usableFromInline final class Storage {
        @usableFromInline var value: Value
        @inlinable init(_ value: Value) { self.value = value }
    }
    @usableFromInline var storage: Storage

    @inlinable public init(_ value: Value) { storage = Storage(value) }

    @inlinable public var value: Value {
        _read { yield storage.value }
        _modify {
            if !isKnownUniquelyReferenced(&storage) { storage = Storage(storage.value) }
            yield &storage.value
        }
    }
}
/// The storage is never changed while it is shared.
extension Indirect: @unchecked Sendable where Value: Sendable {}
