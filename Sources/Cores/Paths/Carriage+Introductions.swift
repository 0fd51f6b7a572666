import Primitives

/// Introductions, as introducer and as one of those who meet.
extension Carriage {
    /// What the router in front of this daemon makes of its listening port, as far as relays have said.
    public var mapping: PortMapping { sightings.mapping }

    /// A relay says where it sees this daemon's port.
    mutating func sight(_ endpoint: Endpoint, by observer: PeerID, at now: Instant) {
        sightings.note(endpoint, by: observer)
        let mapping = sightings.mapping
        guard mapping != punching.mapping else { return }
        punching.mapping = mapping
        punching.hurry(at: now)
    }
    mutating func introduce(_ message: CarriageMessage, from peer: PeerID, at now: Instant) {
        if case .unmet(let other, let number, _) = message, punching.expects(other, number, from: peer) {
            return punching.receive(message, from: peer, isExpected: true, at: now)
        }
        if introducer.receive(message, from: peer, at: now) { return }
        var isExpected = search.hasBerth(at: peer)
        if case .meet(let meeting) = message {
            if isDirect(meeting.peer) {
                return effects.push(.send(.unmet(meeting.peer, number: meeting.number, .needless), to: peer))
            }
            isExpected = isExpected || circuits.has(meeting.peer, via: peer)
        }
        punching.receive(message, from: peer, isExpected: isExpected, at: now)
    }
    mutating func drainIntroductions() {
        while let effect = introducer.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            }
        }
        while let effect = punching.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .dial(let peer, let endpoint): effects.push(.punch(peer, at: endpoint))
            case .opener(let endpoint): effects.push(.opener(at: endpoint))
            case .flow(let peer, let endpoint): effects.push(.flow(peer, at: endpoint))
            }
        }
    }
}
