import Consensus
import Messages
import Primitives
import Record
import Telemetry
import Wire

/// A follower's hand on the record: entries prove themselves and are taken from whoever sends them; what is missing is asked of the
/// leader; what was folded goes to disk.
package struct LogDesk: Sendable {
    package enum Effect: Sendable {
        /// Ask the leader for entries from an index on.
        case ask(from: Int)
        case store(StorageRequest)
        case event(Happening, PeerID)
    }
    package private(set) var record: Record
    package private(set) var pace = RoundPace()
    package var stillness = Stillness()
    /// Entries that there are, as far as the leader or an entry says.
    private var known: Int
    /// Where several electors carry the record: what has come, of which not all is certified.
    private var uncertified: Record?
    private var certificate: Certificate?
    /// Of all entries that are here.
    package private(set) var proof: Certificate?
    /// So many are certified on this machine, here or at its elector: whatever would take their place is not folded.
    package var certifiedHere = 0
    private var nextProofAt: Instant?
    /// When the newest certificate is stored, where it is not on its way.
    private var proofDue: Instant?
    /// Certificates that have held here, the newest last: another of the same size contradicts one of them.
    private var held: [Certificate] = []
    private var asked: (from: Int, at: Instant)?
    /// Entries that are durable, beyond those before which none is missing.
    private var durable: Set<Int> = []
    /// The leader has other entries at the place of some that are here.
    package private(set) var isLost = false
    private var effects = EffectQueue<Effect>()
    /// The leader is asked again after this.
    package static let patience = Duration.seconds(2)

    /// - Parameter proof: of all entries that are here already.
    package init(_ record: Record, _ proof: Certificate? = nil) {
        self.record = record
        self.proof = proof
        known = record.length
        for (index, envelope) in record.envelopes.enumerated() {
            effects.push(.store(.entry(job: record.job, index: index, envelope)))
        }
    }

    package mutating func poll() -> Effect? { effects.pop() }
    package var nextWake: Instant? { earliest(asked.map { $0.at + Self.patience }, proofDue) }

    package var nextProof: Instant? { proofDue }

    /// The round in progress, as far as the entries here say.
    package mutating func see(round: Int, at now: Instant) {
        pace.see(round: round, isBehind: record.length < known, at: now)
    }

    /// The entries that are new, in order.
    package mutating func receive(_ message: LogEntries, from peer: PeerID, isLeader: Bool, at now: Instant) -> [Entry]
    {
        if record.parameters.isCarriedByMany {
            return receiveCertified(message, from: peer, isLeader: isLeader, at: now)
        }
        let fresh = fold(message.entries, from: peer, isLeader: isLeader)
        return told(fresh, message, isLeader: isLeader, at: now)
    }
    private mutating func told(
        _ fresh: [Entry], _ message: LogEntries, isLeader: Bool, at now: Instant
    ) -> [Entry] {
        if isLeader { known = max(known, message.length) }
        if !fresh.isEmpty { asked = nil }
        ask(at: now)
        return fresh
    }

    /// What holds is appended and stored.
    ///
    /// - Parameter isLeader: whether the sender's own word counts; it does not where entries come with a certificate.
    private mutating func fold(_ entries: [PBEnvelope], from peer: PeerID, isLeader: Bool) -> [Entry] {
        var fresh: [Entry] = []
        read: for envelope in entries {
            do throws(MalformedBytes) {
                switch try record.receive(envelope) {
                case .known: continue
                case .appended(let entry):
                    fresh.append(entry)
                    effects.push(.store(.entry(job: record.job, index: record.length - 1, envelope)))
                case .gap:
                    // It is signed: so many there are.
                    known = max(known, Int(clamping: envelope.sequence) + 1)
                    break read
                case .fork(let index):
                    // Of the newest term: it does not know what it has shown any more.
                    if isLeader, Int(clamping: envelope.epoch) >= record.term { isLost = true }
                    effects.push(.event(.forked(index: index), peer))
                    break read
                }
            } catch {
                effects.push(.event(.logEntryRefused(why: error.description), peer))
                break read
            }
        }
        return fresh
    }

    /// Entries wait until a quorum's signatures are there for them: nobody's word alone is acted on, the leader's neither.
    private mutating func receiveCertified(
        _ message: LogEntries, from peer: PeerID, isLeader: Bool, at now: Instant
    ) -> [Entry] {
        var trial = uncertified ?? record
        for envelope in message.entries {
            guard let what = try? trial.receive(envelope) else { break }
            // What waited was never for ever.
            if case .fork(let index) = what, index >= record.length {
                trial = record
                guard (try? trial.receive(envelope)) != nil else { break }
            }
            if case .gap = what {
                known = max(known, Int(clamping: envelope.sequence) + 1)
                break
            }
        }
        uncertified = trial.length > record.length ? trial : nil
        if let offered = message.certificate {
            compare(offered)
            if offered.claim.size > certificate?.claim.size ?? 0 { certificate = offered }
        }
        guard let certificate, certificate.claim.size > record.length, certificate.claim.size <= trial.length else {
            return told([], message, isLeader: isLeader, at: now)
        }
        do throws(MalformedBytes) {
            try trial.check(certificate)
        } catch {
            self.certificate = nil
            effects.push(.event(.logEntryRefused(why: error.description), peer))
            return told([], message, isLeader: isLeader, at: now)
        }
        if let founded = trial.foundings.first(where: { $0 >= record.length }), founded < certifiedHere {
            uncertified = nil
            effects.push(.event(.refoundingRefused(entries: founded, certified: certifiedHere), peer))
            return told([], message, isLeader: false, at: now)
        }
        let fresh = fold(Array(trial.envelopes[record.length..<certificate.claim.size]), from: peer, isLeader: false)
        record.commit(through: certificate.claim.size)
        keep(certificate, at: now)
        if trial.length == record.length { uncertified = nil }
        return told(fresh, message, isLeader: isLeader, at: now)
    }

    /// Electors who have certified two logs have lied: the two are kept, for whoever asks.
    private mutating func compare(_ offered: Certificate) {
        guard
            let known = held.first(where: { $0.claim.size == offered.claim.size && $0.claim.era == offered.claim.era }),
            let conflict = CertificateConflict(known, offered),
            (try? offered.check(
                job: record.job, record.electorate(at: offered.claim.size), era: record.era(at: offered.claim.size)))
                != nil
        else { return }
        held.removeAll { $0 == known }
        let proof = Contradiction.certificates(conflict)
        effects.push(.store(.contradiction(proof)))
        effects.push(
            .event(.electorsContradict(entries: proof.size, why: proof.what), proof.liars.first ?? proof.signers[0]))
    }

    /// Often enough that little is uncertified on disk, and seldom enough to cost nothing.
    private mutating func keep(_ certificate: Certificate, at now: Instant) {
        proof = certificate
        held = (held + [certificate]).suffix(Self.mostHeld)
        let isLast = record.state.finished != nil
        guard isLast || record.foundings.last == record.length - 1 || nextProofAt.map({ $0 <= now }) ?? true else {
            proofDue = nextProofAt
            return
        }
        storeProof(at: now)
    }
    private mutating func storeProof(at now: Instant) {
        guard let proof else { return }
        proofDue = nil
        nextProofAt = now + Self.proofEvery
        effects.push(.store(.certificate(proof)))
    }
    /// Whoever has nobody to follow any more still makes durable what was certified last: a new era may begin with it.
    package mutating func wakeProof(at now: Instant) {
        if let due = proofDue, due <= now { storeProof(at: now) }
    }
    private static let proofEvery = Duration.seconds(1)
    private static let mostHeld = 16

    /// For whoever only reads: all that is here counts.
    package mutating func seen() { record.stored(through: record.length) }

    /// Another part of this machine had the log in its hands, and what it had after an index counts no more.
    package mutating func takeOver(from index: Int) {
        effects.push(.store(.truncate(job: record.job, length: index)))
        for (index, envelope) in record.envelopes.enumerated().dropFirst(index) {
            effects.push(.store(.entry(job: record.job, index: index, envelope)))
        }
        if let proof { effects.push(.store(.certificate(proof))) }
    }

    /// The leader says how long its log is.
    package mutating func hear(length: Int, at now: Instant) {
        known = max(known, length)
        ask(at: now)
    }
    /// Another leader: what the one before claimed counts no more.
    package mutating func changeLeader(at now: Instant) {
        known = record.length
        asked = nil
    }

    package mutating func wake(at now: Instant) {
        wakeProof(at: now)
        guard let before = asked, before.at + Self.patience <= now else { return }
        asked = nil
        ask(at: now)
    }

    private mutating func ask(at now: Instant) {
        guard known > record.length else {
            asked = nil
            return
        }
        if let before = asked, before.from == record.length, before.at + Self.patience > now { return }
        asked = (record.length, now)
        effects.push(.ask(from: record.length))
    }

    /// The file in which its beginning was is another's: all of it goes to a new one.
    package mutating func storeAgain() {
        for (index, envelope) in record.envelopes.enumerated() {
            effects.push(.store(.entry(job: record.job, index: index, envelope)))
        }
    }

    /// An entry is durable.
    package mutating func stored(_ index: Int) {
        durable.insert(index)
        while durable.remove(record.stored) != nil { record.stored(through: record.stored + 1) }
    }
}
