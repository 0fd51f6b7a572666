import CPU
import Compute
import Foundation
import Primitives

/// How far a device's gradients are from those of the processor's engine, on a small model with everything in it. Devices differ in
/// the order of their sums, so bits are not compared; a wrong device is far off in some tensor.
package struct WorkerCheck: Hashable, Sendable {
    /// ‖difference‖ ÷ ‖gradient‖ of the worst tensor, and its name.
    package var worst = 0.0
    package var tensor = ""
    /// Of the whole gradient: of a device that multiplies in sixteen bits still above 0.999.
    package var cosine = 1.0
    package var lossDifference = 0.0

    /// fp32 in another order stays below 1e-5; bf16 products are 1e-2 off, but point the same way.
    package var isGood: Bool { worst < 1e-4 || cosine > 0.99 && worst < 0.3 }

    package var text: String {
        let digits = worst == 0 ? "0" : String(format: "%.1e", worst)
        return "gradients within \(digits) (\(tensor)), cosine \(String(format: "%.6f", cosine))"
    }

    package static func run(_ device: any DeviceEngine) throws(Refusal) -> WorkerCheck {
        let reference = try gradients(CPUEngine(threads: 1))
        let found = try gradients(device)
        var check = WorkerCheck()
        check.lossDifference = abs(Double(found.loss) - Double(reference.loss))
        var (dot, own, other) = (0.0, 0.0, 0.0)
        for (unit, tensors) in found.tensors.enumerated() {
            for (index, tensor) in tensors.enumerated() {
                let right = reference.tensors[unit][index]
                var (difference, size) = (0.0, 0.0)
                for (a, b) in zip(tensor.values, right.values) {
                    difference += (Double(a) - Double(b)) * (Double(a) - Double(b))
                    size += Double(b) * Double(b)
                    dot += Double(a) * Double(b)
                    own += Double(a) * Double(a)
                }
                other += size
                let relative = size > 0 ? (difference / size).squareRoot() : difference.squareRoot()
                if relative > check.worst { (check.worst, check.tensor) = (relative, tensor.name) }
            }
        }
        check.cosine = dot / (own * other).squareRoot()
        return check
    }

    private struct Gradients {
        var loss: Float
        var tensors: [[(name: String, values: [Float])]]
    }

    private static func gradients(_ device: any DeviceEngine) throws(Refusal) -> Gradients {
        var model = ModelShape(
            hiddenSize: 64, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 96, context: 64, vocabulary: 320,
            headSize: 24)
        model.projectionBias = .queryKeyValue
        model.queryKeyNorm = true
        model.layersWithoutRope = [1]
        let configuration = StageConfiguration(
            model: model, units: model.allUnits,
            geometry: BatchGeometry(
                virtualPipelines: 1, microBatch: 2, microBatchesPerVirtual: 1, context: model.context),
            seed: 1, optimizer: InnerOptimizer(learningRate: 0.01, warmupTokens: 0, totalTokens: 1), mode: .rounds,
            exchangeCodec: .fp32, activationCodec: .fp32, validationFraction: 0)
        try device.configure(configuration)
        var generator = SeededGenerator(seed: 11)
        for unit in model.allUnits {
            var values: [Float] = []
            for tensor in model.tensors(unit: unit) {
                let isGain = tensor.shape.count == 1 && !tensor.name.hasSuffix(".bias")
                for _ in 0..<tensor.count { values.append(Float(generator.uniform() - 0.5) / 3 + (isGain ? 1 : 0)) }
            }
            try values.withUnsafeBufferPointer { part throws(Refusal) in
                try device.write(.parameters, unit: unit, from: part)
            }
        }
        var text = TokenText()
        text.tokens = (0..<2 * model.context).map { _ in Int32(generator.below(model.vocabulary)) }
        text.targets = text.tokens.indices.map { $0 % 7 == 3 ? -1 : Int32(generator.below(model.vocabulary)) }
        text.firstSeen = text.tokens.indices.map { $0 % model.context < 40 ? 0 : 40 }
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        let loss = try device.forward(key, text: text, input: nil, output: nil)
        try device.backward(key, gradient: nil, inputGradient: nil)
        _ = try device.finishGradient(microBatches: 1)
        var tensors: [[(name: String, values: [Float])]] = []
        for unit in model.allUnits {
            var values = [Float](repeating: 0, count: model.parameters(unit: unit))
            try values.withUnsafeMutableBufferPointer { part throws(Refusal) in
                try device.read(.gradient, unit: unit, into: part)
            }
            var own: [(name: String, values: [Float])] = []
            for tensor in model.tensors(unit: unit) {
                own.append((tensor.name, Array(values.prefix(tensor.count))))
                values.removeFirst(tensor.count)
            }
            tensors.append(own)
        }
        try device.dropWork()
        return Gradients(loss: loss, tensors: tensors)
    }
}
