import CPU
import Compute
import Foundation
import Primitives
import Testing

/// Muon's step against its definition in double arithmetic, on wide, tall and square matrices.
@Suite struct `Muon` {
    static let model = Small.model
    static var configuration: StageConfiguration {
        var configuration = Small.configuration()
        configuration.optimizer.recipe.kind = .muon
        configuration.optimizer.recipe.momentum = 0.9
        return configuration
    }

    /// All values of a quantity, unit by unit.
    static func read(_ engine: CPUEngine, _ quantity: DeviceQuantity) throws -> [[Float]] {
        try model.allUnits.map { unit in
            var values = [Float](repeating: 0, count: model.parameters(unit: unit))
            try values.withUnsafeMutableBufferPointer { try engine.read(quantity, unit: unit, into: $0) }
            return values
        }
    }

    static func random(seed: UInt64, _ size: Float) -> [[Float]] {
        var generator = SeededGenerator(seed: seed)
        return model.allUnits.map { unit in
            (0..<model.parameters(unit: unit)).map { _ in size * Float(generator.uniform() - 0.5) }
        }
    }

    /// Two steps along given gradients.
    static func steps(_ configuration: StageConfiguration) throws -> CPUEngine {
        let engine = CPUEngine(threads: 1)
        engine.configure(configuration)
        for (unit, values) in random(seed: 1, 1).enumerated() {
            try values.withUnsafeBufferPointer { try engine.write(.parameters, unit: unit, from: $0) }
        }
        for step in 1...2 {
            for (unit, values) in random(seed: UInt64(10 + step), 0.3).enumerated() {
                try values.withUnsafeBufferPointer { try engine.write(.gradient, unit: unit, from: $0) }
            }
            try engine.optimizerStep(
                DeviceStep(learningRate: 0.02, gradientScale: 0.5, steps: model.allUnits.map { _ in step }))
        }
        return engine
    }

    @Test func `moves the blocks' matrices as it is defined, and all else as AdamW does`() throws {
        let engine = try Self.steps(Self.configuration)
        var plain = Self.configuration
        plain.optimizer.recipe.kind = .adamw
        let adam = try Self.read(try Self.steps(plain), .parameters)
        let found = try Self.read(engine, .parameters)
        let second = try Self.read(engine, .secondMoment)
        let start = Self.random(seed: 1, 1)
        let gradients = [Self.random(seed: 11, 0.3), Self.random(seed: 12, 0.3)]
        for unit in Self.model.allUnits {
            var at = 0
            for tensor in Self.model.tensors(unit: unit) {
                let range = at..<at + tensor.count
                at += tensor.count
                guard tensor.shape.count == 2, (1...Self.model.layers).contains(unit) else {
                    #expect(Array(found[unit][range]) == Array(adam[unit][range]), "\(tensor.name)")
                    continue
                }
                #expect(second[unit][range].allSatisfy { $0 == 0 })
                var weights = start[unit][range].map(Double.init)
                var momentum = [Double](repeating: 0, count: tensor.count)
                for gradient in gradients {
                    let g = gradient[unit][range].map { Double($0) * 0.5 }
                    momentum = zip(momentum, g).map { 0.9 * $0 + $1 }
                    let update = orthogonal(zip(momentum, g).map { 0.9 * $0 + $1 }, tensor.shape[0], tensor.shape[1])
                    let size = 0.02 * 0.2 * sqrt(Double(tensor.shape.max()!))
                    weights = zip(weights, update).map { $0 * (1 - 0.02 * 0.1) - size * $1 }
                }
                for (value, right) in zip(found[unit][range], weights) {
                    #expect(abs(Double(value) - right) < 1e-6, "\(tensor.name)")
                }
            }
        }
    }

    /// X ← aX + (bXXᵀ + c(XXᵀ)²)X, five times.
    private func orthogonal(_ matrix: [Double], _ rows: Int, _ columns: Int) -> [Double] {
        func product(_ x: [Double], _ y: [Double], _ m: Int, _ k: Int, _ n: Int) -> [Double] {
            var out = [Double](repeating: 0, count: m * n)
            for i in 0..<m { for l in 0..<k { for j in 0..<n { out[i * n + j] += x[i * k + l] * y[l * n + j] } } }
            return out
        }
        func transposed(_ x: [Double], _ m: Int, _ n: Int) -> [Double] {
            (0..<n).flatMap { j in (0..<m).map { i in x[i * n + j] } }
        }
        let norm = sqrt(matrix.reduce(0) { $0 + $1 * $1 })
        var x = matrix.map { $0 / norm }
        for _ in 0..<5 {
            let gram = product(x, transposed(x, rows, columns), rows, columns, rows)
            let square = product(gram, gram, rows, rows, rows)
            let mixed = zip(gram, square).map { -4.7750 * $0 + 2.0315 * $1 }
            x = zip(x, product(mixed, x, rows, rows, columns)).map { 3.4445 * $0 + $1 }
        }
        return x
    }
}
