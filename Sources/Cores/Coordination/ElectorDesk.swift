public import Consensus
public import Digests
public import Messages
public import Primitives
public import Record
public import Telemetry
public import Training
public import Wire

/// One elector's part in carrying a job's record: what its ``Elector`` agrees on with the others, folded, signed for, and on disk.
///
/// It is a service of a daemon, beside member and coordinator. When its elector leads, it says ``Effect/lead(term:)``: the daemon then runs a
/// ``Coordinator`` from the record as it is here, and drops it when this says ``Effect/standBy``. What that coordinator decides comes in by
/// ``carry(_:at:now:)``, and is answered by ``Effect/committed(_:)`` when a quorum has it on disk.
public struct ElectorDesk: Core, Sendable {
    public enum Effect: Sendable {
        case send(Packet, to: PeerID)
        /// Write, and answer with ``ElectorDesk/stored(_:_:at:)``, in order.
        case store(StorageRequest)
        case event(Event)
        /// A coordinator of this term is to run here (``ElectorDesk/coordinator(content:at:)``).
        case lead(term: Int)
        /// Whoever led here leads no more.
        case standBy
        /// For the coordinator: the first so many entries are for ever.
        case committed(Int)
        /// For the coordinator: a quorum has signed for so many.
        case certified(Certificate)
        /// For the coordinator: not now.
        case refused(index: Int, why: String, isPassing: Bool)
        /// For the coordinator: who is to become an elector has the log.
        case caughtUp(PeerID)
        /// For the coordinator: this elector is none any more.
        case unfit(PeerID, Unfitness)
        /// The job is over, and another has led it to its end; with its result, where that is on this disk.
        case over(Finish, result: [UnitState]?)
    }
    /// Why an elector loses its seat though it is there.
    public enum Unfitness: Sendable {
        /// That is proven by its own signatures.
        case hasLied
        /// What it had acknowledged.
        case hasLostItsDisk
    }
    /// What a leader needs beside the record.
    public struct Provisions: Sendable {
        /// The job's text; nil where the daemon's member has it, or will.
        public var content: StoredBytes?
        public var initial: [UnitState]
        /// The newest checkpoint on disk here.
        public var checkpoint: (round: Int, states: [UnitState])?
        public var options: CoordinatorOptions
        public var wall: WallClock
        public init(
            content: StoredBytes? = nil, initial: [UnitState] = [],
            checkpoint: (round: Int, states: [UnitState])? = nil,
            options: CoordinatorOptions = CoordinatorOptions(), wall: WallClock
        ) {
            self.content = content
            self.initial = initial
            self.checkpoint = checkpoint
            self.options = options
            self.wall = wall
        }
    }
    /// Signatures under the log.
    struct Signing: Sendable {
        var acks: AckCollector
        /// Over the entries up to what was signed last.
        var tree = MerkleFrontier()
        var vouched: LogEnd?
        /// What was signed last, and when it was last said.
        var own: (ack: Ack, saidAt: Instant)?
        /// The newest certificates, ascending: a log that is behind has not all entries of the last.
        var recent: [Certificate] = []
        static let mostRecent = 8
        /// How much has a certificate on disk, and when one is stored next.
        var certified: (size: Int, next: Instant)
        /// What electors are known to have lied about, not on disk yet.
        var unstored: [Contradiction] = []
        /// Who is convicted of a lie.
        var liars: Set<PeerID> = []
    }

    let key: SigningKey
    var elector: Elector
    /// All entries that are here, committed or not.
    public internal(set) var record: Record
    let provisions: Provisions
    var signing: Signing
    var writing: EntryWriter
    /// Counted by the coordinator here since its last entry: they go with the next one.
    var uncarried: [PBEnvelope] = []
    var receipts: ReceiptShelf
    /// Whether there is what a leader needs beside the record.
    private var stands = true
    /// The term in which a coordinator runs here.
    public private(set) var leading: Int?
    private var told: (leader: PeerID?, term: Int) = (nil, 0)
    /// So many entries the coordinator here has been told to be for ever.
    private var shown = 0
    private var endedAt: Instant?
    /// When somebody was followed here last, or led.
    private var ledAt: Instant
    var effects = EffectQueue<Effect>()
    var now: Instant

    /// How long the electors of a job that is over answer whoever was away.
    static let keep = Duration.seconds(3600)

    /// An elector that begins with nothing but the genesis: the launcher's at first, and whoever is made one.
    /// - Parameter isBlank: an earlier process on a disk that is lost may have been this elector, too.
    public init(
        genesis: PBEnvelope, key: SigningKey, provisions: Provisions, isBlank: Bool = false, at now: Instant,
        parse: Record.Parser
    ) throws(MalformedBytes) {
        self.init(
            try Record(genesis: genesis, parse: parse), [], nil, key, provisions, isOnDisk: false, isBlank: isBlank,
            at: now)
    }
    /// What an earlier process has made durable.
    public init(
        restoring remains: JobRemains, ballot: Ballot?, key: SigningKey, provisions: Provisions, at now: Instant,
        parse: Record.Parser
    ) throws(MalformedBytes) {
        let (record, refused) = try Record.restoring(remains.log, parse: parse)
        self.init(record, remains.receipts, ballot, key, provisions, isOnDisk: true, at: now)
        if let refused { event(.logEntryRefused(why: refused.description)) }
    }
    /// A launcher's: the job begins with it.
    public init(
        founding manifest: String, content: StoredBytes, nonce: [UInt8], key: SigningKey, provisions: Provisions,
        at now: Instant, parse: Record.Parser
    ) throws(MalformedBytes) {
        var provisions = provisions
        provisions.content = content
        guard let index = ContentIndex(of: content) else { throw MalformedBytes("the text cannot be read any more") }
        let genesis = Genesis(
            manifest: manifest, electors: [key.peerID], content: index.id,
            contentBytes: content.count, nonce: nonce, lease: provisions.options.lease,
            silence: provisions.options.silence)
        try self.init(genesis: Record.sign(genesis, by: key), key: key, provisions: provisions, at: now, parse: parse)
    }
    private init(
        _ record: Record, _ receipts: [PBEnvelope], _ ballot: Ballot?, _ key: SigningKey, _ provisions: Provisions,
        isOnDisk: Bool, isBlank: Bool = false, at now: Instant
    ) {
        self.key = key
        self.now = now
        ledAt = now
        self.provisions = provisions
        self.record = record
        // The genesis is the job itself.
        self.record.commit(through: 1)
        writing = EntryWriter(
            job: record.job, genesis: record.envelopes[0], entries: isOnDisk ? record.length : 0, receipts: receipts)
        signing = Signing(acks: AckCollector(job: record.job), certified: (0, now))
        self.receipts = ReceiptShelf(job: record.job)
        for envelope in receipts { self.receipts.add(envelope) }
        let term = max(ballot?.term ?? 0, record.term)
        let memory = ElectorMemory(
            term: term, vote: ballot?.term == term ? ballot?.vote : nil,
            entries: EntryWriter.carried(record, receipts))
        let seed = key.peerID.bytes.prefix(8).reduce(UInt64(now.nanoseconds & 0xffff_ffff)) { $0 << 8 ^ UInt64($1) }
        elector = Elector(
            key.peerID, Electorate(voters: record.genesis.electors)!, memory: memory,
            committed: self.record.committed, isBlank: isBlank, seed: seed, at: now)
        // One batch of them is opened here, where nothing is led yet.
        self.receipts.openSome()
        elector.stand(self.receipts.isOpen, at: now)
        settle()
    }

    public var job: Digest256 { record.job }
    public var electorate: Electorate { elector.electorate }
    /// Whether it carries the record, too, or is about to.
    public func isElector(_ peer: PeerID) -> Bool { elector.electorate.contains(peer) }
    public var leader: PeerID? { elector.leader }
    public var term: Int { elector.term }
    /// Nobody else decides with it.
    public var isAlone: Bool { elector.electorate.allVoters == [key.peerID] }
    /// The newest quorum of signatures that is known here.
    public var certificate: Certificate? { signing.acks.newest }
    /// So many entries are certified, as far as is known here.
    public var certified: Int { certificate?.claim.size ?? 0 }
    /// So many entries are agreed on, as far as is known here: what a quorum has signed for is, though no leader has said so yet.
    public var agreed: Int { max(record.committed, min(certified, record.length)) }
    /// The job is over, and nobody who was away needs to be told any more.
    public var isRetired: Bool { endedAt.map { $0 + Self.keep <= now } ?? false }
    public var isOver: Bool { endedAt != nil }
    /// No leader was heard here for ten of its heartbeats, and the job is not over: of whoever has no seat, nobody wants anything any more.
    public func isForsaken(at now: Instant) -> Bool { endedAt == nil && now - ledAt >= .seconds(5) }

    public mutating func poll() -> Effect? { effects.pop() }

    mutating func event(_ what: Happening, peer: PeerID? = nil) {
        effects.push(.event(Event(what, at: now, peer: peer.map { record.state.name(of: $0) } ?? "")))
    }

    // MARK: inputs

    /// - Parameter isElector: whether whoever says it is an elector as far as this daemon's member knows.
    public mutating func receive(_ message: ElectionMessage, from peer: PeerID, isElector: Bool, at now: Instant) {
        self.now = now
        if isElector { elector.admit(peer) }
        switch message {
        case .consensus(let message): elector.receive(message, from: peer, at: now)
        case .ack(let claim, let signature):
            add(Ack(claim, signer: peer, signature: signature))
            answer(claim, of: peer)
        }
        settle()
    }

    /// Whether what a leader needs beside the record is here: the text.
    public mutating func stand(_ stands: Bool, at now: Instant) {
        self.stands = stands || provisions.content != nil
        guard mayStand != elector.stands else { return }
        self.now = now
        elector.stand(mayStand, at: now)
        settle()
    }
    private var mayStand: Bool { stands && receipts.isOpen }

    /// A quorum's signatures that somebody has shown: each is an ack, and may contradict another of the same elector.
    public mutating func heed(_ certificate: Certificate, at now: Instant) {
        guard certificate.claim.job == job, certificate != self.certificate else { return }
        self.now = now
        for ack in certificate.acks { add(ack) }
        settle()
    }

    /// An entry that the coordinator here has made.
    public mutating func carry(_ envelope: PBEnvelope, at index: Int, now: Instant) {
        self.now = now
        // What is on its way need not be said again.
        guard leading != nil, index >= record.length else { return }
        if let (why, isPassing) = propose(envelope, at: index) {
            effects.push(.refused(index: index, why: why, isPassing: isPassing))
        } else {
            uncarried = []
        }
        settle()
    }
    /// Folded first: the electors are asked only for what holds.
    /// - Returns: why not, and whether that is over in a moment, and no failure.
    private mutating func propose(_ envelope: PBEnvelope, at index: Int) -> (why: String, isPassing: Bool)? {
        guard index == record.length else { return ("entries before it are missing", false) }
        do throws(MalformedBytes) {
            guard case .appended = try record.receive(envelope) else { return ("another entry is at its place", false) }
        } catch {
            return (error.description, false)
        }
        let entry = CarriedEntry(envelope, receipts: uncarried)
        do {
            try elector.propose(entry.encoded, electorate: entry.electorate, at: now)
            return nil
        } catch {
            record = record.truncated(to: index)
            return error.inWords
        }
    }
    /// A receipt that the coordinator here has counted.
    public mutating func carry(receipt: PBEnvelope) {
        uncarried.append(receipt)
        receipts.add(receipt, isCounted: true)
    }

    /// What became of an ``Effect/store(_:)``.
    public mutating func stored(_ ticket: StorageTicket, _ outcome: StorageOutcome, at now: Instant) {
        self.now = now
        if case .certificate = ticket {
            if case .failed = outcome { signing.certified.size = 0 }
            return
        }
        if case .contradiction(_, let size) = ticket {
            if case .failed(let why) = outcome {
                event(.storageFailed(what: ticket.what, why: why))
            } else {
                signing.unstored.removeAll { $0.size == size }
            }
            return
        }
        // What was in the log's place is away, or could not be put away: the batch tells.
        if case .logSetAside = ticket { return }
        switch writing.answered(ticket, outcome, at: now) {
        case .waiting: return
        case .conflict(let why, let first):
            event(.storageFailed(what: ticket.what, why: "\(why): the file is put aside"))
            effects.push(.store(.setLogAside(job: job, from: first)))
        case .failed(let why, let isNews):
            if isNews { event(.storageFailed(what: ticket.what, why: why)) }
        case .durable(let through, let hadFailed):
            if hadFailed { event(.storageRecovered(what: ticket.what)) }
            elector.stored(through, at: now)
        }
        settle()
    }

    /// Somebody else shall lead: this daemon stops, or the launcher is there to collect the result.
    @discardableResult
    public mutating func handOver(to peer: PeerID? = nil, at now: Instant) -> Bool {
        self.now = now
        defer { settle() }
        return elector.handOver(to: peer, at: now)
    }

    /// Who is to become an elector gets the log before.
    public mutating func prepare(_ peers: [PeerID], at now: Instant) {
        self.now = now
        elector.prepare(peers, at: now)
        settle()
    }

    /// Whoever led here has given up, and the job is not over: another tries, or this one anew, in a newer term.
    public mutating func resign(at now: Instant) {
        self.now = now
        elector.resign(at: now)
        settle()
    }

    public mutating func wake(at now: Instant) {
        self.now = now
        receipts.openSome()
        if mayStand != elector.stands { elector.stand(mayStand, at: now) }
        elector.wake(at: now)
        sayAgain()
        settle()
    }
    public var nextWake: Instant? {
        var next = earliest(earliest(elector.nextWake, writing.retryAt), ackDue)
        if !receipts.isOpen { next = earliest(next, now + ReceiptShelf.pause) }
        if let newest = certificate, newest.claim.size > signing.certified.size {
            next = earliest(next, signing.certified.next)
        }
        return next
    }

    // MARK: one place to settle

    mutating func settle() {
        while let effect = elector.poll() { perform(effect) }
        ledAt = elector.isLeading ? now : max(ledAt, elector.leaderHeard ?? ledAt)
        vouch()
        storeCertificate()
        let isWhole = record.length == elector.entries.count
        for request in writing.issue(isWhole: isWhole, at: now) { effects.push(.store(request)) }
    }

    private mutating func perform(_ effect: Elector.Effect) {
        switch effect {
        case .send(let message, let peer): send(.consensus(message), to: peer)
        case .store(let write): writing.add(write)
        case .leads(let term):
            leading = term
            shown = 0
            // A coordinator before, perhaps here, has counted them, and no seal rests on them yet: nobody else may have them.
            uncarried = receipts.envelopes(since: record.state.round)
            effects.push(.lead(term: term))
        case .follows(let peer, let term): follows(peer, term: term)
        case .received(let from): received(from: from)
        case .committed(let count): commit(count)
        case .caughtUp(let peer): effects.push(.caughtUp(peer))
        case .hasLost(let peer): if leading != nil { effects.push(.unfit(peer, .hasLostItsDisk)) }
        // The coordinator sees it in the record.
        case .mayFinish: break
        }
    }
    mutating func send(_ message: ElectionMessage, to peer: PeerID) {
        effects.push(.send(Packet(job: job, .election(message)), to: peer))
    }

    private mutating func follows(_ peer: PeerID?, term: Int) {
        if leading != nil {
            leading = nil
            uncarried = []
            effects.push(.standBy)
        }
        guard let peer, told.leader != peer || told.term != term else { return }
        told = (peer, term)
        event(.leaderChanged(term: term), peer: peer)
    }

    /// The leader's entries from an index on are others now. What does not hold is not folded, so that nothing of it is stored or signed.
    private mutating func received(from first: Int) {
        if first < record.length {
            record = record.truncated(to: first)
            if signing.tree.count > first { signing.tree = MerkleFrontier() }
        }
        for entry in elector.entries[record.length...] {
            do throws(MalformedBytes) {
                let carried = try CarriedEntry(encoded: entry.body)
                guard case .appended = try record.receive(carried.envelope) else {
                    throw MalformedBytes("entries out of order")
                }
                for receipt in carried.receipts { receipts.add(receipt) }
            } catch {
                return event(.logEntryRefused(why: error.description), peer: leader)
            }
        }
    }
    private mutating func commit(_ count: Int) {
        let before = record.committed
        record.commit(through: count)
        if leading == nil { tell(from: before) }
        show()
        guard endedAt == nil, let finish = record.state.finished, record.committed == record.length else { return }
        endedAt = now
        if leading == nil { effects.push(.over(finish, result: result(finish))) }
    }
    /// What the leader shows is committed, and certified.
    mutating func show() {
        let count = min(record.committed, certified)
        guard leading != nil, count > shown else { return }
        shown = count
        effects.push(.committed(count))
    }
    /// What an earlier process here has collected.
    private func result(_ finish: Finish) -> [UnitState]? {
        guard let (_, states) = provisions.checkpoint, let weights = finish.weights else { return nil }
        return weightsDigest(of: states) == weights ? states : nil
    }
    /// Whoever only carries the record still says how far the job is.
    private mutating func tell(from before: Int) {
        guard let seal = record.state.seals.last, record.committed > before,
            PBLogEntry(encoded: [UInt8](record.envelopes[record.committed - 1].body))?.body?.isSeal == true
        else { return }
        event(.recordCarried(round: seal.round, tokens: seal.tokens, trainLoss: seal.trainLoss), peer: leader)
    }

    // MARK: leading

    /// The leader of the term in which the elector leads. Of a job that is over, for whoever reads its books.
    /// - Parameter content: the job's text, where the provisions have it not.
    public func coordinator(content: StoredBytes, at now: Instant) -> Coordinator {
        // What came with the last entries; none is left of those before.
        var shelf = receipts
        shelf.openAll()
        return Coordinator(
            takingOver: record, shelf, content: provisions.content ?? content, provisions, key: key,
            term: leading ?? elector.term, liars: signing.liars, at: now)
    }
}

extension Elector.ProposalRefusal {
    /// For people: why an entry has to wait, and whether that is over in a moment.
    fileprivate var inWords: (why: String, isPassing: Bool) {
        switch self {
        case .notLeading: ("another elector leads", true)
        case .handingOver: ("this machine is handing the lead over", true)
        case .backlog(let count): ("\(count) entries wait for other electors already", false)
        case .tooLong(let bytes): ("an entry of \(bytes) bytes is too long", false)
        case .electorate(let why): (why, false)
        }
    }
}

extension PBLogEntry.OneOf_Body {
    var isSeal: Bool { if case .seal = self { true } else { false } }
}
