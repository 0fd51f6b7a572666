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
    /// Processes of it whose place others have taken, the last few. A process that ended does not come back.
    var formerProcesses: [[UInt8]] = []
    init(_ limits: ChannelLimits, sessionsEnded: UInt32 = 0) {
        session = Session(limits)
        self.sessionsEnded = sessionsEnded
    }
}

/// All that is kept of peers, by their keys. Each is behind a reference, looked at and changed in place; the one that was looked at
/// last is found without a search, because most of what happens concerns it again.
struct PeerTable: Sendable {
    private var slots: [Indirect<ChannelsPeer?>] = []
    private var places: [PeerID: Int] = [:]
    private var recent: (peer: PeerID, place: Int)?
    /// Everyone, ascending.
    private(set) var order: [PeerID] = []
    /// The next session with somebody unknown has this number: no session has it with anybody who was forgotten.
    private(set) var firstSession: UInt32 = 0
    /// How many were kept the last time that some were forgotten.
    private var kept = 0
    /// What is found of whoever is not here.
    private let nobody = Indirect<ChannelsPeer?>(nil)

    /// They are many more than had to be kept.
    var isCrowded: Bool { order.count >= 2 * kept + 256 }
    mutating func welcome(_ peer: PeerID, _ limits: ChannelLimits) {
        if self[peer] == nil { self[peer] = ChannelsPeer(limits, sessionsEnded: firstSession) }
    }
    mutating func keep(_ isKept: (PeerID, ChannelsPeer) -> Bool) {
        var table = PeerTable()
        table.firstSession = firstSession
        for peer in order {
            let known = slots[places[peer]!].value!
            if isKept(peer, known) {
                table.slots.append(Indirect(known))
                table.places[peer] = table.slots.count - 1
                table.order.append(peer)
            } else {
                table.firstSession = max(table.firstSession, known.sessionsEnded &+ 1)
            }
        }
        table.kept = table.order.count
        self = table
    }

    subscript(peer: PeerID) -> ChannelsPeer? {
        unsafeAddress { (place(of: peer).map { slots[$0] } ?? nobody).address }
        _modify {
            let place = place(of: peer) ?? admit(peer)
            recent = (peer, place)
            yield &slots[place].value
            precondition(slots[place].value != nil, "who is looked at is here")
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
