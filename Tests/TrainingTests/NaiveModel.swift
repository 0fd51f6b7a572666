import Foundation
import Primitives

/// The model as its papers write it, in double arithmetic, one loop inside the other: what the engine is judged by.
struct NaiveModel {
    let shape: ModelShape
    /// By tensor name.
    var weights: [String: [Double]]
    var zLoss = 0.0

    /// Σ over sequences of the mean of −log p (plus the z-term) over all tokens, divided by the sequences: what a micro-batch's
    /// gradient is of. A target below zero bears no loss; the mean is over all tokens all the same.
    func loss(tokens: [[Int]], targets: [[Int]], firstSeen: [[Int]]? = nil) -> Double {
        var sum = 0.0
        for (sequence, own) in tokens.enumerated() {
            let logits = logits(own, firstSeen: firstSeen?[sequence])
            for (row, target) in zip(logits, targets[sequence]) where target >= 0 {
                let top = row.max()!
                let size = top + log(row.reduce(0) { $0 + exp($1 - top) })
                sum += size - row[target] + zLoss * size * size
            }
        }
        return sum / Double(tokens.count * tokens[0].count)
    }

    /// [T][V].
    func logits(_ tokens: [Int], firstSeen: [Int]? = nil) -> [[Double]] {
        let d = shape.hiddenSize
        let table = weights["model.embed_tokens.weight"]!
        var x = tokens.map { Array(table[$0 * d..<($0 + 1) * d]) }
        for layer in 0..<shape.layers { block(layer, &x, firstSeen) }
        let gain = weights["model.norm.weight"]!
        let head = weights["lm_head.weight"] ?? table
        return x.map { product(head, norm($0, gain), rows: shape.vocabulary) }
    }

    private func block(_ layer: Int, _ x: inout [[Double]], _ firstSeen: [Int]?) {
        let p = "model.layers.\(layer)."
        func w(_ name: String) -> [Double]? { weights[p + name] }
        let size = shape.headSize
        func project(_ name: String, _ row: [Double], _ rows: Int) -> [Double] {
            let y = product(w("self_attn.\(name)_proj.weight")!, row, rows: rows)
            guard let bias = w("self_attn.\(name)_proj.bias") else { return y }
            return zip(y, bias).map(+)
        }
        /// Heads of a row, normed and turned.
        func heads(_ row: [Double], _ position: Int, _ gain: [Double]?) -> [[Double]] {
            stride(from: 0, to: row.count, by: size).map { start in
                var head = Array(row[start..<start + size])
                if let gain { head = norm(head, gain) }
                return shape.usesRope(layer: layer) ? turned(head, position) : head
            }
        }
        let normed = x.map { norm($0, w("input_layernorm.weight")!) }
        let q = normed.indices.map {
            heads(project("q", normed[$0], shape.querySize), $0, w("self_attn.q_norm.weight"))
        }
        let k = normed.indices.map { heads(project("k", normed[$0], shape.kvSize), $0, w("self_attn.k_norm.weight")) }
        let v = normed.map { project("v", $0, shape.kvSize) }
        for t in x.indices {
            var attended: [Double] = []
            for head in 0..<shape.heads {
                let kv = head / (shape.heads / shape.kvHeads)
                let seen = (firstSeen?[t] ?? 0)...t
                let scores = seen.map { s in
                    zip(q[t][head], k[s][kv]).reduce(0) { $0 + $1.0 * $1.1 } / sqrt(Double(size))
                }
                let top = scores.max()!
                let shares = scores.map { exp($0 - top) }
                let all = shares.reduce(0, +)
                attended += (0..<size).map { i in
                    zip(seen, shares).reduce(0) { $0 + $1.1 / all * v[$1.0][kv * size + i] }
                }
            }
            let added = project("o", attended, shape.hiddenSize)
            x[t] = zip(x[t], added).map(+)
        }
        for t in x.indices {
            let normed = norm(x[t], w("post_attention_layernorm.weight")!)
            let gate = product(w("mlp.gate_proj.weight")!, normed, rows: shape.intermediateSize)
            let up = product(w("mlp.up_proj.weight")!, normed, rows: shape.intermediateSize)
            let gated = zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }
            x[t] = zip(x[t], product(w("mlp.down_proj.weight")!, gated, rows: shape.hiddenSize)).map(+)
        }
    }

    private func norm(_ x: [Double], _ gain: [Double]) -> [Double] {
        let mean = x.reduce(0) { $0 + $1 * $1 } / Double(x.count)
        let scale = 1 / sqrt(mean + Double(shape.normEpsilon))
        return zip(x, gain).map { $0 * scale * $1 }
    }

    private func product(_ weight: [Double], _ x: [Double], rows: Int) -> [Double] {
        (0..<rows).map { row in
            var sum = 0.0
            for i in x.indices { sum += weight[row * x.count + i] * x[i] }
            return sum
        }
    }

    /// Halves paired, as Llama does it.
    private func turned(_ x: [Double], _ position: Int) -> [Double] {
        let half = x.count / 2
        var y = x
        for i in 0..<half {
            var frequency = pow(shape.ropeTheta, -Double(2 * i) / Double(x.count))
            switch shape.ropeScaling {
            case .none: break
            case .linear(let factor): frequency /= factor
            case .llama3(let factor, let low, let high, let original):
                let wavelength = 2 * Double.pi / frequency
                if wavelength > Double(original) / low {
                    frequency /= factor
                } else if wavelength >= Double(original) / high {
                    let smooth = (Double(original) / wavelength - low) / (high - low)
                    frequency = (1 - smooth) * frequency / factor + smooth * frequency
                }
            }
            let angle = Double(position) * frequency
            y[i] = x[i] * cos(angle) - x[half + i] * sin(angle)
            y[half + i] = x[half + i] * cos(angle) + x[i] * sin(angle)
        }
        return y
    }
}
