public import Primitives

/// What the owner may ask for. Each call returns at once and ends with exactly one ``Effect/found(_:_:)``.
extension Overlay {
    /// The live nodes closest to `target`.
    public mutating func findNode(_ target: NodeID, at now: Instant) -> RequestID {
        begin(.findNode, target: target, at: now)
    }
    /// Who announced under `infoHash`.
    public mutating func getPeers(_ infoHash: NodeID, at now: Instant) -> RequestID {
        begin(.getPeers, target: infoHash, at: now)
    }
    /// Announces this peer under `infoHash`; lasts half an hour at least. Port 0 means the port that our datagrams come from.
    public mutating func announce(_ infoHash: NodeID, port: UInt16, at now: Instant) -> RequestID {
        begin(.announce(port: port), target: infoHash, at: now)
    }
    /// Puts a mutable item signed by this peer's key (BEP 44).
    ///
    /// - Parameters:
    ///   - value: bencoded, at most 1000 bytes, at most 590 to fit small datagrams.
    ///   - salt: at most 64 bytes.
    ///   - cas: store only where the stored sequence is this one.
    public mutating func putMutable(
        value: [UInt8], salt: [UInt8], sequence: Int64, cas: Int64?, at now: Instant
    ) -> RequestID {
        put(StoredItem(value: value, salt: salt, sequence: sequence, by: identity), cas: cas, at: now)
    }
    /// An item under this peer's key, signed and not yet put.
    public func sign(_ value: [UInt8], salt: [UInt8], sequence: Int64) -> StoredItem {
        StoredItem(value: value, salt: salt, sequence: sequence, by: identity)
    }
    /// Puts an item that is signed already, perhaps by somebody else: members republish each other's.
    public mutating func put(_ item: StoredItem, cas: Int64?, at now: Instant) -> RequestID {
        precondition(item.value.count <= StoredItem.valueLimit, "an item has at most 1000 bytes")
        precondition((item.signed?.salt.count ?? 0) <= StoredItem.saltLimit, "a salt has at most 64 bytes")
        return begin(.put(item, cas: cas), target: item.target, at: now)
    }
    /// The newest item of `key` under `salt` that enough nodes agree on.
    public mutating func getMutable(key: PeerID, salt: [UInt8], at now: Instant) -> RequestID {
        begin(.getItem(key: key, salt: salt), target: StoredItem.target(key: key, salt: salt), at: now)
    }
    /// Puts a value under its own hash. Ask ``StoredItem/target`` for the name.
    public mutating func putImmutable(_ value: [UInt8], at now: Instant) -> RequestID {
        put(StoredItem(value: value, signed: nil), cas: nil, at: now)
    }
    public mutating func getImmutable(_ target: NodeID, at now: Instant) -> RequestID {
        begin(.getItem(key: nil, salt: []), target: target, at: now)
    }

    // MARK: Beginning

    mutating func begin(_ kind: Operation.Kind, target: NodeID, at now: Instant) -> RequestID {
        requests += 1
        let request = RequestID(number: requests)
        let deadline = now + configuration.timers.operation
        var operation = Operation(id: request, kind: kind, target: target, startedAt: now, deadline: deadline)
        if !kind.isInternal, let spacing = spacing(at: now) { operation.radius = spacing * Double(configuration.k) }
        let both = Family.allCases.filter(isActive)
        for family in both.isEmpty ? [.ipv4] : both {
            operation.walks.append(makeWalk(to: target, family, radius: operation.radius, at: now))
        }
        switch kind {
        case .getPeers:
            var own: [PackedEndpoint] = []
            for family in Family.allCases {
                own += kept.peers.peers(of: target, family: family, limit: 100, at: now, using: &generator)
            }
            note(own, from: nil, in: &operation)
        case .getItem:
            operation.best = kept.items.item(target, at: now)
        default: break
        }
        operations[request] = operation
        deadlines.push(.operation(request), at: deadline)
        advance(request, at: now)
        return request
    }

    private func makeWalk(to target: NodeID, _ family: Family, radius: Double, at now: Instant) -> Walk {
        var walk = Walk(
            target: target, family: family, own: nodeID, k: configuration.k, alpha: configuration.alpha,
            paths: configuration.paths, radius: radius)
        let table = tables[family.rawValue]
        let start = table.closest(to: target, limit: configuration.k * 2, provenOnly: false)
        for entry in start { walk.start(with: entry.contact) }
        if start.count < configuration.k {
            for address in bootstrap.askable(family, at: now, desperate: start.isEmpty)
            where table.entry(at: address) == nil {
                walk.start(with: address)
            }
        }
        return walk
    }

    /// Tells the owner of peers and who told of them, and remembers those that are new.
    mutating func note(_ found: [PackedEndpoint], from teller: Endpoint?, in operation: inout Operation) {
        guard !found.isEmpty else { return }
        if operation.peers.count < 1000 {
            let known = Set(operation.peers)
            operation.peers += found.filter { !known.contains($0) }
        }
        effects.push(.peersSeen(operation.id, found.map(\.endpoint), from: teller))
    }
}
