import Foundation
import Kernels
import Primitives
import Testing
import Training

/// Suites that choose the instruction set share one process: they run one after the other.
@Suite(.serialized) struct InstructionSets {
    /// Those that this processor has, the slow reference first.
    static var available: [kernels_instruction_set] {
        let all = [KERNELS_SCALAR, KERNELS_AVX2, KERNELS_AVX512, KERNELS_NEON]
        defer { kernels_set_instruction_set(KERNELS_AUTO) }
        return all.filter { kernels_set_instruction_set($0) }
    }

    /// Odd sizes, every pairing of row-major and column-major, more than one block over k, one row.
    @Test(arguments: [(1, 7, 5), (3, 33, 17), (29, 65, 400), (64, 40, 31), (15, 1, 2), (300, 17, 9)])
    func `the fast product equals three plain loops bit by bit`(m: Int, n: Int, k: Int) {
        var generator = SeededGenerator(seed: UInt64(m * 10_000 + n * 100 + k))
        func random(_ count: Int) -> [Float] { (0..<count).map { _ in Float(generator.uniform() - 0.5) } }
        let a = random(m * k)
        let b = random(k * n)
        let start = random(m * (n + 3))
        defer { kernels_set_instruction_set(KERNELS_AUTO) }
        for (aTransposed, bTransposed, accumulate) in [
            (false, false, false), (false, true, true), (true, false, true), (true, true, false),
        ] {
            let (ar, ac) = aTransposed ? (1, m) : (k, 1)
            let (br, bc) = bTransposed ? (1, k) : (n, 1)
            var expected = start
            kernels_sgemm_naive(m, n, k, a, ar, ac, b, br, bc, &expected, n + 3, accumulate)
            for set in Self.available {
                kernels_set_instruction_set(set)
                for threads: Int32 in [1, 3] {
                    var found = start
                    kernels_sgemm(m, n, k, a, ar, ac, b, br, bc, &found, n + 3, accumulate, threads)
                    #expect(found.map(\.bitPattern) == expected.map(\.bitPattern), "set \(set.rawValue)")
                }
            }
        }
    }

    @Test func `a large product is the same on one, two and five threads`() {
        var generator = SeededGenerator(seed: 9)
        let (m, n, k) = (301, 203, 401)
        let a = (0..<m * k).map { _ in Float(generator.uniform()) }
        let b = (0..<n * k).map { _ in Float(generator.uniform()) }
        let results = [1, 2, 5].map { (threads: Int32) in
            var c = [Float](repeating: 0, count: m * n)
            kernels_sgemm(m, n, k, a, k, 1, b, 1, k, &c, n, false, threads)
            var transposed = [Float](repeating: 0, count: m * n)
            kernels_sgemm(n, m, k, b, k, 1, a, 1, k, &transposed, m, false, threads)
            return c + transposed
        }
        #expect(results[0] == results[1] && results[0] == results[2])
    }

    @Test func `weights after three steps are equal on every instruction set`() {
        defer { kernels_set_instruction_set(KERNELS_AUTO) }
        let units = Small.model.allUnits
        let digests = Self.available.map { set in
            kernels_set_instruction_set(set)
            let rig = Rig(Small.configuration(), cuts: [[units]], virtuals: [Array(0..<5)])
            for step in 0..<3 { _ = rig.step(step) }
            return rig.digests()
        }
        #expect(digests.allSatisfy { $0 == digests[0] })
    }

    /// Biases, norms of heads, documents of more than one block of queries, z-loss: all that plain models do not have.
    @Test func `gradients of an unusual model are equal on every instruction set and thread`() throws {
        defer { kernels_set_instruction_set(KERNELS_AUTO) }
        let family = `Models of the Llama family`.self
        var one = family.cases.last!
        one.shape.context = 70
        let weights = family.weights(one.shape)
        var text = family.text(one)
        text.firstSeen = [(0..<70).map { $0 < 66 ? 0 : 66 }, (0..<70).map { $0 < 1 ? 0 : $0 < 68 ? 1 : 68 }]
        var bits: Set<[UInt32]> = []
        for set in Self.available {
            kernels_set_instruction_set(set)
            for threads in [1, 2] {
                let found = try family.engine(one, weights, text, threads: threads)
                let names = found.gradients.keys.sorted()
                bits.insert([found.loss.bitPattern] + names.flatMap { found.gradients[$0]!.map(\.bitPattern) })
            }
        }
        #expect(bits.count == 1)
    }

    @Test func `vector operations equal their scalar versions bit by bit on odd lengths`() {
        var generator = SeededGenerator(seed: 12)
        let n = 1003
        func random() -> [Float] { (0..<n).map { _ in Float(generator.uniform() * 8 - 4) } }
        let (x, y, m, v) = (random(), random(), random(), random().map { $0 * $0 })
        let step = kernels_adamw_step(
            learning_rate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, correction1: 2,
            correction2: 3, gradient_scale: 0.5)
        defer { kernels_set_instruction_set(KERNELS_AUTO) }
        let outcomes = Self.available.map { set in
            kernels_set_instruction_set(set)
            var (p, first, second, axpy, outer, momentum) = (y, m, v, y, y, m)
            kernels_adamw(1, n, step, x, &p, &first, &second)
            kernels_axpy(1, n, 0.3, x, &axpy)
            kernels_outer_step(1, n, 0.7, 0.9, x, &momentum, &outer)
            var gated = [Float](repeating: 0, count: n / 2)
            kernels_swiglu_forward(1, 1, n / 2, x, &gated)
            var logits = x
            var losses: [Float] = [0]
            kernels_cross_entropy(1, 1, n, &logits, [77], 0.25, 0.01, &losses)
            let sums = [kernels_sum_squares(n, x), kernels_sum(n, x)]
            return [p, first, second, axpy, outer, momentum, gated, logits, losses, sums]
                .map { $0.map(\.bitPattern) }
        }
        #expect(outcomes.allSatisfy { $0 == outcomes[0] })
    }
}

@Suite struct OwnFunctions {
    @Test func `exp, log, pow, sin and cos agree with the C library to a few units in the last place`() {
        var generator = SeededGenerator(seed: 4)
        for _ in 0..<20_000 {
            let x = generator.uniform() * 1400 - 700
            #expect(abs(kernels_exp(x) / exp(x) - 1) < 4e-16 * max(1, abs(x) / 8))
            let positive = exp(generator.uniform() * 200 - 100)
            #expect(abs(kernels_log(positive) - log(positive)) < 4e-16 * max(1, abs(log(positive))))
            let angle = (generator.uniform() - 0.5) * 200_000
            #expect(abs(kernels_cos(angle) - cos(angle)) < 3e-16)
            #expect(abs(kernels_sin(angle) - sin(angle)) < 3e-16)
            let exponent = generator.uniform() * 4 - 2
            #expect(abs(kernels_pow(10_000, exponent) / pow(10_000, exponent) - 1) < 4e-15)
        }
    }

    @Test func `a cross-entropy of logits far apart stays finite`() {
        var logits: [Float] = [1000, -1000, 3]
        var losses: [Float] = [0]
        kernels_cross_entropy(1, 1, 3, &logits, [1], 1, 0, &losses)
        #expect(losses[0] == 2000)
        #expect(logits.allSatisfy { $0.isFinite })
    }
}
