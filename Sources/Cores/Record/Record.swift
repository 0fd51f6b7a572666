public import Consensus
public import Digests
public import Messages
public import Primitives
public import Wire

/// The job's only truth, as one value: its log of signed entries, the fold of it, and the ledger that follows from both.
///
/// An entry is checked against the fold first and appended only if it holds, by writer and follower alike: what is refused has
/// changed nothing. Then it is *stored* (durable on this machine's disk) and *committed* (a quorum has stored it; with one elector,
/// when it has). Only committed entries are shown to others. Entries name the hash of the one before without its signature, so that
/// the chain does not depend on who signed.
public struct Record: Sendable {
    /// The version of kernels, codecs and data order that a job pins: exact match, else the same log gives other bits.
    public static let numerics = "atoll-3"
    public static let entryLimit = 1_000_000
    public typealias Parser = @Sendable (String) throws(MalformedBytes) -> JobParameters

    public let job: Digest256
    public let genesis: Genesis
    public private(set) var envelopes: [PBEnvelope]
    public private(set) var state: JobState
    public private(set) var ledger: Ledger
    /// Of the newest entry.
    public private(set) var term = 0
    /// Entries that are durable here, and that others may see: prefixes.
    public private(set) var stored = 0
    public private(set) var committed = 0
    private var hashes: [Digest256]
    /// Of each entry, as ``hashes``.
    private var terms: [Int]
    /// Over the committed entries.
    private var tree = MerkleFrontier()

    public var length: Int { envelopes.count }
    public var parameters: JobParameters { state.parameters }
    /// Who decides now.
    public var electorate: Electorate { reigns.last!.electorate }
    public var electors: [PeerID] { electorate.allVoters }
    /// Ascending.
    private(set) var reigns: [Reign]
    /// Whose machine the era began with: the launcher's, or that of whoever founded the job anew. The result goes there.
    public private(set) var founder: PeerID

    // MARK: beginning

    /// A follower's, or a restored one's, from the genesis on.
    /// - Parameters:
    ///   - peer: whose work its ledger lists one by one.
    ///   - parse: reads the manifest.
    public init(
        genesis envelope: PBEnvelope, listing peer: PeerID? = nil, parse: Parser
    ) throws(MalformedBytes) {
        ledger = Ledger(listing: peer)
        let statement = try envelope.open(.logEntry, job: nil, wall: nil, as: PBLogEntry.self)
        guard statement.body.index == 0, case .genesis(let body)? = statement.body.body else {
            throw MalformedBytes("a log begins with its genesis")
        }
        let genesis = try Genesis(body)
        guard genesis.numerics == Self.numerics else {
            throw MalformedBytes("the job needs numerics \(genesis.numerics); this build has \(Self.numerics)")
        }
        guard genesis.electors.contains(statement.signer) else {
            throw MalformedBytes("genesis is not signed by an elector")
        }
        guard let electorate = Electorate(voters: genesis.electors) else {
            throw MalformedBytes("a genesis without electors")
        }
        reigns = [Reign(from: 0, electorate: electorate, era: 0)]
        founder = genesis.electors[0]
        self.genesis = genesis
        job = Self.hash([UInt8](envelope.body))
        envelopes = [envelope]
        hashes = [job]
        terms = [0]
        state = JobState(parameters: try parse(genesis.manifest))
    }

    /// What was stored of a job, folded anew; entries after the first one that does not hold are left out.
    public static func restoring(
        _ envelopes: [PBEnvelope], parse: Parser
    ) throws(MalformedBytes) -> (record: Record, refused: MalformedBytes?) {
        guard let first = envelopes.first else { throw MalformedBytes("an empty log") }
        var record = try Record(genesis: first, parse: parse)
        var refused: MalformedBytes?
        for envelope in envelopes.dropFirst() {
            do throws(MalformedBytes) {
                guard case .appended = try record.receive(envelope) else {
                    throw MalformedBytes("entries out of order")
                }
            } catch {
                refused = error
                break
            }
        }
        record.stored(through: record.length)
        return (record, refused)
    }

    /// Makes and signs a genesis.
    public static func sign(_ genesis: Genesis, by key: SigningKey) -> PBEnvelope {
        var entry = PBLogEntry()
        entry.body = Entry.genesis(genesis).body
        return PBEnvelope(
            entry, type: .logEntry, job: Digest256([UInt8](repeating: 0, count: 32))!, epoch: 0, sequence: 0, by: key)
    }

    // MARK: writing and following

    /// Signs an entry if it holds; only an elector can. Throws what it breaks; then nothing has changed.
    public mutating func propose(
        _ entry: Entry, term: Int, by key: SigningKey
    ) throws(MalformedBytes) -> PBEnvelope {
        precondition(mayWrite(key.peerID, entry), "only electors write the log")
        _ = try check(entry, term: term, by: key.peerID)
        var message = PBLogEntry()
        message.index = UInt64(length)
        message.previous = bytesOf(hashes.last!)
        message.term = UInt64(term)
        message.body = entry.body
        // Whoever writes goes by what all others read: numbers that were rounded on their way are rounded here, too.
        let entry = try Entry(message, parameters: parameters, plans: state.planCount)
        let change = try check(entry, term: term, by: key.peerID)
        let envelope = PBEnvelope(
            message, type: .logEntry, job: job, epoch: UInt64(term), sequence: UInt64(length), by: key)
        append(envelope, change, entry, term: term)
        return envelope
    }

    private func mayWrite(_ peer: PeerID, _ entry: Entry) -> Bool {
        if electors.contains(peer) { return true }
        guard case .electors(let change) = entry, change.era != nil else { return false }
        return peer == root || change.grant != nil
    }

    /// What became of a received entry.
    public enum Acceptance: Sendable {
        case appended(Entry)
        /// Already here, byte for byte.
        case known
        /// Entries before it are missing.
        case gap(from: Int)
        /// Another entry is here at its place.
        case fork(index: Int)
    }

    public mutating func receive(_ envelope: PBEnvelope) throws(MalformedBytes) -> Acceptance {
        if envelope.sequence < UInt64(length), envelopes[Int(envelope.sequence)] == envelope { return .known }
        let statement: SignedStatement<PBLogEntry>
        if envelope.sequence == 0 {
            statement = try envelope.open(.logEntry, job: nil, wall: nil, as: PBLogEntry.self)
        } else {
            statement = try envelope.open(.logEntry, job: job, wall: nil, as: PBLogEntry.self)
        }
        // Whether it may found the job is looked at with the entry.
        let founds = statement.body.isRefounding && (statement.signer == root || parameters.recovery != nil)
        guard electors.contains(statement.signer) || founds else {
            throw MalformedBytes("log entry signed by \(statement.signer.short), who is no elector")
        }
        guard statement.body.index == envelope.sequence, statement.body.index < UInt64(Self.entryLimit) else {
            throw MalformedBytes("entry \(statement.body.index) as number \(envelope.sequence)")
        }
        let index = Int(statement.body.index)
        if index < length { return Self.hash([UInt8](envelope.body)) == hashes[index] ? .known : .fork(index: index) }
        if index > length { return .gap(from: length) }
        guard [UInt8](statement.body.previous) == hashes.last!.bytes else {
            throw MalformedBytes("entry \(index) does not follow the one before it")
        }
        let term = try number(statement.body.term, below: Bounds.counter, "term")
        guard envelope.epoch == UInt64(term) else {
            throw MalformedBytes("entry \(index) of term \(term) in an envelope of epoch \(envelope.epoch)")
        }
        let entry = try Entry(statement.body, parameters: parameters, plans: state.planCount)
        append(envelope, try check(entry, term: term, by: statement.signer), entry, term: term)
        return .appended(entry)
    }

    /// What an entry would change; throws the rule that it breaks.
    private func check(
        _ entry: Entry, term: Int, by signer: PeerID
    ) throws(MalformedBytes) -> JobState.Change {
        guard length < Self.entryLimit else { throw MalformedBytes("the log is full") }
        guard term >= self.term else { throw MalformedBytes("an entry of term \(term) after one of term \(self.term)") }
        if term == self.term, let before = PeerID(envelopes.last!.signer), before != signer {
            throw MalformedBytes(
                "entries of term \(term) by \(before.short) and by \(signer.short): one leads in a term")
        }
        try check(term: term, of: entry)
        if case .electors(let change) = entry { try check(change, by: signer) }
        return try state.check(entry)
    }
    /// The one place where an entry comes into the record: it has been checked, and cannot fail any more.
    private mutating func append(_ envelope: PBEnvelope, _ change: JobState.Change, _ entry: Entry, term: Int) {
        ledger.follow(change, before: state)
        state.apply(change)
        ledger.grant(state)
        self.term = term
        envelopes.append(envelope)
        hashes.append(Self.hash([UInt8](envelope.body)))
        terms.append(term)
        guard case .electors(let change) = entry else { return }
        reigns.append(Reign(from: length, electorate: change.electorate, era: change.era ?? era))
        if change.era != nil { founder = change.electorate.voters[0] }
    }

    /// The same, with one peer's work listed in its ledger.
    public func listing(workOf peer: PeerID) -> Record {
        if ledger.listed == peer { return self }
        var out = self
        out.ledger = Ledger(listing: peer)
        guard length > 1 else { return out }
        return out.folded(to: length)
    }
    /// The first so many entries, folded anew: what came after them was never for ever.
    public func truncated(to length: Int) -> Record {
        precondition(length >= max(1, committed), "what is committed is never taken back")
        return folded(to: length)
    }
    private func folded(to length: Int) -> Record {
        var out = self
        (out.envelopes, out.hashes, out.terms) = ([envelopes[0]], [hashes[0]], [terms[0]])
        (out.state, out.ledger) = (JobState(parameters: parameters), Ledger(listing: ledger.listed))
        (out.reigns, out.founder) = ([reigns[0]], genesis.electors[0])
        out.term = 0
        for envelope in envelopes[1..<length] {
            do throws(MalformedBytes) {
                guard let body = PBLogEntry(encoded: [UInt8](envelope.body)) else { throw MalformedBytes("no entry") }
                let entry = try Entry(body, parameters: parameters, plans: out.state.planCount)
                let change = try out.check(entry, term: Int(body.term), by: PeerID(envelope.signer)!)
                out.append(envelope, change, entry, term: Int(body.term))
            } catch {
                preconditionFailure("an entry that held does not hold any more: \(error)")
            }
        }
        out.stored = min(stored, length)
        return out
    }

    /// RFC 6962, §2.1: of a leaf.
    private static func hash(_ entry: [UInt8]) -> Digest256 { MerkleFrontier.leaf(entry) }

    // MARK: storing

    /// The disk has so many entries. With one elector that commits them.
    public mutating func stored(through length: Int) {
        stored = max(stored, min(length, self.length))
        if electors.count == 1 { commit(through: stored) }
    }
    /// A quorum has so many entries: they are for ever.
    public mutating func commit(through length: Int) {
        committed = max(committed, min(length, self.length))
        stored = max(stored, committed)
        while tree.count < committed { tree.append(hashes[tree.count]) }
    }

    /// Of an entry: its leaf in the Merkle tree, and its term.
    public func leaf(_ index: Int) -> (hash: Digest256, term: Int) { (hashes[index], terms[index]) }

    /// Of the first so many entries.
    func root(of size: Int) -> Digest256 {
        var tree = size >= self.tree.count ? self.tree : MerkleFrontier()
        while tree.count < size { tree.append(hashes[tree.count]) }
        return tree.root
    }
    /// What an elector may vouch for: the committed entries. Nil where there are none.
    public var claim: LogClaim? {
        guard committed > 0 else { return nil }
        return LogClaim(
            job: job, era: era(at: committed), term: terms[committed - 1], size: committed, root: tree.root)
    }

    /// Committed entries from an index on, as many as one message carries; nil where there are none.
    public func entries(from index: Int) -> LogEntries? {
        guard index >= 0, index < committed else { return nil }
        var out: [PBEnvelope] = []
        var bytes = 0
        for envelope in envelopes[index..<committed] {
            bytes += envelope.body.count + 200
            guard out.isEmpty || (bytes <= LogEntries.bytes && out.count < LogEntries.most) else { break }
            out.append(envelope)
        }
        return LogEntries(out, length: committed)
    }
}
