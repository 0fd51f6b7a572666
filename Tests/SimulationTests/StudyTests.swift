import Simulation
import Testing

/// Small samples of what `make survival` asks of many worlds.
@Suite struct `A study` {
    @Test func `of machines that come and go loses a majority no oftener than is computed, and no entry`() {
        var lines: [String] = []
        // Sessions of an hour: a day is as good as weeks.
        let study = SessionStudy(days: 1, hours: 1, seed: 1) { lines.append("\($0)") }
        #expect(study.outcomes.map(\.electors) == [3, 5] && lines.count == 2)
        for outcome in study.outcomes {
            #expect(outcome.isGood, "\(outcome)")
            #expect(outcome.departures > 20 && outcome.replaced > 20 && outcome.entries > 60, "\(outcome)")
        }
        // Sessions of four hours are lost by three once in two weeks, by five once in years.
        #expect(study.outcomes[1].computedDays > 4 * study.outcomes[0].computedDays)
    }

    @Test func `of every kind of write that goes wrong finds the job well, and somebody told`() {
        let study = WriteStudy(seed: 1, isSample: true)
        #expect(study.problem == nil)
        // The coordinator's and two peers' logs, receipts, certificates, checkpoints, chunks, round starts.
        #expect(Set(study.outcomes.map(\.write.kind)).count == 6 && study.writes > 40)
        #expect(Set(study.outcomes.map(\.write.host)) == ["coordinator", "peer-0", "peer-1"])
        for outcome in study.outcomes {
            #expect(outcome.violation == nil, "\(outcome)")
            #expect(outcome.isTold, "\(outcome)")
        }
    }
}
