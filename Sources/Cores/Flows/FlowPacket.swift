internal import Primitives

/// The forms of datagrams, by their first byte. Everything behind the clear bytes is sealed. Integers are big endian.
///
/// ```
/// hello    A0 ‖ salt 16 ‖ ⟦version 1 ‖ asker's ID 8 ‖ zeros⟧           ≥ 1200 bytes
/// welcome  A1 ‖ asker's ID 8 ‖ salt 16 ‖ ⟦answerer's ID 8 ‖ cookie 20⟧     69 bytes
/// begin    A2 ‖ answerer's ID 8 ‖ number 4 ‖ asker's ID 8 ‖ cookie 20 ‖ ⟦frames⟧
/// packet   A3 ‖ receiver's ID 8 ‖ number 4 ‖ ⟦frames⟧
/// gone     A4 ‖ the unknown ID 8 ‖ salt 16 ‖ ⟦⟧                            41 bytes
/// opener   A5 ‖ salt 16                                                    17 bytes
/// ```
package enum FlowPacket {
    enum Form: UInt8 {
        case hello = 0xA0, welcome, begin, packet, gone, opener
        /// Of a packet of a flow: what is before the seal.
        var headBytes: Int { self == .begin ? FlowPacket.beginHead : FlowPacket.packetHead }
    }
    static let version: UInt8 = 1
    static let saltBytes = 16
    static let packetHead = 1 + 8 + 4
    static let beginHead = packetHead + 8 + CookieJar.cookieBytes
    static let helloHead = 1 + saltBytes
    static let welcomeHead = 1 + 8 + saltBytes
    static let welcomeBytes = welcomeHead + 8 + CookieJar.cookieBytes + FlowLimits.tag
    static let goneBytes = welcomeHead + FlowLimits.tag
    /// A packet with nothing but a challenge or a response.
    static let challengeBytes = packetHead + 1 + 8 + FlowLimits.tag

    static func context(_ form: Form, salt: some Sequence<UInt8>) -> [UInt8] {
        Array("atoll flow \(form.rawValue) ".utf8) + salt
    }
    /// One of a flow's two directions; both ends know both IDs.
    static func context(asker: UInt64, answerer: UInt64, fromAsker: Bool) -> [UInt8] {
        Array("atoll flow packets ".utf8) + bigEndian(asker) + bigEndian(answerer) + [fromAsker ? 1 : 2]
    }

    static func hello(connection: UInt64, salt: [UInt8], _ maker: any SealMaker) -> [UInt8] {
        var bytes = [Form.hello.rawValue] + salt
        bytes.reserveCapacity(FlowLimits.leastDatagram)
        bytes.append(version)
        bytes.write(connection, width: 8)
        bytes += [UInt8](repeating: 0, count: FlowLimits.leastDatagram - bytes.count)
        bytes.seal(from: 0, clear: helloHead, number: 0, with: maker.seal(for: context(.hello, salt: salt)))
        return bytes
    }
    static func welcome(to asker: UInt64, _ ticket: CookieJar.Ticket, salt: [UInt8], _ maker: any SealMaker) -> [UInt8]
    {
        var bytes = [Form.welcome.rawValue] + bigEndian(asker) + salt
        bytes.write(ticket.connection, width: 8)
        bytes += ticket.cookie
        bytes += [UInt8](repeating: 0, count: FlowLimits.tag)
        bytes.seal(from: 0, clear: welcomeHead, number: 0, with: maker.seal(for: context(.welcome, salt: salt)))
        return bytes
    }
    static func gone(_ connection: UInt64, salt: [UInt8], _ maker: any SealMaker) -> [UInt8] {
        var bytes = [Form.gone.rawValue] + bigEndian(connection) + salt
        bytes += [UInt8](repeating: 0, count: FlowLimits.tag)
        bytes.seal(from: 0, clear: welcomeHead, number: 0, with: maker.seal(for: context(.gone, salt: salt)))
        return bytes
    }
    /// It is not meant to arrive: a router on the way shall remember that it went out.
    static func opener(salt: [UInt8]) -> [UInt8] { [Form.opener.rawValue] + salt }
    /// The number that `low` is the end of, next to the one that is expected (RFC 9000, A.3).
    package static func number(_ low: UInt64, expecting expected: UInt64) -> UInt64 {
        let window: UInt64 = 1 << 32
        let candidate = (expected & ~(window - 1)) | low
        if candidate + window / 2 <= expected, candidate < FlowLimits.mostNumber - window { return candidate + window }
        if candidate > expected + window / 2, candidate >= window { return candidate - window }
        return candidate
    }
}
