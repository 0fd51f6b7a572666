public import Messages
public import Primitives
import Record

/// How a peer stands towards the job.
public enum Standing: Hashable, Sendable {
    /// Connected; asked what it can do.
    case met
    /// It does not work for us, or cannot; why.
    case declined(String)
    /// It took the offer, and waits to be written into the log.
    case accepted
    /// In the log, and present.
    case joined
    /// Given up, with the reason; it may come back.
    case lost(String)
}

/// Round starts that a member says it has.
struct SaidStarts: Sendable {
    /// On its disk.
    private(set) var kept: [KeptStage] = []
    /// Of which it said so since the plan in force, and says no more: they could not be read.
    var withdrawn: [KeptStage] = []
    /// The last of which it said that its engine holds it.
    var inMemory: Int?
    /// The last that it had to fetch.
    var fetched: Int?

    /// - Parameter round: of the log: what is later is of seals that are void, and a member has taken it away for that.
    mutating func say(_ stages: [KeptStage], round: Int) {
        withdrawn = (withdrawn + kept.filter { $0.round <= round }).filter { !stages.contains($0) }.suffix(
            KeptStage.most)
        kept = stages
    }
}

/// Who is there. Standings change here and nowhere else; whether a peer is a member is what the log says.
public struct Roster: Sendable {
    public struct Peer: Sendable {
        public let peer: PeerID
        public internal(set) var endpoint: Endpoint
        public internal(set) var name: String
        public internal(set) var capability: Capability?
        public internal(set) var standing = Standing.met
        public internal(set) var lastHeard: Instant
        public internal(set) var heartbeat = Heartbeat()
        public internal(set) var readiness = Readiness.fetchingText
        var starts = SaidStarts()
        var sent = SentForJob()
        /// Its connection has broken, and it was not heard since.
        var isInterrupted = false
        /// Since when its readiness, or the progress towards it, has not changed.
        public internal(set) var idleSince: Instant
        /// The least of its round trips to here.
        public internal(set) var roundTrip: Duration?
        public internal(set) var fitness: Fitness?
        /// Since it joined first.
        public internal(set) var attendance = Attendance()
        var askedAgain: Instant?
        /// The round in progress when it joined last.
        public internal(set) var joinedIn = 0
        /// Seconds by which its clock is ahead of ours, as its first receipt since it joined says.
        public internal(set) var clockLead: Int64?
        /// How often it has declined in a row; how often it has said that it leaves, or stays after all,
        /// and since when that is counted.
        var times = (declined: 0, turned: 0, since: Instant(nanoseconds: .min / 4))
        /// Its timer in ``Roster/silences``, and its number in the order of arrival.
        let place: (timer: Int, arrival: Int)

        /// Whether its owner lets it work for this launcher, as it said: what it declined it may take later.
        var acceptsLauncher: Bool { capability?.accepts.isEmpty == false }
        /// Round starts on its own disk.
        public var kept: [KeptStage] { starts.kept }
        /// At its sockets, since it joined, as it last said; stays that are over among them.
        public var sentBytes: Int { sent.total }
        public var isJoined: Bool { standing == .joined }
        /// Whether the planner may count on it.
        public var isPlannable: Bool {
            isJoined && capability?.computes == true && readiness.hasText && !heartbeat.isLeaving
        }
        /// Whether it computes, or only carries the record. Who has not said yet may.
        public var computes: Bool { capability?.computes ?? true }
        var mayJoin: Bool {
            switch standing {
            case .met, .declined, .lost: true
            case .accepted, .joined: false
            }
        }
    }

    private var peers: [PeerID: Peer] = [:]
    /// Joined peers, by when they were heard last; whose timer is which; and when anybody was heard last.
    private var silences = TimerHeap()
    private var timers: [PeerID?] = []
    private var freeTimers: [Int] = []
    private var arrivals = 0
    private var sentByForgotten = 0
    private var newest: Instant?
    private var gaps = HeardGaps()
    /// When somebody was heard again after nobody had been for a while: until then it may have been our own line.
    private var returned = Instant(nanoseconds: .min / 4)
    /// For how long nobody is given up after that; nil: for as long as silence lasts.
    private var homecoming: Duration?
    private static let pause = Duration.seconds(2)
    /// Whoever was away for so long has lost its connections, and others find it again one after the other: a dial that failed, the pause after it,
    /// and another dial.
    private static let absence = Duration.seconds(5)
    private static let reunion = Duration.seconds(15)
    /// How many took the offer and are not in the log yet; how many have declined.
    private(set) var acceptedCount = 0
    private(set) var declinedCount = 0
    /// Joined peers that lack the text, and since when they have not come further.
    private(set) var textless: [PeerID: Instant] = [:]
    /// In order of arrival, which orders what is said to them.
    public private(set) var order: [PeerID] = []
    /// When somebody accepted last.
    package private(set) var lastArrival: Instant
    /// When somebody new was met last.
    package private(set) var lastMet: Instant
    /// When this process last looked: after a longer pause it was asleep itself, and nobody is blamed for that.
    private var lastLook: Instant
    /// Who has said last that it yields.
    private var yielders: [PeerID] = []
    /// More peers than this are not remembered; who is lost or has declined goes first.
    package static let most = 4096

    package init(at now: Instant) {
        lastArrival = now
        lastMet = now
        lastLook = now
    }

    public subscript(_ peer: PeerID) -> Peer? { peers[peer] }
    public var all: [Peer] { order.compactMap { peers[$0] } }
    public var joined: [Peer] { all.filter(\.isJoined) }
    public var joinedCount: Int { silences.count }
    /// Whether a member is here that computes.
    package var hasWorkers: Bool { joinedCount > 0 && order.contains { peers[$0]!.isJoined && peers[$0]!.computes } }
    /// How many who compute are members, or have taken the offer.
    package var workerCount: Int {
        order.count { peer in
            let known = peers[peer]!
            return known.computes && (known.isJoined || known.standing == .accepted)
        }
    }
    public var accepted: [Peer] { all.filter { $0.standing == .accepted } }
    public func isJoined(_ peer: PeerID) -> Bool { peers[peer]?.isJoined ?? false }
    public func name(of peer: PeerID) -> String { peers[peer]?.name ?? peer.short }
    package var declined: [(name: String, why: String)] {
        all.compactMap { peer in if case .declined(let why) = peer.standing { (peer.name, why) } else { nil } }
    }

    // MARK: changes

    /// - Returns: whether it is to be asked what it can do.
    package mutating func met(_ peer: PeerID, at endpoint: Endpoint, now: Instant) -> Bool {
        if peers[peer] == nil {
            guard makeRoom() else { return false }
            order.append(peer)
            lastMet = now
            let timer = freeTimers.popLast() ?? timers.count
            if timer == timers.count { timers.append(peer) } else { timers[timer] = peer }
            arrivals += 1
            peers[peer] = Peer(
                peer: peer, endpoint: endpoint, name: peer.short, lastHeard: now, idleSince: now,
                place: (timer, arrivals))
            return true
        }
        peers[peer]!.endpoint = endpoint
        heard(peer, at: now)
        return peers[peer]!.mayJoin
    }
    private mutating func makeRoom() -> Bool {
        guard order.count >= Self.most else { return true }
        let gone = order.firstIndex { peer in
            switch peers[peer]!.standing {
            case .lost, .declined, .met: true
            case .accepted, .joined: false
            }
        }
        guard let gone else { return false }
        let peer = order.remove(at: gone)
        stand(peer, .met)
        let known = peers.removeValue(forKey: peer)!
        sentByForgotten = SentForJob.sum(sentByForgotten, known.sentBytes)
        timers[known.place.timer] = nil
        freeTimers.append(known.place.timer)
        return true
    }
    package mutating func heard(_ peer: PeerID, at now: Instant) {
        guard let known = peers[peer] else { return }
        // Whoever was given up for silence, or has lost its connection, was away: that is no measure of how often the others are heard.
        if known.isJoined, !known.isInterrupted, now - known.lastHeard < Self.absence {
            gaps.heard(after: now - known.lastHeard, at: now)
        }
        peers[peer]!.lastHeard = now
        peers[peer]!.isInterrupted = false
        if let newest, now - newest > Self.pause {
            // Whoever wakes while its line is still away returns twice.
            let isReturning = homecoming.map { now - returned <= $0 } ?? false
            returned = now
            homecoming = isReturning || now - newest > Self.absence ? Self.reunion : nil
        }
        newest = max(newest ?? now, now)
        if known.isJoined { silences.set(known.place.timer, at: now) }
    }
    /// Its connection has broken; its session waits for another.
    package mutating func interrupted(_ peer: PeerID) { peers[peer]?.isInterrupted = true }
    /// The one place where a standing changes.
    private mutating func stand(_ peer: PeerID, _ standing: Standing) {
        guard let known = peers[peer] else { return }
        count(known.standing, -1)
        count(standing, 1)
        peers[peer]!.standing = standing
        let joins = standing == .joined
        guard joins != known.isJoined else { return }
        peers[peer]!.attendance.turn(isHere: joins, at: lastLook)
        silences.set(known.place.timer, at: joins ? known.lastHeard : nil)
        if joins { newest = max(newest ?? known.lastHeard, known.lastHeard) }
        textless[peer] = joins && !known.readiness.hasText ? known.idleSince : nil
    }
    private mutating func count(_ standing: Standing, _ change: Int) {
        switch standing {
        case .accepted: acceptedCount += change
        case .declined: declinedCount += change
        case .met, .joined, .lost: break
        }
    }
    private mutating func idles(_ peer: PeerID, since now: Instant) {
        peers[peer]?.idleSince = now
        if textless[peer] != nil { textless[peer] = now }
    }

    /// It says what it can do: a name of its own, different from all others.
    package mutating func says(_ capability: Capability, _ peer: PeerID) {
        let isTaken = capability.name.isEmpty || peers.values.contains { $0.peer != peer && $0.name == capability.name }
        let before = peers[peer]?.capability
        peers[peer]?.capability = capability
        // Whoever has said once that it computes is waited for as such, whatever it says then.
        if let before, before.computes, !capability.computes { peers[peer]?.capability?.flops = before.flops }
        // Long, and said for the offer only.
        peers[peer]?.capability?.accepts = []
        peers[peer]?.name =
            isTaken ? "\(capability.name.isEmpty ? "peer" : capability.name)-\(peer.short)" : capability.name
    }
    /// A member has measured how fast it is at this job's work: FLOP/s.
    package mutating func measures(_ flops: Double, _ peer: PeerID) {
        if flops > 0 { peers[peer]?.capability?.flops = flops }
    }
    /// - Returns: whether that is news.
    @discardableResult
    package mutating func declines(_ peer: PeerID, why: String, at now: Instant) -> Bool {
        let isNews = peers[peer]?.standing != .declined(why)
        stand(peer, .declined(why))
        peers[peer]?.times.declined += 1
        peers[peer]?.askedAgain = now
        return isNews
    }
    /// - Returns: whether that is news.
    package mutating func accepts(_ peer: PeerID, at now: Instant) -> Bool {
        guard let known = peers[peer], known.mayJoin, known.capability != nil else { return false }
        stand(peer, .accepted)
        peers[peer]!.times.declined = 0
        peers[peer]!.readiness = .fetchingText
        peers[peer]!.heartbeat.isLeaving = false
        peers[peer]!.starts = SaidStarts()
        peers[peer]!.sent.end()
        peers[peer]!.idleSince = now
        lastArrival = now
        return true
    }
    /// The log has it.
    package mutating func joins(_ peer: PeerID, in round: Int = 0) {
        stand(peer, .joined)
        peers[peer]?.joinedIn = round
        // Perhaps it is another process, with another clock.
        peers[peer]?.clockLead = nil
    }
    /// A member that a leader before has taken in.
    package mutating func adopt(_ peer: PeerID, at endpoint: Endpoint, _ capability: Capability, now: Instant) {
        _ = met(peer, at: endpoint, now: now)
        guard peers[peer] != nil else { return }
        says(capability, peer)
        joins(peer)
    }
    /// A clock may be wrong; while a process lives it is always wrong alike. So the first receipt says how far it is off.
    /// - Parameters:
    ///   - signed: when the receipt was signed, in seconds since 1970 of its clock.
    ///   - wall: when it came, of ours.
    mutating func learnsClock(of peer: PeerID, signed: Int64?, came wall: Int64) {
        guard let signed, peers[peer]?.clockLead == nil else { return }
        let (lead, overflows) = signed.subtractingReportingOverflow(wall)
        peers[peer]?.clockLead = overflows ? 0 : min(max(lead, -Self.farthest), Self.farthest)
    }
    /// Seconds; some 35 000 years.
    private static let farthest: Int64 = 1 << 40
    package mutating func loses(_ peer: PeerID, why: String) { stand(peer, .lost(why)) }

    /// - Returns: whether it leaves now, or stays after all. Of whoever has said so very often that is not heard any more.
    @discardableResult
    package mutating func beats(_ heartbeat: Heartbeat, _ peer: PeerID, at now: Instant) -> Bool {
        guard let known = peers[peer] else { return false }
        if known.heartbeat.activity != heartbeat.activity { idles(peer, since: now) }
        peers[peer]!.heartbeat = heartbeat
        peers[peer]!.sent.says(heartbeat.sent.bytes)
        peers[peer]!.heartbeat.trace = nil
        if now - known.times.since >= Self.leavingsEvery {
            (peers[peer]!.times.turned, peers[peer]!.times.since) = (0, now)
        }
        let turns = heartbeat.isLeaving != known.heartbeat.isLeaving && peers[peer]!.times.turned < Self.mostLeavings
        defer { noteYielding(peer) }
        if turns {
            peers[peer]!.times.turned += 1
        } else {
            peers[peer]!.heartbeat.isLeaving = known.heartbeat.isLeaving
        }
        return turns
    }
    /// So often in so long: a peer that says now this and now that is not planned for each time.
    private static let (mostLeavings, leavingsEvery) = (16, Duration.seconds(600))
    private mutating func noteYielding(_ peer: PeerID) {
        let yields = peers[peer]?.heartbeat.isYielding ?? false
        guard yields != yielders.contains(peer) else { return }
        yielders.removeAll { $0 == peer }
        if yields { yielders.append(peer) }
    }
    /// Something is done about it: it is told again with the next heartbeat, where that did not help.
    package mutating func heedsYielding(of peer: PeerID) { yielders.removeAll { $0 == peer } }
    /// Members that compute nothing any more, and are here until others have what they hold.
    package var yielding: [PeerID] {
        yielders.filter { peers[$0]?.isJoined == true && peers[$0]!.heartbeat.isYielding }
    }
    package mutating func isReady(_ readiness: Readiness, _ peer: PeerID, at now: Instant) {
        if case .atRound(_, let round) = readiness {
            if case .fetchingState? = peers[peer]?.readiness { peers[peer]!.starts.fetched = round }
            peers[peer]?.starts.inMemory = round
        }
        peers[peer]?.readiness = readiness
        if readiness.hasText {
            textless[peer] = nil
        } else if isJoined(peer) {
            textless[peer] = now
        }
        idles(peer, since: now)
    }
    /// Whether a member has to fetch a round's start, or had to: it begins the round later than others, and that once.
    package func hasFetched(_ round: Int, _ peer: PeerID) -> Bool {
        guard let known = peers[peer] else { return false }
        if case .fetchingState = known.readiness { return true }
        return known.starts.fetched == round
    }
    /// The job is over, and it says how much it has sent in all.
    package mutating func concludes(_ heartbeat: Heartbeat, _ peer: PeerID) {
        guard let known = peers[peer], known.isJoined else { return }
        peers[peer]!.sent.says(heartbeat.sent.bytes)
    }
    /// At their sockets by all who are or were members, for the job, as they last said.
    public var sentBytes: Int {
        peers.values.reduce(sentByForgotten) { SentForJob.sum($0, $1.sentBytes) }
    }
    package mutating func isFit(_ fitness: Fitness, _ peer: PeerID) { peers[peer]?.fitness = fitness }
    /// - Parameter round: of the log.
    package mutating func keeps(_ stages: [KeptStage], _ peer: PeerID, round: Int) {
        guard peers[peer] != nil else { return }
        peers[peer]!.starts.say(stages, round: round)
    }
    /// Another plan says who has what.
    package mutating func forgetWithdrawn() {
        for peer in order { peers[peer]!.starts.withdrawn = [] }
    }
    /// Whether a member may have a unit as of the start of a round: it has not said that it could not read it, and has not waited in vain itself
    /// for what it never said that it had.
    package func mayHave(_ unit: Int, round: Int, _ peer: PeerID, at now: Instant) -> Bool {
        guard let known = peers[peer] else { return false }
        func isOf(_ stage: KeptStage) -> Bool { stage.round == round && stage.units.contains(unit) }
        if known.starts.withdrawn.contains(where: isOf) { return false }
        guard case .fetchingState = known.readiness else { return true }
        return known.starts.inMemory == round || known.kept.contains(where: isOf)
            || now - known.idleSince < Self.fetchPatience
    }
    /// Whoever fetches and gets no further for so long waits for somebody who has it no more than it has.
    package static let fetchPatience = Duration.seconds(20)
    package mutating func trip(_ time: Duration, _ peer: PeerID) {
        guard let known = peers[peer] else { return }
        peers[peer]!.roundTrip = min(known.roundTrip ?? time, time)
    }
    /// - Returns: whether to ask a peer that was given up, but still speaks, to join again.
    package mutating func mayAskAgain(_ peer: PeerID, at now: Instant) -> Bool {
        guard let known = peers[peer], case .lost = known.standing else { return false }
        guard known.askedAgain.map({ now - $0 >= .seconds(5) }) ?? true else { return false }
        peers[peer]!.askedAgain = now
        return true
    }

    /// Who declined may work for us later, when another job of it is over: it is asked again, after five seconds and then twice as long
    /// each time, at most a minute.
    package mutating func declinersToAskAgain(at now: Instant) -> [PeerID] {
        guard declinedCount > 0 else { return [] }
        return order.filter { peer in
            guard case .declined = peers[peer]!.standing else { return false }
            let pause = min(Duration.seconds(60), .seconds(5) * (1 << min(peers[peer]!.times.declined - 1, 4)))
            guard now - (peers[peer]!.askedAgain ?? .zero) >= pause else { return false }
            peers[peer]!.askedAgain = now
            return true
        }
    }
    /// Whether nobody of those who declined may think again: their owners do not know this launcher, or they compute otherwise. Whoever works for
    /// another job, is paused, or has no room just now may be free, back or rid of something in a moment.
    package var declineForGood: Bool {
        order.allSatisfy { peer in
            if case .declined = peers[peer]!.standing { return !peers[peer]!.acceptsLauncher }
            return true
        }
    }
    /// Of the list of those whom its owner accepts it is kept whether this launcher is among them.
    package mutating func accepts(launcher: PeerID?, _ peer: PeerID) {
        peers[peer]?.capability?.accepts = launcher.map { [$0] } ?? []
    }

    /// Time that was seen of all who have ever joined, and the share of it in which they were here.
    package func attendance(at now: Instant) -> (time: Duration, share: Double) {
        var (here, all) = (0.0, 0.0)
        for peer in order {
            let (time, share) = peers[peer]!.attendance.seen(at: now)
            here += time.inSeconds * share
            all += time.inSeconds
        }
        return (.nanoseconds(Int64(all * 1e9)), all > 0 ? here / all : 1)
    }

    // MARK: silence

    /// Who hears nobody suspects itself first: when all members are silent it is our own line.
    package static let isolation = Duration.seconds(120)
    /// A pause of this process that says more about it than about others. It has something to do at least every two seconds.
    private static let nap = Duration.milliseconds(3500)

    /// Whether somebody would be given up for silence while all others are silent, too. They are heard every second, but not
    /// at the same moments: so half of the time counts for them. Where every connection has broken it is our line, however lately that
    /// happened: others close theirs because they do not hear us. Whoever only waits to be taken in shows, too, that our line is good.
    package func isIsolated(silence: Duration, at now: Instant) -> Bool {
        guard let newest, let oldest = silences.next, now - oldest > silence else { return false }
        return now - newest > silence / 2
            || order.allSatisfy { peer in
                let known = peers[peer]!
                return known.isInterrupted || !known.isJoined && known.standing != .accepted
            }
    }
    /// The longest that a member which is here was not heard lately; nil before that is known.
    package var longestGap: Duration? { gaps.longest }
    private func patience(_ silence: Duration, at now: Instant) -> Duration {
        isIsolated(silence: silence, at: now) ? Self.isolation : silence
    }
    /// Members of which nothing has been heard for too long, in order of arrival.
    package func silent(for silence: Duration, at now: Instant) -> [PeerID] {
        let overdue = silences.due(at: now - patience(silence, at: now) - .nanoseconds(1))
        guard !overdue.isEmpty, now - returned > homecoming ?? silence else { return [] }
        let peers = overdue.compactMap { timers[$0].flatMap { self.peers[$0] } }
        return peers.sorted { $0.place.arrival < $1.place.arrival }.map(\.peer)
    }
    /// When the next of them is due.
    package func nextSilence(_ silence: Duration, at now: Instant) -> Instant? {
        silences.next.map {
            max($0 + patience(silence, at: now), returned + (homecoming ?? silence)) + .milliseconds(1)
        }
    }
    /// Called at every input: after a pause of our own everybody gets time to be heard again.
    ///
    /// - Returns: how long this process slept, if it did.
    package mutating func look(at now: Instant) -> Duration? {
        defer { lastLook = now }
        guard now - lastLook > Self.nap else { return nil }
        forgive(at: now)
        return now - lastLook
    }
    /// For so long nobody could fetch the text.
    package mutating func excuse(_ pause: Duration) {
        for peer in textless.keys { textless[peer]! += pause }
    }
    /// One of them is heard again after all were silent: the others get time, too.
    package mutating func forgive(at now: Instant) {
        for peer in order where peers[peer]!.isJoined { heard(peer, at: now) }
    }
}
