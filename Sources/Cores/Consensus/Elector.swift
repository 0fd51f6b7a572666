public import Primitives

/// One elector's part in agreeing on a log: nobody's machine is indispensable to it.
///
/// Raft (Ongaro & Ousterhout 2014) with a question before every election that looks at the log, loyalty to a leader that was just heard, a
/// leader that steps down when no quorum answers, joint changes of the electorate, learners, and handing over. Unlike the paper: the disk
/// answers when it has, and nothing but heartbeats goes out before what it rests on is durable; a leader whose disk is slow hands over;
/// a new leader's first entry is its owner's to make (``Effect/leads(term:)``), because entries are signed; entries' bytes are not looked at.
/// There are no snapshots: a job's log stays whole. What may go wrong and what then happens is in `docs/ELECTORS.md`.
public struct Elector: Core, Sendable {
    public enum Effect: Hashable, Sendable {
        case send(ElectorMessage, to: PeerID)
        /// Make durable and answer with ``Elector/stored(_:at:)``, in order.
        case store(ElectorWrite)
        /// This elector leads. Its owner proposes an entry of this term now: until that is committed, nothing older is.
        case leads(term: Int)
        /// Another leads, or nobody that is known.
        case follows(PeerID?, term: Int)
        /// Entries from this index on are new, or others than before. They count when they are committed.
        case received(from: Int)
        /// The first so many entries are for ever.
        case committed(Int)
        /// The change of voters is committed: the leader's owner proposes an entry with this electorate.
        case mayFinish(Electorate)
        /// Somebody who is to become a voter has all that is committed (``Elector/prepare(_:at:)``).
        case caughtUp(PeerID)
        /// A follower has lost what it had said to be on its disk: as this elector it is of no use any more.
        case hasLost(PeerID)
    }
    public struct Options: Hashable, Sendable {
        public var heartbeat: Duration = .milliseconds(500)
        /// A leader that was heard within this time is the leader; and it steps down when no quorum answers for so long.
        public var loyalty: Duration = .seconds(3)
        /// Elections begin this long after the leader was heard, drawn anew each time.
        public var patience: ClosedRange<Duration> = .seconds(3) ... .seconds(6)
        /// And again this long after one that nobody has won.
        public var pause: ClosedRange<Duration> = .seconds(1) ... .seconds(3)
        /// Whoever may not lead stands so much later, to bring the log to one that may.
        public var caretaking: Duration = .seconds(20)
        /// A leader whose disk takes longer hands over, and nobody with such a disk stands for election.
        public var diskPatience: Duration = .seconds(1)
        /// A follower that lacks for so long what it has acknowledged has lost it.
        public var lossPatience: Duration = .seconds(5)
        public var messageBytes = 256 << 10
        public var messageEntries = 256
        /// Entries on their way to one follower.
        public var windowBytes = 1 << 20
        /// Entries that are not committed.
        public var backlogEntries = 4096
        public var backlogBytes = 64 << 20
        public init() {}
    }
    public enum ProposalRefusal: Error, Hashable, Sendable {
        case notLeading(PeerID?)
        case handingOver
        /// So many entries wait to be committed.
        case backlog(Int)
        case tooLong(Int)
        case electorate(String)
    }
    /// What was not acted on.
    public struct Counts: Hashable, Sendable {
        /// Of whoever is no elector as far as is known here.
        public var strangers = 0
        public var unsound = 0
        /// What no honest elector can have said: two leaders of a term, or a leader without a committed entry.
        public var contradictions = 0
    }
    enum Role: Sendable {
        case follower(PeerID?)
        /// Asking whether an election makes sense.
        case canvassing([PeerID])
        /// - ballot: the write with the vote for itself, once there is one.
        case candidate([PeerID], ballot: Int?)
        case leader(Leadership)
    }
    /// What a follower knows of its leader.
    struct Following: Sendable {
        var heard: Instant?
        /// The first so many entries are those of the leader of this term.
        var verified = 0
        /// What it was told to be durable here.
        var acknowledged = 0
        /// It sent entries, and waits for an answer.
        var isAsked = false
        /// What leaders have said to be committed.
        var committed = 0
    }
    /// What this input has changed and the disk has not been asked for, and what may be said only after that.
    struct Pending: Sendable {
        var vote = false
        var from: Int?
        var messages: [(ElectorMessage, PeerID)] = []
    }

    public let me: PeerID
    public let options: Options
    public internal(set) var term: Int
    var vote: PeerID?
    var log: ReplicatedLog
    var disk: WriteQueue
    var role = Role.follower(nil)
    var following = Following()
    /// The first so many entries are for ever, and durable here.
    public internal(set) var committed: Int
    var pending = Pending()
    /// Said when the disk has answered so far.
    var held: [(ticket: Int, message: ElectorMessage, to: PeerID)] = []
    /// The write that this term is on disk with.
    var termTicket = 0
    var electionAt: Instant
    /// Whether it may lead: an elector that lacks what a leader needs beside the log votes and follows, and stands only to hand over.
    public private(set) var stands = true
    /// Nothing is known here of what an earlier process may have acknowledged: it votes for nobody before it has all that its leader says to
    /// be committed.
    var isBlank: Bool
    /// Peers that may be electors though the log here does not say so yet.
    var admitted: [PeerID] = []
    public internal(set) var counts = Counts()
    var generator: SeededGenerator
    var effects = EffectQueue<Effect>()
    var now: Instant

    /// - Parameters:
    ///   - electorate: before any entry.
    ///   - memory: what an earlier process has made durable.
    ///   - committed: entries that are known to be for ever, by a certificate.
    ///   - isBlank: it is one of several voters, and perhaps an earlier process on a disk that is lost was it, too.
    public init(
        _ me: PeerID, _ electorate: Electorate, memory: ElectorMemory = ElectorMemory(), committed: Int = 0,
        isBlank: Bool = false, options: Options = Options(), seed: UInt64, at now: Instant
    ) {
        precondition(committed <= memory.entries.count, "more entries are committed than there are")
        self.me = me
        self.options = options
        self.now = now
        self.isBlank = isBlank
        term = memory.term
        vote = memory.vote
        log = ReplicatedLog(electorate)
        for entry in memory.entries { log.append(entry) }
        disk = WriteQueue(durable: log.count)
        self.committed = committed
        following.committed = committed
        generator = SeededGenerator(seed: seed)
        electionAt = now
        // Alone, there is nobody to wait for.
        if log.electorate.allVoters != [me] { drawElection() }
    }

    // MARK: what is so

    public var leader: PeerID? {
        switch role {
        case .follower(let leader): leader
        case .leader(let leadership): leadership.isCaretaker ? nil : me
        case .canvassing, .candidate: nil
        }
    }
    public var isLeading: Bool { leadership != nil }
    /// When the leader that is followed was heard last; nil where none is.
    public var leaderHeard: Instant? { following.heard }
    /// Whether the first entry of its term is committed: what a leader then knows to be committed is all there is.
    public var isEstablished: Bool { isLeading && log.term(at: committed) == term }
    public var electorate: Electorate { log.electorate }
    public var entries: [ReplicatedEntry] { log.entries }
    /// Entries that are durable here.
    public var durable: Int { disk.durable }
    /// What a follower is known to have on disk, of how much; nil where this elector does not lead it.
    public func progress(of peer: PeerID) -> (stored: Int, of: Int)? {
        leadership?.followers[peer].map { ($0.match, log.count) }
    }

    /// How far a signature may vouch for the log: entries that are durable here and those of this term's leader, the last of this term.
    ///
    /// Only then does a quorum of such signatures mean that they are for ever (§5.4.2: an older term's entry that a majority has may still be
    /// replaced).
    public var vouchable: LogEnd? {
        guard termIsDurable else { return nil }
        let count = isLeading ? disk.durable : min(following.verified, disk.durable)
        return count > 0 && log.term(at: count) == term ? log.end(at: count) : nil
    }

    /// A voter, or one until an entry is committed: perhaps nobody else has that entry, and none without it can be elected.
    var mayStand: Bool { stands && !isBlank && log.hasVoter(me, from: committed) }
    /// When it stands next, while nobody leads. Whoever may not lead does so after a while all the same: perhaps those who may lack entries
    /// that only it has, and nobody but a leader would bring them.
    private var standsAt: Instant? {
        guard !isBlank, log.hasVoter(me, from: committed) else { return nil }
        guard !stands else { return electionAt }
        return log.electorate.allVoters == [me] ? nil : electionAt + options.caretaking
    }
    var termIsDurable: Bool { disk.stored >= termTicket && !pending.vote }
    var leadership: Leadership? {
        get { if case .leader(let leadership) = role { leadership } else { nil } }
        set { if let newValue { role = .leader(newValue) } }
    }
    /// It leads, or has just heard who does.
    var isLoyal: Bool {
        switch role {
        case .leader: true
        case .follower(.some): following.heard.map { now < $0 + options.loyalty } ?? false
        case .follower, .canvassing, .candidate: false
        }
    }
    var isDiskSlow: Bool { disk.oldest.map { $0 + options.diskPatience <= now } ?? false }

    // MARK: inputs

    /// Somebody who has proved to be an elector though the log here does not name it yet: a newer part of the log does.
    public mutating func admit(_ peer: PeerID) {
        guard !admitted.contains(peer) else { return }
        admitted.append(peer)
        if admitted.count > Electorate.mostVoters + Electorate.mostLearners { admitted.removeFirst() }
    }

    /// From now on it may lead, or not. What it leads, it goes on leading.
    public mutating func stand(_ stands: Bool, at now: Instant) {
        guard stands != self.stands else { return }
        self.now = now
        self.stands = stands
        if stands, leadership?.isCaretaker == true { stepDown() }
        if stands, !isLeading, log.electorate.allVoters != [me] { drawElection() }
    }

    public mutating func receive(_ message: ElectorMessage, from peer: PeerID, at now: Instant) {
        self.now = now
        guard message.isSound else {
            counts.unsound += 1
            return
        }
        guard peer != me, log.names(peer, from: committed) || admitted.contains(peer) || isReport(message, by: peer)
        else {
            counts.strangers += 1
            return
        }
        if heed(message, from: peer) { act(on: message, from: peer) }
        settle()
    }

    /// Whoever is to become a voter says what it has, or that it knows a newer term, and nothing else.
    private func isReport(_ message: ElectorMessage, by peer: PeerID) -> Bool {
        guard leadership?.prepared.contains(peer) == true else { return false }
        switch message.body {
        case .appended, .refused, .beaten: return message.term <= term
        case .outdated: return true
        default: return false
        }
    }

    /// The disk has answered an ``Effect/store(_:)``, and all before it.
    public mutating func stored(_ ticket: Int, at now: Instant) {
        self.now = now
        disk.answered(ticket)
        settle()
    }

    public mutating func wake(at now: Instant) {
        self.now = now
        if isLeading {
            wakeLeader()
        } else if let due = standsAt, due <= now {
            drawElection(options.pause)
            // Whoever could not store a vote for a second is no leader.
            if !isDiskSlow { canvass() }
        }
        settle()
    }

    public mutating func poll() -> Effect? { effects.pop() }

    public var nextWake: Instant? {
        guard let leadership else { return standsAt }
        var next = earliest(leadership.nextBeat, quorumUntil(leadership))
        next = earliest(next, leadership.handOver?.until)
        if let oldest = disk.oldest, leadership.handOver == nil {
            // What is overdue is looked at with every beat.
            let due = oldest + options.diskPatience
            if due > now { next = earliest(next, due) }
        }
        return next
    }

    /// It leads no more, though nothing is wrong: whoever is elected next, perhaps it itself, leads in a newer term.
    public mutating func resign(at now: Instant) {
        guard isLeading else { return }
        self.now = now
        stepDown()
        settle()
    }

    // MARK: terms

    /// Whose term counts. False: there is nothing to act on.
    private mutating func heed(_ message: ElectorMessage, from peer: PeerID) -> Bool {
        if message.term > term {
            switch message.body {
            case .canvass, .canvassed(true): break
            case .vote(_, byRequest: false) where isLoyal: return false
            default: adopt(message.term)
            }
            return true
        }
        guard message.term < term else { return true }
        switch message.body {
        case .canvass: send(.canvassed(false), to: peer)
        case .vote: send(.voted(false), to: peer)
        case .append, .beat: send(.outdated, to: peer)
        default: break
        }
        return false
    }

    private mutating func act(on message: ElectorMessage, from peer: PeerID) {
        switch message.body {
        case .canvass(let end): answer(canvass: end, term: message.term, from: peer)
        case .canvassed(let isGranted): if isGranted { canvassed(message.term, by: peer) }
        case .vote(let end, _): answer(vote: end, from: peer)
        case .voted(let isGranted): if isGranted { voted(by: peer) }
        case .append(let after, let entries, let committed):
            if follow(peer) { append(after: after, entries, committed: committed, from: peer) }
        case .beat(let committed):
            if follow(peer) { beat(committed: committed, from: peer) }
        case .takeOver: if leader == peer, mayStand { campaign(byRequest: true) }
        case .appended, .refused, .beaten: report(message.body, from: peer)
        case .outdated: break
        }
    }

    mutating func adopt(_ newer: Int) {
        term = newer
        vote = nil
        pending.vote = true
        stepDown()
    }
    /// Nobody leads in this term as far as is known here.
    mutating func stepDown() {
        let wasLeading = isLeading
        role = .follower(nil)
        following = Following(committed: following.committed)
        if wasLeading { drawElection() }
        effects.push(.follows(nil, term: term))
    }
    /// The peer leads in this term: it is heard.
    private mutating func follow(_ peer: PeerID) -> Bool {
        switch role {
        case .leader:
            counts.contradictions += 1
            return false
        case .follower(let leader?) where leader != peer:
            counts.contradictions += 1
            return false
        case .follower(.some): break
        case .follower, .canvassing, .candidate:
            role = .follower(peer)
            following = Following(committed: following.committed)
            effects.push(.follows(peer, term: term))
        }
        following.heard = now
        drawElection()
        return true
    }
    mutating func drawElection() { drawElection(options.patience) }
    mutating func drawElection(_ range: ClosedRange<Duration>) {
        let spread = (range.upperBound - range.lowerBound).wholeNanoseconds
        electionAt = now + range.lowerBound + .nanoseconds(spread > 0 ? Int64(generator.below(Int(spread))) : 0)
    }

    // MARK: saying

    /// At once.
    mutating func send(_ body: ElectorMessage.Body, term: Int? = nil, to peer: PeerID) {
        effects.push(.send(ElectorMessage(term: term ?? self.term, body), to: peer))
    }
    /// When what this input has changed is durable.
    mutating func sendWhenStored(_ body: ElectorMessage.Body, to peer: PeerID) {
        pending.messages.append((ElectorMessage(term: term, body), peer))
    }

    // MARK: one place to settle

    /// After every input: the disk is asked, what waited for it is said, and what follows for commitment is drawn.
    mutating func settle() {
        store()
        while let first = held.first, first.ticket <= disk.stored {
            held.removeFirst()
            effects.push(.send(first.message, to: first.to))
        }
        if case .candidate(let granted, let ballot?) = role, ballot <= disk.stored, !granted.contains(me) {
            voted(by: me)
            store()
        }
        if isLeading { settleLeader() } else { settleFollower() }
    }

    private mutating func store() {
        if pending.vote || pending.from != nil {
            let change = pending.from.map { ElectorWrite.Change(from: $0, entries: Array(log.entries[$0...])) }
            let ticket = disk.issue(count: change == nil ? nil : log.count, at: now)
            if pending.vote { termTicket = ticket }
            if case .candidate(let granted, nil) = role { role = .candidate(granted, ballot: ticket) }
            effects.push(.store(ElectorWrite(ticket: ticket, term: term, vote: vote, change: change)))
        }
        for (message, peer) in pending.messages { held.append((disk.issued, message, peer)) }
        pending = Pending()
    }

    mutating func commit(_ count: Int) {
        guard count > committed else { return }
        committed = count
        effects.push(.committed(count))
    }
}
