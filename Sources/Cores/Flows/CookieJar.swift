internal import Digests
package import Primitives

/// Tells who asked from where without remembering anybody: the answer to a question is a MAC of it, and whoever brings it back has proven that
/// answers reach it (as Bernstein's SYN cookies, 1996; RFC 9000, §8.1).
///
/// The same MAC has the connection ID by which the asker will be known, so that no state is kept before the cookie has come back.
package struct CookieJar: Sendable {
    /// What a welcome tells: time (u32, seconds) ‖ 16 bytes of MAC.
    static let cookieBytes = 20
    package struct Ticket: Hashable, Sendable {
        package let cookie: [UInt8]
        package let connection: UInt64
    }
    private let secret: [UInt8]
    package init(secret: [UInt8]) { self.secret = hmacSHA256(key: secret, Array("flow cookies".utf8)) }

    package func ticket(for endpoint: Endpoint, connection asker: UInt64, at now: Instant) -> Ticket {
        ticket(endpoint, asker, Self.seconds(now))
    }
    /// - Returns: the connection ID of the ticket that the cookie is from; nil when it was not made here, for this address and asker, a moment ago.
    package func check(_ cookie: [UInt8], from endpoint: Endpoint, connection asker: UInt64, at now: Instant) -> UInt64?
    {
        guard cookie.count == Self.cookieBytes else { return nil }
        let time = cookie.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
        let age = Int64(Self.seconds(now)) - Int64(time)
        guard age >= 0, age <= FlowLimits.cookieSeconds else { return nil }
        let made = ticket(endpoint, asker, time)
        return constantTimeEqual(made.cookie, cookie) ? made.connection : nil
    }

    private func ticket(_ endpoint: Endpoint, _ asker: UInt64, _ time: UInt32) -> Ticket {
        let stamp = Array(bigEndian(UInt64(time)).suffix(4))
        let mac = hmacSHA256(key: secret, stamp + bigEndian(asker) + endpoint.compact)
        return Ticket(cookie: stamp + mac.prefix(16), connection: mac[16..<24].reduce(0) { $0 << 8 | UInt64($1) })
    }
    private static func seconds(_ now: Instant) -> UInt32 {
        UInt32(truncatingIfNeeded: now.nanoseconds / 1_000_000_000)
    }
}
