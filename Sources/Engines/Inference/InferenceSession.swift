import Kernels
public import Primitives

/// A text being read or written by a model: the keys and values of all its tokens, so that each new one costs one pass over the
/// weights. The same numbers on every machine and for any number of threads.
public final class InferenceSession {
    /// Rows of one pass while a text is read.
    static let passRows = 128
    /// Rows for which weights are read where they lie.
    static let fewRows = 4
    /// Rows of logits at once.
    static let logitRows = 16

    public let model: InferenceModel
    public let capacity: Int
    /// Tokens read so far.
    public private(set) var position = 0
    private let threads: Int32
    private let offsets: InferenceModel.Offsets
    private let rope: RopeTable
    /// By layer: [kvHeads, capacity, headSize].
    private var keys: [Memory] = []
    private var values: [Memory] = []
    private let work: Workspace
    private var shape: ModelShape { model.shape }

    /// Memory of the caller's machine, 64-byte aligned.
    final class Memory {
        let base: UnsafeMutablePointer<Float>
        init(_ count: Int) {
            let raw = UnsafeMutableRawPointer.allocate(byteCount: max(64, 4 * count), alignment: 64)
            base = raw.bindMemory(to: Float.self, capacity: max(16, count))
            base.initialize(repeating: 0, count: max(16, count))
        }
        deinit { UnsafeMutableRawPointer(base).deallocate() }
    }

    private struct Workspace {
        let residual, normed, scale, qkv, attended, gateUp, gated, logits, widened, gain: Memory
        init(_ shape: ModelShape) {
            let rows = InferenceSession.passRows
            residual = Memory(rows * shape.hiddenSize)
            normed = Memory(rows * max(shape.hiddenSize, shape.headSize))
            scale = Memory(rows * max(1, shape.heads))
            qkv = Memory(rows * (shape.querySize + 2 * shape.kvSize))
            attended = Memory(rows * shape.querySize)
            gateUp = Memory(rows * 2 * shape.intermediateSize)
            gated = Memory(rows * shape.intermediateSize)
            logits = Memory(InferenceSession.logitRows * shape.vocabulary)
            widened = Memory(
                InferenceSession.widenedRows
                    * max(shape.hiddenSize, shape.querySize, shape.intermediateSize))
            gain = Memory(max(shape.hiddenSize, shape.querySize + 2 * shape.kvSize, shape.headSize))
        }
    }
    /// Outputs whose weights are widened at once.
    static let widenedRows = 256

    /// Room for `capacity` tokens.
    public init(_ model: InferenceModel, capacity: Int, threads: Int) {
        precondition(capacity > 0, "a session of \(capacity) tokens")
        self.model = model
        self.capacity = capacity
        self.threads = Int32(clamping: max(1, threads))
        offsets = InferenceModel.Offsets(model.shape)
        rope = RopeTable(model.shape, length: capacity)
        work = Workspace(model.shape)
        for _ in 0..<model.shape.layers {
            keys.append(Memory(model.shape.kvSize * capacity))
            values.append(Memory(model.shape.kvSize * capacity))
        }
    }

    /// Bytes that a session of this many tokens takes.
    public static func memory(_ shape: ModelShape, capacity: Int) -> Int {
        4
            * (2 * shape.layers * shape.kvSize * capacity + logitRows * shape.vocabulary
                + passRows
                * (2 * shape.hiddenSize + 2 * shape.querySize + 2 * shape.kvSize + 3 * shape.intermediateSize)
                + capacity * shape.headSize)
    }

    /// Forgets what came after the first `count` tokens.
    public func keep(_ count: Int) {
        precondition(count >= 0 && count <= position, "\(count) of \(position) tokens")
        position = count
    }

    /// Reads tokens, of which the first comes after all before. The logits [V] after the last, valid until the next call; all
    /// tokens are below the vocabulary, and there is room for them.
    public func read(_ tokens: [Int32]) -> UnsafeBufferPointer<Float> {
        precondition(!tokens.isEmpty && position + tokens.count <= capacity, "no room for \(tokens.count) tokens")
        forEachPass(tokens) { rows, isLast in
            if isLast { logits(rows - 1..<rows) }
        }
        return UnsafeBufferPointer(start: work.logits.base, count: shape.vocabulary)
    }

    /// Reads tokens and answers −log p of each in nats, the first one's given what came before; nil for it where nothing did.
    /// `logits` is shown the logits before each token.
    public func losses(
        _ tokens: [Int32], logits show: ((Int, UnsafeBufferPointer<Float>) -> Void)? = nil
    ) -> [Float?] {
        precondition(!tokens.isEmpty && position + tokens.count <= capacity, "no room for \(tokens.count) tokens")
        var losses = [Float?](repeating: nil, count: tokens.count)
        var done = 0
        forEachPass(tokens) { rows, _ in
            for start in stride(from: 0, to: rows, by: Self.logitRows) {
                let part = start..<min(rows, start + Self.logitRows)
                // The row of the last token predicts what is not there.
                let targets = part.map { done + $0 + 1 < tokens.count ? tokens[done + $0 + 1] : 0 }
                logits(part)
                if let show {
                    for row in part where done + row + 1 < tokens.count {
                        let base = work.logits.base + (row - start) * shape.vocabulary
                        show(done + row + 1, UnsafeBufferPointer(start: base, count: shape.vocabulary))
                    }
                }
                var found = [Float](repeating: 0, count: part.count)
                kernels_cross_entropy(
                    threads, part.count, shape.vocabulary, work.logits.base, targets, 0, 0, &found)
                for (index, row) in part.enumerated() where done + row + 1 < tokens.count {
                    losses[done + row + 1] = found[index]
                }
            }
            done += rows
        }
        return losses
    }

    // MARK: passes

    private func forEachPass(_ tokens: [Int32], _ body: (_ rows: Int, _ isLast: Bool) -> Void) {
        for start in stride(from: 0, to: tokens.count, by: Self.passRows) {
            let part = tokens[start..<min(tokens.count, start + Self.passRows)]
            embed(part)
            for layer in 0..<shape.layers { block(layer, rows: part.count) }
            position += part.count
            body(part.count, start + part.count == tokens.count)
        }
    }

    private func embed(_ tokens: ArraySlice<Int32>) {
        let d = shape.hiddenSize
        for (row, token) in tokens.enumerated() {
            precondition(token >= 0 && Int(token) < shape.vocabulary, "token \(token)")
            copy(model.part(unit: 0, offset: Int(token) * d, count: d), to: work.residual.base + row * d)
        }
    }

    private func copy(_ part: InferenceModel.Part, to target: UnsafeMutablePointer<Float>) {
        switch part.storage {
        case .fp32: target.update(from: part.base.assumingMemoryBound(to: Float.self), count: part.count)
        case .bf16: kernels_widen_bf16(part.count, part.base.assumingMemoryBound(to: UInt16.self), target)
        }
    }

    /// A vector's values, valid until the next call.
    private func vector(_ unit: Int, _ offset: Int, _ count: Int) -> UnsafePointer<Float> {
        copy(model.part(unit: unit, offset: offset, count: count), to: work.gain.base)
        return UnsafePointer(work.gain.base)
    }

    /// y[rows, outputs] (+)= x[rows, inputs] · Wᵀ.
    private func linear(
        _ x: UnsafePointer<Float>, _ unit: Int, _ offset: Int, _ y: UnsafeMutablePointer<Float>, rows: Int, inputs: Int,
        outputs: Int, accumulate: Bool = false
    ) {
        let part = model.part(unit: unit, offset: offset, count: inputs * outputs)
        switch part.storage {
        case .fp32:
            let weight = part.base.assumingMemoryBound(to: Float.self)
            if rows <= Self.fewRows {
                kernels_matvec(threads, rows, outputs, inputs, weight, x, y, accumulate)
            } else {
                kernels_sgemm(rows, outputs, inputs, x, inputs, 1, weight, 1, inputs, y, outputs, accumulate, threads)
            }
        case .bf16:
            let weight = part.base.assumingMemoryBound(to: UInt16.self)
            if rows <= Self.fewRows {
                kernels_matvec_bf16(threads, rows, outputs, inputs, weight, x, y, accumulate)
                return
            }
            for start in stride(from: 0, to: outputs, by: Self.widenedRows) {
                let count = min(Self.widenedRows, outputs - start)
                kernels_widen_bf16(count * inputs, weight + start * inputs, work.widened.base)
                kernels_sgemm(
                    rows, count, inputs, x, inputs, 1, work.widened.base, 1, inputs, y + start, outputs, accumulate,
                    threads)
            }
        }
    }

    private func norm(
        _ x: UnsafePointer<Float>, _ unit: Int, _ offset: Int, _ y: UnsafeMutablePointer<Float>, rows: Int, width: Int
    ) {
        kernels_rmsnorm_forward(
            threads, rows, width, shape.normEpsilon, x, vector(unit, offset, width), y, work.scale.base)
    }

    private func add(_ unit: Int, _ offset: Int, _ y: UnsafeMutablePointer<Float>, rows: Int, width: Int, stride: Int) {
        let bias = vector(unit, offset, width)
        for row in 0..<rows {
            for index in 0..<width { y[row * stride + index] += bias[index] }
        }
    }

    private func block(_ layer: Int, rows: Int) {
        let unit = layer + 1
        let d = shape.hiddenSize, f = shape.intermediateSize
        let width = shape.querySize + 2 * shape.kvSize
        norm(work.residual.base, unit, offsets.inputGain, work.normed.base, rows: rows, width: d)
        linear(work.normed.base, unit, offsets.qkv, work.qkv.base, rows: rows, inputs: d, outputs: width)
        if let bias = offsets.qkvBias {
            add(unit, bias, work.qkv.base, rows: rows, width: width, stride: width)
        }
        normHeads(unit, rows: rows, width: width)
        if shape.usesRope(layer: layer) { turn(rows: rows, width: width) }
        attend(layer, rows: rows, width: width)
        linear(
            work.attended.base, unit, offsets.output, work.residual.base, rows: rows, inputs: shape.querySize,
            outputs: d,
            accumulate: true)
        if let bias = offsets.outputBias { add(unit, bias, work.residual.base, rows: rows, width: d, stride: d) }
        norm(work.residual.base, unit, offsets.middleGain, work.normed.base, rows: rows, width: d)
        linear(work.normed.base, unit, offsets.gateUp, work.gateUp.base, rows: rows, inputs: d, outputs: 2 * f)
        kernels_swiglu_forward(threads, rows, f, work.gateUp.base, work.gated.base)
        linear(
            work.gated.base, unit, offsets.down, work.residual.base, rows: rows, inputs: f, outputs: d, accumulate: true
        )
    }

    /// Each query's and key's head by itself.
    private func normHeads(_ unit: Int, rows: Int, width: Int) {
        guard let query = offsets.queryGain, let key = offsets.keyGain else { return }
        let size = shape.headSize
        for (offset, start, heads) in [(query, 0, shape.heads), (key, shape.querySize, shape.kvHeads)] {
            let gain = vector(unit, offset, size)
            for row in 0..<rows {
                let base = work.qkv.base + row * width + start
                kernels_rmsnorm_forward(1, heads, size, shape.normEpsilon, base, gain, base, work.scale.base)
            }
        }
    }

    private func turn(rows: Int, width: Int) {
        let half = shape.headSize / 2
        rope.cosines.withUnsafeBufferPointer { cosines in
            rope.sines.withUnsafeBufferPointer { sines in
                kernels_rope(
                    threads, rows, rows, shape.heads + shape.kvHeads, shape.headSize, width, work.qkv.base,
                    cosines.baseAddress! + position * half, sines.baseAddress! + position * half, false)
            }
        }
    }

    private func attend(_ layer: Int, rows: Int, width: Int) {
        let size = shape.headSize
        for row in 0..<rows {
            let key = work.qkv.base + row * width + shape.querySize
            for head in 0..<shape.kvHeads {
                let place = (head * capacity + position + row) * size
                (keys[layer].base + place).update(from: key + head * size, count: size)
                (values[layer].base + place).update(from: key + shape.kvSize + head * size, count: size)
            }
        }
        kernels_attend_cached(
            threads,
            kernels_cached_attention(
                rows: rows, position: position, heads: shape.heads, kv_heads: shape.kvHeads, head_size: size,
                capacity: capacity, q_stride: width),
            work.qkv.base, keys[layer].base, values[layer].base, work.attended.base)
    }

    /// Logits of some rows of the last pass, from the beginning of their buffer.
    private func logits(_ rows: Range<Int>) {
        let d = shape.hiddenSize
        let unit = shape.layers + 1
        norm(work.residual.base + rows.lowerBound * d, unit, 0, work.normed.base, rows: rows.count, width: d)
        linear(
            work.normed.base, shape.tieWordEmbeddings ? 0 : unit, shape.tieWordEmbeddings ? 0 : d, work.logits.base,
            rows: rows.count, inputs: d, outputs: shape.vocabulary)
    }
}
