import Links
import Primitives
import Testing

private func outside(_ host: UInt8, _ port: UInt16 = 4000) -> Endpoint { Endpoint(ipv4: 60, 0, host, 1, port: port) }
private let inside = Endpoint(ipv4: 10, 0, 0, 7, port: 4000)
private let address: [UInt8] = [61, 0, 0, 1]

private func router(_ kind: NATKind, timers: RouterTimers = RouterTimers()) -> Router {
    Router(kind, address: address, exposing: inside, timers: timers, seed: 1)
}
/// Something that may leave.
private func leave(
    _ router: inout Router, _ transport: Router.Transport, _ inside: Endpoint, _ remote: Endpoint, _ now: Instant
) throws -> Endpoint {
    let seen = router.leave(transport, from: inside, to: remote, at: now)
    return try #require(seen)
}
private func at(_ seconds: Double) -> Instant { Instant(seconds: seconds) }

@Suite struct `A router` {
    /// Who gets in by the port that was used to write to one: that one, its other ports, everybody else; and by a port that nobody used.
    @Test(arguments: [
        (NATKind.fullCone, [true, true, true]), (.restricted, [true, true, false]),
        (.portRestricted, [true, false, false]), (.symmetric, [true, false, false]),
    ])
    func `lets in whom its kind lets in`(kind: NATKind, expected: [Bool]) throws {
        var router = router(kind)
        let seen = try leave(&router, .udp, inside, outside(1), at(0))
        #expect(seen.address == address)
        let gets = [outside(1), outside(1, 9), outside(2)].map {
            router.enter(.udp, from: $0, to: seen, at: at(1)) == inside
        }
        #expect(gets == expected)
        #expect(router.refused == expected.count { !$0 })
        // What was opened for datagrams is no door for connections.
        #expect((router.recipient(.tcp, from: outside(1), to: seen, at: at(1)) == inside) == (kind == .fullCone))
        #expect(kind.admitsStrangers == (kind == .fullCone))
    }

    @Test func `shows one port to all, unless it is symmetric`() throws {
        for kind in NATKind.allCases where kind != .none && kind != .noUDP && kind != .webOnly {
            var router = router(kind)
            let seen = (1...4).map { router.leave(.udp, from: inside, to: outside($0), at: at(0)) }
            #expect(Set(seen).count == (kind == .symmetric ? 4 : 1), "\(kind)")
            #expect(seen.allSatisfy { $0?.address == (kind == .firewall ? inside.address : address) })
            let again = router.leave(.udp, from: inside, to: outside(1), at: at(1))
            #expect(again == seen[0])
        }
    }

    @Test func `keeps two hosts apart that use one port`() throws {
        var router = router(.portRestricted)
        let other = Endpoint(ipv4: 10, 0, 0, 8, port: 4000)
        let first = try leave(&router, .tcp, inside, outside(1), at(0))
        let second = try leave(&router, .tcp, other, outside(1), at(0))
        #expect(first.port == 4000 && second.port == 4001)
        let gets = router.enter(.tcp, from: outside(1), to: second, at: at(0))
        #expect(gets == other)
        #expect(router.owner(.tcp, of: first) == inside)
    }

    @Test func `forgets what is not used, later when it was answered, and draws another port then`() throws {
        var router = router(.symmetric)
        let seen = try leave(&router, .udp, inside, outside(1), at(0))
        #expect(router.recipient(.udp, from: outside(1), to: seen, at: at(29)) == inside)
        #expect(router.recipient(.udp, from: outside(1), to: seen, at: at(31)) == nil)
        let next = try leave(&router, .udp, inside, outside(1), at(31))
        #expect(next != seen)
        let gets = router.enter(.udp, from: outside(1), to: next, at: at(40))
        #expect(gets == inside)
        // Answered: two minutes from then on, and from whatever passes later.
        #expect(router.recipient(.udp, from: outside(1), to: next, at: at(159)) == inside)
        let same = router.leave(.udp, from: inside, to: outside(1), at: at(100))
        #expect(same == next)
        #expect(router.recipient(.udp, from: outside(1), to: next, at: at(219)) == inside)
        #expect(router.recipient(.udp, from: outside(1), to: next, at: at(221)) == nil)
    }

    @Test func `that was switched off, or has another address, knows nobody`() throws {
        var router = router(.portRestricted)
        let seen = try leave(&router, .tcp, inside, outside(1), at(0))
        router.forget()
        let gets = router.enter(.tcp, from: outside(1), to: seen, at: at(1))
        #expect(gets == nil && router.mappingCount == 0)
        router.renumber(to: [61, 0, 0, 2])
        let moved = try leave(&router, .tcp, inside, outside(1), at(2))
        #expect(moved.address == [61, 0, 0, 2])
    }

    @Test func `stops what its kind stops`() {
        var noDatagrams = router(.noUDP)
        let bars = [
            noDatagrams.leave(.udp, from: inside, to: outside(1), at: at(0)),
            noDatagrams.leave(.tcp, from: inside, to: outside(1), at: at(0)),
        ]
        #expect(bars.map { $0 == nil } == [true, false])
        var web = router(.webOnly)
        let passes = [
            web.leave(.tcp, from: inside, to: outside(1), at: at(0)),
            web.leave(.udp, from: inside, to: outside(1, 443), at: at(0)),
            web.leave(.tcp, from: inside, to: outside(1, 443), at: at(0)),
        ]
        #expect(passes.map { $0 != nil } == [false, false, true])
        var closed = router(.noConnectionsIn)
        guard let dial = closed.leave(.tcp, from: inside, to: outside(1), at: at(0)),
            let datagram = closed.leave(.udp, from: inside, to: outside(1), at: at(0))
        else {
            Issue.record("everything leaves")
            return
        }
        #expect(
            closed.recipient(.tcp, from: outside(1), to: dial, at: at(1)) == nil, "not even from where one was dialled")
        #expect(closed.recipient(.udp, from: outside(1), to: datagram, at: at(1)) == inside)
        #expect(closed.recipient(.udp, from: outside(2), to: datagram, at: at(1)) == nil)
    }

    @Test func `does not run out of memory or ports`() {
        var router = router(.symmetric)
        for number in 0..<20_000 {
            let remote = Endpoint(ipv4: 60, UInt8(number >> 16), UInt8(number >> 8 & 255), UInt8(number & 255), port: 9)
            _ = router.leave(.udp, from: inside, to: remote, at: at(Double(number) / 100))
        }
        // 100 a second, each remembered for 30 s.
        #expect(router.mappingCount < 8_000 && router.refused == 0)
    }
}
