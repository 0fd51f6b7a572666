import Digests
import Kademlia
import Primitives
import Testing

/// The published vectors of BEP 5, 42 and 44.
@Suite struct VectorTests {
    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
    private let a = NodeID("abcdefghij0123456789".utf8)!
    private let b = NodeID("mnopqrstuvwxyz123456".utf8)!

    private func body(_ text: String) throws -> KRPCMessage.Body { try KRPCMessage.decode(bytes(text), pool: nil).body }

    @Test func `BEP 5 queries are understood`() throws {
        guard case .query(let ping) = try body("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"),
            case .ping = ping.method
        else { return #expect(Bool(false)) }
        #expect(ping.sender == a)
        guard
            case .query(let find) = try body(
                "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe"),
            case .findNode(let target) = find.method
        else { return #expect(Bool(false)) }
        #expect(target == b)
        guard
            case .query(let get) = try body(
                "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe"),
            case .getPeers(let hash) = get.method
        else { return #expect(Bool(false)) }
        #expect(hash == b)
        guard
            case .query(let announce) = try body(
                "d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e"
                    + "5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe"),
            case .announcePeer(let under, let port, let implied, let token) = announce.method
        else { return #expect(Bool(false)) }
        #expect(under == b && port == 6881 && implied && Array(token) == bytes("aoeusnth"))
    }

    @Test func `BEP 5 answers and errors are understood`() throws {
        guard
            case .answer(let pong) = try body("d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re"),
            case .answer(let peers) = try body(
                "d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re"),
            case .error(let error) = try body("d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee")
        else { return #expect(Bool(false)) }
        #expect(pong.sender == b)
        #expect(peers.values?.map { Array($0) } == [bytes("axje.u"), bytes("idhtnm")])
        #expect(Endpoint(compact: peers.values![0])?.description == "97.120.106.101:11893")
        #expect(error.code == 201 && error.text == "A Generic Error Ocurred")
    }

    @Test func `BEP 42 node IDs follow from addresses`() {
        let rows: [(String, UInt8, UInt32, String)] = [
            ("124.31.75.21:1", 1, 0x5fbf_bdb2, "5fbfbf"), ("21.75.31.124:1", 86, 0x5a3c_e9b0, "5a3ce9"),
            ("65.23.51.170:1", 22, 0xa5d4_344a, "a5d432"), ("84.124.73.14:1", 65, 0x1b03_217b, "1b0321"),
            ("43.213.53.83:1", 90, 0xe56f_6972, "e56f6c"),
        ]
        var generator = SeededGenerator(seed: 1)
        for (address, rand, checksum, prefix) in rows {
            let endpoint = Endpoint(address)!
            #expect(NodeIDRule.checksum(address: endpoint.address, rand: rand) == checksum)
            for _ in 0..<50 {
                let id = NodeIDRule.makeID(at: endpoint, rand: rand, using: &generator)
                #expect(id.bytes[19] == rand)
                #expect(NodeIDRule.allows(id, at: endpoint))
                #expect(!NodeIDRule.allows(id, at: Endpoint("9.9.9.9:1")!))
                #expect(NodeIDRule.allows(id, at: Endpoint("192.168.9.9:1")!))
            }
            // The published IDs agree in their first 21 bits.
            var published = [UInt8](hex: prefix)! + [UInt8](repeating: 0, count: 17)
            published[19] = rand
            #expect(NodeIDRule.allows(NodeID(published)!, at: endpoint))
            published[2] ^= 8
            #expect(!NodeIDRule.allows(NodeID(published)!, at: endpoint))
        }
        let six = Endpoint("[2001:db8:1:2::5]:7")!
        #expect(NodeIDRule.allows(NodeIDRule.makeID(at: six, using: &generator), at: six))
    }

    @Test func `BEP 44 items have the published buffers, targets and signatures`() throws {
        let key = PeerID(hex: "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")!
        let value = bytes("12:Hello World!")
        let rows = [
            (
                "", "3:seqi1e1:v12:Hello World!", "4a533d47ec9c7d95b1ad75f576cffc641853b750",
                "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
                    + "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
            ),
            (
                "foobar", "4:salt6:foobar3:seqi1e1:v12:Hello World!", "411eba73b6f087ca51a3795d9c8c938d365e32c1",
                "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
                    + "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
            ),
        ]
        for (salt, buffer, target, signature) in rows {
            let salt = bytes(salt)
            #expect(StoredItem.signedBytes(value: value, salt: salt, sequence: 1) == bytes(buffer))
            #expect(StoredItem.target(key: key, salt: salt).hex == target)
            let signed = StoredItem.Signed(key: key, salt: salt, sequence: 1, signature: [UInt8](hex: signature)!)
            #expect(StoredItem(value: value, signed: signed).isAuthentic)
            let later = StoredItem.Signed(key: key, salt: salt, sequence: 2, signature: [UInt8](hex: signature)!)
            #expect(!StoredItem(value: value, signed: later).isAuthentic)
        }
        #expect(StoredItem(value: value, signed: nil).target.hex == "e5f96f6f38320f0f33959cb4d3d656452117aadb")
    }
}
