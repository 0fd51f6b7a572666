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

    /// Which folder of a model a path means: its own, where it holds one; of the `--out` of a job that runs or has ended the one that was
    /// written last, be it of a round or the result. Nothing else is looked at than `checkpoint` and `checkpoints/round-N`.
    public static func newest(in path: String) -> String {
        let files = FileManager.default
        func written(_ folder: String) -> Date? {
            (try? files.attributesOfItem(atPath: folder + "/config.json"))?[.modificationDate] as? Date
        }
        guard written(path) == nil else { return path }
        let rounds = ((try? files.contentsOfDirectory(atPath: path + "/checkpoints")) ?? []).compactMap { name in
            name.hasPrefix("round-") ? Int(name.dropFirst(6)) : nil
        }
        let folders = rounds.sorted().map { path + "/checkpoints/round-\($0)" } + [path + "/checkpoint"]
        let dated = folders.compactMap { folder in written(folder).map { (folder: folder, date: $0) } }
        // Of those of one moment the last.
        return dated.reduce(nil as (folder: String, date: Date)?) { best, next in
            best.map { $0.date > next.date } ?? false ? best : next
        }?.folder ?? path
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
