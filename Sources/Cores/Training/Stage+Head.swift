import Compute
import Exchange
import Primitives

/// The head of tied embeddings, lent by the stage that holds them to the one with the final norm
/// (``StageConfiguration/lendsTable``).
extension Stage {
    func head(_ key: MicroBatchKey, input: [UInt8]) throws(Refusal) -> ComputeResult {
        guard configuration.lendsTable else { throw Refusal("the head of \(key.text) on a stage that lends no table") }
        guard progress.inFlight.contains(key), !progress.heads.contains(key) else {
            throw Refusal("the head of \(key.text) without its forward, or twice")
        }
        let values = activation.allValues
        try decodeActivation(input, into: values)
        let loss = try device.head(key, input: UnsafeBufferPointer(values), gradient: values)
        progress.heads.insert(key)
        return .head(
            loss: meanOfLearnt(loss, try text(of: key)),
            gradient: configuration.activationCodec.encode(UnsafeBufferPointer(values), feedback: nil))
    }

    func evaluateHead(_ windows: Range<Int>, input: [UInt8]) throws(Refusal) -> ComputeResult {
        guard configuration.lendsTable else { throw Refusal("validation windows for a stage that lends no table") }
        guard !windows.isEmpty, windows.lowerBound >= 0, windows.upperBound <= order.validationWindows else {
            throw Refusal("validation windows \(windows) wanted, there are \(order.validationWindows)")
        }
        let perWindow = geometry.context * configuration.model.hiddenSize
        let count = windows.count * perWindow
        // A message much shorter than its windows is refused before memory for them is taken.
        do { try configuration.activationCodec.validate(input[...], count: count) } catch {
            throw Refusal("activation: \(error)")
        }
        let values = FloatBuffer(count)
        try decodeActivation(input, into: values.allValues)
        let losses = FloatBuffer(geometry.tokensPerMicroBatch)
        var lossSum = 0.0
        var learnt = 0
        try withOuterWeights { () throws(Refusal) in
            for start in stride(from: windows.lowerBound, to: windows.upperBound, by: geometry.microBatch) {
                let chunk = start..<min(start + geometry.microBatch, windows.upperBound)
                let place = (start - windows.lowerBound) * perWindow
                let text = try text(validation: chunk) ?? TokenText()
                learnt += text.learnt
                try device.evaluateHead(
                    sequences: chunk.count, text: text,
                    input: UnsafeBufferPointer(values.values(place..<place + chunk.count * perWindow)),
                    output: losses.allValues)
                for row in 0..<chunk.count * geometry.context { lossSum += Double(losses.base[row]) }
            }
        }
        withExtendedLifetime((values, losses)) {}
        return .evaluation(lossSum: lossSum, tokens: learnt)
    }
}
