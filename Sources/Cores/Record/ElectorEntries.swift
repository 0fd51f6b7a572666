public import Consensus
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
    public init(_ electorate: Electorate, reason: String) {
        self.electorate = electorate
        self.reason = reason
    }
    /// All whose word counts, those of before included while both sets decide.
    public var electors: [PeerID] { electorate.allVoters }
    init(_ m: PBElectors) throws(MalformedBytes) {
        electorate = try Electorate(m)
        reason = cleaned(m.reason, bytes: Bounds.reasonBytes)
    }
    var encoded: PBElectors {
        var m = PBElectors()
        m.voters = electorate.voters.map { bytesOf($0) }
        m.outgoing = electorate.outgoing.map { bytesOf($0) }
        m.reason = reason
        return m
    }
}

extension Record {
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
            let next = try Electorate(body)
            guard electorate.mayBecome(next) else { throw MalformedBytes("electors that do not follow those before") }
            electorate = next
        }
        return electorate.allVoters
    }
}
