import Wire

/// Bytes in memory that can be lost.
final class TestStore: ByteStore, @unchecked Sendable {
    private var bytes: [UInt8]
    /// Bytes from here on are not given back.
    var gone = Int.max
    /// The last byte that was asked for.
    private(set) var most = 0
    init(_ bytes: [UInt8] = []) { self.bytes = bytes }

    func fill(_ offset: Int, _ target: UnsafeMutableRawBufferPointer) -> Bool {
        most = max(most, offset + target.count)
        guard offset + target.count <= min(bytes.count, gone) else { return false }
        target.copyBytes(from: bytes[offset..<offset + target.count])
        return true
    }
    func put(_ new: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        if bytes.count < offset + new.count { bytes += [UInt8](repeating: 0, count: offset + new.count - bytes.count) }
        bytes.replaceSubrange(offset..<offset + new.count, with: new)
        return true
    }
}
final class TestRoom: ByteRoom, @unchecked Sendable {
    private(set) var stores: [TestStore] = []
    let leastContribution = 0

    func store(_ bytes: Int) -> (any ByteStore)? {
        stores.append(TestStore())
        return stores.last
    }
}

extension StoredBytes {
    /// All of them, to be looked at and changed.
    var array: [UInt8] {
        get { all! }
        set { self = StoredBytes(newValue) }
    }
}
