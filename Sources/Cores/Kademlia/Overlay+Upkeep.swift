public import Primitives

/// What a node does unasked: getting in, staying in, keeping its table warm.
extension Overlay {
    /// Asks the bootstrap nodes that are due. While nobody answers, with back-off and for ever; afterwards now and then
    /// those that the table lacks, so that two networks that share a list become one.
    mutating func tryBootstrap(at now: Instant) {
        guard now >= bootstrap.next else { return }
        let timers = configuration.timers
        let alone = attachment.connection != .joined || contactCount == 0
        for index in bootstrap.nodes.indices {
            let node = bootstrap.nodes[index]
            guard node.next <= now else { continue }
            if tables[node.address.family.rawValue].entry(at: node.address).map({ $0.failures == 0 }) ?? false {
                bootstrap.answered(node.address)
                bootstrap.tried(index, next: now + timers.bootstrapWhileJoined)
                continue
            }
            ask(.findNode(target: nodeID), node.address, id: nil, for: .bootstrap(index), at: now)
            let calm = alone ? timers.bootstrapCeiling : timers.bootstrapWhileJoined
            bootstrap.tried(index, next: now + jittered(backOff(node.attempt, calm)))
        }
        if alone {
            var others = bootstrap.remembered + tables.flatMap { $0.entries.map(\.contact) }
            generator.shuffle(&others)
            for contact in others.prefix(3) {
                ask(.findNode(target: nodeID), contact.address, id: contact.id, for: .courtesy, at: now)
            }
        }
        bootstrap.attempt += 1
        let next = jittered(backOff(bootstrap.attempt - 1, timers.bootstrapCeiling))
        bootstrap.next = now + next
        deadlines.push(.bootstrap, at: bootstrap.next)
        if alone, !(bootstrap.nodes.isEmpty && bootstrap.remembered.isEmpty) {
            effects.push(.bootstrapRetrying(attempt: bootstrap.attempt, next: next))
        }
    }

    /// Forgets every back-off and looks for the network now: after a change of address, say.
    public mutating func rejoin(at now: Instant) {
        bootstrap.reset(at: now)
        attachment.selfLookupsDone = 0
        deadlines.push(.bootstrap, at: now)
        _ = begin(.join, target: nodeID, at: now)
    }

    /// Another bootstrap node, whose name was not known as an address before. Asked at once.
    public mutating func add(bootstrap endpoint: Endpoint, at now: Instant) {
        bootstrap.add(endpoint, at: now)
        bootstrap.next = now
        deadlines.push(.bootstrap, at: now)
    }

    private func backOff(_ attempt: Int, _ ceiling: Duration) -> Duration {
        min(ceiling, configuration.timers.bootstrapFirst * (1 << min(attempt, 12)))
    }
    /// Nodes that lost the same network must not come back in step: ±20 %.
    mutating func jittered(_ duration: Duration) -> Duration {
        .nanoseconds(Int64(Double(duration.wholeNanoseconds) * (0.8 + 0.4 * generator.uniform())))
    }

    mutating func bootstrapAnswered(_ index: Int, at now: Instant) {
        guard index < bootstrap.nodes.count else { return }
        bootstrap.answered(bootstrap.nodes[index].address)
        // Who answers for the first time may belong to a part of the network that we did not know.
        _ = begin(.join, target: nodeID, at: now)
    }

    mutating func joinEnded(_ operation: Operation, at now: Instant) {
        guard contactCount > 0 else { return }
        remember()
    }

    private mutating func remember() {
        let good = tables.flatMap { $0.entries.filter { $0.lastAnswer != nil && $0.failures == 0 } }
        if !good.isEmpty { bootstrap.remembered = good.suffix(32).map(\.contact) }
    }

    /// Searches for our own ID, so that those around it know us: densely after the start, then every ten minutes.
    mutating func lookUpSelf(at now: Instant) {
        let schedule = configuration.timers.selfLookups
        if contactCount > 0 {
            _ = begin(.join, target: nodeID, at: now)
            // A random place far away, so that the whole table fills while the node is young.
            if attachment.selfLookupsDone < 6 {
                let target = nodeID.sharing(prefix: attachment.selfLookupsDone % 3, using: &generator)
                _ = begin(.refresh, target: target, at: now)
            }
        }
        attachment.selfLookupsDone += 1
        deadlines.push(.selfLookup, at: now + jittered(schedule[min(attachment.selfLookupsDone, schedule.count - 1)]))
    }

    /// One query to the contact that was left alone longest, for a random place in its part of the key space: it proves
    /// that the contact lives, and names others.
    mutating func maintain(at now: Instant) {
        let refresh = configuration.timers.refresh
        for family in Family.allCases {
            guard let entry = tables[family.rawValue].stalest else { continue }
            let rest = entry.failures > 0 || entry.lastAnswer == nil ? .seconds(10) : refresh / 2
            guard now - entry.lastTry >= rest else { continue }
            let prefix = min(159, (entry.contact.id ^ nodeID).leadingZeroBitCount)
            let target = nodeID.sharing(prefix: prefix, using: &generator)
            ask(.findNode(target: target), entry.contact.address, id: entry.contact.id, for: .courtesy, at: now)
        }
        let pace = refresh / max(60, contactCount * 3)
        deadlines.push(.maintenance, at: now + jittered(min(.seconds(10), max(.seconds(1), pace))))
    }

    mutating func keepHouse(at now: Instant) {
        if now >= kept.tokens.rotation { kept.tokens.rotate(to: secrets.bytes32(), at: now) }
        kept.peers.expire(at: now)
        kept.items.expire(at: now)
        budgets.housekeep(at: now)
        if attachment.connection == .joined { remember() }
        deadlines.push(.housekeeping, at: now + .seconds(60))
    }

    /// How many others, each in a network of its own, see us at our address, and how many different ports of it they see: one where the router shows one to all.
    public var portsSeen: (voters: Int, ports: Int) {
        let ports = outlook.votes.ports
        return (ports.voters, ports.seen)
    }

    /// Somebody says where it sees us. A public address that does not fit our ID, by three votes, changes the ID (BEP 42).
    mutating func vote(_ seen: PackedEndpoint, by address: PackedEndpoint, at now: Instant) {
        if outlook.votes.cast(seen, by: address), let winner = outlook.votes.winner {
            effects.push(.externalEndpoint(winner.endpoint))
        }
        guard let winner = outlook.votes.winner, outlook.votes.support >= 3, !winner.isPrivate,
            !NodeIDRule.allows(nodeID, at: winner.endpoint)
        else { return }
        nodeID = NodeIDRule.makeID(at: winner.endpoint, using: &generator)
        for index in tables.indices { tables[index].rename(to: nodeID) }
        effects.push(.nodeIDChanged(nodeID))
        _ = begin(.join, target: nodeID, at: now)
    }
}
