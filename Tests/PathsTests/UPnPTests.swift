import Paths
import Primitives
import Testing

/// A gateway that answers neither protocol of ours, and somebody who speaks UPnP with it.
private struct UPnPHome {
    var mapper = PortMapper(port: 7070, secret: Array(1...24), seed: 1)
    var now = Instant(seconds: 100)
    var wishes: [(at: Instant, wish: IGDWish)] = []
    var told: [ForwardedPort?] = []
    static let gateway = PortMapper.Gateway(
        endpoint: Endpoint("192.168.1.1:5351")!, local: Endpoint("192.168.1.20:0")!)
    static let outside = Endpoint("203.0.113.9:7070")!

    mutating func begin() {
        mapper.use(Self.gateway, at: now)
        drain()
    }
    mutating func run(_ span: Duration) {
        let end = now + span
        while let next = mapper.nextWake, next <= end {
            now = max(now, next)
            mapper.wake(at: now)
            drain()
        }
        now = end
    }
    mutating func answer(_ answer: IGDAnswer) {
        mapper.answered(answer, at: now)
        drain()
    }
    mutating func stop() {
        mapper.stop(at: now)
        drain()
    }
    private mutating func drain() {
        while let effect = mapper.poll() {
            switch effect {
            case .send: break
            case .forwarded(let port): told.append(port)
            case .igd(let wish): wishes.append((now, wish))
            }
        }
    }
}

@Suite struct `A port of a router that speaks UPnP` {
    @Test func `is asked for when neither other protocol is answered for a second, kept, and given back`() {
        var home = UPnPHome()
        home.begin()
        home.run(.milliseconds(900))
        #expect(home.wishes.isEmpty)
        home.run(.milliseconds(200))
        #expect(home.wishes.map(\.wish) == [IGDWish(gateway: UPnPHome.gateway.endpoint, port: 7070, seconds: 7200)])
        home.answer(.forwarded(UPnPHome.outside, datagramPort: 7070, seconds: 7200))
        #expect(home.told.map { $0?.endpoint } == [UPnPHome.outside] && home.told[0]?.spoken == .upnp)
        guard case .forwarded(let port) = home.mapper.standing(at: home.now) else {
            Issue.record("\(home.mapper.standing(at: home.now))")
            return
        }
        #expect(port.datagramPort == 7070)
        // UPnP has no epoch: it is asked again long before the life is over.
        home.run(.seconds(1201))
        #expect(home.wishes.count == 2)
        home.answer(.forwarded(UPnPHome.outside, datagramPort: 7070, seconds: 7200))
        #expect(home.told.count == 1, "nothing new")
        home.stop()
        #expect(home.wishes.last?.wish.seconds == 0 && home.told.last == .some(nil))
    }
    @Test func `is lost when it is not asked for again in time`() {
        var home = UPnPHome()
        home.begin()
        home.run(.seconds(2))
        home.answer(.forwarded(UPnPHome.outside, datagramPort: nil, seconds: 3600))
        home.run(.seconds(1300))
        home.answer(.nobody)
        #expect(home.told.count == 1, "what is held is held until its end")
        home.run(.seconds(3600))
        #expect(home.told.last == .some(nil))
    }
    @Test func `that forwards for ever is asked again all the same`() {
        var home = UPnPHome()
        home.begin()
        home.run(.seconds(2))
        home.answer(.forwarded(UPnPHome.outside, datagramPort: 7070, seconds: 0))
        home.run(.seconds(1201))
        #expect(home.wishes.count == 2)
    }
    @Test func `is not asked for without an end where nobody speaks it, or the answer leads nowhere`() {
        for answer in [
            IGDAnswer.nobody, .refused(.notAuthorized),
            .forwarded(Endpoint("0.0.0.0:7070")!, datagramPort: nil, seconds: 60),
        ] {
            var home = UPnPHome()
            home.begin()
            home.run(.seconds(2))
            home.answer(answer)
            home.run(.seconds(1000))
            #expect(home.wishes.count == 1 && home.told.isEmpty)
            home.run(.seconds(900))
            #expect(home.wishes.count == 2)
        }
        // A late answer to nothing changes nothing.
        var home = UPnPHome()
        home.begin()
        home.answer(.forwarded(UPnPHome.outside, datagramPort: nil, seconds: 60))
        #expect(home.told.isEmpty)
    }
}
