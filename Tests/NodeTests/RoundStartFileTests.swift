import Digests
import Foundation
import JobFixtures
import Membership
import Messages
import Node
import Primitives
import Record
import Telemetry
import Testing
import Training

/// What a peer keeps of rounds in its folder.
@Suite struct `Round starts in a peer's folder` {
    private let job = sha256([7])
    private func start(_ round: Int, job: Digest256? = nil, fill: UInt8 = 1) -> RoundStart {
        let states = (2..<4).map { unit in
            UnitState(
                unit: unit, parameters: [UInt8](repeating: fill, count: 400), outerMomentum: [],
                firstMoment: [UInt8](repeating: 2, count: 400), secondMoment: [UInt8](repeating: 3, count: 400),
                optimizerSteps: round)
        }
        return RoundStart(job: job ?? self.job, round: round, epoch: 2, rank: 1, share: [1], states: states)
    }
    private func copy(_ round: Int) -> RoundStart {
        RoundStart(job: job, round: round, epoch: 2, rank: 0, share: [], states: start(round).states)
    }
    private func withFolder(_ body: (DataFolder) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("atoll-test-\(UUID().uuidString)").path
        let folder = try DataFolder(path)
        defer {
            folder.close()
            try? FileManager.default.removeItem(atPath: path)
        }
        try body(folder)
    }
    private func write(
        _ start: RoundStart, _ folder: DataFolder, _ disk: DiskOperations = .system, retaining: [Int] = [4, 8]
    ) -> StorageOutcome {
        LogWriter(folder.path, disk).write([.roundStart(start, retaining: retaining.map { StartName(round: $0) })])[0]
    }
    private func read(_ round: Int, _ folder: DataFolder, copyFrom: Int? = nil) -> StorageOutcome {
        let name = StartName(round: round, copyFrom: copyFrom)
        return LogWriter(folder.path, .system).write([.readRoundStart(job: job, name)])[0]
    }
    /// As the member's core has it.
    private func keep(_ starts: [RoundStart], _ folder: DataFolder, copiedRounds: Int = 0) {
        var core = RoundStarts(job: job, copiedRounds: copiedRounds)
        for start in starts {
            core.keep(start)
            while let effect = core.poll() {
                guard case .store(let request) = effect else { continue }
                core.stored(start.name, LogWriter(folder.path, .system).write([request])[0])
            }
        }
    }
    private func why(_ outcome: StorageOutcome) -> String? { if case .failed(let why) = outcome { why } else { nil } }
    private func path(_ folder: DataFolder, _ round: Int) -> String {
        RoundStartFile.path(folder.path, job, StartName(round: round))
    }

    @Test func `stay while what is to take their place is not written yet`() {
        var core = RoundStarts(job: job)
        func retained(_ round: Int) -> [Int] {
            core.keep(start(round))
            var out: [Int] = []
            while let effect = core.poll() {
                if case .store(.roundStart(_, let retaining)) = effect { out = retaining.map(\.round) }
            }
            return out
        }
        for round in [6, 8] {
            #expect(retained(round).contains(round))
            core.stored(StartName(round: round), .stored(path: ""))
        }
        // That of round 10 is on its way when that of round 12 is asked for, and fails.
        #expect(retained(10) == [8, 10])
        #expect(retained(12) == [])
        core.stored(StartName(round: 10), .failed("the disk is full"))
        #expect(asked(&core) == [12])
        core.stored(StartName(round: 12), .stored(path: ""))
        #expect(core.stages.map(\.round) == [8, 12])
        #expect(retained(14) == [12, 14])
    }

    @Test func `of rounds that are yet to come are void, whatever plan they are of`() {
        // A launcher whose log was damaged begins again with what is before, and its plans have the numbers of those that it has lost.
        var core = RoundStarts(job: job, copiedRounds: 8)
        for start in [start(8), copy(8), start(18), start(20), copy(16)] {
            core.keep(start)
            _ = asked(&core)
            core.stored(start.name, .stored(path: ""))
        }
        var erased: [Int] = []
        var retained: [[Int]] = []
        for round in [10, 12] {
            core.keep(start(round))
            while let effect = core.poll() {
                switch effect {
                case .store(.eraseRoundStarts(_, let after)): erased.append(after)
                case .store(.roundStart(_, let retaining)): retained.append(retaining.map(\.round))
                default: break
                }
            }
            core.stored(StartName(round: round), .stored(path: ""))
        }
        #expect(erased == [15] && retained == [[8, 8, 10], [8, 8, 10, 12]])
        #expect(core.stages.map(\.round) == [8, 8, 10, 12])
    }

    private func asked(_ core: inout RoundStarts) -> [Int] {
        var out: [Int] = []
        while let effect = core.poll() {
            if case .store(.roundStart(let start, _)) = effect { out.append(start.round) }
        }
        return out
    }

    @Test func `are written one at a time, and the newest of those that wait`() {
        var core = RoundStarts(job: job)
        for round in 1...9 { core.keep(start(round)) }
        var failed: [Int] = []
        var written: [Int] = []
        while let effect = core.poll() {
            switch effect {
            case .store(.roundStart(let start, _)): written.append(start.round)
            case .event(.roundStartFailed(let round, let why)):
                failed.append(round)
                #expect(why == "the disk still writes that of round 1")
            default: break
            }
        }
        #expect(written == [1] && failed == Array(2...8))
        // A copy that is not written is no start of its own.
        for round in 1...2 { core.keep(copy(round)) }
        core.keep(copy(3))
        var copies: [String] = []
        while let effect = core.poll() {
            guard case .event(let what) = effect else { continue }
            guard case .copyFailed(let round, let units, _) = what else {
                Issue.record("\(what)")
                continue
            }
            copies.append("\(round): \(units)")
        }
        #expect(copies == ["2: 2..<4"])
        core.stored(StartName(round: 1, copyFrom: 2), .failed("the disk is full"))
        core.stored(StartName(round: 3, copyFrom: 2), .stored(path: ""))
        core.stored(StartName(round: 1), .stored(path: ""))
        #expect(asked(&core) == [3, 9])
        // What is void is not written when its turn comes.
        core.keep(start(10))
        core.forget(after: 5, by: .max)
        core.stored(StartName(round: 9), .stored(path: ""))
        #expect(asked(&core) == [] && core.stages.map(\.round) == [1, 3])
        core.keep(start(6))
        #expect(asked(&core) == [6])
    }

    @Test func `are two generations, found by the next process, and gone when the job is over`() throws {
        try withFolder { folder in
            keep([4, 8, 12].map { start($0) }, folder)
            let remains = RoundStartFile.remains(in: folder)
            #expect(remains.refused.isEmpty && remains.jobs.count == 1)
            #expect(remains.jobs[0].job == job)
            #expect(remains.jobs[0].stages == [8, 12].map { KeptStage(round: $0, rank: 1, units: 2..<4, epoch: 2) })
            #expect(read(12, folder) == .read(VerifiedRoundStart(start(12))))
            #expect(why(read(4, folder)) != nil)
            // The log has gone back to round 8.
            _ = LogWriter(folder.path, .system).write([.eraseRoundStarts(job: job, after: 8)])
            #expect(RoundStartFile.remains(in: folder).jobs[0].stages.map(\.round) == [8])
            _ = LogWriter(folder.path, .system).write([.eraseRoundStarts(job: job, after: -1)])
            #expect(RoundStartFile.remains(in: folder).jobs.isEmpty)
            #expect(!FileManager.default.fileExists(atPath: RoundStartFile.folder(folder.path, job)))
        }
    }

    /// A copy is of use with the other units of its round only.
    @Test func `are kept for as long as copies of their round are, which are two generations, too`() throws {
        try withFolder { folder in
            func copy(_ round: Int, _ units: Range<Int>) -> RoundStart {
                var copy = start(round)
                copy.states = units.map {
                    UnitState(
                        unit: $0, parameters: [9], outerMomentum: [8], firstMoment: [], secondMoment: [],
                        optimizerSteps: 0)
                }
                copy.share = []
                return copy
            }
            var all: [RoundStart] = []
            for round in stride(from: 2, through: 14, by: 2) {
                all.append(start(round))
                if round % 4 == 0 { all += [copy(round, 0..<2), copy(round, 4..<7)] }
            }
            keep(all, folder, copiedRounds: 4)
            let remains = RoundStartFile.remains(in: folder)
            #expect(remains.refused.isEmpty)
            let names = remains.jobs.first?.stages.map(\.name) ?? []
            let copies = [8, 12].flatMap { round in [0, 4].map { StartName(round: round, copyFrom: $0) } }
            #expect(names == ([8, 12, 14].map { StartName(round: $0) } + copies).sorted())
            #expect(read(12, folder, copyFrom: 4) == .read(VerifiedRoundStart(copy(12, 4..<7))))
            #expect(remains.jobs[0].stages.first { $0.name == copies[3] }?.units == 4..<7)
            // One that lies in another's place is not it.
            try writeFile(RoundStartFile.path(folder.path, job, copies[0]), start(8).encoded!)
            #expect(why(read(8, folder, copyFrom: 0))?.contains("of round 8") == true)
        }
    }

    /// Each is named; what lies there stays, and an older generation counts.
    @Test func `that are damaged, torn, of another job or of another version are refused by name`() throws {
        let whole = start(8).encoded!
        var strange: [String: [UInt8]] = [
            "empty": [], "torn": Array(whole.dropLast(40)), "another job's": start(8, job: sha256([8])).encoded!,
            "another round's": start(7).encoded!, "another version's": Array("atoll-round-start 9\n".utf8) + whole,
        ]
        for place in stride(from: 0, to: whole.count, by: 211) {
            var damaged = whole
            damaged[place] ^= 1
            strange["damaged at \(place)"] = damaged
        }
        for (name, bytes) in strange {
            try withFolder { folder in
                _ = write(start(4), folder)
                try writeFile(path(folder, 8), bytes)
                let remains = RoundStartFile.remains(in: folder)
                #expect(remains.jobs.first?.stages.map(\.round) == [4], "\(name)")
                #expect(remains.refused.map(\.what) == [path(folder, 8)], "\(name)")
                #expect(why(read(8, folder))?.contains(path(folder, 8)) == true, "\(name)")
                #expect(FileManager.default.contents(atPath: path(folder, 8)) == Data(bytes), "\(name)")
            }
        }
    }

    @Test func `of another version are not overwritten, nor taken away`() throws {
        try withFolder { folder in
            let other = Array("atoll-round-start 9\nsomething".utf8)
            try? FileManager.default.createDirectory(
                atPath: RoundStartFile.folder(folder.path, job), withIntermediateDirectories: true)
            try writeFile(path(folder, 4), other)
            #expect(why(write(start(4), folder))?.contains("not overwritten") == true)
            for round in [8, 12, 16] { #expect(why(write(start(round), folder, retaining: [])) == nil) }
            #expect(FileManager.default.contents(atPath: path(folder, 4)) == Data(other))
        }
    }

    /// Every call that writes one fails once, in each way: what was there is there.
    @Test func `that could not be written leave the older ones as they are`() throws {
        for kind in 0..<4 {
            try withFolder { folder in
                for round in [4, 8] { _ = write(start(round), folder) }
                let system = DiskOperations.system
                let disk = DiskOperations(
                    write: { file, bytes in
                        guard kind == 0 else { return system.write(file, bytes) }
                        _ = system.write(file, UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count / 2)]))
                        errno = ENOSPC
                        return -1
                    },
                    sync: {
                        errno = EIO
                        return kind == 1 ? -1 : system.sync($0)
                    },
                    rename: {
                        errno = EIO
                        return kind == 2 ? -1 : system.rename($0, $1)
                    }, free: { _ in kind == 3 ? 1000 : nil })
                let said = try #require(why(write(start(12), folder, disk)))
                // How much, and where.
                if kind == 3 {
                    #expect(said.contains(ByteCount(start(12).encoded!.count).description) && said.contains("1000"))
                }
                #expect(said.contains(folder.path))
                let remains = RoundStartFile.remains(in: folder)
                #expect(remains.jobs[0].stages.map(\.round) == [4, 8] && remains.refused.isEmpty)
            }
        }
    }

    @Test func `belong to one process at a time`() throws {
        try withFolder { folder in #expect(throws: NodeError.self) { try DataFolder(folder.path) } }
    }
}
