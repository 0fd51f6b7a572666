public import Digests
public import Primitives
public import Wire

/// What owners of recovery keys agree to: this machine founds the job anew, in this era, and keeps at least these entries.
public struct RecoveryClaim: Hashable, Sendable {
    public var job: Digest256
    /// That begins.
    public var era: Int
    /// Entries that are certified as far as the signers know, and the root over them. More may be.
    public var size: Int
    public var root: Digest256
    /// Whose machine the era begins with.
    public var founder: PeerID
    public init(job: Digest256, era: Int, size: Int, root: Digest256, founder: PeerID) {
        self.job = job
        self.era = era
        self.size = size
        self.root = root
        self.founder = founder
    }

    private static let domain = Array("atoll/refound/1".utf8)
    static let encodedBytes = 32 + 8 + 8 + 32 + 32
    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: Self.encodedBytes)
        writer.raw(job.bytes)
        writer.u64(UInt64(era))
        writer.u64(UInt64(size))
        writer.raw(root.bytes)
        writer.raw(founder.bytes)
        return writer.bytes
    }
    package init(_ reader: inout ByteReader) throws(MalformedBytes) {
        job = Digest256(try reader.take(32))!
        let (era, size) = (try reader.u64(), try reader.u64())
        guard (1...UInt64(Era.most)).contains(era) else { throw MalformedBytes("era \(era) is out of range") }
        guard (1...1 << 40).contains(size) else { throw MalformedBytes("size \(size) is out of range") }
        (self.era, self.size) = (Int(era), Int(size))
        root = Digest256(try reader.take(32))!
        founder = PeerID(try reader.take(32))!
    }
    /// Exactly what is signed.
    public var signedBytes: [UInt8] { Self.domain + encoded }
}

/// A claim with the signatures that have been gathered under it.
///
/// 113 bytes and 96 a signer: job (32), era and size (u64 each), root (32), founder (32), how many signers (u8), then each signer's key (32)
/// and signature (64), keys ascending.
public struct RecoveryGrant: Hashable, Sendable {
    public let claim: RecoveryClaim
    public private(set) var signatures: [ClaimSignature] = []
    public var signers: [PeerID] { signatures.map(\.signer) }

    public init(_ claim: RecoveryClaim) { self.claim = claim }

    /// Who has signed already signs the same again.
    public mutating func sign(by key: SigningKey) {
        signatures.removeAll { $0.signer == key.peerID }
        signatures.append(ClaimSignature(signer: key.peerID, bytes: key.sign(claim.signedBytes)))
        signatures.sort { $0.signer < $1.signer }
    }
    /// One that was gathered elsewhere. Throws why it is none.
    public mutating func add(_ bytes: [UInt8], by signer: PeerID) throws(MalformedBytes) {
        guard !signers.contains(signer) else { throw MalformedBytes("\(signer.short) has signed twice") }
        guard signatures.count < RecoveryKeys.most else {
            throw MalformedBytes("more than \(RecoveryKeys.most) signers")
        }
        guard verifySignature(bytes, of: claim.signedBytes, by: signer) else {
            throw MalformedBytes("the signature of \(signer.short) is not of this")
        }
        signatures.append(ClaimSignature(signer: signer, bytes: bytes))
        signatures.sort { $0.signer < $1.signer }
    }

    public var encoded: [UInt8] {
        var writer = ByteWriter(capacity: RecoveryClaim.encodedBytes + signatures.encodedBytes)
        writer.raw(claim.encoded)
        signatures.write(to: &writer)
        return writer.bytes
    }
    public init(encoded: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(encoded)
        claim = try RecoveryClaim(&reader)
        signatures = try [ClaimSignature](&reader, signers: 0...RecoveryKeys.most, of: "a recovery")
        try reader.finish()
    }

    /// Throws why these signatures found nothing.
    public func check(job: Digest256, era: Int, founder: PeerID, _ keys: RecoveryKeys) throws(MalformedBytes) {
        guard claim.job == job else { throw MalformedBytes("recovery of job \(claim.job.short), not \(job.short)") }
        guard claim.era == era else { throw MalformedBytes("recovery for era \(claim.era), not \(era)") }
        guard claim.founder == founder else {
            throw MalformedBytes("recovery by \(claim.founder.short), not \(founder.short)")
        }
        for signature in signatures {
            guard keys.keys.contains(signature.signer) else {
                throw MalformedBytes("\(signature.signer.short) is no recovery key of this job")
            }
            guard verifySignature(signature.bytes, of: claim.signedBytes, by: signature.signer) else {
                throw MalformedBytes("the signature of \(signature.signer.short) does not verify")
            }
        }
        guard signatures.count >= keys.needed else {
            throw MalformedBytes(
                "\(signatures.count) of \(keys.keys.count) recovery keys have signed, \(keys.needed) have to")
        }
    }
}
