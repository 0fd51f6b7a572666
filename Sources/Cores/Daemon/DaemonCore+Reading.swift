import Channels
import Coordination
import Digests
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Wire

/// A job's log is read by whoever of the pool asks; and a daemon may be there to read one.
extension DaemonCore {
    /// How often strangers to a job are told of it: a log is long, and what a job says itself goes first.
    struct ReadLimits: Sendable {
        private var told: [PeerID: (since: Instant, count: Int)] = [:]
        private var all: (since: Instant, count: Int)?
        static let each = 4, everybody = 32, most = 256

        mutating func mayTell(_ peer: PeerID, at now: Instant) -> Bool {
            if all.map({ now - $0.since >= .seconds(1) }) ?? true { all = (now, 0) }
            guard all!.count < Self.everybody else { return false }
            if told.count >= Self.most { told = told.filter { now - $0.value.since < .seconds(1) } }
            var mine = told[peer] ?? (now, 0)
            if now - mine.since >= .seconds(1) { mine = (now, 0) }
            guard mine.count < Self.each, told.count < Self.most || told[peer] != nil else { return false }
            mine.count += 1
            told[peer] = mine
            all!.count += 1
            return true
        }
    }

    // MARK: telling

    /// What there is here of a job: its entries that are for ever, their certificate, and whether it is led.
    mutating func tell(_ peer: PeerID, from index: Int, of job: Digest256?, at now: Instant) {
        guard let reading = reading(of: job, at: now), reads.mayTell(peer, at: now) else { return }
        let id = reading.record.job
        var entries = reading.record.entries(from: index) ?? LogEntries([], length: reading.record.committed)
        entries.certificate = reading.certificate
        send(Packet(job: id, term: reading.term, .logEntries(entries)), to: peer, at: now)
        let lease = Lease(duration: min(reading.lease, .seconds(3600)), logLength: reading.record.committed)
        send(Packet(job: id, term: reading.term, .lease(lease)), to: peer, at: now)
        if let heartbeat = services.memberPart?.value.heartbeat(of: id) {
            send(Packet(job: id, term: reading.term, .heartbeat(heartbeat)), to: peer, at: now)
        }
    }
    private func reading(of job: Digest256?, at now: Instant) -> JobReading? {
        if let desk = services.electorPart?.value, job == nil || job == desk.job {
            let lease = desk.leader == nil ? Duration.zero : desk.record.genesis.lease
            return JobReading(desk.record, desk.proof, lease: lease, term: desk.term)
        }
        if let coordinator = services.coordinatorPart?.value, job == nil || job == coordinator.job {
            return JobReading(
                coordinator.record, nil, lease: coordinator.record.genesis.lease, term: coordinator.term)
        }
        return services.memberPart?.value.reading(of: job, at: now)
    }

    // MARK: reading

    /// - Returns: whether it was meant for whoever reads here.
    mutating func toReader(_ packet: Packet, from peer: PeerID, at now: Instant) -> Bool {
        if services.watchPart != nil {
            services.watchPart!.value.receive(packet, from: peer, at: now)
        } else if services.refoundingPart != nil {
            services.refoundingPart!.value.receive(packet, from: peer, at: now)
        } else {
            return false
        }
        return true
    }
    mutating func toReaders(established peer: PeerID, at now: Instant) {
        services.refoundingPart?.value.established(peer, at: now)
        services.watchPart?.value.established(peer, at: now)
    }
    mutating func toReaders(lost peer: PeerID, at now: Instant) {
        services.refoundingPart?.value.lost(peer, at: now)
        services.watchPart?.value.lost(peer, at: now)
    }
    mutating func wakeReaders(at now: Instant) {
        services.refoundingPart?.value.wake(at: now)
        services.watchPart?.value.wake(at: now)
    }
    mutating func nextRead() -> Instant? {
        earliest(services.refoundingPart?.value.whenToWake(), services.watchPart?.value.whenToWake())
    }

    /// - Returns: whether it did anything.
    mutating func mindReader(at now: Instant) -> Bool {
        var isBusy = mindWatch(at: now)
        while let effect = services.refoundingPart?.value.poll() {
            isBusy = true
            switch effect {
            case .send(let packet, let peer): send(packet, to: peer, at: now)
            case .store(let request): effects.push(.store(request, for: .refounding))
            case .event(let event): effects.push(.event(event))
            case .failed(let why):
                services.refoundingPart = nil
                effects.push(.ended(.failed(why)))
            case .founded(let log): found(log, at: now)
            }
        }
        return isBusy
    }
    private mutating func mindWatch(at now: Instant) -> Bool {
        var isBusy = false
        while let effect = services.watchPart?.value.poll() {
            isBusy = true
            switch effect {
            case .send(let packet, let peer): send(packet, to: peer, at: now)
            case .event(let event): effects.push(.event(event))
            // How it has ended is in what was read.
            case .ended(let finish): effects.push(.ended(.failed(finish.reason)))
            }
        }
        return isBusy
    }
    /// The job goes on: this machine carries its record, alone at first.
    private mutating func found(_ log: [PBEnvelope], at now: Instant) {
        services.refoundingPart = nil
        guard let foundation = services.foundation else { return }
        let remains = JobRemains(
            log: log, receipts: foundation.receipts, checkpoint: foundation.provisions.checkpoint)
        do throws(MalformedBytes) {
            services.electorPart = Indirect(
                try ElectorDesk(
                    restoring: remains, ballot: nil, key: key, provisions: foundation.provisions, at: now,
                    parse: foundation.parse))
        } catch {
            effects.push(.ended(.failed("the job that was founded anew cannot be led: \(error)")))
        }
    }

    // MARK: eras

    /// An elector's part in an era that is over ends here: its member has learned of a newer one.
    mutating func leaveOldEra(at now: Instant) {
        guard let desk = services.electorPart?.value else { return }
        services.memberPart?.value.note(certified: desk.certified, of: desk.job)
        // Whoever has just been made one knows nothing but the genesis, which is of every era: what follows comes from the leader.
        guard desk.record.length > 1, let era = services.memberPart?.value.era(of: desk.job), era > desk.record.era
        else { return }
        services.coordinatorPart = nil
        services.electorPart = nil
        services.memberPart!.value.takeOverLog(at: now)
    }
}
