public import Consensus
public import Digests
public import Messages
public import Primitives
public import Record
public import Telemetry
public import Wire

/// Reads a job's log from whoever of the pool has it, without a part in the job. Entries and certificates prove themselves, so that it does
/// not matter who sends them.
public struct JobReader: Core, Sendable {
    public enum Effect: Sendable {
        case send(Packet, to: PeerID)
        /// An entry that holds, and is certified where several electors carry the log. The record has it.
        case entered(Entry)
        /// The log that is followed from now on is of a newer era, and parts from the one before: what was entered counts no more.
        case restarted
        case event(Event)
    }
    /// What somebody has told.
    public struct Source: Hashable, Sendable {
        public var heardAt: Instant
        /// Of its log.
        public var length = 0
        /// Until when a leader is believed in there.
        public var ledUntil: Instant
        public var term = 0
        public var heartbeat: Heartbeat?
    }
    /// Which job is meant, by its ID, its genesis, and whose key signed that.
    public typealias Choice = @Sendable (Digest256, Genesis, PeerID) -> Bool

    private let choice: Choice
    private let parse: Record.Parser
    private var desk: LogDesk?
    /// Of all that has been read, the newest era, and in it the longest.
    public private(set) var best: JobReading?
    /// Read alone for a while, from the beginning: it has said that it knows of a newer era. Once each.
    private var focus: (peer: PeerID, until: Instant)?
    private var focused: Set<PeerID> = []
    private var peers: [PeerID] = []
    public private(set) var sources: [PeerID: Source] = [:]
    private var nextAsk: Instant
    private var effects = EffectQueue<Effect>()
    static let every = Duration.seconds(1)
    /// Peers of a pool that are asked.
    static let most = 1024

    /// - Parameter own: of the job, where this machine has it: the certified log.
    public init(
        _ own: KeptLog? = nil, choosing choice: @escaping Choice, at now: Instant, parse: @escaping Record.Parser
    ) {
        self.choice = choice
        self.parse = parse
        nextAsk = now
        guard let own else { return }
        desk = LogDesk(own.record, own.certificate)
        best = JobReading(own.record, own.certificate, lease: .zero, term: own.record.term)
    }

    /// What is read now; nil before anybody has told of the job.
    public var record: Record? { desk?.record }
    /// Those who have told of the job, in order.
    public var tellers: [PeerID] { sources.keys.sorted() }
    public var nextWake: Instant? { nextAsk }
    public mutating func poll() -> Effect? { effects.pop() }

    public mutating func established(_ peer: PeerID, at now: Instant) {
        if !peers.contains(peer), peers.count < Self.most { peers.append(peer) }
        ask(peer)
    }
    public mutating func lost(_ peer: PeerID) {
        peers.removeAll { $0 == peer }
        sources[peer] = nil
    }
    public mutating func wake(at now: Instant) {
        guard nextAsk <= now else { return }
        nextAsk = now + Self.every
        for peer in peers { ask(peer) }
    }
    private mutating func ask(_ peer: PeerID) {
        effects.push(.send(Packet(job: record?.job, .readRequest(from: record?.length ?? 0)), to: peer))
    }

    /// - Returns: whether it was an answer to what is asked here.
    @discardableResult
    public mutating func receive(_ packet: Packet, from peer: PeerID, at now: Instant) -> Bool {
        guard let job = packet.job, peers.contains(peer) else { return false }
        if case .logEntries(let entries) = packet.message { return receive(entries, of: job, from: peer, at: now) }
        guard job == record?.job, sources[peer] != nil else { return false }
        switch packet.message {
        case .lease(let lease):
            sources[peer]!.ledUntil = now + lease.duration
            sources[peer]!.term = packet.term
        case .heartbeat(let heartbeat): sources[peer]!.heartbeat = heartbeat
        default: return false
        }
        return true
    }

    private mutating func receive(
        _ entries: LogEntries, of job: Digest256, from peer: PeerID, at now: Instant
    ) -> Bool {
        if desk == nil { begin(entries, job) }
        guard let before = desk?.record, before.job == job else { return false }
        if sources[peer] == nil { sources[peer] = Source(heardAt: now, ledUntil: now) }
        sources[peer]!.heardAt = now
        sources[peer]!.length = entries.length
        if let focus, focus.until > now, focus.peer != peer { return true }
        if let claim = entries.certificate?.claim, claim.era > before.era, parts(entries, claim.size) {
            restart(with: peer, at: now)
            return true
        }
        for entry in desk!.receive(entries, from: peer, isLeader: false, at: now) { effects.push(.entered(entry)) }
        while let effect = desk!.poll() {
            if case .event(let what, let teller) = effect {
                effects.push(.event(Event(what, at: now, peer: teller.short)))
            }
        }
        if !before.parameters.isCarriedByMany { desk!.seen() }
        let read = JobReading(desk!.record, desk!.proof, lease: .zero, term: desk!.record.term)
        if best?.isBehind(read) ?? true { best = read }
        // There is more where this came from.
        if let length = record?.length, length > before.length, length < entries.length { ask(peer) }
        return true
    }
    /// Whether somebody of a newer era has another log than the one here from some entry on: that era began with fewer entries than are here.
    private func parts(_ entries: LogEntries, _ certified: Int) -> Bool {
        guard var trial = record else { return false }
        if certified <= trial.length { return true }
        guard let first = entries.entries.first, first.sequence == UInt64(trial.length) else { return false }
        return (try? trial.receive(first)) == nil
    }
    /// What is read already stays known: perhaps it is not true what that peer says.
    private mutating func restart(with peer: PeerID, at now: Instant) {
        guard focused.insert(peer).inserted, let before = record,
            let first = try? Record(genesis: before.envelopes[0], parse: parse)
        else { return }
        focus = (peer, now + .seconds(10))
        desk = LogDesk(first)
        effects.push(.restarted)
        ask(peer)
    }

    private mutating func begin(_ entries: LogEntries, _ job: Digest256) {
        guard let first = entries.entries.first, let root = PeerID(first.signer),
            let record = try? Record(genesis: first, parse: parse), record.job == job,
            choice(job, record.genesis, root)
        else { return }
        desk = LogDesk(record)
    }
}
