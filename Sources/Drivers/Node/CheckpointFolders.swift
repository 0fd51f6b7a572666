import Digests
import Foundation
public import Primitives
import Training

/// Folders of models that a job has written for readers, beside what it goes on from: which they are is written down, so that nothing else
/// is ever taken away.
public enum CheckpointFolders {
    private static func list(_ folder: String, _ job: Digest256) -> String {
        StateFile.folder(folder, job) + "/written"
    }
    package static func written(_ folder: String, _ job: Digest256) -> [String] {
        let text = (try? readFile(list(folder, job))).map { String(decoding: $0, as: UTF8.self) } ?? ""
        return text.split(separator: "\n").map(String.init)
    }

    /// One more is there, and has been read back: of this job's the newest `keep` stay, with nil all.
    package static func add(
        _ path: String, of job: Digest256, in folder: String, keep: Int?, disk: DiskOperations = .system
    ) throws(NodeError) {
        var paths = written(folder, job).filter { $0 != path } + [path]
        if let keep {
            for old in paths.dropLast(max(1, keep)) { try? FileManager.default.removeItem(atPath: old) }
            paths = Array(paths.suffix(max(1, keep)))
        }
        try? FileManager.default.createDirectory(
            atPath: StateFile.folder(folder, job), withIntermediateDirectories: true)
        try writeFile(list(folder, job), Array((paths.joined(separator: "\n") + "\n").utf8), disk: disk)
    }

    /// Before a job begins: one checkpoint in each of both forms, and what of them is there while the next is written.
    public static func requireSpace(
        _ model: ModelShape, out: String, data: String, disk: DiskOperations = .system
    ) throws(NodeError) {
        let values = model.allUnits.reduce(0) { $0 + model.parameters(unit: $1) }
        let folders = 4 * values * 2
        let files = 16 * values * (StateFile.kept + 1)
        try Node.requireSpace(files, in: data, for: "what the job goes on from (\(StateFile.kept + 1) states)", disk)
        try Node.requireSpace(folders, in: out, for: "a checkpoint beside the one before", disk)
    }
}
