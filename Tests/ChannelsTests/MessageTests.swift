import Channels
import Primitives
import Testing

private func connected(_ change: (inout ChannelLimits) -> Void = { _ in }) -> Network {
    var network = Network()
    network.add(1, change)
    network.add(2, change)
    network.connect(0, 1)
    network.run(for: .milliseconds(100))
    return network
}
private func bytes(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var random = SeededGenerator(seed: seed)
    return random.bytes(count)
}

@Test func `messages of every awkward size arrive whole through pieces of every size`() {
    var random = SeededGenerator(seed: 4)
    for pieceMax in [1, 3, 4, 5, 7, 1_000, 16_384, 100_000] {
        var network = connected()
        network.pieces = { 1 + random.below(pieceMax) }
        let sizes =
            pieceMax < 8 ? [0, 1, 2, 4, 5, 300] : [0, 1, 16_375, 16_376, 16_377, 16_380, 65_535, 65_536, 200_001]
        for (index, size) in sizes.enumerated() {
            network.send(0, 1, bytes(size, seed: UInt64(index)), on: .activations)
        }
        network.run(for: .milliseconds(50))
        #expect(network.messages(1) == sizes.enumerated().map { bytes($1, seed: UInt64($0)) })
    }
}

@Test func `a message in two parts arrives as one`() {
    var network = connected()
    for cut in [0, 1, 10_000, 16_375, 16_376, 16_377, 40_000] {
        let whole = bytes(40_000, seed: 3)
        let outcome = network.nodes[0].send(
            header: Array(whole[..<cut]), payload: Array(whole[cut...]), on: .bulk, to: network.peer(1), at: network.now
        )
        #expect(outcome == .queued)
        network.drain(0)
        network.run(for: .milliseconds(10))
        #expect(network.messages(1).last == whole)
    }
}

@Test func `a message many windows long arrives by credit`() {
    var network = connected { $0.windowBytes = PerChannel(repeating: 50_000) }
    let long = bytes(3_000_000)
    network.send(0, 1, long, on: .exchange)
    network.run(for: .milliseconds(50))
    #expect(network.messages(1) == [long])
    #expect(network.nodes[0].traffic(with: network.peer(1)).sent[.exchange] == 3_000_000)
    #expect(network.nodes[1].traffic(with: network.peer(0)).received[.exchange] == 3_000_000)
    #expect(network.nodes[0].unsentBytes(to: network.peer(1), on: .exchange) == 0)
}

@Test func `without credit a channel stops, others go on, and it resumes with the grant`() {
    // Two long messages share a budget that holds one; when it is used up the second's credit is withheld.
    var network = Network()
    for id: UInt8 in [1, 2, 3] {
        network.add(id) {
            $0.windowBytes = PerChannel(repeating: 20_000)
            $0.inbound.reassemblyBytes = 200_000
        }
    }
    network.connect(0, 2)
    network.connect(1, 2)
    network.run(for: .milliseconds(100))
    network.send(0, 2, bytes(200_000, seed: 1), on: .bulk)
    network.send(1, 2, bytes(200_000, seed: 2), on: .bulk)
    network.send(1, 2, [42], on: .control)
    network.run(for: .milliseconds(100))
    #expect(network.messages(2).map(\.count) == [1, 200_000, 200_000])
}

@Test func `control overtakes what waits, and only what waits`() {
    var network = connected()
    network.send(0, 1, bytes(1_000_000), on: .bulk)
    network.send(0, 1, [1, 2, 3], on: .control)
    network.run(for: .milliseconds(50))
    #expect(network.messages(1).map(\.count) == [3, 1_000_000])
    // At most the driver's 128 KiB and one frame were ahead of it.
    let bulkBefore = place(of: 0, in: network.written[0])
    #expect(bulkBefore <= 131_072 + 16_384 + 200)
}

/// Offset of the first message on `channel` among the frames that a node wrote.
private func place(of channel: UInt8, in written: [UInt8]) -> Int {
    var offset = 0
    while offset + 4 <= written.count {
        if written[offset] == 2, written[offset + 1] == channel { return offset }
        offset += 4 + Int(written[offset + 2]) + Int(written[offset + 3]) << 8
    }
    return offset
}

/// Message bytes of each channel in the first `limit` written bytes.
private func shares(_ written: ArraySlice<UInt8>) -> [Int] {
    var shares = [0, 0, 0, 0]
    var offset = written.startIndex
    while offset + 4 <= written.endIndex {
        let length = Int(written[offset + 2]) + Int(written[offset + 3]) << 8
        if written[offset] == 2 || written[offset] == 3 { shares[Int(written[offset + 1])] += length }
        offset += 4 + length
    }
    return shares
}

@Test func `on a slow line less is held below, so that control waits for milliseconds, not for all of the buffer`() {
    var network = Network()
    network.add(1)
    network.add(2)
    network.connect(0, 1)
    network.run(for: .milliseconds(100))
    network.rate = .megabits(2)
    network.send(0, 1, bytes(400_000), on: .bulk)
    // What was handed down before the rate was known takes half a second.
    network.run(for: .milliseconds(700))
    let sent = network.now
    network.send(0, 1, [1], on: .control)
    while network.messages(1).isEmpty, network.now < sent + .seconds(1) { network.run(for: .milliseconds(1)) }
    // 12.5 KB are 50 ms on this line, and a frame of half of that may have begun.
    #expect(network.messages(1) == [[1]])
    #expect(network.now - sent < .milliseconds(90))
    network.run(for: .seconds(2))
    #expect(network.messages(1).count == 2)
}

@Test func `every lower channel keeps a floor of five percent`() {
    var network = connected {
        $0.windowBytes = PerChannel(repeating: 64 << 20)
        $0.inbound.firstWindowBytes = $0.windowBytes
    }
    let start = network.written[0].count
    for channel in [Channel.bulk, .exchange, .activations] {
        for n in 0..<4 { network.send(0, 1, bytes(2_000_000, seed: UInt64(n)), on: channel) }
    }
    network.run(for: .milliseconds(50))
    #expect(network.messages(1).count == 12)
    // While all three wait: the highest has 90 %, the others 5 % each.
    let shares = shares(network.written[0].dropFirst(start).prefix(6_000_000))
    let all = Double(shares.reduce(0, +))
    #expect(Double(shares[1]) / all > 0.86 && Double(shares[1]) / all < 0.92)
    #expect(Double(shares[2]) / all > 0.04 && Double(shares[2]) / all < 0.07)
    #expect(Double(shares[3]) / all > 0.04 && Double(shares[3]) / all < 0.08)
}

@Test func `a full queue and a message that is too long are refused before memory is taken`() {
    var network = connected {
        $0.queueBytes[.control] = 1_000
        $0.messageBytes[.bulk] = 5_000
        $0.windowBytes = PerChannel(repeating: 100)
    }
    #expect(network.send(0, 1, bytes(5_001), on: .bulk) == .tooLarge(limit: 5_000))
    #expect(network.nodes[0].send(bytes(2_000), on: .control, to: network.peer(1), at: network.now) == .queued)
    let second = network.nodes[0].send(bytes(10), on: .control, to: network.peer(1), at: network.now)
    #expect(second == .full(queuedBytes: 1_904))
}

@Test func `an upload cap spreads what is sent over time and over peers`() {
    var network = Network()
    network.add(1) { $0.upload = .megabits(8) }
    network.add(2)
    network.add(3)
    network.connect(0, 1)
    network.connect(0, 2)
    network.run(for: .milliseconds(100))
    network.send(0, 1, bytes(500_000), on: .bulk)
    network.send(0, 2, bytes(500_000), on: .bulk)
    // 50 ms may be made up for, and went to the first peer.
    network.run(for: .milliseconds(850))
    #expect([1, 2].map { network.messages($0).count } == [0, 0])
    network.run(for: .milliseconds(200))
    #expect([1, 2].map { network.messages($0).count } == [1, 1])
}

@Test func `a download cap slows the sender through its credit`() {
    var network = Network()
    network.add(1)
    network.add(2) {
        $0.download = .megabits(8)
        $0.windowBytes = PerChannel(repeating: 100_000)
    }
    network.connect(0, 1)
    network.run(for: .milliseconds(100))
    network.send(0, 1, bytes(1_100_000), on: .bulk)
    // A megabyte at 8 Mbit/s takes a second; one window and 50 ms may be ahead of it.
    network.run(for: .milliseconds(750))
    #expect(network.messages(1).count == 0)
    network.run(for: .milliseconds(350))
    #expect(network.messages(1).count == 1)
}

@Test func `the same seed gives the same bytes`() {
    func run() -> [UInt8] {
        var network = connected()
        for n in 0..<20 { network.send(0, 1, bytes(10_000, seed: UInt64(n)), on: Channel(rawValue: UInt8(n % 4))!) }
        network.run(for: .milliseconds(50))
        return network.written[0] + network.written[1]
    }
    #expect(run() == run())
}

/// Node 0 sends something long to one peer and activations to another, over a line of 8 Mbit/s that all connections share.
private func sharing(knows: Bool) -> Network {
    var network = Network()
    for id in 1...3 { network.add(UInt8(id)) }
    network.connect(0, 1)
    network.connect(0, 2)
    network.run(for: .milliseconds(200))
    network.rate = .megabits(8)
    if knows { network.nodes[0].setUplink(.megabits(8)) }
    network.send(0, 1, bytes(2_000_000), on: .exchange)
    network.run(for: .milliseconds(300))
    return network
}
extension Network {
    fileprivate var exchanged: Int { nodes[0].traffic(with: peer(1)).sent[.exchange] }
}

@Test func `an activation has the line for itself, whoever it goes to, and only as long as it needs`() {
    for knows in [false, true] {
        var network = sharing(knows: knows)
        let before = network.exchanged
        network.send(0, 2, bytes(100_000, seed: 2), on: .activations)
        network.run(for: .milliseconds(95))
        #expect((network.exchanged == before) == knows, "100 ms at 8 Mbit/s")
        network.run(for: .milliseconds(100))
        #expect(network.exchanged > before + 50_000)
        network.run(for: .seconds(3))
        #expect(network.messages(1) == [bytes(2_000_000)] && network.messages(2) == [bytes(100_000, seed: 2)])
    }
}

@Test func `activations without end leave a floor`() {
    var network = sharing(knows: true)
    let before = network.exchanged
    for _ in 0..<200 {
        network.send(0, 2, bytes(20_000), on: .activations)
        network.run(for: .milliseconds(10))
    }
    #expect(network.exchanged > before + 50_000, "a twentieth of two seconds, in bursts of what the driver holds")
    #expect(network.exchanged < before + 500_000)
}
