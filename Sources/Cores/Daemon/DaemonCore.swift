public import Channels
public import Digests
public import Kademlia
public import Primitives
public import Swarm
public import Telemetry
public import Training
import Wire

/// A whole daemon without its sockets, clock, disk and arithmetic: overlay, channels, and a role in the swarm.
///
/// The libuv driver and the simulator run this very value. It composes three cores and drains them in one place.
public struct DaemonCore: Core {
    public enum Role: Sendable {
        /// Helps others to meet; takes no work.
        case node
        case peer(Member)
        case coordinator(Coordinator)

        var isServer: Bool { if case .node = self { true } else { false } }
    }

    public enum Effect: Sendable {
        case datagram([UInt8], to: Endpoint)
        case dial(ConnectionID, Endpoint, expecting: PeerID?)
        case write(ConnectionID, [UInt8])
        case close(ConnectionID)
        /// Dial this on TCP and tell ``DaemonCore/dialledBack(_:reached:at:)``; send the datagram from a fresh socket.
        case dialBack(DialBack, Endpoint, datagram: DatagramProbe)
        /// The capability record is due: call ``DaemonCore/publishRecord(wall:at:)`` with the time of day.
        case recordDue
        /// The overlay changed in a way that is worth saving soon.
        case overlayChanged
        /// An operation that the owner started on the overlay through ``DaemonCore/overlay(at:_:)``.
        case found(RequestID, LookupOutcome)
        /// Everything the swarm asks for besides sending and connecting.
        case swarm(SwarmEffect)
        case event(Event)
    }

    public private(set) var directory: Directory
    public private(set) var channels: Channels
    public private(set) var role: Role
    private let key: SigningKey
    private var effects = EffectQueue<Effect>()
    private var presence: Presence
    /// The job under whose ID this daemon announces itself.
    private var announcedJob: Digest256?
    /// Peers the swarm wants to stay connected with, and where they are.
    private var wanted: [PeerID: Endpoint] = [:]
    /// Messages that could not be queued: the peer is not connected, or its queue is full.
    public private(set) var undelivered = 0
    public private(set) var malformed = 0

    public init(
        directory: Directory, channels: Channels, role: Role, key: SigningKey, port: UInt16, device: String = "",
        at now: Instant
    ) {
        self.directory = directory
        self.channels = channels
        self.role = role
        self.key = key
        presence = Presence(port: port, device: device, isServer: role.isServer, hasPool: directory.isClosed)
        switch role {
        case .node: break
        case .peer: self.directory.announce(topic: Self.poolTopic, port: port, at: now)
        case .coordinator: self.directory.watch(topic: Self.poolTopic, at: now)
        }
        drain(at: now)
    }

    /// Under this topic all peers of a pool announce themselves; the target is bound to the pool's key.
    public static let poolTopic = Array("atoll/peers/1".utf8)

    // MARK: inputs

    public mutating func receive(datagram: [UInt8], from sender: Endpoint, at now: Instant) {
        directory.receive(datagram: datagram, from: sender, at: now)
        drain(at: now)
    }
    public mutating func secured(
        _ id: ConnectionID, peer: PeerID, exporter: [UInt8], remote: Endpoint, inbound: Bool, isTLSClient: Bool,
        at now: Instant
    ) {
        channels.secured(
            id, peer: peer, exporter: exporter, remote: remote, inbound: inbound, isTLSClient: isTLSClient, at: now)
        drain(at: now)
    }
    public mutating func dialFailed(_ id: ConnectionID, at now: Instant) {
        channels.dialFailed(id, at: now)
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
        withMember { $0.computed(result, at: now) }
        drain(at: now)
    }
    public mutating func planned(_ result: Result<PlanAnswer, PlanRefusal>, at now: Instant) {
        withCoordinator { $0.planned(result, at: now) }
        drain(at: now)
    }
    /// Bytes counted at the sockets since start.
    public mutating func count(sent: Int, received: Int) { withMember { $0.count(sent: sent, received: received) } }

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

    public mutating func wake(at now: Instant) {
        directory.wake(at: now)
        if presence.checkIsDue(at: now) { directory.checkReachability(port: presence.port, at: now) }
        channels.wake(at: now)
        withMember { $0.wake(at: now) }
        withCoordinator { $0.wake(at: now) }
        drain(at: now)
    }

    /// ^C: says goodbye; what is left to send goes out while the driver winds down.
    public mutating func stop(at now: Instant) {
        withMember { $0.leave(at: now) }
        withCoordinator { $0.cancel(at: now) }
        drain(at: now)
    }

    public mutating func poll() -> Effect? { effects.pop() }

    public var nextWake: Instant? {
        var next = earliest(earliest(directory.nextWake, channels.nextWake), presence.nextCheck)
        switch role {
        case .node: break
        case .peer(let member): next = earliest(next, member.nextWake)
        case .coordinator(let coordinator): next = earliest(next, coordinator.nextWake)
        }
        return next
    }

    public var member: Member? { if case .peer(let member) = role { member } else { nil } }
    public var coordinator: Coordinator? { if case .coordinator(let coordinator) = role { coordinator } else { nil } }

    // MARK: one place to drain

    /// Members and the coordinator of a job are found under SHA-1(job ID ‖ pool key).
    private mutating func announceJob(at now: Instant) {
        let job =
            switch role {
            case .node: Digest256?.none
            case .peer(let member): member.jobID
            case .coordinator(let coordinator): coordinator.jobID
            }
        guard job != announcedJob else { return }
        if let announcedJob { directory.withdraw(topic: announcedJob.bytes) }
        announcedJob = job
        if let job { directory.announce(topic: job.bytes, port: presence.port, at: now) }
    }

    private mutating func drain(at now: Instant) {
        announceJob(at: now)
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
            while let effect = pollRole() {
                busy = true
                perform(effect, at: now)
            }
        }
    }

    private mutating func perform(_ effect: Directory.Effect, at now: Instant) {
        switch effect {
        case .send(let bytes, let endpoint): effects.push(.datagram(bytes, to: endpoint))
        case .discovered(_, let endpoints):
            guard case .coordinator = role else { return }
            for endpoint in endpoints { channels.connect(to: nil, at: endpoint, now: now) }
        case .joined(let contacts):
            effects.push(.overlayChanged)
            effects.push(.event(Event("overlay_joined", at: now, ["contacts": .integer(contacts)])))
        case .bootstrapRetrying(let attempt, let next):
            effects.push(
                .event(
                    Event(
                        "bootstrap_retrying", at: now,
                        ["attempt": .integer(attempt), "next_seconds": .real(next.inSeconds)])))
        case .isolated: effects.push(.event(Event("overlay_isolated", at: now)))
        case .dialBack(let dial, let endpoint, let datagram):
            effects.push(.dialBack(dial, endpoint, datagram: datagram))
        case .externalEndpoint(let endpoint):
            if presence.seen(at: endpoint, now: now) { directory.perform(at: now) { $0.isReadOnly = true } }
            effects.push(.event(Event("external_address", at: now, ["endpoint": .text(endpoint.description)])))
            announcePresence()
        case .reachability(let reached, let asked):
            presence.judged(reached: reached, asked: asked, at: now)
            guard asked > 0 else { return }
            effects.push(
                .event(
                    Event(
                        "reachability", at: now,
                        [
                            "reached": .integer(reached), "asked": .integer(asked),
                            "reachable": .text(presence.isReachable ? "yes" : "no"),
                        ])))
            announcePresence()
        case .recordExpiring:
            presence.forgetRecord()
            announcePresence()
        case .nodeIDChanged: effects.push(.overlayChanged)
        case .found(let request, let outcome): effects.push(.found(request, outcome))
        case .announced, .published, .record: break
        }
    }

    private mutating func announcePresence() {
        if presence.isNews { effects.push(.recordDue) }
    }

    private mutating func perform(_ effect: Channels.Effect, at now: Instant) {
        switch effect {
        case .dial(let id, let endpoint, let expecting): effects.push(.dial(id, endpoint, expecting: expecting))
        case .write(let id, let bytes): effects.push(.write(id, bytes))
        case .close(let id): effects.push(.close(id))
        case .established(let peer, let endpoint):
            withCoordinator { $0.established(peer, endpoint: endpoint, at: now) }
            withMember { $0.established(peer, at: now) }
        case .message(let peer, _, let bytes): receive(bytes, from: peer, at: now)
        case .lost(let peer, let reason):
            withCoordinator { $0.lost(peer, reason: reason.description, at: now) }
            withMember { $0.lost(peer, at: now) }
            if let endpoint = wanted[peer], member?.isWorking == true, reason == .closed || reason == .silent {
                channels.connect(to: peer, at: endpoint, now: now)
            }
            effects.push(
                .event(Event("connection_lost", at: now, peer: peer.short, ["why": .text(reason.description)])))
        case .unreachable(let endpoint, let reason):
            effects.push(
                .event(Event("unreachable", at: now, peer: endpoint.description, ["why": .text(reason.description)])))
        case .refused(let endpoint, let refusal):
            guard refusal != .oneself else { return }
            effects.push(
                .event(
                    Event("connection_refused", at: now, peer: endpoint.description, ["why": .text(refusal.rawValue)])))
        }
    }

    private mutating func receive(_ bytes: [UInt8], from peer: PeerID, at now: Instant) {
        do throws(MalformedBytes) {
            let framed = try FramedPacket(decoding: bytes)
            withMember { $0.receive(framed.packet, payload: framed.payload, from: peer, at: now) }
            withCoordinator { $0.receive(framed.packet, payload: framed.payload, from: peer, at: now) }
        } catch {
            malformed += 1
            effects.push(
                .event(Event("packet_malformed", at: now, peer: peer.short, ["why": .text(error.description)])))
        }
    }

    private mutating func perform(_ effect: SwarmEffect, at now: Instant) {
        switch effect {
        case .send(let packet, let payload, let lane, let peer):
            let framed = FramedPacket(packet, payload: payload)
            let outcome = channels.send(
                header: framed.header, payload: payload, on: Channel(rawValue: lane.rawValue)!, to: peer, at: now)
            if outcome != .queued { undelivered += 1 }
        case .connect(let peer, let endpoint):
            wanted[peer] = endpoint
            channels.connect(to: peer, at: endpoint, now: now)
        case .uplink(let rate): channels.setUplink(rate)
        case .event(let event): effects.push(.event(event))
        case .eraseJob:
            wanted = [:]
            effects.push(.swarm(effect))
        default: effects.push(.swarm(effect))
        }
    }

    private mutating func pollRole() -> SwarmEffect? {
        switch role {
        case .node: return nil
        case .peer(var member):
            role = .node  // keep the value unique while it changes
            defer { role = .peer(member) }
            return member.poll()
        case .coordinator(var coordinator):
            role = .node
            defer { role = .coordinator(coordinator) }
            return coordinator.poll()
        }
    }
    private mutating func withMember(_ body: (inout Member) -> Void) {
        guard case .peer(var member) = role else { return }
        role = .node
        body(&member)
        role = .peer(member)
    }
    private mutating func withCoordinator(_ body: (inout Coordinator) -> Void) {
        guard case .coordinator(var coordinator) = role else { return }
        role = .node
        body(&coordinator)
        role = .coordinator(coordinator)
    }
}
