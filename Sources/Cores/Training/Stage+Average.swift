import Compute
import Exchange
import Kernels
import Primitives

/// One contributor's messages for the pieces of a chunk.
struct AverageInput {
    var rank: Int
    /// Micro-batches counted in it.
    var weight: Int
    var pieces: ArraySlice<ArraySlice<UInt8>>
}

/// Whose part cannot be averaged, and why.
struct Refused: Error {
    let rank: Int
    let why: String
}

/// The average of pseudo-gradients: the same for whoever adds up a chunk, be it one owner or everybody.
extension Stage {
    /// A contribution to a chunk is scaled down where its norm is more than this many times the group's median. Honest
    /// contributions stay below it, so that their average is the plain one, bit for bit.
    static let clipTolerance: Float = 2

    /// In rank order: dense codecs weighted by micro-batches, sparse ones over those that sent the entry, each with its norm
    /// over the chunk clipped (``normClip(norms:tolerance:)``). Writes every value of the pieces.
    ///
    /// - Parameter start: where `target` begins in the stage's layout.
    func average(
        _ inputs: [AverageInput], _ pieces: ArraySlice<Range<Int>>, unit: Int, into target: FloatBuffer, from start: Int
    ) throws(Refused) {
        let codec = configuration.exchangeCodec
        let shapes = pieces.map { shape(of: $0, unit: unit) }
        var norms: [Float] = []
        var own = GradientSquares()
        let weights = Double(inputs.reduce(0) { $0 + $1.weight })
        // Two are not clipped; but what they say of their noise is kept, where all values are sent.
        for input in inputs where inputs.count >= 3 || inputs.count == 2 && !codec.isSparse {
            var sum = 0.0
            for (index, piece) in zip(pieces.indices, pieces) {
                let bytes = input.pieces[input.pieces.startIndex + index - pieces.startIndex]
                do throws(CodecError) {
                    sum += try codec.sumOfSquares(bytes, count: piece.count, shape: shapes[index - pieces.startIndex])
                } catch {
                    throw Refused(rank: input.rank, why: "\(error)")
                }
            }
            norms.append(Float(sum.squareRoot()))
            own.contributors += Double(input.weight) / weights * sum
        }
        let clips = norms.isEmpty ? inputs.map { _ in 1 } : normClip(norms: norms, tolerance: Self.clipTolerance)
        for (index, piece) in pieces.enumerated() {
            let messages = inputs.indices.map {
                WeightedMessage(
                    bytes: inputs[$0].pieces[inputs[$0].pieces.startIndex + index], weight: Float(inputs[$0].weight),
                    clip: clips[$0])
            }
            do throws(RefusedContribution) {
                try codec.contributorMean(
                    of: messages, shape: shapes[index],
                    into: target.values(piece.lowerBound - start..<piece.upperBound - start), workspace: room.mean)
            } catch {
                throw Refused(rank: inputs[error.position].rank, why: "\(error.reason)")
            }
            let first = piece.lowerBound - start
            own.mean += Double(kernels_sum_squares(piece.count, target.base + first))
        }
        if !codec.isSparse, clips.allSatisfy({ $0 == 1 }) { squares += own }
    }
}
