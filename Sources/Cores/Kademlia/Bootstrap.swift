import Primitives

/// The way in: bootstrap nodes with their back-off, and the contacts remembered from better days.
struct Bootstrap: Sendable {
    struct Node: Sendable {
        let address: PackedEndpoint
        var attempt = 0
        var next: Instant
    }
    /// In the order given; this node itself is taken out once it is recognised.
    private(set) var nodes: [Node]
    /// Addresses under which we answered ourselves.
    private(set) var myself: [PackedEndpoint] = []
    /// Contacts that answered once; asked again when nobody does.
    var remembered: [PackedContact] = []
    /// Rounds of attempts in which nobody answered.
    var attempt = 0
    var next: Instant

    init(_ endpoints: [Endpoint], at now: Instant) {
        nodes = []
        for endpoint in endpoints {
            let address = PackedEndpoint(endpoint)
            guard address.isUsable, !nodes.contains(where: { $0.address == address }) else { continue }
            nodes.append(Node(address: address, next: now))
        }
        next = now
    }

    mutating func add(_ endpoint: Endpoint, at now: Instant) {
        let address = PackedEndpoint(endpoint)
        guard address.isUsable, !nodes.contains(where: { $0.address == address }), !myself.contains(address),
            nodes.count < 64
        else { return }
        nodes.append(Node(address: address, next: now))
    }

    mutating func reset(at now: Instant) {
        attempt = 0
        next = now
        for index in nodes.indices {
            nodes[index].attempt = 0
            nodes[index].next = now
        }
    }
    mutating func isMyself(_ address: PackedEndpoint) {
        nodes.removeAll { $0.address == address }
        if !myself.contains(address), myself.count < 16 { myself.append(address) }
    }

    /// Bootstrap nodes that a walk may start from: those not known to be silent, or all when there is nobody else.
    func askable(_ family: Family, at now: Instant, desperate: Bool) -> [PackedEndpoint] {
        nodes.filter { $0.address.family == family && (desperate || $0.attempt <= 1) }.map(\.address)
    }
    mutating func tried(_ index: Int, next: Instant) {
        nodes[index].attempt += 1
        nodes[index].next = next
    }
    mutating func answered(_ address: PackedEndpoint) {
        guard let index = nodes.firstIndex(where: { $0.address == address }) else { return }
        nodes[index].attempt = 0
    }
}
