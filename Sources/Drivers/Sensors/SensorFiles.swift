import Glibc

/// `/sys` and `/proc` below a root, so that a test can say what a machine looks like.
struct SensorFiles: Sendable {
    /// Empty for this machine's own.
    let root: String

    /// Why something was not read.
    struct Unread: Error {
        let why: String
        /// There is no such file, or none behind it (a supply that was pulled out, a sensor that is off, a thread that has ended): nothing is
        /// there to be seen. Anything else (too many open files, no permission) hides what may be there.
        let isAbsent: Bool
        init(_ path: String, _ code: Int32) {
            why = code == ENOENT ? "there is no \(path)" : "\(path): \(String(cString: strerror(code)))"
            isAbsent = [ENOENT, ENOTDIR, ENODEV, ENODATA, ENXIO, ESRCH].contains(code)
        }
    }

    /// The first 4 KiB of a file without what is blank around them.
    func read(_ path: String) -> Result<String, Unread> {
        let file = open(root + path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { return .failure(Unread(path, errno)) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(file, &buffer, buffer.count)
        let code = errno
        close(file)
        guard count >= 0 else { return .failure(Unread(path, code)) }
        let text = String(decoding: buffer.prefix(count), as: UTF8.self)
        return .success(text.split(whereSeparator: \.isNewline).joined(separator: "\n"))
    }
    func text(_ path: String) -> String? { try? read(path).get() }
    func integer(_ path: String) -> Int? { text(path).flatMap { Int($0) } }

    /// Names in a folder, in order.
    func names(_ path: String) -> Result<[String], Unread> {
        guard let folder = opendir(root + path) else { return .failure(Unread(path, errno)) }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder), names.count < 4096 {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return .success(names.sorted())
    }

    /// Reads several files for one answer, and keeps in mind what hid one of them.
    struct Look {
        let files: SensorFiles
        /// Why the first of those was not read that may be there; nil: everything was.
        private(set) var blind: String?
        init(_ files: SensorFiles) { self.files = files }

        mutating func text(_ path: String) -> String? { seen(files.read(path)) }
        mutating func integer(_ path: String) -> Int? { text(path).flatMap { Int($0) } }
        mutating func names(_ path: String) -> [String] { seen(files.names(path)) ?? [] }
        private mutating func seen<Value>(_ result: Result<Value, Unread>) -> Value? {
            switch result {
            case .success(let value): return value
            case .failure(let unread):
                if !unread.isAbsent { blind = blind ?? unread.why }
                return nil
            }
        }
    }
}
