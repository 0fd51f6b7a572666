import Messages
import Primitives
import Record
import Telemetry
import Training

/// What the leader says, and what the log says.
extension MemberJob {
    package mutating func receiveCommand(_ packet: Packet, from peer: PeerID) {
        if case .logEntries(let entries) = packet.message { return receive(entries, packet.term, from: peer) }
        // Whoever was asked what has become of the job says until when it is led, too.
        if case .lease = packet.message, !isServing, !allegiance.isElector(peer), job.member(peer) != nil { return }
        switch allegiance.hear(term: packet.term, from: peer, newest: record.term) {
        case .stranger: return refuse(packet.message, from: peer)
        case .stale:
            if refused.stale.note(at: now) { event(.staleCommand(term: packet.term), peer: peer) }
            return
        case .newLeader: follow(newLeader: peer)
        case .obeyed: break
        }
        switch packet.message {
        case .lease(let lease):
            // Its leader stops, and means to go on.
            guard lease.duration > .zero else { return pause("its launcher has stopped for now") }
            resume(for: lease.duration)
            log.hear(length: lease.logLength, at: now)
            if let step = lease.tracedStep {
                engine.stepWish.wish(step, current: holding.work?.step ?? job.nextStep - 1)
            }
        case .probeOrder(let order): probe.receive(amongMembers(order), at: now)
        case .group(let terms): holding.receive(terms, job)
        case .auditOrder(let order): holding.receive(order)
        case .dismissal(let dismissal): receive(dismissal)
        default: break
        }
    }

    /// Entries prove themselves: they are taken from any elector or member.
    private mutating func receive(_ entries: LogEntries, _ term: Int, from peer: PeerID) {
        guard isEntitled(peer) else { return refuse(.logEntries(entries), from: peer) }
        if allegiance.hear(term: term, from: peer, newest: record.term) == .newLeader { follow(newLeader: peer) }
        let fresh = log.receive(entries, from: peer, isLeader: allegiance.isLeader(peer), at: now)
        for entry in fresh {
            announce(entry)
            if case .plan(let change) = entry, change.rolledBack {
                // Before anything new is asked of the engine for those rounds.
                drain()
                engine.forgetExports(after: change.plan.round)
                states.forget(after: change.plan.round)
            }
            holding.entered(entry, at: now)
        }
        if log.isLost, record.electors.count == 1 {
            // Whoever keeps its entries could never follow again. It says so, is offered the job anew, and begins with the log that there is.
            report(
                .farewell(
                    reason: "it has entries that its launcher has lost, and begins anew with those that there are"))
            return end(
                "its launcher has lost entries of the log that it had shown, and others are in their place", .forked)
        }
        guard !fresh.isEmpty else { return }
        reports.forget(before: job.round)
        if let finish = job.finished { end(finish.reason == Finish.done ? "finished" : finish.reason, .over) }
    }

    /// Pings and bursts go to members only, whatever an order says.
    private func amongMembers(_ order: ProbeOrder) -> ProbeOrder {
        func isMember(_ target: ProbeOrder.Target) -> Bool { target.peer != me && job.isPresent(target.peer) }
        var out = order
        out.pings.removeAll { !isMember($0) }
        out.bursts.removeAll { !isMember($0.to) }
        return out
    }

    private mutating func receive(_ dismissal: Dismissal) {
        switch dismissal.kind {
        case .jobEnded, .jobFailed: end(dismissal.reason, .over)
        case .removed:
            event(.jobReleased(job: id.short, why: dismissal.reason))
            remove()
        }
    }

    /// A newer term: it has to be told what the one before knew.
    package mutating func follow(newLeader peer: PeerID) {
        event(.leaderChanged(term: allegiance.term), peer: peer)
        log.changeLeader(at: now)
        text.add(holder: peer, at: now)
        sayAgain()
    }

    private mutating func announce(_ entry: Entry) {
        switch entry {
        case .members(let change):
            // Only now the leader listens to reports.
            if change.joined.contains(where: { $0.peer == me }) { sayAgain() }
            for joined in change.joined where joined.peer != me {
                effects.push(.connect(joined.peer, joined.endpoint))
                text.add(holder: joined.peer, at: now)
            }
            for left in change.left {
                text.lost(left.peer, at: now)
                states.forget(left.peer)
                event(.peerLeft(why: left.reason), peer: left.peer)
            }
        case .plan(let change):
            let stage = change.plan.stage(of: me)
            if let up = stage?.up { effects.push(.uplink(up)) }
            let role = change.plan.placement(of: me).map { place in
                "pipeline \(place.rank) stage \(place.stage) units \(stage!.units.lowerBound)..<\(stage!.units.upperBound)"
            }
            let unplaced = job.member(me)?.flops == 0 ? "record" : "spare"
            event(.planReceived(epoch: change.plan.epoch, role: role ?? unplaced))
        case .electors(let change):
            guard let era = change.era else { return allegiance.change(electors: change.electors) }
            allegiance.change(electors: change.electors, era: era)
            event(.jobRefounded(era: era, entries: record.foundings.last ?? 0, why: change.reason))
        case .genesis, .seal, .states, .finish, .opening: break
        }
    }

    // MARK: draining

    /// What the machines want, passed on: the only place where it is.
    package mutating func drain() {
        see()
        while let effect = log.poll() {
            switch effect {
            case .ask(let index): report(.logRequest(from: index))
            case .store(let request): effects.push(.store(request))
            case .event(let what, let peer): event(what, peer: peer)
            }
        }
        while let effect = text.poll() {
            switch effect {
            case .send(let message, let peer): send(message, to: peer)
            case .store(let request): effects.push(.store(request))
            case .complete(let bytes): effects.push(.corpus(bytes))
            case .event(let what, let peer): event(what, peer: peer)
            }
        }
        while let effect = holding.poll() { perform(effect) }
        while let effect = states.poll() {
            switch effect {
            case .send(let message, let peer): send(message, to: peer)
            case .export(let units, let moments, let round):
                engine.submit(
                    .exportState(units: units, includeMoments: moments), .export(units: units, round: round), at: now)
            case .read(let name): holding.read(name)
            }
        }
        while let effect = probe.poll() {
            switch effect {
            case .connect(let peer, let endpoint): effects.push(.connect(peer, endpoint))
            case .send(let message, let peer): send(message, to: peer)
            case .report(let result):
                // The leader shall know over which paths this was measured.
                tellPaths()
                report(.probeResult(result))
            }
        }
        while let job = engine.poll() { effects.push(.compute(job)) }
    }

    private mutating func perform(_ effect: Holding.Effect) {
        switch effect {
        case .compute(let job, let purpose): engine.submit(job, purpose, at: now)
        case .void: engine.void()
        case .send(let message, let peer):
            if case .exchangePart(let part) = message {
                guard job.isPresent(peer) else { return }
                exchangeBytes += part.bytes
            }
            send(message, to: peer)
        case .report(let message):
            reports.keep(message, round: round(of: message))
            report(message)
        case .receipt(var receipt):
            receipt.exchangeBytes = exchangeBytes
            exchangeBytes = 0
            let envelope = receipt.signed(
                job: id, epoch: job.plan?.epoch ?? 0, wall: wall.seconds(at: now), by: key)
            reports.keep(.receipt(envelope), round: receipt.work.round)
            report(.receipt(envelope))
        case .store(let request): effects.push(.store(request))
        case .notEntitled(let peer, let message): refuse(message, from: peer)
        case .event(let what, let peer): event(what, peer: peer)
        }
    }
    private func round(of message: Message) -> Int {
        switch message {
        case .held(let held): held.work.round
        case .gathered(let gathered): gathered.group.round
        case .objection(let objection): objection.work.round
        case .setback(let setback): setback.work.round
        case .applied(let applied): applied.round
        default: job.round
        }
    }
}

extension MemberJob {
    package struct Machine: Sendable {
        package var fitness = Fitness(disk: nil, isReachable: true)
        /// How sessions with others go, of the job or not; those that are direct are not here.
        package var paths: [PeerID: PeerPath] = [:]
        /// Of the processor time that it asked for; nil where others leave it enough, or that is not known.
        package var processorShare: Double?
    }
}
