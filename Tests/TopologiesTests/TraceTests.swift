import Links
import Primitives
import Testing
import Topologies

/// A time line at another pace and from another moment on.
@Suite struct `A trace` {
    static func pool(_ faults: [Fault]) -> Topology {
        Topology(
            name: "pool",
            hosts: ["a", "b", "c", "d"].map {
                Host(name: $0, flops: 3e9, memory: .mebibytes(64), up: .megabits(5), down: .megabits(50))
            }, defaultLink: LinkProperties(latency: .milliseconds(7)), faults: faults)
    }

    @Test func `scaled and moved has its moments and the lengths of its cuts so, and shares of the job as they were`() {
        let pool = Self.pool([
            Fault(.kill, at: .seconds(10), host: "a"), Fault(.cut(seconds: 4), at: .seconds(20), host: "b"),
            Fault(.leave, at: .progress(0.5), host: "c"),
        ])
        let moved = pool.retimed(scale: 0.5, offset: 3)
        #expect(
            moved.faults == [
                Fault(.kill, at: .seconds(8), host: "a"), Fault(.cut(seconds: 2), at: .seconds(13), host: "b"),
                Fault(.leave, at: .progress(0.5), host: "c"),
            ])
        #expect(pool.retimed(scale: 1, offset: 0) == pool)
    }

    @Test func `from a later moment on begins with who is there by then, and with what still goes on`() {
        let moved = Self.pool([
            Fault(.leave, at: .seconds(10), host: "a"), Fault(.join, at: .seconds(20), host: "b"),
            Fault(.kill, at: .seconds(30), host: "c"), Fault(.join, at: .seconds(200), host: "c"),
            Fault(.cut(seconds: 100), at: .seconds(40), host: "d"),
            Fault(.cut(seconds: 5), at: .seconds(40), host: "b"),
            Fault(.throttle(factor: 4), at: .seconds(50), host: "d"),
            Fault(.throttle(factor: 2), at: .seconds(60), host: "d"),
            Fault(.slow(factor: 3), at: .seconds(60), host: "a"), Fault(.kill, at: .seconds(150), host: "b"),
        ]).retimed(scale: 1, offset: -100)
        #expect(moved.hosts.map(\.name) == ["b", "c", "d"])
        #expect(moved.lateJoiners == ["c"])
        #expect(
            moved.faults == [
                Fault(.join, at: .seconds(100), host: "c"), Fault(.kill, at: .seconds(50), host: "b"),
                Fault(.cut(seconds: 40), at: .seconds(0), host: "d"),
                Fault(.throttle(factor: 2), at: .seconds(0), host: "d"),
            ])
    }

    /// Whoever joins after having left was there: no other join is needed.
    @Test func `in which somebody came before, left and comes again begins with them`() {
        let moved = Self.pool([
            Fault(.join, at: .seconds(5), host: "b"), Fault(.leave, at: .seconds(50), host: "b"),
            Fault(.join, at: .seconds(90), host: "b"),
        ]).retimed(scale: 1, offset: -20)
        #expect(
            moved.faults == [
                Fault(.leave, at: .seconds(30), host: "b"), Fault(.join, at: .seconds(70), host: "b"),
            ])
        #expect(moved.hosts.count == 4 && moved.lateJoiners.isEmpty)
    }
}
