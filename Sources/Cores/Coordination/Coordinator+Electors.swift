public import Consensus
import Digests
import Messages
public import Primitives
import Record
import Telemetry
import Training

/// What a leader that electors have elected knows of them.
struct ElectorSeats: Sendable {
    /// The newest that is known here.
    var certificate: Certificate?
    /// Electors that are not here, and since when.
    var away: [PeerID: Instant] = [:]
    /// Since when the launcher is waited for, to collect the result.
    var launcherAwaited: Instant?
    /// Another has led the job to its end.
    var isOver = false
    /// Others take their seats. Who has lied gets none again.
    var unfit: [PeerID: ElectorDesk.Unfitness] = [:]
    /// Who gets the log to become an elector, since when, and whether it has it.
    var prepared: [PeerID: (since: Instant, isReady: Bool)] = [:]
    /// Who did not get it in time, and when that was.
    var slow: [PeerID: Instant] = [:]
    func isLiar(_ peer: PeerID) -> Bool { unfit[peer] == .hasLied }
}

/// Who carries the record: chosen when the text is everywhere, replaced when somebody has been away for a minute.
extension Coordinator {
    /// Whose machine began the job, or its era: it keeps its seat, because the result goes there.
    var launcher: PeerID { record.founder }
    /// An elector that is away for so long is replaced.
    static let electorPatience = Duration.seconds(60)
    /// Whoever is to be an elector has so long to get the log.
    static let preparingPatience = Duration.seconds(15)

    /// A quorum has signed for so many entries.
    public mutating func certified(_ certificate: Certificate, at now: Instant) {
        timers.seats?.certificate = certificate
        wake(at: now)
    }

    /// It loses its seat as if it had left.
    public mutating func unseat(_ peer: PeerID, _ why: ElectorDesk.Unfitness, at now: Instant) {
        guard let seats = timers.seats, !seats.isLiar(peer) else { return }
        timers.seats!.unfit[peer] = why
        wake(at: now)
    }

    /// It has the log, and can be made an elector.
    public mutating func caughtUp(_ peer: PeerID, at now: Instant) {
        guard timers.seats?.prepared[peer] != nil else { return }
        timers.seats!.prepared[peer]!.isReady = true
        wake(at: now)
    }

    /// One step towards the electors that the job asks for.
    mutating func stepElectors() -> Bool {
        guard timers.seats != nil, parameters.isCarriedByMany else { return false }
        watchElectors()
        giveUpSlow()
        // One change at a time, each when all before it is for ever.
        guard record.committed == record.length, state.finished == nil, stage.isPastSharing else { return false }
        let now = record.electorate
        if now.isJoint {
            guard let proof = timers.seats!.certificate, record.electorate(at: proof.claim.size) == now else {
                return false
            }
            return propose(.electors(ElectorsChange(now.changed, proof: proof, reason: "both sets have agreed")))
        }
        let choice = chosenElectors()
        guard prepare((choice?.0 ?? []).filter { !now.isVoter($0) }) else { return false }
        guard let (voters, why) = choice, let next = now.changing(to: voters) else { return false }
        guard propose(.electors(ElectorsChange(next, reason: cleaned(why, bytes: Bounds.reasonBytes)))) else {
            return false
        }
        event(.electorsChosen(electors: voters.map { name(ofElector: $0) }.joined(separator: ","), why: why))
        return true
    }
    /// Nobody is made an elector before it has the log: what it had acknowledged on a disk that is lost it cannot know before, and whoever does
    /// not know votes for nobody.
    /// - Returns: whether all of them have it.
    private mutating func prepare(_ peers: [PeerID]) -> Bool {
        let peers = peers.sorted()
        if peers != timers.seats!.prepared.keys.sorted() {
            let before = timers.seats!.prepared
            timers.seats!.prepared = [:]
            for peer in peers { timers.seats!.prepared[peer] = before[peer] ?? (now, false) }
            effects.push(.prepare(peers))
        }
        return timers.seats!.prepared.values.allSatisfy(\.isReady)
    }
    /// Another is chosen instead of somebody who does not answer.
    private mutating func giveUpSlow() {
        for (peer, state) in timers.seats!.prepared where !state.isReady && now - state.since >= Self.preparingPatience
        {
            timers.seats!.slow[peer] = now
        }
        let before = now
        timers.seats!.slow = timers.seats!.slow.filter { before - $0.value < Self.electorPatience }
    }
    var nextPreparation: Instant? {
        guard let seats = timers.seats else { return nil }
        return earliest(
            seats.prepared.values.filter { !$0.isReady }.map { $0.since + Self.preparingPatience }.filter { $0 > now }
                .min(),
            seats.slow.values.map { $0 + Self.electorPatience }.min())
    }
    private func name(ofElector peer: PeerID) -> String { peer == launcher ? "launcher" : roster.name(of: peer) }

    private mutating func watchElectors() {
        for peer in record.electorate.voters where peer != key.peerID && peer != launcher {
            if roster.isJoined(peer) {
                timers.seats!.away[peer] = nil
            } else if timers.seats!.away[peer] == nil {
                timers.seats!.away[peer] = now
            }
        }
    }

    /// The voters that should be, where they are not those that are; and why.
    ///
    /// Members have the text, which is what a leader needs. Whoever has been away for a minute, or has lied, has lost its seat when another
    /// can take it.
    private mutating func chosenElectors() -> ([PeerID], why: String)? {
        let seats = timers.seats!
        let voters = record.electorate.voters
        func isGone(_ peer: PeerID) -> Bool {
            seats.unfit[peer] != nil && peer != launcher
                || seats.away[peer].map { now - $0 >= Self.electorPatience } ?? false
        }
        let gone = voters.filter(isGone)
        let able = roster.joined.filter {
            $0.readiness.hasText && state.isPresent($0.peer) && !voters.contains($0.peer)
                && !seats.isLiar($0.peer) && seats.slow[$0.peer] == nil
        }
        var choice = ElectorChoice(
            asked: parameters.electors, seated: voters.filter { !isGone($0) }.map(candidate),
            able: able.map { candidate($0.peer) }, seen: roster.attendance(at: now))
        guard var (peers, why) = choice.choose() else { return nil }
        // Who is being prepared is not exchanged for somebody who has become a little better meanwhile.
        choice.able.removeAll { seats.prepared[$0.peer] == nil }
        if let same = choice.choose(), same.peers.count == peers.count { (peers, why) = same }
        // Whoever has lost its disk may have a seat again, with another.
        for peer in gone where !seats.isLiar(peer) { timers.seats!.unfit[peer] = nil }
        let reasons = gone.map { peer in
            let name = name(ofElector: peer)
            switch seats.unfit[peer] {
            case .hasLied: return "\(name) has lied"
            case .hasLostItsDisk: return "\(name) has lost what it had on disk"
            case nil: break
            }
            return "\(name) has been away for \(fixed((now - seats.away[peer]!).inSeconds, 0)) s"
        }
        return (peers, (reasons + why).joined(separator: "; "))
    }
    private func candidate(_ peer: PeerID) -> ElectorChoice.Candidate {
        guard let known = roster[peer] else { return ElectorChoice.Candidate(peer, name: name(ofElector: peer)) }
        return ElectorChoice.Candidate(
            peer, name: known.name, network: known.endpoint.network, roundTrip: known.roundTrip,
            disk: known.fitness?.disk, isReachable: known.fitness?.isReachable ?? true,
            uptime: known.attendance.seen(at: now).share, isKeeper: !known.computes)
    }

    // MARK: the result

    /// The result is on this machine's disk before anybody is told that the job is over: members then let go of what they hold, and whatever
    /// comes after, this process may not live to see it.
    mutating func keepResult(_ states: [UnitState], round: Int) {
        timers.resultOnItsWay = round
        effects.push(.store(.checkpoint(job: job, round: round, states)))
    }
    mutating func resultIsKept(round: Int) {
        guard timers.resultOnItsWay == round, checkpoint.round == round, stage == .collecting else { return }
        timers.resultOnItsWay = nil
        finishWithCheckpoint()
    }

    /// The result belongs to whoever launched the job. Another leader waits for the launcher to come back and lead; if it does not, it
    /// collects the weights itself and keeps them on its disk.
    mutating func awaitsLauncher() -> Bool {
        guard timers.seats != nil, key.peerID != launcher else { return false }
        if timers.seats!.launcherAwaited == nil {
            timers.seats!.launcherAwaited = now
            event(.launcherAwaited(seconds: options.launcherPatience.inSeconds))
        }
        return now - timers.seats!.launcherAwaited! < options.launcherPatience
    }
    /// For how long the launcher is still waited for; nil where it is not.
    public var awaitsLauncherFor: Duration? {
        timers.seats?.launcherAwaited.map { max(.zero, $0 + options.launcherPatience - now) }
    }
    /// Said again and again while it waits: the launcher may be here by now.
    mutating func offerLeadership() {
        if timers.seats?.launcherAwaited != nil, stage.isRunning { effects.push(.handOver(to: launcher)) }
    }
}

extension Endpoint {
    /// The first three bytes of an IPv4 address, the first six of another: machines of one network often fail together.
    var network: [UInt8] { Array(address.prefix(isIPv4 ? 3 : 6)) }
}
