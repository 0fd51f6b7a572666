public import FoundationEssentials
public import Primitives
import SwiftProtobuf

/// Bytes as generated messages want them. The one place where a core meets `Data`.
public func bytesOf(_ bytes: some Sequence<UInt8>) -> Data { Data(bytes) }
/// An optional value's bytes, empty when there is none.
public func bytesOf(_ id: PeerID) -> Data { Data(id.bytes) }
public func bytesOf(_ digest: Digest256) -> Data { Data(digest.bytes) }

extension PBPacket {
    /// Without a frame: for who looks at packets from outside.
    public var raw: [UInt8] {
        do { return try serializedBytes() } catch { preconditionFailure("a packet does not serialise: \(error)") }
    }
    public init?(raw: [UInt8]) {
        do { self = try PBPacket(serializedBytes: raw) } catch { return nil }
    }
}
extension PBEnvelope {
    /// The mirror of ``encoded``; nil where the bytes are none.
    public init?(encoded: [UInt8]) {
        do { self = try PBEnvelope(serializedBytes: encoded) } catch { return nil }
    }
}
extension PBLogEntry {
    /// Nil where the bytes are none. Nothing is verified by this.
    public init?(encoded: [UInt8]) {
        do { self = try PBLogEntry(serializedBytes: encoded) } catch { return nil }
    }
}
extension PBCarriedEntry {
    public var encoded: [UInt8] {
        do { return try serializedBytes() } catch { preconditionFailure("an entry does not serialise: \(error)") }
    }
    public init?(encoded: [UInt8]) {
        do { self = try PBCarriedEntry(serializedBytes: encoded) } catch { return nil }
    }
}
extension PBWork {
    /// What a receipt says, unverified.
    public init?(encoded: [UInt8]) {
        do { self = try PBWork(serializedBytes: encoded) } catch { return nil }
    }
}
