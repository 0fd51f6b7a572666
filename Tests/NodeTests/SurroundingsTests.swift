import EventLoop
import Node
import Paths
import Primitives
import Testing

@Suite struct `The router of this machine` {
    /// Ends a test that waits for something that never comes.
    private func run(_ loop: Loop) {
        let guardian = Timer(loop) {
            Issue.record("it did not finish")
            loop.stop()
        }
        guardian.arm(at: loop.now + .seconds(30))
        loop.run()
        guardian.close()
    }
    /// PCP, as RFC 6887 draws it, of a router that gives what is wished for.
    private static func answer(_ bytes: [UInt8]) -> [UInt8] {
        [2, 0x80 | bytes[1], 0, 0] + bytes[4..<8] + [0, 0, 0, 9] + [UInt8](repeating: 0, count: 12) + bytes[24..<44]
            + [UInt8](repeating: 0, count: 10) + [255, 255, 203, 0, 113, 9]
    }

    @Test func `is asked over a socket of its own, and nobody else is heard there`() throws {
        let loop = Loop()
        let loopback = Endpoint(ipv4: 127, 0, 0, 1, port: 0)
        var (questions, sources): ([[UInt8]], Set<Endpoint>) = ([], [])
        var router: UDPSocket?
        let stranger = try UDPSocket(loop, bind: loopback) { _, _ in }
        router = try UDPSocket(loop, bind: loopback) { bytes, sender in
            questions.append(Array(bytes))
            sources.insert(sender)
            guard bytes.count == 60 else { return }
            // Somebody in the same house is quicker, and says something else.
            var forged = Self.answer(Array(bytes))
            forged[43] ^= 1
            stranger.send(forged, to: sender)
            router?.send(Self.answer(Array(bytes)), to: sender)
        }
        let gateway = PortMapper.Gateway(endpoint: router!.endpoint!, local: loopback)
        var mapper = PortMapper(port: 7070, secret: Array(1...24), seed: 1)
        var told: [PortMapper.Gateway?] = []
        var surroundings: Surroundings?
        func drain() {
            while let effect = mapper.poll() {
                if case .send(let bytes, let to) = effect { surroundings?.send(bytes, to: to) }
            }
            if mapper.counts.strays == 2, mapper.forwarded?.datagramPort != nil { loop.stop() }
        }
        surroundings = Surroundings(loop, .given(gateway), listening: loopback, onChange: {}) { found in
            told.append(found)
            mapper.use(found, at: loop.now)
            drain()
        } onIPv6: { _ in
            Issue.record("it listens at 127.0.0.1 only")
        } onAnswer: { bytes, sender in
            mapper.receive(bytes, from: sender, at: loop.now)
            drain()
        }
        surroundings!.look()
        surroundings!.look()
        run(loop)
        #expect(told == [gateway], "it is told once")
        #expect(mapper.forwarded?.endpoint == Endpoint("203.0.113.9:7070")!)
        #expect(mapper.forwarded?.datagramPort == 7070 && mapper.counts.strays == 2)
        #expect(sources.count == 1 && sources.allSatisfy { $0.address == [127, 0, 0, 1] })
        #expect(questions.filter { $0.count == 60 }.count == 2)
        surroundings!.close()
        stranger.close()
        router!.close()
    }
    @Test func `is not looked for on loopback, or where its owner does not want it`() {
        for (choice, listening) in [
            (RouterChoice.ofSystem, Endpoint(ipv4: 127, 0, 0, 1, port: 7070)),
            (.none, Endpoint(ipv4: 0, 0, 0, 0, port: 7070)),
        ] {
            let loop = Loop()
            let surroundings = Surroundings(loop, choice, listening: listening, onChange: {}) { _ in
                Issue.record("a router is asked")
            } onIPv6: { _ in
                Issue.record("it listens at an IPv4 address")
            } onAnswer: { _, _ in
                Issue.record("somebody answered")
            }
            surroundings.look()
            surroundings.close()
        }
    }

    @Test func `an IPv6 address of its own is told with the port that it listens at`() {
        let loop = Loop()
        var told: [Endpoint?] = []
        let surroundings = Surroundings(
            loop, .none, listening: Endpoint("[::]:7070")!, onChange: {}, onGateway: { _ in },
            onIPv6: { told.append($0) }, onAnswer: { _, _ in })
        surroundings.look()
        surroundings.close()
        #expect(told == [DefaultGateway.publicIPv6.flatMap { Endpoint(address: $0.address, port: 7070) }])
        #expect(told.first??.isPrivate != true)
    }

    private static let head =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"

    @Test(arguments: [
        ("eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "192.168.1.1:0"),
        // The smaller metric wins; a network of its own and a route that is down are none.
        (
            "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\neth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
                + "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n",
            "192.168.1.1:0"
        ),
        ("eth0\t00000000\t0101A8C0\t0002\t0\t0\t100\t00000000\t0\t0\t0\n", nil),
        ("eth0\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n", nil),
        ("tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n", nil), ("", nil), ("eth0\t00000000\n", nil),
        ("eth0 x y z 0 0 0 00000000\n", nil),
    ])
    func `is that of the default route`(_ lines: String, _ gateway: String?) {
        // Numbers stand in the table as a little-endian machine has them in memory.
        #expect(DefaultGateway.gateway(inRoutes: Self.head + lines) == gateway.map { Endpoint($0)! })
    }
    @Test func `sees this machine at the address that the kernel would send from`() {
        #expect(DefaultGateway.local(towards: Endpoint("127.0.0.9:5351")!) == Endpoint("127.0.0.1:0")!)
    }
}
