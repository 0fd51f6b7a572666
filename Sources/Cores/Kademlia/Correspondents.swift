import Primitives

/// Addresses that this machine has written to lately. A router may let in whoever is there, at whatever port (*address-restricted*, RFC 4787 §5): who
/// comes in from there has shown nothing about strangers.
struct Correspondents: Sendable {
    /// By address, port 0: until when.
    private var known: [PackedEndpoint: Instant] = [:]
    private var tidyAt = 256

    /// Longer than any router remembers datagrams; of connections RFC 5382 has them remember 2 h 4 min.
    static let datagramLife = Duration.seconds(600)
    static let connectionLife = Duration.seconds(7440)
    /// With so many everybody counts as known, until some are over.
    static let most = 8192

    mutating func wrote(to endpoint: PackedEndpoint, for life: Duration, at now: Instant) {
        guard !endpoint.isPrivate else { return }
        let address = endpoint.with(port: 0)
        let until = now + life
        if let before = known[address] {
            if before < until { known[address] = until }
            return
        }
        if known.count >= tidyAt {
            known = known.filter { $0.value > now }
            tidyAt = min(Self.most, max(256, 2 * known.count))
        }
        if known.count < Self.most { known[address] = until }
    }
    func knows(_ endpoint: PackedEndpoint, at now: Instant) -> Bool {
        known.count >= Self.most || known[endpoint.with(port: 0)].map { $0 > now } ?? false
    }
}

/// Read-only nodes that have just asked something: nobody lists them, so those who want to be dialled back have hardly ever written to them, and
/// a datagram reaches them as long as their routers remember.
struct RecentAskers: Sendable {
    private var askers: [(contact: PackedContact, at: Instant)] = []
    static let life = Duration.seconds(20)
    static let most = 32

    mutating func note(_ contact: PackedContact, at now: Instant) {
        guard !contact.address.isPrivate else { return }
        askers.removeAll { $0.contact.address == contact.address }
        if askers.count >= Self.most { askers.removeFirst() }
        askers.append((contact, now))
    }
    /// Those who are not behind the same router, as far as can be seen.
    func elsewhere(than address: PackedEndpoint, at now: Instant) -> [PackedContact] {
        guard !address.isPrivate else { return [] }
        return askers.filter {
            now - $0.at < Self.life && $0.contact.address.family == address.family
                && $0.contact.address.prefix != address.prefix
        }.map(\.contact)
    }
}
