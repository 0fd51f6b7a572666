import Testing
import Tokenizers

@Suite struct SplitPatternTests {
    static func pieces(_ pattern: SplitPattern, _ text: [UInt8]) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        text.withUnsafeBufferPointer { buffer in
            var at = 0
            while at < buffer.count {
                let next = pattern.next(buffer.baseAddress!, at, buffer.count, .shared)
                pieces.append(Array(buffer[at..<next]))
                at = next
            }
        }
        return pieces
    }
    static func pieces(_ pattern: SplitPattern, _ text: String) -> [String] {
        pieces(pattern, Array(text.utf8)).map { String(decoding: $0, as: UTF8.self) }
    }

    // What `tokenizers` 0.23.3 answers.
    @Test(arguments: [
        (
            SplitPattern.gpt2, "Hello world's  a1 22\t\tx",
            ["Hello", " world", "'s", " ", " a", "1", " 22", "\t", "\t", "x"]
        ),
        (.gpt2, "IT'S it's it'ſ", ["IT", "'", "S", " it", "'s", " it", "'", "ſ"]),
        (.gpt2, "a \n\n b  ", ["a", " \n\n", " b", "  "]),
        (.llama3, "IT'S it'ſfoo", ["IT", "'S", " it", "'ſ", "foo"]),
        (.llama3, "12345 \r\n  x(y)!!\n\nz", ["123", "45", " \r\n", " ", " x", "(y", ")!!\n\n", "z"]),
        (.llama3, "\u{a0}é \u{1680}3", ["\u{a0}é", " ", "\u{1680}", "3"]),
        (.qwen2, "a12 ½٣", ["a", "1", "2", " ", "½", "٣"]),
        (.qwen2, "_foo\tbar\n baz", ["_foo", "\tbar", "\n", " baz"]),
    ])
    func `texts part as the reference parts them`(pattern: SplitPattern, text: String, expected: [String]) {
        #expect(Self.pieces(pattern, text) == expected)
    }

    @Test(arguments: SplitPattern.allCases)
    func `every byte is in one piece, whatever it is`(pattern: SplitPattern) {
        for first in 0...255 {
            for second in [0x20, 0x27, 0x41, 0x80, 0xC3, 0xE2, 0xF0, 0x0A] {
                let text: [UInt8] = [0x61, UInt8(first), UInt8(second), UInt8(first), 0x20]
                let pieces = Self.pieces(pattern, text)
                #expect(pieces.flatMap { $0 } == text)
                #expect(!pieces.contains([]))
            }
        }
    }

    @Test func `classes are those of the pinned Unicode versions`() {
        var counts: [UInt8: Int] = [:]
        for point in UInt32(0)..<0x110000 {
            let flags = CharacterClasses.shared.flags(point)
            for flag in [
                CharacterClasses.letter, CharacterClasses.number, CharacterClasses.space, CharacterClasses.numeric,
            ]
            where flags & flag != 0 { counts[flag, default: 0] += 1 }
        }
        #expect(counts[CharacterClasses.letter] == 141_028)
        #expect(counts[CharacterClasses.number] == 1911)
        #expect(counts[CharacterClasses.numeric] == 1924)
        #expect(counts[CharacterClasses.space] == 25)
        for point in [0x1C, 0x1F, 0x180E, 0x200B] as [UInt32] {
            #expect(CharacterClasses.shared.flags(point) & CharacterClasses.space == 0)
        }
        #expect(CharacterClasses.shared.flags(0x85) & CharacterClasses.space != 0)
    }

    @Test func `invalid UTF-8 is characters of no class`() {
        for bytes in [[0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82], [0xFF]] as [[UInt8]] {
            bytes.withUnsafeBufferPointer {
                #expect(CharacterClasses.shared.look($0.baseAddress!, 0, $0.count) == (0, 1))
            }
        }
    }

    @Test func `an expression is a pattern or nothing`() {
        for pattern in SplitPattern.allCases { #expect(SplitPattern(expression: pattern.expression) == pattern) }
        #expect(SplitPattern(expression: #"\w+|\s+"#) == nil)
    }
}
