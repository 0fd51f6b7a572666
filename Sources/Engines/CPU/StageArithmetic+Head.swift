import Compute
import Kernels
import Primitives

/// The final norm and the head, a stretch of rows at a time. Where the embeddings are the head too and the model is cut, the norm is
/// on the last stage and the table on the first: the same calls on the same numbers in the same order, on two machines.
extension StageArithmetic {
    func stretches(_ rows: Int) -> [Range<Int>] {
        stride(from: 0, to: rows, by: workspace.headRows).map { $0..<min(rows, $0 + workspace.headRows) }
    }

    // MARK: on the stage with the norm

    /// [rows, d]: the norm of some rows of `saved.output`, at most ``StageWorkspace/headRows``; 1/rms of each is in
    /// `workspace.headScale`.
    func finalNorm(
        _ weights: StageWeights, _ saved: SavedActivations, rows: Range<Int>, into normed: UnsafeMutablePointer<Float>
    ) {
        let d = shape.hiddenSize
        kernels_rmsnorm_forward(
            threads, rows.count, d, shape.normEpsilon, saved.output.base + rows.lowerBound * d, weights.finalGain,
            normed, workspace.headScale.base)
    }

    /// After ``finalNorm(_:_:rows:into:)`` of the same rows: `saved.output` becomes its own gradient, given that of its norm. Adds the
    /// gain's to `gradient`, in the layout's order, if there is one.
    func finalNormBackward(
        _ weights: StageWeights, _ gradient: UnsafeMutablePointer<Float>?, _ saved: SavedActivations, rows: Range<Int>,
        of normed: UnsafePointer<Float>
    ) {
        let d = shape.hiddenSize
        let w = workspace
        let output = saved.output.base + rows.lowerBound * d
        w.rowsC.base.update(repeating: 0, count: rows.count * d)
        kernels_rmsnorm_backward(
            threads, rows.count, d, output, weights.finalGain, w.headScale.base, normed, w.rowsC.base,
            gradient.map { $0 + headOffset } ?? w.unwanted.base)
        output.update(from: w.rowsC.base, count: rows.count * d)
    }

    /// What the last stage sends to the one that lends it the table.
    func finalNorms(
        _ weights: StageWeights, _ saved: SavedActivations, rows: Int, into normed: UnsafeMutablePointer<Float>
    ) {
        for part in stretches(rows) {
            finalNorm(weights, saved, rows: part, into: normed + part.lowerBound * shape.hiddenSize)
        }
    }

    /// And the other way: `saved.output` becomes its own gradient.
    func finalNormsBackward(
        _ weights: StageWeights, _ gradient: UnsafeMutablePointer<Float>?, _ saved: SavedActivations, rows: Int,
        of normed: UnsafePointer<Float>
    ) {
        for part in stretches(rows) {
            finalNorm(weights, saved, rows: part, into: workspace.rowsA.base)
            finalNormBackward(
                weights, gradient, saved, rows: part, of: normed + part.lowerBound * shape.hiddenSize)
        }
    }

    // MARK: on the stage with the table

    /// The loss of `normed` [rows, d], which fills `saved.losses`. Fills `inputGradient` with the gradient of `normed`, and adds the
    /// table's to `gradient`, in the layout's order, of which the table is the first; as far as they are given.
    func lentHead(
        _ weights: StageWeights, _ normed: UnsafePointer<Float>, _ saved: SavedActivations, rows: Int,
        inputGradient: UnsafeMutablePointer<Float>? = nil, gradient: UnsafeMutablePointer<Float>? = nil
    ) {
        let d = shape.hiddenSize
        for part in stretches(rows) {
            let own = normed + part.lowerBound * d
            crossEntropy(weights, own, saved, rows: part, of: rows)
            if let inputGradient {
                normedGradient(weights, rows: part.count, into: inputGradient + part.lowerBound * d)
            }
            if let gradient {
                linearWeightGradient(workspace.logits.base, own, gradient, part.count, d, shape.vocabulary)
            }
        }
    }

    /// Fills losses of some rows, and leaves the gradient of their logits in `workspace.logits`.
    func crossEntropy(
        _ weights: StageWeights, _ normed: UnsafePointer<Float>, _ saved: SavedActivations, rows: Range<Int>,
        of all: Int
    ) {
        let logits = logits(weights, normed, rows: rows.count)
        saved.text.targets.withUnsafeBufferPointer { targets in
            kernels_cross_entropy(
                threads, rows.count, shape.vocabulary, logits, targets.baseAddress! + rows.lowerBound, 1 / Float(all),
                zLoss, saved.losses!.base + rows.lowerBound)
        }
    }

    /// `normed` [rows, d] times the table's transpose, in `workspace.logits` [rows, V].
    func logits(
        _ weights: StageWeights, _ normed: UnsafePointer<Float>, rows: Int
    ) -> UnsafeMutablePointer<Float> {
        let d = shape.hiddenSize
        let logits = workspace.logits.base
        weights.headTable { classes, table in
            kernels_sgemm(
                rows, classes.count, d, normed, d, 1, table, 1, d, logits + classes.lowerBound, shape.vocabulary, false,
                threads)
        }
        return logits
    }

    /// Of the logits' gradient in `workspace.logits`: that of what they were made of, [rows, d].
    func normedGradient(_ weights: StageWeights, rows: Int, into gradient: UnsafeMutablePointer<Float>) {
        let d = shape.hiddenSize
        weights.headTable { classes, table in
            kernels_sgemm(
                rows, d, classes.count, workspace.logits.base + classes.lowerBound, shape.vocabulary, 1, table, d, 1,
                gradient, d, classes.lowerBound > 0, threads)
        }
    }
}
