import Foundation
import Inference
import Kernels
import Primitives
import Testing

/// The model's equations in double precision, one after the other: what the session is held against.
private struct Equations {
    let shape: ModelShape
    let units: [[Float]]

    func tensor(_ unit: Int, _ ending: String) -> [Double]? {
        var offset = 0
        for tensor in shape.tensors(unit: unit) {
            if tensor.name.hasSuffix(ending) { return units[unit][offset..<offset + tensor.count].map(Double.init) }
            offset += tensor.count
        }
        return nil
    }
    func product(_ weight: [Double], _ x: [Double]) -> [Double] {
        (0..<weight.count / x.count).map { row in
            (0..<x.count).reduce(0) { $0 + weight[row * x.count + $1] * x[$1] }
        }
    }
    func norm(_ x: [Double], _ gain: [Double]) -> [Double] {
        let scale = 1 / (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + Double(shape.normEpsilon)).squareRoot()
        return zip(x, gain).map { $0 * scale * $1 }
    }
    func frequency(_ index: Int) -> Double {
        let plain = pow(shape.ropeTheta, -2 * Double(index) / Double(shape.headSize))
        switch shape.ropeScaling {
        case .none: return plain
        case .linear(let factor): return plain / factor
        case .llama3(let factor, let low, let high, let original):
            let ratio = Double(original) * plain / (2 * .pi)
            let share = min(max((ratio - low) / (high - low), 0), 1)
            return plain / factor * (1 - share) + plain * share
        }
    }
    func turned(_ x: [Double], _ position: Int) -> [Double] {
        let half = shape.headSize / 2
        return x.indices.map { i in
            let angle = Double(position) * frequency(i % half)
            return x[i] * cos(angle) + (i < half ? -x[i + half] : x[i - half]) * sin(angle)
        }
    }

    /// Logits after each token.
    func logits(_ tokens: [Int32]) -> [[Double]] {
        let d = shape.hiddenSize, size = shape.headSize
        let embedding = tensor(0, "embed_tokens.weight")!
        var rows = tokens.map { Array(embedding[Int($0) * d..<(Int($0) + 1) * d]) }
        for layer in 0..<shape.layers {
            let unit = layer + 1
            var keys: [[[Double]]] = [], values: [[[Double]]] = []
            for position in rows.indices {
                let x = norm(rows[position], tensor(unit, "input_layernorm.weight")!)
                func project(_ name: String, heads: Int, turns: Bool) -> [[Double]] {
                    var y = product(tensor(unit, "self_attn.\(name)_proj.weight")!, x)
                    if let bias = tensor(unit, "self_attn.\(name)_proj.bias") { y = zip(y, bias).map(+) }
                    return (0..<heads).map { head in
                        var part = Array(y[head * size..<(head + 1) * size])
                        if turns, let gain = tensor(unit, "self_attn.\(name)_norm.weight") { part = norm(part, gain) }
                        return turns && shape.usesRope(layer: layer) ? turned(part, position) : part
                    }
                }
                let q = project("q", heads: shape.heads, turns: true)
                keys.append(project("k", heads: shape.kvHeads, turns: true))
                values.append(project("v", heads: shape.kvHeads, turns: false))
                var attended: [Double] = []
                for head in 0..<shape.heads {
                    let group = head / (shape.heads / shape.kvHeads)
                    let scores = keys.map { key in
                        zip(q[head], key[group]).reduce(0) { $0 + $1.0 * $1.1 } / Double(size).squareRoot()
                    }
                    let shares = scores.map { exp($0 - scores.max()!) }
                    let sum = shares.reduce(0, +)
                    attended += (0..<size).map { i in zip(shares, values).reduce(0) { $0 + $1.0 * $1.1[group][i] } / sum
                    }
                }
                var out = product(tensor(unit, "o_proj.weight")!, attended)
                if let bias = tensor(unit, "o_proj.bias") { out = zip(out, bias).map(+) }
                rows[position] = zip(rows[position], out).map(+)
                let y = norm(rows[position], tensor(unit, "post_attention_layernorm.weight")!)
                let gate = product(tensor(unit, "gate_proj.weight")!, y),
                    up = product(tensor(unit, "up_proj.weight")!, y)
                let gated = zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }
                rows[position] = zip(rows[position], product(tensor(unit, "down_proj.weight")!, gated)).map(+)
            }
        }
        let head = shape.tieWordEmbeddings ? embedding : tensor(shape.layers + 1, "lm_head.weight")!
        return rows.map { product(head, norm($0, tensor(shape.layers + 1, "norm.weight")!)) }
    }
}

@Suite struct InferenceTests {
    static let tokens: [Int32] = [5, 77, 3, 3, 250, 9, 14, 200, 31, 8, 99, 100, 101]

    /// Weights of every kind, none of them 0 or 1.
    static func units(_ shape: ModelShape) -> [[Float]] {
        var generator = SeededGenerator(seed: 12)
        return shape.allUnits.map { unit in
            (0..<shape.parameters(unit: unit)).map { _ in Float(generator.uniform() - 0.5) * 0.4 }
        }
    }
    static func model(_ shape: ModelShape, _ storage: InferenceModel.Storage = .fp32) -> InferenceModel {
        let model = InferenceModel(shape, storage: storage)
        for (unit, values) in units(shape).enumerated() {
            values.withUnsafeBufferPointer { model.fill(unit: unit, $0) }
        }
        return model
    }
    static func distance(_ a: [Double], _ b: UnsafeBufferPointer<Float>) -> Double {
        let square = zip(a, b).reduce(0) { $0 + ($1.0 - Double($1.1)) * ($1.0 - Double($1.1)) }
        return (square / a.reduce(0) { $0 + $1 * $1 }).squareRoot()
    }

    @Test(arguments: ModelFolderTests.shapes)
    func `every kind of model computes its equations, at once or token by token`(shape: ModelShape) {
        let expected = Equations(shape: shape, units: Self.units(shape)).logits(Self.tokens)
        let model = Self.model(shape)
        let whole = InferenceSession(model, capacity: 16, threads: 1)
        #expect(Self.distance(expected[12], whole.read(Self.tokens)) < 1e-5)
        let single = InferenceSession(model, capacity: 16, threads: 1)
        for (index, token) in Self.tokens.enumerated() {
            #expect(Self.distance(expected[index], single.read([token])) < 1e-5)
        }
        // Some are forgotten, and read again.
        single.keep(6)
        #expect(Self.distance(expected[12], single.read(Array(Self.tokens[6...]))) < 1e-5)
        let losses = InferenceSession(model, capacity: 16, threads: 1).losses(Self.tokens)
        #expect(losses[0] == nil)
        for index in 1..<Self.tokens.count {
            let row = expected[index - 1]
            let loss = log(row.reduce(0) { $0 + exp($1) }) - row[Int(Self.tokens[index])]
            #expect(abs(Double(losses[index]!) - loss) < 1e-5)
        }
    }

    @Test func `weights of two bytes compute what they hold`() {
        let shape = Small.model
        var rounded = Self.units(shape)
        for unit in rounded.indices {
            for index in rounded[unit].indices {
                rounded[unit][index] = Float(bitPattern: rounded[unit][index].bitPattern & 0xFFFF_0000)
            }
        }
        let expected = Equations(shape: shape, units: rounded).logits(Self.tokens)
        let session = InferenceSession(Self.model(shape, .bf16), capacity: 16, threads: 1)
        #expect(Self.distance(expected[12], session.read(Self.tokens)) < 1e-5)
        session.keep(12)
        #expect(Self.distance(expected[12], session.read([Self.tokens[12]])) < 1e-5)
    }

    @Test func `the bits do not depend on threads or instruction set`() {
        let model = Self.model(ModelFolderTests.shapes[1])
        defer { kernels_set_instruction_set(KERNELS_AUTO) }
        var found: [[UInt32]] = []
        for set in [KERNELS_SCALAR, KERNELS_AVX2, KERNELS_AVX512, KERNELS_NEON] {
            guard kernels_set_instruction_set(set) else { continue }
            for threads in [1, 3] {
                let session = InferenceSession(model, capacity: 16, threads: threads)
                let first = session.read(Array(Self.tokens.prefix(9))).map(\.bitPattern)
                found.append(first + session.read([4]).map(\.bitPattern))
            }
        }
        #expect(Set(found).count == 1)
    }

    @Test func `draws follow temperature, top-k and top-p, and the seed`() {
        let logits: [Float] = [1, 3, 2, 0, 3]
        func counts(_ temperature: Double, _ topK: Int, _ topP: Double) -> [Int] {
            var sampler = Sampler(temperature: temperature, topK: topK, topP: topP, seed: 1)
            var counts = [Int](repeating: 0, count: 5)
            for _ in 0..<4000 { counts[Int(logits.withUnsafeBufferPointer { sampler.choose($0) })] += 1 }
            return counts
        }
        #expect(counts(0, 0, 1) == [0, 4000, 0, 0, 0])
        let sum = logits.reduce(0) { $0 + exp(Double($1)) }
        for (index, count) in counts(1, 0, 1).enumerated() {
            #expect(abs(Double(count) / 4000 - exp(Double(logits[index])) / sum) < 0.03)
        }
        let two = counts(1, 2, 1)
        #expect(two[1] + two[4] == 4000 && abs(two[1] - 2000) < 150)
        #expect(counts(1, 0, 0.5)[2] == 0 && counts(1, 0, 0.9)[2] > 0 && counts(1, 0, 0.9)[3] == 0)
        #expect(counts(1, 3, 0.99) == counts(1, 3, 0.99))
        #expect(counts(1, 1, 1) == [0, 4000, 0, 0, 0])
    }

    @Test func `the likeliest are found by a heap as by sorting`() {
        var generator = SeededGenerator(seed: 3)
        let logits = (0..<1000).map { _ in Float(generator.below(300)) }
        logits.withUnsafeBufferPointer { buffer in
            let sorted = Array(buffer.indices.sorted { logits[$0] == logits[$1] ? $0 < $1 : logits[$0] > logits[$1] })
            for count in [1, 2, 7, 100, 124] {
                #expect(Sampler.likeliest(buffer, count) == Array(sorted.prefix(count)))
            }
            let shares = Sampler.logProbabilities(buffer, of: Array(buffer.indices))
            #expect(abs(shares.reduce(0) { $0 + exp($1) } - 1) < 1e-9)
        }
    }
}
