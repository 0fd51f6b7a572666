import CPU
import Kernels
import Primitives

/// Continues `prompt` by `count` bytes with a byte-level model; `onByte` is told each as it comes and may answer false
/// to stop.
///
/// Temperature 0 takes the likeliest byte; otherwise bytes are drawn from softmax(logits / temperature), by `seed`
/// alone. The model sees at most the last T bytes; each byte costs one forward pass over them.
public func generate(
    _ parameters: ModelParameters, prompt: [UInt8], count: Int, temperature: Double, seed: UInt64, threads: Int,
    onByte: (UInt8) -> Bool = { _ in true }
) throws(TrainingError) -> [UInt8] {
    guard !prompt.isEmpty else { throw .emptyPrompt }
    let shape = parameters.shape
    if let largest = prompt.max(), largest >= shape.vocabulary {
        throw .refused("the prompt has byte \(largest), the vocabulary ends at \(shape.vocabulary - 1)")
    }
    let model = WholeModel(shape, units: parameters.units, threads: threads)
    var generator = SeededGenerator(seed: seed)
    var text = prompt
    for _ in 0..<max(0, count) {
        let logits = model.logits(after: text.suffix(shape.context).map(Int32.init))
        let bytes = UnsafeBufferPointer(rebasing: logits.prefix(256))
        let byte = choose(bytes, temperature: temperature, &generator)
        text.append(byte)
        if !onByte(byte) { break }
    }
    return Array(text.dropFirst(prompt.count))
}

/// One byte by its logits.
private func choose(
    _ logits: UnsafeBufferPointer<Float>, temperature: Double, _ generator: inout SeededGenerator
) -> UInt8 {
    var best = 0
    for index in logits.indices where logits[index] > logits[best] { best = index }
    guard temperature > 0 else { return UInt8(best) }
    let shares = logits.map { kernels_exp(Double($0 - logits[best]) / temperature) }
    var left = generator.uniform() * shares.reduce(0, +)
    for (index, share) in shares.enumerated() {
        left -= share
        if left < 0 { return UInt8(index) }
    }
    return UInt8(best)
}
