import Digests
import Foundation
import JobFixtures
import Membership
import Messages
import Node
import Primitives
import Record
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
    private func withFolder(_ body: (DataFolder) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("atoll-test-\(UUID().uuidString)").path
        let folder = try DataFolder(path)
        defer {
            folder.close()
            try? FileManager.default.removeItem(atPath: path)
        }
        try body(folder)
    }
    private func write(_ start: RoundStart, _ folder: DataFolder, _ disk: DiskOperations = .system) -> StorageOutcome {
        LogWriter(folder.path, disk).write([.roundStart(start)])[0]
    }
    private func read(_ round: Int, _ folder: DataFolder) -> StorageOutcome {
        LogWriter(folder.path, .system).write([.readRoundStart(job: job, round: round)])[0]
    }
    private func why(_ outcome: StorageOutcome) -> String? { if case .failed(let why) = outcome { why } else { nil } }
    private func path(_ folder: DataFolder, _ round: Int) -> String {
        RoundStartFile.path(folder.path, job, round: round)
    }

    @Test func `are two generations, found by the next process, and gone when the job is over`() throws {
        try withFolder { folder in
            for round in [4, 8, 12] { #expect(why(write(start(round), folder)) == nil) }
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

    /// Each is named; what lies there stays, and an older generation counts.
    @Test func `that are damaged, torn, of another job or of another version are refused by name`() throws {
        let whole = start(8).encoded
        var strange: [String: [UInt8]] = [
            "empty": [], "torn": Array(whole.dropLast(40)), "another job's": start(8, job: sha256([8])).encoded,
            "another round's": start(7).encoded, "another version's": Array("atoll-round-start 9\n".utf8) + whole,
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
            for round in [8, 12, 16] { #expect(why(write(start(round), folder)) == nil) }
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
                    #expect(said.contains(ByteCount(start(12).encoded.count).description) && said.contains("1000"))
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
