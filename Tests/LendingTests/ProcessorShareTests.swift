import Lending
import Primitives
import Telemetry
import Testing

@Suite struct `What other programs leave of the processor` {
    /// So many seconds of a process that runs and waits for so much of each.
    private func pass(
        _ share: inout ProcessorShare, from start: Int, seconds: Int, ran: Double, waited: Double, processors: Int = 2,
        total: inout (ran: Double, waited: Double)
    ) -> [String] {
        var events: [String] = []
        for second in start..<start + seconds {
            total = (total.ran + ran, total.waited + waited)
            let time = ProcessorTime(
                ran: .nanoseconds(Int64(total.ran * 1e9)), waited: .nanoseconds(Int64(total.waited * 1e9)))
            share.receive(.value(time), processors: processors, at: .zero + .seconds(Int64(second)))
            while let what = share.poll() { events.append(what.kind) }
        }
        return events
    }

    @Test func `is told when little is left of what was asked for, and when more is again`() throws {
        var (share, total) = (ProcessorShare(), (ran: 0.0, waited: 0.0))
        #expect(pass(&share, from: 0, seconds: 60, ran: 0.9, waited: 0.1, total: &total) == [])
        #expect(pass(&share, from: 60, seconds: 60, ran: 0.005, waited: 0.99, total: &total) == ["processor_taken"])
        let report = try #require(share.report)
        #expect(share.isTaken && report.over == .seconds(60) && report.share < 0.05)
        #expect(pass(&share, from: 120, seconds: 60, ran: 0.9, waited: 0.1, total: &total) == ["processor_back"])
        #expect(!share.isTaken)
    }

    @Test func `idleness, threads that wait for each other and a fair share are no such case`() {
        for (ran, waited, processors) in [(0.0, 0.0, 2), (0.001, 0.02, 2), (2.0, 6.0, 2), (0.5, 0.5, 2), (0.6, 3.0, 1)]
        {
            var (share, total) = (ProcessorShare(), (ran: 0.0, waited: 0.0))
            let events = pass(
                &share, from: 0, seconds: 100, ran: ran, waited: waited, processors: processors, total: &total)
            #expect(events == [] && !share.isTaken, "\(ran) \(waited)")
        }
    }

    @Test func `what cannot be seen is said to be unknown, and ends what was believed`() {
        var (share, total) = (ProcessorShare(), (ran: 0.0, waited: 0.0))
        _ = pass(&share, from: 0, seconds: 30, ran: 0.01, waited: 0.9, total: &total)
        #expect(share.isTaken && share.unseen == nil)
        share.receive(.unknown("there is no schedstat"), processors: 2, at: .zero + .seconds(31))
        #expect(!share.isTaken && share.unseen == "there is no schedstat" && share.report == nil)
    }
}
