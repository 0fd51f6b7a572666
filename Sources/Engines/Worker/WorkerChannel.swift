import Foundation

/// One end of the socket between a daemon and its worker: frames of a u32 length and as many bytes of JSON, at most 64 KiB.
/// Numbers do not travel here (``Arena``); a descriptor may go with a frame.
///
/// Used by one thread at a time.
package final class WorkerChannel: @unchecked Sendable {
    package static let frameLimit = 1 << 16
    private let socket: Int32

    package init(socket: Int32) { self.socket = socket }
    deinit { close(socket) }

    /// What went wrong with the other end.
    package enum Failure: Error, Hashable, Sendable {
        case closed, late, tooLong(Int), notJSON
        var text: String {
            switch self {
            case .closed: "it has ended"
            case .late: "it did not answer in time"
            case .tooLong(let bytes): "it announced a message of \(bytes) bytes, \(frameLimit) are allowed"
            case .notJSON: "it sent something that is no message"
            }
        }
    }

    package func send(_ object: [String: Any], descriptor: Int32? = nil) throws(Failure) {
        guard let body = try? JSONSerialization.data(withJSONObject: object, options: [.sortedKeys]) else {
            throw .notJSON
        }
        guard body.count <= Self.frameLimit else { throw .tooLong(body.count) }
        var frame = withUnsafeBytes(of: UInt32(body.count).littleEndian) { [UInt8]($0) } + body
        if let descriptor {
            // A descriptor travels with the first byte.
            guard sendDescriptor(descriptor, with: frame.removeFirst()) else { throw .closed }
        }
        var sent = 0
        while sent < frame.count {
            let count = frame.withUnsafeBytes {
                Foundation.send(socket, $0.baseAddress! + sent, $0.count - sent, noSignal)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw .closed }
            sent += count
        }
    }

    /// Any bytes: what a broken worker might send.
    package func sendRaw(_ bytes: [UInt8]) {
        _ = bytes.withUnsafeBytes { Foundation.send(socket, $0.baseAddress, $0.count, noSignal) }
    }

    /// The next message, and the descriptor that came with it.
    package func receive(within timeout: Duration) throws(Failure) -> (object: [String: Any], descriptor: Int32?) {
        let deadline = ContinuousClock.now + timeout
        var descriptor: Int32?
        let head = try bytes(4, until: deadline, &descriptor)
        let length = Int(head[0]) | Int(head[1]) << 8 | Int(head[2]) << 16 | Int(head[3]) << 24
        guard length <= Self.frameLimit else { throw .tooLong(length) }
        let body = try bytes(length, until: deadline, &descriptor)
        guard let object = (try? JSONSerialization.jsonObject(with: Data(body))) as? [String: Any] else {
            if let descriptor { close(descriptor) }
            throw .notJSON
        }
        return (object, descriptor)
    }

    // MARK: bytes

    private var noSignal: Int32 {
        #if os(Linux)
            Int32(MSG_NOSIGNAL)
        #else
            0
        #endif
    }

    private func bytes(
        _ count: Int, until deadline: ContinuousClock.Instant, _ descriptor: inout Int32?
    ) throws(Failure) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: count)
        var have = 0
        while have < count {
            let left = deadline - .now
            guard left > .zero else { throw .late }
            var poll = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            let milliseconds = left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000
            let ready = Foundation.poll(&poll, 1, Int32(clamping: milliseconds + 1))
            if ready == 0 { throw .late }
            if ready < 0 {
                if errno == EINTR { continue }
                throw .closed
            }
            let got = receiveSome(&out, from: have, &descriptor)
            if got < 0, errno == EINTR || errno == EAGAIN { continue }
            guard got > 0 else { throw .closed }
            have += got
        }
        return out
    }

    /// A control message with one descriptor: its length, SOL_SOCKET, SCM_RIGHTS, the descriptor, padded to 24 bytes.
    private static let controlBytes = 24
    private func sendDescriptor(_ descriptor: Int32, with byte: UInt8) -> Bool {
        var byte = byte
        var control = [UInt8](repeating: 0, count: Self.controlBytes)
        control.withUnsafeMutableBytes {
            $0.storeBytes(of: 20, toByteOffset: 0, as: Int.self)
            $0.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: Int32.self)
            $0.storeBytes(of: 1, toByteOffset: 12, as: Int32.self)
            $0.storeBytes(of: descriptor, toByteOffset: 16, as: Int32.self)
        }
        return withUnsafeMutablePointer(to: &byte) { data in
            control.withUnsafeMutableBytes { control in
                var part = iovec(iov_base: data, iov_len: 1)
                return withUnsafeMutablePointer(to: &part) { part in
                    var message = msghdr()
                    message.msg_iov = part
                    message.msg_iovlen = 1
                    message.msg_control = control.baseAddress
                    message.msg_controllen = .init(Self.controlBytes)
                    return sendmsg(socket, &message, noSignal) == 1
                }
            }
        }
    }

    private func receiveSome(_ out: inout [UInt8], from start: Int, _ descriptor: inout Int32?) -> Int {
        var control = [UInt8](repeating: 0, count: Self.controlBytes)
        let (count, length) = out.withUnsafeMutableBytes { bytes -> (Int, Int) in
            control.withUnsafeMutableBytes { control in
                var part = iovec(iov_base: bytes.baseAddress! + start, iov_len: bytes.count - start)
                return withUnsafeMutablePointer(to: &part) { part in
                    var message = msghdr()
                    message.msg_iov = part
                    message.msg_iovlen = 1
                    message.msg_control = control.baseAddress
                    message.msg_controllen = .init(Self.controlBytes)
                    let count = recvmsg(socket, &message, 0)
                    return (count, Int(message.msg_controllen))
                }
            }
        }
        if count > 0, length >= 20 {
            control.withUnsafeBytes {
                guard $0.load(fromByteOffset: 8, as: Int32.self) == SOL_SOCKET,
                    $0.load(fromByteOffset: 12, as: Int32.self) == 1
                else { return }
                if let descriptor { close(descriptor) }
                descriptor = $0.load(fromByteOffset: 16, as: Int32.self)
            }
        }
        return count
    }
}
