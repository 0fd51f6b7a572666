import Kademlia
import Primitives
import Testing

/// Who wants to know whether strangers reach it is dialled by somebody that it has never written to: a read-only node, which nobody lists.
@Suite struct `Strangers dial back` {
    private struct Query {
        let to: Endpoint
        let transaction: ArraySlice<UInt8>
        let query: KRPCQuery
    }
    /// One node, and everybody else is the test.
    private struct Table {
        var world = World(seed: 41)
        let pool: PoolSeal
        init(bootstrap: [Endpoint] = [], configure: (inout OverlayConfiguration) -> Void = { _ in }) throws {
            pool = PoolSeal(key: try #require(world.poolKey))
            world.add(bootstrap: bootstrap, configure: configure)
        }
        mutating func send(_ message: KRPCMessage, from: Endpoint) {
            let bytes = message.encoded(pool: pool)
            world.with(0) { $0.receive(datagram: bytes, from: from, at: $1) }
        }
        mutating func ask(_ method: KRPCMethod, as id: NodeID, from: Endpoint, isReadOnly: Bool = true) {
            var message = KRPCMessage(transaction: [9, 9, 9, 9], body: .query(KRPCQuery(sender: id, method: method)))
            message.isReadOnly = isReadOnly
            send(message, from: from)
        }
        mutating func answer(
            _ query: Query, as id: NodeID, token: ArraySlice<UInt8>? = nil, observed: Endpoint? = nil
        ) {
            var answer = KRPCAnswer(sender: id)
            answer.token = token
            var message = KRPCMessage(transaction: query.transaction, body: .answer(answer))
            message.observed = observed.map { $0.compact[...] }
            send(message, from: query.to)
        }
        /// What the node has said to somebody since this was asked last.
        mutating func said(to endpoint: Endpoint) throws -> [KRPCMessage] {
            let mine = world.strays.filter { $0.endpoint == endpoint }
            world.strays.removeAll { $0.endpoint == endpoint }
            return try mine.map { try KRPCMessage.decode($0.bytes, pool: pool) }
        }
        mutating func asked(of endpoint: Endpoint) throws -> [Query] {
            try said(to: endpoint).compactMap {
                guard case .query(let query) = $0.body else { return nil }
                return Query(to: endpoint, transaction: $0.transaction, query: query)
            }
        }
        mutating func token(for id: NodeID, from: Endpoint) throws -> ArraySlice<UInt8> {
            ask(.getPeers(infoHash: id), as: id, from: from)
            for message in try said(to: from) {
                if case .answer(let answer) = message.body, let token = answer.token { return token }
            }
            throw Missing()
        }
    }
    private struct Missing: Error {}

    private func home(_ number: Int) -> Endpoint { Endpoint(ipv4: 60, UInt8(number), 2, 3, port: 4000) }
    private func id(_ number: Int) -> NodeID { NodeID(hashing: "home \(number)".utf8) }

    @Test func `also for a node that hears between two questions that it has another ID`() throws {
        var table = try Table()
        // Somebody who was here a moment ago, and listens.
        _ = try table.token(for: id(1), from: home(1))
        let token = try table.token(for: id(2), from: home(2))
        table.ask(.reach(port: 77, token: token, nonce: 5), as: id(2), from: home(2))
        let first = try #require(try table.asked(of: home(1)).first)
        let before = first.query.sender
        // Three others see the node at an address that its ID does not fit.
        for number in 3...5 {
            table.ask(.ping, as: id(number), from: home(number), isReadOnly: false)
            for query in try table.asked(of: home(number)) {
                table.answer(query, as: id(number), observed: Endpoint(ipv4: 60, 99, 9, 9, port: 4000))
            }
        }
        let after = table.world.nodes[0].directory.overlay.nodeID
        try #require(after != before)
        table.answer(first, as: id(1), token: [1, 2, 3])
        let second = try #require(
            try table.asked(of: home(1)).first {
                if case .getPeers(let hash) = $0.query.method { hash == after } else { false }
            })
        #expect(second.query.sender == after)
        table.answer(second, as: id(1), token: [4, 5, 6])
        let dial = try #require(
            try table.asked(of: home(1)).first { if case .dial = $0.query.method { true } else { false } })
        guard case .dial(let target, let port, let shown, let nonce) = dial.query.method else { return }
        #expect(Array(target) == home(2).compact && port == 77 && Array(shown) == [4, 5, 6] && nonce == 5)
        #expect(dial.query.sender == after && table.world.dialled.isEmpty)
    }

    @Test func `and where one of them cannot it says so, and nobody waits for it`() throws {
        var table = try Table(bootstrap: [home(1)]) { $0.readOnly = true }
        // It has written to the first, and to nobody else.
        _ = try table.asked(of: home(1))
        let token = try table.token(for: id(1), from: home(1))
        func errors(_ token: ArraySlice<UInt8>, from: Endpoint) throws -> Int {
            table.ask(.dial(home(2).compact[...], port: 77, token: token, nonce: 5), as: id(1), from: from)
            return try table.said(to: from).count { if case .error = $0.body { true } else { false } }
        }
        #expect(try errors([0, 0, 0, 0], from: home(1)) == 1)
        #expect(try errors(token, from: home(1)) == 0 && table.world.dialled.map(\.endpoint.port) == [77])
        #expect(try errors(token, from: home(1)) == 1, "once a minute")
        #expect(try errors(token, from: home(3)) == 0, "a stranger hears nothing")
    }
}
