import Channels
import Primitives
import Testing

private func frame(_ kind: UInt8, _ channel: UInt8, _ payload: [UInt8], length: Int? = nil) -> [UInt8] {
    let length = length ?? payload.count
    return [kind, channel, UInt8(length & 255), UInt8(length >> 8)] + payload
}
private func connected() -> Network {
    var network = Network()
    network.add(1)
    network.add(2)
    network.connect(0, 1)
    network.run(for: .milliseconds(100))
    return network
}
private func number(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
/// What node 1 makes of these bytes on its established connection.
private func verdict(_ bytes: [UInt8]) -> Network.Event? {
    var network = connected()
    network.deliver(bytes, to: .init(node: 1, connection: network.connection(of: 1)!))
    return network.events[1].last
}

@Test func `what a member may not send ends its connection with the reason`() {
    func violation(_ bytes: [UInt8], _ what: String) {
        #expect(verdict(bytes) == .lost(Network.id(1), .violation(what)))
    }
    violation(frame(2, 0, [0, 0, 0x20, 0]), "a message of 2097152 bytes on control, at most 1048576")
    violation(frame(2, 2, [255, 255, 255, 255]), "a message of 4294967295 bytes on exchange, at most 67108864")
    violation(frame(3, 0, number(1)), "a step to 1 in control")
    violation(frame(3, 0, number(.max)), "a step to 18446744073709551615 in control")
    violation(frame(4, 1, number(1) + number(100)), "activations confirmed up to 1 and granted up to 100")
    violation(frame(2, 4, [0, 0, 0, 0]), "channel 4")
    violation(frame(2, 0, []), "a frame of nothing")
    violation(frame(9, 0, []), "a grant that nobody asked for")
    violation(frame(12, 0, []), "frame kind 12")
    violation(frame(5, 0, [1]), "8 bytes wanted, 1 left")
    violation(frame(5, 0, [], length: 513), "a 513-byte frame of kind 5")
    violation(
        frame(4, 1, number(0) + number(1 << 62)), "activations confirmed up to 0 and granted up to 4611686018427387904")
    violation(frame(4, 1, number(0)), "8 bytes wanted, 0 left")
    violation(frame(1, 0, [1]), "a second hello")
    violation(frame(2, 3, [], length: 65_533), "a frame of 65533 bytes")
}

@Test func `more bytes than were granted end the connection`() {
    var bytes = frame(2, 3, [0, 0, 0x80, 0])
    for _ in 0..<(4 << 20) / 60_000 + 1 { bytes += frame(2, 3, [UInt8](repeating: 0, count: 60_000)) }
    #expect(verdict(bytes) == .lost(Network.id(1), .violation("more than was granted on bulk")))
}

@Test func `an unknown kind from 128 on is skipped`() {
    #expect(
        verdict(frame(200, 0, [1, 2, 3]) + frame(128, 1, []) + frame(2, 0, [1, 0, 0, 0, 7]))
            == .message(Network.id(1), .control, [7]))
}

@Test func `nothing but a hello is read before membership is proven`() {
    for kind: UInt8 in [2, 3, 4, 5, 6, 7, 200] {
        var network = Network()
        network.add(1)
        let id = ConnectionID(2)
        network.nodes[0].secured(
            id, peer: Network.id(9), exporter: [UInt8](repeating: 1, count: 32), remote: Network.endpoint(3),
            inbound: true,
            isTLSClient: false, at: network.now)
        network.nodes[0].received(id, frame(kind, 0, [0, 0, 0, 0, 0, 0, 0, 0]), at: network.now)
        var closed = false
        while let effect = network.nodes[0].poll() { if effect == .close(id) { closed = true } }
        #expect(closed)
        #expect(network.nodes[0].refusals[.malformed] == 1)
    }
}

@Test func `mutated conversations never trap`() {
    // A recorded conversation, then thousands of variants with flipped, cut, repeated and inserted bytes.
    var record = connected()
    let hello = record.written[0].count
    for n in 0..<6 {
        record.send(0, 1, [UInt8](repeating: UInt8(n), count: n * n * 100), on: Channel(rawValue: UInt8(n % 4))!)
    }
    record.run(for: .milliseconds(20))
    let conversation = Array(record.written[0].dropFirst(hello))
    #expect(conversation.count > 5_000)
    let start = connected()
    let end = Network.End(node: 1, connection: start.connection(of: 1)!)
    for seed in 0..<3_000 {
        var random = SeededGenerator(seed: UInt64(seed))
        var bytes = conversation
        for _ in 0...random.below(4) {
            let place = random.below(bytes.count)
            switch random.below(4) {
            case 0: bytes[place] ^= UInt8(1 << random.below(8))
            case 1: bytes.removeSubrange(place..<min(bytes.count - 1, place + random.below(64)))
            case 2: bytes.insert(contentsOf: random.bytes(random.below(64)), at: place)
            default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + random.below(64))], at: place)
            }
        }
        var network = start
        network.deliver(bytes, to: end)
        network.run(for: .milliseconds(1))
    }
}

@Test func `random first bytes never trap`() {
    for seed in 0..<2_000 {
        var random = SeededGenerator(seed: UInt64(seed))
        var network = Network()
        network.add(1)
        let id = ConnectionID(2)
        network.nodes[0].secured(
            id, peer: Network.id(9), exporter: [UInt8](repeating: 1, count: 32), remote: Network.endpoint(3),
            inbound: true,
            isTLSClient: false, at: network.now)
        let head = random.below(2) == 0 ? frame(1, 0, Array("atoll".utf8), length: 5 + random.below(200)) : []
        network.nodes[0].received(id, head + random.bytes(random.below(300)), at: network.now)
        while network.nodes[0].poll() != nil {}
        #expect(network.nodes[0].connectedPeers.isEmpty)
    }
}
