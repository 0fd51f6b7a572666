public import Primitives

/// Inbound connections of which it is not known yet whose they are, and who must go when another one comes.
///
/// A newcomer always gets in: somebody who means well proves itself within a few round trips, so whoever has waited longest
/// is the least likely to. Room is made at the expense of the source with the most connections here: a flood from one address
/// pushes out itself, while several peers behind one router, or on one machine, pass as quickly as they can prove themselves.
/// When more than half of the places are taken patience is shorter.
public struct WaitingRoom: Sendable {
    private struct Waiter {
        let id: UInt64
        let source: SourceAddress
        let since: Instant
    }
    /// In the order of their coming.
    private var waiters: [Waiter] = []
    private var counts: [SourceAddress: Int] = [:]
    public let places: Int
    private let hurry: Duration

    /// - Parameters:
    ///   - places: at most so many wait; at least one.
    ///   - hurry: how long somebody may wait while more than half of the places are taken.
    public init(places: Int, hurry: Duration = .seconds(3)) {
        precondition(places > 0, "a room without places")
        self.places = places
        self.hurry = hurry
    }

    public var count: Int { waiters.count }
    public func contains(_ id: UInt64) -> Bool { waiters.contains { $0.id == id } }

    /// Somebody comes. Those who are returned have to go, and are no longer here.
    public mutating func enter(_ id: UInt64, from endpoint: Endpoint, at now: Instant) -> [UInt64] {
        var gone: [UInt64] = []
        if waiters.count * 2 > places {
            while let first = waiters.first, now - first.since > hurry { gone.append(remove(at: 0)) }
        }
        if waiters.count >= places {
            let most = counts.values.max() ?? 0
            gone.append(remove(at: waiters.firstIndex { counts[$0.source] == most }!))
        }
        let source = SourceAddress(endpoint)
        waiters.append(Waiter(id: id, source: source, since: now))
        counts[source, default: 0] += 1
        return gone
    }

    /// It has proven itself, or is gone; harmless for somebody who is not here.
    public mutating func leave(_ id: UInt64) {
        if let place = waiters.firstIndex(where: { $0.id == id }) { _ = remove(at: place) }
    }
    /// The one who has to go to make room for something else; nil when nobody waits.
    public mutating func yieldPlace() -> UInt64? {
        guard let most = counts.values.max(), let place = waiters.firstIndex(where: { counts[$0.source] == most })
        else { return nil }
        return remove(at: place)
    }

    private mutating func remove(at place: Int) -> UInt64 {
        let waiter = waiters.remove(at: place)
        let left = counts[waiter.source]! - 1
        counts[waiter.source] = left == 0 ? nil : left
        return waiter.id
    }
}
