import Digests
import Primitives
import Swarm
import Testing
import Wire

@Suite struct `Content in chunks` {
    static let text = SeededGenerator.bytes(ContentIndex.chunkBytes * 9 + 1234, seed: 1, stream: 1)
    static let index = ContentIndex(of: text)

    private func chunk(_ number: Int) -> [UInt8] {
        let start = number * ContentIndex.chunkBytes
        return Array(Self.text[start..<start + Self.index.lengths[number]])
    }
    private func fetch(offset: Int = 0, holders: [Int] = [1]) -> ContentFetch {
        var fetch = ContentFetch(id: Self.index.id, holders: holders.map { Small.peer($0) }, offset: offset)
        fetch.receive(index: Self.index, holders: [])
        return fetch
    }

    @Test func `an index describes all bytes and is named by its hash`() throws {
        #expect(Self.index.count == 10)
        #expect(Self.index.bytes == Self.text.count)
        #expect(Self.index.id == sha256(Self.index.encoded))
        for number in 0..<10 { #expect(Self.index.digests[number] == sha256(chunk(number))) }
        #expect(try ContentIndex(encoded: Self.index.encoded, id: Self.index.id) == Self.index)
        #expect(ContentIndex(of: []).count == 0)
        #expect(ContentIndex.id(of: Self.text) == Self.index.id)
        #expect(Self.text.withUnsafeBytes { ContentIndex.id(of: $0) } == Self.index.id)
    }

    @Test func `an index that does not hash to the ID asked for is refused`() {
        for position in stride(from: 0, to: Self.index.encoded.count, by: 13) {
            var changed = Self.index.encoded
            changed[position] ^= 1
            #expect(throws: MalformedBytes.self) { try ContentIndex(encoded: changed, id: Self.index.id) }
        }
    }

    @Test func `a malformed index is refused although its hash is right`() {
        func isRefused(_ encoded: [UInt8]) -> Bool {
            (try? ContentIndex(encoded: encoded, id: sha256(encoded))) == nil
        }
        func entry(_ length: UInt64) -> [UInt8] {
            var writer = ByteWriter()
            writer.u64(length)
            writer.raw([UInt8](repeating: 1, count: 32))
            return writer.bytes
        }
        #expect(!isRefused(entry(5)))
        #expect(isRefused(Array(entry(5).dropLast())))
        #expect(isRefused(entry(0)))
        #expect(isRefused(entry(UInt64(ContentIndex.chunkBytes) + 1)))
        #expect(isRefused(entry(.max)))
    }

    @Test func `a fetch that is answered ends with the text`() {
        var fetch = fetch(offset: 3)
        var rounds = 0
        while !fetch.isComplete, rounds < 100 {
            rounds += 1
            for request in fetch.requests(at: .zero) {
                #expect(fetch.receive(chunk: request.chunk, chunk(request.chunk), from: request.from) == true)
            }
        }
        #expect(fetch.content == Self.text)
        #expect(fetch.progress.have == 10)
        #expect(fetch.requests(at: .zero).isEmpty)
    }

    @Test func `wrong bytes are refused and asked for again, of the launcher`() throws {
        var fetch = fetch(offset: 1, holders: [1, 2, 3])
        let first = try #require(fetch.requests(at: .zero).first)
        var wrong = chunk(first.chunk)
        wrong[7] ^= 1
        #expect(fetch.receive(chunk: first.chunk, wrong, from: first.from) == false)
        #expect(fetch.chunk(first.chunk) == nil)
        #expect(fetch.receive(chunk: 10, [], from: first.from) == false)
        let again = try #require(fetch.requests(at: .zero).first { $0.chunk == first.chunk })
        #expect(again.from == Small.peer(1))
        #expect(fetch.receive(chunk: first.chunk, Array(chunk(first.chunk).dropLast()), from: again.from) == false)
        #expect(fetch.receive(chunk: first.chunk, chunk(first.chunk), from: again.from) == true)
        #expect(fetch.chunk(first.chunk) == chunk(first.chunk))
        #expect(fetch.receive(chunk: first.chunk, chunk(first.chunk), from: again.from) == false)
    }

    @Test func `only a few requests are out at a time, and each chunk once`() {
        var fetch = fetch()
        let first = fetch.requests(at: .zero)
        #expect(first.count == ContentFetch.window)
        #expect(Set(first.map(\.chunk)).count == first.count)
        #expect(fetch.requests(at: .zero).isEmpty)
        #expect(fetch.receive(chunk: first[0].chunk, chunk(first[0].chunk), from: first[0].from) == true)
        #expect(fetch.requests(at: .zero).count == 1)
    }

    @Test func `what is not answered is asked for again in time`() {
        var fetch = fetch(holders: [1, 2])
        let first = fetch.requests(at: .zero)
        #expect(fetch.nextWake == Instant.zero + ContentFetch.patience)
        let early = Instant.zero + ContentFetch.patience - .nanoseconds(1)
        #expect(fetch.requests(at: early).isEmpty)
        let again = fetch.requests(at: .zero + ContentFetch.patience)
        #expect(Set(again.map(\.chunk)) == Set(first.map(\.chunk)))
    }

    @Test func `a lost holder is asked no more`() {
        var fetch = fetch(offset: 0, holders: [1, 2])
        let asked = fetch.requests(at: .zero).filter { $0.from == Small.peer(2) }
        #expect(!asked.isEmpty)
        fetch.lost(Small.peer(2))
        let again = fetch.requests(at: .zero)
        #expect(Set(again.map(\.chunk)) == Set(asked.map(\.chunk)))
        #expect(again.allSatisfy { $0.from == Small.peer(1) })
        fetch.lost(Small.peer(1))
        #expect(fetch.requests(at: .zero + .seconds(60)).isEmpty)
    }

    @Test func `newcomers begin at different chunks and holders`() {
        let holders = Array(1...4)
        let firsts = (0..<8).map { offset in
            var fetch = fetch(offset: offset, holders: holders)
            return fetch.requests(at: .zero)[0].chunk
        }
        #expect(Set(firsts).count >= 6)
        var load: [PeerID: Int] = [:]
        for offset in 0..<16 {
            var fetch = fetch(offset: offset, holders: holders)
            for request in fetch.requests(at: .zero) { load[request.from, default: 0] += 1 }
        }
        #expect(load.count == 4)
        // 96 requests: nobody is asked for more than twice a fair share.
        #expect(load.values.allSatisfy { $0 <= 48 })
    }

    @Test func `a chunk that a holder does not have is asked for elsewhere`() throws {
        var fetch = fetch(offset: 0, holders: [1, 2])
        let request = try #require(fetch.requests(at: .zero).first { $0.from == Small.peer(2) })
        fetch.missing(request.chunk, at: request.from)
        let again = try #require(fetch.requests(at: .zero).first { $0.chunk == request.chunk })
        #expect(again.from == Small.peer(1))
    }
}
