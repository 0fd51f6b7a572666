import Simulation
import Testing

/// Small samples of what `make survival` asks of many worlds.
@Suite struct `A study` {
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
