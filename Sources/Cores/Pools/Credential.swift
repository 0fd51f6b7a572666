public import Digests
public import Primitives
public import Wire

/// That a peer is a member, and until when.
///
/// 121 bytes: peer (32), who signs (u8: 0 the invite's issuing key, 1 the authority), joined, issued, expires (u64, seconds since 1970),
/// signature (64) of `atoll/certificate/1` ‖ the warrant's ID ‖ the bytes before it.
public struct MemberCertificate: Hashable, Sendable {
    public let peer: PeerID
    /// By the authority; else it is the first one, by the issuing key.
    public let isRenewed: Bool
    /// When the first one was issued.
    public let joined: Int64
    public let issued: Int64
    public let expires: Int64
    public let signature: [UInt8]

    static let encodedBytes = 57 + 64
    private static let domain = Array("atoll/certificate/1".utf8)

    init(
        _ peer: PeerID, of warrant: Digest256, isRenewed: Bool, joined: Int64, issued: Int64, expires: Int64,
        by key: SigningKey
    ) {
        (self.peer, self.isRenewed, self.joined, self.issued, self.expires) = (peer, isRenewed, joined, issued, expires)
        signature = key.sign(
            Self.domain + warrant.bytes + Self.body(peer, isRenewed, joined, issued, expires))
    }
    private static func body(
        _ peer: PeerID, _ isRenewed: Bool, _ joined: Int64, _ issued: Int64, _ expires: Int64
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: encodedBytes)
        writer.raw(peer.bytes)
        writer.u8(isRenewed ? 1 : 0)
        for moment in [joined, issued, expires] { writer.u64(UInt64(moment)) }
        return writer.bytes
    }
    private var body: [UInt8] { Self.body(peer, isRenewed, joined, issued, expires) }
    var encoded: [UInt8] { body + signature }

    init(_ reader: inout ByteReader) throws(MalformedBytes) {
        peer = PeerID(try reader.take(32))!
        let kind = try reader.u8()
        guard kind <= 1 else { throw MalformedBytes("a certificate of kind \(kind)") }
        isRenewed = kind == 1
        joined = try reader.moment()
        issued = try reader.moment()
        expires = try reader.moment()
        guard joined <= issued, issued < expires else { throw MalformedBytes("a certificate's times") }
        signature = [UInt8](try reader.take(64))
    }
    func isSigned(under warrant: Warrant) -> Bool {
        verifySignature(
            signature, of: Self.domain + warrant.id.bytes + body, by: isRenewed ? warrant.authority : warrant.issuer)
    }
}

/// What a member shows: its certificate, and the warrant of the invite that it came by. 274 bytes; nobody needs to be asked.
public struct Credential: Hashable, Sendable {
    public let warrant: Warrant
    public let certificate: MemberCertificate

    public static let encodedBytes = Warrant.encodedBytes + MemberCertificate.encodedBytes
    /// Clocks of members may differ by so much, seconds.
    public static let skew: Int64 = 900

    /// The first certificate of a peer, by whoever has the invite.
    ///
    /// - Parameter now: seconds since 1970.
    public init(joining peer: PeerID, by warrant: Warrant, _ issuing: SigningKey, at now: Int64) {
        self.warrant = warrant
        certificate = MemberCertificate(
            peer, of: warrant.id, isRenewed: false, joined: now, issued: now, expires: now + warrant.life, by: issuing)
    }
    /// The next one, of the same member.
    func renewed(by authority: SigningKey, at now: Int64) -> Credential {
        Credential(
            warrant: warrant,
            certificate: MemberCertificate(
                certificate.peer, of: warrant.id, isRenewed: true, joined: min(certificate.joined, now), issued: now,
                expires: now + warrant.life, by: authority))
    }
    private init(warrant: Warrant, certificate: MemberCertificate) {
        (self.warrant, self.certificate) = (warrant, certificate)
    }
    public var peer: PeerID { certificate.peer }
    public var encoded: [UInt8] { warrant.encoded + certificate.encoded }
    public init(encoded: some Collection<UInt8>) throws(MalformedBytes) {
        var reader = ByteReader([UInt8](encoded))
        try self.init(&reader)
        try reader.finish()
    }
    init(_ reader: inout ByteReader) throws(MalformedBytes) {
        warrant = try Warrant(&reader)
        certificate = try MemberCertificate(&reader)
    }

    /// Half of its time is over: another is due.
    public func isDue(at now: Int64) -> Bool {
        now >= certificate.issued + (certificate.expires - certificate.issued) / 2
    }

    /// What can be seen from the credential alone: that it is this pool's and this peer's, and in force.
    ///
    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - grace: so long after its end it is still taken.
    ///   - isVerified: its signatures have been checked before.
    public func check(
        authority: PeerID, of peer: PeerID, at now: Int64, grace: Int64 = 0, isVerified: Bool = false
    ) throws(PoolRefusal) {
        guard warrant.authority == authority else { throw .otherPool }
        guard certificate.peer == peer else { throw .notItsOwn }
        guard certificate.expires - certificate.issued <= warrant.life else { throw .forged }
        if !certificate.isRenewed {
            guard certificate.joined == certificate.issued, certificate.joined >= warrant.issued - Self.skew else {
                throw .forged
            }
            guard certificate.joined < warrant.expires else { throw .inviteExpired }
        }
        guard isVerified || warrant.isSigned && certificate.isSigned(under: warrant) else { throw .forged }
        guard certificate.issued <= now + Self.skew else { throw .clock }
        guard certificate.expires + grace > now - Self.skew else { throw .expired }
    }
}
