import Foundation

/// tokenizer.json of a byte-level model: token = byte, in the form that Hugging Face's `tokenizers` reads.
enum ByteTokenizer {
    /// GPT-2's table of a printable character for each byte: printable ones stand for themselves, the others take 256,
    /// 257, …
    static var characters: [Unicode.Scalar] {
        var next: UInt32 = 256
        return (UInt32(0)..<256).map { byte in
            switch byte {
            case 33...126, 161...172, 174...255: return Unicode.Scalar(byte)!
            default:
                defer { next += 1 }
                return Unicode.Scalar(next)!
            }
        }
    }

    static var tokenizer: [String: Any] {
        var vocabulary: [String: Int] = [:]
        for (byte, character) in characters.enumerated() { vocabulary[String(Character(character))] = byte }
        let null = NSNull()
        return [
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [Any](), "normalizer": null,
            "pre_tokenizer": byteLevel(prefix: false), "post_processor": null, "decoder": byteLevel(prefix: true),
            "model": [
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": [Any](),
            ] as [String: Any],
        ]
    }

    static func configuration(context: Int) -> [String: Any] {
        [
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context,
            "clean_up_tokenization_spaces": false,
        ]
    }

    private static func byteLevel(prefix: Bool) -> [String: Any] {
        ["type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true]
    }
}
