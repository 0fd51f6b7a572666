import Digests
import Kademlia
import Primitives
import Testing

/// What others say about our address (BEP 42), through a whole node.
@Suite struct AddressVoteTests {
    /// A node whose queries are answered by `voters`, each of which says that it sees `seen(round, voter)`.
    private func externals(
        rounds: Int, voters: [Endpoint], seen: (Int, Int) -> Endpoint
    ) throws -> [Endpoint] {
        var now = Instant(seconds: 10)
        var overlay = Overlay(
            configuration: OverlayConfiguration(poolKey: nil, bootstrap: voters, seed: 4),
            identity: World.identity(1), nodeID: nil, known: [], at: now)
        var found: [Endpoint] = []
        var round = 0
        while round < rounds {
            now += .seconds(20)
            overlay.wake(at: now)
            var queries: [(bytes: [UInt8], to: Endpoint)] = []
            while let effect = overlay.poll() {
                if case .send(let bytes, let to) = effect { queries.append((bytes, to)) }
                if case .externalEndpoint(let endpoint) = effect { found.append(endpoint) }
            }
            for (bytes, to) in queries {
                guard let voter = voters.firstIndex(of: to), let query = try? KRPCMessage.decode(bytes, pool: nil)
                else { continue }
                let answer = KRPCAnswer(sender: NodeID(hashing: [UInt8(voter)]))
                var reply = KRPCMessage(transaction: query.transaction, body: .answer(answer))
                reply.observed = seen(round, voter).compact[...]
                overlay.receive(datagram: reply.encoded(pool: nil), from: to, at: now)
                round += 1
            }
            while let effect = overlay.poll() {
                if case .externalEndpoint(let endpoint) = effect { found.append(endpoint) }
            }
        }
        return found
    }
    private func voters(_ count: Int) -> [Endpoint] {
        (0..<count).map { Endpoint(ipv4: 198, 51, 100, UInt8(1 + $0), port: 7070) }
    }
    private func seen(_ last: UInt8, _ port: UInt16) -> Endpoint { Endpoint(ipv4: 203, 0, 113, last, port: port) }

    @Test func `a router with a port for every destination is one address, said once`() throws {
        let found = try externals(rounds: 60, voters: voters(2)) { _, voter in seen(9, UInt16(20_000 + voter)) }
        #expect(found.count == 1)
        let random = try externals(rounds: 60, voters: voters(2)) { round, _ in seen(9, UInt16(20_000 + round)) }
        #expect(random.count == 1)
    }

    @Test func `a port that really moved is believed after a while, an address by majority`() throws {
        let port = try externals(rounds: 40, voters: voters(1)) { round, _ in seen(9, round < 10 ? 7000 : 8000) }
        #expect(port == [seen(9, 7000), seen(9, 8000)])
        let address = try externals(rounds: 40, voters: voters(1)) { round, _ in seen(round < 10 ? 9 : 10, 7000) }
        #expect(address == [seen(9, 7000), seen(10, 7000)])
    }
}
