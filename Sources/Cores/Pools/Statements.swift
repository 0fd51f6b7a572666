public import Digests
public import Primitives
import Wire

/// The authority takes back what it has given. It is for ever, so that an old one that is said again changes nothing.
///
/// 105 bytes: kind (u8), subject (32), when (u64), signature (64) of `atoll/revocation/1` ‖ authority ‖ the bytes before it.
public struct Revocation: Hashable, Sendable {
    public enum Kind: UInt8, CaseIterable, Hashable, Sendable {
        /// Of a peer: it is no member any more, by whatever certificate.
        case peer = 1
        /// Of an invite: nobody else joins by it.
        case invite = 2
        /// Of an invite and all who joined by it.
        case inviteAndMembers = 3
    }
    public let kind: Kind
    /// A peer's key, or a warrant's ID.
    public let subject: Digest256
    /// Seconds since 1970.
    public let at: Int64
    public let signature: [UInt8]

    static let encodedBytes = 41 + 64
    private static let domain = Array("atoll/revocation/1".utf8)

    public init(_ kind: Kind, of subject: Digest256, at: Int64, by authority: SigningKey) {
        (self.kind, self.subject, self.at) = (kind, subject, at)
        signature = authority.sign(Self.domain + authority.peerID.bytes + Self.body(kind, subject, at))
    }
    private static func body(_ kind: Kind, _ subject: Digest256, _ at: Int64) -> [UInt8] {
        var writer = ByteWriter(capacity: encodedBytes)
        writer.u8(kind.rawValue)
        writer.raw(subject.bytes)
        writer.u64(UInt64(at))
        return writer.bytes
    }
    var encoded: [UInt8] { Self.body(kind, subject, at) + signature }
    init(_ reader: inout ByteReader) throws(MalformedBytes) {
        let number = try reader.u8()
        guard let kind = Kind(rawValue: number) else { throw MalformedBytes("a revocation of kind \(number)") }
        self.kind = kind
        subject = Digest256(try reader.take(32))!
        at = try reader.moment()
        signature = [UInt8](try reader.take(64))
    }
    func isSigned(by authority: PeerID) -> Bool {
        verifySignature(signature, of: Self.domain + authority.bytes + Self.body(kind, subject, at), by: authority)
    }
}

/// A pool's key, of which there may be another one after it: then both are right for a while.
///
/// 116 bytes: serial (u32, from 1), key (32), from when it is used (u64), until when the one before it is right (u64), signature (64) of
/// `atoll/pool-key/1` ‖ authority ‖ the bytes before it. Members alone get to see it.
public struct PoolKey: Hashable, Sendable {
    public let serial: UInt32
    /// 32 bytes. Secret.
    public let key: [UInt8]
    public let from: Int64
    public let formerUntil: Int64
    public let signature: [UInt8]

    static let encodedBytes = 52 + 64
    private static let domain = Array("atoll/pool-key/1".utf8)

    public init(serial: UInt32, key: [UInt8], from: Int64, formerUntil: Int64, by authority: SigningKey) {
        precondition(key.count == 32 && serial > 0 && from <= formerUntil)
        (self.serial, self.key, self.from, self.formerUntil) = (serial, key, from, formerUntil)
        signature = authority.sign(Self.domain + authority.peerID.bytes + Self.body(serial, key, from, formerUntil))
    }
    private static func body(_ serial: UInt32, _ key: [UInt8], _ from: Int64, _ formerUntil: Int64) -> [UInt8] {
        var writer = ByteWriter(capacity: encodedBytes)
        writer.u32(serial)
        writer.raw(key)
        writer.u64(UInt64(from))
        writer.u64(UInt64(formerUntil))
        return writer.bytes
    }
    var encoded: [UInt8] { Self.body(serial, key, from, formerUntil) + signature }
    init(_ reader: inout ByteReader) throws(MalformedBytes) {
        serial = try reader.u32()
        key = [UInt8](try reader.take(32))
        from = try reader.moment()
        formerUntil = try reader.moment()
        guard serial > 0, from <= formerUntil else { throw MalformedBytes("pool key \(serial)") }
        signature = [UInt8](try reader.take(64))
    }
    func isSigned(by authority: PeerID) -> Bool {
        verifySignature(
            signature, of: Self.domain + authority.bytes + Self.body(serial, key, from, formerUntil), by: authority)
    }
}
extension PoolKey: CustomStringConvertible, CustomReflectable {
    /// It never prints its secret.
    public var description: String { "pool key \(serial)" }
    public var customMirror: Mirror { Mirror(self, children: ["serial": serial]) }
}

/// What members tell each other of their pool: a byte, then what it says.
public enum PoolStatement: Hashable, Sendable {
    /// Of everything that is known: whoever knows otherwise says all that it knows.
    case digest(Digest256)
    case revocation(Revocation)
    /// That somebody has joined by an invite of few uses; of the sender itself or to the receiver, that its certificate was renewed.
    case credential(Credential)
    case key(PoolKey)

    /// The longest, with its first byte.
    public static let mostBytes = 1 + Credential.encodedBytes
    public var encoded: [UInt8] {
        switch self {
        case .digest(let digest): [0] + digest.bytes
        case .revocation(let revocation): [1] + revocation.encoded
        case .credential(let credential): [2] + credential.encoded
        case .key(let key): [3] + key.encoded
        }
    }
    public init(encoded: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(encoded)
        let kind = try reader.u8()
        switch kind {
        case 0: self = .digest(Digest256(try reader.take(32))!)
        case 1: self = .revocation(try Revocation(&reader))
        case 2: self = .credential(try Credential(&reader))
        case 3: self = .key(try PoolKey(&reader))
        default: throw MalformedBytes("a statement of kind \(kind)")
        }
        try reader.finish()
    }
}

/// The answer to who applies: who lets it in, and the pool's key.
///
/// 398 bytes: the granter's credential (274), the key in use (116), the granter's time (u64).
public struct PoolGrant: Hashable, Sendable {
    public let granter: Credential
    public let key: PoolKey
    public let wall: Int64
    public static let encodedBytes = Credential.encodedBytes + PoolKey.encodedBytes + 8
    public init(granter: Credential, key: PoolKey, wall: Int64) {
        (self.granter, self.key, self.wall) = (granter, key, wall)
    }
    public var encoded: [UInt8] {
        var writer = ByteWriter(capacity: Self.encodedBytes)
        writer.raw(granter.encoded)
        writer.raw(key.encoded)
        writer.u64(UInt64(wall))
        return writer.bytes
    }
    public init(encoded: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(encoded)
        granter = try Credential(&reader)
        key = try PoolKey(&reader)
        wall = try reader.moment()
        try reader.finish()
    }
    /// Whether it is a member's of this pool, and the key the pool's.
    ///
    /// - Parameters:
    ///   - peer: who answered, as TLS has it.
    public func check(authority: PeerID, from peer: PeerID) throws(PoolRefusal) {
        // The granter's own time: ours may be what is wrong.
        try granter.check(authority: authority, of: peer, at: wall)
        guard key.isSigned(by: authority) else { throw .forged }
    }
}
