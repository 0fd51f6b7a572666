import Links
import Primitives
import Testing
import VirtualNetworks

/// What happened, as a test writes it down.
private enum Told: Equatable {
    case datagram([UInt8]), cargo(Int), alarm
    case secured(UInt64, inbound: Bool), dialFailed(UInt64, isRefused: Bool), received(UInt64, [UInt8]), closed(UInt64)
}
private struct Entry: Equatable {
    var milliseconds: Double
    var host: Int
    var what: Told
}

private func endpoint(_ host: Int) -> Endpoint { Endpoint(ipv4: 10, 0, 0, UInt8(host), port: 4000) }

/// Hosts 10 ms apart, whose lines carry 8 Mbit/s each way: a byte a microsecond.
private func network(hosts: Int = 2, lines: Bool = true, loss: Double = 0, jitter: Duration = .zero) -> VirtualNetwork {
    var network = VirtualNetwork(seed: 1) { _, _ in
        LinkProperties(latency: .milliseconds(10), jitter: jitter, loss: loss)
    }
    for host in 0..<hosts {
        network.addHost(
            at: endpoint(host), key: PeerID([UInt8](repeating: UInt8(host), count: 32))!,
            access: lines ? AccessRates(up: .megabits(8), down: .megabits(8)) : nil, seed: UInt64(host))
    }
    return network
}
/// Runs to the end, without reports of what is unsent.
private func run(_ network: inout VirtualNetwork, until limit: Instant = Instant(seconds: 100)) -> [Entry] {
    var entries: [Entry] = []
    while let (host, what) = network.happen(until: limit) {
        let told: Told
        switch what {
        case .datagram(let bytes, _): told = .datagram(bytes)
        case .cargo(let number, _): told = .cargo(number)
        case .alarm: told = .alarm
        case .stream(.secured(let id, let stream), _): told = .secured(id, inbound: stream.inbound)
        case .stream(.dialFailed(let id, let isRefused), _): told = .dialFailed(id, isRefused: isRefused)
        case .stream(.received(let id, let bytes), _): told = .received(id, bytes)
        case .stream(.closed(let id), _): told = .closed(id)
        case .stream(.writable, _): continue
        }
        entries.append(Entry(milliseconds: network.now.seconds * 1e3, host: host, what: told))
    }
    return entries
}
private func connected(_ hosts: Int = 2) -> VirtualNetwork {
    var network = network(hosts: hosts)
    network.dial(1, from: 0, to: endpoint(1))
    _ = run(&network, until: Instant(seconds: 1))
    network.rest(until: Instant(seconds: 1))
    return network
}

@Suite struct `A virtual network` {
    @Test func `carries a datagram in the time of its bytes and the latency`() {
        var shaped = network()
        shaped.send([UInt8](repeating: 1, count: 972), from: 0, to: endpoint(1))
        shaped.send([2], from: 0, to: endpoint(7))
        let entries = run(&shaped)
        #expect(entries.map(\.what) == [.datagram([UInt8](repeating: 1, count: 972))])
        #expect(abs(entries[0].milliseconds - 11) < 1e-6, "a millisecond on the line up, ten on the way")
        #expect(shaped.sentBytes(0) == 1000 && shaped.receivedBytes(1) == 1000)

        var bare = network(lines: false)
        bare.send([3], from: 0, to: 1)
        bare.send([4], from: 5, to: 900_000)
        #expect(run(&bare).map { [$0.host, Int($0.milliseconds)] } == [[1, 10], [900_000, 10]])
    }

    @Test func `loses its share of datagrams and spreads the others`() {
        var lossy = network(lines: false, loss: 0.25, jitter: .milliseconds(2))
        for _ in 0..<4000 { lossy.send([1], from: 0, to: 1) }
        let times = run(&lossy).map(\.milliseconds)
        #expect(times.count + lossy.datagramsLost == 4000)
        #expect(abs(Double(lossy.datagramsLost) / 4000 - 0.25) < 0.03)
        let mean = times.reduce(0, +) / Double(times.count)
        let deviation = (times.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(times.count)).squareRoot()
        #expect(abs(mean - 10) < 0.2 && abs(deviation - 2) < 0.1)
        #expect(times == times.sorted())
    }

    @Test func `opens a stream in five legs, and both ends learn who is there`() {
        var network = network()
        network.dial(1, from: 0, to: endpoint(1), expecting: PeerID([UInt8](repeating: 1, count: 32)))
        let entries = run(&network)
        #expect(entries.map(\.what) == [.secured(1, inbound: false), .secured(2, inbound: true)])
        // Four and five latencies, and the bytes of the legs.
        #expect(entries[0].milliseconds > 40 && entries[0].milliseconds < 42)
        #expect(entries[1].milliseconds > 50 && entries[1].milliseconds < 53)
    }

    @Test func `keeps the order of a stream, and a close behind what was written`() {
        var network = connected()
        network.write(1, [1], from: 0)
        network.write(1, [UInt8](repeating: 2, count: 40_000), from: 0)
        network.close(1, by: 0)
        network.write(1, [3], from: 0)
        let entries = run(&network)
        #expect(
            entries.map(\.what) == [.received(2, [1]), .received(2, [UInt8](repeating: 2, count: 40_000)), .closed(2)])
        #expect(entries.allSatisfy { $0.host == 1 })
    }

    @Test func `says what is unsent, and shares a line among those it serves`() {
        var network = network(hosts: 3)
        network.dial(1, from: 0, to: endpoint(1))
        network.dial(3, from: 0, to: endpoint(2))
        _ = run(&network, until: Instant(seconds: 1))
        network.rest(until: Instant(seconds: 1))
        network.write(1, [UInt8](repeating: 1, count: 100_000), from: 0)
        network.write(3, [UInt8](repeating: 2, count: 100_000), from: 0)
        var unsent: [UInt64: [Int]] = [:]
        var arrived: [Double] = []
        while let (_, what) = network.happen() {
            if case .stream(.writable(let id, let bytes), _) = what { unsent[id, default: []].append(bytes) }
            if case .stream(.received, _) = what { arrived.append(network.now.seconds) }
        }
        for id in [UInt64(1), 3] {
            #expect(unsent[id]?.count == 7 && unsent[id]?.last == 0)
            #expect(unsent[id]! == unsent[id]!.sorted(by: >))
        }
        #expect(arrived.count == 2 && arrived.allSatisfy { $0 > 1.18 && $0 < 1.22 }, "side by side, not one by one")
    }

    @Test func `lets dials fail where nobody is, where a wall stands, and where another answers`() {
        var network = network(hosts: 4)
        network.setWall(.rejects, from: 0, to: 1)
        network.setUp(false, 2)
        network.dial(1, from: 0, to: endpoint(9))
        network.dial(3, from: 0, to: endpoint(1))
        network.dial(5, from: 0, to: endpoint(2))
        network.dial(7, from: 0, to: endpoint(3), expecting: PeerID([UInt8](repeating: 1, count: 32)))
        #expect(
            Set(run(&network).map(\.what)) == [
                .dialFailed(1, isRefused: false), .dialFailed(3, isRefused: false), .dialFailed(5, isRefused: true),
                .dialFailed(7, isRefused: false),
            ])
        network.unplug(2)
        network.dial(13, from: 0, to: endpoint(2))
        #expect(run(&network).isEmpty, "of a machine that is off nobody says anything")
        network.setWall(.swallows, from: 0, to: 1)
        network.dial(9, from: 0, to: endpoint(1))
        network.send([1], from: 0, to: endpoint(1))
        #expect(run(&network).isEmpty)
        network.setWall(nil, from: 0, to: 1)
        network.dial(11, from: 0, to: endpoint(1))
        #expect(run(&network).count == 2)
    }

    @Test func `closes the streams of a process that ends, and is silent about a machine that vanishes`() {
        var ended = connected()
        ended.setUp(false, 1)
        #expect(run(&ended).map(\.what) == [.closed(1)])
        var gone = connected()
        gone.unplug(1)
        gone.write(1, [1], from: 0)
        #expect(run(&gone).isEmpty)
        var mute = connected()
        mute.mute(1, of: 0)
        mute.write(1, [1], from: 0)
        mute.close(2, by: 1)
        #expect(run(&mute).isEmpty)
        var severed = connected()
        severed.sever(1, of: 0)
        #expect(
            run(&severed).map { [$0.host, $0.what == .closed(UInt64($0.host + 1)) ? 1 : 0] } == [[0, 1], [1, 1]])
    }

    @Test func `finds a host where it has moved to, and leaves its streams alone`() {
        var network = connected()
        network.move(1, to: endpoint(5))
        network.write(1, [7], from: 0)
        #expect(run(&network).map(\.what) == [.received(2, [7])])
        network.dial(3, from: 0, to: endpoint(1))
        network.dial(5, from: 0, to: endpoint(5))
        #expect(
            Set(run(&network).map(\.what)) == [
                .dialFailed(3, isRefused: false), .secured(5, inbound: false), .secured(4, inbound: true),
            ])
    }

    @Test func `rings alarms in the order of time and number, and takes back what was moved`() {
        var network = network(hosts: 3)
        for host in [2, 0, 1] { network.setAlarm(of: host, at: Instant(seconds: 5)) }
        network.setAlarm(of: 0, at: Instant(seconds: 7))
        network.setAlarm(of: 7, at: Instant(seconds: 6))
        network.setAlarm(of: 2, at: nil)
        #expect(run(&network).map(\.host) == [1, 7, 0])
        #expect(network.next == nil)
    }

    @Test func `carries cargo in order, a byte a microsecond`() {
        var network = network()
        for number in 0..<3 { network.carry(number, bytes: 100_000, from: 0, to: 1) }
        let entries = run(&network)
        #expect(entries.map(\.what) == [.cargo(0), .cargo(1), .cargo(2)])
        #expect(abs(entries[2].milliseconds - 310) < 0.1)
    }

    @Test func `is a value: two copies that are told the same do the same`() {
        var first = connected(3)
        var second = first
        func disturb(_ network: inout VirtualNetwork) -> [Entry] {
            for n in 0..<20 {
                network.write(1, [UInt8](repeating: UInt8(n), count: 3000 * n + 1), from: 0)
                network.send([UInt8(n)], from: n % 3, to: endpoint((n + 1) % 3))
            }
            return run(&network)
        }
        #expect(disturb(&first) == disturb(&second))
    }
}

extension Told: Hashable {}
