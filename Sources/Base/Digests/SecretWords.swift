import Primitives

/// A secret of 32 bytes as 24 words that a person can write down and read out, such as `babod`.
///
/// As in BIP-39 the secret is followed by the first byte of its SHA-256 hash, and each eleven bits of these 264 are a word. The words are not taken
/// from a list: a word is consonant, vowel, consonant, vowel, consonant (as proquints are: Wilkerson 2009, arXiv:0901.4016). Its first four letters
/// carry the eleven bits and whether its number is odd; the fifth is a check of the four. So one wrong letter is found in its word, two neighbours that
/// were exchanged are found at their place, and of anything else that goes wrong 255 of 256 cases are found by the hash.
public enum SecretWords {
    public static let count = 24
    private static let consonants = Array("bdfghjklmnprstvz".utf8)
    private static let vowels = Array("aiou".utf8)

    /// - Parameter secret: 32 bytes.
    public static func words(for secret: [UInt8]) -> [String] {
        precondition(secret.count == 32)
        var bits = BitQueue()
        var out: [String] = []
        for byte in secret + sha256(secret).bytes.prefix(1) {
            bits.append(UInt32(byte), count: 8)
            while let value = bits.take(11) { out.append(word(Int(value), number: out.count + 1)) }
        }
        return out
    }

    /// The secret of these words: upper and lower case are one, and what is not a letter separates words.
    public static func secret(from text: String) throws(Mistake) -> [UInt8] {
        let found = text.lowercased().split { !$0.isLetter }.map(String.init)
        guard found.count == count else { throw .count(found.count) }
        var bits = BitQueue()
        var bytes: [UInt8] = []
        for (index, word) in found.enumerated() {
            guard let (value, isOdd) = value(of: word) else { throw .word(index + 1, word) }
            guard isOdd == (index % 2 == 0) else { throw .place(index + 1, word) }
            bits.append(UInt32(value), count: 11)
            while let byte = bits.take(8) { bytes.append(UInt8(byte)) }
        }
        let secret = Array(bytes.prefix(32))
        guard sha256(secret).bytes.first == bytes[32] else { throw .hash }
        return secret
    }

    /// Why words are no secret.
    public enum Mistake: Error, Hashable, Sendable, CustomStringConvertible {
        /// So many instead of 24.
        case count(Int)
        /// Its number, from 1. It is none of the words.
        case word(Int, String)
        /// Its number, from 1. It belongs to an even place and is at an odd one, or the reverse.
        case place(Int, String)
        /// Every word is one, and all together are none.
        case hash

        public var description: String {
            switch self {
            case .count(let found): "\(found) of the 24 words of an identity"
            case .word(let number, let word):
                "word \(number), “\(cleaned(word, bytes: 20))”, is none: look for a letter that was misread"
            case .place(let number, let word):
                "word \(number), “\(cleaned(word, bytes: 20))”, is not at its place: look whether one is missing or two are exchanged"
            case .hash:
                "each of these is a word, and together they are no identity: look whether words come from two lists"
            }
        }
    }

    // MARK: one word

    private static func word(_ value: Int, number: Int) -> String {
        let letters = [value >> 7, value >> 5 & 3, value >> 1 & 15, (value & 1) << 1 | number & 1]
        let code =
            [consonants[letters[0]], vowels[letters[1]], consonants[letters[2]], vowels[letters[3]]]
            + [consonants[check(letters)]]
        return String(decoding: code, as: UTF8.self)
    }
    private static func value(of word: String) -> (value: Int, isOdd: Bool)? {
        let code = Array(word.utf8)
        guard code.count == 5 else { return nil }
        var letters: [Int] = []
        for (index, letter) in code.enumerated() {
            guard let place = (index % 2 == 0 ? consonants : vowels).firstIndex(of: letter) else { return nil }
            letters.append(place)
        }
        guard letters[4] == check(letters) else { return nil }
        return (letters[0] << 7 | letters[1] << 5 | letters[2] << 1 | letters[3] >> 1, letters[3] & 1 == 1)
    }
    /// Odd factors: no change of one letter leaves the sum as it was.
    private static func check(_ letters: [Int]) -> Int {
        (3 * letters[0] + 5 * letters[1] + 7 * letters[2] + 11 * letters[3]) & 15
    }
}

/// Bits in, most significant first, and out.
private struct BitQueue {
    private var held: UInt32 = 0
    private var count = 0

    mutating func append(_ value: UInt32, count more: Int) {
        held = held << UInt32(more) | value
        count += more
    }
    /// The oldest so many; nil when there are fewer.
    mutating func take(_ wanted: Int) -> UInt32? {
        guard count >= wanted else { return nil }
        count -= wanted
        defer { held &= (1 << UInt32(count)) - 1 }
        return held >> UInt32(count)
    }
}
