import Digests
import JobFixtures
import Messages
import Planning
import Primitives
import Record
import Simulation
import Testing
import Training

/// What the storm asks of what is kept for going on: the questions themselves, and worlds in which they are asked.
@Suite struct `What is kept for going on` {
    /// Two pipelines of two stages; the starts of some rounds are agreed on.
    private func script(_ rounds: Int, agreed: [Int]) throws -> Script {
        var script = try Script(Small.parameters())
        try script.join([1, 2, 3, 4])
        try script.plan(Small.plan([[1, 2], [3, 4]], innerSteps: 2))
        for round in 1...rounds {
            try script.seal([0, 1])
            guard agreed.contains(round) else { continue }
            let units = Small.model.allUnits.map { UnitRoots(unit: $0, parameters: sha(round, $0)) }
            try script.append(.states(States(round: round, units: units)))
        }
        return script
    }
    private func sha(_ round: Int, _ unit: Int) -> Digest256 {
        Digest256([UInt8(round), UInt8(unit)] + [UInt8](repeating: 0, count: 30))!
    }
    /// - Parameter has: rounds of which a peer has its own.
    private func newest(_ script: Script, in rounds: ClosedRange<Int>, has: [Int: [Int]]) -> Int? {
        KeepingMemory.newestWhole(script.state, in: rounds) { stage, rank, round in
            let number = (1...4).first { Small.peer($0) == stage.peer }!
            #expect(rank == (number - 1) / 2)
            return has[number]?.contains(round) == true
        }
    }

    @Test func `a job need not go back behind a round of which everybody has its own`() throws {
        let script = try script(7, agreed: [2, 4, 6])
        let all = [1: [2, 4, 6], 2: [2, 4, 6], 3: [2, 4, 6], 4: [2, 4, 6]]
        #expect(newest(script, in: 1...7, has: all) == 6)
        // One has lost its newest; a round that nobody agreed on is none; one that is not asked for neither.
        #expect(newest(script, in: 1...7, has: all.merging([3: [2, 4, 5]]) { $1 }) == 4)
        #expect(newest(script, in: 1...7, has: [1: [5], 2: [5], 3: [5], 4: [5]]) == nil)
        #expect(newest(script, in: 5...5, has: all) == nil)
        #expect(newest(script, in: 1...7, has: [1: [6], 2: [6], 3: [6]]) == nil)
    }

    @Test func `the last two starts that are said to be there are there`() {
        func missing(_ said: Set<Int>, _ disk: [Int]) -> Int? {
            // A copy of others' units is none of its own.
            KeepingMemory.missing(
                of: said, on: disk.map { StartName(round: $0) } + [StartName(round: 6, copyFrom: 0)])
        }
        #expect(missing([4, 6], [2, 4, 6]) == nil)
        #expect(missing([4, 6], [2, 6]) == 4)
        #expect(missing([4, 6], [4]) == 6)
        #expect(missing([2], [2]) == nil)
    }

    /// A bound that nothing can keep stands for a checkpoint that does not come.
    @Test func `a checkpoint that is due comes`() {
        let script = StormScript.small(peers: 2, checkpointEvery: 2)
        #expect(StormRun(script).violation == nil)
        var bounds = StormBounds()
        bounds.checkpoint = .zero - .seconds(1)
        #expect(StormRun(script, bounds: bounds).violation?.contains("a checkpoint has been due") == true)
    }

    /// In the last one another stage has the loss: values between them were no numbers, and that was said to be work that cannot be done, of
    /// which nothing is known but the peer.
    @Test(arguments: [37, 101, 165, 500_069] as [UInt64])
    func `training that blows up ends with that, whatever strikes`(
        seed: UInt64
    ) {
        let script = StormScript(seed: seed)
        #expect(script.diverges && script.realArithmetic)
        let run = StormRun(script)
        #expect(run.violation == nil, "again: atoll replay --storm 1 --seed \(seed)")
        #expect(run.state.finished?.reason.contains("diverged") == true)
    }
}
