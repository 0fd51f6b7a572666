package import Primitives

extension Adapters {
    /// A [rank, in] of a matrix for a round that begins with these weights of it: uniform within ±1 ÷ √in, drawn from the seed, the
    /// tensor's name and the first weights, so that every holder has the same and each round others. B begins at zero.
    package func draw(
        _ tensor: ModelShape.Tensor, weights: UnsafePointer<Float>, seed: UInt64, into a: UnsafeMutablePointer<Float>
    ) {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325  // FNV-1a
        for byte in tensor.name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        for index in 0..<min(64, tensor.count) {
            hash = (hash ^ UInt64(weights[index].bitPattern)) &* 0x100_0000_01b3
        }
        var generator = SeededGenerator(seed: seed, stream: hash)
        let columns = tensor.shape[1]
        let width = 1 / Double(columns).squareRoot()
        for index in 0..<rank * columns { a[index] = Float((2 * generator.uniform() - 1) * width) }
    }

    /// Values of A of a unit's matrices that have adapters, together.
    package func inputValues(_ entries: ArraySlice<StageLayout.Entry>) -> Int {
        entries.reduce(0) { adapts($1.tensor) ? $0 + rank * $1.tensor.shape[1] : $0 }
    }
}
