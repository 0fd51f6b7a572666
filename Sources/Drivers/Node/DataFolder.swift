public import Digests
import Files
import Foundation
import Primitives

/// A daemon's folder: `format`, `lock` (one daemon an identity), `key` (mode 0600), `log/`, `chunks/`, `checkpoints/`, `rounds/`.
///
/// Files are written beside their place, synced, renamed, and the folder synced, so that a crash leaves the old or the new. Jobs' texts and
/// models lie in its folders: they are their owner's alone (mode 0700).
public final class DataFolder {
    static let format = "atoll-data 1\n"

    public let path: String
    public let key: SigningKey
    private let lock: Int32
    /// The folder, locked, too: a lock file can be removed while it is held.
    private let place: Int32

    /// Opens or makes the folder and takes its lock until ``close()`` or the end of the process.
    public init(_ path: String) throws(NodeError) {
        self.path = path
        try Self.make(path)
        let files: (lock: Int32, place: Int32) = try Self.takeLock(path)
        (lock, place) = (files.lock, files.place)
        // Who may write in it may put another key there, or other limits.
        Self.keepOthersOut(of: path)
        do throws(NodeError) {
            try Self.checkFormat(path + "/format")
            for folder in Self.parts {
                try Self.make(path + "/" + folder)
                // Others of this machine could read what an earlier version made; a folder that its owner made stays as it is.
                chmod(path + "/" + folder, 0o700)
            }
            key = try Self.loadKey(path + "/key")
        } catch {
            Self.release(files)
            throw error
        }
    }
    /// Of a folder of this user's in which others may write: they may no more.
    private static func keepOthersOut(of path: String) {
        var place = stat()
        guard stat(path, &place) == 0, place.st_uid == geteuid(), place.st_mode & 0o022 != 0 else { return }
        chmod(path, 0o700)
    }
    private static let parts = ["log", "chunks", "checkpoints", "rounds"]

    private static func make(_ path: String) throws(NodeError) {
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw .badInput(
                .folderNotWritable,
                "cannot make the data folder \(path): \(foundationProblem(error)). Choose another with --data")
        }
    }
    private static func takeLock(_ path: String) throws(NodeError) -> (lock: Int32, place: Int32) {
        let lock = Glibc.open(path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard lock >= 0 else {
            throw .badInput(.folderNotWritable, "cannot write in \(path): \(reason(errno)). Choose another with --data")
        }
        let place = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard flock(lock, LOCK_EX | LOCK_NB) == 0, !isHeld(place) else {
            release((lock, place))
            throw .badInput(
                .folderInUse,
                "\(path) is in use by another daemon: one runs for each identity. Stop it, or give this one a folder of "
                    + "its own (--data of a node or peer, --identity of a launcher)")
        }
        return (lock, place)
    }
    /// Takes the lock on a folder itself, where its file system has such locks.
    ///
    /// - Returns: whether another process has it.
    private static func isHeld(_ place: Int32) -> Bool {
        place >= 0 && flock(place, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK
    }
    private static func release(_ files: (lock: Int32, place: Int32)) {
        for file in [files.lock, files.place] where file >= 0 { Glibc.close(file) }
    }
    private static func checkFormat(_ path: String) throws(NodeError) {
        guard let found = try? String(contentsOfFile: path, encoding: .utf8) else {
            return try writeFile(path, Array(format.utf8))
        }
        guard found == format else {
            throw .badInput(
                .folderFormat,
                "\(path) says \(found.prefix(40).debugDescription); this version writes "
                    + "\(format.debugDescription). Use a folder made by it, or the version that made this one")
        }
    }

    /// Whether another daemon holds the folder's lock.
    public static func isBusy(_ path: String) -> Bool {
        for file in [
            Glibc.open(path + "/lock", O_RDWR | O_CLOEXEC), Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        ]
        where file >= 0 {
            defer { Glibc.close(file) }
            if isHeld(file) { return true }
        }
        return false
    }

    public func close() { Self.release((lock, place)) }

    /// A key file's Ed25519 seed as hexadecimal; made on first use. One that others of this machine can read or write is not used.
    public static func loadKey(_ path: String) throws(NodeError) -> SigningKey {
        guard isThere(path) else {
            let seed = randomBytes(32)
            try writeFile(path, Array((seed.hex + "\n").utf8), mode: 0o600)
            return SigningKey(seed: seed)!
        }
        let text: String
        do throws(NodeError) { text = String(decoding: try readFile(path, limit: 4096), as: UTF8.self) } catch {
            throw .badInput(
                .keyUnreadable,
                "\(error). This machine's key is expected there. Restore it, or remove what is there for a new identity"
            )
        }
        var info = stat()
        if stat(path, &info) == 0, info.st_mode & 0o077 != 0 {
            throw .badInput(
                .keyMode,
                "others of this machine can \(info.st_mode & 0o022 == 0 ? "read" : "write") \(path), this machine's secret key: "
                    + "chmod 600 \(path). Whoever has read it can pose as this machine; a new identity is safe (`atoll identity`)"
            )
        }
        guard let seed = [UInt8](hex: text.trimmingCharacters(in: .whitespacesAndNewlines)),
            let key = SigningKey(seed: seed)
        else {
            throw .badInput(
                .keyUnreadable,
                "\(path) is not a key: 64 hexadecimal digits expected. Restore it, or remove it for a new identity")
        }
        return key
    }
}

/// Whether there is anything by that name, be it a link that leads nowhere.
public func isThere(_ path: String) -> Bool {
    var info = stat()
    return lstat(path, &info) == 0
}

/// From the kernel; for keys and seeds that nobody gave.
public func randomBytes(_ count: Int) -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
}

func reason(_ code: Int32) -> String { String(cString: strerror(code)) }

/// All of it, or why not.
func writeAll(_ bytes: [UInt8], to file: Int32, _ path: String, _ disk: DiskOperations) throws(NodeError) {
    var offset = 0
    while offset < bytes.count {
        let n = bytes.withUnsafeBytes { disk.write(file, UnsafeRawBufferPointer(rebasing: $0[offset...])) }
        if n < 0, errno == EINTR { continue }
        guard n > 0 else {
            throw .failed("cannot write \(path): \(reason(errno)). Free some space, or choose another folder")
        }
        offset += n
    }
}

/// Writes beside, syncs, renames, syncs the folder. Nothing half-written stays.
public func writeFile(
    _ path: String, _ bytes: [UInt8], mode: mode_t = 0o644, disk: DiskOperations = .system
) throws(NodeError) {
    try writeFile(path, mode: mode, disk: disk) { write throws(NodeError) in try write(bytes) }
}

/// The same of bytes that come piece by piece.
func writeFile(
    _ path: String, mode: mode_t = 0o644, disk: DiskOperations,
    _ body: (_ write: ([UInt8]) throws(NodeError) -> Void) throws(NodeError) -> Void
) throws(NodeError) {
    let temporary = path + ".part"
    // What was left there, or put there by somebody else, is not written into: a link, a pipe, a file that others read.
    unlink(temporary)
    let file = Glibc.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
    guard file >= 0 else { throw .failed("cannot write \(path): \(reason(errno))") }
    do throws(NodeError) {
        try body { bytes throws(NodeError) in try writeAll(bytes, to: file, path, disk) }
    } catch {
        Glibc.close(file)
        unlink(temporary)
        throw error
    }
    guard disk.sync(file) == 0 else {
        let why = reason(errno)
        Glibc.close(file)
        unlink(temporary)
        throw .failed("cannot write \(path): \(why)")
    }
    guard Glibc.close(file) == 0, disk.rename(temporary, path) == 0 else {
        let why = reason(errno)
        unlink(temporary)
        throw .failed("cannot write \(path): \(why)")
    }
    let folder = Glibc.open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY)
    if folder >= 0 {
        fsync(folder)
        Glibc.close(folder)
    }
}

/// Before much is computed for it: whether a file can be written at the end. What is there stays as it is.
/// - Parameter option: that names it.
public func requireWritable(_ path: String, for option: String) throws(NodeError) {
    var info = stat()
    if stat(path, &info) == 0, info.st_mode & S_IFMT == S_IFDIR {
        throw .badInput("\(option) \(path): that is a folder. Name a file, perhaps one in it")
    }
    // Where the file is written before it gets its name, by a name that nobody else has.
    let beside = "\(path).\(getpid()).part"
    let file = Glibc.open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw .badInput("\(option) \(path) cannot be written: \(reason(errno))") }
    Glibc.close(file)
    unlink(beside)
}

/// A whole file, or why not.
public func readFile(_ path: String, limit: Int = 1 << 34) throws(NodeError) -> [UInt8] {
    var info = stat()
    guard stat(path, &info) == 0 else {
        let why = reason(errno)
        throw .badInput("cannot read \(path): " + (isThere(path) ? "it is a link that leads nowhere" : why))
    }
    guard info.st_mode & S_IFMT == S_IFREG else { throw .badInput("\(path) is not a file") }
    guard info.st_size <= limit else {
        throw .badInput("\(path) has \(ByteCount(Int(info.st_size))), at most \(ByteCount(limit)) allowed")
    }
    guard access(path, R_OK) == 0 else { throw .badInput("cannot read \(path): \(reason(errno))") }
    guard let data = FileManager.default.contents(atPath: path) else { throw .badInput("cannot read \(path)") }
    return [UInt8](data)
}
