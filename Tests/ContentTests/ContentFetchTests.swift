import Content
import JobFixtures
import Messages
import Primitives
import Testing
import Wire

/// Who holds a content, and how: some answer, some are silent, some lack chunks, some lie.
struct Holder {
    enum Manner: Hashable { case honest, silent, lying, lacking }
    var manner: Manner
    var shelf = ContentShelf()
}

@Suite struct `Fetching a content` {
    static let text = SeededGenerator.bytes(ContentIndex.chunkBytes * 9 + 1234, seed: 1, stream: 1)
    static let index = ContentIndex(of: text)

    private func fetch(offset: Int = 0, holders: [Int] = [1]) -> ContentFetch {
        ContentFetch(
            id: Self.index.id, bytes: Self.text.count, holders: holders.map { Small.peer($0) }, offset: offset,
            at: .zero)
    }
    private func chunk(_ number: Int) -> [UInt8] { Array(Self.text[Self.index.range(number)]) }
    private func part(from first: Int, most: Int = 10_000) -> IndexPart {
        IndexPart(
            content: Self.index.id, first: first, total: Self.index.count,
            entries: Self.index.encoded(from: first, most: most))
    }
    /// With its list of chunks.
    private func listed(offset: Int = 0, holders: [Int] = [1], at now: Instant = .zero) -> ContentFetch {
        var fetch = fetch(offset: offset, holders: holders)
        for (request, peer) in fetch.requests(at: now) {
            guard case .index(let first) = request else { continue }
            #expect(fetch.receive(part(from: first), from: peer, at: now) == .kept)
        }
        return fetch
    }
    private func number(_ request: ContentFetch.Request) -> Int {
        if case .chunk(let number) = request { number } else { -1 }
    }

    /// Any mixture of holders of which one is honest, answers in any order: it ends with the text, and asks nobody for more than it
    /// may have open.
    @Test(arguments: 0..<60 as Range<UInt64>)
    func `ends with it as long as one holder is honest`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed, stream: 11)
        let others: [Holder.Manner] = [.honest, .silent, .lying, .lacking]
        var manners: [PeerID: Holder.Manner] = [Small.peer(1): .honest]
        for number in 2...(2 + generator.below(4)) { manners[Small.peer(number)] = others[generator.below(4)] }
        var fetch = fetch(offset: generator.below(50), holders: Array(1...manners.count))
        var now = Instant.zero
        var open: [(request: ContentFetch.Request, to: PeerID)] = []
        var condemned: Set<PeerID> = []
        for _ in 0..<5000 where !fetch.isComplete {
            let fresh = fetch.requests(at: now)
            for (request, peer) in fresh {
                #expect(!condemned.contains(peer), "a liar is asked again")
                open.append((request, peer))
            }
            for peer in manners.keys {
                #expect(open.count { $0.to == peer && manners[peer] != .silent } <= ContentFetch.mostWindow)
            }
            open.removeAll { manners[$0.to] == .silent }
            guard !open.isEmpty else {
                now = max(now + .milliseconds(1), fetch.nextWake ?? now + .seconds(1))
                continue
            }
            now += .milliseconds(10)
            let (request, peer) = open.remove(at: generator.below(open.count))
            switch (request, manners[peer]!) {
            case (.index(let first), .honest), (.index(let first), .lacking):
                _ = fetch.receive(part(from: first, most: 4), from: peer, at: now)
            case (.index, _):
                var wrong = part(from: 0)
                wrong.entries[50] ^= 1
                if case .wrong = fetch.receive(wrong, from: peer, at: now) { condemned.insert(peer) }
            case (.chunk(let number), .honest): _ = fetch.receive(chunk: number, chunk(number), from: peer, at: now)
            case (.chunk(let number), .lacking) where number % 2 == 0:
                _ = fetch.receive(chunk: number, chunk(number), from: peer, at: now)
            case (.chunk(let number), .lacking): fetch.missing(number, at: peer, now: now)
            case (.chunk(let number), _):
                let verdict = fetch.receive(chunk: number, [1, 2, 3], from: peer, at: now)
                if case .wrong = verdict { condemned.insert(peer) }
            }
        }
        #expect(fetch.isComplete)
        #expect(fetch.stored?.all == Self.text)
        #expect(fetch.requests(at: now).isEmpty == true)
        #expect(fetch.nextWake == nil)
        #expect(condemned.allSatisfy { manners[$0] == .lying })
    }

    @Test func `names whoever sends what is wrong, and asks others`() throws {
        var fetch = listed(holders: [1, 2])
        let requests = fetch.requests(at: .zero)
        let first = try #require(requests.first { $0.to == Small.peer(1) })
        var wrong = chunk(number(first.request))
        wrong[7] ^= 1
        guard case .wrong = fetch.receive(chunk: number(first.request), wrong, from: first.to, at: .zero) else {
            Issue.record("taken")
            return
        }
        #expect(fetch.chunk(number(first.request)) == nil)
        // Also what it was asked for besides.
        let again = fetch.requests(at: .zero)
        #expect(again.allSatisfy { $0.to == Small.peer(2) })
        #expect(fetch.receive(chunk: 5, chunk(5), from: Small.peer(1), at: .zero) == .unwanted)
    }

    @Test func `takes nothing that it did not ask for`() {
        var fetch = listed()
        let asked = fetch.requests(at: .zero).map { number($0.request) }
        let other = (0..<10).first { !asked.contains($0) }!
        #expect(fetch.receive(chunk: other, chunk(other), from: Small.peer(1), at: .zero) == .unwanted)
        #expect(fetch.receive(chunk: asked[0], chunk(asked[0]), from: Small.peer(9), at: .zero) == .unwanted)
        #expect(fetch.receive(chunk: 10_000, [], from: Small.peer(1), at: .zero) == .unwanted)
        #expect(fetch.receive(chunk: asked[0], chunk(asked[0]), from: Small.peer(1), at: .zero) == .kept)
        #expect(fetch.receive(chunk: asked[0], chunk(asked[0]), from: Small.peer(1), at: .zero) == .unwanted)
        #expect(fetch.receive(part(from: 0), from: Small.peer(1), at: .zero) == .unwanted)
    }

    @Test func `refuses a list of another length than the text has`() {
        var fetch = ContentFetch(id: Self.index.id, bytes: 17, holders: [Small.peer(1)], offset: 0, at: .zero)
        _ = fetch.requests(at: .zero)
        guard case .wrong = fetch.receive(part(from: 0), from: Small.peer(1), at: .zero) else {
            Issue.record("taken")
            return
        }
        #expect(!fetch.hasHolders)
    }

    @Test func `passes over who is silent, and asks again later`() throws {
        var fetch = listed(holders: [1, 2])
        let first = fetch.requests(at: .zero)
        #expect(Set(first.map(\.to)).count == 2)
        // One answers, the other does not.
        var now = Instant.zero
        for (request, peer) in first where peer == Small.peer(1) {
            _ = fetch.receive(chunk: number(request), chunk(number(request)), from: peer, at: now)
        }
        now = .zero + ContentFetch.patience - .nanoseconds(1)
        #expect(fetch.requests(at: now).allSatisfy { $0.to == Small.peer(1) } == true)
        let due = try #require(fetch.nextWake)
        #expect(due == Instant.zero + ContentFetch.patience)
        let later = fetch.requests(at: due)
        #expect(later.allSatisfy { $0.to == Small.peer(1) })
    }

    @Test func `asks a lost holder no more until it is back`() {
        var fetch = listed(holders: [1])
        #expect(fetch.requests(at: .zero).isEmpty == false)
        fetch.lost(Small.peer(1))
        #expect(fetch.requests(at: .zero + .seconds(60)).isEmpty == true)
        #expect(!fetch.hasHolders)
        fetch.add(holder: Small.peer(1), at: .zero + .seconds(61))
        #expect(fetch.requests(at: .zero + .seconds(61)).isEmpty == false)
    }

    @Test func `newcomers begin at different chunks and holders`() {
        let holders = Array(1...4)
        let firsts = (0..<10).map { offset in
            var fetch = listed(offset: offset, holders: holders)
            return number(fetch.requests(at: .zero)[0].request)
        }
        #expect(Set(firsts).count >= 8)
    }

    @Test func `an empty content is complete with its list`() {
        let index = ContentIndex(of: [])
        var fetch = ContentFetch(id: index.id, bytes: 0, holders: [Small.peer(1)], offset: 3, at: .zero)
        #expect(fetch.requests(at: .zero).count == 1)
        let empty = IndexPart(content: index.id, first: 0, total: 0, entries: [])
        #expect(fetch.receive(empty, from: Small.peer(1), at: .zero) == .kept)
        #expect(fetch.isComplete)
        #expect(fetch.stored?.all == [])
    }
}
