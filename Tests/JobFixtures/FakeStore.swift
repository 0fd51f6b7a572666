public import Wire

/// A store of a test's, for one thread: it shows its bytes where they lie, and somebody may write to them.
public final class FakeStore: ByteStore, @unchecked Sendable {
    private let place: UnsafeMutableRawBufferPointer
    public init(_ bytes: [UInt8]) {
        place = .allocate(byteCount: bytes.count, alignment: 16)
        place.copyBytes(from: bytes)
    }
    deinit { place.deallocate() }

    public func fill(_ offset: Int, _ target: UnsafeMutableRawBufferPointer) -> Bool {
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: place[offset..<offset + target.count]))
        return true
    }
    public func put(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        UnsafeMutableRawBufferPointer(rebasing: place[offset...]).copyMemory(from: bytes)
        return true
    }
    public func map(_ range: Range<Int>) -> UnsafeRawBufferPointer? { UnsafeRawBufferPointer(rebasing: place[range]) }
}
