import Foundation

/// A file read at places, into memory of the caller's.
public final class FileReader: @unchecked Sendable {
    public let path: String
    public let count: Int
    private let descriptor: Int32

    public init(_ path: String) throws(FileError) {
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError(path: path, problem: lastProblem()) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let problem = lastProblem()
            close(descriptor)
            throw FileError(path: path, problem: problem)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw FileError(path: path, problem: "it is no ordinary file")
        }
        count = Int(status.st_size)
    }
    deinit { close(descriptor) }

    /// Fills `target` with the bytes from `offset` on.
    public func read(into target: UnsafeMutableRawBufferPointer, at offset: Int) throws(FileError) {
        var done = 0
        while done < target.count {
            let size = min(target.count - done, 1 << 30)
            let read = pread(descriptor, target.baseAddress! + done, size, off_t(offset + done))
            if read > 0 {
                done += read
            } else if read == 0 {
                throw FileError(
                    path: path, problem: "it ends at \(offset + done), \(offset + target.count) bytes are needed")
            } else if errno != EINTR {
                throw FileError(path: path, problem: lastProblem())
            }
        }
    }

    /// Copies of the bytes.
    public func read(_ range: Range<Int>) throws(FileError) -> [UInt8] {
        var failure: FileError?
        let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, filled in
            do throws(FileError) {
                try read(
                    into: UnsafeMutableRawBufferPointer(
                        rebasing: UnsafeMutableRawBufferPointer(buffer)[..<range.count]), at: range.lowerBound)
                filled = range.count
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }
}

/// The whole of a file of at most `limit` bytes.
public func fileContents(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
    let reader = try FileReader(path)
    guard reader.count <= limit else {
        throw FileError(path: path, problem: "\(reader.count) bytes, at most \(limit) are read")
    }
    return try reader.read(0..<reader.count)
}

public func fileExists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

public func isFolder(_ path: String) -> Bool {
    var answer: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &answer) && answer.boolValue
}

/// The names in a folder, sorted by their bytes.
public func folderContents(_ path: String) throws(FileError) -> [String] {
    do {
        return try FileManager.default.contentsOfDirectory(atPath: path).sorted {
            $0.utf8.lexicographicallyPrecedes($1.utf8)
        }
    } catch { throw FileError(path: path, problem: foundationProblem(error)) }
}

/// The system's words within an error of Foundation's.
public func foundationProblem(_ error: any Error) -> String {
    if let code = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError, code.domain == NSPOSIXErrorDomain {
        return String(cString: strerror(Int32(code.code)))
    }
    let words = error.localizedDescription
    return words.hasSuffix(".") ? String(words.dropLast()) : words
}
