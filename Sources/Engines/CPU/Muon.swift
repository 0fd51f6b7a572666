import Compute
import Kernels
import Primitives

/// The nearest matrix with all singular values near one (Jordan et al. 2024, “Muon: an optimizer for hidden layers in neural
/// networks”): five steps of a Newton–Schulz iteration, X ← aX + (bXXᵀ + c(XXᵀ)²)X, from X ÷ ‖X‖. All products have a fixed
/// order, so the bits are the same everywhere.
final class Orthogonaliser {
    private static let (a, b, c): (Float, Float, Float) = (3.4445, -4.7750, 2.0315)
    private static let steps = 5
    private let next, gram, polynomial: FloatBuffer
    private let threads: Int32
    /// [largest matrix]: where the caller puts what is to become orthogonal.
    let matrix: FloatBuffer

    /// For the matrices of a model's blocks.
    init(_ shape: ModelShape, threads: Int32) {
        let shapes = shape.tensors(unit: 1).map(\.shape).filter { $0.count == 2 }
        let largest = shapes.map { $0[0] * $0[1] }.max()!
        let square = shapes.map { $0.min()! * $0.min()! }.max()!
        matrix = FloatBuffer(largest)
        next = FloatBuffer(largest)
        gram = FloatBuffer(square)
        polynomial = FloatBuffer(square)
        self.threads = threads
    }

    var buffers: [FloatBuffer] { [matrix, next, gram, polynomial] }

    /// `matrix`, [rows, columns], becomes orthogonal; a matrix of zeros stays.
    func run(rows: Int, columns: Int) {
        let count = rows * columns
        let norm = kernels_sum_squares(count, matrix.base).squareRoot()
        kernels_scale(threads, count, 1 / (norm + 1e-7), matrix.base)
        let side = min(rows, columns)
        for _ in 0..<Self.steps {
            let x = matrix.base
            if rows <= columns {
                kernels_sgemm(side, side, columns, x, columns, 1, x, 1, columns, gram.base, side, false, threads)
            } else {
                kernels_sgemm(side, side, rows, x, 1, columns, x, columns, 1, gram.base, side, false, threads)
            }
            kernels_sgemm(
                side, side, side, gram.base, side, 1, gram.base, side, 1, polynomial.base, side, false, threads)
            kernels_scale(threads, side * side, Self.c, polynomial.base)
            kernels_axpy(threads, side * side, Self.b, gram.base, polynomial.base)
            if rows <= columns {
                kernels_sgemm(
                    rows, columns, side, polynomial.base, side, 1, x, columns, 1, next.base, columns, false, threads)
            } else {
                kernels_sgemm(
                    rows, columns, side, x, columns, 1, polynomial.base, side, 1, next.base, columns, false, threads)
            }
            kernels_axpy(threads, count, Self.a, x, next.base)
            x.update(from: next.base, count: count)
        }
    }
}
