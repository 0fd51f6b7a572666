import Digests
import Primitives
import Testing
import Wire

@Suite struct `An index of chunks` {
    static let text = SeededGenerator.bytes(ContentIndex.chunkBytes * 9 + 1234, seed: 1, stream: 1)
    static let index = ContentIndex(of: text)

    @Test func `describes all bytes and is named by its hash`() throws {
        #expect(Self.index.count == 10)
        #expect(Self.index.bytes == Self.text.count)
        #expect(Self.index.id == sha256(Self.index.encoded))
        for number in 0..<10 {
            let chunk = Array(Self.text[Self.index.range(number)])
            #expect(Self.index.holds(chunk, chunk: number))
            #expect(!Self.index.holds(Array(chunk.dropLast()), chunk: number))
            #expect(!Self.index.holds(chunk, chunk: (number + 1) % 10))
        }
        #expect(try ContentIndex(encoded: Self.index.encoded, id: Self.index.id) == Self.index)
        #expect(ContentIndex(of: []).count == 0)
        #expect(ContentIndex.id(of: Self.text) == Self.index.id)
        #expect(Self.text.withUnsafeBytes { ContentIndex.id(of: $0) } == Self.index.id)
    }

    @Test func `comes in pieces`() {
        var encoded: [UInt8] = []
        for first in stride(from: 0, to: 10, by: 3) { encoded += Self.index.encoded(from: first, most: 3) }
        #expect(encoded == Self.index.encoded)
        #expect(Self.index.encoded(from: 10, most: 3).isEmpty)
    }

    @Test func `that does not hash to the ID asked for is refused`() {
        for position in stride(from: 0, to: Self.index.encoded.count, by: 13) {
            var changed = Self.index.encoded
            changed[position] ^= 1
            #expect(throws: MalformedBytes.self) { try ContentIndex(encoded: changed, id: Self.index.id) }
        }
    }

    @Test func `that is malformed is refused although its hash is right`() {
        func isRefused(_ encoded: [UInt8]) -> Bool {
            (try? ContentIndex(encoded: encoded, id: sha256(encoded))) == nil
        }
        func entry(_ length: UInt64) -> [UInt8] {
            var writer = ByteWriter()
            writer.u64(length)
            writer.raw([UInt8](repeating: 1, count: 32))
            return writer.bytes
        }
        let whole = UInt64(ContentIndex.chunkBytes)
        #expect(!isRefused(entry(5)))
        #expect(!isRefused(entry(whole) + entry(5)))
        #expect(isRefused(entry(5) + entry(whole)))
        #expect(isRefused(Array(entry(5).dropLast())))
        #expect(isRefused(entry(0)))
        #expect(isRefused(entry(whole + 1)))
        #expect(isRefused(entry(.max)))
    }
}
