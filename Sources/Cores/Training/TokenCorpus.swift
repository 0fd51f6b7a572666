import Compute
import Datasets

/// A file of tokens (``TokenFile``, or a shard), as stages read it: windows with their documents and what is to be learnt.
final class TokenCorpus {
    /// Of bytes that do not lie still.
    private let memory: UnsafeMutableRawBufferPointer?
    private let bytes: CorpusBytes
    let source: DataSource

    /// Checks the file's head and its documents; tokens are checked when they are read.
    /// - Parameter tokens: how many it must have.
    init(_ bytes: CorpusBytes, tokens: Int) throws(Refusal) {
        self.bytes = bytes
        memory =
            bytes.mapped == nil
            ? UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 8) : nil
        if let memory { bytes.copy(to: memory) }
        let content = bytes.mapped ?? UnsafeRawBufferPointer(rebasing: memory![..<bytes.count])
        do throws(DatasetError) {
            source = try DataSource(content, path: "the job's data")
        } catch {
            memory?.deallocate()
            throw Refusal(error.description)
        }
        guard source.count == tokens else {
            throw Refusal("the job's data have \(source.count) tokens, the job says \(tokens)")
        }
    }
    deinit { memory?.deallocate() }

    /// Adds a window of `context` tokens to a text; what is at `limit` and beyond is not there.
    func append(
        from start: Int, context: Int, limit: Int, vocabulary: Int, to text: inout TokenText
    ) throws(Refusal) {
        let window: DataSource.Window
        do throws(DatasetError) {
            window = try source.window(start: start, context: context, limit: limit, vocabulary: vocabulary)
        } catch {
            throw Refusal(error.description)
        }
        text.tokens += window.tokens.dropLast()
        for (target, bearsLoss) in zip(window.tokens.dropFirst(), window.bearsLoss) {
            text.targets.append(bearsLoss ? target : -1)
        }
        for (number, first) in window.starts.enumerated() {
            let next = number + 1 < window.starts.count ? window.starts[number + 1] : context
            text.firstSeen += repeatElement(Int32(first), count: next - first)
        }
    }
}
