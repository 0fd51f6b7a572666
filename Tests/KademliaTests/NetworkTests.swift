import Digests
import Kademlia
import Primitives
import Testing

@Suite struct NetworkTests {
    @Test(arguments: [1, 2, 3, 4])
    func `fifty nodes with one list end in one network, whatever the order`(seed: UInt64) throws {
        var world = World(seed: seed)
        world.populate(50, bootstraps: 3, spread: .seconds(Int64(seed - 1) * 5))
        world.run(.seconds(20))
        for node in world.nodes {
            #expect(node.directory.overlay.isJoined)
            #expect(node.directory.overlay.contactCount >= 20)
        }
        #expect(world.reachable(from: 0).count == 50)
        let topic = NodeID(hashing: "topic".utf8)
        let stored = try #require(world.finish(3) { $0.announce(topic, port: 9, at: $1) })
        #expect(try #require(stored.replicas) >= 5)
        for reader in [0, 17, 31, 49] {
            let found = try #require(world.finish(reader) { $0.getPeers(topic, at: $1) })
            #expect(found.peers == [Endpoint(ipv4: 127, 0, 0, 1, port: 9)])
            #expect(found.elapsed < .milliseconds(500))
        }
    }

    @Test func `a lookup ends at exactly the eight closest live nodes`() throws {
        var world = World(seed: 21)
        world.populate(80)
        world.run(.seconds(30))
        var ids: [(id: NodeID, index: Int)] = []
        for index in 0..<80 { ids.append((world.nodes[index].directory.overlay.nodeID, index)) }
        for index in 0..<80 where index % 9 == 1 { world.nodes[index].isSilent = true }
        var exact = 0
        for round in 0..<40 {
            let target = NodeID(hashing: [UInt8(round), 5])
            let asker = round * 2 % 9 == 1 ? 0 : round * 2
            let found = try #require(world.finish(asker) { $0.findNode(target, at: $1) }?.nodes)
            let alive = ids.filter { $0.index != asker && !world.nodes[$0.index].isSilent }
            let truth = alive.sorted { $0.id ^ target < $1.id ^ target }.prefix(8).map(\.id)
            if found.map(\.id) == truth { exact += 1 }
        }
        #expect(exact >= 38, "\(exact) of 40")
    }

    @Test func `mutable and immutable items are found by everybody`() throws {
        var world = World(seed: 5)
        world.loss = 0.02
        world.populate(50)
        world.run(.seconds(15))
        let value = Array("12:Hello World!".utf8)
        let put = try #require(
            world.finish(7) { $0.putMutable(value: value, salt: [1], sequence: 4, cas: nil, at: $1) })
        #expect(try #require(put.replicas) >= 5)
        let key = World.identity(7).peerID
        for reader in [1, 20, 44] {
            let got = try #require(world.finish(reader) { $0.getMutable(key: key, salt: [1], at: $1) })
            #expect(got.item?.value == value)
            #expect(got.item?.signed?.sequence == 4)
            #expect(got.elapsed < .seconds(1))
        }
        world.loss = 0
        let newer = Array("3:new".utf8)
        _ = world.finish(7) { $0.putMutable(value: newer, salt: [1], sequence: 5, cas: 4, at: $1) }
        let again = try #require(world.finish(30) { $0.getMutable(key: key, salt: [1], at: $1) })
        #expect(again.item?.value == newer)
        let late = try #require(world.finish(7) { $0.putMutable(value: value, salt: [1], sequence: 9, cas: 4, at: $1) })
        #expect(try #require(late.replicas) == 0)
        #expect(late.refusals?.contains { $0.code == 301 } == true)
        let old = try #require(
            world.finish(7) { $0.putMutable(value: value, salt: [1], sequence: 3, cas: nil, at: $1) })
        #expect(old.refusals?.contains { $0.code == 302 } == true)

        _ = world.finish(9) { $0.putImmutable(value, at: $1) }
        let target = StoredItem(value: value, signed: nil).target
        let item = try #require(world.finish(40) { $0.getImmutable(target, at: $1) })
        #expect(item.item == StoredItem(value: value, signed: nil))
        let nothing = try #require(world.finish(40) { $0.getImmutable(NodeID(hashing: [1]), at: $1) })
        #expect(nothing.item == nil)
    }

    @Test func `a third of silent nodes costs no operation more than a second`() throws {
        var world = World(seed: 6)
        world.delay = .milliseconds(25)
        world.populate(60)
        world.run(.seconds(30))
        for index in 0..<60 where index % 10 < 3 { world.nodes[(index + 5) % 60].isSilent = true }
        var slowest = Duration.zero
        for round in 0..<20 {
            let asker = (0..<60).filter { !world.nodes[$0].isSilent }[round]
            let topic = NodeID(hashing: [UInt8(round)])
            let stored = try #require(world.finish(asker) { $0.announce(topic, port: 77, at: $1) })
            #expect(try #require(stored.replicas) >= 3)
            let found = try #require(
                world.finish((0..<60).filter { !world.nodes[$0].isSilent }[round + 15]) {
                    $0.getPeers(topic, at: $1)
                })
            #expect(found.peers == [Endpoint(ipv4: 127, 0, 0, 1, port: 77)])
            slowest = max(slowest, max(stored.elapsed, found.elapsed))
        }
        #expect(slowest < .seconds(1.2), "slowest took \(slowest)")
    }

    @Test(arguments: [2, 3, 5, 12])
    func `a small pool that starts at once meets within two seconds`(count: Int) {
        var world = World(seed: UInt64(count))
        world.delay = .milliseconds(1)
        for index in 0..<count {
            let bootstrap = index == 0 ? [] : [World.loopback(0)]
            world.add(bootstrap: bootstrap)
            world.with(index) { directory, now in
                directory.announce(topic: [1, 2], port: UInt16(9000 + index), at: now)
                directory.watch(topic: [1, 2], at: now)
            }
        }
        let met = world.run(.seconds(4)) { world in
            world.nodes.allSatisfy { node in
                (0..<count).allSatisfy { other in
                    World.loopback(other) == node.endpoint
                        || node.directory.endpoints(under: [1, 2]).contains { $0.port == UInt16(9000 + other) }
                }
            }
        }
        #expect(met, "after four seconds somebody misses somebody")
        #expect(world.now - Instant(seconds: 1000) < .seconds(2.6), "took \(world.now - Instant(seconds: 1000))")
    }

    @Test func `a node that bootstraps from itself or from nobody is a network of one and answers`() throws {
        var world = World(seed: 8)
        world.add(bootstrap: [World.loopback(0)])
        world.run(.seconds(5))
        #expect(world.nodes[0].directory.overlay.isJoined)
        world.add(bootstrap: [])
        #expect(world.nodes[1].directory.overlay.isJoined)
        let put = try #require(world.finish(1) { $0.putImmutable(Array("1:x".utf8), at: $1) })
        #expect(put.replicas == 1)
        let target = StoredItem(value: Array("1:x".utf8), signed: nil).target
        #expect(world.finish(1) { $0.getImmutable(target, at: $1) }?.item != nil)
    }

    @Test func `bootstrap is tried for ever and says so, and succeeds when the node comes`() {
        var world = World(seed: 9)
        world.add(bootstrap: [World.loopback(1)])
        world.run(.seconds(600))
        let retries = world.nodes[0].events.compactMap {
            if case .bootstrapRetrying(let attempt, _) = $0.effect { attempt } else { nil }
        }
        #expect(retries.count >= 10)
        #expect(retries == Array(1...retries.count))
        #expect(!world.nodes[0].directory.overlay.isJoined)
        world.add(bootstrap: [])
        #expect(world.run(.seconds(75)) { $0.nodes[0].directory.overlay.isJoined })
    }

    @Test func `two networks that share a list become one`() throws {
        var world = World(seed: 10)
        let list = [World.loopback(0), World.loopback(1)]
        for index in 0..<12 { world.add(bootstrap: index < 2 ? [] : [list[index % 2]]) }
        world.run(.seconds(20))
        let split = world.nodes[2].directory.overlay.contactCount
        #expect(split <= 6)
        for _ in 12..<14 { world.add(bootstrap: list) }
        world.run(.seconds(700))
        for node in world.nodes { #expect(node.directory.overlay.contactCount >= 11) }
    }

    @Test func `after ten minutes without a network everybody finds back`() {
        var world = World(seed: 11)
        world.populate(20)
        world.run(.seconds(20))
        world.loss = 1
        world.run(.seconds(600))
        #expect(
            world.nodes.contains { node in
                node.events.contains { if case .isolated = $0.effect { true } else { false } }
            })
        world.loss = 0
        world.run(.seconds(120))
        for node in world.nodes {
            #expect(node.directory.overlay.isJoined)
            #expect(node.directory.overlay.contactCount >= 10)
        }
    }

    @Test func `the last two nodes find each other again after one was away`() {
        var world = World(seed: 23)
        for index in 0..<2 { world.add(bootstrap: index == 0 ? [] : [World.loopback(0)]) }
        world.run(.seconds(30))
        for away in [0, 1] {
            world.nodes[away].isSilent = true
            world.run(.seconds(1800))
            world.nodes[away].isSilent = false
            world.run(.seconds(90))
            for node in world.nodes {
                #expect(node.directory.overlay.isJoined)
                #expect(node.directory.overlay.contactCount == 1)
            }
        }
    }

    @Test func `a restart with saved contacts joins without any bootstrap node`() {
        var world = World(seed: 12)
        world.populate(20)
        world.run(.seconds(20))
        let saved = world.nodes[4].directory.overlay.contacts
        let before = world.now
        let index = world.add(at: World.loopback(99), bootstrap: [], known: saved)
        #expect(world.run(.seconds(1)) { $0.nodes[index].directory.overlay.isJoined })
        #expect(world.now - before < .milliseconds(60))
    }

    @Test func `a laptop that slept blames nobody`() {
        var world = World(seed: 13)
        world.populate(20)
        world.run(.seconds(20))
        let contacts = world.nodes[3].directory.overlay.contactCount
        world.nodes[3].isSilent = true
        // Time passes for the clock, and not for the machine: nothing reaches it until it is woken.
        let asleep = world.nodes[3].directory
        world.run(.seconds(3600))
        world.nodes[3].directory = asleep
        world.nodes[3].isSilent = false
        world.with(3) { $0.wake(at: $1) }
        world.run(.seconds(5))
        #expect(world.nodes[3].directory.overlay.contactCount >= contacts - 2)
        #expect(world.nodes[3].directory.overlay.isJoined)
    }

    @Test func `another pool's datagrams are dropped and counted, and its nodes never met`() {
        var world = World(seed: 14)
        world.add(bootstrap: [])
        for index in 1..<6 {
            world.add(bootstrap: [World.loopback(0)], poolKey: .some([UInt8](repeating: UInt8(index % 2), count: 32)))
        }
        world.add(bootstrap: [World.loopback(0)], poolKey: .some(nil))
        world.run(.seconds(20))
        #expect(world.nodes[0].directory.overlay.counters.wrongPool >= 6)
        #expect(world.nodes[0].directory.overlay.contactCount == 0)
        for index in 1...6 { #expect(!world.nodes[index].directory.overlay.isJoined) }
    }

    @Test func `the same seed gives the same run`() {
        func run() -> [String] {
            var world = World(seed: 15)
            world.loss = 0.1
            world.populate(25, spread: .seconds(3))
            world.run(.seconds(30))
            return world.nodes.map { "\($0.directory.overlay.contacts)\($0.directory.overlay.counters)" }
                + ["\(world.datagrams)"]
        }
        #expect(run() == run())
    }

    @Test func `records are published, found by key, and given to newcomers`() throws {
        var world = World(seed: 16)
        world.populate(6)
        world.run(.seconds(10))
        let record = CapabilityRecord(
            endpoints: [World.loopback(2)], isReachable: true, device: "cpu/8", versions: [1, 2],
            fullRecord: sha256([1]), expires: 5000)
        world.with(2) { $0.publish(record, wall: 1000, at: $1) }
        world.run(.seconds(2))
        world.with(5) { $0.fetchRecord(of: World.identity(2).peerID, at: $1) }
        world.run(.seconds(2))
        let found = world.nodes[5].events.compactMap { event -> StoredItem? in
            if case .record(_, let item) = event.effect { item } else { nil }
        }
        let item = try #require(found.first)
        #expect(CapabilityRecord(item.value, wall: 4999) == record)
        #expect(CapabilityRecord(item.value, wall: 5000) == nil)
    }

    @Test func `a fifth of the nodes lying about closeness hides nothing`() throws {
        var world = World(seed: 18)
        var generator = SeededGenerator(seed: 18)
        func endpoint(_ index: Int) -> Endpoint {
            Endpoint(ipv4: 44, UInt8(index / 200), UInt8(index % 200), 1, port: 6881)
        }
        for index in 0..<150 {
            let id = NodeIDRule.makeID(at: endpoint(index), using: &generator)
            world.add(at: endpoint(index), bootstrap: index == 0 ? [] : [endpoint(0)], nodeID: id)
            if index % 10 == 0 { world.run(.milliseconds(300)) }
        }
        world.run(.seconds(30))
        for index in 0..<150 where index % 5 == 2 { world.nodes[index].isLiar = true }
        let honest = (0..<150).filter { !world.nodes[$0].isLiar }
        var found = 0
        for round in 0..<60 {
            let salt = [UInt8(round)]
            let writer = honest[generator.below(honest.count)]
            _ = world.finish(writer) { $0.putMutable(value: [48, 58], salt: salt, sequence: 1, cas: nil, at: $1) }
            let key = World.identity(writer).peerID
            let got = world.finish(honest[generator.below(honest.count)]) {
                $0.getMutable(key: key, salt: salt, at: $1)
            }
            if got?.item != nil { found += 1 }
        }
        #expect(found >= 59, "\(found) of 60")
    }

    @Test func `IPv6 nodes form their own network, and nodes of both serve both`() throws {
        var world = World(seed: 19)
        let six = (0..<12).map { Endpoint("[fd00::\(String($0 + 1, radix: 16))]:6881")! }
        for index in 0..<12 { world.add(at: six[index], bootstrap: index == 0 ? [] : [six[0]]) }
        world.run(.seconds(10))
        let topic = NodeID(hashing: [6])
        #expect(world.finish(3) { $0.announce(topic, port: 77, at: $1) }?.replicas ?? 0 >= 5)
        let found = try #require(world.finish(9) { $0.getPeers(topic, at: $1) }?.peers)
        #expect(found == [Endpoint(address: six[3].address, port: 77)!])
        for node in world.nodes { #expect(node.directory.overlay.contactCount == 11) }
    }

    @Test func `a driver that forgets its timers costs memory nobody`() {
        var world = World(seed: 20)
        world.populate(5)
        world.run(.seconds(10))
        var node = world.nodes[0].directory
        var sent = 0
        for second in 0..<2000 {
            let late = world.now + .seconds(Int64(100 + second))
            node.receive(datagram: [1], from: World.loopback(3), at: late)
            while let effect = node.poll() { if case .send = effect { sent += 1 } }
        }
        #expect(sent < 2000)
    }

    @Test func `three voters say whether a node can be dialled, and its role follows`() {
        var world = World(seed: 22)
        for index in 0..<3 { world.add(bootstrap: index == 0 ? [] : [World.loopback(0)]) }
        world.run(.seconds(5))
        func ask(_ world: inout World) -> (reached: Int, asked: Int)? {
            let before = world.nodes[1].events.count
            world.with(1) { $0.checkReachability(port: 4001, isTranslated: true, at: $1) }
            world.run(.seconds(8))
            for event in world.nodes[1].events.dropFirst(before) {
                if case .reachability(let votes) = event.effect { return (votes.reached, votes.asked) }
            }
            return nil
        }
        var verdict = ask(&world)
        #expect(verdict?.reached == 2 && verdict?.asked == 2)
        verdict = ask(&world)
        #expect(verdict?.asked == 0, "nobody dials one address twice a minute")
        world.nodes[1].canBeDialled = false
        world.run(.seconds(60))
        verdict = ask(&world)
        #expect(verdict?.reached == 0 && verdict?.asked == 2)
        #expect(world.nodes[1].directory.overlay.isReadOnly)
        world.nodes[1].canBeDialled = true
        world.run(.seconds(60))
        _ = ask(&world)
        #expect(!world.nodes[1].directory.overlay.isReadOnly)
        world.nodes[1].filtersStrangers = true
        world.run(.seconds(60))
        verdict = ask(&world)
        #expect(verdict?.reached == 0 && verdict?.asked == 2, "TCP alone is not enough")
        #expect(world.nodes[1].directory.overlay.isReadOnly)
    }

    /// A datagram that is lost is no reason to serve nobody any more.
    @Test func `one vote alone against a node has to be said twice`() {
        var world = World(seed: 25)
        for index in 0..<2 { world.add(bootstrap: index == 0 ? [] : [World.loopback(0)]) }
        world.run(.seconds(5))
        func ask() -> Bool {
            world.run(.seconds(61))
            world.with(1) { $0.checkReachability(port: 4001, isTranslated: true, at: $1) }
            world.run(.seconds(12))
            return !world.nodes[1].directory.overlay.isReadOnly
        }
        #expect(ask())
        world.nodes[1].canBeDialled = false
        #expect(ask(), "the first")
        world.nodes[1].canBeDialled = true
        #expect(ask())
        world.nodes[1].canBeDialled = false
        #expect(ask(), "the first again")
        #expect(!ask(), "the second in a row")
        #expect(!ask())
        world.nodes[1].canBeDialled = true
        #expect(ask())
    }

    /// A router lets in whom its host has just written to.
    @Test func `whoever asks whether it can be reached is dialled by another than the one it asked`() throws {
        var world = World(seed: 23)
        for index in 0..<3 { world.add(bootstrap: index == 0 ? [] : [World.loopback(0)]) }
        world.run(.seconds(5))
        let pool = PoolSeal(key: try #require(world.poolKey))
        let id = NodeID(hashing: "asker".utf8)
        var asker = World.loopback(900)
        func say(_ method: KRPCMethod, to index: Int) throws -> KRPCAnswer? {
            var message = KRPCMessage(transaction: [9, 9, 9, 9], body: .query(KRPCQuery(sender: id, method: method)))
            message.isReadOnly = true
            let (bytes, from) = (message.encoded(pool: pool), asker)
            world.strays = []
            world.with(index) { $0.receive(datagram: bytes, from: from, at: $1) }
            world.run(.seconds(3))
            for stray in world.strays where stray.endpoint == asker {
                if case .answer(let answer) = try KRPCMessage.decode(stray.bytes, pool: pool).body { return answer }
            }
            return nil
        }
        func reach(_ index: Int) throws -> Bool? {
            let token = try #require(try say(.getPeers(infoHash: id), to: index)?.token)
            return try say(.reach(port: 77, token: token, nonce: 5), to: index)?.reached
        }
        let target = Endpoint(ipv4: 127, 0, 0, 1, port: 77)
        for voter in 0..<3 {
            asker = World.loopback(900 + voter)
            world.dialled = []
            #expect(try reach(voter) == false)
            #expect(world.dialled.count == 1 && world.dialled[0].by != voter && world.dialled[0].endpoint == target)
            // Nor is it dialled at once again.
            #expect(try reach(voter) == nil && world.dialled.count == 1)
        }
        // Where there is nobody else, or nobody that answers, by the one it asked.
        world.nodes[1].isSilent = true
        world.nodes[2].isSilent = true
        asker = World.loopback(950)
        world.dialled = []
        _ = try reach(0)
        world.run(.seconds(10))
        #expect(world.dialled.map(\.by) == [0])
        // Nobody has another dial without a token, or anywhere but at an address.
        let token = try #require(try say(.getPeers(infoHash: id), to: 0)?.token)
        world.dialled = []
        _ = try say(.dial([127, 0, 0, 1, 9, 9], port: 9, token: token.dropLast() + [0], nonce: 7), to: 0)
        _ = try say(.dial([0, 0, 0, 0, 9, 9], port: 9, token: token, nonce: 7), to: 0)
        #expect(world.dialled.isEmpty)
        _ = try say(.dial([127, 0, 0, 1, 9, 9], port: 9, token: token, nonce: 7), to: 0)
        _ = try say(.dial([127, 0, 0, 1, 9, 9], port: 9, token: token, nonce: 7), to: 0)
        #expect(world.dialled.map(\.endpoint) == [Endpoint(ipv4: 127, 0, 0, 1, port: 9)])
    }

    /// A carrier's router stands in front of many homes, and two machines share one.
    @Test func `those behind one address are all dialled back, up to four in a minute`() throws {
        var world = World(seed: 29)
        world.add(bootstrap: [])
        world.run(.seconds(1))
        let pool = PoolSeal(key: try #require(world.poolKey))
        let id = NodeID(hashing: "asker".utf8)
        func say(_ method: KRPCMethod, from asker: Endpoint) throws -> KRPCAnswer? {
            var message = KRPCMessage(transaction: [9, 9, 9, 9], body: .query(KRPCQuery(sender: id, method: method)))
            message.isReadOnly = true
            world.strays = []
            world.with(0) { $0.receive(datagram: message.encoded(pool: pool), from: asker, at: $1) }
            for stray in world.strays where stray.endpoint == asker {
                if case .answer(let answer) = try KRPCMessage.decode(stray.bytes, pool: pool).body { return answer }
            }
            return nil
        }
        func home(_ number: Int) -> Endpoint { Endpoint(ipv4: 60, 1, 2, 3, port: UInt16(900 + number)) }
        for number in [0, 0, 1, 2, 3, 4, 5, 0] {
            let token = try #require(try say(.getPeers(infoHash: id), from: home(number))?.token)
            _ = try say(.reach(port: UInt16(70 + number), token: token, nonce: 5), from: home(number))
            world.run(.milliseconds(100))
        }
        #expect(world.dialled.map(\.endpoint.port) == [70, 71, 72, 73])
        #expect(world.dialled.allSatisfy { $0.endpoint.address == home(0).address })
        world.run(.seconds(60))
        let token = try #require(try say(.getPeers(infoHash: id), from: home(5))?.token)
        _ = try say(.reach(port: 75, token: token, nonce: 5), from: home(5))
        #expect(world.dialled.count == 5)
    }

    @Test func `a read-only node is served and never listed`() throws {
        var world = World(seed: 17)
        world.populate(10)
        let silent = world.add(bootstrap: [World.loopback(0)]) { $0.readOnly = true }
        world.run(.seconds(20))
        #expect(world.nodes[silent].directory.overlay.contactCount >= 8)
        let topic = NodeID(hashing: [1])
        #expect(world.finish(silent) { $0.announce(topic, port: 5, at: $1) }?.replicas ?? 0 >= 5)
        for node in world.nodes {
            #expect(!node.directory.overlay.contacts.contains { $0.endpoint == World.loopback(silent) })
        }
    }
}
