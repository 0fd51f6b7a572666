import Coordination
import Digests
import JobFixtures
import Primitives
import Record
import Simulation
import Testing
import Training

/// The disk of a simulated host keeps the contract of the live archive, and breaks it only where it is told to.
@Suite struct `A virtual disk` {
    private let script = try! Script.short()
    private var job: Digest256 { script.record.job }
    private func entry(_ index: Int) -> StorageRequest {
        .entry(job: job, index: index, script.record.envelopes[index])
    }
    /// Writes one after another.
    /// - Returns: of each whether it is said to be stored.
    private func write(_ requests: [StorageRequest], to disk: inout VirtualDisk) -> [Bool] {
        requests.map { if case .stored = disk.write($0) { true } else { false } }
    }
    private func checkpoint(_ round: Int) -> StorageRequest {
        .checkpoint(
            job: job, round: round,
            [
                UnitState(
                    unit: 0, parameters: [UInt8(round)], outerMomentum: [], firstMoment: [], secondMoment: [],
                    optimizerSteps: round)
            ])
    }

    @Test func `keeps entries in order, each once`() {
        var disk = VirtualDisk(seed: 1)
        let other = StorageRequest.entry(job: job, index: 1, script.record.envelopes[0])
        // The second before the first, in order, once more, and another in its place.
        let said = write([entry(1), entry(0), entry(1), entry(1), other], to: &disk)
        #expect(said == [false, true, true, true, false])
        disk.crash(during: [])
        disk.open()
        #expect(disk.remains?.remains.log == Array(script.record.envelopes.prefix(2)))
        #expect(!disk.hasBrokenItsWord)
    }

    @Test func `loses by a crash what it was lying about, and nothing else`() {
        var disk = VirtualDisk(seed: 1)
        _ = disk.write(entry(0))
        disk.troubles = [.lies]
        let said1 = write([entry(1), checkpoint(2)], to: &disk)
        #expect(said1 == [true, true])
        disk.crash(during: [])
        disk.open()
        #expect(disk.remains?.remains.log.count == 1 && disk.remains?.remains.checkpoint == nil)
        #expect(disk.hasBrokenItsWord)
    }

    @Test(arguments: [VirtualDisk.Trouble.isFull, .failsToSync])
    func `says so when nothing can be written, and keeps what was there`(trouble: VirtualDisk.Trouble) {
        var disk = VirtualDisk(seed: 1)
        _ = disk.write(entry(0))
        disk.troubles = [trouble]
        let said2 = write([entry(1), checkpoint(1)], to: &disk)
        #expect(said2 == [false, false])
        disk.troubles = []
        let said3 = write([entry(1)], to: &disk)
        #expect(said3 == [true])
        disk.crash(during: [])
        #expect(disk.remains?.remains.log.count == 2 && !disk.hasBrokenItsWord)
    }

    @Test func `has two generations of checkpoints, and goes back to the older when the newer is damaged`() {
        var disk = VirtualDisk(seed: 3)
        _ = disk.write(entry(0))
        let said4 = write([2, 4, 6].map { checkpoint($0) }, to: &disk)
        #expect(said4 == [true, true, true])
        #expect(disk.remains?.remains.checkpoint?.round == 6 && !disk.holdsCheckpoint(2, of: job))
        while disk.holdsCheckpoint(6, of: job) { disk.flipBit() }
        #expect(disk.remains?.remains.checkpoint?.round == 4)
    }

    @Test func `reads a log up to the bit that has flipped`() {
        var disk = VirtualDisk(seed: 5)
        for index in script.record.envelopes.indices { _ = disk.write(entry(index)) }
        while disk.remains?.remains.log.count == script.record.envelopes.count { disk.flipBit() }
        let left = disk.remains?.remains.log ?? []
        disk.open()
        #expect(left == Array(script.record.envelopes.prefix(left.count)))
        // What follows is written behind what could be read.
        let said5 = write([entry(left.count)], to: &disk)
        #expect(said5 == [true])
    }
}

extension Script {
    /// A log of a genesis, two members and a plan.
    fileprivate static func short() throws -> Script {
        var script = try Script()
        try script.join([1, 2])
        try script.plan(Small.plan([[1], [2]], virtualPipelines: 4))
        return script
    }
}
