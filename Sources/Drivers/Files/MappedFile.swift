import Foundation

/// The bytes of a file as memory: read by the system when they are looked at, and dropped when memory is short. Larger files
/// than memory are no trouble. The file must not be shortened while it is open.
public final class MappedFile: @unchecked Sendable {
    public let path: String
    /// Valid as long as this object is: see ``withOctets(_:)``.
    public let bytes: UnsafeRawBufferPointer
    public var count: Int { bytes.count }

    /// Calls `body` with the bytes while the file is surely mapped.
    public func withOctets<Answer, Failure: Error>(
        _ body: (UnsafeBufferPointer<UInt8>) throws(Failure) -> Answer
    ) throws(Failure) -> Answer {
        defer { withExtendedLifetime(self) {} }
        return try body(bytes.bindMemory(to: UInt8.self))
    }

    public init(_ path: String) throws(FileError) {
        self.path = path
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError(path: path, problem: lastProblem()) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileError(path: path, problem: lastProblem()) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            // A pipe or a folder has no bytes to be mapped.
            let isFolder = status.st_mode & S_IFMT == S_IFDIR
            throw FileError(path: path, problem: isFolder ? "it is a folder" : "it is no ordinary file")
        }
        guard status.st_size > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        let base = mmap(nil, Int(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0)
        guard let base, base != MAP_FAILED else { throw FileError(path: path, problem: lastProblem()) }
        bytes = UnsafeRawBufferPointer(start: base, count: Int(status.st_size))
    }

    deinit {
        if let base = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: base), bytes.count) }
    }

    /// Says that these bytes are not needed for now: their memory is given back at once.
    public func release(_ range: Range<Int>) {
        let page = Int(getpagesize())
        let start = (range.lowerBound + page - 1) / page * page
        let end = range.upperBound / page * page
        guard start < end, end <= bytes.count, let base = bytes.baseAddress else { return }
        madvise(UnsafeMutableRawPointer(mutating: base + start), end - start, Int32(MADV_DONTNEED))
    }
}

/// What the system says about the call that failed last.
public func lastProblem() -> String { String(cString: strerror(errno)) }
