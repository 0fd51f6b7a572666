import Channels
import Kademlia
import Membership
import Messages
public import Paths
public import Primitives
import Telemetry
import Wire

/// What a daemon carries for others, and what others carry for it: relays, berths, circuits, and better paths than those.
extension DaemonCore {
    /// Under this topic those who carry announce themselves; who cannot be dialled watches it.
    public static let relayTopic = Array("atoll/relays/1".utf8)

    /// What TLS over a stream that this daemon carries itself reports: the answer to ``Effect/seal(_:isClient:expecting:)`` and all that follows.
    public mutating func carried(_ id: ConnectionID, _ event: CarriedEvent, at now: Instant) {
        switch event {
        case .ciphertext(let bytes): carriage.carry(id.value, bytes, at: now)
        case .secured(let peer, let exporter):
            guard let stream = carriage.circuits[id.value] else { break }
            channels.secured(
                id, peer: peer, exporter: exporter, remote: stream.endpoint ?? .nowhere, inbound: stream.isInbound,
                isTLSClient: identity < peer, via: stream.relay, at: now)
        case .plaintext(let bytes): channels.received(id, bytes, at: now)
        case .ended:
            channels.closed(id, at: now)
            carriage.close(id.value, at: now)
        }
        drain(at: now)
    }

    /// How this daemon is seen may have changed.
    mutating func lookOutside(at now: Instant) {
        guard presence.isChanged else { return }
        presence.isChanged = false
        let isHome = presence.isHome || presence.isDeaf
        carriage.see(
            Carriage.Outlook(
                external: isHome || presence.isReachable ? presence.dialled : nil, isReachable: !isHome,
                leads: services.leads, isServer: services.isNode,
                datagrams: isHome && !presence.isDeaf ? datagramPort : nil, inside: presence.inside,
                ownIPv6: presence.machine.ownIPv6, isDeaf: presence.isDeaf,
                isApart: wanted.values.contains(where: \.needsCarriage)), at: now)
    }
    /// A peer of the job cannot be dialled from here, nor this daemon from there, though others may dial both: they meet at a relay.
    mutating func haveCarried(_ peer: PeerID, at now: Instant) {
        guard wanted[peer]?.needsCarriage == false else { return }
        wanted[peer]!.needsCarriage = true
        presence.isChanged = true
        lookOutside(at: now)
    }

    /// Where others see the port for datagrams, and whether they see the same one.
    private var datagramPort: DatagramPort? {
        guard presence.carriesFlows, let external, !external.isPrivate else { return nil }
        let (voters, ports) = directory.overlay.portsSeen
        return DatagramPort(external.port, ports > 1 ? .varies : voters > 1 ? .same : .unknown)
    }

    /// The bootstrap nodes that could be dialled from here.
    private var servers: [Endpoint] {
        directory.overlay.configuration.bootstrap.filter { $0.isDialable && !$0.isPrivate }
    }
    /// After so many tries to enter the overlay, some seconds, a daemon goes on without it.
    static let deafAttempts = 3
    /// Perhaps no datagram gets through, and connections do: whoever everybody begins with is dialled, and carries this daemon.
    mutating func hearNothing(at now: Instant) {
        guard !servers.isEmpty, !services.isServer else { return }
        if presence.hearsNothing(at: now) { lookOutside(at: now) }
        knock(at: now)
    }
    mutating func knock(at now: Instant) {
        guard presence.isKnockDue(at: now) else { return }
        for node in servers { channels.knock(at: node, now: now) }
    }

    // MARK: one place to drain

    /// - Returns: whether it did anything.
    mutating func mindCarriage(at now: Instant) -> Bool {
        var isBusy = false
        while let effect = carriage.poll() {
            isBusy = true
            perform(effect, at: now)
        }
        return isBusy
    }
    private mutating func perform(_ effect: Carriage.Effect, at now: Instant) {
        switch effect {
        case .send(let message, let peer): send(Packet(.carriage(message)), to: peer, at: now)
        case .begin(let id, let peer, let isClient):
            effects.push(.seal(ConnectionID(id), isClient: isClient, expecting: peer))
        case .ciphertext(let id, let bytes): effects.push(.sealed(ConnectionID(id), bytes))
        case .writable(let id, let unsent): channels.writable(ConnectionID(id), unsent: unsent, at: now)
        case .ended(let id, _):
            effects.push(.close(ConnectionID(id)))
            channels.closed(ConnectionID(id), at: now)
        case .look(let isLooking):
            if isLooking {
                directory.watch(topic: Self.relayTopic, slowest: .seconds(60), at: now)
                // Those with whom everybody begins can be dialled, and are there for others.
                for node in directory.overlay.configuration.bootstrap { channels.hear(of: node, from: nil, at: now) }
            } else {
                directory.unwatch(topic: Self.relayTopic)
            }
        case .seen(let endpoint):
            presence.seen(byRelayAt: endpoint)
            say(.externalAddress(endpoint: endpoint.description), at: now)
        case .stand(let isRelay, let carries): stand(isRelay, carries: carries, at: now)
        case .found(let other):
            // Whoever looks for members looks for all of them, members look for who leads.
            let isWanted =
                services.leads || services.watchPart != nil || (missesCoordinator && other.leads)
                || wanted[other.peer]?.needsCarriage == true
            channels.learn(
                other.peer, through: carriage.relays(of: other.peer), isWanted: isWanted, at: now)
        case .punch(let peer, let endpoint): channels.punch(peer, at: endpoint, now: now)
        case .flow(let peer, let endpoint): channels.punch(peer, at: .flow(endpoint), now: now)
        case .opener(let endpoint): effects.push(.opener(endpoint))
        case .punched(let peer, let address):
            channels.notePunch(of: peer)
            say(.connectionPunched(endpoint: address.description), peer: name(of: peer), at: now)
        case .igd(let wish): effects.push(.igd(wish))
        case .gateway(let bytes, let endpoint): effects.push(.gateway(bytes, to: endpoint))
        case .pinhole(let endpoint): presence.pinhole(endpoint, at: now)
        case .forwarded(let endpoint): forwarded(endpoint, at: now)
        case .improve(let peer, let endpoint): channels.move(peer, to: endpoint, at: now)
        case .berthed(let relay, let terms):
            say(
                .berthGranted(megabits: terms.rate.bitsPerSecond / 1e6, leftMib: Double(terms.left.bytes) / 1_048_576),
                peer: name(of: relay), at: now)
            announceBerths()
        case .unberthed(let relay):
            say(.berthLost, peer: name(of: relay), at: now)
            announceBerths()
        }
    }
    private mutating func announceBerths() {
        presence.relays = carriage.search.berths.compactMap { carriage.search.endpoint(of: $0) }
        announcePresence()
    }
    /// Who has a berth here cannot be dialled: whoever looks for it finds this daemon instead, and hears of it.
    private mutating func stand(_ isRelay: Bool, carries: Bool, at now: Instant) {
        if isRelay {
            directory.announce(topic: Self.relayTopic, port: presence.outerPort, at: now)
        } else {
            directory.withdraw(topic: Self.relayTopic)
        }
        for topic in [Self.poolTopic, Self.coordinatorTopic] where !announcesItself(under: topic) {
            if carries {
                directory.announce(topic: topic, port: presence.outerPort, at: now)
            } else {
                directory.withdraw(topic: topic)
            }
        }
    }
    private func announcesItself(under topic: [UInt8]) -> Bool {
        topic == Self.poolTopic ? services.memberPart != nil : services.leads
    }

    // MARK: sessions

    /// A session has begun, or goes on, over a connection.
    mutating func noteWay(to peer: PeerID, _ endpoint: Endpoint, at now: Instant) {
        let way = channels.way(to: peer)
        carriage.connected(
            peer, at: endpoint, via: way?.relay, wasDialled: channels.wasDialled(peer), source: way?.source,
            isStray: way?.isStray ?? false, isFlow: way?.isFlow ?? false, now: now)
        let path: PeerPath =
            if let relay = way?.relay {
                .relayed(by: relay, rate: carriage.rate(of: relay))
            } else {
                way?.isPunched == true ? .punched : .direct
            }
        services.memberPart?.value.noted(path, to: peer, at: now)
        if let word = wayWord(to: peer) { wanted[peer]?.goes(over: word, at: now) }
        if let relay = way?.relay { say(.connectionRelayed(by: name(of: relay)), peer: name(of: peer), at: now) }
    }
    /// A peer is wanted. Where it is known to be carried its relays are tried as well; where it may be, its record says by whom.
    mutating func connect(to peer: PeerID, at endpoint: Endpoint, now: Instant) {
        let relays = carriage.relays(of: peer)
        channels.connect(to: peer, at: endpoint, through: relays, now: now)
        if relays.isEmpty { fetchRelays(of: peer, at: now) }
    }
    /// Wherever a peer is dialled besides.
    mutating func lookForRelays(of peer: PeerID, at now: Instant) {
        guard !channels.isConnected(to: peer) else { return }
        let relays = carriage.relays(of: peer)
        if relays.isEmpty {
            fetchRelays(of: peer, at: now)
        } else {
            channels.learn(peer, through: relays, isWanted: true, at: now)
        }
    }
    private mutating func fetchRelays(of peer: PeerID, at now: Instant) {
        guard !channels.hasSession(with: peer), let external, !external.isPrivate else { return }
        directory.fetchRecord(of: peer, at: now)
    }
    /// Nothing comes from a peer. The same way is tried anew, as after a change of the own address, and beside it a relay; what stands first is taken.
    mutating func lookForAnotherWay(to peer: PeerID, than address: Address, at now: Instant) {
        if address.isDirect { channels.move(peer, to: address, at: now) }
        if let relay = carriage.relays(of: peer).first(where: { .relayed(via: $0) != address }) {
            channels.move(peer, to: .relayed(via: relay), at: now)
        }
    }
    /// What a peer says about itself in the overlay: its relays are met, and they say whom they carry.
    mutating func heard(_ item: StoredItem?, of peer: PeerID, at now: Instant) {
        // It is a hint: an old one leads to a dial in vain.
        guard !channels.isConnected(to: peer) else { return }
        guard let item, let record = CapabilityRecord(item.value, wall: 0) else {
            // Who hears no datagrams has published none, and is carried by those whom everybody begins with.
            if item == nil, wanted[peer] != nil { for node in servers { channels.hear(of: node, from: nil, at: now) } }
            return
        }
        for relay in record.relays where relay.isDialable && !relay.isPrivate {
            channels.hear(of: relay, from: nil, at: now)
        }
    }
}
