import Coordination
import JobFixtures
import Messages
import Record
import Testing
import Wire

/// A launcher reads the text where it lies: it is its owner's file, and somebody may write to it.
@Suite struct `A launcher's text` {
    private let bytes = [UInt8](repeating: 32, count: 1000)
    private func ask(_ pool: inout FakePool, chunk: Int) -> [Message] {
        let before = pool.sent.count
        pool.say(1, .chunkRequest(content: ContentIndex.id(of: bytes), chunk: chunk))
        return pool.sent[before...].filter { $0.to == Small.peer(1) }.map(\.packet.message)
    }
    private func change(_ store: FakeStore) { [UInt8(33)].withUnsafeBytes { _ = store.put($0, at: 500) } }

    @Test func `that was changed before anybody has it ends the job, and says why`() throws {
        let store = FakeStore(bytes)
        var pool = try FakePool(hasText: false, text: StoredBytes(store, 0..<bytes.count))
        let id = ContentIndex.id(of: bytes)
        #expect(ask(&pool, chunk: 0) == [.chunk(content: id, chunk: 0, bytes: bytes)])
        change(store)
        // What there never was is no sign of it.
        #expect(ask(&pool, chunk: 7) == [.chunkMissing(content: id, chunk: 7)])
        #expect(pool.end == nil)
        #expect(!ask(&pool, chunk: 0).contains { if case .chunk = $0 { true } else { false } })
        for _ in 0..<5 { pool.pass(.seconds(1)) }
        #expect(pool.end?.contains("text cannot be read any more") == true)
    }

    @Test func `that was changed later is others' to give`() throws {
        let store = FakeStore(bytes)
        var pool = try FakePool(text: StoredBytes(store, 0..<bytes.count))
        #expect(pool.coordinator.state.plan != nil)
        change(store)
        #expect(ask(&pool, chunk: 0) == [.chunkMissing(content: ContentIndex.id(of: bytes), chunk: 0)])
        for _ in 0..<5 { pool.pass(.seconds(1)) }
        #expect(pool.end == nil)
    }

    @Test func `that cannot be read begins nothing`() {
        #expect(throws: MalformedBytes.self) {
            try FakePool(text: StoredBytes(FakeGap(), 0..<1000))
        }
    }
    private final class FakeGap: ByteStore {
        func fill(_ offset: Int, _ target: UnsafeMutableRawBufferPointer) -> Bool { false }
        func put(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool { false }
    }
}
