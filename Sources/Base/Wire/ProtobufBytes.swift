public import FoundationEssentials
public import Primitives

/// Bytes as generated messages want them. The one place where a core meets `Data`.
public func bytesOf(_ bytes: some Sequence<UInt8>) -> Data { Data(bytes) }
/// An optional value's bytes, empty when there is none.
public func bytesOf(_ id: PeerID) -> Data { Data(id.bytes) }
public func bytesOf(_ digest: Digest256) -> Data { Data(digest.bytes) }
