public import Digests
public import Primitives
import Wire

/// A value kept by the overlay (BEP 44): immutable, named by its SHA-1, or mutable, named by key and salt and signed.
public struct StoredItem: Hashable, Sendable {
    /// Longest encoded value that nodes accept: 1000 bytes. For a datagram within 1024 bytes stay at 590.
    public static let valueLimit = 1000
    public static let saltLimit = 64

    /// What a mutable item has besides its value.
    public struct Signed: Hashable, Sendable {
        public let key: PeerID
        public let salt: [UInt8]
        public let sequence: Int64
        /// 64 bytes.
        public let signature: [UInt8]
        public init(key: PeerID, salt: [UInt8], sequence: Int64, signature: [UInt8]) {
            self.key = key
            self.salt = salt
            self.sequence = sequence
            self.signature = signature
        }
    }

    /// Bencoded.
    public let value: [UInt8]
    /// Nil: immutable.
    public let signed: Signed?
    public init(value: [UInt8], signed: Signed?) {
        self.value = value
        self.signed = signed
    }
    /// A mutable item signed here and now.
    public init(value: [UInt8], salt: [UInt8], sequence: Int64, by identity: SigningKey) {
        let signature = identity.sign(Self.signedBytes(value: value, salt: salt, sequence: sequence))
        self.init(
            value: value,
            signed: Signed(key: identity.peerID, salt: salt, sequence: sequence, signature: signature))
    }

    /// Where the item lives: SHA-1 of the value, or of key ‖ salt.
    public var target: NodeID {
        guard let signed else { return NodeID(hashing: value) }
        return Self.target(key: signed.key, salt: signed.salt)
    }
    public static func target(key: PeerID, salt: [UInt8]) -> NodeID { NodeID(hashing: key.bytes + salt) }

    /// What the signature is over: `4:salt…` (left out when empty), `3:seqi…e`, `1:v…`.
    public static func signedBytes(value: some Collection<UInt8>, salt: [UInt8], sequence: Int64) -> [UInt8] {
        var writer = BencodeWriter(capacity: value.count + salt.count + 40)
        if !salt.isEmpty {
            writer.key("salt")
            writer.string(salt)
        }
        writer.key("seq")
        writer.integer(sequence)
        writer.key("v")
        writer.raw(value)
        return writer.bytes
    }

    /// True for immutable items, whose name is their proof.
    public var isAuthentic: Bool {
        guard let signed else { return true }
        let bytes = Self.signedBytes(value: value, salt: signed.salt, sequence: signed.sequence)
        return verifySignature(signed.signature, of: bytes, by: signed.key)
    }
}
