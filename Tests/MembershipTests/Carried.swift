import Consensus
import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Testing
import Wire

/// A job whose electors are the launcher (number 0) and two peers, and what becomes of its log.
struct Carried {
    static func key(_ number: Int) -> SigningKey { number == 0 ? Small.launcher : Small.key(number) }
    static func electorate(_ numbers: Int...) -> Electorate { Electorate(voters: numbers.map { key($0).peerID })! }
    static let parse: Record.Parser = { (_) throws(MalformedBytes) in
        var parameters = Small.parameters()
        parameters.electors = 3
        return parameters
    }
    static let recovery = RecoveryKeys(needed: 2, of: [61, 62, 63].map { Small.peer($0) })
    let parse: Record.Parser
    var record: Record
    /// The launcher alone, then three electors, then so many entries.
    init(entries: Int, recovery: RecoveryKeys? = nil) throws {
        parse = { (text) throws(MalformedBytes) in
            var parameters = try Self.parse(text)
            parameters.recovery = recovery
            return parameters
        }
        let genesis = Genesis(
            manifest: "good", electors: [Small.launcher.peerID], content: sha256([1]), contentBytes: 10,
            nonce: [UInt8](repeating: 1, count: 32), lease: .seconds(15), silence: .seconds(5))
        record = try Record(genesis: Record.sign(genesis, by: Small.launcher), parse: parse)
        try append(.opening(Opening(reason: "begins")))
        let joint = try #require(record.electorate.changing(to: Self.electorate(0, 1, 2).voters))
        try append(.electors(ElectorsChange(joint, reason: "chosen")))
        try append(.electors(ElectorsChange(joint.changed, proof: certificate(by: 0, 1), reason: "agreed")))
        for number in 0..<entries { try append(.members(MembersChange(round: number))) }
    }
    mutating func append(_ entry: Entry, term: Int = 1, by number: Int = 0) throws {
        try append(entry, term: term, by: Self.key(number))
    }
    mutating func append(_ entry: Entry, term: Int, by key: SigningKey) throws {
        _ = try record.propose(entry, term: term, by: key)
    }
    /// What recovery keys have signed, of the first so many entries.
    func grant(
        for founder: SigningKey, era: Int = 1, size: Int? = nil, root: Digest256? = nil, by numbers: Int...
    ) -> RecoveryGrant {
        let known = certificate(of: min(size ?? record.length, record.length), by: 0).claim
        var out = RecoveryGrant(
            RecoveryClaim(
                job: record.job, era: era, size: size ?? known.size, root: root ?? known.root, founder: founder.peerID))
        for number in numbers { out.sign(by: Small.key(number)) }
        return out
    }
    func founded(by founder: SigningKey, _ grant: RecoveryGrant?) -> Entry {
        .electors(
            ElectorsChange(
                refounding: 1, electors: Electorate(voters: [founder.peerID])!, after: certificate(by: 1, 2),
                grant: grant,
                reason: "launcher and majority are lost"))
    }
    /// Of the first so many entries; of all.
    func certificate(of size: Int? = nil, by numbers: Int...) -> Certificate {
        let size = size ?? record.length
        var tree = MerkleFrontier()
        for index in 0..<size { tree.append(record.leaf(index).hash) }
        let claim = LogClaim(
            job: record.job, era: record.era(at: size), term: record.leaf(size - 1).term, size: size, root: tree.root)
        return Certificate(numbers.map { Ack(claim, by: Self.key($0)) })!
    }
    func founded(_ era: Int = 1, after proof: Certificate) -> Entry {
        .electors(
            ElectorsChange(
                refounding: era, electors: Self.electorate(0), after: proof, reason: "a majority is lost"))
    }
    /// The same log up to a length, and then the new era.
    func refounded(at size: Int? = nil) throws -> Carried {
        var out = self
        out.record = record.truncated(to: size ?? record.length)
        let proof = out.certificate(by: 1, 2)
        try out.append(out.founded(after: proof), term: Era.firstTerm(of: 1))
        return out
    }
    /// Whole, as a member or a reader gets it.
    func entries(from index: Int, by numbers: Int...) -> LogEntries {
        let proof = Certificate(numbers.map { number in certificate(by: number).acks[0] })
        return LogEntries(Array(record.envelopes[index...]), length: record.length, certificate: proof)
    }
    func kept(by one: Int, _ other: Int) -> KeptLog {
        KeptLog(record.envelopes, certificate(by: one, other), parse: Self.parse)!
    }
    /// Signed by whoever wants, whatever the record says.
    func forged(_ entry: Entry, term: Int, by key: SigningKey) -> PBEnvelope {
        var message = PBLogEntry()
        message.index = UInt64(record.length)
        message.previous = bytesOf(record.leaf(record.length - 1).hash)
        message.term = UInt64(term)
        message.body = entry.body
        return PBEnvelope(
            message, type: .logEntry, job: record.job, epoch: UInt64(term), sequence: UInt64(record.length), by: key)
    }
}
