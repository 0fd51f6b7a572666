import Content
import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Wire

@Suite struct `The job's text` {
    static let text = SeededGenerator.bytes(ContentIndex.chunkBytes * 5 + 99, seed: 3, stream: 1)
    static let id = ContentIndex.id(of: text)

    /// A launcher with the text, members that fetch it of it and of each other, and what is between them.
    private struct Crowd {
        var launcher = ContentShelf()
        var desks: [PeerID: TextDesk] = [:]
        var mail: [(from: PeerID, to: PeerID, message: Message)] = []
        var stored: [PeerID: [Int]] = [:]
        var corpora: [PeerID: [[UInt8]]] = [:]
        var events: [PeerID: [Happening]] = [:]
        var now = Instant.zero
        /// Chunks that the launcher has sent.
        var served = 0
        var lost: Set<PeerID> = []

        mutating func drain(_ peer: PeerID) {
            while let effect = desks[peer]!.poll() {
                switch effect {
                case .send(let message, let to): mail.append((peer, to, message))
                case .store(.chunk(_, let number, _)): stored[peer, default: []].append(number)
                case .store(let request): Issue.record("\(request)")
                case .complete(let text): corpora[peer, default: []].append(text.all!)
                case .event(let what, _): events[peer, default: []].append(what)
                }
            }
        }
        mutating func deliver(_ place: Int) {
            let (from, to, message) = mail.remove(at: place)
            if lost.contains(from) || lost.contains(to) { return }
            if to == Small.launcher.peerID {
                switch message {
                case .indexRequest(let id, let first):
                    if let part = launcher.answer(indexOf: id, from: first, at: now) {
                        mail.append((to, from, .indexPart(part)))
                    }
                case .chunkRequest(let id, let number):
                    served += 1
                    mail.append(
                        (
                            to, from,
                            .chunk(content: id, chunk: number, bytes: launcher.answer(chunk: number, of: id, at: now)!)
                        ))
                default: Issue.record("\(message)")
                }
            } else {
                #expect(desks[to]!.receive(message, from: from, at: now) == true)
                drain(to)
            }
        }
    }

    @Test(arguments: 0..<12 as Range<UInt64>)
    func `spreads among members, whoever leaves`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed, stream: 2)
        var crowd = Crowd()
        crowd.launcher.put(Self.text, at: .zero)
        let peers = (1...5).map { Small.peer($0) }
        for (index, peer) in peers.enumerated() {
            crowd.desks[peer] = TextDesk(
                content: Self.id, bytes: Self.text.count, holders: [Small.launcher.peerID], offset: 7 * index, at: .zero
            )
            for other in peers where other != peer { crowd.desks[peer]!.add(holder: other, at: .zero) }
            crowd.drain(peer)
        }
        var steps = 0
        while crowd.desks.contains(where: { !crowd.lost.contains($0.key) && !$0.value.isComplete }), steps < 20_000 {
            steps += 1
            if steps == 15 {
                crowd.lost.insert(peers[4])
                for peer in peers.dropLast() {
                    crowd.desks[peer]!.lost(peers[4], at: crowd.now)
                    crowd.drain(peer)
                }
            }
            if crowd.mail.isEmpty {
                let next = crowd.desks.filter { !crowd.lost.contains($0.key) }.values.compactMap(\.nextWake).min()
                crowd.now = max(crowd.now + .milliseconds(1), next ?? crowd.now)
                for peer in peers where !crowd.lost.contains(peer) {
                    crowd.desks[peer]!.wake(at: crowd.now)
                    crowd.drain(peer)
                }
            } else {
                crowd.now += .milliseconds(1)
                crowd.deliver(generator.below(crowd.mail.count))
            }
        }
        for peer in peers.dropLast() {
            #expect(crowd.corpora[peer] == [Self.text], "once, and all of it")
            #expect((crowd.stored[peer] ?? []).sorted() == Array(0..<6), "each chunk once")
            #expect(crowd.events[peer] == [.textComplete(bytes: Self.text.count)])
            #expect(crowd.desks[peer]!.nextWake == nil)
        }
    }

    /// A disk that is full: what is to be read where it lies goes to memory.
    private final class FullDisk: ByteRoom, @unchecked Sendable {
        private(set) var placed: [Int] = []
        func store(_ bytes: Int) -> (any ByteStore)? { nil }
        func place(_ bytes: Int) -> (any ByteStore)? {
            placed.append(bytes)
            return FakeStore([UInt8](repeating: 0, count: bytes))
        }
    }
    @Test func `is in memory once where no disk has room for it`() throws {
        let (disk, launcher) = (FullDisk(), Small.launcher.peerID)
        var desk = TextDesk(
            content: Self.id, bytes: Self.text.count, holders: [launcher], offset: 0, room: disk, at: .zero)
        var shelf = ContentShelf()
        shelf.put(Self.text, at: .zero)
        var mail = drained(&desk)
        while let effect = mail.popLast() {
            switch effect {
            case .send(.indexRequest(let id, let first), _):
                let part = shelf.answer(indexOf: id, from: first, at: .zero)
                _ = desk.receive(.indexPart(try #require(part)), from: launcher, at: .zero)
            case .send(.chunkRequest(let id, let number), _):
                let bytes = shelf.answer(chunk: number, of: id, at: .zero)
                _ = desk.receive(
                    .chunk(content: id, chunk: number, bytes: try #require(bytes)), from: launcher, at: .zero)
            default: break
            }
            mail += drained(&desk)
        }
        #expect(disk.placed == [Self.text.count])
        let text = try #require(desk.bytes)
        #expect(text.all == Self.text && text.mapped != nil, "whoever learns from it reads it there")
    }

    private func drained(_ desk: inout TextDesk) -> [TextDesk.Effect] {
        var out: [TextDesk.Effect] = []
        while let effect = desk.poll() { out.append(effect) }
        return out
    }

    @Test func `is served on before it is complete`() throws {
        let (launcher, asker) = (Small.launcher.peerID, Small.peer(9))
        let index = ContentIndex(of: Self.text)
        var desk = TextDesk(content: Self.id, bytes: Self.text.count, holders: [launcher], offset: 0, at: .zero)
        _ = drained(&desk)
        func answers(_ message: Message) -> [Message] {
            #expect(desk.receive(message, from: asker, at: .zero) == true)
            return drained(&desk).compactMap { if case .send(let answer, asker) = $0 { answer } else { nil } }
        }
        #expect(answers(.indexRequest(content: Self.id, first: 0)) == [])
        #expect(answers(.chunkRequest(content: Self.id, chunk: 0)) == [.chunkMissing(content: Self.id, chunk: 0)])
        let list = IndexPart(content: Self.id, first: 0, total: index.count, entries: index.encoded)
        _ = desk.receive(.indexPart(list), from: launcher, at: .zero)
        _ = drained(&desk)
        let first = Array(Self.text[index.range(0)])
        _ = desk.receive(.chunk(content: Self.id, chunk: 0, bytes: first), from: launcher, at: .zero)
        _ = drained(&desk)
        #expect(answers(.indexRequest(content: Self.id, first: 0)) == [.indexPart(list)])
        #expect(
            answers(.chunkRequest(content: Self.id, chunk: 0)) == [.chunk(content: Self.id, chunk: 0, bytes: first)])
        #expect(answers(.chunkRequest(content: Self.id, chunk: 99)) == [.chunkMissing(content: Self.id, chunk: 99)])
        #expect(answers(.indexRequest(content: Self.id, first: 99)) == [])
        #expect(desk.receive(.chunkRequest(content: sha256([1]), chunk: 0), from: asker, at: .zero) == false)
        #expect(desk.progress == (1, 6))
    }

    @Test func `names whoever sends a wrong list or a wrong chunk`() {
        let launcher = Small.launcher.peerID
        var desk = TextDesk(
            content: Self.id, bytes: Self.text.count, holders: [launcher, Small.peer(2)], offset: 0, at: .zero)
        let index = ContentIndex(of: Self.text)
        var broken = index.encoded
        broken[9] ^= 1
        _ = drained(&desk)
        _ = desk.receive(
            .indexPart(IndexPart(content: Self.id, first: 0, total: index.count, entries: broken)), from: launcher,
            at: .zero)
        let said = drained(&desk)
        #expect(said.contains { if case .event(.contentRefused, launcher) = $0 { true } else { false } })
        #expect(said.contains { if case .send(.indexRequest, Small.peer(2)) = $0 { true } else { false } })
    }
}
