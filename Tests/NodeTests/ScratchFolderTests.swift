import Foundation
import Node
import Testing
import Training
import Wire

/// What is put down beside memory.
@Suite struct `Scratch space in a folder` {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("atoll-test-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    @Test func `gives back what was put down, and leaves nothing in the folder`() throws {
        try withFolder { path in
            let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            let store = try #require(ScratchFolder(path).store(bytes.count))
            var writer = StoredBytesWriter(store)
            let first = bytes[..<1_000_000].withUnsafeBytes { writer.put($0) }
            let second = bytes[1_000_000...].withUnsafeBytes { writer.put($0) }
            let all = StoredBytes(joining: [first, second])
            #expect(all.count == bytes.count && all.inMemory == nil && all.all == bytes)
            #expect(all == StoredBytes(bytes) && all[999_000..<1_001_000].all == Array(bytes[999_000..<1_001_000]))
            #expect(ContentIndex(ofParts: [first, second]) == ContentIndex(of: bytes))
            #expect(
                ContentIndex.bytes(999_990..<1_000_010, ofParts: [first, second]) == Array(bytes[999_990..<1_000_010]))
            #expect(try FileManager.default.contentsOfDirectory(atPath: path).isEmpty)
            // What was never put down is not there.
            #expect(StoredBytes(store, 2_999_000..<3_001_000).all == nil)
        }
    }

    @Test func `shows bytes where they lie, from any place on, as long as they are held`() throws {
        try withFolder { path in
            let bytes = (0..<2_000_000).map { UInt8(truncatingIfNeeded: $0 &* 13) }
            var stored: StoredBytes?
            do {
                var writer = StoredBytesWriter(try #require(ScratchFolder(path).store(bytes.count)))
                stored = bytes.withUnsafeBytes { writer.put($0) }
            }
            let part = try #require(stored)[4097..<1_900_001]
            #expect(try #require(part.mapped).elementsEqual(bytes[4097..<1_900_001]))
            let corpus = try #require(CorpusBytes(part))
            stored = nil
            #expect(corpus.count == 1_895_904)
            // In memory, and in two stores, there is nothing to be shown.
            #expect(StoredBytes(bytes).mapped == nil)
            #expect(StoredBytes(joining: [part, StoredBytes([1])]).mapped == nil)
        }
    }

    @Test func `has none where there is no room, and none for little`() throws {
        try withFolder { path in
            #expect(ScratchFolder(path).store(ScratchFolder.least - 1) == nil)
            #expect(ScratchFolder(path).store(1 << 60) == nil)
            #expect(ScratchFolder(path).place(1 << 60) == nil)
            #expect(ScratchFolder(path + "/nowhere").store(ScratchFolder.least) == nil)
        }
    }

    @Test func `takes what its owner allows, counts what is held, and gives it back`() throws {
        try withFolder { path in
            let room = ScratchFolder(path)
            room.allow(5 << 20)
            var first = room.store(3 << 20)
            #expect(first != nil && room.held == 3 << 20)
            #expect(room.store(3 << 20) == nil && room.store(.max) == nil, "more than is allowed")
            #expect(room.held == 3 << 20, "what was refused is not held")
            let second = room.store(2 << 20)
            #expect(second != nil && room.held == 5 << 20)
            first = nil
            #expect(room.held == 2 << 20)
            // Less is allowed than is held: that stays, and nothing is added.
            room.allow(1 << 20)
            #expect(room.store(1 << 20) == nil && room.held == 2 << 20)
            #expect(ScratchFolder(path + "/nowhere").held == 0)
        }
    }

    @Test func `places in memory, once, what no disk takes`() throws {
        try withFolder { path in
            for (folder, count) in [(path + "/nowhere", 3_000_000), (path, 1000), (path, 3_000_000)] {
                let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 11) }
                let store = try #require(ScratchFolder(folder).place(count))
                let (first, second) = (Array(bytes[..<600]), Array(bytes[600...]))
                #expect(second.withUnsafeBytes { store.put($0, at: 600) })
                #expect(first.withUnsafeBytes { store.put($0, at: 0) })
                let all = StoredBytes(store, 0..<count)
                #expect(all.all == bytes && all[500..<900].all == Array(bytes[500..<900]))
                #expect(try #require(all.mapped).elementsEqual(bytes))
                let corpus = try #require(CorpusBytes(all))
                #expect(corpus.withBytes { $0.elementsEqual(bytes) })
            }
            // Nothing beyond its end.
            let block = try #require(ScratchFolder(path + "/nowhere").place(100))
            #expect(block.map(50..<101) == nil && StoredBytes(block, 99..<101).all == nil)
            #expect(![UInt8(1), 2].withUnsafeBytes { block.put($0, at: 99) })
        }
    }

    @Test func `reads a file where it lies, up to a limit`() throws {
        try withFolder { path in
            let file = path + "/text"
            let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 3) }
            try writeFile(file, bytes)
            let stored = try fileBytes(file, limit: 100_000)
            #expect(stored.count == bytes.count && stored.inMemory == nil)
            #expect(ContentIndex(of: stored) == ContentIndex(of: bytes))
            #expect(throws: NodeError.self) { try fileBytes(file, limit: 99_999) }
            #expect(throws: NodeError.self) { try fileBytes(path, limit: 1) }
            #expect(throws: NodeError.self) { try fileBytes(path + "/none", limit: 1) }
            // Its name may go, and be another's.
            try FileManager.default.removeItem(atPath: file)
            try writeFile(file, [1])
            #expect(stored.all == bytes)
            // Who shortens it while it is read gets nothing in its place.
            try writeFile(path + "/other", bytes)
            let other = try fileBytes(path + "/other", limit: 100_000)
            truncate(path + "/other", 50_000)
            #expect(other.all == nil && ContentIndex(of: other) == nil && other.mapped == nil)
        }
    }

    @Test func `bytes are the same wherever they lie, in whatever parts`() {
        let bytes = (0..<100).map { UInt8($0) }
        let parts = StoredBytes(joining: [
            StoredBytes(Array(bytes[..<10])), StoredBytes(bytes)[10..<60], StoredBytes(),
            StoredBytes(Array(bytes[60...])),
        ])
        #expect(parts == StoredBytes(bytes) && parts.all == bytes && parts[5..<70][5..<20].all == Array(bytes[10..<25]))
        var seen: [UInt8] = []
        #expect(parts.eachPiece { seen += $0 } && seen == bytes)
        #expect(parts != StoredBytes(Array(bytes.dropLast())) && StoredBytes().all == [])
    }
}
