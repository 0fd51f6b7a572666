/// Floats at an address that stays, aligned to 64 bytes, zero at first. Freed with its last owner.
final class FloatBuffer {
    let base: UnsafeMutablePointer<Float>
    let count: Int

    init(_ count: Int) {
        precondition(count >= 0, "a buffer of \(count) floats")
        self.count = count
        let raw = UnsafeMutableRawPointer.allocate(byteCount: max(1, count) * 4, alignment: 64)
        base = raw.bindMemory(to: Float.self, capacity: max(1, count))
        base.initialize(repeating: 0, count: max(1, count))
    }
    deinit { UnsafeMutableRawPointer(base).deallocate() }

    func zero() { base.update(repeating: 0, count: count) }
    func copy(from other: FloatBuffer) { base.update(from: other.base, count: count) }
    /// Raw little-endian bytes of a range, as on the wire and on disk.
    func rawBytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count * 4)
    }
    func values(_ range: Range<Int>) -> UnsafeMutableBufferPointer<Float> {
        UnsafeMutableBufferPointer(start: base + range.lowerBound, count: range.count)
    }
    var allValues: UnsafeMutableBufferPointer<Float> { values(0..<count) }
}

/// Buffers of one size, kept for reuse: gradients come and go with every step.
struct BufferPool {
    let count: Int
    private var free: [FloatBuffer] = []
    init(count: Int) { self.count = count }
    mutating func takeZeroed() -> FloatBuffer {
        guard let buffer = free.popLast() else { return FloatBuffer(count) }
        buffer.zero()
        return buffer
    }
    mutating func giveBack(_ buffer: FloatBuffer) { free.append(buffer) }
}
