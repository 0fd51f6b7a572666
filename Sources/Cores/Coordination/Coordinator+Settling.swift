import Consensus
import Digests
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// What comes next: one thing at a time, each computed from what is known after the one before.
extension Coordinator {
    /// More steps than this in a row mean that two of them undo each other: a fault of ours, which must not stop the loop.
    private static let mostSteps = 10_000

    mutating func settle() {
        for _ in 0..<Self.mostSteps { guard step() else { return } }
        event(.entryRefused(why: "the coordinator does not settle at \(stage.word)"))
    }

    /// Applies the one thing that is needed now; false when nothing is.
    private mutating func step() -> Bool {
        if stage.isEnded { return false }
        if watchSilence() { return true }
        if heedAgreement() { return true }
        if stepElectors() { return true }
        if let question = desk.ask() {
            ask(question.purpose, question.reason)
            return true
        }
        switch stage {
        case .gathering(let since, let said): return stepGathering(since: since, said: said)
        case .sharing: return stepSharing()
        case .surveying: return stepSurvey() || stepMeetings()
        case .planning:
            return stepMeetings()
        case .preparing, .training:
            // While nobody is heard nobody is late.
            guard timers.isolatedSince == nil else { return false }
            if stepStandstill() { return true }
            guard timers.standstill == nil else { return false }
            return admitWaiting() || stepSurvey() || stepCheckpoint() || stepSetbacks() || stepRepairs()
                || stepYielding() || stepBroken() || stepRound()
        case .collecting: return timers.isolatedSince == nil && stepCollection()
        case .closing(_, let until):
            guard record.committed == record.length || until <= now else { return false }
            end()
            return true
        case .ended: return false
        }
    }

    private mutating func watchSilence() -> Bool {
        let isIsolated = roster.isIsolated(silence: options.silence, at: now)
        if isIsolated, timers.isolatedSince == nil {
            timers.isolatedSince = now
            event(
                .interrupted(
                    why:
                        "nobody has been heard for \(fixed(options.silence.inSeconds, 0)) s: perhaps it is our own line"
                ))
            return true
        }
        if !isIsolated, let since = timers.isolatedSince {
            timers.isolatedSince = nil
            roster.forgive(at: now)
            excuse(now - since + options.silence)
            event(.resumed(seconds: (now - since).inSeconds))
            return true
        }
        guard let peer = roster.silent(for: options.silence, at: now).first else { return false }
        lose(peer, reason: "nothing heard for \(fixed((now - (roster[peer]?.lastHeard ?? now)).inSeconds, 0)) s")
        return true
    }

    // MARK: the record

    /// The one place where something is decided for all: signs an entry that holds, and has it stored. It is shown to members when
    /// it is durable.
    @discardableResult
    mutating func propose(_ entry: Entry) -> Bool {
        do throws(MalformedBytes) {
            _ = try record.propose(entry, term: term, by: key)
        } catch {
            event(.entryRefused(why: error.description))
            return false
        }
        store(from: record.length - 1)
        return true
    }
    /// Receipts that the disk did not take go first: a seal without those of its round could not be audited after a power cut.
    mutating func store(from first: Int) {
        if let receipt = disk.receipts.takeUp() { storeReceipts(from: receipt) }
        for index in first..<record.length {
            effects.push(.store(.entry(job: job, index: index, record.envelopes[index])))
        }
    }

    mutating func receiveStored(_ ticket: StorageTicket, _ outcome: StorageOutcome) {
        switch (ticket, outcome) {
        case (.entry(job, let index), .stored):
            let before = record.committed
            record.commit(through: index + 1)
            if disk.log.recovered(through: index, at: now) { recovers(ticket) }
            if record.committed > before { show(from: before) }
            vouch()
        case (.entry(job, let index), .failed(let why)):
            if disk.log.failed(index, at: now) { event(.storageFailed(what: ticket.what, why: why)) }
        case (.receipt(job, let index), .stored):
            if disk.receipts.recovered(through: index, at: now) { recovers(ticket) }
        case (.receipt(job, let index), .failed(let why)):
            if disk.receipts.failed(index, at: now) { event(.storageFailed(what: ticket.what, why: why)) }
        case (.certificate(job, let size), .stored):
            if disk.certificate.recovered(through: size, at: now) { recovers(ticket) }
        case (.certificate(job, let size), .failed(let why)):
            // Another is due soon.
            timers.certified.size = 0
            if disk.certificate.failed(size, at: now) { event(.storageFailed(what: ticket.what, why: why)) }
        case (.checkpoint(_, let round), .stored(let path)):
            // The weights of the end are no checkpoint to go on from.
            if timers.seats != nil || timers.resultOnItsWay != round { event(.checkpointSaved(round: round)) }
            if !path.isEmpty { event(.checkpointStored(round: round, path: path)) }
            resultIsKept(round: round)
        case (.checkpoint(_, let round), .failed(let why)):
            event(.checkpointFailed(why: why))
            // It is in memory all the same.
            resultIsKept(round: round)
        default: break
        }
    }
    /// What is on one disk is likely to be taken together.
    private mutating func recovers(_ ticket: StorageTicket) {
        event(.storageRecovered(what: ticket.what))
        disk.log.hurry(at: now)
        disk.receipts.hurry(at: now)
    }
    /// Other electors take no entry now.
    /// - Parameter isPassing: the lead goes elsewhere, which is nobody's failure.
    public mutating func refused(_ index: Int, why: String, isPassing: Bool, at now: Instant) {
        self.now = now
        defer { refreshWake() }
        guard isPassing else { return receiveStored(.entry(job: job, index: index), .failed(why)) }
        disk.log.waits(index, at: now)
    }
    mutating func retryDisk() {
        if let index = disk.log.retry(at: now) { store(from: index) }
        if let index = disk.receipts.retry(at: now) { storeReceipts(from: index) }
    }
    /// With one elector its own word certifies the log, for whoever reads it later. Said often enough that little is uncertified where this
    /// process ends suddenly, and seldom enough to cost nothing; what is missing can be said again from the log.
    private mutating func vouch() {
        guard record.electors == [key.peerID], let claim = record.claim, claim.size > timers.certified.size else {
            return
        }
        guard state.finished != nil && record.committed == record.length || timers.certified.next <= now else { return }
        timers.certified = (claim.size, now + Self.certificateEvery)
        guard let certificate = Certificate([Ack(claim, by: key)]) else { return }
        effects.push(.store(.certificate(certificate)))
    }
    private static let certificateEvery = Duration.seconds(5)

    mutating func storeReceipts(from first: Int) {
        for index in first..<books.receiptEnvelopes.count {
            effects.push(.store(.receipt(job: job, index: index, books.receiptEnvelopes[index])))
        }
    }

    /// New committed entries go to all members.
    private mutating func show(from first: Int) {
        var next = first
        while let entries = record.entries(from: next) {
            for member in roster.joined { send(.logEntries(entries), to: member.peer) }
            next += entries.entries.count
        }
    }

    // MARK: the end

    /// A job with sealed rounds is not over because it cannot go on now: its log stays open, members keep what they hold for a while, and
    /// it can be resumed.
    /// - Parameter forGood: it would come to the same again, so that nobody is to resume it.
    /// - Returns: true, for ``settle()``: something has changed.
    @discardableResult
    mutating func fail(_ why: String, endsAtOnce: Bool = false, forGood: Bool = false) -> Bool {
        guard !stage.isDecided else { return false }
        if forGood || !isResumable { propose(.finish(Finish(reason: "failed: \(why)"))) }
        stage.go(to: .closing(.failed(why), until: now + .seconds(2)))
        if endsAtOnce { end() }
        return true
    }
    /// Whether there is something to go on from. A job that others launched is not over because this machine cannot lead it: perhaps it is
    /// cut off, and before a plan only who launched the job says that nothing comes of it.
    public var isResumable: Bool { state.finished == nil && (state.round > 0 || launcher != key.peerID) }
    mutating func finish(_ states: [UnitState], weights: Digest256) {
        propose(.finish(Finish(reason: Finish.done, weights: weights)))
        stage.go(to: .closing(.finished(states), until: now + .seconds(10)))
    }
    mutating func end() {
        guard case .closing(let outcome, _) = stage else { return }
        let farewell: Message =
            switch outcome {
            case .finished: .dismissal(Dismissal(.jobEnded, reason: Finish.done))
            // Stop, and keep what you hold.
            case .failed where state.finished?.reason == Finish.done:
                .dismissal(Dismissal(.jobEnded, reason: Finish.done))
            case .failed where isResumable: .lease(Lease(duration: .zero, logLength: record.committed))
            case .failed(let why):
                .dismissal(Dismissal(.jobFailed, reason: cleaned("the job ended: \(why)", bytes: Bounds.reasonBytes)))
            }
        for peer in roster.all where peer.isJoined || peer.standing == .accepted { send(farewell, to: peer.peer) }
        stage.go(to: .ended(at: now))
        collection = nil
        if timers.seats?.isOver != true { effects.push(.ended(outcome)) }
    }
}
