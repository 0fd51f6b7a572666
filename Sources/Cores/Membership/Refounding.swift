public import Consensus
public import Digests
public import Messages
public import Primitives
public import Record
public import Telemetry
public import Wire

/// A job whose majority of electors is lost for good is founded anew by whoever has its root key, or what its recovery keys have signed.
///
/// ```
///  reading ──nobody new tells more, and nobody is led──▶ storing ──all is on disk──▶ founded
///     └──at the limit: nobody tells, or somebody leads──▶ failed        └──the disk fails──▶ failed
/// ```
/// It reads the longest certified log that there is, among whoever can be reached and on this disk, and signs one entry after it: a new era,
/// with this machine as its elector, which then chooses others as at the job's beginning. Nothing that anybody has acted on is taken back, unless it is
/// known only where nobody can be reached; who knows of it refuses the new era.
public struct Refounding: Core, Sendable {
    public enum Effect: Sendable {
        case send(Packet, to: PeerID)
        /// Write, and answer with ``Refounding/stored(_:_:at:)``, in order.
        case store(StorageRequest)
        case event(Event)
        /// The job goes on with this log, which is on disk.
        case founded([PBEnvelope])
        /// Why not, for people.
        case failed(String)
    }
    /// What this machine has.
    public struct Own: Sendable {
        public var key: SigningKey
        /// As `atoll launch` would launch the job.
        public var manifest: String
        public var content: Digest256
        /// Of the job, as it is on this disk, and its certificate.
        public var log: [PBEnvelope]
        public var certificate: Certificate?
        /// What recovery keys have signed, in the place of the root key.
        public var grant: RecoveryGrant?
        public init(
            key: SigningKey, manifest: String, content: Digest256, log: [PBEnvelope] = [],
            certificate: Certificate? = nil, grant: RecoveryGrant? = nil
        ) {
            self.key = key
            self.manifest = manifest
            self.content = content
            self.log = log
            self.certificate = certificate
            self.grant = grant
        }
    }
    private enum Stage: Sendable {
        case reading(until: Instant)
        case storing([PBEnvelope], open: Int)
        case over
    }
    private let own: Own
    private var reader: JobReader
    private var stage: Stage
    /// Who has told of how much.
    private var told: [PeerID: Int] = [:]
    private var newsAt: Instant?
    private var effects = EffectQueue<Effect>()
    /// Nobody has told anything new for so long: nobody will.
    public static let quiet = Duration.seconds(10)

    /// - Parameter patience: how long somebody is waited for who has the job's log.
    public init(_ own: Own, patience: Duration, at now: Instant, parse: @escaping Record.Parser) {
        self.own = own
        stage = .reading(until: now + patience)
        let (manifest, content, root, job) = (own.manifest, own.content, own.key.peerID, own.grant?.claim.job)
        let kept = own.certificate.flatMap { KeptLog(own.log, $0, parse: parse) }
        reader = JobReader(
            kept,
            choosing: { id, genesis, signer in
                genesis.manifest == manifest && genesis.content == content && (job.map { $0 == id } ?? (signer == root))
            }, at: now, parse: parse)
    }

    public mutating func poll() -> Effect? { effects.pop() }
    public var nextWake: Instant? {
        guard case .reading(let until) = stage else { return nil }
        return earliest(earliest(reader.nextWake, until), newsAt.map { $0 + Self.quiet })
    }

    public mutating func established(_ peer: PeerID, at now: Instant) {
        reader.established(peer, at: now)
        drain(at: now)
    }
    public mutating func lost(_ peer: PeerID, at now: Instant) {
        reader.lost(peer)
        drain(at: now)
    }
    public mutating func receive(_ packet: Packet, from peer: PeerID, at now: Instant) {
        guard case .reading = stage, reader.receive(packet, from: peer, at: now) else { return }
        drain(at: now)
        if let source = reader.sources[peer], let record = reader.best?.record,
            told[peer].map({ $0 < source.length }) ?? true
        {
            told[peer] = source.length
            newsAt = now
            let name = record.state.name(of: peer)
            say(.recordFound(entries: source.length, certified: record.committed, era: record.era), name, at: now)
        }
    }
    public mutating func wake(at now: Instant) {
        reader.wake(at: now)
        drain(at: now)
        decide(at: now)
    }
    private mutating func drain(at now: Instant) {
        while let effect = reader.poll() {
            switch effect {
            case .send(let packet, let peer): effects.push(.send(packet, to: peer))
            case .event(let event): effects.push(.event(event))
            case .entered: newsAt = now
            case .restarted: break
            }
        }
    }
    private mutating func say(_ what: Happening, _ peer: String = "", at now: Instant) {
        effects.push(.event(Event(what, at: now, peer: peer)))
    }
    private mutating func fail(_ why: String) {
        stage = .over
        effects.push(.failed(why))
    }

    // MARK: deciding

    private mutating func decide(at now: Instant) {
        guard case .reading(let limit) = stage else { return }
        let leader = reader.sources.values.filter {
            $0.ledUntil > now && Era.of(term: $0.term) == reader.best?.record.era
        }
        if let newsAt, newsAt + Self.quiet <= now, leader.isEmpty { return found(at: now) }
        guard limit <= now else { return }
        if let leader = leader.first {
            return fail(
                "the job has a leader, of term \(leader.term): its electors are not lost, and nothing was changed. Come back to it with "
                    + "--resume")
        }
        fail(
            "nobody who has the log of this job could be reached, and nothing was changed. Start some of its peers, with the folders they "
                + "had; the job has to be founded anew with the key that launched it (this one is \(own.key.peerID.short)), or with what its "
                + "recovery keys have signed (--recovery FILE)")
    }

    private mutating func found(at now: Instant) {
        guard let best = reader.best, let proof = best.certificate, proof.claim.size == best.record.committed else {
            return fail("of this job's log no entry is certified: launch it anew")
        }
        var record = best.record
        if let why = refusal(record) { return fail(why) }
        if let finish = record.state.finished { return fail("the job is over: \(finish.reason)") }
        let era = record.era + 1
        let entries = record.length
        let why =
            "a majority of the electors \(record.electors.map { $0 == own.key.peerID ? "launcher" : record.state.name(of: $0) }.joined(separator: ", ")) "
            + "is lost; \(reader.tellers.count) others have told what they have"
        let electors = Electorate(voters: [own.key.peerID])!
        do throws(MalformedBytes) {
            _ = try record.propose(
                .electors(
                    ElectorsChange(
                        refounding: era, electors: electors, after: proof, grant: own.grant,
                        reason: cleaned(why, bytes: Bounds.reasonBytes))),
                term: Era.firstTerm(of: era), by: own.key)
        } catch {
            return fail("the job cannot be founded anew: \(error)")
        }
        say(.jobRefounded(era: era, entries: entries, why: why), at: now)
        store(record)
    }

    /// Why this key may not found the job anew, for people.
    private func refusal(_ record: Record) -> String? {
        guard let grant = own.grant else {
            guard record.root != own.key.peerID else { return nil }
            return
                "only the key that launched the job may found it anew: \(record.root.hex), not \(own.key.peerID.hex); or whoever its recovery "
                + "keys agree on (--recovery FILE)"
        }
        guard let keys = record.parameters.recovery else {
            return "this job has no recovery keys: only the key that launched it may found it anew (\(record.root.hex))"
        }
        guard grant.claim.size <= record.length else {
            return
                "recovery keys have signed for \(grant.claim.size) entries, and only \(record.length) that are certified could be reached: "
                + "start more of the job's peers"
        }
        do throws(MalformedBytes) {
            try grant.check(job: record.job, era: record.era + 1, founder: own.key.peerID, keys)
            return nil
        } catch {
            return "what recovery keys have signed does not found this job anew: \(error.description)"
        }
    }

    /// What this disk has of the log stays, as far as it is the same.
    private mutating func store(_ record: Record) {
        let same = zip(own.log, record.envelopes).prefix { $0.body == $1.body }.count
        var requests: [StorageRequest] = []
        if own.log.count > same { requests.append(.truncate(job: record.job, length: same)) }
        for index in same..<record.length {
            requests.append(.entry(job: record.job, index: index, record.envelopes[index]))
        }
        requests.append(.ballot(job: record.job, number: 0, Ballot(term: record.term, vote: nil)))
        stage = .storing(record.envelopes, open: requests.count)
        for request in requests { effects.push(.store(request)) }
    }
    public mutating func stored(_ ticket: StorageTicket, _ outcome: StorageOutcome, at now: Instant) {
        guard case .storing(let log, let open) = stage else { return }
        if case .failed(let why) = outcome { return fail("the new era could not be stored: \(why)") }
        guard open > 1 else {
            stage = .over
            return effects.push(.founded(log))
        }
        stage = .storing(log, open: open - 1)
    }
}
