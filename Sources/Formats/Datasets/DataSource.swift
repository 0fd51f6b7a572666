/// Tokens that windows are cut from: prepared documents, or shards one after the other.
public enum DataSource: Sendable {
    case documents(TokenFile)
    case shards([TokenShard], Separator?)

    /// The token between documents of shards: llm.c begins each with it, nanoGPT ends each.
    public struct Separator: Hashable, Sendable {
        public var token: Int
        public var begins: Bool
        public init(token: Int, begins: Bool) {
            self.token = token
            self.begins = begins
        }
    }

    /// A file of either kind, told apart by its first bytes, which stay the caller's.
    public init(_ bytes: UnsafeRawBufferPointer, path: String) throws(DatasetError) {
        if bytes.starts(with: TokenFile.magic) {
            self = .documents(try TokenFile(bytes, path: path))
        } else {
            self = .shards([try TokenShard(bytes, path: path)], nil)
        }
    }

    public var count: Int {
        switch self {
        case .documents(let file): file.count
        case .shards(let shards, _): shards.reduce(0) { $0 + $1.count }
        }
    }

    /// Refuses tokens beyond a model's vocabulary.
    public func checkTokens(below vocabulary: Int) throws(DatasetError) {
        func check(_ path: String, _ count: Int, _ token: (Int) -> Int) throws(DatasetError) {
            for index in 0..<count where token(index) >= vocabulary {
                throw .tokenOutOfRange(path: path, index: index, token: token(index), vocabulary: vocabulary)
            }
        }
        switch self {
        case .documents(let file): try check(file.path, file.count) { file[$0] }
        case .shards(let shards, _): for shard in shards { try check(shard.path, shard.count) { shard[$0] } }
        }
    }

    /// T tokens and their targets, with what a model may see of them.
    public struct Window: Hashable, Sendable {
        /// T + 1: inputs are all but the last, targets all but the first. Beyond the end of the data, zeros that are not
        /// learnt.
        public var tokens: [Int32]
        /// Where documents begin among the T inputs, ascending, 0 first: attention does not cross these, positions begin anew.
        public var starts: [Int]
        /// By target: whether it is learnt. The first token of a document is none, there being nothing before it.
        public var bearsLoss: [Bool]
        public var learnt: Int { bearsLoss.reduce(0) { $0 + ($1 ? 1 : 0) } }
    }

    /// The window of `context` tokens that begins at token `start`; what is at `limit` and beyond is not there. Tokens beyond
    /// the vocabulary are refused.
    public func window(
        start: Int, context: Int, limit: Int = .max, vocabulary: Int
    ) throws(DatasetError) -> Window {
        let end = min(count, limit, start + context + 1)
        var window = Window(
            tokens: [Int32](repeating: 0, count: context + 1), starts: [0],
            bearsLoss: [Bool](repeating: false, count: context))
        guard start < end else { return window }
        var isStart = [Bool](repeating: false, count: context + 1)
        switch self {
        case .documents(let file):
            for index in start..<end { try put(file[index], index - start, start, vocabulary, file.path, &window) }
            for boundary in file.documentEnds(in: start..<end) where boundary - start <= context {
                isStart[boundary - start] = true
            }
            for index in start + 1..<end { window.bearsLoss[index - start - 1] = file.bearsLoss(index) }
        case .shards(let shards, let separator):
            try fill(&window, &isStart, shards, separator, start..<end, vocabulary)
        }
        for place in 1..<max(1, end - start) where isStart[place] {
            window.bearsLoss[place - 1] = false
            if place < context { window.starts.append(place) }
        }
        return window
    }

    private func put(
        _ token: Int, _ place: Int, _ start: Int, _ vocabulary: Int, _ path: String, _ window: inout Window
    ) throws(DatasetError) {
        guard token < vocabulary else {
            throw .tokenOutOfRange(path: path, index: start + place, token: token, vocabulary: vocabulary)
        }
        window.tokens[place] = Int32(token)
    }

    private func fill(
        _ window: inout Window, _ isStart: inout [Bool], _ shards: [TokenShard], _ separator: Separator?,
        _ range: Range<Int>,
        _ vocabulary: Int
    ) throws(DatasetError) {
        var first = 0
        for shard in shards {
            let part = range.clamped(to: first..<first + shard.count)
            for index in part {
                let token = shard[index - first], place = index - range.lowerBound
                guard token < vocabulary else {
                    throw .tokenOutOfRange(path: shard.path, index: index - first, token: token, vocabulary: vocabulary)
                }
                window.tokens[place] = Int32(token)
                if place > 0 { window.bearsLoss[place - 1] = true }
                // A shard begins a document, too.
                if index == first { isStart[place] = true }
                guard token == separator?.token else { continue }
                let next = place + (separator?.begins == true ? 0 : 1)
                if next < isStart.count { isStart[next] = true }
            }
            first += shard.count
        }
    }
}
