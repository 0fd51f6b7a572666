import Consensus
import Coordination
import Digests
import Foundation
import JobFixtures
import Membership
import Node
import Primitives
import Record
import Telemetry
import Testing
import Training
import Wire

/// A disk that fails when it is told to; counts its calls.
private final class FaultyDisk: @unchecked Sendable {
    enum Fault { case none, full, torn, sync, rename }
    var fault = Fault.none
    /// The call, of all that could fail, at which it does; negative: at every one.
    var at = -1
    private(set) var calls = 0
    private func fails(_ kinds: [Fault]) -> Bool {
        guard kinds.contains(fault) else { return false }
        defer { calls += 1 }
        return at < 0 || calls == at
    }
    var operations: DiskOperations {
        let system = DiskOperations.system
        return DiskOperations(
            write: { [self] file, bytes in
                if fails([.full]) {
                    errno = ENOSPC
                    return -1
                }
                if fails([.torn]) {
                    _ = system.write(file, UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count / 2)]))
                    errno = EIO
                    return -1
                }
                return system.write(file, bytes)
            },
            sync: { [self] file in
                if fails([.sync]) {
                    errno = EIO
                    return -1
                }
                return system.sync(file)
            },
            rename: { [self] from, to in
                if fails([.rename]) {
                    errno = EIO
                    return -1
                }
                return system.rename(from, to)
            })
    }
}

private func withFolder<T>(_ body: (String) throws -> T) throws -> T {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("atoll-test-\(UUID().uuidString)")
    for name in ["log", "chunks", "checkpoints"] {
        try FileManager.default.createDirectory(
            at: folder.appendingPathComponent(name), withIntermediateDirectories: true)
    }
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder.path)
}

@Suite struct `A log on disk` {
    private func script() throws -> Script {
        var script = try Script()
        try script.join([1, 2])
        try script.plan(Small.plan([[1], [2]]))
        for _ in 0..<8 { try script.seal([0, 1]) }
        return script
    }
    private func requests(_ script: Script) -> [StorageRequest] {
        script.record.envelopes.enumerated().map { .entry(job: script.record.job, index: $0, $1) }
    }
    private func isStored(_ outcome: StorageOutcome) -> Bool { if case .stored = outcome { true } else { false } }

    /// One after another until all are stored, as ``Coordination/DiskWatch`` does; what was said to be stored is read back after each.
    private func storeAll(_ requests: [StorageRequest], _ script: Script, _ folder: String, _ disk: FaultyDisk) throws {
        let writer = LogWriter(folder, disk.operations)
        var done = 0
        for _ in 0..<20 where done < requests.count {
            let batch = Array(requests[done..<min(requests.count, done + 3)])
            let outcomes = writer.write(batch)
            // Nothing after a failed one is said to be stored.
            let good = outcomes.prefix { isStored($0) }.count
            #expect(outcomes.dropFirst(good).allSatisfy { !isStored($0) })
            done += good
            guard done > 0 else { continue }
            let read = try JobArchive.read(folder, job: script.record.job)
            #expect(Array(read.prefix(done)) == Array(script.record.envelopes.prefix(done)))
        }
        #expect(try JobArchive.read(folder, job: script.record.job) == script.record.envelopes)
    }

    @Test func `is what was written, also by another process after it, and twice the same is nothing`() throws {
        let script = try script()
        let all = requests(script)
        try withFolder { folder in
            #expect(LogWriter(folder, .system).write(Array(all[..<4])).allSatisfy { isStored($0) })
            #expect(LogWriter(folder, .system).write(Array(all[2...])).allSatisfy { isStored($0) })
            let read = try JobArchive.read(folder, job: script.record.job)
            #expect(read == script.record.envelopes)
        }
    }

    @Test func `has beside it what electors have lied about, each once, and names what is none`() throws {
        let job = sha256([3])
        func lie(_ size: Int) throws -> Contradiction {
            func ack(_ content: UInt8) -> Ack {
                Ack(LogClaim(job: job, term: 1, size: size, root: sha256([content])), by: Small.launcher)
            }
            return try #require(Contradiction(ack(1), ack(2)))
        }
        let lies = [try lie(4), try lie(9)]
        try withFolder { folder in
            for _ in 0..<2 {
                let outcomes = LogWriter(folder, .system).write(lies.map { .contradiction($0) })
                #expect(outcomes.allSatisfy { isStored($0) })
            }
            let path = LogFile.path(folder, job)
            #expect(try LogFile.lies(beside: path) == lies)
            let full = FaultyDisk()
            full.fault = .full
            let outcome = LogWriter(folder, full.operations).write([.contradiction(try lie(12))])
            #expect(!isStored(outcome[0]))
            #expect(try LogFile.lies(beside: path) == lies)
            let file = path + LogFile.liesSuffix
            var bytes = try readFile(file)
            bytes[bytes.count - 5] ^= 1
            try writeFile(file, bytes)
            #expect(throws: NodeError.self) { try LogFile.lies(beside: path) }
        }
    }

    /// Every single call fails once, in each way.
    @Test func `says nothing is stored that is not, whichever call fails`() throws {
        let script = try script()
        for fault in [FaultyDisk.Fault.full, .torn, .sync] {
            for call in 0..<14 {
                try withFolder { folder in
                    let disk = FaultyDisk()
                    (disk.fault, disk.at) = (fault, call)
                    try storeAll(requests(script), script, folder, disk)
                }
            }
        }
    }

    @Test func `has no gaps and no other entry at a place`() throws {
        let script = try script()
        var other = try Script(nonce: 1)
        try other.join([3])
        try withFolder { folder in
            let writer = LogWriter(folder, .system)
            let all = requests(script)
            #expect(writer.write([all[0], all[2]]).map { isStored($0) } == [true, false])
            #expect(writer.write([all[1], all[2]]).map { isStored($0) } == [true, true])
            let forked = StorageRequest.entry(job: script.record.job, index: 1, other.record.envelopes[1])
            #expect(writer.write([forked]).map { isStored($0) } == [false])
            let read = try JobArchive.read(folder, job: script.record.job)
            #expect(read == Array(script.record.envelopes[..<3]))
        }
    }

    /// Any byte flipped, any place where it ends: what is read is a whole beginning of what was written, and writing goes on from there.
    @Test func `is read up to the first damage, and written on from there`() throws {
        let script = try script()
        var generator = SeededGenerator(seed: 1, stream: 1)
        try withFolder { folder in
            _ = LogWriter(folder, .system).write(requests(script))
            let path = LogFile.path(folder, script.record.job)
            let whole = try readFile(path)
            for turn in 0..<60 {
                var bytes = whole
                let place = 12 + generator.below(whole.count - 12)
                if turn % 2 == 0 {
                    bytes[place] ^= UInt8(1 << generator.below(8))
                } else {
                    bytes.removeLast(whole.count - place)
                }
                try Data(bytes).write(to: URL(fileURLWithPath: path))
                let read = try JobArchive.read(folder, job: script.record.job)
                #expect(read.count < script.record.envelopes.count)
                #expect(read == Array(script.record.envelopes.prefix(read.count)))
                _ = LogWriter(folder, .system).write(requests(script))
                #expect(try readFile(path) == whole)
            }
            // Not ours at all: nothing is overwritten.
            try Data("something else".utf8).write(to: URL(fileURLWithPath: path))
            #expect(LogWriter(folder, .system).write(requests(script)).allSatisfy { !isStored($0) })
            #expect(try readFile(path) == Array("something else".utf8))
            #expect(throws: NodeError.self) { try JobArchive.read(folder, job: script.record.job) }
        }
    }

    /// The launcher has lost the end of its log, and writes others in the place of entries that this disk has.
    @Test func `of another history is put aside, and the one that there is begins in its place`() throws {
        let (script, longer) = (try script(), try script())
        try withFolder { folder in
            var desk = StorageDesk()
            let writer = LogWriter(folder, .system)
            let job = script.record.job
            // What was written by another process before.
            var other = Array(requests(longer))
            let forged = PBEnvelope(encoded: longer.record.envelopes[4].encoded)!
            other[3] = .entry(job: job, index: 3, forged)
            #expect(writer.write(other).allSatisfy { isStored($0) })
            let path = LogFile.path(folder, job)
            let before = try readFile(path)
            // A batch whose end would fit the file.
            for request in requests(script) { desk.store(request) }
            var (again, asides) = (false, 0)
            for _ in 0..<10 {
                var batch: [StorageRequest] = []
                while let effect = desk.poll() { if case .store(let request) = effect { batch.append(request) } }
                if batch.isEmpty { break }
                for (request, outcome) in zip(batch, writer.write(batch)) {
                    if case .setLogAside = request { asides += 1 }
                    guard desk.answered(request.ticket, outcome, at: .zero), case .setLogAside = request else {
                        continue
                    }
                    again = true
                    for request in requests(script) { desk.store(request) }
                }
            }
            #expect(again && asides == 1 && !desk.isFailing)
            #expect(try JobArchive.read(folder, job: job) == script.record.envelopes)
            #expect(try readFile(path + ".lost-1") == before)
        }
    }

    /// Whoever carries a record in another era counts its receipts from 0 again. It was refused for ever, and wrote no entries either.
    @Test func `of receipts is a set: those of before stay, and others follow them`() throws {
        let script = try script()
        try withFolder { folder in
            let (job, all) = (script.record.job, script.record.envelopes)
            func write(_ numbers: [Int], from first: Int = 0, by writer: LogWriter) -> Bool {
                let requests = numbers.enumerated().map {
                    StorageRequest.receipt(job: job, index: first + $0, all[$1])
                }
                return writer.write(requests).allSatisfy { isStored($0) }
            }
            #expect(write([0, 1, 2], by: LogWriter(folder, .system)))
            let path = LogFile.path(folder, job, .receipts)
            let before = try readFile(path)
            let writer = LogWriter(folder, .system)
            #expect(write([3, 1], by: writer) && write([4], from: 2, by: writer))
            let after = try readFile(path)
            #expect(after.starts(with: before) && after.count > before.count)
            // In that order, each once.
            #expect(write([0, 1, 2, 3, 4], by: LogWriter(folder, .system)))
            #expect(try readFile(path) == after)
        }
    }

    /// Bytes that changed later, not what a crash has torn.
    @Test func `of which more is lost than a crash tears is not gone on with`() throws {
        var script = try script()
        script.stored(through: script.record.length)
        let parameters = script.record.parameters
        try withFolder { folder in
            let job = script.record.job
            _ = LogWriter(folder, .system).write(requests(script))
            let path = LogFile.path(folder, job)
            let whole = try readFile(path)
            func loss(_ bytes: [UInt8]) throws -> String? {
                try Data(bytes).write(to: URL(fileURLWithPath: path))
                let held = try Record.restoring(
                    JobArchive.read(folder, job: job), parse: { _ in parameters }
                ).record.length
                return JobArchive.loss(of: job, in: folder, held: held) { _ in parameters }
            }
            #expect(try loss(whole) == nil)
            #expect(try loss(Array(whole.dropLast(5))) == nil, "torn")
            var flipped = whole
            flipped[whole.count - 5] ^= 1
            #expect(try loss(flipped) == nil, "the last record may be what a crash has left of it")
            flipped = whole
            flipped[whole.count / 2] ^= 1
            let said = try #require(try loss(flipped))
            #expect(said.contains("byte \(whole.count / 2)") && said.contains("log/\(job.hex)"), "\(said)")
            // Whole as far as it goes, and less than was certified.
            let claim = try #require(script.record.claim)
            let certificate = try #require(Certificate([Ack(claim, by: Small.launcher)]))
            try Data(Array(LogFile.certificateFormat.utf8) + certificate.encoded).write(
                to: URL(fileURLWithPath: path + LogFile.certificateSuffix))
            #expect(try loss(whole) == nil)
            #expect(try loss(Array(whole.dropLast(5)))?.contains("\(claim.size) were certified") == true)
        }
    }

    /// A byte that changed in the middle cost everything behind it, in silence, when the next one was written.
    @Test func `of receipts gives what is whole on both sides of a damage, keeps the file as it was, and says so`()
        throws
    {
        let script = try script()
        // Any envelopes: what is in them is not looked at here.
        let (job, all) = (script.record.job, script.record.envelopes)
        try withFolder { folder in
            func write(_ numbers: [Int], by writer: LogWriter) -> Bool {
                writer.write(numbers.map { .receipt(job: job, index: $0, all[$0]) }).allSatisfy { isStored($0) }
            }
            #expect(write([0, 1, 2, 3, 4, 5], by: LogWriter(folder, .system)))
            let path = LogFile.path(folder, job, .receipts)
            let whole = try readFile(path)
            let (records, _) = try #require(LogFile.records(in: whole, .receipts))
            let start = LogFile.Kind.receipts.format.utf8.count + 12 + records[0].count
            // In its body, its check and its length, and two records at once.
            for (places, lost) in [([20], 1), ([6], 1), ([0], 1), ([2], 1), ([20, 24 + records[1].count + 8], 2)] {
                var damaged = whole
                for place in places { damaged[start + place] ^= 0x41 }
                try writeFile(path, damaged)
                let read = try LogFile.envelopes(in: damaged, .receipts, path: path)
                #expect(read == [all[0]] + all[(1 + lost)..<6], "at \(places)")
                let writer = LogWriter(folder, .system)
                let rest = [all[0]] + all[(1 + lost)..<6] + [all[6]]
                #expect(writer.write([.receipt(job: job, index: 6 - lost, all[6])]).allSatisfy { isStored($0) })
                #expect(try LogFile.envelopes(in: readFile(path), .receipts, path: path) == rest)
                let told = writer.takeDamages()
                #expect(told.count == 1 && told[0].kind == "log_damaged", "\(told)")
                if case .logDamaged(_, let byte, _, let why)? = told.first {
                    #expect(byte == start && why.contains(path + ".damaged-"))
                }
                let asides = try FileManager.default.contentsOfDirectory(atPath: folder + "/log").filter {
                    $0.contains(".damaged-")
                }
                #expect(try asides.contains { try readFile(folder + "/log/" + $0) == damaged })
            }
            // What a crash tears is cut off, as before, and nothing is said.
            try writeFile(path, Array(whole.dropLast(9)))
            let writer = LogWriter(folder, .system)
            #expect(write([5, 6], by: writer) && writer.takeDamages().isEmpty)
        }
    }

    @Test func `keeps receipts beside it`() throws {
        var script = try script()
        script.report(0, numbers: [1, 2])
        script.report(1, numbers: [1, 2])
        try withFolder { folder in
            let writer = LogWriter(folder, .system)
            let job = script.record.job
            let outcomes = writer.write(
                requests(script) + script.receipts.enumerated().map { .receipt(job: job, index: $0, $1) })
            #expect(outcomes.allSatisfy { isStored($0) })
            let path = LogFile.path(folder, job, .receipts)
            let read = try LogFile.envelopes(in: readFile(path), .receipts, path: path)
            #expect(read == script.receipts)
            #expect(throws: NodeError.self) { try LogFile.envelopes(in: readFile(path), .entries, path: path) }
        }
    }
}

@Suite struct `States on disk` {
    private let job = sha256([1])
    private func states(_ seed: UInt64) -> [UnitState] {
        Small.model.allUnits.map { unit in
            let bytes = SeededGenerator.bytes(4 * Small.model.parameters(unit: unit), seed: seed, stream: UInt64(unit))
            return UnitState(
                unit: unit, parameters: bytes, outerMomentum: bytes.reversed(), firstMoment: unit == 1 ? bytes : [],
                secondMoment: unit == 1 ? bytes : [], optimizerSteps: unit)
        }
    }
    private func files(_ folder: String) -> [String] {
        (FileManager.default.subpaths(atPath: folder + "/checkpoints") ?? []).filter { $0.hasSuffix("s") }.sorted()
    }

    @Test func `are read as they were written, the newest first, two generations`() throws {
        try withFolder { folder in
            #expect(StateFile.newest(of: job, in: folder).found == nil)
            for round in [2, 9, 10, 100] {
                try StateFile.write(states(UInt64(round)), round: round, job: job, in: folder)
            }
            let (found, damaged) = StateFile.newest(of: job, in: folder)
            #expect(found?.round == 100 && damaged == [])
            #expect(found?.states == states(100))
            #expect(files(folder).count == StateFile.kept)
            #expect(StateFile.newest(of: sha256([2]), in: folder).found == nil)
        }
    }

    /// What was saved after a job had gone back was removed as the older one, and what was void was gone on from.
    @Test func `of rounds that were taken back go when one before them is written`() throws {
        try withFolder { folder in
            for round in [4, 8, 10, 6] {
                try StateFile.write(states(UInt64(round)), round: round, job: job, in: folder)
            }
            let found = StateFile.newest(of: job, in: folder).found
            #expect(found?.round == 6 && found?.states == states(6))
            try StateFile.write(states(8), round: 8, job: job, in: folder)
            #expect(StateFile.newest(of: job, in: folder).found?.states == states(8))
            #expect(files(folder).count == StateFile.kept)
        }
    }

    @Test func `that are damaged anywhere are passed over for the ones before`() throws {
        var generator = SeededGenerator(seed: 2, stream: 1)
        try withFolder { folder in
            try StateFile.write(states(1), round: 1, job: job, in: folder)
            let path = try StateFile.write(states(2), round: 2, job: job, in: folder)
            let whole = try readFile(path)
            for turn in 0..<40 {
                var bytes = whole
                if turn % 2 == 0 {
                    bytes[generator.below(whole.count)] ^= UInt8(1 << generator.below(8))
                } else {
                    bytes.removeLast(1 + generator.below(whole.count))
                }
                try Data(bytes).write(to: URL(fileURLWithPath: path))
                let (found, damaged) = StateFile.newest(of: job, in: folder)
                #expect(found?.round == 1 && found?.states == states(1))
                #expect(damaged == [path])
            }
        }
    }

    @Test func `that could not be written leave the ones before, whichever call fails`() throws {
        for fault in [FaultyDisk.Fault.full, .torn, .sync, .rename] {
            try withFolder { folder in
                try StateFile.write(states(1), round: 1, job: job, in: folder)
                let disk = FaultyDisk()
                disk.fault = fault
                #expect(throws: NodeError.self) {
                    try StateFile.write(states(2), round: 2, job: job, in: folder, disk: disk.operations)
                }
                let (found, damaged) = StateFile.newest(of: job, in: folder)
                #expect(found?.round == 1 && damaged == [])
            }
        }
    }
}

@Suite struct `A job that was stopped` {
    private func store(_ script: Script, _ folder: DataFolder) {
        _ = LogWriter(folder.path, .system).write(
            script.record.envelopes.enumerated().map { .entry(job: script.record.job, index: $0, $1) })
    }

    @Test func `is found by its manifest and text, with what it left`() throws {
        try withFolder { path in
            // The launcher of the scripts.
            try writeFile(path + "/key", Array((String(repeating: "fa", count: 32) + "\n").utf8), mode: 0o600)
            let folder = try DataFolder(path)
            defer { folder.close() }
            #expect(folder.key.peerID == Small.launcher.peerID)
            func found(_ manifest: String = "small", _ content: Digest256 = sha256([1])) -> StoppedJob? {
                JobArchive.stopped(in: folder, manifest: manifest, content: content) { _ in Small.parameters() }
            }
            #expect(found() == nil)
            var script = try Script(nonce: 3)
            store(script, folder)
            // There is no plan yet: nothing to go on from.
            #expect(found() == nil)
            try script.join([1, 2])
            try script.plan(Small.plan([[1], [2]]))
            for _ in 0..<3 { try script.seal([0, 1]) }
            store(script, folder)
            let job = try #require(found())
            #expect(job.job == script.record.job && job.round == 3)
            #expect(job.remains.log == script.record.envelopes && job.remains.checkpoint == nil)
            #expect(found("another") == nil && found("small", sha256([2])) == nil)
            // Files of others are no obstacle.
            try writeFile(path + "/log/" + String(repeating: "0", count: 64), [1, 2, 3])
            #expect(found()?.job == script.record.job)
            try script.finish()
            store(script, folder)
            #expect(found() == nil)
        }
    }
}
