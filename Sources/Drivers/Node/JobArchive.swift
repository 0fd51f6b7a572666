public import EventLoop
import Foundation
public import Primitives
public import Record
import Telemetry
import Wire

/// What a daemon keeps of jobs on disk: their logs, and chunks of their texts until a job is over.
///
/// Writing is a queue off the loop: requests that come while one batch is written are the next, and a batch syncs each log once. Every
/// request is answered, in order, with what really happened.
public final class JobArchive {
    private let queue: WorkPool.Queue
    private let writer: LogWriter
    private var waiting: [(request: StorageRequest, answer: (StorageTicket, StorageOutcome) -> Void)] = []
    private var isWriting = false
    private let onDamage: (Happening) -> Void

    public init(_ folder: DataFolder, _ daemon: LiveDaemon, disk: DiskOperations = .system) {
        queue = daemon.makeQueue()
        onDamage = { [weak daemon] what in
            guard let daemon else { return }
            daemon.onEvent?(Event(what, at: daemon.loop.now))
        }
        writer = LogWriter(folder.path, disk)
    }

    /// - Parameter answer: called on the loop.
    public func perform(
        _ request: StorageRequest, answer: @escaping (StorageTicket, StorageOutcome) -> Void
    ) {
        waiting.append((request, answer))
        writeNext()
    }

    private func writeNext() {
        guard !isWriting, !waiting.isEmpty else { return }
        isWriting = true
        let batch = waiting
        waiting = []
        let requests = batch.map(\.request)
        let writer = writer
        queue.submit({ (writer.write(requests), writer.takeDamages()) }) { [self] outcomes, damages in
            isWriting = false
            for damage in damages { onDamage(damage) }
            for (item, outcome) in zip(batch, outcomes) { item.answer(item.request.ticket, outcome) }
            writeNext()
        }
    }

    /// The entries of a job's log as they were stored, up to the first that is damaged.
    public static func read(_ folder: String, job: Digest256) throws(NodeError) -> [PBEnvelope] {
        let path = LogFile.path(folder, job)
        return try LogFile.envelopes(in: readFile(path), path: path)
    }
}

/// The calls by which bytes reach a disk; a test puts others in their place.
public struct DiskOperations: Sendable {
    /// As `write(2)`; nil: `errno` says why.
    public var write: @Sendable (Int32, UnsafeRawBufferPointer) -> Int
    public var sync: @Sendable (Int32) -> Int32
    public var rename: @Sendable (String, String) -> Int32
    /// Bytes that may still be written in a folder; nil where nobody knows.
    public var free: @Sendable (String) -> Int?
    public init(
        write: @escaping @Sendable (Int32, UnsafeRawBufferPointer) -> Int, sync: @escaping @Sendable (Int32) -> Int32,
        rename: @escaping @Sendable (String, String) -> Int32,
        free: @escaping @Sendable (String) -> Int? = freeBytes
    ) {
        self.write = write
        self.sync = sync
        self.rename = rename
        self.free = free
    }
    public static let system = DiskOperations(
        write: { Glibc.write($0, $1.baseAddress, $1.count) }, sync: { fdatasync($0) }, rename: { Glibc.rename($0, $1) })
}

/// What whoever runs this may still write in the file system of a folder, or of what is to become one.
@Sendable public func freeBytes(_ path: String) -> Int? {
    var place = path
    var info = statvfs()
    while statvfs(place, &info) != 0 {
        guard errno == ENOENT, place.count > 1 else { return nil }
        place = (place as NSString).deletingLastPathComponent
    }
    let (bytes, overflow) = Int(clamping: info.f_bavail).multipliedReportingOverflow(by: Int(clamping: info.f_frsize))
    return overflow ? .max : bytes
}

/// Refuses what does not fit, before anything is written: how much is needed, how much there is, and where.
func requireSpace(_ bytes: Int, in folder: String, for what: String, _ disk: DiskOperations) throws(NodeError) {
    guard let free = disk.free(folder), free < bytes else { return }
    throw .failed(
        "\(what) needs \(ByteCount(bytes)) in \(folder), where \(ByteCount(free)) are free. Free some space, or choose another folder"
    )
}
