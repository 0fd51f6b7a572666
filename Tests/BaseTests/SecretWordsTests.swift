import Digests
import Primitives
import Testing

@Suite struct `Words for a secret` {
    private static func secret(_ seed: UInt64) -> [UInt8] { SeededGenerator.bytes(32, seed: seed, stream: 9) }

    /// Computed apart, from the description alone.
    @Test func `are these, for ever`() {
        #expect(
            SecretWords.words(for: [UInt8](repeating: 0, count: 32)).prefix(3) == ["babir", "babab", "babir"])
        #expect(SecretWords.words(for: [UInt8](repeating: 255, count: 32)).prefix(2) == ["zuzuk", "zuzor"])
    }

    @Test func `give the secret back, however they are written`() throws {
        for seed in 0..<200 as Range<UInt64> {
            let secret = Self.secret(seed)
            let words = SecretWords.words(for: secret)
            #expect(words.count == 24)
            #expect(try SecretWords.secret(from: words.joined(separator: " ")) == secret)
            let written = words.enumerated().map { "\($0 + 1). \($1.uppercased())" }.joined(separator: ",\n")
            #expect(try SecretWords.secret(from: written) == secret)
        }
    }

    @Test func `tell every single wrong letter, and at which word it is`() throws {
        let words = SecretWords.words(for: Self.secret(1))
        for place in words.indices {
            for letter in 0..<5 {
                for other in Array("abcdefghijklmnopqrstuvwxyz".utf8) {
                    var code = Array(words[place].utf8)
                    guard code[letter] != other else { continue }
                    code[letter] = other
                    var wrong = words
                    wrong[place] = String(decoding: code, as: UTF8.self)
                    #expect(throws: SecretWords.Mistake.word(place + 1, wrong[place])) {
                        try SecretWords.secret(from: wrong.joined(separator: " "))
                    }
                }
            }
        }
    }

    @Test func `tell neighbours that were exchanged, and words that are missing or of another list`() {
        let words = SecretWords.words(for: Self.secret(2))
        for place in 0..<23 {
            var wrong = words
            wrong.swapAt(place, place + 1)
            #expect(throws: SecretWords.Mistake.place(place + 1, wrong[place])) {
                try SecretWords.secret(from: wrong.joined(separator: " "))
            }
        }
        #expect(throws: SecretWords.Mistake.count(23)) {
            try SecretWords.secret(from: words.dropLast().joined(separator: " "))
        }
        #expect(throws: SecretWords.Mistake.count(0)) { try SecretWords.secret(from: "") }
        // Half of one list and half of another: one of 256 such mixtures looks like a secret.
        let others = SecretWords.words(for: Self.secret(3))
        #expect(throws: SecretWords.Mistake.hash) {
            try SecretWords.secret(from: (words.prefix(12) + others.suffix(12)).joined(separator: " "))
        }
    }
}
