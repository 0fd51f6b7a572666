public import Digests
public import Primitives
public import Wire

/// What a member may do.
public enum MemberRole: UInt8, CaseIterable, Hashable, Sendable {
    /// Works, launches, carries: everything.
    case member = 1
    /// Meets others and reads jobs' logs; it is heard about nothing else.
    case watcher = 2
    public var word: String {
        switch self {
        case .member: "member"
        case .watcher: "watcher"
        }
    }
    public init?(word: String) {
        guard let role = Self.allCases.first(where: { $0.word == word }) else { return nil }
        self = role
    }
}

/// What an invite's issuing key may do, signed by the pool's authority: let so many in, in a role, until then.
///
/// 153 bytes: authority (32), issuing key (32), role (u8), uses (u32, 0 for any number), issued, expires (u64, seconds since 1970), life of a
/// certificate in seconds (u32), signature (64) of `atoll/warrant/1` ‖ the bytes before it.
public struct Warrant: Hashable, Sendable {
    public let authority: PeerID
    public let issuer: PeerID
    public let role: MemberRole
    /// How many peers may join by it; nil: any number.
    public let uses: Int?
    public let issued: Int64
    /// Nobody joins by it from then on. Who has joined stays.
    public let expires: Int64
    /// Of its certificates, seconds.
    public let life: Int64
    public let signature: [UInt8]
    /// SHA-256 of what is signed: names the invite.
    public let id: Digest256

    public static let usesMax = 1000
    /// An hour to a year.
    public static let lives: ClosedRange<Int64> = 3600...366 * 86_400
    static let encodedBytes = 89 + 64
    private static let domain = Array("atoll/warrant/1".utf8)

    /// - Parameters:
    ///   - uses: 1 to ``usesMax``, or nil.
    ///   - life: one of ``lives``.
    public init(
        by authority: SigningKey, issuer: PeerID, role: MemberRole, uses: Int?, issued: Int64, expires: Int64,
        life: Int64
    ) {
        precondition(
            uses.map { (1...Self.usesMax).contains($0) } ?? true && Self.lives.contains(life) && issued < expires)
        self.authority = authority.peerID
        (self.issuer, self.role, self.uses) = (issuer, role, uses)
        (self.issued, self.expires, self.life) = (issued, expires, life)
        let signed = Self.domain + Self.body(authority.peerID, issuer, role, uses, issued, expires, life)
        signature = authority.sign(signed)
        id = sha256(signed)
    }
    private static func body(
        _ authority: PeerID, _ issuer: PeerID, _ role: MemberRole, _ uses: Int?, _ issued: Int64, _ expires: Int64,
        _ life: Int64
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: encodedBytes)
        writer.raw(authority.bytes)
        writer.raw(issuer.bytes)
        writer.u8(role.rawValue)
        writer.u32(UInt32(uses ?? 0))
        writer.u64(UInt64(issued))
        writer.u64(UInt64(expires))
        writer.u32(UInt32(life))
        return writer.bytes
    }
    private var body: [UInt8] { Self.body(authority, issuer, role, uses, issued, expires, life) }
    public var encoded: [UInt8] { body + signature }

    public init(encoded: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(encoded)
        try self.init(&reader)
        try reader.finish()
    }
    init(_ reader: inout ByteReader) throws(MalformedBytes) {
        authority = PeerID(try reader.take(32))!
        issuer = PeerID(try reader.take(32))!
        guard let role = MemberRole(rawValue: try reader.u8()) else { throw MalformedBytes("an unknown role") }
        self.role = role
        let uses = Int(try reader.u32())
        guard uses <= Self.usesMax else { throw MalformedBytes("an invite for \(uses)") }
        self.uses = uses == 0 ? nil : uses
        issued = try reader.moment()
        expires = try reader.moment()
        life = Int64(try reader.u32())
        guard issued < expires, Self.lives.contains(life) else { throw MalformedBytes("an invite's times") }
        signature = [UInt8](try reader.take(64))
        id = sha256(Self.domain + Self.body(authority, issuer, role, self.uses, issued, expires, life))
    }
    /// Whether the authority that it names has signed it.
    public var isSigned: Bool { verifySignature(signature, of: Self.domain + body, by: authority) }
}

extension ByteReader {
    /// Seconds since 1970, below 2⁴⁰.
    mutating func moment() throws(MalformedBytes) -> Int64 {
        let value = try u64()
        guard value < 1 << 40 else { throw MalformedBytes("a time of \(value)") }
        return Int64(value)
    }
}
