import Channels
import Coordination
import Daemon
import Digests
import JobFixtures
import Messages
import Primitives
import Record
import Testing
import Wire

/// What others may make a daemon hold.
@Suite struct `Floods against a daemon` {
    private func coordinator() throws -> Bench {
        try Bench(Small.launcher) { DaemonCore.Services(coordinator: try Bench.coordinator(Small.launcher, at: $0)) }
    }
    private func join(_ number: Int, _ bench: inout Bench, limits: ChannelLimits = ChannelLimits()) throws -> Digest256
    {
        bench.connect(number, limits: limits)
        let capability = Capability(
            name: "one", device: "cpu", memory: .mebibytes(64), flops: 1e9, numerics: Record.numerics)
        bench.say(number, Packet(.capability(capability)))
        let job = try #require(bench.daemon.coordinator?.job)
        bench.say(number, Packet(job: job, term: 1, .offerAnswer(OfferAnswer(refusal: nil))))
        for _ in 0..<6 {
            bench.pass(.seconds(1))
            bench.say(number, Packet(job: job, .heartbeat(Heartbeat())))
        }
        return job
    }

    @Test func `whoever asks for much and takes little makes it hold little, and gets everything in the end`() throws {
        var bench = try coordinator()
        // Eight thousand bits a second: one answer of a thousand bytes.
        var slow = ChannelLimits()
        slow.download = BitRate(bitsPerSecond: 8_000)
        slow.windowBytes[.bulk] = 4_000
        let job = try join(1, &bench, limits: slow)
        let peer = Small.peer(1)
        #expect(bench.daemon.channels.trusts(peer))
        let content = try #require(bench.daemon.coordinator?.record.genesis.content)
        for _ in 0..<3000 { bench.say(1, Packet(job: job, .chunkRequest(content: content, chunk: 0))) }
        let waiting = bench.daemon.channels.unsentBytes(to: peer, on: .bulk)
        #expect(waiting > 1 << 19 && waiting < 1 << 20 + 2000)
        let before = bench.heard(1, "chunk").count
        for _ in 0..<20 {
            bench.pass(.seconds(1), forAll: true)
            bench.say(1, Packet(job: job, .heartbeat(Heartbeat())))
        }
        #expect(bench.heard(1, "chunk").count > before)
        // What left made room for what waited.
        let now = bench.daemon.channels.unsentBytes(to: peer, on: .bulk)
        #expect(now > 1 << 20 - 2000 && now < 1 << 20 + 2000)
        #expect(bench.daemon.undelivered == 0)
    }

    @Test func `whoever comes with thousands of keys is forgotten, and known again when it comes back`() throws {
        var bench = try coordinator()
        for number in 1000..<2500 {
            bench.connect(number)
            bench.disconnect(number)
        }
        #expect(bench.daemon.channels.knownPeers.count < 1000)
        #expect(!bench.daemon.channels.knownPeers.contains(Small.peer(1000)))
        for number in [1000, 1001, 2499] {
            bench.connect(number)
            bench.say(number, Packet(.ping(7)))
            #expect(bench.heard(number, "pong").last == Packet(.pong(7)))
        }
    }
}
