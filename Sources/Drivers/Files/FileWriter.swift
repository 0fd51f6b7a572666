import Foundation

/// A file being written piece by piece. The first failure is kept and thrown by ``finish()``; a file that is not
/// finished is closed as it is.
public final class FileWriter {
    private let path: String
    private var descriptor: Int32
    private var failure: FileError?
    /// Bytes given so far.
    public private(set) var count = 0

    public init(_ path: String) throws(FileError) {
        self.path = path
        descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw FileError(path: path, problem: lastProblem()) }
    }
    deinit { if descriptor >= 0 { close(descriptor) } }

    public func append(_ bytes: UnsafeRawBufferPointer) {
        count += bytes.count
        var written = 0
        while failure == nil, written < bytes.count {
            let wrote = write(descriptor, bytes.baseAddress! + written, bytes.count - written)
            if wrote > 0 {
                written += wrote
            } else if wrote == 0 || errno != EINTR {
                failure = FileError(path: path, problem: lastProblem())
            }
        }
    }
    public func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

    /// Puts bytes in place of others given before.
    public func overwrite(_ bytes: [UInt8], at offset: Int) {
        precondition(offset >= 0 && offset + bytes.count <= count, "bytes that were not given yet")
        var written = 0
        while failure == nil, written < bytes.count {
            let wrote = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress! + written, bytes.count - written, off_t(offset + written))
            }
            if wrote > 0 {
                written += wrote
            } else if wrote == 0 || errno != EINTR {
                failure = FileError(path: path, problem: lastProblem())
            }
        }
    }

    /// Synchronises with the disk and closes.
    public func finish() throws(FileError) {
        if failure == nil, fsync(descriptor) != 0 { failure = FileError(path: path, problem: lastProblem()) }
        close(descriptor)
        descriptor = -1
        if let failure { throw failure }
    }
}

/// Writes a file in place of one of that name, only when all of it is on disk.
public func replaceFile(_ path: String, _ bytes: [UInt8]) throws(FileError) {
    let temporary = path + ".partial-\(getpid())"
    do throws(FileError) {
        let file = try FileWriter(temporary)
        file.append(bytes)
        try file.finish()
        guard rename(temporary, path) == 0 else { throw FileError(path: path, problem: lastProblem()) }
        let parent = (path as NSString).deletingLastPathComponent
        try synchroniseFolder(parent.isEmpty ? "." : parent)
    } catch {
        unlink(temporary)
        throw error
    }
}

/// Renames the folder `temporary` to `target`, once it is synchronised. A folder of that name is moved aside first and
/// removed last, so at every moment one complete folder is on disk: after a crash between the two renames, under
/// `.previous`. On failure the temporary one is removed.
public func replaceFolder(_ target: String, with temporary: String) throws(FileError) {
    let parent = (target as NSString).deletingLastPathComponent
    let previous = target + ".previous"
    let manager = FileManager.default
    do throws(FileError) {
        try synchroniseFolder(temporary)
        if rename(temporary, target) != 0 {
            guard errno == ENOTEMPTY || errno == EEXIST else {
                throw FileError(path: target, problem: lastProblem())
            }
            try? manager.removeItem(atPath: previous)
            guard rename(target, previous) == 0 else { throw FileError(path: target, problem: lastProblem()) }
            guard rename(temporary, target) == 0 else {
                let problem = lastProblem()
                rename(previous, target)
                throw FileError(path: target, problem: problem)
            }
        }
        try synchroniseFolder(parent.isEmpty ? "." : parent)
    } catch {
        try? manager.removeItem(atPath: temporary)
        throw error
    }
    try? manager.removeItem(atPath: previous)
}

/// Makes the names in a folder durable.
public func synchroniseFolder(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: path, problem: lastProblem()) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw FileError(path: path, problem: lastProblem()) }
}
