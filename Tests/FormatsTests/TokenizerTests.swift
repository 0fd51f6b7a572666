import JSON
import Primitives
import Testing
import Tokenizers

@Suite struct TokenizerTests {
    @Test(arguments: TokenizerTrainer.Splitting.allCases)
    func `any bytes come back as they were`(splitting: TokenizerTrainer.Splitting) throws {
        let tokenizer = try SmallTokenizers.tokenizer(SmallTokenizers.trained(splitting))
        let encoder = TokenEncoder(tokenizer)
        var generator = SeededGenerator(seed: 3)
        let words = ["the", " the", " 12", "\n", "é", "e\u{301}", "<|endoftext|>", "it's", "한", "\t\t", "🦙"].map {
            Array($0.utf8)
        }
        for _ in 0..<2000 {
            var text: [UInt8] = []
            for _ in 0..<generator.below(8) {
                text +=
                    generator.below(4) == 0 ? generator.bytes(generator.below(5)) : words[generator.below(words.count)]
            }
            let back = try tokenizer.decode(encoder.encode(text), skippingSpecial: false)
            if splitting == .qwen2 {
                #expect(back == CompositionTests.composed(text))
            } else {
                #expect(back == text)
            }
        }
    }

    @Test(arguments: TokenizerTrainer.Splitting.allCases)
    func `what the cache answers is what merging answers`(splitting: TokenizerTrainer.Splitting) throws {
        let tokenizer = try SmallTokenizers.tokenizer(SmallTokenizers.trained(splitting))
        let encoder = TokenEncoder(tokenizer)
        let text = Array(String(repeating: SmallTokenizers.text, count: 3).utf8)
        let first = encoder.encode(text)
        #expect(encoder.encode(text) == first)
        #expect(TokenEncoder(tokenizer).encode(text) == first)
        // The rule, piece by piece.
        let pieces =
            splitting == .smollm2 ? nil : SplitPatternTests.pieces(SplitPattern(rawValue: splitting.rawValue)!, text)
        guard let pieces else { return }
        let expected = pieces.flatMap { piece in
            MergingTests.naive(piece.map { tokenizer.ofByte[Int($0)] }, tokenizer.merges)
        }
        #expect(first == expected)
    }

    @Test func `marks stand for spaces, and bytes for what the vocabulary lacks`() throws {
        let tokenizer = try SmallTokenizers.tokenizer(SmallTokenizers.spaced())
        let mark: UInt32 = 259, markA: UInt32 = 263, markAB: UInt32 = 265, marks: UInt32 = 266
        let a: UInt32 = 260, b: UInt32 = 261
        // é has a token, è is spelt.
        let composed: UInt32 = 267, spelt: [UInt32] = [3 + 0xC3, 3 + 0xA8]
        func expect(_ text: String, _ ids: [UInt32], addingSpecial: Bool = true) {
            #expect(tokenizer.encode(text, addingSpecial: addingSpecial) == ids)
        }
        expect("ab a", [1, markAB, markA])
        expect("  ab", [1, marks, markAB])
        expect("b", [1, mark, b])
        expect("é\u{e8}", [1, mark, composed] + spelt)
        // Each part between control tokens begins anew.
        expect("a<s>a", [markA, 1, markA], addingSpecial: false)
        expect("", [], addingSpecial: false)
        #expect(try tokenizer.decode([1, markAB, markA]) == Array("ab a".utf8))
        let written = try tokenizer.decode([1, mark, a] + spelt, skippingSpecial: false)
        #expect(written == Array("<s> aè".utf8))
        var decoder = TokenDecoder(tokenizer, continuing: true)
        #expect(try decoder.append(markA) == Array(" a".utf8))
    }

    @Test(arguments: [("always", [263, 1, 263]), ("first", [263, 1, 260]), ("never", [260, 1, 260])])
    func `a Metaspace begins parts as its scheme says`(scheme: String, expected: [UInt32]) throws {
        let metaspace: JSONValue = [
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": .string(scheme), "split": false,
        ]
        let tokenizer = try SmallTokenizers.tokenizer(
            SmallTokenizers.spaced(
                preTokenizer: metaspace, decoder: metaspace.setting("add_prefix_space", .bool(scheme != "never"))))
        #expect(tokenizer.encode("a<s>a", addingSpecial: false) == expected)
        #expect(tokenizer.encode(" a", addingSpecial: false) == [263])
    }

    @Test func `parting at marks is what the whole would give`() throws {
        let json = SmallTokenizers.spaced()
        let parting = try SmallTokenizers.tokenizer(json)
        #expect(parting.partsAtMetaspace)
        // A token that holds a mark further in forbids it.
        var bridged = json.setting("model/vocab/b▁", 268)
        bridged = bridged.setting("model/merges", ["a b", "▁ ab", "▁ a", "▁ ▁", "b ▁"])
        let whole = try SmallTokenizers.tokenizer(bridged)
        #expect(!whole.partsAtMetaspace)
        #expect(whole.encode("bb b", addingSpecial: false) == [259, 261, 268, 261])
        var generator = SeededGenerator(seed: 8)
        let merged = try SmallTokenizers.tokenizer(json.setting("model/ignore_merges", true))
        #expect(!merged.partsAtMetaspace)
        for _ in 0..<300 {
            let text = String(
                (0..<generator.below(100)).map { _ in [" ", "a", "b", "c", "▁"][generator.below(5)] }.joined())
            let expected = MergingTests.naive(
                parting.encodeSymbols(text), parting.merges)
            #expect(parting.encode(text, addingSpecial: false) == expected)
        }
    }

    @Test func `added tokens come first, the longest of the leftmost`() throws {
        func added(_ id: Int, _ text: String, _ more: [String: JSONValue] = [:]) -> JSONValue {
            var token: JSONValue = [
                "id": JSONValue(id), "content": .string(text), "special": true, "normalized": false,
            ]
            for key in more.keys.sorted() { token = token.setting(key, more[key]) }
            return token
        }
        let json = SmallTokenizers.trained(.gpt2, size: 258, special: []).setting(
            "added_tokens",
            [
                added(258, "<a>"), added(259, "<a><b>"), added(260, "xz", ["lstrip": true, "special": false]),
                added(261, "yy", ["rstrip": true]),
            ])
        let tokenizer = try SmallTokenizers.tokenizer(json)
        let byte = { (text: String) in tokenizer.ofByte[Int(text.utf8.first!)] }
        #expect(tokenizer.encode("<a><a><b>") == [258, 259])
        #expect(tokenizer.encode("<a") == [byte("<"), byte("a")])
        #expect(tokenizer.encode("q \u{3000} xz y") == [byte("q"), 260, byte(" "), byte("y")])
        #expect(tokenizer.encode("yy \n z") == [261, byte("z")])
        // Read as text, control tokens are text; others stay tokens.
        #expect(
            tokenizer.encode("<a>xz", parsingSpecial: false) == [byte("<"), byte("a"), byte(">"), 260])
        #expect(tokenizer.id(ofAdded: "<a>") == 258)
        #expect(try tokenizer.decode([258, 260]) == Array("xz".utf8))
    }

    @Test func `a whole piece is its token where merges are ignored`() throws {
        // "abc" is in the vocabulary, no merge makes it.
        var json = SmallTokenizers.trained(.gpt2, size: 256, special: [])
        json = json.setting("model/vocab/abc", 256)
        let plain = try SmallTokenizers.tokenizer(json)
        let ignoring = try SmallTokenizers.tokenizer(json.setting("model/ignore_merges", true))
        #expect(plain.encode("abc").count == 3)
        #expect(ignoring.encode("abc") == [256])
        #expect(ignoring.encode("abcd").count == 4)
    }

    @Test func `bytes without a token are told of, and left out as the reference does`() throws {
        let json = SmallTokenizers.trained(.gpt2, size: 256, special: [])
        let lacking = try SmallTokenizers.tokenizer(json.setting("model/vocab/b", nil))
        #expect(lacking.missingBytes == [0x62])
        #expect(lacking.encode("abc").count == 2)
        let unknown = try SmallTokenizers.tokenizer(
            json.setting("model/vocab/b", nil).setting("model/unk_token", "a"))
        #expect(unknown.missingBytes == [])
        #expect(unknown.encode("abc").count == 3)
    }

    @Test func `training is the reference's`() throws {
        // What `tokenizers` 0.23.3 learns from this text with BpeTrainer(vocab_size=262, initial_alphabet=ByteLevel).
        var trainer = try TokenizerTrainer(splitting: .gpt2, special: ["<e>"])
        let text = Array("low lower lowest, new newer newest wide wider widest".utf8)
        try text.withUnsafeBufferPointer { buffer throws(TokenizerError) in try trainer.add(buffer) }
        let json = try trainer.train(size: 265, minimumCount: 1)
        let merges = json.object?["model"]?.object?["merges"]?.array?.map { pair in
            pair.array!.map { $0.text! }.joined(separator: " ")
        }
        #expect(merges == Self.learned)
        // Whatever was learnt can be read, and fewer pairs end it early.
        #expect(try SmallTokenizers.tokenizer(json).count == 265)
        #expect(
            try trainer.train(size: 4000, minimumCount: 3).object!["model"]!.object!["vocab"]!.object!.members.count
                < 280)
        #expect(throws: TokenizerError.self) { try trainer.train(size: 256, minimumCount: 1) }
    }
    static let learned = ["w e", "d e", "i de", "l o", "n e", "s t", "w ide", "Ġ ne"]
}

extension Tokenizer {
    /// The first symbols of a text of the characters kind, spaces as marks.
    func encodeSymbols(_ text: String) -> [UInt32] {
        guard !text.isEmpty else { return [] }
        return ("▁" + text.map { $0 == " " ? "▁" : String($0) }.joined()).unicodeScalars.map { scalar in
            vocabulary.find(Array(String(scalar).utf8))!
        }
    }
}
