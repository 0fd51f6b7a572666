/// A large value behind one reference, copied only when it is changed while somebody else holds it too: a plain value to its
/// users, and cheap to hand around. For the few large parts that a core consists of.
///
/// It is looked at where it lies: reading one field of it copies nothing and counts no references. (A coroutine accessor would
/// copy the whole value out to whoever asks for one field.)
public struct Indirect<Value> {
    @usableFromInline final class Storage {
        @usableFromInline let place: UnsafeMutablePointer<Value>
        @inlinable init(_ value: consuming Value) {
            place = .allocate(capacity: 1)
            place.initialize(to: value)
        }
        deinit {
            place.deinitialize(count: 1)
            place.deallocate()
        }
    }
    @usableFromInline var storage: Storage

    @inlinable public init(_ value: consuming Value) { storage = Storage(value) }

    /// The storage lives as long as this value is borrowed, so its address holds for the whole access.
    @inlinable public var value: Value {
        unsafeAddress { UnsafePointer(storage.place) }
        unsafeMutableAddress { mutableAddress() }
    }
    /// For accessors of tables that hand out where a value lies; valid while this value is borrowed.
    @inlinable public var address: UnsafePointer<Value> { UnsafePointer(storage.place) }
    /// The same, for changing it: from now on nobody else holds it.
    @inlinable public mutating func mutableAddress() -> UnsafeMutablePointer<Value> {
        if !isKnownUniquelyReferenced(&storage) { storage = Storage(storage.place.pointee) }
        return storage.place
    }
}
/// The storage is never changed while it is shared.
extension Indirect: @unchecked Sendable where Value: Sendable {}
