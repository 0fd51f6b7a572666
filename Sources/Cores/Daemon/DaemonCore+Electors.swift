import Channels
import Consensus
import Coordination
import Digests
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Wire

/// A daemon that carries a job's record with others: what goes between its elector, the coordinator that runs while it leads, and its member.
extension DaemonCore {
    public var elector: ElectorDesk? { services.elector }

    // MARK: inputs

    /// Only electors are heard. Whoever is made one begins with what its member knows of the job.
    mutating func toElector(_ packet: Packet, from peer: PeerID, at now: Instant) {
        guard case .election(let message) = packet.message, let job = packet.job else { return }
        let isElector = services.memberPart?.value.isElector(peer, of: job) ?? false
        // Whoever lives in a newer era is heard when it is known here.
        if case .consensus(let said) = message, let desk = services.electorPart?.value, desk.job == job,
            Era.of(term: said.term) > desk.record.era, desk.record.length > 1
        {
            return
        }
        if services.electorPart?.value.job != job {
            guard isElector, services.electorPart?.value.isOver ?? true,
                let (genesis, wall, parse) = services.memberPart?.value.foundation(of: job),
                let desk = try? ElectorDesk(
                    genesis: genesis, key: key,
                    provisions: ElectorDesk.Provisions(options: services.options, wall: wall), isBlank: true, at: now,
                    parse: parse)
            else { return }
            services.coordinatorPart = nil
            services.electorPart = Indirect(desk)
        }
        services.electorPart!.value.receive(message, from: peer, isElector: isElector, at: now)
    }

    /// A certificate that is shown to the member here: an elector that has signed another log for somebody else is seen by it.
    mutating func showElector(_ packet: Packet, at now: Instant) {
        guard case .logEntries(let entries) = packet.message, let certificate = entries.certificate,
            services.electorPart?.value.job == packet.job
        else { return }
        services.electorPart!.value.heed(certificate, at: now)
    }

    // MARK: one place to drain

    /// - Returns: whether it did anything.
    mutating func mindElector(at now: Instant) -> Bool {
        leaveOldEra(at: now)
        leaveSeat(at: now)
        guard let job = services.electorPart?.value.job else { return false }
        let hasText = services.memberPart?.value.text(of: job) != nil
        services.electorPart!.value.stand(hasText, at: now)
        var isBusy = false
        while let effect = services.electorPart?.value.poll() {
            isBusy = true
            perform(effect, at: now)
        }
        if services.electorPart?.value.isRetired == true { services.electorPart = nil }
        return isBusy
    }

    /// Whoever is no elector any more, or was prepared to be one and is not, keeps its log as all members do. Until then it was the elector's, to
    /// which nobody sends what is new.
    private mutating func leaveSeat(at now: Instant) {
        guard services.electorPart?.value.isForsaken(at: now) == true, let desk = services.electorPart?.value,
            let member = services.memberPart?.value, let length = member.logLength(of: desk.job),
            !member.isElector(key.peerID, of: desk.job), length >= desk.record.committed,
            // Whoever has just been made one knows it from an entry that its member has not seen certified: its vote may be needed.
            !desk.isElector(key.peerID) || length > desk.record.length
        else { return }
        services.electorPart = nil
        services.memberPart!.value.takeOverLog(from: desk.record.committed, at: now)
    }

    private mutating func perform(_ effect: ElectorDesk.Effect, at now: Instant) {
        switch effect {
        case .send(let packet, let peer): send(packet, to: peer, at: now)
        case .store(let request): effects.push(.store(request, for: .elector))
        case .event(let event): effects.push(.event(event))
        case .lead: lead(at: now)
        case .standBy: services.coordinatorPart = nil
        case .committed(let count):
            guard let job = services.coordinatorPart?.value.job, count > 0 else { return }
            services.coordinatorPart!.value.stored(.entry(job: job, index: count - 1), .stored(path: ""), at: now)
        case .certified(let certificate): services.coordinatorPart?.value.certified(certificate, at: now)
        case .refused(let index, let why, let isPassing):
            services.coordinatorPart?.value.refused(index, why: why, isPassing: isPassing, at: now)
        case .caughtUp(let peer): services.coordinatorPart?.value.caughtUp(peer, at: now)
        case .unfit(let peer, let why): services.coordinatorPart?.value.unseat(peer, why, at: now)
        case .over(let finish, let result):
            // Whoever launched it wants to know; a member learns it as a member.
            guard services.memberPart == nil else { return }
            effects.push(.ended(result.map { .finished($0) } ?? .failed(collectedElsewhere(finish))))
        }
    }
    private func collectedElsewhere(_ finish: Finish) -> String {
        guard let weights = finish.weights else { return finish.reason }
        let record = services.electorPart?.value.record
        let command = record.flatMap { $0.mayCollect(key.peerID) ? $0.job.short : nil }
        return
            "the job is done, and another elector has collected its weights (SHA-256 \(weights.hex)): "
            + (command.map { "`atoll collect \($0) --invite FILE` fetches them within an hour. They " } ?? "they ")
            + "are under checkpoints/ in the folder of the peer that led it last"
    }

    private mutating func lead(at now: Instant) {
        guard let desk = services.electorPart?.value, desk.leading != nil else { return }
        let content = services.memberPart?.value.text(of: desk.job) ?? StoredBytes()
        var coordinator = desk.coordinator(content: content, at: now)
        // Whoever came before there was a leader here is met now.
        for peer in channels.connectedPeers {
            if let endpoint = channels.endpoint(of: peer) { coordinator.established(peer, endpoint: endpoint, at: now) }
        }
        services.coordinatorPart = Indirect(coordinator)
    }

    /// A launcher that gives up tells its owner, who may begin again. A peer that leads has nobody to tell: as long as the job is not over,
    /// it or another tries again.
    mutating func ended(_ end: JobEnd, at now: Instant) {
        if case .finished(let states) = end, services.memberPart != nil,
            let coordinator = services.coordinatorPart?.value,
            let round = coordinator.collectedRound
        {
            services.memberPart!.value.keep(result: states, round: round, of: coordinator.record, at: now)
        }
        guard case .failed = end, services.memberPart != nil, let desk = services.electorPart?.value,
            desk.record.state.finished == nil
        else { return effects.push(.ended(end)) }
        services.electorPart!.value.resign(at: now)
    }

    /// Members take entries with a certificate only, where several electors carry the record.
    func certified(_ packet: Packet) -> Packet {
        guard case .logEntries(var entries) = packet.message, let certificate = services.electorPart?.value.certificate
        else {
            return packet
        }
        entries.certificate = certificate
        return Packet(job: packet.job, term: packet.term, .logEntries(entries))
    }

    // MARK: disks

    /// What the coordinator wants stored of the record is for the electors to carry.
    mutating func store(_ request: StorageRequest, at now: Instant) {
        guard services.electorPart != nil else { return effects.push(.store(request, for: .coordinator)) }
        switch request {
        case .entry(_, let index, let envelope): services.electorPart!.value.carry(envelope, at: index, now: now)
        case .receipt(_, _, let envelope):
            services.electorPart!.value.carry(receipt: envelope)
            services.coordinatorPart?.value.stored(request.ticket, .stored(path: ""), at: now)
        // The electors' own is stored.
        case .certificate: services.coordinatorPart?.value.stored(request.ticket, .stored(path: ""), at: now)
        default: effects.push(.store(request, for: .coordinator))
        }
    }

    /// A member's copy of the log is the elector's.
    mutating func isCarried(_ request: StorageRequest, at now: Instant) -> Bool {
        switch request {
        case .entry(let job, _, _): guard services.electorPart?.value.job == job else { return false }
        case .certificate(let certificate):
            guard services.electorPart?.value.job == certificate.claim.job else { return false }
        default: return false
        }
        services.memberPart?.value.stored(request.ticket, .stored(path: ""), at: now)
        return true
    }
}
