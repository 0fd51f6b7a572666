import Foundation

/// The whole of a file, mapped where that is safe.
func contents(of path: String) throws(CheckpointError) -> Data {
    do { return try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe) } catch {
        throw .file(path: path, problem: problem(error))
    }
}

/// A file being written piece by piece. The first failure is kept and thrown by ``finish()``; a file that is not
/// finished is closed as it is.
final class FileWriter {
    private let path: String
    private var descriptor: Int32
    private var failure: CheckpointError?

    init(_ path: String) throws(CheckpointError) {
        self.path = path
        descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .file(path: path, problem: lastProblem()) }
    }
    deinit { if descriptor >= 0 { close(descriptor) } }

    func append(_ bytes: UnsafeRawBufferPointer) {
        var written = 0
        while failure == nil, written < bytes.count {
            let count = write(descriptor, bytes.baseAddress! + written, bytes.count - written)
            if count > 0 {
                written += count
            } else if count == 0 || errno != EINTR {
                failure = .file(path: path, problem: lastProblem())
            }
        }
    }

    /// Synchronises with the disk and closes.
    func finish() throws(CheckpointError) {
        if failure == nil, fsync(descriptor) != 0 { failure = .file(path: path, problem: lastProblem()) }
        close(descriptor)
        descriptor = -1
        if let failure { throw failure }
    }
}

/// Lets `body` fill a temporary sibling, then renames it to `target`. A folder of that name is moved aside first and
/// removed last, so at every moment one complete folder is on disk: after a crash between the two renames, under
/// `.previous`.
func replaceFolder(
    _ target: String, _ body: (String) throws(CheckpointError) -> Void
) throws(CheckpointError) {
    let parent = (target as NSString).deletingLastPathComponent
    let temporary = target + ".partial-\(getpid())"
    let previous = target + ".previous"
    let manager = FileManager.default
    do {
        try? manager.removeItem(atPath: temporary)
        try manager.createDirectory(atPath: temporary, withIntermediateDirectories: true)
    } catch { throw .file(path: temporary, problem: problem(error)) }
    do throws(CheckpointError) {
        try body(temporary)
        try synchroniseFolder(temporary)
        if rename(temporary, target) != 0 {
            guard errno == ENOTEMPTY || errno == EEXIST else { throw .file(path: target, problem: lastProblem()) }
            try? manager.removeItem(atPath: previous)
            guard rename(target, previous) == 0 else { throw .file(path: target, problem: lastProblem()) }
            guard rename(temporary, target) == 0 else {
                let problem = lastProblem()
                rename(previous, target)
                throw .file(path: target, problem: problem)
            }
        }
        try synchroniseFolder(parent.isEmpty ? "." : parent)
    } catch {
        try? manager.removeItem(atPath: temporary)
        throw error
    }
    try? manager.removeItem(atPath: previous)
}

func synchroniseFolder(_ path: String) throws(CheckpointError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .file(path: path, problem: lastProblem()) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw .file(path: path, problem: lastProblem()) }
}

private func lastProblem() -> String { String(cString: strerror(errno)) }

private func problem(_ error: any Error) -> String {
    if let code = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError, code.domain == NSPOSIXErrorDomain {
        return String(cString: strerror(Int32(code.code)))
    }
    return error.localizedDescription
}

func fileExists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
