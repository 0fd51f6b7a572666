import CUV
import Glibc
public import Primitives

/// How much of TCP fits into one packet on the way to somebody.
public enum TCPSegments {
    /// Dials, asks the kernel (TCP_MAXSEG), hangs up. Blocks; nil where nobody answers in that time.
    public static func bytes(to endpoint: Endpoint, within seconds: Int) -> Int? {
        let descriptor = socket(endpoint.isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        // connect(2) keeps to the time that sending may take.
        var time = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        let size = socklen_t(endpoint.isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
        guard endpoint.withSocketAddress({ connect(descriptor, $0, size) }) == 0 else { return nil }
        var (bytes, length) = (Int32(0), socklen_t(MemoryLayout<Int32>.size))
        guard getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_MAXSEG, &bytes, &length) == 0, bytes > 0 else {
            return nil
        }
        return Int(bytes)
    }
}
