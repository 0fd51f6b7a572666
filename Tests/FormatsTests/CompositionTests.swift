import Foundation
import Primitives
import Testing
import Tokenizers

@Suite struct CompositionTests {
    static func composed(_ text: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        text.withUnsafeBufferPointer { Composition.shared.append($0.baseAddress!, $0.count, to: &out) }
        return out
    }

    @Test func `texts compose as Foundation composes them, where Unicode has not moved on`() {
        // Latin, Greek, Cyrillic, Hebrew, Devanagari, Bengali, Tamil, Tibetan, Hangul; no mark younger than Unicode 9. Not
        // what Foundation gets wrong: Tibetan vowels of two parts among other marks, and a final after a whole syllable.
        let pool: [UInt32] =
            Array(0x41...0x5A) + Array(0xC0...0x17F) + Array(0x300...0x34E) + Array(0x391...0x3CE)
            + Array(0x400...0x44F)
            + Array(0x591...0x5BD) + Array(0x915...0x939) + [0x93C, 0x9C7, 0x9BE, 0x9D7, 0xBC6, 0xBBE, 0xBD7, 0x958]
            + [0xF71, 0xF72, 0xF74, 0xF40, 0xFB5, 0x212B, 0x2126, 0x1E9B, 0x2ADC, 0xFB1D]
            + Array(0x1100...0x1112) + Array(0x1161...0x1175) + Array(0x11A8...0x11C2)
        var generator = SeededGenerator(seed: 4)
        for _ in 0..<20_000 {
            var text = String.UnicodeScalarView()
            for _ in 0...generator.below(8) { text.append(Unicode.Scalar(pool[generator.below(pool.count)])!) }
            let expected = Array(String(text).precomposedStringWithCanonicalMapping.utf8)
            let found = Self.composed(Array(String(text).utf8))
            #expect(found == expected, "\(text.map { String($0.value, radix: 16) })")
            #expect(Self.composed(found) == found)
        }
    }

    /// UAX #15: everything is taken apart, ordered by class, and put together again.
    @Test(arguments: [
        ([0xAC00, 0x11A8], [0xAC01]), ([0xD788, 0x11C2], [0xD7A3]), ([0xAC01, 0x11A8], [0xAC01, 0x11A8]),
        ([0x346, 0xF75, 0x32E], [0xF71, 0xF74, 0x32E, 0x346]), ([0xF40, 0x315, 0xF81], [0xF40, 0xF71, 0xF80, 0x315]),
        ([0xF73], [0xF71, 0xF72]), ([0x61, 0x323, 0x302], [0x1EAD]), ([0x2ADC], [0x2ADD, 0x338]),
    ])
    func `what others get wrong is as the standard says`(text: [UInt32], expected: [UInt32]) {
        func bytes(_ points: [UInt32]) -> [UInt8] {
            Array(points.map { String(Character(Unicode.Scalar($0)!)) }.joined().utf8)
        }
        #expect(Self.composed(bytes(text)) == bytes(expected))
    }

    @Test func `bytes that are no UTF-8 stay`() {
        let text: [UInt8] = [0xFF, 0x65, 0xCC, 0x81, 0xC3, 0xCC, 0x81, 0x80]
        #expect(Self.composed(text) == [0xFF, 0xC3, 0xA9, 0xC3, 0xCC, 0x81, 0x80])
    }

    @Test func `a million marks are ordered`() {
        var text = Array("a".utf8)
        for index in 0..<200_000 { text += index % 2 == 0 ? [0xCC, 0x81] : [0xCC, 0xA3] }
        let found = Self.composed(text)
        #expect(found.count > 390_000)
        #expect(Self.composed(found) == found)
    }
}
