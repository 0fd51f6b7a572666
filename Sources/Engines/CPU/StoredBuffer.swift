import Compute
import Kernels
import Primitives

/// Numbers kept in one of the formats, read and written as fp32.
package final class StoredBuffer {
    package let count: Int
    let format: NumberFormat
    /// fp32 itself; of bf16 two in the place of one.
    private let storage: FloatBuffer

    package init(_ count: Int, format: NumberFormat) {
        self.count = count
        self.format = format
        storage = FloatBuffer(format == .fp32 ? count : (count + 1) / 2)
    }

    /// The numbers themselves where they are kept in fp32; nil elsewhere.
    package var plain: FloatBuffer? { format == .fp32 ? storage : nil }
    var bytes: Int { 4 * storage.count }

    private var halves: UnsafeMutablePointer<UInt16> {
        UnsafeMutableRawPointer(storage.base).assumingMemoryBound(to: UInt16.self)
    }
    /// From one place on, as kernels take it.
    func stored(from start: Int) -> kernels_stored {
        format == .fp32
            ? kernels_stored(values: storage.base + start, format: KERNELS_FP32)
            : kernels_stored(values: halves + start, format: KERNELS_BF16)
    }

    package func read(_ range: Range<Int>, into values: UnsafeMutablePointer<Float>) {
        switch format {
        case .fp32: values.update(from: storage.base + range.lowerBound, count: range.count)
        case .bf16: kernels_widen(1, range.count, halves + range.lowerBound, values)
        }
    }
    /// Rounded to the nearest.
    package func write(_ range: Range<Int>, from values: UnsafePointer<Float>) {
        switch format {
        case .fp32: (storage.base + range.lowerBound).update(from: values, count: range.count)
        case .bf16: kernels_narrow(1, range.count, values, halves + range.lowerBound)
        }
    }
    package func zero(_ range: Range<Int>) {
        switch format {
        case .fp32: (storage.base + range.lowerBound).update(repeating: 0, count: range.count)
        case .bf16: (halves + range.lowerBound).update(repeating: 0, count: range.count)
        }
    }
}
