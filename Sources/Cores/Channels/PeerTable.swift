import Primitives

/// What is kept for a peer that we have ever been connected to or are dialling.
struct ChannelsPeer: Sendable {
    var session: Session
    /// Before that the line is for activations to others.
    var activationsFrom = Instant(nanoseconds: .min / 4)
    /// The open connection.
    var connection: ConnectionID?
    var traffic = Traffic()
    var sessionsEnded: UInt32 = 0
    init(_ limits: ChannelLimits) { session = Session(limits) }
}

/// All that is kept of peers, by their keys. Each is behind a reference, looked at and changed in place; the one that was looked at
/// last is found without a search, because most of what happens concerns it again.
struct PeerTable: Sendable {
    private var slots: [Indirect<ChannelsPeer?>] = []
    private var places: [PeerID: Int] = [:]
    private var recent: (peer: PeerID, place: Int)?
    /// Everyone, ascending.
    private(set) var order: [PeerID] = []

    subscript(peer: PeerID) -> ChannelsPeer? {
        _read {
            if let place = place(of: peer) { yield slots[place].value } else { yield nil }
        }
        _modify {
            let place = place(of: peer) ?? admit(peer)
            recent = (peer, place)
            yield &slots[place].value
            precondition(slots[place].value != nil, "nobody is forgotten")
        }
    }
    private func place(of peer: PeerID) -> Int? {
        if let recent, recent.peer == peer { return recent.place }
        return places[peer]
    }
    private mutating func admit(_ peer: PeerID) -> Int {
        let place = slots.count
        slots.append(Indirect(nil))
        places[peer] = place
        order.insert(peer, at: order.firstIndex { $0 > peer } ?? order.count)
        return place
    }
}
