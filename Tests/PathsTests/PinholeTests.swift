import Paths
import Primitives
import Testing

/// The firewall of a router of IPv6: nothing is translated, strangers are let in where PCP asks for it.
@Suite struct `A pinhole of IPv6` {
    static let gateway = PortMapper.Gateway(
        endpoint: Endpoint("[fe80::1]:5351")!, local: Endpoint("[2001:db8::20]:0")!)
    private static func answer(_ question: [UInt8], life: UInt8 = 100) -> [UInt8] {
        var out: [UInt8] = [2, 0x81, 0, 0, 0, 0, 0, life, 0, 0, 0, 9]
        out += [UInt8](repeating: 0, count: 12)
        out += question[24..<42]
        out += question[40..<42]
        out += question[8..<24]
        return out
    }
    private static func sent(_ mapper: inout PortMapper) -> [[UInt8]] {
        var out: [[UInt8]] = []
        while let effect = mapper.poll() {
            if case .send(let bytes, Self.gateway.endpoint) = effect { out.append(bytes) }
        }
        return out
    }

    @Test func `is asked for in PCP with the address of this machine, and is there after one question`() throws {
        var mapper = PortMapper(port: 7070, secret: Array(1...24), seed: 1)
        var now = Instant(seconds: 100)
        mapper.use(Self.gateway, at: now)
        let questions = Self.sent(&mapper)
        #expect(questions.count == 2 && questions.allSatisfy { $0.count == 60 })
        for question in questions {
            #expect(Array(question[8..<24]) == Self.gateway.local.address)
            #expect(Array(question[44..<60]) == [UInt8](repeating: 0, count: 16), "wherever the gateway likes")
        }
        now += .milliseconds(5)
        for question in questions { mapper.receive(Self.answer(question), from: Self.gateway.endpoint, at: now) }
        let port = try #require(mapper.forwarded)
        #expect(port.endpoint == Endpoint("[2001:db8::20]:7070") && port.datagramPort == 7070 && port.spoken == .pcp)
        // At half of its life it is asked for again, and at the end given back.
        now += .seconds(70)
        _ = Self.sent(&mapper)
        mapper.wake(at: now)
        #expect(Self.sent(&mapper).contains { $0.count == 60 })
        mapper.stop(at: now)
        let goodbye = Self.sent(&mapper).filter { $0.count == 60 }
        #expect(goodbye.count == 2 && goodbye.allSatisfy { Array($0[4..<8]) == [0, 0, 0, 0] })
    }
    @Test func `is asked for in nothing but PCP, however long nobody answers`() {
        var mapper = PortMapper(port: 7070, secret: Array(1...24), seed: 1)
        var now = Instant(seconds: 100)
        mapper.use(Self.gateway, at: now)
        var (all, wishes) = (0, 0)
        let end = now + .seconds(3600)
        var turns = 0
        while now < end, turns < 1000 {
            turns += 1
            while let effect = mapper.poll() {
                switch effect {
                case .send(let bytes, _):
                    #expect(bytes.count == 60 && bytes[0] == 2)
                    all += 1
                case .igd: wishes += 1
                case .forwarded: break
                }
            }
            guard let next = mapper.nextWake else { break }
            now = max(now, next)
            mapper.wake(at: now)
        }
        #expect(all > 10 && wishes == 0 && turns < 100)
        #expect(mapper.standing(at: now) == .silent)
    }
    @Test func `that is an address of the other family is none`() {
        var mapper = PortMapper(port: 7070, secret: Array(1...24), seed: 1)
        let now = Instant(seconds: 100)
        mapper.use(Self.gateway, at: now)
        for question in Self.sent(&mapper) {
            var answer = Array(Self.answer(question).dropLast(16))
            answer += [UInt8](repeating: 0, count: 10)
            answer += [255, 255, 1, 2, 3, 4]
            mapper.receive(answer, from: Self.gateway.endpoint, at: now)
        }
        #expect(mapper.forwarded == nil)
    }
}
