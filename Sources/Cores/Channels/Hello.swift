import Digests
import Primitives
import Wire

/// What both sides say first: versions, the listening port, receive windows, and a proof that they hold the pool's key.
///
/// The proof is HMAC-SHA-256(pool key, label ‖ TLS role ‖ TLS exporter ‖ the fields before it). The exporter ties it to this TLS
/// session, hence to both certificates; the role keeps it from being sent back. A pool without a key sends zeros.
struct Hello: Hashable, Sendable {
    static let versions: ClosedRange<UInt16> = 1...1
    private static let magic = Array("atoll".utf8)
    private static let label = Array("atoll/hello/1".utf8)

    var lowest = versions.lowerBound
    var highest = versions.upperBound
    var port: UInt16
    var keyed: Bool
    var windows: PerChannel<UInt32>

    func encoded(key: [UInt8]?, exporter: [UInt8], isTLSClient: Bool) -> [UInt8] {
        let fields = fieldBytes
        return fields + Self.proof(key, fields, exporter, isTLSClient)
    }
    private var fieldBytes: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.raw(Self.magic)
        writer.u16(lowest)
        writer.u16(highest)
        writer.u16(port)
        writer.u8(keyed ? 1 : 0)
        for channel in Channel.allCases { writer.u32(windows[channel]) }
        return writer.bytes
    }
    private static func proof(_ key: [UInt8]?, _ fields: [UInt8], _ exporter: [UInt8], _ isTLSClient: Bool) -> [UInt8] {
        guard let key else { return [UInt8](repeating: 0, count: 32) }
        return hmacSHA256(key: key, label + Array((isTLSClient ? "client" : "server").utf8) + exporter + fields)
    }

    /// Reads and checks what the other side said. What follows the proof belongs to later versions and is ignored.
    static func read(
        _ bytes: [UInt8], key: [UInt8]?, exporter: [UInt8], senderIsTLSClient: Bool
    ) -> Result<(hello: Hello, version: UInt16), Refusal> {
        guard let (hello, proof) = try? decode(bytes) else { return .failure(.malformed) }
        let version = min(hello.highest, versions.upperBound)
        guard version >= max(hello.lowest, versions.lowerBound) else { return .failure(.version) }
        let expected = self.proof(key, hello.fieldBytes, exporter, senderIsTLSClient)
        guard hello.keyed == (key != nil), constantTimeEqual(proof, expected) else { return .failure(.wrongPool) }
        return .success((hello, version))
    }
    private static func decode(_ bytes: [UInt8]) throws(MalformedBytes) -> (Hello, proof: [UInt8]) {
        var reader = ByteReader(bytes)
        guard try reader.take(magic.count).elementsEqual(magic) else { throw MalformedBytes("no hello") }
        let (lowest, highest, port) = (try reader.u16(), try reader.u16(), try reader.u16())
        guard lowest <= highest else { throw MalformedBytes("versions \(lowest)...\(highest)") }
        let keyed = try reader.u8()
        guard keyed <= 1 else { throw MalformedBytes("key flag \(keyed)") }
        var windows = PerChannel<UInt32>(repeating: 0)
        for channel in Channel.allCases { windows[channel] = try reader.u32() }
        let hello = Hello(lowest: lowest, highest: highest, port: port, keyed: keyed == 1, windows: windows)
        return (hello, [UInt8](try reader.take(32)))
    }
}
extension Refusal: Error {}
