import Content
import Messages
import Primitives
import Testing
import Wire

@Suite struct `contents in parts` {
    @Test(arguments: [0, 1, 1000, ContentIndex.chunkBytes - 1, ContentIndex.chunkBytes + 77])
    func `have the ID, the list and the chunks of their parts put together`(_ count: Int) throws {
        var generator = SeededGenerator(seed: 3)
        let first = generator.bytes(count), second = generator.bytes(ContentIndex.chunkBytes * 2 + 5)
        var (shelf, whole) = (ContentShelf(), ContentShelf())
        let parts = [StoredBytes(first), StoredBytes(second)]
        let id = shelf.put(parts, try #require(ContentIndex(ofParts: parts)), at: .zero)
        #expect(whole.put(first + second, at: .zero) == id)
        #expect(shelf.bytes == first.count + second.count)
        #expect(
            shelf.answer(indexOf: id, from: 0, at: .zero) == whole.answer(indexOf: id, from: 0, at: .zero))
        let index = ContentIndex(of: first + second)
        for chunk in 0..<index.count {
            #expect(
                shelf.answer(chunk: chunk, of: id, at: .zero) == Array((first + second)[index.range(chunk)]))
        }
        #expect(shelf.answer(chunk: index.count, of: id, at: .zero) == nil)
    }
}
