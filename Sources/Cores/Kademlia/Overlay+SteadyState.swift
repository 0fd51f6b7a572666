package import Digests
package import Primitives

/// A contact as a simulator keeps it: an IPv4 address in four bytes, and a port.
package struct SteadyContact: Sendable {
    package let id: NodeID
    package let ipv4: UInt32
    package let port: UInt16
    package init(id: NodeID, ipv4: UInt32, port: UInt16) {
        self.id = id
        self.ipv4 = ipv4
        self.port = port
    }
}

extension Overlay {
    /// A node that has been up for long: joined, its table full of contacts that answered. For simulators, which cannot wait
    /// until a million nodes have met; what it does from here on is what every node does.
    ///
    /// - Parameters:
    ///   - levels: contacts by shared leading bits, as in ``RoutingTable``.
    ///   - roundTrip: what it has measured to everybody so far.
    package init(
        configuration: OverlayConfiguration, identity: SigningKey, nodeID: NodeID, levels: [[SteadyContact]],
        roundTrip: Duration, at now: Instant
    ) {
        self.init(configuration: configuration, identity: identity, nodeID: nodeID, known: [], at: now)
        let packed = levels.map { level in
            level.map { PackedContact(id: $0.id, address: PackedEndpoint(ipv4: $0.ipv4, port: $0.port)) }
        }
        tables[Family.ipv4.rawValue] = RoutingTable(
            own: nodeID, k: configuration.k, firstBuckets: configuration.firstBuckets, levels: packed,
            roundTrip: roundTrip, span: configuration.timers.refresh / 2, at: now)
        outlook.population.measure(roundTrip)
        outlook.population.measure(roundTrip)
        attachment.connection = .joined
        attachment.lastAnswer = now
        // Not in step with everybody else: the young node's searches are over, the next is some time in ten minutes.
        attachment.selfLookupsDone = configuration.timers.selfLookups.count
        effects = EffectQueue()
        operations = [:]
        transactions = [:]
        deadlines.removeAll()
        let last = configuration.timers.selfLookups.last ?? .seconds(600)
        deadlines.push(.selfLookup, at: now + last * generator.uniform())
        deadlines.push(.maintenance, at: now + .seconds(10) * generator.uniform())
        deadlines.push(.housekeeping, at: now + .seconds(60) * generator.uniform())
    }
}
