package import Primitives

/// Whether a gateway still knows what it knew: it counts seconds since it began to, and a count that does not keep pace with our clock means
/// that it has begun anew (RFC 6887 §8.5; of NAT-PMP, which is stricter about clocks that run slow, the rule of RFC 6886 §3.6).
package struct GatewayEpoch: Sendable {
    private var last: (server: Int64, at: Instant)?

    package init() {}

    /// - Returns: false where all mappings of before are gone.
    package mutating func accepts(_ epoch: UInt32, _ spoken: GatewayProtocol, at now: Instant) -> Bool {
        let server = Int64(epoch)
        defer { last = (server, now) }
        guard let last else { return true }
        let ours = max(0, (now - last.at).inSeconds)
        switch spoken {
        case .pcp:
            // One second back is an answer that was overtaken.
            guard server + 1 >= last.server else { return false }
            let theirs = Double(max(0, server - last.server))
            return ours + 2 >= theirs - theirs / 16 && theirs + 2 >= ours - ours / 16
        case .natPMP: return Double(server) + 2 >= Double(last.server) + ours * 7 / 8
        // It tells none.
        case .upnp: return true
        }
    }
}
