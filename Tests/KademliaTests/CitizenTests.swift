import Digests
import Kademlia
import Primitives
import Testing
import Wire

/// What one node answers to a stranger, message by message.
@Suite struct CitizenTests {
    private let topic = NodeID(hashing: "topic".utf8)

    @Test func `every query of BEP 5 is answered, with the asker's address`() throws {
        let probe = Probe()
        let pong = try #require(probe.send("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"))
        #expect(Array(pong.transaction) == Array("aa".utf8))
        #expect(pong.observed.map { Array($0) } == probe.address.compact)
        #expect(probe.answer(.findNode(target: topic))?.nodes != nil)
        let answer = try #require(probe.answer(.getPeers(infoHash: topic)))
        #expect(answer.values == nil)
        let token = try #require(answer.token)
        #expect(token.count == 8)
        #expect(probe.answer(.announcePeer(infoHash: topic, port: 1, implied: true, token: token)) != nil)
        #expect(probe.answer(.announcePeer(infoHash: topic, port: 80, implied: false, token: token)) != nil)
        let values = try #require(probe.answer(.getPeers(infoHash: topic))?.values).compactMap { Endpoint(compact: $0) }
        #expect(values == [probe.address, Endpoint(ipv4: 127, 0, 0, 9, port: 80)])
    }

    @Test func `unknown methods are 204 and malformed arguments 203`() {
        let probe = Probe()
        #expect(probe.send("d1:ad2:id20:abcdefghij0123456789e1:q4:dumb1:t2:aa1:y1:qe")?.errorCode == 204)
        #expect(
            probe.send("d1:ad2:id20:abcdefghij01234567896:target2:xxe1:q9:find_node1:t2:aa1:y1:qe")?.errorCode == 203)
        #expect(probe.send("d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe")?.errorCode == 203)
        #expect(probe.send("d1:q4:ping1:t2:aa1:y1:qe")?.errorCode == 203)
        // Keys out of order, twice, or with leading zeros.
        #expect(probe.send("d1:q4:ping1:ad2:id20:abcdefghij0123456789e1:t2:aa1:y1:qe")?.errorCode == 203)
        #expect(probe.send("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t02:aa1:y1:qe")?.errorCode == 203)
        #expect(probe.node.counters.malformed == 0)
        #expect(probe.send("d1:q4:ping") == nil)
        #expect(probe.send("hello") == nil)
        #expect(probe.send("d1:t2:aa1:y1:xe") == nil)
        #expect(probe.node.counters.malformed == 3)
    }

    @Test func `tokens are bound to address and target, and live ten minutes at most`() throws {
        let probe = Probe()
        let token = try #require(probe.answer(.getPeers(infoHash: topic))?.token)
        let announce = KRPCMethod.announcePeer(infoHash: topic, port: 80, implied: false, token: token)
        let other = NodeID(hashing: [2])
        #expect(probe.errorCode(.announcePeer(infoHash: other, port: 80, implied: false, token: token)) == 203)
        let home = probe.address
        probe.address = Endpoint(ipv4: 127, 0, 1, 9, port: 7777)
        #expect(probe.errorCode(announce) == 203)
        probe.address = home
        #expect(probe.errorCode(announce) == nil)
        func wait(_ duration: Duration) {
            probe.now += duration
            probe.node.wake(at: probe.now)
        }
        wait(.seconds(20))
        for _ in 0..<14 { wait(.seconds(20)) }
        #expect(probe.errorCode(announce) == nil)
        for _ in 0..<20 { wait(.seconds(20)) }
        #expect(probe.errorCode(announce) == 203)
    }

    @Test func `items are checked for size, salt, signature, sequence and cas`() {
        let probe = Probe()
        let key = World.identity(5)
        func item(_ value: String, _ sequence: Int64, salt: Int = 0) -> StoredItem {
            StoredItem(
                value: Array("\(value.utf8.count):\(value)".utf8), salt: [UInt8](repeating: 65, count: salt),
                sequence: sequence, by: key)
        }
        #expect(probe.put(item(String(repeating: "x", count: 996), 1)) == nil)
        #expect(probe.put(item(String(repeating: "x", count: 997), 2)) == 205)
        #expect(probe.put(item("x", 1, salt: 64)) == nil)
        #expect(probe.put(item("x", 1, salt: 65)) == 207)
        let good = item("salted", 7, salt: 3)
        var signature = good.signed!.signature
        signature[9] ^= 1
        let bad = StoredItem(
            value: good.value,
            signed: .init(key: key.peerID, salt: good.signed!.salt, sequence: 7, signature: signature))
        #expect(probe.put(bad) == 206)
        #expect(probe.put(good) == nil)
        #expect(probe.put(good) == nil, "the same again is a refresh")
        #expect(probe.put(item("other", 7, salt: 3)) == 302)
        #expect(probe.put(item("older", 6, salt: 3)) == 302)
        #expect(probe.put(item("newer", 8, salt: 3), cas: 6) == 301)
        #expect(probe.put(item("newer", 8, salt: 3), cas: 7) == nil)
        #expect(probe.put(item("first", 8, salt: 4), cas: 99) == nil, "cas means nothing while nothing is stored")
        #expect(probe.put(item("negative", -1, salt: 5)) == 203)
        #expect(probe.put(item("largest", .max, salt: 6)) == nil)
        #expect(probe.errorCode(.put(.init(token: [1, 2, 3, 4, 5, 6, 7, 8], item: good, cas: nil))) == 203)
    }

    @Test func `get leaves out what the asker has, and always gives nodes and a token`() throws {
        let probe = Probe()
        let item = StoredItem(value: Array("1:x".utf8), salt: [], sequence: 5, by: World.identity(5))
        #expect(probe.put(item) == nil)
        let full = try #require(probe.answer(.get(target: item.target, sequence: 4)))
        #expect(full.value.map { Array($0) } == item.value && full.sequence == 5)
        #expect(full.key.map { Array($0) } == item.signed?.key.bytes && full.signature?.count == 64)
        let empty = try #require(probe.answer(.get(target: item.target, sequence: 5)))
        #expect(empty.value == nil && empty.key == nil && empty.signature == nil && empty.sequence == 5)
        #expect(empty.token?.count == 8 && empty.nodes != nil)
        let value = Array("li1ed1:a0:ee".utf8)
        #expect(probe.put(StoredItem(value: value, signed: nil)) == nil)
        let immutable = try #require(probe.answer(.get(target: NodeID(hashing: value), sequence: nil)))
        #expect(immutable.value.map { Array($0) } == value && immutable.key == nil)
    }

    @Test func `both families are listed when wanted, and the transport's otherwise`() throws {
        let probe = Probe()
        let both = try #require(probe.answer(.findNode(target: topic), want: [.ipv4, .ipv6]))
        #expect(both.nodes != nil && both.nodes6 != nil)
        let four = try #require(probe.answer(.findNode(target: topic)))
        #expect(four.nodes != nil && four.nodes6 == nil)
        probe.address = Endpoint("[fd00::1]:99")!
        let six = try #require(probe.answer(.findNode(target: topic)))
        #expect(six.nodes == nil && six.nodes6 != nil)
    }

    @Test func `info-hashes are sampled as in BEP 51`() throws {
        let probe = Probe()
        for number in 0..<30 {
            let hash = NodeID(hashing: [UInt8(number)])
            let token = try #require(probe.answer(.getPeers(infoHash: hash))?.token)
            #expect(probe.answer(.announcePeer(infoHash: hash, port: 1, implied: true, token: token)) != nil)
        }
        let sample = try #require(probe.answer(.sampleInfoHashes(target: topic)))
        #expect(sample.number == 30)
        #expect(sample.samples?.count == 400)
        #expect((0...21_600).contains(try #require(sample.interval)))
    }

    @Test func `a read-only node answers nothing`() {
        let probe = Probe { $0.readOnly = true }
        #expect(probe.ask(.ping) == nil)
        #expect(probe.send("d1:ad2:id20:abcdefghij0123456789e1:q4:dumb1:t2:aa1:y1:qe") == nil)
        #expect(probe.node.counters.queriesUnserved == 2)
    }

    @Test func `a closed pool answers sealed datagrams only`() {
        let probe = Probe(poolKey: [UInt8](repeating: 9, count: 32))
        #expect(probe.ask(.ping) != nil)
        #expect(probe.send("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe") == nil)
        #expect(probe.send("d1:ad2:id20:abcdefghij0123456789e1:h16:aaaaaaaaaaaaaaaa1:q4:ping1:t2:aa1:y1:qe") == nil)
        #expect(probe.node.counters.wrongPool == 2)
        let query = KRPCQuery(sender: probe.id, method: .ping)
        var sealed = KRPCMessage(transaction: [1, 2], body: .query(query)).encoded(pool: probe.seal)
        sealed[sealed.count - 10] ^= 1
        #expect(probe.send(sealed).isEmpty)
    }

    @Test func `an unverified source cannot make a node amplify`() throws {
        let probe = Probe()
        let value = Array("990:".utf8) + [UInt8](repeating: 1, count: 990)
        let item = StoredItem(value: value, salt: [], sequence: 1, by: World.identity(5))
        #expect(probe.put(item) == nil)
        probe.address = Endpoint(ipv4: 198, 51, 100, 7, port: 53)
        let query = KRPCMessage(
            transaction: [1, 2],
            body: .query(KRPCQuery(sender: topic, method: .get(target: item.target, sequence: nil)))
        ).encoded(pool: nil)
        var drawn = 0
        var largest = 0
        for round in 0..<2000 {
            let replies = probe.send(query)
            drawn += replies.reduce(0) { $0 + $1.count }
            if round > 1500 { largest = max(largest, replies.map(\.count).max() ?? 0) }
        }
        #expect(largest <= 3 * query.count)
        #expect(Double(drawn) < 3.0 * Double(query.count) * 2000 + 81_000)
        #expect(probe.node.counters.curtailed > 1000)
        // Others are not affected, and who has shown its address still gets everything.
        probe.address = Endpoint(ipv4: 203, 0, 113, 7, port: 53)
        #expect(probe.answer(.get(target: item.target, sequence: nil))?.value?.count == value.count)
    }

    @Test func `a flood from one prefix leaves the others served`() {
        let probe = Probe { $0.limits.queryBurst = 100 }
        probe.address = Endpoint(ipv4: 198, 51, 100, 7, port: 53)
        for _ in 0..<1000 { _ = probe.ask(.ping) }
        #expect(probe.node.counters.flooded == 900)
        probe.address = Endpoint(ipv4: 203, 0, 113, 7, port: 53)
        #expect(probe.ask(.ping) != nil)
    }

    @Test func `an answer from another address than the one asked changes nothing`() {
        let probe = Probe()
        _ = probe.ask(.ping)
        let contacts = probe.node.contactCount
        let forged = KRPCMessage(transaction: [0, 0, 0, 1], body: .answer(KRPCAnswer(sender: topic))).encoded(pool: nil)
        _ = probe.send(forged)
        #expect(probe.node.counters.stray == 1)
        #expect(probe.node.contactCount == contacts)
    }

    @Test func `three voters move a node to an ID that fits its public address`() {
        let probe = Probe()
        let before = probe.node.nodeID
        let external = Endpoint(ipv4: 124, 31, 75, 21, port: 6881)
        for voter in 0..<5 {
            let target = Endpoint(ipv4: 10, 0, UInt8(voter), 1, port: 5)
            probe.address = target
            let id = NodeID(hashing: [UInt8(voter), 77])
            let query = KRPCMessage(transaction: [1], body: .query(KRPCQuery(sender: id, method: .ping)))
            for reply in probe.send(query.encoded(pool: nil)) {
                guard let message = try? KRPCMessage.decode(reply, pool: nil), case .query = message.body else {
                    continue
                }
                var answer = KRPCMessage(transaction: message.transaction, body: .answer(KRPCAnswer(sender: id)))
                answer.observed = external.compact[...]
                _ = probe.send(answer.encoded(pool: nil))
            }
        }
        #expect(probe.node.externalEndpoint == external)
        #expect(probe.node.nodeID != before)
        #expect(NodeIDRule.allows(probe.node.nodeID, at: external))
        #expect(probe.node.contactCount == 5)
    }
}
