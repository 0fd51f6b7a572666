import Content
import JobFixtures
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

    @Test func `are read where they lie, and handed on only as long as they are what they were`() throws {
        let text = SeededGenerator.bytes(ContentIndex.chunkBytes * 2 + 5, seed: 4, stream: 1)
        let store = FakeStore(text)
        var (shelf, whole) = (ContentShelf(), ContentShelf())
        let put = shelf.put(StoredBytes(store, 0..<text.count), at: .zero)
        let id = try #require(put)
        #expect(whole.put(text, at: .zero) == id)
        #expect(
            shelf.chunks(of: id) == 3 && whole.chunks(of: id) == 3 && shelf.chunks(of: ContentIndex.id(of: [1])) == 0)
        for chunk in 0..<3 {
            #expect(shelf.answer(chunk: chunk, of: id, at: .zero) == whole.answer(chunk: chunk, of: id, at: .zero))
        }
        // Somebody writes to the file.
        [text[ContentIndex.chunkBytes] ^ 1].withUnsafeBytes { _ = store.put($0, at: ContentIndex.chunkBytes) }
        #expect(shelf.answer(chunk: 0, of: id, at: .zero) != nil)
        #expect(shelf.answer(chunk: 1, of: id, at: .zero) == nil)
        #expect(shelf.answer(chunk: 2, of: id, at: .zero) != nil)
    }
}
