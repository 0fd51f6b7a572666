import Glibc

/// `/sys` and `/proc` below a root, so that a test can say what a machine looks like.
struct SensorFiles: Sendable {
    /// Empty for this machine's own.
    let root: String

    /// The first 4 KiB of a file without what is blank around them; nil with the reason where it cannot be read.
    func read(_ path: String) -> (text: String?, why: String) {
        let file = open(root + path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { return (nil, reason(path)) }
        defer { close(file) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(file, &buffer, buffer.count)
        guard count >= 0 else { return (nil, reason(path)) }
        let text = String(decoding: buffer.prefix(count), as: UTF8.self)
        return (text.split(whereSeparator: \.isNewline).joined(separator: "\n"), "")
    }
    func text(_ path: String) -> String? { read(path).text }
    func integer(_ path: String) -> Int? { text(path).flatMap { Int($0) } }

    /// Names in a folder, in order; nil with the reason where it is not there.
    func names(_ path: String) -> (names: [String]?, why: String) {
        guard let folder = opendir(root + path) else { return (nil, reason(path)) }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder), names.count < 4096 {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return (names.sorted(), "")
    }
    private func reason(_ path: String) -> String {
        let code = errno
        return code == ENOENT ? "there is no \(path)" : "\(path): \(String(cString: strerror(code)))"
    }
}
