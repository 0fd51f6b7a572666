public import Digests
public import Primitives
public import Wire

/// What an elector vouches for: the first so many entries of a job's log.
public struct LogClaim: Hashable, Sendable {
    public var job: Digest256
    /// How often the job was founded anew after a majority of its electors was lost.
    public var era: Int
    /// Of the last of the entries.
    public var term: Int
    public var size: Int
    /// Of the Merkle tree over the entries (RFC 6962, §2.1).
    public var root: Digest256
    public init(job: Digest256, era: Int = 0, term: Int, size: Int, root: Digest256) {
        self.job = job
        self.era = era
        self.term = term
        self.size = size
        self.root = root
    }

    private static let domain = Array("atoll/ack/1".utf8)
    static let encodedBytes = 32 + 3 * 8 + 32
    package var encoded: [UInt8] {
        var writer = ByteWriter(capacity: Self.encodedBytes)
        writer.raw(job.bytes)
        for number in [era, term, size] { writer.u64(UInt64(number)) }
        writer.raw(root.bytes)
        return writer.bytes
    }
    package init(_ reader: inout ByteReader) throws(MalformedBytes) {
        func number(_ value: UInt64, _ what: String) throws(MalformedBytes) -> Int {
            guard value <= 1 << 40 else { throw MalformedBytes("\(what) \(value) is out of range") }
            return Int(value)
        }
        job = Digest256(try reader.take(32))!
        era = try number(reader.u64(), "era")
        term = try number(reader.u64(), "term")
        size = try number(reader.u64(), "size")
        root = Digest256(try reader.take(32))!
    }
    /// Exactly what is signed.
    public var signedBytes: [UInt8] { Self.domain + encoded }
}

/// An elector's word: these entries are durable here, and I vouch for no others of this term and size.
public struct Ack: Hashable, Sendable {
    public let claim: LogClaim
    public let signer: PeerID
    public let signature: [UInt8]
    public init(_ claim: LogClaim, by key: SigningKey) {
        self.claim = claim
        signer = key.peerID
        signature = key.sign(claim.signedBytes)
    }
    public init(_ claim: LogClaim, signer: PeerID, signature: [UInt8]) {
        self.claim = claim
        self.signer = signer
        self.signature = signature
    }
    public var isValid: Bool { verifySignature(signature, of: claim.signedBytes, by: signer) }
}

/// A quorum's acks of one claim: the entries are for ever, for whoever knows the electors, without asking anybody.
///
/// 89 bytes and 96 a signer: job (32), era, term and size (u64 each), root (32), how many signers (u8), then each signer's key (32) and
/// signature (64), keys ascending.
public struct Certificate: Hashable, Sendable {
    public let claim: LogClaim
    public let signatures: [ClaimSignature]
    /// More than any electorate has, also while it changes.
    public static let mostSigners = 2 * Electorate.mostVoters

    /// Of acks of the first one's claim; nobody twice.
    public init?(_ acks: [Ack]) {
        guard let claim = acks.first?.claim, acks.allSatisfy({ $0.claim == claim }), acks.count <= Self.mostSigners,
            Set(acks.map(\.signer)).count == acks.count, acks.allSatisfy({ $0.signature.count == 64 })
        else { return nil }
        self.claim = claim
        signatures = acks.sorted { $0.signer < $1.signer }.map {
            ClaimSignature(signer: $0.signer, bytes: $0.signature)
        }
    }

    public var encoded: [UInt8] {
        var writer = ByteWriter(capacity: LogClaim.encodedBytes + signatures.encodedBytes)
        writer.raw(claim.encoded)
        signatures.write(to: &writer)
        return writer.bytes
    }
    public init(encoded: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(encoded)
        claim = try LogClaim(&reader)
        signatures = try [ClaimSignature](&reader, signers: 1...Self.mostSigners, of: "a certificate")
        try reader.finish()
    }

    public var acks: [Ack] { signatures.map { Ack(claim, signer: $0.signer, signature: $0.bytes) } }

    /// Throws why it certifies nothing for these electors of an era.
    public func check(job: Digest256, _ electorate: Electorate, era: Int = 0) throws(MalformedBytes) {
        guard claim.job == job else {
            throw MalformedBytes("a certificate of job \(claim.job.short), not \(job.short)")
        }
        guard claim.era == era else { throw MalformedBytes("a certificate of era \(claim.era), not \(era)") }
        for ack in acks {
            guard electorate.isVoter(ack.signer) else {
                throw MalformedBytes("a certificate signed by \(ack.signer.short), who is no elector")
            }
            guard ack.isValid else { throw MalformedBytes("the signature of \(ack.signer.short) does not verify") }
        }
        let signers = signatures.map(\.signer)
        guard electorate.decides({ signers.contains($0) }) else {
            throw MalformedBytes("\(signers.count) of \(electorate.allVoters.count) electors are no quorum")
        }
    }
}

/// Two certificates of one size that differ cannot come of crashes: somebody lied.
public struct CertificateConflict: Hashable, Sendable {
    public let first: Certificate
    public let second: Certificate

    /// Nil where the two do not contradict each other. Both must have been checked.
    public init?(_ first: Certificate, _ second: Certificate) {
        let (a, b) = (first.claim, second.claim)
        guard a.job == b.job, a.era == b.era, a.size == b.size, (a.term, a.root) != (b.term, b.root) else { return nil }
        self.first = first
        self.second = second
    }

    /// Who signed both.
    public var inBoth: [PeerID] {
        let others = second.signatures.map(\.signer)
        return first.signatures.map(\.signer).filter { others.contains($0) }
    }
    /// Who is convicted by their own signatures: they vouched for two roots of one term and size. With different terms it is one of
    /// ``inBoth``, for whom they then voted, or that leader; the signatures do not say which.
    public var liars: [PeerID] { first.claim.term == second.claim.term ? inBoth : [] }
}

/// Gathers acks until a quorum says the same.
public struct AckCollector: Sendable {
    private let job: Digest256
    public private(set) var newest: Certificate?
    /// The last few acks of each signer, the newest last.
    private var acks: [PeerID: [Ack]] = [:]
    /// Acks of no elector, another job or era, or with a signature that does not verify.
    public private(set) var refused = 0
    /// Acks kept of each signer.
    static let depth = 16

    public init(job: Digest256) { self.job = job }

    public enum Outcome: Hashable, Sendable {
        /// Nothing new.
        case nothing
        case certified(Certificate)
        /// The signer has vouched for two roots of one term and size.
        case lied(Contradiction)
    }

    /// - Parameters:
    ///   - electorate: in force at the ack's size.
    ///   - era: then.
    public mutating func add(_ ack: Ack, _ electorate: Electorate, era: Int = 0) -> Outcome {
        let claim = ack.claim
        let known = acks[ack.signer, default: []]
        // What is known is not verified again.
        if known.contains(where: { $0.claim == claim }) { return .nothing }
        guard claim.job == job, claim.era == era, electorate.isVoter(ack.signer), ack.isValid else {
            refused += 1
            return .nothing
        }
        if let other = known.first(where: { $0.claim.term == claim.term && $0.claim.size == claim.size }),
            let proof = Contradiction(other, ack)
        {
            return .lied(proof)
        }
        acks[ack.signer] = (known + [ack]).suffix(Self.depth)
        guard claim.size > newest?.claim.size ?? 0 else { return .nothing }
        let agreeing = electorate.allVoters.compactMap { peer in acks[peer]?.first { $0.claim == claim } }
        let signers = agreeing.map(\.signer)
        guard electorate.decides({ signers.contains($0) }), let certificate = Certificate(agreeing) else {
            return .nothing
        }
        newest = certificate
        return .certified(certificate)
    }
}
