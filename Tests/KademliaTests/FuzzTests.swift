import Digests
import Foundation
import Kademlia
import Primitives
import Testing

/// Seeded mutations of real traffic against a whole node: no trap, no growth without bound, and the node still answers.
@Suite struct FuzzTests {
    private func corpus(_ pool: PoolSeal?) -> [[UInt8]] {
        let id = NodeID(hashing: "a".utf8)
        let key = World.identity(3)
        let item = StoredItem(value: Array("5:hello".utf8), salt: [1, 2], sequence: 3, by: key)
        let methods: [KRPCMethod] = [
            .ping, .findNode(target: id), .getPeers(infoHash: id), .get(target: id, sequence: 4),
            .announcePeer(infoHash: id, port: 5, implied: false, token: [1, 2, 3, 4, 5, 6, 7, 8]),
            .put(.init(token: [1, 2, 3], item: item, cas: 2)), .sampleInfoHashes(target: id),
            .reach(port: 9, token: [1, 2, 3, 4, 5, 6, 7, 8], nonce: 77), .probe(nonce: 77),
            .dial([127, 0, 0, 1, 9, 9], port: 9, token: [1, 2, 3, 4, 5, 6, 7, 8], nonce: 77),
        ]
        var out = methods.map {
            KRPCMessage(
                transaction: [1, 2, 3, 4], body: .query(KRPCQuery(sender: id, method: $0, want: [.ipv4, .ipv6]))
            )
            .encoded(pool: pool)
        }
        var answer = KRPCAnswer(sender: id)
        answer.nodes = [UInt8](repeating: 3, count: 52)[...]
        answer.nodes6 = [UInt8](repeating: 3, count: 76)[...]
        answer.values = [[1, 2, 3, 4, 5, 6]]
        answer.value = item.value[...]
        answer.key = key.peerID.bytes[...]
        answer.signature = item.signed!.signature[...]
        answer.sequence = 3
        answer.token = [1]
        out.append(KRPCMessage(transaction: [1, 2, 3, 4], body: .answer(answer)).encoded(pool: pool))
        out.append(KRPCMessage(transaction: [1, 2, 3, 4], body: .error(KRPCError(201, "x"))).encoded(pool: pool))
        return out
    }

    private func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        for _ in 0...generator.below(3) where !bytes.isEmpty {
            let at = generator.below(bytes.count)
            switch generator.below(6) {
            case 0: bytes[at] = UInt8(generator.below(256))
            case 1: bytes[at] ^= 1 << UInt8(generator.below(8))
            case 2: bytes.insert(Array("0123456789:ilde-".utf8)[generator.below(16)], at: at)
            case 3: bytes.removeSubrange(at..<min(bytes.count, at + 1 + generator.below(8)))
            case 4: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + generator.below(30))], at: at)
            default: bytes = Array(bytes.prefix(at))
            }
        }
    }

    @Test(arguments: [nil, [UInt8](repeating: 9, count: 32)] as [[UInt8]?])
    func `mutated traffic never traps a node`(pool: [UInt8]?) {
        let probe = Probe(poolKey: pool) {
            $0.limits.queriesPerPrefix = 1e9; $0.limits.queryBurst = 1e9
        }
        var generator = SeededGenerator(seed: pool == nil ? 1 : 2)
        let corpus = corpus(probe.seal)
        var pending: [[UInt8]] = []
        for round in 0..<40_000 {
            var bytes = corpus[generator.below(corpus.count)]
            // Sometimes an answer to a query that the node really sent.
            if let query = pending.popLast(), let message = try? KRPCMessage.decode(query, pool: probe.seal) {
                var answer = KRPCAnswer(sender: NodeID(hashing: [UInt8(round & 255)]))
                answer.nodes = generator.bytes(26 * generator.below(30))[...]
                answer.values = [generator.bytes(6)[...], generator.bytes(generator.below(20))[...]]
                answer.token = generator.bytes(generator.below(70))[...]
                bytes = KRPCMessage(transaction: message.transaction, body: .answer(answer)).encoded(pool: probe.seal)
            }
            if round % 3 != 0 { mutate(&bytes, &generator) }
            probe.address = Endpoint(ipv4: 127, 0, 0, UInt8(1 + generator.below(50)), port: 7)
            for reply in probe.send(bytes) where reply.count < 2000 && pending.count < 50 { pending.append(reply) }
            if round % 50 == 0 {
                probe.now += .milliseconds(Int64(generator.below(3000)))
                probe.node.wake(at: probe.now)
            }
            if round % 1000 == 0 {
                _ = probe.node.getPeers(NodeID(hashing: [UInt8(round / 1000)]), at: probe.now)
                _ = probe.node.getMutable(key: World.identity(3).peerID, salt: [1, 2], at: probe.now)
            }
        }
        probe.address = Endpoint(ipv4: 127, 0, 0, 200, port: 7)
        #expect(probe.ask(.ping) != nil)
        #expect(probe.node.contactCount < 500)
    }

    private struct Entry {
        let verdict: String
        let bytes: [UInt8]
        let what: String
    }
    /// The committed datagrams of `Corpus/krpc.txt`.
    private func entries() throws -> [Entry] {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Corpus/krpc.txt")
        return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").filter { !$0.hasPrefix("#") }.map {
            let parts = $0.split(separator: " ", maxSplits: 3)
            let bytes = try #require(parts[1] == "-" ? [] : [UInt8](hex: String(parts[1])))
            return Entry(verdict: String(parts[0]), bytes: bytes, what: String(parts[3]))
        }
    }

    private func verdict(_ probe: Probe, _ bytes: [UInt8]) -> String {
        if let reply = probe.first(probe.send(bytes)) {
            guard let code = reply.errorCode else { return "answer" }
            return "\(code)"
        }
        let counters = probe.node.counters
        if counters.malformed == 1 { return "drop" }
        return counters.stray == 1 ? "stray" : "nothing"
    }

    @Test func `every datagram of the corpus meets its verdict and is counted`() throws {
        let entries = try entries()
        #expect(entries.count >= 60)
        for entry in entries {
            let probe = Probe()
            #expect(verdict(probe, entry.bytes) == entry.verdict, "\(entry.what)")
            // A closed pool has an answer to none of them.
            let closed = Probe(poolKey: [UInt8](repeating: 1, count: 32))
            #expect(closed.send(entry.bytes).isEmpty, "\(entry.what)")
            #expect(closed.node.counters.wrongPool + closed.node.counters.malformed == 1, "\(entry.what)")
        }
    }

    @Test(arguments: [11, 12, 13])
    func `mutations and crossings of the corpus never trap a node`(seed: UInt64) throws {
        let corpus = try entries().map(\.bytes).filter { !$0.isEmpty }
        let probe = Probe {
            $0.limits.queriesPerPrefix = 1e9; $0.limits.queryBurst = 1e9
        }
        var generator = SeededGenerator(seed: seed)
        var largest = 0
        for round in 0..<20_000 {
            var bytes = corpus[generator.below(corpus.count)]
            if round % 4 == 0 {
                let other = corpus[generator.below(corpus.count)]
                bytes = bytes.prefix(generator.below(bytes.count + 1)) + other.suffix(generator.below(other.count + 1))
            }
            mutate(&bytes, &generator)
            for reply in probe.send(bytes) { largest = max(largest, reply.count) }
        }
        #expect(largest <= 1400)
        #expect(probe.node.stored.items <= 1000)
        #expect(probe.ask(.ping) != nil)
    }
}
