import Datasets
import Primitives
import Testing

/// The whole text at once, by the standard library, is what pieces are compared with.
@Suite struct `UTF-8 that comes in pieces` {
    private func isText(_ bytes: [UInt8], cuts: [Int]) -> Bool {
        var check = UTF8Check()
        var start = 0
        for end in cuts.sorted() + [bytes.count] {
            bytes[start..<end].withUnsafeBytes { check.read($0) }
            start = end
        }
        return check.isText
    }

    @Test func `is text wherever it is cut`() {
        let text = Array("aé€😀 ſ\u{10FFFF}z".utf8)
        for first in 0...text.count {
            for second in first...text.count {
                #expect(isText(text, cuts: [first, second]))
                #expect(
                    isText(Array(text[..<first]), cuts: [])
                        == (String(validating: text[..<first], as: UTF8.self) != nil))
            }
        }
    }

    @Test(arguments: 0..<8 as Range<UInt64>)
    func `is judged as in one piece`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed, stream: 1)
        let parts: [[UInt8]] = [
            [0x41], [0xC3, 0xA9], [0xE2, 0x82, 0xAC], [0xF0, 0x9F, 0x98, 0x80], [0xC0, 0x80], [0xE0, 0x80, 0x80],
            [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0x80], [0xFF], [0xE2, 0x82],
            [0xF0],
        ]
        var kinds: Set<Bool> = []
        for _ in 0..<4000 {
            // Mostly right, so that both answers come.
            let bytes = (0..<generator.below(8)).flatMap { _ in
                parts[generator.below(6) == 0 ? generator.below(parts.count) : generator.below(4)]
            }
            let isRight = String(validating: bytes, as: UTF8.self) != nil
            let cuts = (0..<generator.below(4)).map { _ in generator.below(bytes.count + 1) }
            #expect(isText(bytes, cuts: cuts) == isRight, "\(bytes) cut at \(cuts)")
            kinds.insert(isRight)
        }
        #expect(kinds.count == 2)
    }
}
