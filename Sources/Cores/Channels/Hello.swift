import Digests
import Pools
import Primitives
import Wire

/// What both sides say first on every connection: versions, the listening port, which session they are in and how far they
/// are in it, and a proof that they hold the pool's key.
///
/// The proof is HMAC-SHA-256(pool key, label ‖ TLS role ‖ TLS exporter ‖ the fields before it). The exporter ties it to this TLS
/// session, hence to both certificates; the role keeps it from being sent back. A pool without a key sends zeros.
struct Hello: Hashable, Sendable {
    static let versions: ClosedRange<UInt16> = 2...2
    /// Of pools that keep members: who shows no certificate is none, so whoever knows no more than version 2 is not spoken with.
    static let memberVersions: ClosedRange<UInt16> = 3...3
    static let encodedBytes = 144
    private static let magic = Array("atoll".utf8)
    private static let label = Array("atoll/hello/2".utf8)

    var lowest = versions.lowerBound
    var highest = versions.upperBound
    var port: UInt16
    var keyed: Bool
    var standing: SessionStanding
    /// In pools that keep members: what was shown with it.
    var credential: Credential?

    func encoded(key: [UInt8]?, exporter: [UInt8], isTLSClient: Bool) -> [UInt8] {
        let fields = fieldBytes
        return fields + Self.proof(key, fields, exporter, isTLSClient)
    }
    private var fieldBytes: [UInt8] {
        var writer = ByteWriter(capacity: 160)
        writer.raw(Self.magic)
        writer.u16(lowest)
        writer.u16(highest)
        writer.u16(port)
        writer.u8(keyed ? 1 : 0)
        writer.raw(standing.mine.bytes)
        writer.raw(standing.yours.bytes)
        writer.u32(standing.generation)
        for channel in Channel.allCases {
            writer.u64(standing.received[channel])
            writer.u64(standing.limits[channel])
        }
        return writer.bytes
    }
    private static func proof(_ key: [UInt8]?, _ fields: [UInt8], _ exporter: [UInt8], _ isTLSClient: Bool) -> [UInt8] {
        guard let key else { return [UInt8](repeating: 0, count: 32) }
        return hmacSHA256(key: key, label + Array((isTLSClient ? "client" : "server").utf8) + exporter + fields)
    }

    /// Reads and checks what the other side said. What follows the proof belongs to later versions and is ignored.
    static func read(
        _ bytes: [UInt8], key: [UInt8]?, exporter: [UInt8], senderIsTLSClient: Bool,
        speaking versions: ClosedRange<UInt16> = versions
    ) -> Result<(hello: Hello, version: UInt16), Refusal> {
        guard let head = try? Self.versions(of: bytes) else { return .failure(.malformed) }
        let version = min(head.highest, versions.upperBound)
        guard version >= max(head.lowest, versions.lowerBound) else { return .failure(.version) }
        guard let (hello, proof) = try? decode(bytes) else { return .failure(.malformed) }
        let expected = self.proof(key, hello.fieldBytes, exporter, senderIsTLSClient)
        guard hello.keyed == (key != nil), constantTimeEqual(proof, expected) else { return .failure(.wrongPool) }
        return .success((hello, version))
    }
    /// What follows the proof in pools that keep members: the sender's credential, behind its length (u16). The sender's certificate proves that it is
    /// its own.
    static func credential(in bytes: [UInt8]) throws(MalformedBytes) -> Credential? {
        var reader = ByteReader(bytes)
        _ = try reader.take(encodedBytes)
        guard reader.remaining > 0 else { return nil }
        let count = Int(try reader.u16())
        return try Credential(encoded: try reader.take(count))
    }
    /// What a hello says of the session, for onlookers: nothing is proven by it.
    static func standing(in bytes: [UInt8]) -> SessionStanding? { try? decode(bytes).0.standing }

    /// These stay where they are in every version.
    private static func versions(
        of bytes: [UInt8]
    ) throws(MalformedBytes) -> (lowest: UInt16, highest: UInt16) {
        var reader = ByteReader(bytes)
        guard try reader.take(magic.count).elementsEqual(magic) else { throw MalformedBytes("no hello") }
        let (lowest, highest) = (try reader.u16(), try reader.u16())
        guard lowest <= highest else { throw MalformedBytes("versions \(lowest)...\(highest)") }
        return (lowest, highest)
    }
    private static func decode(_ bytes: [UInt8]) throws(MalformedBytes) -> (Hello, proof: [UInt8]) {
        let (lowest, highest) = try versions(of: bytes)
        var reader = ByteReader(bytes)
        _ = try reader.take(magic.count + 4)
        let port = try reader.u16()
        let keyed = try reader.u8()
        guard keyed <= 1 else { throw MalformedBytes("key flag \(keyed)") }
        var standing = SessionStanding(
            mine: SessionID(try reader.take(16)), yours: SessionID(try reader.take(16)), generation: try reader.u32())
        guard !standing.mine.isNone else { throw MalformedBytes("no session") }
        for channel in Channel.allCases {
            let (received, limit) = (try reader.u64(), try reader.u64())
            guard received <= limit, limit < SessionStanding.streamMax else {
                throw MalformedBytes("\(channel) received up to \(received) of \(limit)")
            }
            standing.received[channel] = received
            standing.limits[channel] = limit
        }
        let hello = Hello(lowest: lowest, highest: highest, port: port, keyed: keyed == 1, standing: standing)
        return (hello, [UInt8](try reader.take(32)))
    }
}
extension Refusal: Error {}
