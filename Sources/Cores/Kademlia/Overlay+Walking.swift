import Primitives
import Wire

/// The course of an operation: walk, store, end.
extension Overlay {
    /// Sends what an operation may send now, and ends it when it is over.
    mutating func advance(_ request: RequestID, at now: Instant) {
        guard var operation = operations.removeValue(forKey: request) else { return }
        let expired = now >= operation.deadline
        if !operation.isStoring {
            for index in operation.walks.indices { walk(&operation, index, at: now) }
            if operation.kind.stores { storeEarly(&operation, at: now) }
            if !operation.isConverged, !expired, !isSatisfied(operation) {
                operations[request] = operation
                return
            }
            learnSize(from: operation, at: now)
            if operation.isOvertaken {
                refuseSwap(&operation)
            } else if operation.kind.stores {
                store(&operation, at: now)
            }
        }
        if operation.isStoring, !expired, operation.pending > 0, !isStored(operation) {
            operations[request] = operation
            return
        }
        finish(operation, at: now)
    }

    private mutating func walk(_ operation: inout Operation, _ index: Int, at now: Instant) {
        while true {
            while let ask = operation.walks[index].next() {
                self.ask(
                    question(of: operation), ask.address, id: ask.id,
                    for: .walk(operation.id, operation.walks[index].family), attempt: Int(ask.attempt), at: now)
            }
            guard operation.walks[index].isConverged, operation.walks[index].revive() else { return }
        }
    }

    private func question(of operation: Operation) -> KRPCMethod {
        switch operation.kind {
        case .findNode, .join, .refresh: .findNode(target: operation.target)
        case .getPeers, .announce: .getPeers(infoHash: operation.target)
        case .getItem: .get(target: operation.target, sequence: nil)
        // Whoever compares and swaps must see the newest version whole, to believe it.
        case .put(let item, let cas):
            .get(target: operation.target, sequence: cas == nil ? item.signed?.sequence : nil)
        }
    }

    /// Whether a search may end before its walk does.
    private func isSatisfied(_ operation: Operation) -> Bool {
        guard case .getItem(let key, _) = operation.kind, operation.best != nil else { return false }
        let paths = operation.agreeingPaths.nonzeroBitCount
        return key == nil || (operation.agreeing >= configuration.readQuorum && paths >= min(2, configuration.paths))
    }

    // MARK: Answers to a walk

    mutating func walkAnswered(
        _ request: RequestID, _ family: Family, _ answer: KRPCAnswer, _ closer: [PackedContact],
        from address: PackedEndpoint, at now: Instant
    ) {
        guard var operation = operations[request], !operation.isStoring,
            let index = operation.walks.firstIndex(where: { $0.family == family })
        else { return }
        operations[request] = nil
        let useful = closer.filter { !bootstrap.myself.contains($0.address) }
        _ = operation.walks[index].answered(from: address, id: answer.sender, token: answer.token, closer: useful)
        switch operation.kind {
        case .getPeers:
            note(
                (answer.values ?? []).prefix(200).compactMap(PackedEndpoint.init(compact:)).filter(\.isUsable),
                from: address.endpoint, in: &operation)
        case .getItem(let key, let salt):
            take(answer, key: key, salt: salt, from: address, walk: index, in: &operation)
        case .put(let item, cas: .some):
            take(
                answer, key: item.signed?.key, salt: item.signed?.salt ?? [], from: address, walk: index, in: &operation
            )
        default: break
        }
        operations[request] = operation
        advance(request, at: now)
    }

    /// Judges an item that a node returned: forgeries cost the node its place in this walk.
    private mutating func take(
        _ answer: KRPCAnswer, key: PeerID?, salt: [UInt8], from address: PackedEndpoint, walk: Int,
        in operation: inout Operation
    ) {
        guard let value = answer.value else { return }
        var item = StoredItem(value: Array(value), signed: nil)
        if let key {
            guard let sequence = answer.sequence, let signature = answer.signature, let shown = answer.key,
                shown.elementsEqual(key.bytes)
            else { return forged(address, walk, &operation) }
            item = StoredItem(
                value: item.value,
                signed: .init(key: key, salt: salt, sequence: sequence, signature: Array(signature)))
        }
        if let best = operation.best, best == item {
            operation.agreeing += 1
        } else {
            guard item.value.count <= StoredItem.valueLimit, item.target == operation.target, item.isAuthentic else {
                return forged(address, walk, &operation)
            }
            let newest = operation.best?.signed?.sequence ?? -1
            if let sequence = item.signed?.sequence {
                // Of two values under one sequence, everybody must choose the same.
                let wins =
                    sequence > newest
                    || (sequence == newest && operation.best!.value.lexicographicallyPrecedes(item.value))
                if wins {
                    operation.best = item
                    operation.agreeing = 1
                    operation.agreeingPaths = 0
                }
            } else {
                operation.best = item
                operation.agreeing = 1
            }
        }
        if operation.best == item {
            operation.agreeingPaths |= 1 << UInt64(operation.walks[walk].path(of: address) ?? 0)
        }
        operation.walks[walk].update(address) { $0.sequence = item.signed?.sequence ?? 0 }
    }

    private mutating func forged(_ address: PackedEndpoint, _ walk: Int, _ operation: inout Operation) {
        counters.forged += 1
        operation.walks[walk].drop(address)
    }

    // MARK: Storing

    /// A newer version was found, its signature checked: nodes that have not seen it yet are not even asked to swap.
    private func refuseSwap(_ operation: inout Operation) {
        operation.isStoring = true
        operation.refusals.append(.casMismatch)
    }

    /// Gives the item to the closest live nodes of every family, and keeps it here when we are one of them.
    private mutating func store(_ operation: inout Operation, at now: Instant) {
        operation.isStoring = true
        for index in operation.walks.indices {
            let live = closest(operation.walks[index], within: operation.radius)
            for candidate in live where candidate.replica == .none {
                give(&operation, index, to: candidate.contact, attempt: 0, at: now)
            }
            if !isReadOnly, isAmongClosest(operation.target, Array(live)) { storeHere(&operation, at: now) }
        }
    }

    /// The k closest live nodes, and everybody else who is as close as k nodes should be (see ``Walk``).
    private func closest(_ walk: Walk, within radius: Double) -> [Walk.Candidate] {
        let live = walk.live.filter { $0.token != nil }
        let crowd = live.dropFirst(configuration.k).prefix(2 * configuration.k)
        return live.prefix(configuration.k) + crowd.filter { ($0.contact.id ^ walk.target).fraction <= radius }
    }

    /// Gives the item to nodes that are certainly close enough while the walk still runs ("optimistic provide"), and tells
    /// the owner as soon as enough have confirmed.
    private mutating func storeEarly(_ operation: inout Operation, at now: Instant) {
        if case .put(_, cas: .some) = operation.kind { return }
        for index in operation.walks.indices {
            let walk = operation.walks[index]
            let given = walk.candidates.count { $0.replica != .none }
            let near = walk.live.filter {
                $0.token != nil && $0.replica == .none && ($0.contact.id ^ walk.target).fraction <= operation.radius / 2
            }
            for candidate in near.prefix(max(0, configuration.k - given)) {
                give(&operation, index, to: candidate.contact, attempt: 0, at: now)
            }
        }
        if operation.confirmed >= configuration.replicasNeeded { report(&operation, at: now) }
    }

    private func isAmongClosest(_ target: NodeID, _ live: [Walk.Candidate]) -> Bool {
        guard live.count >= configuration.k else { return true }
        let farthest = live.map { $0.contact.id ^ target }.max()!
        return nodeID ^ target < farthest
    }

    private mutating func storeHere(_ operation: inout Operation, at now: Instant) {
        switch operation.kind {
        case .announce(let port):
            // Our own address is what others say it is; before anybody does there is nothing to keep.
            guard let external = outlook.votes.winner else { return }
            kept.peers.announce(port == 0 ? external : external.with(port: port), under: operation.target, at: now)
            operation.storedHere = true
        case .put(let item, let cas):
            let here = outlook.votes.winner ?? PackedEndpoint(Endpoint(ipv4: 127, 0, 0, 1, port: 1))
            do {
                try kept.items.put(item, cas: cas, from: here, at: now)
                operation.storedHere = true
            } catch {
                operation.refusals.append(error)
            }
        default: break
        }
    }

    private mutating func give(
        _ operation: inout Operation, _ index: Int, to contact: PackedContact, attempt: Int, at now: Instant
    ) {
        var token: ArraySlice<UInt8>?
        operation.walks[index].update(contact.address) {
            token = $0.token
            $0.replica = .pending
        }
        guard let token else { return }
        if attempt == 0 {
            operation.replicasWanted += 1
            operation.pending += 1
        }
        let method: KRPCMethod
        switch operation.kind {
        case .announce(let port):
            method = .announcePeer(
                infoHash: operation.target, port: port == 0 ? 1 : port, implied: port == 0, token: token)
        case .put(let item, let cas):
            method = .put(.init(token: token, item: item, cas: cas))
        default: return
        }
        let purpose = Transaction.Purpose.store(operation.id, operation.walks[index].family, attempt: attempt)
        ask(method, contact.address, id: contact.id, for: purpose, attempt: attempt, at: now)
    }

    mutating func storeAnswered(
        _ request: RequestID, _ family: Family, _ error: KRPCError?, isLate: Bool, from address: PackedEndpoint,
        at now: Instant
    ) {
        guard var operation = operations[request] else { return }
        operations[request] = nil
        var counts = false
        operation.walks.update(family) {
            $0.update(address) { candidate in
                counts = candidate.replica == .pending || candidate.replica == .none
                candidate.replica = error == nil ? .confirmed : .refused
            }
        }
        if counts {
            if let error { operation.refusals.append(error) } else { operation.confirmed += 1 }
            if !isLate { operation.pending -= 1 }
        }
        operations[request] = operation
        advance(request, at: now)
    }

    /// Once again for a lost datagram; then the node is given up, and nobody waits for it.
    mutating func storeSilent(
        _ request: RequestID, _ family: Family, _ transaction: Transaction, attempt: Int, at now: Instant
    ) {
        guard var operation = operations[request],
            let index = operation.walks.firstIndex(where: { $0.family == family }), let id = transaction.id
        else { return }
        operations[request] = nil
        if attempt == 0 {
            give(
                &operation, index, to: PackedContact(id: id, address: transaction.address), attempt: 1, at: now)
        } else {
            operation.pending -= 1
            operation.walks[index].update(transaction.address) { $0.replica = .none }
        }
        operations[request] = operation
        advance(request, at: now)
    }

    /// Enough confirmed, or nobody left to wait for.
    private func isStored(_ operation: Operation) -> Bool {
        operation.confirmed >= min(configuration.replicasNeeded, operation.replicasWanted)
    }

    // MARK: Ending

    private mutating func learnSize(from operation: Operation, at now: Instant) {
        for walk in operation.walks where walk.family == .ipv4 || operation.walks.count == 1 {
            size.learn(walk.live.prefix(configuration.k).map { ($0.contact.id ^ operation.target).fraction }, at: now)
        }
    }

    private mutating func finish(_ ended: Operation, at now: Instant) {
        var operation = ended
        if case .join = operation.kind { joinEnded(operation, at: now) }
        report(&operation, at: now)
        if case .getItem = operation.kind { repair(operation, at: now) }
    }

    /// Tells the owner, once.
    private mutating func report(_ operation: inout Operation, at now: Instant) {
        guard !operation.kind.isInternal, !operation.isReported else { return }
        operation.isReported = true
        let result: LookupOutcome.Result
        switch operation.kind {
        case .getPeers: result = .peers(operation.peers.map(\.endpoint))
        case .announce, .put:
            let replicas = operation.confirmed + (operation.storedHere ? 1 : 0)
            result = .stored(replicas: replicas, refusals: operation.refusals)
        case .getItem: result = .item(operation.best)
        case .findNode, .join, .refresh:
            result = .nodes(operation.walks.flatMap { $0.live.prefix(configuration.k).map(\.contact.contact) })
        }
        effects.push(
            .found(
                operation.id,
                LookupOutcome(
                    result: result, queries: operation.queries, timeouts: operation.timeouts, hops: operation.hops,
                    elapsed: now - operation.startedAt)))
    }

    /// Nodes among the closest that lacked the newest version are given it, so that what is read stays alive.
    private mutating func repair(_ operation: Operation, at now: Instant) {
        guard let item = operation.best else { return }
        let newest = item.signed?.sequence ?? 0
        for walk in operation.walks where walk.isConverged {
            let lacking = walk.live.prefix(configuration.k).filter { $0.sequence != newest && $0.token != nil }
            for candidate in lacking.prefix(3) {
                ask(
                    .put(.init(token: candidate.token!, item: item, cas: nil)), candidate.contact.address,
                    id: candidate.contact.id, for: .courtesy, at: now)
            }
        }
    }
}
