import Kernels

/// Floats at an address that stays, aligned to 64 bytes, zero at first. Freed with its last owner.
///
/// Large ones are pages of their own: they take no memory before they are written to, and go back to the system at once.
package final class FloatBuffer {
    package let base: UnsafeMutablePointer<Float>
    package let count: Int

    package init(_ count: Int) {
        precondition(count >= 0, "a buffer of \(count) floats")
        self.count = count
        if count >= Self.large, let pages = kernels_take_pages(count * 4) {
            isMapped = true
            base = pages.bindMemory(to: Float.self, capacity: count)
            return
        }
        isMapped = false
        let raw = UnsafeMutableRawPointer.allocate(byteCount: max(1, count) * 4, alignment: 64)
        base = raw.bindMemory(to: Float.self, capacity: max(1, count))
        base.initialize(repeating: 0, count: max(1, count))
    }
    deinit {
        if isMapped { kernels_give_pages(base, count * 4) } else { UnsafeMutableRawPointer(base).deallocate() }
    }
    private let isMapped: Bool
    private static let large = 1 << 20

    package func zero() { base.update(repeating: 0, count: count) }
    package func copy(from other: FloatBuffer) { base.update(from: other.base, count: count) }
    /// Raw little-endian bytes of a range, as on the wire and on disk.
    package func rawBytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count * 4)
    }
    package func values(_ range: Range<Int>) -> UnsafeMutableBufferPointer<Float> {
        UnsafeMutableBufferPointer(start: base + range.lowerBound, count: range.count)
    }
    package var allValues: UnsafeMutableBufferPointer<Float> { values(0..<count) }
}

/// Buffers of one size, kept for reuse: gradients come and go with every step.
package final class BufferPool {
    package let count: Int
    private var free: [FloatBuffer] = []
    package init(count: Int) { self.count = count }
    /// With whatever it held last.
    package func take() -> FloatBuffer { free.popLast() ?? FloatBuffer(count) }
    package func takeZeroed() -> FloatBuffer {
        guard let buffer = free.popLast() else { return FloatBuffer(count) }
        buffer.zero()
        return buffer
    }
    package func giveBack(_ buffer: FloatBuffer) { free.append(buffer) }
}
