import Primitives
import Testing
import Wire

@Suite struct BencodeTests {
    private func strict(_ text: String) -> BencodeView? { try? BencodeView(Array(text.utf8)) }
    private func lenient(_ text: String) -> BencodeView? { try? BencodeView(Array(text.utf8), canonical: false) }

    @Test(arguments: [
        "i0e", "i-1e", "i42e", "i9223372036854775807e", "i-9223372036854775808e", "i18446744073709551616e", "0:",
        "4:spam",
        "le", "de", "l4:spami3ee", "d1:ai1e1:bi2ee", "d0:i1e1:ai1ee", "lllleeee",
    ])
    func `accepts canonical values`(text: String) throws {
        let view = try #require(strict(text))
        #expect(Array(view.encoded) == Array(text.utf8))
    }

    @Test(arguments: [
        "", "i", "ie", "i-e", "i1", "i1x", "i+1e", "i 1e", "5:spam", "4spam", "-1:a", "l", "d", "li1e", "d1:a", "d1:ae",
        "di1ei2ee",
        "i1ei2e", "4:spamx", "x", "e", "99999999999:a", "i123456789012345678901234567890e", "d1:ai1e1:b", "2147483648:",
    ])
    func `refuses broken structure in either mode`(text: String) {
        #expect(strict(text) == nil)
        #expect(lenient(text) == nil)
    }

    @Test(arguments: [
        "i01e", "i-0e", "i00e", "i-01e", "04:spam", "00:", "d1:bi1e1:ai2ee", "d1:ai1e1:ai2ee", "d2:aai1e1:bi1e1:alee",
    ])
    func `refuses what is merely not canonical only when strict`(text: String) {
        #expect(strict(text) == nil)
        #expect(lenient(text) != nil)
    }

    @Test func `nesting and length are bounded`() {
        let deep = String(repeating: "l", count: 33) + String(repeating: "e", count: 33)
        #expect(strict(deep) == nil)
        #expect(strict(String(deep.dropFirst().dropLast())) != nil)
        #expect(strict(String(repeating: "d1:a", count: 100_000)) == nil)
        #expect(strict("i" + String(repeating: "1", count: 100_000) + "e") == nil)
    }

    @Test func `finds what is there and nothing else`() throws {
        let view = try #require(strict("d1:ad2:id3:xyze4:listli1e1:ae1:ni-7ee"))
        #expect(view["a"]?["id"]?.string.map { Array($0) } == Array("xyz".utf8))
        #expect(view["n"]?.integer == -7)
        #expect(view["list"]?.list?.count == 2)
        #expect(view["lis"] == nil && view["b"] == nil && view["n"]?["x"] == nil && view["a"]?.integer == nil)
        #expect(view["list"]?.list?[1].string?.first == UInt8(ascii: "a"))
        #expect(view.entries?.count == 3)
        #expect(try #require(strict("i18446744073709551616e")).integer == nil)
        #expect(try #require(strict("i-9223372036854775808e")).integer == .min)
    }

    @Test func `slices remember where they were`() throws {
        let bytes = Array("xxd1:vl1:aeexx".utf8)
        let view = try BencodeView(bytes[2..<12])
        #expect(Array(try #require(view["v"]).encoded) == Array("l1:ae".utf8))
        #expect(view["v"]?.encoded.startIndex == 6)
    }

    @Test func `the tree writes sorted keys, and what it writes is read back strictly`() throws {
        let value = BencodeValue.dictionary([
            "b": .integer(-3), "a": .list([.text("x"), .integer(0)]), "aa": .dictionary([:]), "": .string([0, 255]),
        ])
        #expect(value.encoded == Array("d0:2:".utf8) + [0, 255] + Array("1:al1:xi0ee2:aade1:bi-3ee".utf8))
        #expect((try? BencodeView(value.encoded)) != nil)
    }

    /// Random edits of valid input: whatever is accepted must be navigable to its end.
    @Test func `mutated bytes never trap`() {
        var generator = SeededGenerator(seed: 1)
        let seeds = [
            "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", "lli1ei22eel4:spamee", "d1:ali1ei2eee",
        ]
        func visit(_ view: BencodeView) -> Int {
            var count = 1
            _ = view.integer
            _ = view.string
            for child in view.list ?? [] { count += visit(child) }
            for (_, child) in view.entries ?? [] { count += visit(child) }
            return count
        }
        var accepted = 0
        for round in 0..<60_000 {
            var bytes = Array(seeds[round % seeds.count].utf8)
            for _ in 0...generator.below(4) {
                switch generator.below(4) {
                case 0: bytes[generator.below(bytes.count)] = UInt8(generator.below(256))
                case 1:
                    bytes.insert(Array("0123456789:ilde-".utf8)[generator.below(16)], at: generator.below(bytes.count))
                case 2: if bytes.count > 1 { bytes.remove(at: generator.below(bytes.count)) }
                default: bytes = Array(bytes.prefix(1 + generator.below(bytes.count)))
                }
            }
            for canonical in [true, false] {
                if let view = try? BencodeView(bytes, canonical: canonical) {
                    accepted += 1
                    _ = visit(view)
                }
            }
        }
        #expect(accepted > 1000)
    }
}
