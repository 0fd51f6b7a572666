import Files
import Foundation
import JSON
import Primitives
import Testing
import Tokenizers

@Suite struct TokenizerFileTests {
    static let good = SmallTokenizers.trained(.llama3)

    static func problem(_ json: JSONValue) -> String? {
        do throws(TokenizerError) {
            _ = try SmallTokenizers.tokenizer(json)
            return nil
        } catch { return error.description }
    }

    @Test func `what is not followed is refused by name`() {
        let sequence = "pre_tokenizer/pretokenizers"
        let changes: [(path: String, value: JSONValue?, named: String)] = [
            ("version", "2.0", "version"), ("extra", 1, "the file.extra"),
            ("truncation", ["max_length": 5], "truncation"),
            ("padding", [:], "padding"), ("model/type", "Unigram", "model.type"),
            ("model/dropout", 0.1, "model.dropout"),
            ("model/end_of_word_suffix", "</w>", "model.end_of_word_suffix"),
            ("model/continuing_subword_prefix", "##", "model.continuing_subword_prefix"),
            ("model/byte_fallback", true, "model.byte_fallback"), ("model/cache", 1, "model.cache"),
            ("model/unk_token", "nowhere", "model.unk_token"),
            ("normalizer", ["type": "NFKC"], "normalizer.normalizers[0].type"),
            ("normalizer", ["type": "Sequence", "normalizers": [["type": "Lowercase"]]], "Lowercase"),
            ("\(sequence)/0/behavior", "Removed", "pretokenizers[0].behavior"),
            ("\(sequence)/0/invert", true, "pretokenizers[0].invert"),
            ("\(sequence)/0/pattern", ["Regex": #"\w+"#], "pretokenizers[0].pattern"),
            ("\(sequence)/1/add_prefix_space", true, "pretokenizers[1].add_prefix_space"),
            ("\(sequence)/1", ["type": "Whitespace"], "pretokenizers[1].type"),
            ("pre_tokenizer", nil, "pre_tokenizer"),
            ("post_processor", ["type": "BertProcessing"], "post_processor.type"),
            ("decoder", ["type": "WordPiece"], "decoder.type"),
            ("added_tokens/0/single_word", true, "added_tokens[0].single_word"),
            ("added_tokens/0/colour", 1, "added_tokens[0].colour"),
        ]
        #expect(Self.problem(Self.good) == nil)
        for change in changes {
            let found = Self.problem(Self.good.setting(change.path, change.value))
            #expect(found?.contains(change.named) == true, "\(change.path): \(found ?? "read")")
        }
    }

    @Test func `what contradicts itself is refused with its place`() {
        let changes: [(path: String, value: JSONValue?, named: String)] = [
            ("model/vocab/a", 66, "is the number of"), ("model/vocab/a", -1, "at least 0"),
            ("model/vocab/a", 1.5, "whole"),
            ("model/vocab/a", 9_000_000, "far beyond"), ("model/vocab/a", nil, "is not in the vocabulary"),
            ("model/vocab", [], "model.vocab"), ("model/merges/3", "a b c", "model.merges[3]"),
            ("model/merges/3", ["a"], "model.merges[3]"), ("model/merges/0", ["a", "zzz"], "model.merges[0]"),
            ("model/merges/0", "a ", "model.merges[0]"), ("model/merges", nil, "model.merges"),
            ("added_tokens/0/id", 7, "added_tokens[0].id"), ("added_tokens/0/content", "", "added_tokens[0].content"),
            ("added_tokens", [1], "added_tokens[0]"),
            ("added_tokens/0/content", .string(String(repeating: "x", count: 600)), "bytes in added_tokens[0].content"),
            (
                "post_processor",
                ["type": "TemplateProcessing", "single": [["SpecialToken": ["id": "<x>"]]], "special_tokens": [:]],
                "post_processor.single[0]"
            ),
        ]
        for change in changes {
            let found = Self.problem(Self.good.setting(change.path, change.value))
            #expect(found?.contains(change.named) == true, "\(change.path): \(found ?? "read")")
        }
    }

    @Test func `files cut or damaged anywhere are refused or read, never worse`() {
        let bytes = SmallTokenizers.trained(.smollm2, size: 300).bytes()
        for end in stride(from: 0, to: bytes.count, by: 61) {
            #expect(throws: TokenizerError.self) { try Tokenizer.read(Array(bytes[..<end]), path: "t.json") }
        }
        var generator = SeededGenerator(seed: 6)
        let text = Array("In the beginning <|endoftext|> 12 é".utf8)
        for _ in 0..<400 {
            var damaged = bytes
            for _ in 0...generator.below(3) {
                damaged[generator.below(damaged.count)] = UInt8(32 + generator.below(95))
            }
            guard let tokenizer = try? Tokenizer.read(damaged, path: "t.json") else { continue }
            let ids = TokenEncoder(tokenizer).encode(text)
            #expect(ids.allSatisfy { $0 < tokenizer.count })
            _ = try? tokenizer.decode(ids)
        }
    }

    /// Files that somebody made to do harm, or that fuzzing found.
    @Test func `the corpus is refused or works`() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
            "Corpus/tokenizer"
        ).path
        let names = try folderContents(folder)
        #expect(names.count >= 8)
        for name in names {
            let bytes = try fileContents(folder + "/" + name, limit: 1 << 20)
            guard let tokenizer = try? Tokenizer.read(bytes, path: name) else {
                #expect(!name.hasPrefix("read-"), "\(name) is refused")
                continue
            }
            #expect(name.hasPrefix("read-"), "\(name) is read")
            let text = Array(String(repeating: "aab aaa<a>\u{1F999} \u{301}", count: 400).utf8)
            let ids = TokenEncoder(tokenizer).encode(text)
            #expect(ids.allSatisfy { $0 < tokenizer.count })
        }
    }

    @Test func `a text without a space is encoded whatever its length`() throws {
        let tokenizer = try SmallTokenizers.tokenizer(Self.good)
        let text = [UInt8](repeating: UInt8(ascii: "e"), count: 1 << 20)
        let ids = TokenEncoder(tokenizer).encode(text)
        #expect(try tokenizer.decode(ids) == text)
        let spaced = try SmallTokenizers.tokenizer(SmallTokenizers.spaced())
        let marks = TokenEncoder(spaced).encode([UInt8](repeating: 32, count: 1 << 18), addingSpecial: false)
        #expect(marks.count == 1 << 17 | 1)
    }
}
