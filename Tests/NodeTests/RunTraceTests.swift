import Links
import Node
import Primitives
import Telemetry
import Testing
import Topologies

/// What happened to peers, as a time line that a replay takes.
@Suite struct `The trace of a run` {
    private static func at(_ seconds: Double) -> Instant { Instant(seconds: seconds) }

    /// Ten rounds of four steps and ten seconds each, from second 100 on.
    private static let rounds: [JobView.Round] = {
        var view = JobView(limits: .report)
        for round in 0..<10 {
            view.apply(
                Event(
                    .roundSealed(
                        round: round, steps: 4 * (round + 1), tokens: 100, trainLoss: 1, pipelines: 1, seconds: 10),
                    at: at(110 + 10 * Double(round))))
        }
        return view.rounds.items
    }()
    private static func pool(_ names: [String]) -> Topology {
        Topology(
            name: "measured",
            hosts: names.map {
                Host(name: $0, flops: 4e9, memory: .mebibytes(64), up: .megabits(5), down: .megabits(50))
            }, defaultLink: LinkProperties(latency: .milliseconds(7)))
    }

    @Test func `has who was lost, left, came and became slower, at the part of the steps done by then`() {
        var trace = RunTrace()
        // Who joins before there is a plan was there from the beginning.
        trace.hear(Event(.peerJoined, at: Self.at(5), peer: "a"))
        trace.hear(Event(.placed(workers: "a,b"), at: Self.at(90)))
        trace.hear(Event(.peerLost(why: "nothing heard for 5 s"), at: Self.at(125), peer: "b"))
        trace.hear(Event(.peerJoined, at: Self.at(150), peer: "d"))
        trace.hear(
            Event(.speedChanged(round: 6, plannedGflops: 4, measuredGflops: 1), at: Self.at(165), peer: "a"))
        // Faster than measured: a time line has no word for it.
        trace.hear(
            Event(.speedChanged(round: 7, plannedGflops: 1, measuredGflops: 4.01), at: Self.at(172), peer: "a"))
        trace.hear(Event(.peerLost(why: "its owner stopped it", saidGoodbye: true), at: Self.at(500), peer: "c"))
        trace.hear(Event(.peerLost(why: "gone"), at: Self.at(160), peer: "somebody else"))
        var pool = Self.pool(["a", "b", "c", "d"])
        pool.record(trace, rounds: Self.rounds)
        #expect(
            pool.faults == [
                Fault(.kill, at: .progress(0.25), host: "b"), Fault(.join, at: .progress(0.5), host: "d"),
                Fault(.slow(factor: 4), at: .progress(0.65), host: "a"), Fault(.leave, at: .progress(1), host: "c"),
            ])
    }

    @Test func `knows newcomers as they were measured when they came`() {
        var pool = Self.pool(["a", "b"])
        pool.links[Topology.Pair(0, 1)] = LinkProperties(latency: .milliseconds(1))
        var later = Self.pool(["b", "c"])
        later.links[Topology.Pair(0, 1)] = LinkProperties(latency: .milliseconds(30))
        later.links[Topology.Pair(1, 0)] = LinkProperties(latency: .milliseconds(31))
        later.hosts[0].flops = 9e9
        pool.add(newcomers: later)
        #expect(pool.hosts.map(\.name) == ["a", "b", "c"])
        #expect(pool.hosts[1].flops == 4e9)
        #expect(pool.link(from: 1, to: 2).latency == .milliseconds(30))
        #expect(pool.link(from: 2, to: 1).latency == .milliseconds(31))
        #expect(pool.link(from: 0, to: 1).latency == .milliseconds(1))
    }
}
