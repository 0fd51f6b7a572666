public import Channels
public import Coordination
public import Digests
public import Kademlia
public import Membership
public import Messages
public import Paths
public import Planning
public import Primitives
public import Record
public import Telemetry
public import Training
public import Wire

/// A whole daemon without its sockets, clock, disk and arithmetic: overlay, channels, and services for jobs.
///
/// The libuv driver and the simulator run this very value. It composes cores and drains them in one place. Packets are decoded once,
/// here, and go by their conversation: commands to the member, reports to the coordinator, work to the member, contents to who holds
/// them. What one service says to another of the same daemon does not leave it.
public struct DaemonCore: Core {
    public enum Service: Hashable, Sendable { case member, coordinator, elector, refounding }

    public enum Effect: Sendable {
        case datagram([UInt8], to: Endpoint)
        case dial(ConnectionID, Endpoint, expecting: PeerID?)
        /// The same from the listening port and no other, while the other end dials here.
        case punch(ConnectionID, Endpoint, expecting: PeerID)
        case flow(ConnectionID, Endpoint, expecting: PeerID?)
        /// A datagram of no meaning from the port that flows have, of so few hops that it passes the router of this machine and no other.
        case opener(Endpoint)
        case write(ConnectionID, [UInt8])
        case close(ConnectionID)
        /// The router is to be asked in UPnP; ``answered(igd:at:)`` follows.
        case igd(IGDWish)
        /// To the router of this machine, from a socket of its own; see ``DaemonCore/receive(gateway:from:at:)``.
        case gateway([UInt8], to: Endpoint)
        /// Begin TLS over bytes that this daemon carries itself, and tell ``DaemonCore/carried(_:_:at:)``. Writing and closing it are those of all
        /// connections.
        case seal(ConnectionID, isClient: Bool, expecting: PeerID)
        /// Ciphertext has come for it.
        case sealed(ConnectionID, [UInt8])
        /// Dial this on TCP and tell ``DaemonCore/dialledBack(_:reached:at:)``; send the datagram from a fresh socket.
        indirect case dialBack(DialBack, Endpoint, datagram: DatagramProbe)
        /// The capability record is due: call ``DaemonCore/publishRecord(wall:at:)`` with the time of day.
        case recordDue
        /// The overlay changed in a way that is worth saving soon.
        case overlayChanged
        /// An operation that the owner started on the overlay through ``DaemonCore/overlay(at:_:)``.
        case found(RequestID, LookupOutcome)
        /// For the engine of this process; results come back in order (``DaemonCore/computed(_:at:)``).
        indirect case compute(ComputeJob)
        /// The job's text is here and verified: the engine's data.
        case corpus(StoredBytes)
        /// Write, off the loop, and answer with ``DaemonCore/stored(_:_:for:at:)``.
        indirect case store(StorageRequest, for: Service)
        /// Search for a plan, slowly, and hand it back with ``DaemonCore/planned(_:at:)``.
        indirect case plan(PlanQuestion)
        case ended(JobEnd)
        /// What is known of the pool's members, to be written.
        case keepBook([UInt8])
        /// The pool's keys that are right now, the one to seal with first: flows are sealed with them, too.
        case poolKeys([[UInt8]])
        indirect case event(Event)
        /// For whoever tells people: a session began over a connection of its own. By name, or short key.
        case connected(String, Endpoint)
    }

    public internal(set) var directory: Directory
    public internal(set) var channels: Channels
    public internal(set) var services: Services
    /// As of the last input.
    public private(set) var nextWake: Instant?
    private var awakeSince = Instant(nanoseconds: .min / 4)
    let key: SigningKey
    var effects = EffectQueue<Effect>()
    var presence: Presence
    /// What it carries for others, and others for it.
    public internal(set) var carriage: Carriage
    /// The job under whose ID this daemon announces itself.
    private var announcedJob: Digest256?
    /// Peers the services want to stay connected with.
    var wanted: [PeerID: Wish] = [:]
    /// It has begun to look for members.
    private var looksForMembers = false
    /// What services of this daemon say to each other.
    private var loopback = EffectQueue<Packet>()
    /// Messages that could not be queued: the peer is not connected, or its queue is full.
    public private(set) var undelivered = 0
    /// Says other things than are due: of a hostile member in the simulator. Nil in every daemon.
    package var tongue: (any Tongue)?
    /// Who has been told of the job lately, without a part in it.
    var reads = ReadLimits()
    /// Requests that wait for room on the way back.
    var requests = RequestQueue()
    /// Strangers decide how often these are said.
    var refusalNews = NewsDigest<String>()

    public init(
        directory: Directory, channels: Channels, services: Services, key: SigningKey, port: UInt16,
        device: String = "", relaying: RelayLimits = .little, carriesFlows: Bool = false, at now: Instant
    ) {
        self.directory = directory
        self.channels = channels
        self.services = services
        self.key = key
        carriage = Carriage(local: key.peerID, limits: relaying, at: now)
        presence = Presence(
            port: port, device: device, isNode: services.isNode, isSilent: services.isServer,
            hasPool: directory.isClosed)
        presence.carriesFlows = carriesFlows
        if services.memberPart != nil {
            self.directory.announce(topic: Self.poolTopic, port: port, at: now)
            self.directory.watch(topic: Self.coordinatorTopic, slowest: .seconds(60), at: now)
        }
        lookForMembers(at: now)
        if services.memberPart != nil, services.coordinatorPart != nil {
            let here = Endpoint(ipv4: 127, 0, 0, 1, port: port)
            self.services.coordinatorPart!.value.established(key.peerID, endpoint: here, at: now)
        }
        drain(at: now)
    }

    /// Under this topic all peers of a pool announce themselves; the target is bound to the pool's key.
    public static let poolTopic = Array("atoll/peers/1".utf8)
    /// Under this topic coordinators announce themselves. Both sides look for each other, so that whoever comes back need not wait
    /// until it is looked for.
    public static let coordinatorTopic = Array("atoll/coordinators/1".utf8)

    var identity: PeerID { key.peerID }
    /// Whether others could dial this daemon, as far as is known, and where they see it.
    var isReachable: Bool { presence.isReachable }
    var external: Endpoint? { presence.external }
    public var member: Member? { services.member }
    public var coordinator: Coordinator? { services.coordinator }
    /// Packets that did not decode.
    public private(set) var malformed = 0
    private var malformedNews = NewsDigest<PeerID>()

    // MARK: inputs

    public mutating func receive(datagram: [UInt8], from sender: Endpoint, at now: Instant) {
        directory.receive(datagram: datagram, from: sender, at: now)
        drain(at: now)
    }
    public mutating func secured(
        _ id: ConnectionID, peer: PeerID, exporter: [UInt8], remote: Endpoint, inbound: Bool, isTLSClient: Bool,
        isFlow: Bool = false, at now: Instant
    ) {
        channels.secured(
            id, peer: peer, exporter: exporter, remote: remote, inbound: inbound, isTLSClient: isTLSClient,
            isFlow: isFlow, at: now)
        drain(at: now)
    }
    /// - Parameter refused: the machine there says that nobody listens.
    public mutating func dialFailed(_ id: ConnectionID, refused: Bool = false, at now: Instant) {
        channels.dialFailed(id, refused: refused, at: now)
        drain(at: now)
    }
    public mutating func received(_ id: ConnectionID, _ bytes: [UInt8], at now: Instant) {
        channels.received(id, bytes, at: now)
        drain(at: now)
    }
    public mutating func writable(_ id: ConnectionID, unsent: Int, at now: Instant) {
        channels.writable(id, unsent: unsent, at: now)
        drain(at: now)
    }
    public mutating func closed(_ id: ConnectionID, at now: Instant) {
        channels.closed(id, at: now)
        drain(at: now)
    }
    public mutating func computed(_ result: ComputeResult, at now: Instant) {
        services.memberPart?.value.computed(result, at: now)
        drain(at: now)
    }
    public mutating func planned(_ result: Result<PlanAnswer, NoPlan>, at now: Instant) {
        services.coordinatorPart?.value.planned(result, at: now)
        drain(at: now)
    }
    /// What became of an ``Effect/store(_:for:)``.
    public mutating func stored(
        _ ticket: StorageTicket, _ outcome: StorageOutcome, for service: Service, at now: Instant
    ) {
        switch service {
        case .member: services.memberPart?.value.stored(ticket, outcome, at: now)
        case .coordinator: services.coordinatorPart?.value.stored(ticket, outcome, at: now)
        case .elector: services.electorPart?.value.stored(ticket, outcome, at: now)
        case .refounding: services.refoundingPart?.value.stored(ticket, outcome, at: now)
        }
        drain(at: now)
    }
    /// Bytes counted at the sockets since start.
    public mutating func count(sent: Int, received: Int) {
        services.memberPart?.value.count(sent: sent, received: received)
    }

    /// What its disk has room for, seen now.
    public mutating func count(room: DiskRoom) { services.memberPart?.value.count(room: room) }

    /// Operations of the owner on the overlay; they end in ``Effect/found(_:_:)``.
    public mutating func overlay<T>(at now: Instant, _ operation: (inout Overlay) -> T) -> T {
        defer { drain(at: now) }
        return directory.perform(at: now, operation)
    }
    /// What came of an ``Effect/dialBack(_:_:datagram:)``.
    public mutating func dialledBack(_ dial: DialBack, reached: Bool, at now: Instant) {
        directory.dialledBack(dial, reached: reached, at: now)
        drain(at: now)
    }
    /// Signs and publishes what others should know of this peer.
    ///
    /// - Parameter wall: seconds since 1970.
    public mutating func publishRecord(wall: Int64, at now: Instant) {
        guard let record = presence.record(wall: wall) else { return }
        directory.publish(record, wall: wall, at: now)
        drain(at: now)
    }

    /// This machine has other addresses than before: what failed is tried again at once, and connections are probed.
    public mutating func networkChanged(at now: Instant) {
        lookAround("the addresses of this machine are others", at: now)
        drain(at: now)
    }
    private mutating func lookAround(_ why: String, at now: Instant) {
        channels.networkChanged(at: now)
        carriage.hurryGateway(at: now)
        directory.join(at: now)
        directory.hurry(topic: Self.poolTopic, at: now)
        directory.hurry(topic: Self.coordinatorTopic, at: now)
        say(.networkChanged(why: why), at: now)
    }
    /// A wake-up that is far overdue: the machine slept, or this process was stopped.
    private mutating func noticeSleep(at now: Instant) {
        guard let due = nextWake, now - max(due, awakeSince) > Self.sleepThreshold else { return }
        // What is overdue since before that is not another sleep.
        awakeSince = now
        nextWake = nil
        lookAround("asleep for \(Int((now - due).inSeconds.rounded())) s", at: now)
    }
    private static let sleepThreshold = Duration.seconds(5)

    public mutating func wake(at now: Instant) {
        noticeSleep(at: now)
        directory.wake(at: now)
        if let port = presence.dueCheck(isBusy: directory.overlay.isBeingReached, at: now) {
            directory.checkReachability(port: port, isTranslated: presence.isTranslated, at: now)
        }
        knock(at: now)
        channels.wake(at: now)
        services.memberPart?.value.count(isReachable: presence.isReachable)
        carriage.wake(at: now)
        services.memberPart?.value.wake(at: now)
        services.coordinatorPart?.value.wake(at: now)
        services.electorPart?.value.wake(at: now)
        wakeReaders(at: now)
        drain(at: now)
    }

    /// ^C: says goodbye; what is left to send goes out while the driver winds down.
    public mutating func stop(at now: Instant) {
        use(gateway: nil, at: now)
        use(pinholes: nil, at: now)
        carriage.leave(at: now)
        // Where others carry the record, the job goes on without this machine.
        let goesOn = services.electorPart.map { !$0.value.isAlone } ?? false
        if goesOn { services.electorPart!.value.handOver(at: now) }
        services.memberPart?.value.leave(at: now)
        if !goesOn { services.coordinatorPart?.value.cancel(at: now) }
        drain(at: now)
    }

    public mutating func poll() -> Effect? { effects.pop() }

    // MARK: one place to drain

    /// Members and the coordinator of a job are found under SHA-1(job ID ‖ pool key).
    private mutating func announceJob(at now: Instant) {
        let job =
            services.coordinatorPart?.value.job ?? services.electorPart?.value.job ?? services.memberPart?.value.jobID
        guard job != announcedJob else { return }
        if let announcedJob { directory.withdraw(topic: announcedJob.bytes) }
        announcedJob = job
        if let job { directory.announce(topic: job.bytes, port: presence.outerPort, at: now) }
    }

    mutating func drain(at now: Instant) {
        noticeSleep(at: now)
        var busy = true
        while busy {
            busy = false
            while let effect = directory.poll() {
                busy = true
                perform(effect, at: now)
            }
            while let effect = channels.poll() {
                busy = true
                perform(effect, at: now)
            }
            while let effect = services.coordinatorPart?.value.poll() {
                busy = true
                perform(effect, at: now)
            }
            while let effect = services.memberPart?.value.poll() {
                busy = true
                perform(effect, at: now)
            }
            if mindElector(at: now) { busy = true }
            if mindReader(at: now) { busy = true }
            lookOutside(at: now)
            if mindCarriage(at: now) { busy = true }
            while let packet = loopback.pop() {
                busy = true
                route(packet, from: key.peerID, endpoint: nil, at: now)
            }
            if !requests.isEmpty, let (packet, peer) = requests.next(where: hasRoom) {
                busy = true
                route(packet, from: peer, endpoint: channels.endpoint(of: peer), at: now)
            }
        }
        announceJob(at: now)
        lookForMembers(at: now)
        var next = earliest(earliest(directory.nextWake, channels.nextWake), presence.nextWake)
        next = earliest(next, services.memberPart?.value.whenToWake())
        next = earliest(next, services.coordinatorPart?.value.whenToWake())
        next = earliest(next, nextRead())
        next = earliest(next, carriage.nextWake)
        next = earliest(next, services.electorPart?.value.whenToWake())
        // What is overdue now is due now: that nobody has been woken for it yet is no sleep.
        nextWake = next.map { max($0, now) }
    }

    private mutating func perform(_ effect: Directory.Effect, at now: Instant) {
        switch effect {
        case .send(let bytes, let endpoint): effects.push(.datagram(bytes, to: endpoint))
        case .discovered(let topic, let endpoints, let teller):
            guard topic == Self.poolTopic || topic == Self.relayTopic || missesCoordinator else { return }
            for endpoint in endpoints.prefix(wantedOf(topic)) { channels.hear(of: endpoint, from: teller, at: now) }
        case .joined(let contacts):
            effects.push(.overlayChanged)
            say(.overlayJoined(contacts: contacts), at: now)
            channels.lineIsBack(at: now)
        case .bootstrapRetrying(let attempt, let next):
            say(.bootstrapRetrying(attempt: attempt, nextSeconds: next.inSeconds), at: now)
            if attempt >= Self.deafAttempts { hearNothing(at: now) }
        case .isolated: say(.overlayIsolated, at: now)
        case .dialBack(let dial, let endpoint, let datagram):
            effects.push(.dialBack(dial, endpoint, datagram: datagram))
        case .externalEndpoint(let endpoint):
            // What connections pass through is another line, or another router's memory: they may all be dead.
            if let before = presence.external, before.address != endpoint.address { channels.networkChanged(at: now) }
            if presence.seen(at: endpoint, now: now) { directory.perform(at: now) { $0.isReadOnly = true } }
            say(.externalAddress(endpoint: endpoint.description), at: now)
            askGateway(at: now)
            carriage.hurryGateway(at: now)
            moveIfOpened(at: now)
            announcePresence()
        case .reachability(let votes): judge(votes, at: now)
        case .recordExpiring:
            presence.forgetRecord()
            announcePresence()
        case .nodeIDChanged: effects.push(.overlayChanged)
        case .found(let request, let outcome): effects.push(.found(request, outcome))
        case .record(let peer, let item): heard(item, of: peer, at: now)
        case .announced, .published: break
        }
    }

    /// Whoever may lead a job is to be found by members, and looks for them.
    private mutating func lookForMembers(at now: Instant) {
        guard services.leads || services.watchPart != nil, !looksForMembers else { return }
        looksForMembers = true
        presence.isChanged = true
        if services.leads { directory.announce(topic: Self.coordinatorTopic, port: presence.outerPort, at: now) }
        directory.watch(topic: Self.poolTopic, at: now)
    }

    mutating func announcePresence() {
        if presence.isNews { effects.push(.recordDue) }
    }

    /// Within the job of this daemon; of others the short key.
    func name(of peer: PeerID) -> String {
        services.coordinatorPart?.value.roster[peer]?.name ?? services.memberPart?.value.name(of: peer) ?? peer.short
    }
    mutating func say(_ what: Happening, peer: String = "", at now: Instant) {
        effects.push(.event(Event(what, at: now, peer: peer)))
    }

    // MARK: packets

    mutating func receive(_ bytes: [UInt8], from peer: PeerID, at now: Instant) {
        let packet: Packet
        do throws(MalformedBytes) {
            packet = try Packet(decoding: bytes)
        } catch {
            malformed += 1
            guard malformedNews.note(peer, at: now) != nil else { return }
            return say(.packetMalformed(why: error.description), peer: name(of: peer), at: now)
        }
        guard mayDo(peer, packet.message) else { return }
        channels.trust(peer, services.sharesJob(with: peer), at: now)
        if let channel = RequestQueue.answers(packet.message),
            requests.isWaiting(peer, channel) || !hasRoom(peer, channel)
        {
            return requests.wait(packet, from: peer, channel)
        }
        route(packet, from: peer, endpoint: channels.endpoint(of: peer), at: now)
    }
    /// Whether a long answer would leave soon.
    private func hasRoom(_ peer: PeerID, _ channel: Channel) -> Bool {
        channels.unsentBytes(to: peer, on: channel) < RequestQueue.answersAhead
    }

    private mutating func route(_ packet: Packet, from peer: PeerID, endpoint: Endpoint?, at now: Instant) {
        if toReader(packet, from: peer, at: now) { return }
        switch packet.message {
        case .readRequest(let from): return tell(peer, from: from, of: packet.job, at: now)
        case .ping(let nonce): return send(Packet(job: packet.job, .pong(nonce)), to: peer, at: now)
        case .capabilityRequest, .offer, .probeBurst: return toMember(packet, from: peer, endpoint, at: now)
        case .capability, .offerAnswer: return toCoordinator(packet, from: peer, at: now)
        case .indexRequest, .chunkRequest, .stateRequest:
            // Whoever has it answers, and answers once.
            if let job = services.coordinatorPart?.value.job, job == packet.job,
                services.coordinatorPart!.value.serves(packet.message)
                    || services.memberPart?.value.answers(for: packet.job) != true
            {
                return toCoordinator(packet, from: peer, at: now)
            }
            return toMember(packet, from: peer, endpoint, at: now)
        default: break
        }
        showElector(packet, at: now)
        switch packet.message.conversation {
        case .command, .work: toMember(packet, from: peer, endpoint, at: now)
        case .report: toCoordinator(packet, from: peer, at: now)
        case .election: toElector(packet, from: peer, at: now)
        case .carriage:
            guard case .carriage(let message) = packet.message else { return }
            carriage.receive(message, from: peer, seen: endpoint ?? .nowhere, at: now)
        case .meeting, .content:
            toCoordinator(packet, from: peer, at: now)
            toMember(packet, from: peer, endpoint, at: now)
        }
    }
    private mutating func toMember(_ packet: Packet, from peer: PeerID, _ endpoint: Endpoint?, at now: Instant) {
        services.memberPart?.value.receive(packet, from: peer, endpoint: endpoint, at: now)
    }
    private mutating func toCoordinator(_ packet: Packet, from peer: PeerID, at now: Instant) {
        services.coordinatorPart?.value.receive(packet, from: peer, at: now)
    }

    mutating func send(_ packet: Packet, to peer: PeerID, at now: Instant) {
        guard peer != key.peerID else { return loopback.push(packet) }
        for framed in tongue?.speak(packet, to: peer) ?? [packet.framed] {
            let outcome = channels.send(
                header: framed.header, payload: framed.payload, on: packet.message.channel, to: peer, at: now)
            if outcome != .queued { undelivered += 1 }
        }
    }

    // MARK: what services want

    private mutating func perform(_ effect: MemberEffect, at now: Instant) {
        switch effect {
        case .send(let packet, let peer): send(packet, to: peer, at: now)
        case .connect(let peer, let endpoint):
            guard peer != key.peerID else { return }
            want(peer, at: endpoint, now: now)
        case .seek(let peer):
            channels.seek(peer, at: now)
            lookForRelays(of: peer, at: now)
        case .uplink(let rate): channels.setUplink(rate)
        case .compute(let job): effects.push(.compute(job))
        case .corpus(let bytes): effects.push(.corpus(bytes))
        case .store(let request):
            if case .erase = request { wanted = [:] }
            if isCarried(request, at: now) { return }
            effects.push(.store(request, for: .member))
        case .event(let event): effects.push(.event(event))
        }
    }
    private mutating func perform(_ effect: CoordinatorEffect, at now: Instant) {
        switch effect {
        case .send(let packet, let peer): send(certified(packet), to: peer, at: now)
        case .store(let request): store(request, at: now)
        case .handOver(let peer): services.electorPart?.value.handOver(to: peer, at: now)
        case .prepare(let peers): services.electorPart?.value.prepare(peers, at: now)
        case .plan(let question): effects.push(.plan(question))
        case .ended(let end): ended(end, at: now)
        case .event(let event): effects.push(.event(event))
        }
    }
}

/// What a daemon says instead of what is due.
package protocol Tongue: AnyObject, Sendable {
    func speak(_ packet: Packet, to peer: PeerID) -> [FramedPacket]
}
