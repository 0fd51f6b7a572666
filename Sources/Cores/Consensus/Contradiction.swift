public import Digests
public import Primitives
public import Wire

/// Two statements of electors that cannot both be honest. It proves itself, to anybody who knows who the electors were.
public enum Contradiction: Hashable, Sendable {
    /// One elector has vouched for two logs of one term and size.
    case acks(Ack, Ack)
    /// Two quorums have certified two logs of one size.
    case certificates(CertificateConflict)

    /// Nil where the two agree, are of two signers, or one is not signed.
    public init?(_ first: Ack, _ second: Ack) {
        let (a, b) = (first.claim, second.claim)
        guard first.signer == second.signer, (a.job, a.era) == (b.job, b.era), (a.term, a.size) == (b.term, b.size),
            a.root != b.root, first.isValid, second.isValid
        else { return nil }
        self = .acks(first, second)
    }

    public var job: Digest256 { claims.0.job }
    public var era: Int { claims.0.era }
    /// Entries that both are of.
    public var size: Int { claims.0.size }
    public var claims: (LogClaim, LogClaim) {
        switch self {
        case .acks(let first, let second): (first.claim, second.claim)
        case .certificates(let conflict): (conflict.first.claim, conflict.second.claim)
        }
    }
    /// Who is convicted by their own signatures.
    public var liars: [PeerID] {
        switch self {
        case .acks(let ack, _): [ack.signer]
        case .certificates(let conflict): conflict.liars
        }
    }
    /// All whose signatures it rests on.
    public var signers: [PeerID] {
        switch self {
        case .acks(let ack, _): [ack.signer]
        case .certificates(let conflict):
            Set((conflict.first.signatures + conflict.second.signatures).map(\.signer)).sorted()
        }
    }

    /// For people: what was signed, by whom.
    public var what: String {
        let (a, b) = claims
        let logs = "\(size) entries\(era > 0 ? " of era \(era)" : "") (\(a.root.short) and \(b.root.short))"
        switch self {
        case .acks(let ack, _): return "\(ack.signer.short) has signed two logs of term \(a.term) and \(logs)"
        case .certificates(let conflict):
            guard conflict.liars.isEmpty else {
                return
                    "\(conflict.liars.map(\.short).joined(separator: ", ")) have certified two logs of term \(a.term) and \(logs)"
            }
            return
                "two logs of \(logs) are certified, of terms \(a.term) and \(b.term): one of "
                + "\(conflict.inBoth.map(\.short).joined(separator: ", ")), who signed both, has lied, or the later leader"
        }
    }

    // MARK: bytes

    /// Which of the two (u8), then for acks the signer (32), and twice claim (88) and signature (64); for certificates twice length (u32) and
    /// certificate.
    public var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 512)
        switch self {
        case .acks(let first, let second):
            writer.u8(1)
            writer.raw(first.signer.bytes)
            for ack in [first, second] {
                writer.raw(ack.claim.encoded)
                writer.raw(ack.signature)
            }
        case .certificates(let conflict):
            writer.u8(2)
            for certificate in [conflict.first, conflict.second] {
                let bytes = certificate.encoded
                writer.u32(UInt32(bytes.count))
                writer.raw(bytes)
            }
        }
        return writer.bytes
    }
    /// Throws where it proves nothing. Whether signers were electors is for whoever has the log.
    public init(_ reader: inout ByteReader) throws(MalformedBytes) {
        switch try reader.u8() {
        case 1:
            let signer = PeerID(try reader.take(32))!
            var acks: [Ack] = []
            for _ in 0..<2 {
                let claim = try LogClaim(&reader)
                acks.append(Ack(claim, signer: signer, signature: Array(try reader.take(64))))
            }
            guard let found = Contradiction(acks[0], acks[1]) else {
                throw MalformedBytes("two acks that do not contradict each other, or are not signed")
            }
            self = found
        case 2:
            var certificates: [Certificate] = []
            for _ in 0..<2 {
                let length = Int(try reader.u32())
                guard length <= 1 << 12 else { throw MalformedBytes("a certificate of \(length) bytes") }
                certificates.append(try Certificate(encoded: Array(try reader.take(length))))
            }
            guard let conflict = CertificateConflict(certificates[0], certificates[1]),
                certificates.allSatisfy({ $0.acks.allSatisfy(\.isValid) })
            else { throw MalformedBytes("two certificates that do not contradict each other, or are not signed") }
            self = .certificates(conflict)
        case let kind: throw MalformedBytes("a contradiction of kind \(kind)")
        }
    }
    /// Throws why it says nothing about these electors, who were in force after so many entries in that era.
    public func check(job: Digest256, _ electorate: Electorate, era: Int) throws(MalformedBytes) {
        guard job == self.job else { throw MalformedBytes("of job \(self.job.short), not \(job.short)") }
        guard era == self.era else { throw MalformedBytes("of era \(self.era), not \(era)") }
        if let stranger = signers.first(where: { !electorate.isVoter($0) }) {
            throw MalformedBytes("\(stranger.short) was no elector")
        }
        guard case .certificates(let conflict) = self else { return }
        try conflict.first.check(job: job, electorate, era: era)
        try conflict.second.check(job: job, electorate, era: era)
    }
}
