import Kernels
public import Primitives

/// Chooses tokens by their logits. The same seed and logits give the same token on every machine.
public struct Sampler: Sendable {
    /// 0 takes the likeliest.
    public var temperature: Double
    /// Only this many of the likeliest; 0: all.
    public var topK: Int
    /// Only as many of the likeliest as have this share together; 1: all.
    public var topP: Double
    private var generator: SeededGenerator

    public init(temperature: Double, topK: Int = 0, topP: Double = 1, seed: UInt64) {
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        generator = SeededGenerator(seed: seed)
    }

    /// One of the tokens; of equally likely ones the lower comes first.
    public mutating func choose(_ logits: UnsafeBufferPointer<Float>) -> UInt32 {
        guard temperature > 0 else { return UInt32(Self.largest(logits)) }
        // Drawn for every token, whatever comes of it.
        let draw = generator.uniform()
        guard topK > 0 || topP < 1 else { return UInt32(all(logits, draw)) }
        return UInt32(some(logits, draw))
    }

    static func largest(_ logits: UnsafeBufferPointer<Float>) -> Int {
        var best = 0
        for index in logits.indices where logits[index] > logits[best] { best = index }
        return best
    }

    private func all(_ logits: UnsafeBufferPointer<Float>, _ draw: Double) -> Int {
        let best = Self.largest(logits)
        var shares = [Double](repeating: 0, count: logits.count)
        var sum = 0.0
        for index in logits.indices {
            shares[index] = kernels_exp(max(-700, Double(logits[index] - logits[best]) / temperature))
            sum += shares[index]
        }
        var left = draw * sum
        for index in shares.indices {
            left -= shares[index]
            if left < 0 { return index }
        }
        return best
    }

    private func some(_ logits: UnsafeBufferPointer<Float>, _ draw: Double) -> Int {
        let wanted = topK > 0 ? min(topK, logits.count) : logits.count
        // Likeliest first.
        let order = Self.likeliest(logits, wanted)
        let top = Double(logits[order[0]])
        var sum = 0.0
        if topP < 1 {
            // The share is of all that top-k left.
            for index in order { sum += kernels_exp(max(-700, (Double(logits[index]) - top) / temperature)) }
        }
        var kept: [(index: Int, share: Double)] = []
        var reached = 0.0
        for index in order {
            let share = kernels_exp(max(-700, (Double(logits[index]) - top) / temperature))
            kept.append((index, share))
            reached += share
            if topP < 1, reached >= topP * sum { break }
        }
        var left = draw * reached
        for (index, share) in kept {
            left -= share
            if left < 0 { return index }
        }
        return kept[0].index
    }

    /// Indices of the `count` largest, in falling order.
    public static func likeliest(_ logits: UnsafeBufferPointer<Float>, _ count: Int) -> [Int] {
        func isBefore(_ a: Int, _ b: Int) -> Bool { logits[a] == logits[b] ? a < b : logits[a] > logits[b] }
        guard count * 8 < logits.count else {
            return Array(logits.indices.sorted(by: isBefore).prefix(count))
        }
        // A heap with the worst of the kept ones on top.
        var heap: [Int] = []
        func sink(_ from: Int) {
            var hole = from
            while 2 * hole + 1 < heap.count {
                var child = 2 * hole + 1
                if child + 1 < heap.count, isBefore(heap[child], heap[child + 1]) { child += 1 }
                guard isBefore(heap[hole], heap[child]) else { return }
                heap.swapAt(hole, child)
                hole = child
            }
        }
        for index in logits.indices {
            if heap.count < count {
                heap.append(index)
                if heap.count == count { for from in (0..<count / 2).reversed() { sink(from) } }
            } else if count > 0, isBefore(index, heap[0]) {
                heap[0] = index
                sink(0)
            }
        }
        return heap.sorted(by: isBefore)
    }

    /// Natural logarithms of the probabilities of some tokens.
    public static func logProbabilities(_ logits: UnsafeBufferPointer<Float>, of tokens: [Int]) -> [Double] {
        let top = Double(logits[largest(logits)])
        var sum = 0.0
        for logit in logits { sum += kernels_exp(max(-700, Double(logit) - top)) }
        let whole = kernels_log(sum) + top
        return tokens.map { Double(logits[$0]) - whole }
    }
}
