import Foundation
import Kernels
import Primitives
import Testing

extension InstructionSets {
    /// Attention over more than one block of queries, with documents, against its definition in double arithmetic.
    @Test(arguments: [(1, false), (63, false), (64, true), (65, true), (150, false), (150, true)])
    func `attention is its definition, and the same bits on every instruction set and thread`(
        length: Int, documents: Bool
    ) {
        let (sequences, heads, kvHeads, size) = (2, 4, 2, 6)
        let width = (heads + 2 * kvHeads) * size
        var generator = SeededGenerator(seed: UInt64(length))
        func random(_ count: Int) -> [Float] { (0..<count).map { _ in Float(generator.uniform() * 4 - 2) } }
        let qkv = random(sequences * length * width)
        let dout = random(sequences * length * heads * size)
        var starts: [Int32] = []
        for sequence in 0..<sequences {
            for t in 0..<length {
                // Three documents: the second begins a third of the way, the last has two tokens.
                let start = t < length / 3 ? 0 : t < length - 2 ? max(0, length / 3 + sequence - 1) : t
                starts.append(documents ? Int32(start) : 0)
            }
        }
        let (expected, gradient) = naiveAttention(
            qkv, dout, starts.map(Int.init), sequences: sequences, heads: heads, kvHeads: kvHeads, size: size)
        defer { kernels_set_instruction_set(KERNELS_AUTO) }
        var bits: Set<[UInt32]> = []
        for set in Self.available {
            kernels_set_instruction_set(set)
            for threads: Int32 in [1, 3] {
                var out = [Float](repeating: .nan, count: sequences * length * heads * size)
                var dqkv = [Float](repeating: .nan, count: qkv.count)
                starts.withUnsafeBufferPointer { starts in
                    let shape = kernels_attention(
                        sequences: sequences, length: length, heads: heads, kv_heads: kvHeads, head_size: size,
                        first_seen: documents ? starts.baseAddress : nil)
                    kernels_attention_forward(threads, shape, qkv, &out)
                    kernels_attention_backward(threads, shape, qkv, dout, &dqkv)
                }
                for (found, right) in zip(out, expected) { #expect(abs(Double(found) - right) < 3e-6) }
                for (found, right) in zip(dqkv, gradient) { #expect(abs(Double(found) - right) < 4e-5) }
                bits.insert((out + dqkv).map(\.bitPattern))
            }
        }
        #expect(bits.count == 1)
    }
}

/// softmax(q·kᵀ/√size)·v and its gradient, written down.
private func naiveAttention(
    _ qkv: [Float], _ dout: [Float], _ starts: [Int], sequences: Int, heads: Int, kvHeads: Int, size: Int
) -> ([Double], [Double]) {
    let length = starts.count / sequences
    let width = (heads + 2 * kvHeads) * size
    var out = [Double](repeating: 0, count: sequences * length * heads * size)
    var gradient = [Double](repeating: 0, count: qkv.count)
    let scale = 1 / sqrt(Double(size))
    for sequence in 0..<sequences {
        for head in 0..<heads {
            let kv = head / (heads / kvHeads)
            for t in 0..<length {
                let row = sequence * length + t
                func at(_ s: Int, _ column: Int) -> Int { (sequence * length + s) * width + column }
                let (q, k, v) = (head * size, (heads + kv) * size, (heads + kvHeads + kv) * size)
                let seen = Array(starts[row]...t)
                let scores = seen.map { s in
                    (0..<size).reduce(0.0) { $0 + Double(qkv[at(t, q + $1)]) * Double(qkv[at(s, k + $1)]) } * scale
                }
                let top = scores.max()!
                let all = scores.reduce(0) { $0 + exp($1 - top) }
                let p = scores.map { exp($0 - top) / all }
                let o = row * heads * size + head * size
                var dp = [Double](repeating: 0, count: seen.count)
                for (index, s) in seen.enumerated() {
                    for i in 0..<size {
                        out[o + i] += p[index] * Double(qkv[at(s, v + i)])
                        dp[index] += Double(dout[o + i]) * Double(qkv[at(s, v + i)])
                        gradient[at(s, v + i)] += p[index] * Double(dout[o + i])
                    }
                }
                let mean = zip(p, dp).reduce(0) { $0 + $1.0 * $1.1 }
                for (index, s) in seen.enumerated() {
                    let ds = p[index] * (dp[index] - mean) * scale
                    for i in 0..<size {
                        gradient[at(t, q + i)] += ds * Double(qkv[at(s, k + i)])
                        gradient[at(s, k + i)] += ds * Double(qkv[at(t, q + i)])
                    }
                }
            }
        }
    }
    return (out, gradient)
}
