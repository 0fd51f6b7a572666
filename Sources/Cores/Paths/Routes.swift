public import Primitives

/// The addresses of one peer, a bounded set, and which of them to try next.
///
/// The one with the fewest failures since anything worked goes first, so that all are tried before one is tried again; among
/// equals the one that worked last, then the one that was told first.
public struct Routes: Sendable {
    private struct Route {
        let address: Address
        var failures = 0
        var workedAt: Instant?
    }
    /// In the order of their telling.
    private var routes: [Route] = []
    public static let most = 8

    public init() {}
    public var isEmpty: Bool { routes.isEmpty }
    public var addresses: [Address] { routes.map(\.address) }

    /// A full set gives up the address with the most failures, the latest of those; one that has none stays.
    ///
    /// - Returns: whether it is new here.
    @discardableResult public mutating func add(_ address: Address) -> Bool {
        guard address.isDialable, !routes.contains(where: { $0.address == address }) else { return false }
        if routes.count == Self.most {
            let most = routes.map(\.failures).max()!
            guard most > 0, let place = routes.lastIndex(where: { $0.failures == most }) else { return false }
            routes.remove(at: place)
        }
        routes.append(Route(address: address))
        return true
    }
    /// Of relays the order is that of the latest telling.
    mutating func reorder(_ addresses: [Address]) {
        let relays = addresses.filter { !$0.isDirect }
        guard relays.count > 1 else { return }
        let told = relays.compactMap { address in routes.first { $0.address == address } }
        routes.removeAll { route in told.contains { $0.address == route.address } }
        routes += told
    }
    func failures(of address: Address) -> Int { routes.first { $0.address == address }?.failures ?? 0 }
    /// Relays come last: whoever takes one has the others tried, too.
    public var next: Address? { best { $0.isDirect } ?? relayed }
    public var relayed: Address? { best { !$0.isDirect } }
    private func best(where isMeant: (Address) -> Bool) -> Address? {
        var best: Route?
        for route in routes where isMeant(route.address) {
            guard let other = best else {
                best = route
                continue
            }
            if route.failures != other.failures {
                if route.failures < other.failures { best = route }
            } else if let worked = route.workedAt, other.workedAt.map({ worked > $0 }) ?? true {
                best = route
            }
        }
        return best?.address
    }
    public func hasWorked(_ address: Address) -> Bool {
        routes.contains { $0.address == address && $0.workedAt != nil }
    }
    public mutating func failed(_ address: Address) {
        if let place = routes.firstIndex(where: { $0.address == address }) { routes[place].failures += 1 }
    }
    /// It leads to the peer: everything that failed before is given a new chance, after this one.
    public mutating func worked(_ address: Address, at now: Instant) {
        add(address)
        for place in routes.indices {
            routes[place].failures = 0
            if routes[place].address == address { routes[place].workedAt = now }
        }
    }
    /// The network is another one, or the machine has slept: old failures mean nothing.
    public mutating func forgive() { for place in routes.indices { routes[place].failures = 0 } }
    /// How often every address has failed since.
    public var rounds: Int { routes.map(\.failures).min() ?? 0 }
}
