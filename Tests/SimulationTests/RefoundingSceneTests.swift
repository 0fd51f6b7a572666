import Consensus
import Coordination
import Digests
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// All who carry the record die at once, and a majority of them for good: whoever has the root key founds the job anew.
@Suite struct `When a majority of the electors is lost` {
    /// H = 1: a spare takes the place of a peer, and the weights do not depend on who computes which share.
    private static func scene() -> Scene {
        var scene = Scene(peers: 0, pipelines: 2, stages: 1, innerSteps: 1, steps: 26)
        scene.hosts = (0..<6).map { Scene.host("peer-\($0)", flops: 6e6) }
        scene.hosts.append(
            Host(
                name: "desk", role: .coordinator, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
                down: .megabits(100)))
        // The node helps others to find each other, with no memory for a text: else it would have a seat, and be lost with the others.
        scene.hosts.append(
            Host(
                name: "node", role: .bootstrap, flops: 1e9, memory: ByteCount(0), up: .megabits(100),
                down: .megabits(100)))
        scene.job.electors.count = .fixed(3)
        scene.realArithmetic = true
        scene.hasDisks = true
        scene.limit = .seconds(3000)
        return scene
    }

    /// The launcher's disk is there, or it has nothing left but its key. The two other electors come back when the job has gone on without them.
    @Test func `one command founds the job anew, and the weights are those of an undisturbed run`() throws {
        let calm = Self.scene().run()
        try calm.checkFinished()
        for losesDisk in [false, true] { try check(losesDisk: losesDisk, calm) }
    }
    private func check(losesDisk: Bool, _ calm: Outcome) throws {
        let sealed = calm.events("round_sealed").map(\.at.seconds)
        var scene = Self.scene()
        scene.lostMajority = LostMajority(
            at: .nanoseconds(Int64((sealed[sealed.count / 2] + 0.3) * 1e9)), refoundedAfter: .seconds(40),
            losesDisk: losesDisk, othersBack: .seconds(80))
        let outcome = scene.run()
        if losesDisk {
            // Receipts of the rounds before lay there: the books add up, and the audit says what it has no proof of.
            #expect(throws: (any Error).self) { try outcome.checkFinished() }
        } else {
            try outcome.checkFinished()
        }
        #expect(try outcome.weightsDigest() == calm.weightsDigest())
        let record = outcome.world.coordinator.record
        #expect(record.era == 1 && record.foundings.count == 1)
        #expect(outcome.events("fault").count == 3 && !outcome.events("record_found").isEmpty)
        // All who were there have followed, and those who came back, too; others carry the record again.
        #expect(outcome.events("job_refounded").count >= 5, "\(outcome.events("job_refounded").map(\.line))")
        #expect(record.electors.count == 3 && outcome.events("refounding_refused").isEmpty)
        // What had been sealed stays sealed.
        let died = try #require(outcome.events("fault").first?.at.seconds)
        let before = outcome.events("round_sealed").filter { $0.at.seconds < died }.count
        #expect(before > 5 && record.state.seals.count == calm.world.coordinator.record.state.seals.count)
        #expect(outcome.events("round_sealed").count <= record.state.seals.count + 1)
        #expect(outcome.totals.counted == calm.totals.counted)
    }

    /// Those who are left are started again before the job is founded anew: they have entries on their disks beyond the newest certificate there, and two of
    /// them become electors while these are put aside.
    @Test func `members that were started again in between carry it, too, and what they had seen certified stays`()
        throws
    {
        let calm = Self.scene().run()
        try calm.checkFinished()
        let sealed = calm.events("round_sealed").map(\.at.seconds)
        let moment = sealed[sealed.count / 2] + 0.3
        let electors = calm.world.electors.map(\.name)
        let others = (0..<6).map { "peer-\($0)" }.filter { !electors.contains($0) }
        #expect(others.count == 4)
        var scene = Self.scene()
        scene.lostMajority = LostMajority(at: .nanoseconds(Int64(moment * 1e9)), refoundedAfter: .seconds(60))
        for (number, name) in others.enumerated() {
            let again = moment + 30 + Double(number)
            scene.faults.append(Fault(.kill, at: .seconds(again), host: name))
            scene.faults.append(Fault(.join, at: .seconds(again + 0.5), host: name))
        }
        let outcome = scene.run()
        if case .failed(let why) = outcome.end { Issue.record("\(why)") }
        #expect(try outcome.weightsDigest() == calm.weightsDigest())
        let record = outcome.world.coordinator.record
        #expect(record.era == 1 && record.electors.count == 3)
        let before = outcome.events("round_sealed").filter { $0.at.seconds < moment }.count
        #expect(before > 5 && record.state.seals.count == calm.world.coordinator.record.state.seals.count)
        // What is on disk of a round's start is of every second round; nothing else is done again.
        #expect(outcome.events("round_sealed").count <= record.state.seals.count + 3)
        for name in others {
            let stored = try #require(outcome.world.logOnDisk(of: name))
            #expect(stored >= record.length - 2, "\(name) has \(stored) of \(record.length) entries")
        }
    }

    /// The launcher's machine is gone, key and all: two of three recovery keys have signed for another. A spare had just been given a place when everything
    /// stopped, or not.
    @Test(arguments: [0.05, 0.3, 0.6])
    func `recovery keys found it on another machine, and the weights are those of an undisturbed run`(
        share: Double
    ) throws {
        let calm = Self.scene().run()
        try calm.checkFinished()
        let sealed = calm.events("round_sealed").map(\.at.seconds)
        let signers = (0..<3).map { SigningKey(seed: SeededGenerator.bytes(32, seed: 23, stream: UInt64($0)))! }
        var scene = Self.scene()
        scene.hosts.append(
            Host(
                name: "other-desk", role: .coordinator, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
                down: .megabits(100)))
        scene.absent = ["other-desk"]
        scene.job.electors.recovery = RecoveryKeys(needed: 2, of: signers.map(\.peerID))
        let middle = sealed.count / 2
        let moment = sealed[middle] + share * (sealed[middle + 1] - sealed[middle])
        scene.lostMajority = LostMajority(
            at: .nanoseconds(Int64(moment * 1e9)), refoundedAfter: .seconds(40), othersBack: .seconds(80),
            signers: [signers[2], signers[0]])
        let outcome = scene.run()
        // Receipts of earlier rounds were on machines that are gone.
        if case .failed(let why) = outcome.end { Issue.record("\(why)") }
        #expect(try outcome.weightsDigest() == calm.weightsDigest())
        let record = outcome.world.coordinator.record
        #expect(record.era == 1 && record.foundings.count == 1)
        #expect(record.founder != record.root && record.electors.count == 3)
        #expect(outcome.events("refounding_refused").isEmpty)
        #expect(record.state.seals.count == calm.world.coordinator.record.state.seals.count)
        #expect(outcome.totals.counted == calm.totals.counted)
    }
}
