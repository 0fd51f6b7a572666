public import Consensus
import Digests
public import Messages
public import Primitives
public import Wire

/// The first entry of a leader that several electors have elected: when it is committed, all before it is.
public struct Opening: Hashable, Sendable {
    public var reason: String
    public init(reason: String) { self.reason = reason }
    init(_ m: PBOpening) { reason = cleaned(m.reason, bytes: Bounds.reasonBytes) }
    var encoded: PBOpening {
        var m = PBOpening()
        m.reason = reason
        return m
    }
}

/// Who decides from this entry on.
public struct ElectorsChange: Hashable, Sendable {
    public var electorate: Electorate
    public var reason: String
    /// Of the last step: a quorum of both sets has the first. So nobody becomes an elector by the word of one.
    public var proof: Certificate?
    public init(_ electorate: Electorate, proof: Certificate? = nil, reason: String) {
        self.electorate = electorate
        self.proof = proof
        self.reason = reason
    }
    /// All whose word counts, those of before included while both sets decide.
    public var electors: [PeerID] { electorate.allVoters }
    init(_ m: PBElectors) throws(MalformedBytes) {
        electorate = try Electorate(m)
        reason = cleaned(m.reason, bytes: Bounds.reasonBytes)
        proof = m.certificate.isEmpty ? nil : try Certificate(encoded: [UInt8](m.certificate))
    }
    var encoded: PBElectors {
        var m = PBElectors()
        m.voters = electorate.voters.map { bytesOf($0) }
        m.outgoing = electorate.outgoing.map { bytesOf($0) }
        if let proof { m.certificate = bytesOf(proof.encoded) }
        m.reason = reason
        return m
    }
}

extension Record {
    /// Electors change in two steps, and the last shows that a quorum of both sets has the first.
    static func check(
        _ change: ElectorsChange, after electorate: Electorate, of job: Digest256
    ) throws(MalformedBytes) {
        guard electorate.mayBecome(change.electorate) else {
            throw MalformedBytes("electors change in two steps, with those of before and then without")
        }
        guard electorate.isJoint else { return }
        guard let proof = change.proof else { throw MalformedBytes("electors changed without a certificate") }
        try proof.check(job: job, electorate)
    }
    /// That a certificate is of the first entries here.
    package func check(_ certificate: Certificate) throws(MalformedBytes) {
        let claim = certificate.claim
        guard claim.size > 0, claim.size <= length, leaf(claim.size - 1).term == claim.term,
            root(of: claim.size) == claim.root
        else { throw MalformedBytes("a certificate of another log") }
        try certificate.check(job: job, electorate(at: claim.size))
    }

    /// Who decides after the first so many entries.
    public func electorate(at size: Int) -> Electorate {
        electorates.last { $0.from <= size }?.electorate ?? electorates[0].electorate
    }
    /// The entries by which electors have changed, for whoever has only the genesis.
    public var electorChanges: [PBEnvelope] { electorates.dropFirst().map { envelopes[$0.from - 1] } }

    /// Who decides after changes of electors that somebody shows, each signed by one of those before it. Throws what is wrong with them.
    public func electors(after changes: [PBEnvelope]) throws(MalformedBytes) -> [PeerID] {
        var electorate = self.electorate
        for envelope in changes {
            let statement = try envelope.open(.logEntry, job: job, wall: nil, as: PBLogEntry.self)
            guard electorate.isVoter(statement.signer) else {
                throw MalformedBytes("electors changed by \(statement.signer.short), who was none")
            }
            guard case .electors(let body)? = statement.body.body else { throw MalformedBytes("no change of electors") }
            let change = try ElectorsChange(body)
            try Self.check(change, after: electorate, of: job)
            electorate = change.electorate
        }
        return electorate.allVoters
    }
}
