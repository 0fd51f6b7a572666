import Datasets
import JSON
import Primitives
import Testing
import Tokenizers

@Suite struct DatasetTests {
    /// A file of three documents, of which the middle one is half masked.
    static func made(vocabulary: Int = 300) -> [UInt8] {
        var builder = TokenFileBuilder(vocabulary: vocabulary)
        var body: [UInt8] = []
        builder.append([1, 2, 3])
        builder.endDocument()
        body += builder.takeBytes()
        builder.append([4, 5], bearsLoss: false)
        builder.append([6, 7])
        builder.endDocument()
        builder.endDocument()
        builder.append([8, 9, 10, 11])
        builder.endDocument()
        body += builder.takeBytes()
        return builder.header + body + builder.trailer
    }
    static func withFile<T>(_ bytes: [UInt8], _ body: (TokenFile) throws -> T) throws -> T {
        try bytes.withUnsafeBytes { try body(try TokenFile($0, path: "t")) }
    }

    @Test(arguments: [300, 70_000])
    func `tokens, documents and loss bits come back`(vocabulary: Int) throws {
        try Self.withFile(Self.made(vocabulary: vocabulary)) { file in
            let tokens = (0..<file.count).map { Int(file[$0]) }
            #expect(tokens == Array(1...11))
            #expect(file.documents == 3 && file.vocabulary == vocabulary && file.hasLossBits)
            let masked = (0..<11).filter { !file.bearsLoss($0) }
            #expect(masked == [3, 4])
            let documents: [Int] = (0..<11).map { file.document(of: $0) }
            #expect(documents == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
            #expect(file.bytesPerToken == (vocabulary > 65_536 ? 4 : 2))
        }
    }

    @Test func `windows do not look across documents, nor learn what comes first`() throws {
        try Self.withFile(Self.made()) { file in
            let source = DataSource.documents(file)
            let window = try source.window(start: 1, context: 8, vocabulary: 300)
            #expect(window.tokens == [2, 3, 4, 5, 6, 7, 8, 9, 10])
            #expect(window.starts == [0, 2, 6])
            // Targets 3, (4: first), (5: masked), 6, 7, (8: first), 9, 10.
            #expect(window.bearsLoss == [true, false, false, true, true, false, true, true])
            let last = try source.window(start: 8, context: 8, vocabulary: 300)
            #expect(last.tokens == [9, 10, 11, 0, 0, 0, 0, 0, 0] && last.learnt == 2)
            #expect(try source.window(start: 0, context: 4, limit: 3, vocabulary: 300).learnt == 2)
            #expect(throws: DatasetError.self) { try source.window(start: 0, context: 10, vocabulary: 10) }
        }
    }

    @Test func `files that lie are refused`() throws {
        let good = Self.made()
        for end in [0, 8, 63, good.count - 1] {
            #expect(throws: DatasetError.self) { try Self.withFile(Array(good[..<end])) { _ in } }
        }
        #expect(throws: DatasetError.self) { try Self.withFile(good + [0]) { _ in } }
        var generator = SeededGenerator(seed: 4)
        for _ in 0..<3000 {
            var bytes = good
            bytes[generator.below(bytes.count)] = UInt8(generator.below(256))
            try? Self.withFile(bytes) { file in
                for start in 0..<file.count {
                    if let window = try? DataSource.documents(file).window(start: start, context: 5, vocabulary: 300) {
                        #expect(window.tokens.allSatisfy { $0 < 300 })
                    }
                }
            }
        }
    }

    @Test(arguments: [false, true])
    func `shards of others are read`(wide: Bool) throws {
        var bytes = TokenShard.header(count: 6, wide: wide)
        for token in [50, 1, 2, 50, 3, 4] as [UInt32] {
            withUnsafeBytes(of: token.littleEndian) { bytes += wide ? Array($0) : Array($0[..<2]) }
        }
        try bytes.withUnsafeBytes { raw in
            let shard = try TokenShard(raw, path: "s")
            let begins = DataSource.shards([shard, shard], DataSource.Separator(token: 50, begins: true))
            #expect(begins.count == 12)
            let window = try begins.window(start: 1, context: 8, vocabulary: 60)
            #expect(window.tokens == [1, 2, 50, 3, 4, 50, 1, 2, 50])
            #expect(window.starts == [0, 2, 5])
            #expect(window.bearsLoss == [true, false, true, true, false, true, true, false])
            let ends = DataSource.shards([shard], DataSource.Separator(token: 50, begins: false))
            #expect(try ends.window(start: 0, context: 5, vocabulary: 60).starts == [0, 1, 4])
            #expect(throws: DatasetError.self) { try begins.window(start: 0, context: 5, vocabulary: 50) }
        }
        bytes[0] ^= 1
        #expect(throws: DatasetError.self) { try bytes.withUnsafeBytes { try TokenShard($0, path: "s") } }
        bytes[0] ^= 1
        #expect(throws: DatasetError.self) { try bytes.dropLast().withUnsafeBytes { try TokenShard($0, path: "s") } }
    }

    @Test func `a permutation has everything once`() {
        for count in [1, 2, 3, 4, 5, 17, 64, 1000, 4097] {
            let order = IndexPermutation(count: count, seed: 7, stream: 1)
            let places: [Int] = (0..<count).map { order[$0] }
            #expect(places.sorted() == Array(0..<count))
        }
        let one = IndexPermutation(count: 1000, seed: 7, stream: 1),
            other = IndexPermutation(count: 1000, seed: 7, stream: 2)
        let alike = (0..<1000).count { one[$0] == other[$0] }
        #expect(alike < 20)
        // The same order for ever.
        let pinned = IndexPermutation(count: 100, seed: 1, stream: 0)
        let first: [Int] = (0..<8).map { pinned[$0] }
        #expect(first == Self.pinned)
    }
    static let pinned = [42, 10, 70, 16, 28, 23, 4, 68]

    @Test func `a mixture keeps its shares at every point, and gives each source its own in order`() throws {
        let weights = [5.0, 1, 3, 0.5, 2]
        let mixture = try Mixture(weights: weights, seed: 3)
        var counts = [Int](repeating: 0, count: weights.count)
        var seen = [Set<Int>](repeating: [], count: weights.count)
        let sum = weights.reduce(0, +)
        for number in 0..<20 * 1024 {
            let (source, index) = mixture.place(number)
            counts[source] += 1
            #expect(seen[source].insert(index).inserted)
            if number % 1024 == 1023 {
                for source in weights.indices {
                    let share = Double(number + 1) * weights[source] / sum
                    #expect(abs(Double(counts[source]) - share) < 4)
                    // Nothing is left out on the way.
                    #expect(seen[source] == Set(0..<counts[source]))
                }
            }
        }
        #expect(try Mixture(weights: [1], seed: 9).place(77).source == 0)
        #expect(throws: DatasetError.self) { try Mixture(weights: [], seed: 1) }
        #expect(throws: DatasetError.self) { try Mixture(weights: [1, 0], seed: 1) }
        #expect(throws: DatasetError.self) { try Mixture(weights: [1, .nan], seed: 1) }
    }

    @Test func `a file of tokens is copied with its documents and masks, however it is cut`() throws {
        var builder = TokenFileBuilder(vocabulary: 500)
        for document in 0..<9 {
            builder.append((0..<UInt32(3 + 7 * document)).map { ($0 * 31 + 5) % 500 }, bearsLoss: document % 3 != 1)
            builder.append([499])
            builder.endDocument()
        }
        let bytes = builder.header + builder.takeBytes() + builder.trailer
        for piece in [1, 4, 10, 1000] {
            var copy = TokenFileBuilder(vocabulary: 500)
            try bytes.withUnsafeBytes { raw in
                let source = try DataSource(raw, path: "t")
                for start in stride(from: 0, to: source.count, by: piece) {
                    source.copy(start..<min(source.count, start + piece), to: &copy)
                }
            }
            #expect(copy.header + copy.takeBytes() + copy.trailer == bytes)
        }
        let shard = TokenShard.header(count: 5, wide: false) + [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
        var copy = TokenFileBuilder(vocabulary: 500)
        try shard.withUnsafeBytes { raw in
            let source = try DataSource(raw, path: "s")
            source.copy(0..<2, to: &copy)
            source.copy(2..<5, to: &copy)
        }
        #expect(copy.count == 5 && copy.ends == [5] && copy.learnt == 5)
    }

    @Test func `an epoch reads every window once, the next one in another order`() throws {
        let plan = try DataPlan(
            sources: [.init(tokens: 1001, weight: 1), .init(tokens: 500, weight: 2)], context: 10,
            validationFraction: 0.1,
            seed: 5)
        #expect(plan.validation == [100, 50])
        #expect(plan.windows(0) == 90 && plan.windows(1) == 45)
        var epochs: [[Int: [Int]]] = [[:], [:]]
        for number in 0..<4 * 1024 {
            let place = plan.place(number)
            epochs[place.source][place.epoch, default: []].append(place.start)
        }
        for source in 0..<2 {
            let all = (0..<plan.windows(source)).map { $0 * 10 }
            for epoch in 0..<5 { #expect(epochs[source][epoch]?.sorted() == all) }
            #expect(epochs[source][0] != epochs[source][1])
        }
        #expect(plan.validationWindows(0) == 9 && plan.validationStart(0, window: 1) == 911)
        #expect(throws: DatasetError.self) {
            try DataPlan(sources: [.init(tokens: 1, weight: 1)], context: 4, validationFraction: 0, seed: 1)
        }
    }

    static func row(_ text: String) throws(DatasetError) -> DataRow {
        let bytes = Array(text.utf8)
        return try bytes.withUnsafeBufferPointer { buffer throws(DatasetError) in
            try DataRow(parsing: buffer, path: "r.jsonl", line: 7)
        }
    }

    @Test func `rows are of three kinds`() throws {
        #expect(try Self.row(#"{"text":"a","id":3}"#) == .text("a"))
        #expect(try Self.row(#"{"prompt":"a","completion":"b"}"#) == .completion(prompt: "a", completion: "b"))
        #expect(
            try Self.row(#"{"messages":[{"role":"user","content":"a"}]}"#) == .conversation([.init(.user, "a")]))
        for bad in [
            "[]", "{", #"{"text":1}"#, #"{"txt":"a"}"#, #"{"text":"a","prompt":"b"}"#, #"{"prompt":"a"}"#,
            #"{"messages":[]}"#, #"{"messages":[{"role":"x","content":"a"}]}"#, #"{"messages":[{"role":"user"}]}"#,
            #"{"messages":[{"role":"user","content":"a","tool_calls":[1]}]}"#,
        ] {
            do throws(DatasetError) {
                _ = try Self.row(bad)
                Issue.record("\(bad) was read")
            } catch { #expect(error.description.hasPrefix("r.jsonl: line 7: ")) }
        }
    }

    @Test func `only answers are learnt of conversations and completions`() throws {
        let json = SmallTokenizers.trained(.gpt2, size: 300, special: ["<e>", "<|im_start|>", "<|im_end|>"])
        let tokenizer = try SmallTokenizers.tokenizer(json)
        let encoder = DocumentEncoder(tokenizer, template: .chatml, ending: 0)
        var builder = TokenFileBuilder(vocabulary: tokenizer.count)
        let rows: [DataRow] = [
            .conversation([.init(.user, "Q"), .init(.assistant, "And the"), .init(.user, "R")]),
            .completion(prompt: "In the", completion: " deep"), .text("void"),
        ]
        for row in rows { try encoder.append(row, to: &builder, path: "r", line: 1) }
        let bytes = builder.header + builder.takeBytes() + builder.trailer
        try Self.withFile(bytes) { file in
            #expect(file.documents == 3)
            func text(_ learnt: Bool) throws -> String {
                let ids = (0..<file.count).filter { file.bearsLoss($0) == learnt }.map { UInt32(file[$0]) }
                return String(decoding: try tokenizer.decode(ids, skippingSpecial: false), as: UTF8.self)
            }
            let learnt = try text(true), other = try text(false)
            let asked = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n\n<|im_start|>user\nR<|im_end|>\nIn the"
            #expect(learnt == "And the<|im_end|> deep<e>void<e>")
            #expect(other == asked)
        }
        #expect(throws: DatasetError.self) {
            try DocumentEncoder(tokenizer, template: nil, ending: 0).append(rows[0], to: &builder, path: "r", line: 1)
        }
    }

    @Test(arguments: [0, 1, 2])
    func `a text cut where it may be gives the tokens of the whole`(kind: Int) throws {
        let tokenizer = try SmallTokenizers.tokenizer(
            kind == 0
                ? SmallTokenizers.trained(.gpt2)
                : kind == 1 ? SmallTokenizers.trained(.llama3) : SmallTokenizers.spaced())
        var generator = SeededGenerator(seed: 11)
        let words = ["a", "ab", "the", " ", "  ", "\n", "\n\n", "b\n", "!", "'s", "é", "<|endoftext|>", "12", "c d"]
        for _ in 0..<100 {
            let text = Array((0..<200).map { _ in words[generator.below(words.count)] }.joined().utf8)
            let encoder = TokenEncoder(tokenizer)
            let whole = encoder.encode(text, addingSpecial: false)
            var parts: [UInt32] = []
            text.withUnsafeBufferPointer { buffer in
                var start = 0
                while start < buffer.count {
                    let end = tokenizer.cut(buffer, from: start, atLeast: 20)
                    parts += encoder.encode(
                        UnsafeBufferPointer(rebasing: buffer[start..<end]), addingSpecial: false, continuing: start > 0)
                    start = end
                }
            }
            #expect(parts == whole)
        }
    }
}
