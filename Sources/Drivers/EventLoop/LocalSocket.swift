import CUV
import Glibc

/// A socket in a folder of this machine, for the owner's programs: whoever may open the folder and is the same user (or root) gets in.
///
/// A path may be longer than a socket's address: it is named through an open descriptor of its folder.
public final class LocalListener {
    private let loop: Loop
    private let path: String
    private let onLine: (LocalStream, String) -> Void
    private var listening: (descriptor: Int32, acceptor: Acceptor, place: Place)?
    /// Those that have been silent longest first.
    private var streams: [LocalStream] = []
    /// They may take what other connections leave for everything else, and no more than a part of it.
    private static let most = 8
    private static let atOnce = 4

    /// Which file it is that has the name.
    private struct Place: Hashable {
        var device: dev_t
        var number: ino_t
        init?(_ path: String) {
            var info = stat()
            guard lstat(path, &info) == 0 else { return nil }
            (device, number) = (info.st_dev, info.st_ino)
        }
    }

    /// Takes the place of a socket that an ended process left behind.
    ///
    /// - Parameters:
    ///   - onLine: a client's line, without its end; what is written to the stream goes back to it.
    public init(_ loop: Loop, path: String, onLine: @escaping (LocalStream, String) -> Void) throws(SocketError) {
        (self.loop, self.path, self.onLine) = (loop, path, onLine)
        try listen()
    }
    deinit { close() }

    private func listen() throws(SocketError) {
        let descriptor = try localSocket()
        unlink(path)
        do throws(SocketError) {
            try withLocalAddress(path) { bind(descriptor, $0, $1) }
            guard chmod(path, 0o600) == 0, Glibc.listen(descriptor, 16) == 0, let place = Place(path) else {
                throw .other(code: -errno, doing: "listening at \(path)")
            }
            let acceptor = Acceptor(loop, listening: descriptor, atOnce: Self.atOnce) { [unowned self] in take($0) }
            listening = (descriptor, acceptor, place)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }
    /// Whether clients find it: nobody has removed its file, or put another in its place.
    public var isInPlace: Bool { listening.map { $0.place == Place(path) } ?? false }
    /// Listens anew at its path. Clients that are there already stay.
    public func putBack() throws(SocketError) {
        stopListening()
        try listen()
    }

    private func take(_ client: Int32) {
        guard isSameUser(client) else {
            Glibc.close(client)
            return
        }
        // Whoever asks nothing keeps nobody else from asking.
        if streams.count >= Self.most { streams.first?.close() }
        let stream = LocalStream(loop, client) { [unowned self] stream, line in
            if let place = streams.firstIndex(where: { $0 === stream }) {
                streams.append(streams.remove(at: place))
            }
            onLine(stream, line)
        }
        stream.onClosed = { [weak self] gone in self?.streams.removeAll { $0 === gone } }
        streams.append(stream)
    }
    /// The kernel says who connected; the folder's permissions alone would do.
    private func isSameUser(_ client: Int32) -> Bool { [0, geteuid()].contains(userAtOtherEnd(of: client)) }

    private func stopListening() {
        guard let (descriptor, acceptor, _) = listening else { return }
        listening = nil
        acceptor.close()
        Glibc.close(descriptor)
    }
    public func close() {
        // Of another's file the name is not this one's to remove.
        if isInPlace { unlink(path) }
        stopListening()
        for stream in streams { stream.close() }
    }
}

/// A client of a ``LocalListener``: lines come, and lines go back.
public final class LocalStream {
    private let descriptor: Int32
    private var poller: Poller?
    private var pending: [UInt8] = []
    var onClosed: ((LocalStream) -> Void)?
    private static let longestLine = 4096

    init(_ loop: Loop, _ descriptor: Int32, _ onLine: @escaping (LocalStream, String) -> Void) {
        self.descriptor = descriptor
        var room: Int32 = 4 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &room, socklen_t(MemoryLayout<Int32>.size))
        poller = Poller(loop, readable: descriptor) { [unowned self] in readable(onLine) }
    }

    private func readable(_ onLine: (LocalStream, String) -> Void) {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else {
            if count < 0, errno == EAGAIN || errno == EINTR { return }
            return close()
        }
        pending += buffer.prefix(count)
        while poller != nil, let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
            let line = String(decoding: pending[..<end], as: UTF8.self)
            pending.removeSubrange(...end)
            onLine(self, line)
        }
        if pending.count > Self.longestLine { close() }
    }
    /// A client that does not read what it asked for is cut off: nothing of it waits here.
    public func write(_ line: String) {
        guard poller != nil else { return }
        let bytes = Array((line + "\n").utf8)
        guard send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) == bytes.count
        else { return close() }
    }
    public func close() {
        guard let poller else { return }
        poller.close()
        self.poller = nil
        Glibc.close(descriptor)
        onClosed?(self)
    }
}

/// The other end: asks a line, and waits for the line that answers.
public final class LocalClient {
    private let descriptor: Int32
    private var pending: [UInt8] = []

    public init(path: String) throws(SocketError) {
        descriptor = try localSocket(blocking: true)
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
        // Connecting waits so long, too, where many already wait for a process that stands still (socket(7)).
        patience.tv_sec = 3
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
        do throws(SocketError) {
            try withLocalAddress(path) { connect(descriptor, $0, $1) }
            guard geteuid() == 0 || [0, geteuid()].contains(userAtOtherEnd(of: descriptor)) else {
                throw .other(code: -EPERM, doing: "\(path) is served by another user")
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }
    deinit { Glibc.close(descriptor) }

    /// The process that listens, where the system says.
    public var process: Int? { otherEnd(of: descriptor).map { Int($0.process) } }

    public func ask(_ line: String) throws(SocketError) -> String {
        let bytes = Array((line + "\n").utf8)
        guard send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw .other(code: -errno, doing: "asking")
        }
        while true {
            if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                defer { pending.removeSubrange(...end) }
                return String(decoding: pending[..<end], as: UTF8.self)
            }
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else {
                if count < 0, errno == EINTR { continue }
                throw count == 0 ? .ended : .other(code: -errno, doing: "waiting for an answer")
            }
            pending += buffer.prefix(count)
        }
    }
}

/// Whose process connected, or listens.
private func userAtOtherEnd(of descriptor: Int32) -> UInt32? { otherEnd(of: descriptor)?.user }
private func otherEnd(of descriptor: Int32) -> (process: UInt32, user: UInt32)? {
    // Process, user, group (unix(7)).
    var who: (pid: UInt32, user: UInt32, group: UInt32) = (0, 0, 0)
    var size = socklen_t(MemoryLayout.size(ofValue: who))
    return getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 ? (who.pid, who.user) : nil
}

private func localSocket(blocking: Bool = false) throws(SocketError) -> Int32 {
    let flags = blocking ? SOCK_CLOEXEC.rawValue : SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | flags), 0)
    guard descriptor >= 0 else {
        throw errno == EMFILE || errno == ENFILE ? .outOfDescriptors : .other(code: -errno, doing: "opening a socket")
    }
    return descriptor
}

private func withLocalAddress(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
) throws(SocketError) {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let folder = open(slash.map { String(path[..<$0]) + "/" } ?? ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw .other(code: -errno, doing: "looking for \(path)") }
    defer { Glibc.close(folder) }
    let short = "/proc/self/fd/\(folder)/" + (slash.map { String(path[path.utf8.index(after: $0)...]) } ?? path)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(short.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
        throw .other(code: -ENAMETOOLONG, doing: "naming \(path)")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    guard result == 0 else { throw .other(code: -errno, doing: path) }
}
