import Digests
import Foundation
import Node
import Primitives
import Testing

/// Checkpoints for readers of models, of which only so many are to stay.
@Suite struct `Checkpoints that are kept` {
    private func withFolders(_ body: (_ data: String, _ out: String) throws -> Void) throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("atoll-test-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: root) }
        try makeFolder(root + "/data")
        try makeFolder(root + "/out")
        try body(root + "/data", root + "/out")
    }
    private func add(_ round: Int, _ job: Digest256, keep: Int?, _ data: String, _ out: String) throws {
        let path = out + "/round-\(round)"
        try makeFolder(path)
        try writeFile(path + "/model", [1])
        try CheckpointFolders.add(path, of: job, in: data, keep: keep)
    }
    private func here(_ out: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: out)) ?? []).sorted()
    }

    @Test func `are the newest of this job, and nothing else is taken away`() throws {
        try withFolders { data, out in
            let (job, other) = (sha256([1]), sha256([2]))
            try add(1, other, keep: 2, data, out)
            try makeFolder(out + "/round-2")
            for round in 3...7 { try add(round, job, keep: 2, data, out) }
            #expect(here(out) == ["round-1", "round-2", "round-6", "round-7"])
            // The same round again is one.
            try add(7, job, keep: 2, data, out)
            #expect(here(out) == ["round-1", "round-2", "round-6", "round-7"])
            #expect(CheckpointFolders.written(data, job).count == 2)
        }
    }
    @Test func `are all where nothing is said`() throws {
        try withFolders { data, out in
            for round in 1...5 { try add(round, sha256([1]), keep: nil, data, out) }
            #expect(here(out).count == 5)
        }
    }

    @Test func `need room that is looked at before the job begins`() throws {
        try withFolders { data, out in
            let model = ModelShape(
                hiddenSize: 64, layers: 4, heads: 4, kvHeads: 4, intermediateSize: 128, context: 32)
            let system = DiskOperations.system
            for (short, isEnough) in [(data, false), (out, false), ("", true)] {
                let disk = DiskOperations(write: system.write, sync: system.sync, rename: system.rename) { folder in
                    folder == short ? 12_345 : 1 << 40
                }
                var problem = ""
                do throws(NodeError) {
                    try CheckpointFolders.requireSpace(model, out: out, data: data, disk: disk)
                } catch {
                    problem = error.description
                }
                #expect(isEnough ? problem.isEmpty : problem.contains(short) && problem.contains("12.1 KiB"))
            }
        }
    }

    @Test func `a job's folder means the checkpoint that was written last`() throws {
        let out = FileManager.default.temporaryDirectory.appendingPathComponent(
            "newest-\(UInt64.random(in: 0 ... .max))"
        ).path
        defer { try? FileManager.default.removeItem(atPath: out) }
        func write(_ name: String, at second: Double) throws {
            try FileManager.default.createDirectory(atPath: "\(out)/\(name)", withIntermediateDirectories: true)
            let file = "\(out)/\(name)/config.json"
            try Data("{}".utf8).write(to: URL(fileURLWithPath: file))
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSince1970: second)], ofItemAtPath: file)
        }
        #expect(CheckpointFolders.newest(in: out) == out)
        // Of an earlier job; then of one that runs; half-written ones and others' are not looked at.
        try write("checkpoint", at: 100)
        #expect(CheckpointFolders.newest(in: out) == out + "/checkpoint")
        try write("checkpoints/round-2", at: 200)
        try write("checkpoints/round-10", at: 300)
        try write("checkpoints/round-12.new", at: 400)
        try write("checkpoints/mine", at: 400)
        try FileManager.default.createDirectory(
            atPath: out + "/checkpoints/round-11", withIntermediateDirectories: true)
        #expect(CheckpointFolders.newest(in: out) == out + "/checkpoints/round-10")
        try write("checkpoint", at: 300)
        #expect(CheckpointFolders.newest(in: out) == out + "/checkpoint")
        #expect(CheckpointFolders.newest(in: out + "/checkpoints/round-2") == out + "/checkpoints/round-2")
    }
}
