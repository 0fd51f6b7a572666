import SwiftProtobuf

/// A message of the swarm: a protobuf header, then raw payload bytes (tensors, chunks).
public struct FramedPacket: Sendable {
    public var packet: PBPacket
    public var payload: [UInt8]

    /// Most bytes of a header; the payload's limit is the channel's.
    public static let headerLimit = 1 << 20

    public init(_ packet: PBPacket, payload: [UInt8] = []) {
        self.packet = packet
        self.payload = payload
    }

    /// u32 header length ‖ header: what precedes the payload.
    public var header: [UInt8] {
        let header: [UInt8]
        do { header = try packet.serializedBytes() } catch {
            preconditionFailure("packet does not serialise: \(error)")
        }
        var writer = ByteWriter(capacity: header.count + 4)
        writer.block(header)
        return writer.bytes
    }
    /// Header and payload.
    public var encoded: [UInt8] { header + payload }

    public init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        let header = try reader.block(limit: Self.headerLimit)
        do { packet = try PBPacket(serializedBytes: Array(header)) } catch {
            throw MalformedBytes("packet header: \(error)")
        }
        payload = Array(try reader.take(reader.remaining))
    }
}
