import Primitives
import Wire

/// All connections of one side, by ID, by peer, and by what they wait for.
///
/// Whatever changes a connection goes through ``subscript(_:)``, which keeps its timer right: asking what is due next, or for
/// the connections of one peer, does not visit the others.
struct ConnectionTable: Sendable {
    private struct Slot: Sendable {
        var id: ConnectionID
        /// Behind a reference: it is large, and looked at and changed in place.
        var connection: Indirect<Connection?>
        var summary = ConnectionSummary()
    }
    private var slots: [Slot] = []
    private var free: [Int] = []
    private var places: [ConnectionID: Int] = [:]
    /// The one that was changed last: most of what happens concerns it again.
    private var recent: (id: ConnectionID, place: Int)?
    private var idsOfPeer: [PeerID: [ConnectionID]] = [:]
    private var timers = TimerHeap()
    private let limits: ChannelLimits
    /// Those that came from outside and are not open.
    private(set) var unproven = 0
    /// What is found under an ID that is not here.
    private let nothing = Indirect<Connection?>(nil)
    /// IDs, ascending: whatever visits all of them does so in this order.
    private(set) var order: [ConnectionID] = []

    init(_ limits: ChannelLimits) { self.limits = limits }

    var count: Int { order.count }
    /// When ``due(at:)`` has something.
    var nextWake: Instant? { timers.next }
    /// Connections with something due, in the order of their IDs.
    func due(at now: Instant) -> [ConnectionID] { timers.due(at: now).map { slots[$0].id }.sorted() }
    /// Connections with a peer as far as it is known, in the order of their IDs.
    func with(_ peer: PeerID) -> [ConnectionID] { idsOfPeer[peer] ?? [] }
    /// Open connections to an endpoint.
    func hasOpen(to endpoint: Endpoint) -> Bool {
        order.contains { self[$0]?.isOpen == true && self[$0]?.endpoint == endpoint }
    }

    subscript(id: ConnectionID) -> Connection? {
        unsafeAddress { (place(of: id).map { slots[$0].connection } ?? nothing).address }
        _modify {
            guard let place = place(of: id) else {
                var nothing: Connection?
                yield &nothing
                precondition(nothing == nil, "\(id) is not in the table")
                return
            }
            recent = (id, place)
            defer { settle(place) }
            yield &slots[place].connection.value
        }
    }

    /// Changes a connection that is here, as the subscript does, but without the frame on the heap that a coroutine takes: for what
    /// happens with every frame.
    @discardableResult
    mutating func change<T>(_ id: ConnectionID, _ change: (inout Connection) -> T) -> T? {
        guard let place = place(of: id), slots[place].connection.value != nil else { return nil }
        recent = (id, place)
        let result = change(&slots[place].connection.value!)
        settle(place)
        return result
    }

    /// The next frame, or part of one, in what came over a connection that is here: what is parsed changes nothing that a summary says.
    mutating func parse(
        _ bytes: inout ArraySlice<UInt8>, of id: ConnectionID
    ) throws(MalformedBytes) -> FrameParser.Event? {
        guard let place = place(of: id) else { return nil }
        return try slots[place].connection.value?.parser.next(&bytes)
    }

    /// What is asked most, without a look at the connection itself; of none, nothing is true.
    func summary(_ id: ConnectionID) -> ConnectionSummary {
        place(of: id).map { slots[$0].summary } ?? ConnectionSummary()
    }
    func contains(_ id: ConnectionID) -> Bool { place(of: id) != nil }
    private func place(of id: ConnectionID) -> Int? {
        if let recent, recent.id == id { return recent.place }
        return places[id]
    }

    mutating func insert(_ connection: Connection, as id: ConnectionID) {
        precondition(places[id] == nil, "\(id) exists")
        let slot = Slot(id: id, connection: Indirect(connection))
        let place = free.popLast() ?? slots.count
        if place == slots.count { slots.append(slot) } else { slots[place] = slot }
        places[id] = place
        // Dials count upwards, so the new one belongs near the end.
        order.insert(id, at: order.lastIndex { $0 < id }.map { $0 + 1 } ?? 0)
        if let peer = connection.peer { list(id, under: peer) }
        settle(place)
    }
    mutating func remove(_ id: ConnectionID) -> Connection? {
        guard let place = places.removeValue(forKey: id), let connection = slots[place].connection.value else {
            return nil
        }
        slots[place].connection.value = nil
        recent = nil
        settle(place)
        free.append(place)
        order.removeAll { $0 == id }
        if let peer = connection.peer { unlist(id, under: peer) }
        return connection
    }
    /// The certificate has said whose connection it is.
    mutating func identify(_ id: ConnectionID, as peer: PeerID) {
        if let former = self[id]?.peer { unlist(id, under: former) }
        self[id]!.peer = peer
        list(id, under: peer)
    }

    private mutating func list(_ id: ConnectionID, under peer: PeerID) {
        idsOfPeer[peer, default: []].append(id)
        idsOfPeer[peer]!.sort()
    }
    private mutating func unlist(_ id: ConnectionID, under peer: PeerID) {
        idsOfPeer[peer]?.removeAll { $0 == id }
        if idsOfPeer[peer]?.isEmpty == true { idsOfPeer[peer] = nil }
    }
    private mutating func settle(_ place: Int) {
        let summary = slots[place].connection.value?.summary(limits) ?? ConnectionSummary()
        timers.set(place, at: summary.due)
        if summary.isUnproven != slots[place].summary.isUnproven { unproven += summary.isUnproven ? 1 : -1 }
        slots[place].summary = summary
    }
}
