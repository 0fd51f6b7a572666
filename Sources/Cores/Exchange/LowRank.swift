import Kernels
import Primitives

/// What a sender of `lowrank` keeps from one message to the next for one tensor, beside the error feedback: the right
/// factors, where the next search begins. One step of it a message is then enough, because gradients change slowly.
public final class WarmStart {
    /// [rank, columns]; empty before the first message.
    public internal(set) var right: [Float]
    public init(right: [Float] = []) { self.right = right }
}

/// A matrix [rows, columns] as the product of `rank` columns and `rank` rows: PowerSGD (Vogels et al. 2019, arXiv
/// 1905.13727, algorithm 1), with error feedback and warm start.
///
/// Where it leaves the paper: there the left factors are averaged before they are made orthonormal, and the right ones
/// after that, in two all-reduces; all workers then share one subspace. Here a message is one worker's own pair, so that
/// it stands for itself like every other codec's, can be weighed, clipped, left out and audited, and takes one trip; the
/// mean of M messages has up to M · rank columns.
struct LowRank {
    let rows: Int
    let columns: Int
    let rank: Int

    /// Bounds of the factors, so that no product or sum overflows: rank ≤ 64, 64 · 2 · 2¹²⁰ = 2¹²⁷.
    private static let leftMax: Float = 2
    private static let rightMax: Float = 0x1p120

    func encode(
        _ values: UnsafeBufferPointer<Float>, feedback: UnsafeMutableBufferPointer<Float>?, warmStart: WarmStart?
    ) -> [UInt8] {
        let count = rows * columns
        guard let numbers = values.baseAddress else { return [] }
        let matrix = UnsafeMutablePointer<Float>.allocate(capacity: count)
        defer { matrix.deallocate() }
        var isFinite = true
        for index in 0..<count {
            matrix[index] = feedback.map { $0[index] + numbers[index] } ?? numbers[index]
            if !matrix[index].isFinite { isFinite = false }
        }
        var right = warmStart?.right ?? []
        var left = [Float](repeating: 0, count: rank * rows)
        let isWarm = right.count == rank * columns && right.contains { $0 != 0 }
        if !isWarm { right = start }
        if isFinite {
            // From a start that knows nothing, a second step of subspace iteration.
            for _ in 0..<(isWarm ? 1 : 2) {
                kernels_codec_lowrank_project(matrix, rows, columns, right, rank, &left)
                kernels_codec_lowrank_orthonormalise(&left, rank, rows)
                kernels_codec_lowrank_project_back(matrix, rows, columns, left, rank, &right)
            }
        }
        let bytes = (left + right).withUnsafeBytes { [UInt8]($0) }
        guard isFinite, bytes.withUnsafeBufferPointer({ problem($0.baseAddress!) }) == nil else {
            // Refused by every receiver; what is finite waits for the next message.
            for index in 0..<count { feedback?[index] = matrix[index].isFinite ? matrix[index] : 0 }
            return [0, 0, 0xC0, 0x7F] + [UInt8](repeating: 0, count: 4 * rank * (rows + columns) - 4)
        }
        if let feedback {
            let decoded = UnsafeMutablePointer<Float>.allocate(capacity: count)
            defer { decoded.deallocate() }
            kernels_codec_lowrank_expand(left, right, rows, columns, rank, decoded)
            for index in 0..<count { feedback[index] = matrix[index] - decoded[index] }
        }
        warmStart?.right = right
        return bytes
    }

    /// Numbers without a preferred direction, the same for every matrix of this width.
    private var start: [Float] {
        var generator = SeededGenerator(seed: 0x10_7261_6E6B)
        return (0..<rank * columns).map { _ in Float(generator.uniform() - 0.5) }
    }

    /// Why a message of the right length is refused, if it is.
    func problem(_ bytes: UnsafePointer<UInt8>) -> CodecError? {
        guard kernels_codec_fp32_finite(bytes, rank * (rows + columns)) else { return .notFinite }
        let raw = UnsafeRawPointer(bytes)
        for index in 0..<rank * (rows + columns) {
            let value = raw.loadUnaligned(fromByteOffset: 4 * index, as: Float.self)
            let limit = index < rank * rows ? Self.leftMax : Self.rightMax
            guard value.magnitude <= limit else {
                return .malformed("lowrank: a factor of \(value); at most \(limit) is allowed there")
            }
        }
        return nil
    }

    func decode(_ bytes: UnsafePointer<UInt8>, into values: UnsafeMutablePointer<Float>) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: rank * (rows + columns)) { factors in
            UnsafeMutableRawBufferPointer(factors).copyMemory(
                from: UnsafeRawBufferPointer(start: bytes, count: 4 * factors.count))
            kernels_codec_lowrank_expand(
                factors.baseAddress!, factors.baseAddress! + rank * rows, rows, columns, rank, values)
        }
    }
}
