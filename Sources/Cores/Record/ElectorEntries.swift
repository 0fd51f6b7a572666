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
    /// Of the last step: a quorum of both sets has the first. So nobody becomes an elector by the word of one. Where an era begins: of all
    /// entries before.
    public var proof: Certificate?
    /// Of an entry by which the job is founded anew: the era that begins with it. Only the root key may sign that, or whoever recovery keys
    /// agree on. Else nil.
    public var era: Int?
    /// What recovery keys have signed, in the place of the root key.
    public var grant: RecoveryGrant?
    public init(_ electorate: Electorate, proof: Certificate? = nil, reason: String) {
        self.electorate = electorate
        self.proof = proof
        self.reason = reason
    }
    /// The job is founded anew, after all that is certified.
    public init(
        refounding era: Int, electors: Electorate, after proof: Certificate, grant: RecoveryGrant? = nil, reason: String
    ) {
        self.init(electors, proof: proof, reason: reason)
        self.era = era
        self.grant = grant
    }
    /// All whose word counts, those of before included while both sets decide.
    public var electors: [PeerID] { electorate.allVoters }
    init(_ m: PBElectors) throws(MalformedBytes) {
        electorate = try Electorate(m)
        reason = cleaned(m.reason, bytes: Bounds.reasonBytes)
        proof = m.certificate.isEmpty ? nil : try Certificate(encoded: [UInt8](m.certificate))
        era = m.era == 0 ? nil : try number(m.era, below: Era.most + 1, "era")
        grant = m.recovery.isEmpty ? nil : try RecoveryGrant(encoded: [UInt8](m.recovery))
    }
    var encoded: PBElectors {
        var m = PBElectors()
        m.voters = electorate.voters.map { bytesOf($0) }
        m.outgoing = electorate.outgoing.map { bytesOf($0) }
        if let proof { m.certificate = bytesOf(proof.encoded) }
        m.reason = reason
        if let era { m.era = UInt64(era) }
        if let grant { m.recovery = bytesOf(grant.encoded) }
        return m
    }
}

/// Who may found a job anew.
struct Founders: Sendable {
    let job: Digest256
    let root: PeerID
    let recovery: RecoveryKeys?

    /// Throws why an era does not begin by this.
    func check(_ change: ElectorsChange, era: Int, by signer: PeerID) throws(MalformedBytes) {
        guard let grant = change.grant else {
            guard signer == root else {
                throw MalformedBytes("the job founded anew by \(signer.short), who does not have its root key")
            }
            return
        }
        guard let recovery else { throw MalformedBytes("the job founded anew by recovery keys, and it has none") }
        guard change.electorate.voters == [signer] else {
            throw MalformedBytes("the job founded anew by \(signer.short) for others")
        }
        try grant.check(job: job, era: era, founder: signer, recovery)
        guard let proof = change.proof, proof.claim.size >= grant.claim.size else {
            throw MalformedBytes("the job founded anew without entries that recovery keys have signed for")
        }
    }
}

/// Who decides from a length of the log on, and in which era.
struct Reign: Sendable {
    var from: Int
    var electorate: Electorate
    var era: Int

    /// Electors change in two steps, and the last shows that a quorum of both sets has the first. Or a majority of them is lost, and the root
    /// key names others in their place.
    func check(_ change: ElectorsChange, by signer: PeerID, _ founders: Founders) throws(MalformedBytes) {
        if let next = change.era { return try check(change, era: next, by: signer, founders) }
        guard electorate.isVoter(signer) else {
            throw MalformedBytes("electors changed by \(signer.short), who was none")
        }
        guard electorate.mayBecome(change.electorate) else {
            throw MalformedBytes("electors change in two steps, with those of before and then without")
        }
        guard electorate.isJoint else { return }
        guard let proof = change.proof else { throw MalformedBytes("electors changed without a certificate") }
        try proof.check(job: founders.job, electorate, era: era)
    }
    private func check(
        _ change: ElectorsChange, era next: Int, by signer: PeerID, _ founders: Founders
    ) throws(MalformedBytes) {
        try founders.check(change, era: next, by: signer)
        guard next == era + 1 else { throw MalformedBytes("era \(next) after era \(era)") }
        guard !change.electorate.isJoint, change.electorate.learners.isEmpty else {
            throw MalformedBytes("an era that begins with electors of the one before")
        }
        guard let proof = change.proof else { throw MalformedBytes("the job founded anew without a certificate") }
        try proof.check(job: founders.job, electorate, era: era)
    }
}

extension Record {
    /// Whose key signed the genesis: it may found the job anew.
    public var root: PeerID { PeerID(envelopes[0].signer)! }
    /// Whether the manifest lets this key have the result of the job when it is over. Where nobody is named, nobody is served.
    public func mayCollect(_ peer: PeerID) -> Bool {
        !parameters.collectors.isEmpty && (parameters.collectors.contains(peer) || peer == root || peer == founder)
    }
    var founders: Founders { Founders(job: job, root: root, recovery: parameters.recovery) }
    /// How often the job was founded anew.
    public var era: Int { reigns.last!.era }
    /// Entries there were when each era after the first began.
    public var foundings: [Int] {
        zip(reigns, reigns.dropFirst()).filter { $0.era < $1.era }.map { $1.from - 1 }
    }
    /// Whether an entry that comes next may be of a term: each era has its own.
    func check(term: Int, of entry: Entry) throws(MalformedBytes) {
        var era = self.era
        if case .electors(let change) = entry, let next = change.era {
            era = next
            guard term == Era.firstTerm(of: next) else {
                throw MalformedBytes("era \(next) begins with term \(term)")
            }
        }
        guard Era.of(term: term) == era else { throw MalformedBytes("an entry of term \(term) in era \(era)") }
    }
    func check(_ change: ElectorsChange, by signer: PeerID) throws(MalformedBytes) {
        if change.era != nil, !parameters.isCarriedByMany {
            throw MalformedBytes("a job with one elector is not founded anew")
        }
        try reigns.last!.check(change, by: signer, founders)
        if let claim = change.grant?.claim {
            guard claim.size <= length, root(of: claim.size) == claim.root else {
                throw MalformedBytes("recovery keys have signed for another log")
            }
        }
        guard let proof = change.proof else { return }
        guard proof.claim.size >= (change.era == nil ? reigns.last!.from : length) else {
            throw MalformedBytes("electors changed with an old certificate")
        }
        try check(proof)
    }
    /// That a certificate is of the first entries here.
    package func check(_ certificate: Certificate) throws(MalformedBytes) {
        let claim = certificate.claim
        guard claim.size > 0, claim.size <= length, leaf(claim.size - 1).term == claim.term,
            root(of: claim.size) == claim.root
        else { throw MalformedBytes("a certificate of another log") }
        let reign = reign(at: claim.size)
        try certificate.check(job: job, reign.electorate, era: reign.era)
    }

    private func reign(at size: Int) -> Reign { reigns.last { $0.from <= size } ?? reigns[0] }
    /// Who decides after the first so many entries.
    public func electorate(at size: Int) -> Electorate { reign(at: size).electorate }
    /// In which era.
    public func era(at size: Int) -> Int { reign(at: size).era }
    /// The entries by which electors have changed, for whoever has only the genesis.
    public var electorChanges: [PBEnvelope] { reigns.dropFirst().map { envelopes[$0.from - 1] } }

    /// Who decides, as changes of electors say that somebody shows.
    public struct Succession: Hashable, Sendable {
        public var electors: [PeerID]
        public var era = 0
        /// Entries that there were when each era after the first began.
        public var foundedAt: [Int] = []
    }
    /// Each is signed by one of those before it, or by the root key. Throws what is wrong with them.
    public func electors(after changes: [PBEnvelope]) throws(MalformedBytes) -> Succession {
        var reign = reigns.last!
        var foundedAt: [Int] = []
        for envelope in changes {
            let statement = try envelope.open(.logEntry, job: job, wall: nil, as: PBLogEntry.self)
            guard case .electors(let body)? = statement.body.body else { throw MalformedBytes("no change of electors") }
            let change = try ElectorsChange(body)
            try reign.check(change, by: statement.signer, founders)
            if let era = change.era {
                reign.era = era
                foundedAt.append(change.proof!.claim.size)
            }
            reign.electorate = change.electorate
        }
        return Succession(electors: reign.electorate.allVoters, era: reign.era, foundedAt: foundedAt)
    }
}

extension PBLogEntry {
    /// Whether it says that the job is founded anew. Nothing is verified by this.
    var isRefounding: Bool { if case .electors(let change)? = body { change.era > 0 } else { false } }
}
