public import Primitives

/// What a leader knows of a follower.
struct Progress: Sendable {
    /// So many entries are the same, and durable there.
    var match = 0
    /// The first entry to send next.
    var next: Int
    /// Where its log parts from ours is not known yet: one message at a time.
    var isProbing = true
    /// Of them, one is out.
    var isWaiting = false
    var sentAt: Instant
    var heardAt: Instant
    /// Since when it lacks what it has acknowledged.
    var lacksSince: Instant?
    init(next: Int, at now: Instant) {
        self.next = next
        sentAt = now
        heardAt = now
    }
}

struct Leadership: Sendable {
    var followers: [PeerID: Progress] = [:]
    var nextBeat: Instant
    /// The one that shall lead next.
    var handOver: (to: PeerID, until: Instant, isSaid: Bool)?
    /// It may not lead, and nobody else could be elected: it brings others up to date, and hands over to each in turn until one takes it.
    var isCaretaker = false
    /// To whom a caretaker has tried to hand over last.
    var offered: PeerID?
    /// The length with the change that its owner was told to finish.
    var finishing = 0
    /// Who is to become a voter, and gets the log before.
    var prepared: [PeerID] = []
    init(nextBeat: Instant) { self.nextBeat = nextBeat }
}

/// What a leader does.
extension Elector {
    /// Appends an entry, if this elector leads.
    ///
    /// - Parameter electorate: what it becomes with this entry: with other voters, first ``Electorate/changing(to:learners:)``, and when that is
    ///   committed ``Electorate/changed``.
    /// - Returns: the entry's index.
    @discardableResult
    public mutating func propose(
        _ body: [UInt8], electorate: Electorate? = nil, at now: Instant
    ) throws(ProposalRefusal) -> Int {
        self.now = now
        guard let leadership, !leadership.isCaretaker else { throw .notLeading(leader) }
        guard leadership.handOver == nil else { throw .handingOver }
        guard body.count <= ElectorBounds.entryBytes else { throw .tooLong(body.count) }
        let backlog = log.count - committed
        guard backlog < options.backlogEntries, log.bytes(committed..<log.count) < options.backlogBytes else {
            throw .backlog(backlog)
        }
        if let electorate {
            guard isEstablished, log.electorateSince <= committed else {
                throw .electorate("an entry before it is not committed yet")
            }
            guard log.electorate.mayBecome(electorate) else { throw .electorate("it takes two steps to other voters") }
        }
        log.append(ReplicatedEntry(term: term, body: body, electorate: electorate))
        pending.from = min(pending.from ?? log.count - 1, log.count - 1)
        if electorate != nil { meetElectorate() }
        for peer in followers { replicate(to: peer) }
        settle()
        return log.count - 1
    }
    /// Whoever gets what is new.
    private var followers: [PeerID] {
        let everybody = log.electorate.everybody.filter { $0 != me }
        guard let prepared = leadership?.prepared, !prepared.isEmpty else { return everybody }
        return everybody + prepared
    }

    /// Brings peers up to date that are to become voters, and says of each once when it is (``Effect/caughtUp(_:)``). They have no voice.
    ///
    /// A voter that knows nothing votes for nobody (``isBlank``). Were the leader gone when others have become voters, and before they have what is
    /// committed, nobody could ever be elected again (Ongaro's thesis 2014, §4.2.1 and §4.2.2, where it is a matter of time only).
    ///
    /// - Parameter peers: instead of those that were prepared before.
    public mutating func prepare(_ peers: [PeerID], at now: Instant) {
        guard let leadership, !leadership.isCaretaker else { return }
        self.now = now
        let prepared = Array(
            Set(peers).filter { $0 != me && !log.electorate.contains($0) }.sorted().prefix(Electorate.mostVoters))
        for peer in leadership.prepared where !prepared.contains(peer) { self.leadership!.followers[peer] = nil }
        self.leadership!.prepared = prepared
        for peer in prepared {
            if leadership.followers[peer] == nil {
                self.leadership!.followers[peer] = Progress(next: log.count, at: now)
                replicate(to: peer)
            }
            tellCaughtUp(peer)
        }
        settle()
    }
    private mutating func tellCaughtUp(_ peer: PeerID) {
        guard committed > 0, let match = leadership?.followers[peer]?.match, match >= committed else { return }
        effects.push(.caughtUp(peer))
    }

    private mutating func meetElectorate() {
        guard var leadership else { return }
        leadership.prepared.removeAll { log.electorate.contains($0) }
        for peer in log.electorate.everybody where peer != me && leadership.followers[peer] == nil {
            leadership.followers[peer] = Progress(next: log.count - 1, at: now)
        }
        self.leadership = leadership
    }

    /// Hands over to a voter, the one that has most if none is named. Nothing can be proposed until it leads, or has not within some seconds.
    ///
    /// - Returns: false where nobody could take over.
    @discardableResult
    public mutating func handOver(to peer: PeerID? = nil, at now: Instant) -> Bool {
        self.now = now
        let isBegun = beginHandOver(to: peer)
        if isBegun { settle() }
        return isBegun
    }

    /// Voters that were heard of late.
    private func present(_ leadership: Leadership) -> [PeerID] {
        log.electorate.voters.filter { peer in
            guard peer != me, let progress = leadership.followers[peer] else { return false }
            return progress.heardAt + options.loyalty > now
        }
    }
    private mutating func beginHandOver(to wanted: PeerID?) -> Bool {
        guard let leadership, leadership.handOver == nil else { return false }
        let able = present(leadership)
        let best = able.max { leadership.followers[$0]!.match < leadership.followers[$1]!.match }
        guard let target = wanted ?? best, able.contains(target) else { return false }
        self.leadership!.handOver = (target, now + options.loyalty, false)
        return true
    }

    /// Whoever may not lead either does not take it: the next one is asked.
    private mutating func passOn() {
        guard let leadership, leadership.isCaretaker, leadership.handOver == nil else { return }
        let able = present(leadership).sorted()
        let next = able.first { peer in leadership.offered.map { $0 < peer } ?? true } ?? able.first
        guard let next else { return }
        self.leadership!.offered = next
        self.leadership!.handOver = (next, now + options.loyalty, false)
    }

    // MARK: time

    /// Until when a quorum has answered, and counts as there.
    func quorumUntil(_ leadership: Leadership) -> Instant? {
        if log.electorate.decides({ $0 == me }) { return nil }
        let heard = log.electorate.reached { peer in
            peer == me ? now : leadership.followers[peer]?.heardAt ?? Instant(nanoseconds: 0)
        }
        return heard + options.loyalty
    }

    mutating func wakeLeader() {
        guard var leadership else { return }
        if let until = quorumUntil(leadership), until <= now { return stepDown() }
        if let handOver = leadership.handOver, handOver.until <= now {
            leadership.handOver = nil
            self.leadership = leadership
        }
        if isDiskSlow, leadership.handOver == nil { _ = beginHandOver(to: nil) }
        passOn()
        guard leadership.nextBeat <= now else { return }
        self.leadership!.nextBeat = now + options.heartbeat
        self.leadership!.handOver?.isSaid = false
        // Its owner is told again, where it could not.
        if log.electorate.isJoint { self.leadership!.finishing = 0 }
        for peer in followers {
            let match = leadership.followers[peer]?.match ?? 0
            send(.beat(committed: min(committed, match)), to: peer)
        }
    }

    // MARK: replication

    /// Sends what the follower lacks, as far as the window allows.
    private mutating func replicate(to peer: PeerID) {
        guard var progress = leadership?.followers[peer] else { return }
        defer { leadership!.followers[peer] = progress }
        while !progress.isWaiting, progress.next < log.count || progress.isProbing {
            if !progress.isProbing, log.bytes(min(progress.match, progress.next)..<progress.next) >= options.windowBytes
            {
                return
            }
            let batch = log.batch(from: progress.next, bytes: options.messageBytes, entries: options.messageEntries)
            send(.append(after: log.end(at: progress.next), entries: Array(batch), committed: committed), to: peer)
            progress.sentAt = now
            if progress.isProbing {
                progress.isWaiting = true
            } else {
                progress.next = batch.endIndex
            }
        }
    }

    mutating func report(_ body: ElectorMessage.Body, from peer: PeerID) {
        guard var progress = leadership?.followers[peer] else { return }
        progress.heardAt = now
        switch body {
        case .appended(let count):
            guard count <= log.count else { break }
            progress.isProbing = false
            progress.isWaiting = false
            progress.match = max(progress.match, count)
            progress.next = max(progress.next, progress.match)
        case .refused(let after, let hint):
            guard after == progress.next || !progress.isProbing, after >= progress.match, after <= log.count else {
                break
            }
            progress.next = max(progress.match, min(hint, max(0, after - 1)))
            progress.isProbing = true
            progress.isWaiting = false
        case .beaten(let received, let stored):
            guard received <= log.count else { break }
            watch(received: received, peer, &progress)
            heed(received: received, stored: stored, &progress)
        default: break
        }
        let before = leadership!.followers[peer]!.match
        leadership!.followers[peer] = progress
        if before < committed, leadership!.prepared.contains(peer) { tellCaughtUp(peer) }
        replicate(to: peer)
    }

    /// Late answers may say less than newer ones; none for seconds says as much as it has acknowledged where that is gone.
    private mutating func watch(received: Int, _ peer: PeerID, _ progress: inout Progress) {
        guard received < min(committed, progress.match) else {
            progress.lacksSince = nil
            return
        }
        guard let since = progress.lacksSince else {
            progress.lacksSince = now
            return
        }
        guard since + options.lossPatience <= now else { return }
        progress.lacksSince = now
        effects.push(.hasLost(peer))
    }

    /// A heartbeat's answer says what has come, so that what was lost is sent again, and what a slow disk has not stored yet is not.
    private func heed(received: Int, stored: Int, _ progress: inout Progress) {
        progress.match = max(progress.match, stored)
        if max(received, progress.match) >= progress.next {
            // Everything that was sent is there.
            progress.next = max(received, progress.match)
            if received > 0 || progress.match > 0 { progress.isProbing = false }
            progress.isWaiting = progress.isWaiting && progress.isProbing
        }
        guard received < progress.next || progress.isWaiting, progress.sentAt + options.heartbeat <= now else { return }
        // What was sent has been lost.
        progress.isWaiting = false
        if received > 0 || progress.match > 0 { progress.next = max(progress.match, received) }
        progress.isProbing = received == 0
    }

    // MARK: commitment

    /// What a quorum has stored is committed, once an entry of this term is among it (§5.4.2).
    mutating func settleLeader() {
        guard let leadership else { return }
        let count = log.electorate.reached { peer in
            peer == me ? disk.durable : leadership.followers[peer]?.match ?? 0
        }
        // A leader shows what is on its own disk, too.
        let shown = min(count, disk.durable)
        if shown > committed, log.term(at: shown) == term { commit(shown) }
        if log.electorateSince <= committed, log.electorateSince > leadership.finishing { finishElectorate() }
        guard let handOver = self.leadership?.handOver, !handOver.isSaid,
            self.leadership!.followers[handOver.to]?.match == log.count
        else { return }
        self.leadership!.handOver!.isSaid = true
        send(.takeOver, to: handOver.to)
    }

    /// The newest electorate is committed.
    private mutating func finishElectorate() {
        leadership!.finishing = log.electorateSince
        let electorate = log.electorate
        if electorate.isJoint {
            if isEstablished, leadership!.handOver == nil {
                effects.push(.mayFinish(electorate.changed))
            } else {
                leadership!.finishing = 0
            }
            return
        }
        for peer in leadership!.followers.keys.sorted()
        where !electorate.contains(peer) && !leadership!.prepared.contains(peer) {
            leadership!.followers[peer] = nil
        }
        guard !electorate.isVoter(me) else { return }
        // It has led its own successors in, and goes.
        let best = electorate.voters.max {
            (leadership!.followers[$0]?.match ?? 0) < (leadership!.followers[$1]?.match ?? 0)
        }
        if let best { send(.takeOver, to: best) }
        stepDown()
    }
}
