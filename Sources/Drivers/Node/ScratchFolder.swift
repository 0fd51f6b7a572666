import Foundation
import Primitives
import Synchronization
public import Wire

/// A file that is open, and stays as it is for whoever holds it, though its name may be gone or another's.
final class OpenFile: ByteStore {
    private let descriptor: Int32
    /// Whoever counted its bytes counts them no more.
    private let end: (@Sendable () -> Void)?
    /// Ranges that somebody reads where they lie.
    private let mappings = Mutex<[(base: UInt, count: Int)]>([])

    /// Takes the descriptor over.
    init(_ descriptor: Int32, end: (@Sendable () -> Void)? = nil) { (self.descriptor, self.end) = (descriptor, end) }
    deinit {
        mappings.withLock { for (base, count) in $0 { munmap(UnsafeMutableRawPointer(bitPattern: base), count) } }
        Glibc.close(descriptor)
        end?()
    }

    func map(_ range: Range<Int>) -> UnsafeRawBufferPointer? {
        var info = stat()
        // Beyond the end there is nothing that could be read.
        guard !range.isEmpty, fstat(descriptor, &info) == 0, range.upperBound <= Int(info.st_size) else { return nil }
        let first = range.lowerBound / Self.page * Self.page
        let count = range.upperBound - first
        guard let base = mmap(nil, count, PROT_READ, MAP_SHARED, descriptor, off_t(first)), base != MAP_FAILED else {
            return nil
        }
        let address = UInt(bitPattern: base)
        mappings.withLock { $0.append((address, count)) }
        return UnsafeRawBufferPointer(start: base + (range.lowerBound - first), count: range.count)
    }
    private static let page = sysconf(Int32(_SC_PAGESIZE))

    func fill(_ offset: Int, _ target: UnsafeMutableRawBufferPointer) -> Bool {
        var done = 0
        while done < target.count {
            let found = pread(
                descriptor, target.baseAddress! + done, min(target.count - done, 1 << 30), off_t(offset + done))
            if found < 0, errno == EINTR { continue }
            guard found > 0 else { return false }
            done += found
        }
        return true
    }
    func put(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        var done = 0
        while done < bytes.count {
            let written = pwrite(
                descriptor, bytes.baseAddress! + done, min(bytes.count - done, 1 << 30), off_t(offset + done))
            if written < 0, errno == EINTR { continue }
            guard written > 0 else { return false }
            done += written
        }
        return true
    }

    /// A file's bytes, where they lie.
    static func bytes(_ path: String) throws(NodeError) -> StoredBytes {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .badInput("cannot read \(path): \(reason(errno))") }
        let file = OpenFile(descriptor)
        var info = stat()
        guard fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
            throw .badInput("\(path) is not a file")
        }
        return StoredBytes(file, 0..<Int(info.st_size))
    }
}

/// A file's bytes where they lie, for as long as they are held, though its name may be gone or another's. Whoever writes to it changes them.
public func fileBytes(_ path: String, limit: Int) throws(NodeError) -> StoredBytes {
    let bytes = try OpenFile.bytes(path)
    guard bytes.count <= limit else {
        throw .badInput("\(path) has \(ByteCount(bytes.count)), at most \(ByteCount(limit)) allowed")
    }
    return bytes
}

/// Memory that is taken up as it is written to.
final class MemoryBlock: ByteStore {
    private let base: UInt
    private let count: Int

    /// Nil where the system has not so much.
    init?(_ count: Int) {
        guard count > 0,
            let base = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), base != MAP_FAILED
        else { return nil }
        (self.base, self.count) = (UInt(bitPattern: base), count)
    }
    deinit { munmap(UnsafeMutableRawPointer(bitPattern: base), count) }

    private func place(_ offset: Int, _ bytes: Int) -> UnsafeMutableRawPointer? {
        guard offset >= 0, bytes <= count - offset else { return nil }
        return UnsafeMutableRawPointer(bitPattern: base + UInt(offset))
    }
    func fill(_ offset: Int, _ target: UnsafeMutableRawBufferPointer) -> Bool {
        guard let from = place(offset, target.count) else { return false }
        target.copyMemory(from: UnsafeRawBufferPointer(start: from, count: target.count))
        return true
    }
    func put(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        guard let to = place(offset, bytes.count) else { return false }
        if let from = bytes.baseAddress { to.copyMemory(from: from, byteCount: bytes.count) }
        return true
    }
    func map(_ range: Range<Int>) -> UnsafeRawBufferPointer? {
        place(range.lowerBound, range.count).map { UnsafeRawBufferPointer(start: $0, count: range.count) }
    }
}

/// Puts down what would take too much memory: in files without a name, which are gone with whoever holds them, however a process ends. They may lie in
/// the system's page cache as long as there is room; what training needs comes first.
public final class ScratchFolder: ByteRoom {
    private let folder: String
    /// Bytes of files that somebody holds; nobody else sees them, as they have no names.
    private let tally = Mutex<(held: Int, allowed: Int)>((0, .max))
    /// What is smaller stays in memory.
    package static let least = 1 << 20

    /// - Parameter folder: a daemon's, which is there.
    public init(_ folder: String) { self.folder = folder }

    /// Bytes that files without a name take up.
    package var held: Int { tally.withLock { $0.held } }
    /// So many bytes may files without a name take up from now on: what the owner's limit leaves beside those with one. What is held stays.
    package func allow(_ bytes: Int) { tally.withLock { $0.allowed = bytes } }

    /// A store that grows with what is put there; nil where the disk has no room.
    public func growing() -> (any ByteStore)? { store(Self.least) }
    public func store(_ bytes: Int) -> (any ByteStore)? {
        guard bytes >= Self.least, take(bytes) else { return nil }
        let descriptor = unnamed()
        guard descriptor >= 0 else {
            give(bytes)
            return nil
        }
        let file = OpenFile(descriptor) { [self] in give(bytes) }
        // A disk that is full is found out now, not half way; file systems that cannot tell beforehand tell then.
        let answer = posix_fallocate(descriptor, 0, off_t(bytes))
        return answer == 0 || answer == EOPNOTSUPP || answer == EINVAL ? file : nil
    }
    private func take(_ bytes: Int) -> Bool {
        tally.withLock {
            let (sum, isTooMuch) = $0.held.addingReportingOverflow(bytes)
            guard !isTooMuch, sum <= $0.allowed else { return false }
            $0.held = sum
            return true
        }
    }
    private func give(_ bytes: Int) { tally.withLock { $0.held -= bytes } }

    public func place(_ bytes: Int) -> (any ByteStore)? { store(bytes) ?? MemoryBlock(bytes) }

    /// open(2), `O_TMPFILE`; where the file system has none, a file whose name is taken away at once.
    private func unnamed() -> Int32 {
        // A constant that C makes of two: `__O_TMPFILE | O_DIRECTORY`.
        let descriptor = Glibc.open(folder, 0o20_000_000 | O_DIRECTORY | O_RDWR | O_CLOEXEC, 0o600)
        guard descriptor < 0 else { return descriptor }
        var path = Array((folder + "/scratch-XXXXXX").utf8CString)
        let named = mkstemp(&path)
        if named >= 0 {
            unlink(path)
            _ = fcntl(named, F_SETFD, FD_CLOEXEC)
        }
        return named
    }
}
