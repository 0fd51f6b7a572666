import Kernels
public import Primitives

// Defaults against faulty members: what is not finite is refused by the decoders; what is too large is scaled down
// here. A minority can then shift a mean by about as many median norms a round as are tolerated, and no further. Against
// members that are malicious rather than broken this bounds the damage of a round; it does not find them (audits do).

/// For each contributor the factor on its values: min(1, tolerance · median ÷ norm), as run for Covenant-72B with a
/// tolerance of 1 (one-covenant/templar).
///
/// The median is that of the contributors' norms (of an even number of them the lower middle one, so that half of the
/// group cannot raise it alone). With fewer than three norms nothing can be called too large, and all factors are 1; so
/// are they where the median is 0. Norms are finite and not negative; the order is that of the input.
public func normClip(norms: [Float], tolerance: Float = 1) -> [Float] {
    guard norms.count >= 3 else { return norms.map { _ in 1 } }
    let limit = norms.sorted()[(norms.count - 1) / 2] * tolerance
    guard limit > 0 else { return norms.map { _ in 1 } }
    return norms.map { $0 > limit ? limit / $0 : 1 }
}

extension Codec {
    /// Σ value² of an encoded tensor of `count` values, in double precision and a fixed order: sixteen partial sums
    /// (entry i to sum i mod 16; for `sparse` the entries sent), folded 16 → 8 → 4 → 2 → 1.
    ///
    /// A contributor's norm is the square root of the sum over its tensors in canonical order.
    public func sumOfSquares(
        _ bytes: ArraySlice<UInt8>, count: Int, shape: [Int] = []
    ) throws(CodecError) -> Double {
        try Message(bytes, codec: self, count: count, shape: shape).sumOfSquares()
    }
}
