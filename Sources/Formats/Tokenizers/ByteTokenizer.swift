public import JSON

/// tokenizer.json of a byte-level model: token = byte, in the form that Hugging Face's `tokenizers` reads.
public enum ByteTokenizer {
    public static var tokenizer: JSONValue {
        let vocabulary = (0...255).map { (byte: UInt8) in
            JSONObject.Member(ByteAlphabet.text(of: [byte]), JSONValue(Int(byte)))
        }
        return [
            "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": [], "normalizer": nil,
            "pre_tokenizer": byteLevel(prefix: false), "post_processor": nil, "decoder": byteLevel(prefix: true),
            "model": [
                "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
                "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": .object(JSONObject(vocabulary)), "merges": [],
            ],
        ]
    }

    public static func configuration(context: JSONValue) -> JSONValue {
        [
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context,
            "clean_up_tokenization_spaces": false,
        ]
    }

    private static func byteLevel(prefix: Bool) -> JSONValue {
        ["type": "ByteLevel", "add_prefix_space": .bool(prefix), "trim_offsets": true, "use_regex": true]
    }
}
