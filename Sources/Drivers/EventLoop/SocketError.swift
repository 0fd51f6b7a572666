import CUV
public import Primitives

/// Why a socket could not be opened or was lost. The text says what, where, and what to try.
public enum SocketError: Error, Hashable, Sendable, CustomStringConvertible {
    case addressInUse(Endpoint)
    case addressNotAvailable(Endpoint)
    case notPermitted(Endpoint)
    case connectionRefused(Endpoint)
    case unreachable(Endpoint)
    case timedOut(Endpoint)
    /// This process may open no more files.
    case outOfDescriptors
    /// The other end closed in order.
    case ended
    /// Anything else, in libuv's words.
    case other(code: Int32, doing: String)

    init(_ code: Int32, _ doing: String, _ endpoint: Endpoint? = nil) {
        guard code != UV_EMFILE.rawValue, code != UV_ENFILE.rawValue else {
            self = .outOfDescriptors
            return
        }
        guard let endpoint else {
            self = code == UV_EOF.rawValue ? .ended : .other(code: code, doing: doing)
            return
        }
        switch code {
        case UV_EADDRINUSE.rawValue: self = .addressInUse(endpoint)
        case UV_EADDRNOTAVAIL.rawValue: self = .addressNotAvailable(endpoint)
        case UV_EACCES.rawValue, UV_EPERM.rawValue: self = .notPermitted(endpoint)
        case UV_ECONNREFUSED.rawValue: self = .connectionRefused(endpoint)
        case UV_EHOSTUNREACH.rawValue, UV_ENETUNREACH.rawValue: self = .unreachable(endpoint)
        case UV_ETIMEDOUT.rawValue: self = .timedOut(endpoint)
        default: self = .other(code: code, doing: "\(doing) \(endpoint)")
        }
    }

    public var description: String {
        switch self {
        case .addressInUse(let at):
            "\(at) is in use: another program, or another peer, listens there. Choose another port, or stop that program."
        case .addressNotAvailable(let at):
            "\(at.host) is not an address of this machine. Listen on 0.0.0.0, or on an address that `ip addr` shows."
        case .notPermitted(let at):
            "\(at) may not be used by this user. Ports below 1024 need privileges: choose a higher one."
        case .connectionRefused(let at): "nobody listens at \(at)"
        case .unreachable(let at): "there is no route to \(at.host)"
        case .timedOut(let at): "\(at) did not answer in time"
        case .outOfDescriptors:
            "too many open files: the limit of \(DescriptorLimit.current) is reached. Allow more with `ulimit -n`."
        case .ended: "the other end closed the connection"
        case .other(let code, let doing): "\(doing): \(String(cString: uv_strerror(code)))"
        }
    }
}

/// Throws when a libuv call reports an error.
func check(_ code: Int32, _ doing: String, _ endpoint: Endpoint? = nil) throws(SocketError) {
    if code < 0 { throw SocketError(code, doing, endpoint) }
}
