import Primitives

/// A connection to a server, as far as its place is concerned.
final class WebGuest {
    enum Phase: Hashable {
        /// Nothing is asked yet, or nothing since the last answer.
        case silent
        /// A request's head is there, its body is not.
        case asking
        /// Somebody here works for it, or sends it a stream.
        case served
        /// Its answer is whole, and on its way.
        case taking
    }
    let socket: Int32
    let address: [UInt8]
    fileprivate(set) var phase = Phase.silent
    fileprivate(set) var since: Instant
    /// It has asked something before.
    fileprivate(set) var isKnown = false
    /// It has been cut, and will be gone in a moment.
    fileprivate(set) var isCut = false

    init(socket: Int32, address: [UInt8], at now: Instant) {
        (self.socket, self.address, since) = (socket, address, now)
    }
}

/// Who has the places of a server, and who loses one: whoever only holds a place gives it to who comes next, so that nobody is kept out by connections
/// that ask nothing, ask slowly, or do not read what they asked for.
struct WebGuests {
    private let limits: WebLimits
    /// In the order in which they came.
    private(set) var all: [WebGuest] = []

    init(_ limits: WebLimits) { self.limits = limits }

    private var present: [WebGuest] { all.filter { !$0.isCut } }

    /// Who has to go for somebody else to come in.
    ///
    /// - Parameters:
    ///   - address: of whoever comes.
    ///   - isScarce: there are no descriptors for one more.
    /// - Returns: whether there is a place, and who is to be cut for it.
    func place(for address: [UInt8], isScarce: Bool, at now: Instant) -> (isFree: Bool, cut: WebGuest?) {
        let present = present
        let neighbours = present.filter { $0.address == address }
        let crowd =
            neighbours.count >= limits.connectionsPerAddress
            ? neighbours : isScarce || present.count >= limits.connections ? present : []
        guard !crowd.isEmpty else { return (!isScarce, nil) }
        let victim = crowd.filter { isIdle($0, at: now) }.min { order($0) < order($1) }
        return (victim != nil, victim)
    }
    /// Whoever is served is not cut; whoever is answered only when it does not take the answer.
    private func isIdle(_ guest: WebGuest, at now: Instant) -> Bool {
        switch guest.phase {
        case .silent, .asking: true
        case .served: false
        case .taking: now - guest.since >= .seconds(Int64(limits.headSeconds))
        }
    }
    private func order(_ guest: WebGuest) -> (Int, Instant) {
        switch guest.phase {
        case .silent: (0, guest.since)
        case .asking: (1, guest.since)
        case .served, .taking: (2, guest.since)
        }
    }

    /// Whose time is over. An answer may take as long as its reader reads.
    func overdue(at now: Instant) -> [WebGuest] {
        present.filter { guest in
            switch guest.phase {
            case .silent:
                now - guest.since >= .seconds(Int64(guest.isKnown ? limits.idleSeconds : limits.headSeconds))
            case .asking: now - guest.since >= .seconds(Int64(limits.requestSeconds))
            case .served, .taking: false
            }
        }
    }

    mutating func enter(_ guest: WebGuest) { all.append(guest) }
    mutating func leave(_ guest: WebGuest) { all.removeAll { $0 === guest } }
    func turn(_ guest: WebGuest, to phase: WebGuest.Phase, at now: Instant) {
        if phase != .silent { guest.isKnown = true }
        (guest.phase, guest.since) = (phase, now)
    }
    func cut(_ guest: WebGuest) { guest.isCut = true }
}
