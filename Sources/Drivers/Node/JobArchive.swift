import Foundation
import Primitives
public import Swarm
import Wire

/// What a daemon keeps of a job on disk: its log entries, and its chunks until the job is over.
public final class JobArchive {
    private let folder: String
    private var logs: [String: Int32] = [:]
    /// The first thing that could not be written; later ones are not tried.
    public private(set) var problem: String?

    public init(_ folder: DataFolder) { self.folder = folder.path }

    public func perform(_ effect: SwarmEffect) {
        switch effect {
        case .storeLogEntry(let job, let envelope): append(envelope.encoded, to: job)
        case .storeChunk(let content, let number, let bytes):
            let path = folder + "/chunks/" + content.hex
            try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            do throws(NodeError) { try writeFile(path + "/\(number)", bytes) } catch { note(error.description) }
        case .eraseJob(let job, let content):
            try? FileManager.default.removeItem(atPath: folder + "/chunks/" + content.hex)
            if let file = logs.removeValue(forKey: job.hex) { Glibc.close(file) }
        default: break
        }
    }

    /// Length-prefixed envelopes, appended and synced: the log survives a crash up to its last whole entry.
    private func append(_ bytes: [UInt8], to job: Digest256) {
        guard problem == nil else { return }
        if logs[job.hex] == nil {
            let file = open(folder + "/log/" + job.hex, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
            guard file >= 0 else { return note("cannot write the job log in \(folder)/log: \(reason(errno))") }
            logs[job.hex] = file
        }
        var writer = ByteWriter(capacity: bytes.count + 4)
        writer.block(bytes)
        let record = writer.bytes
        let n = record.withUnsafeBytes { write(logs[job.hex]!, $0.baseAddress, record.count) }
        if n != record.count || fdatasync(logs[job.hex]!) != 0 {
            note("cannot write the job log in \(folder)/log: \(reason(errno)). Free some space")
        }
    }
    private func note(_ text: String) { if problem == nil { problem = text } }
}
