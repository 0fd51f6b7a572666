import Kernels
import Primitives

/// Cosines and sines of all positions, stretched as the shape says: [length, headSize/2] each.
struct RopeTable {
    let cosines: [Float]
    let sines: [Float]

    init(_ shape: ModelShape, length: Int) {
        let frequencies = Self.frequencies(shape)
        let half = frequencies.count
        var cosines = [Float](repeating: 0, count: length * half)
        var sines = cosines
        for position in 0..<length {
            for (index, frequency) in frequencies.enumerated() {
                let angle = Double(position) * frequency
                cosines[position * half + index] = Float(kernels_cos(angle))
                sines[position * half + index] = Float(kernels_sin(angle))
            }
        }
        self.cosines = cosines
        self.sines = sines
    }

    /// θ^(−2i/headSize), stretched.
    static func frequencies(_ shape: ModelShape) -> [Double] {
        (0..<shape.headSize / 2).map { index in
            let plain = kernels_pow(shape.ropeTheta, -2 * Double(index) / Double(shape.headSize))
            switch shape.ropeScaling {
            case .none: return plain
            case .linear(let factor): return plain / factor
            case .llama3(let factor, let low, let high, let original):
                let wave = 2 * Double.pi / plain
                if wave < Double(original) / high { return plain }
                if wave > Double(original) / low { return plain / factor }
                let share = (Double(original) / wave - low) / (high - low)
                return (1 - share) * plain / factor + share * plain
            }
        }
    }
}
