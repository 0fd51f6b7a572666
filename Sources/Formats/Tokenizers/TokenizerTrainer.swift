public import JSON

/// Trains a byte-level byte-pair vocabulary (Sennrich et al. 2016; Radford et al. 2019, §2.2): the most frequent pair of
/// neighbours becomes a token, again and again. The same text gives the same vocabulary: of equally frequent pairs the one
/// of lower tokens comes first, as in the reference.
public struct TokenizerTrainer {
    /// How texts are parted.
    public enum Splitting: String, Sendable, CaseIterable {
        case gpt2, llama3, qwen2
        /// Each digit by itself, the rest as ``gpt2``.
        case smollm2
    }
    public static let mostWords = 1 << 26

    public let splitting: Splitting
    private let special: [String]
    private var words = ByteStringTable(capacity: 1 << 16)
    private var counts: [Int] = []

    /// `special`: control tokens, which take the first numbers.
    public init(splitting: Splitting, special: [String]) throws(TokenizerError) {
        guard special.allSatisfy({ !$0.isEmpty && $0.utf8.count <= AddedTokens.longest }),
            Set(special.map { Array($0.utf8) }).count == special.count
        else {
            throw .untrainable(
                problem: "control tokens must differ, and have at least one byte and at most \(AddedTokens.longest)")
        }
        self.splitting = splitting
        self.special = special
    }

    /// Different pieces seen.
    public var wordCount: Int { words.count }

    /// Counts the pieces of a text.
    public mutating func add(_ text: UnsafeBufferPointer<UInt8>) throws(TokenizerError) {
        guard let base = text.baseAddress else { return }
        let steps: [Tokenizer.Split] =
            switch splitting {
            case .gpt2: [.pattern(.gpt2)]
            case .llama3: [.pattern(.llama3)]
            case .qwen2: [.pattern(.qwen2)]
            case .smollm2: [.digits(individual: true), .pattern(.gpt2)]
            }
        var composed: [UInt8] = []
        if splitting == .qwen2, !Composition.isSettled(base, text.count) {
            Composition.shared.append(base, text.count, to: &composed)
            composed.withUnsafeBufferPointer { count($0, steps) }
        } else {
            count(text, steps)
        }
        guard words.count <= Self.mostWords else {
            throw .untrainable(problem: "more than \(Self.mostWords) different words; train on a part of the text")
        }
    }

    private mutating func count(_ text: UnsafeBufferPointer<UInt8>, _ steps: [Tokenizer.Split]) {
        steps.forEachPiece(text.baseAddress!, 0, text.count) { start, end in
            // Longer ones are no words: they would cost time and give nothing that comes again.
            guard end - start <= 1024 else { return }
            let (index, isNew) = words.insert(UnsafeBufferPointer(rebasing: text[start..<end]))
            if isNew { counts.append(1) } else { counts[index] += 1 }
        }
    }

    /// The vocabulary: control tokens, the 256 bytes, then as many merges as make `size`, or as many as there are pairs that
    /// occur `minimumCount` times. `progress` is told how many tokens there are and may answer false to stop.
    public func train(
        size: Int, minimumCount: Int, progress: (Int) -> Bool = { _ in true }
    ) throws(TokenizerError) -> JSONValue {
        let first = special.count + 256
        guard size >= first, size <= TokenizerFile.mostTokens else {
            throw .untrainable(
                problem: "a vocabulary of \(size) tokens; \(first) to \(TokenizerFile.mostTokens) are possible with "
                    + "\(special.count) control tokens")
        }
        // Bytes in the order of their characters, as the reference numbers them.
        let order = (0...255).map { UInt8($0) }.sorted {
            ByteAlphabet.characters[Int($0)].value < ByteAlphabet.characters[Int($1)].value
        }
        var numbers = [UInt32](repeating: 0, count: 256)
        for (index, byte) in order.enumerated() { numbers[Int(byte)] = UInt32(special.count + index) }
        var counting = PairCounting(words: words, counts: counts, numbers: numbers)
        var tokens: [[UInt8]] = special.map { Array($0.utf8) } + order.map { [$0] }
        var taken: [[UInt8]: UInt32] = [:]
        for (index, token) in tokens.enumerated().dropFirst(special.count) { taken[token] = UInt32(index) }
        var merges: [(UInt32, UInt32)] = []
        while tokens.count < size, let pair = counting.next(minimumCount: max(1, minimumCount)) {
            let content = tokens[Int(pair.left)] + tokens[Int(pair.right)]
            let number = taken[content] ?? UInt32(tokens.count)
            if number == tokens.count {
                taken[content] = number
                tokens.append(content)
                if tokens.count % 256 == 0, !progress(tokens.count) { break }
            }
            merges.append((pair.left, pair.right))
            counting.merge(pair, into: number)
        }
        return file(tokens: tokens, merges: merges)
    }

    // MARK: tokenizer.json

    private func file(tokens: [[UInt8]], merges: [(UInt32, UInt32)]) -> JSONValue {
        let texts = tokens.enumerated().map { index, token in
            index < special.count ? special[index] : ByteAlphabet.text(of: token)
        }
        let added = special.enumerated().map { index, text -> JSONValue in
            [
                "id": JSONValue(index), "content": .string(text), "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            ]
        }
        let vocabulary = texts.enumerated().map { JSONObject.Member($1, JSONValue($0)) }
        let pairs = merges.map { JSONValue.array([.string(texts[Int($0.0)]), .string(texts[Int($0.1)])]) }
        return [
            "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": .array(added),
            "normalizer": splitting == .qwen2 ? ["type": "NFC"] : nil, "pre_tokenizer": preTokenizer,
            "post_processor": nil, "decoder": Self.byteLevel(usesPattern: true),
            "model": [
                "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
                "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": .object(JSONObject(vocabulary)), "merges": .array(pairs),
            ],
        ]
    }

    private var preTokenizer: JSONValue {
        func sequence(_ first: JSONValue, usesPattern: Bool) -> JSONValue {
            ["type": "Sequence", "pretokenizers": [first, Self.byteLevel(usesPattern: usesPattern)]]
        }
        func split(_ pattern: SplitPattern) -> JSONValue {
            [
                "type": "Split", "pattern": ["Regex": .string(pattern.expression)], "behavior": "Isolated",
                "invert": false,
            ]
        }
        return switch splitting {
        case .gpt2: Self.byteLevel(usesPattern: true)
        case .smollm2: sequence(["type": "Digits", "individual_digits": true], usesPattern: true)
        case .llama3: sequence(split(.llama3), usesPattern: false)
        case .qwen2: sequence(split(.qwen2), usesPattern: false)
        }
    }

    private static func byteLevel(usesPattern: Bool) -> JSONValue {
        [
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": .bool(usesPattern),
        ]
    }
}
