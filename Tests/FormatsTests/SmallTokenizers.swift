import JSON
import Primitives
import Tokenizers

/// Vocabularies made on the spot.
enum SmallTokenizers {
    static let text = """
        In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was \
        upon the face of the deep. And the Spirit of God moved upon the face of the waters. 12 and 345, don't and it's; \
        naïve café, 한국어 日本語 日本.
        """

    static func trained(
        _ splitting: TokenizerTrainer.Splitting, size: Int = 340, special: [String] = ["<|endoftext|>"]
    ) -> JSONValue {
        var trainer = try! TokenizerTrainer(splitting: splitting, special: special)
        try! Array(text.utf8).withUnsafeBufferPointer { buffer throws(TokenizerError) in try trainer.add(buffer) }
        return try! trainer.train(size: size, minimumCount: 1)
    }

    static func tokenizer(_ json: JSONValue) throws(TokenizerError) -> Tokenizer {
        try Tokenizer.read(json.bytes(), path: "t.json")
    }

    /// Llama 2's kind: a few words, marks, bytes.
    static func spaced(preTokenizer: JSONValue? = nil, decoder: JSONValue? = nil) -> JSONValue {
        var vocabulary: [String] = ["<unk>", "<s>", "</s>"]
        for byte in 0..<256 {
            let digits = String(byte, radix: 16, uppercase: true)
            vocabulary.append("<0x\(digits.count < 2 ? "0" : "")\(digits)>")
        }
        vocabulary += ["▁", "a", "b", "c", "▁a", "ab", "▁ab", "▁▁", "é"]
        let members = vocabulary.enumerated().map { JSONObject.Member($1, JSONValue($0)) }
        let replace: JSONValue = ["type": "Replace", "pattern": ["String": " "], "content": "▁"]
        let normalizer: JSONValue = [
            "type": "Sequence", "normalizers": [["type": "Prepend", "prepend": "▁"], replace],
        ]
        let sequence: JSONValue = [
            "type": "Sequence",
            "decoders": [
                ["type": "Replace", "pattern": ["String": "▁"], "content": " "], ["type": "ByteFallback"],
                ["type": "Fuse"], ["type": "Strip", "content": " ", "start": 1, "stop": 0],
            ],
        ]
        let added: [JSONValue] = (0..<3).map { index in
            [
                "id": JSONValue(index), "content": .string(vocabulary[index]), "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            ]
        }
        let template: JSONValue = [
            "type": "TemplateProcessing",
            "single": [
                ["SpecialToken": ["id": "<s>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
            ],
            "pair": [], "special_tokens": ["<s>": ["id": "<s>", "ids": [1], "tokens": ["<s>"]]],
        ]
        return [
            "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": .array(added),
            "normalizer": preTokenizer == nil ? normalizer : nil, "pre_tokenizer": preTokenizer ?? .null,
            "post_processor": template, "decoder": decoder ?? sequence,
            "model": [
                "type": "BPE", "dropout": nil, "unk_token": "<unk>", "continuing_subword_prefix": nil,
                "end_of_word_suffix": nil, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                "vocab": .object(JSONObject(members)), "merges": ["a b", "▁ ab", "▁ a", ["▁", "▁"]],
            ],
        ]
    }
}

extension JSONValue {
    /// A copy in which the value at a path of keys and indices is another; nil removes it.
    func setting(_ path: ArraySlice<String>, _ value: JSONValue?) -> JSONValue {
        guard let key = path.first else { return value ?? .null }
        switch self {
        case .object(var object):
            object[key] = path.count == 1 ? value : (object[key] ?? [:]).setting(path.dropFirst(), value)
            return .object(object)
        case .array(var array):
            let index = Int(key)!
            array[index] = array[index].setting(path.dropFirst(), value)
            return .array(array)
        default: return self
        }
    }
    func setting(_ path: String, _ value: JSONValue?) -> JSONValue {
        setting(path.split(separator: "/").map(String.init)[...], value)
    }
}
