import Primitives

/// The items of BEP 44 that this node keeps for others, for two hours after the last put.
struct ItemStore: Sendable {
    private struct Kept: Sendable {
        var item: StoredItem
        var expires: Instant
        /// The prefix of whoever put it last.
        var owner: UInt64
    }
    private var items: [NodeID: Kept] = [:]
    /// Targets, least recently put first.
    private var order: [NodeID] = []
    private var owned: [UInt64: Int] = [:]
    static let limit = 1000
    /// One prefix may fill a quarter of a crowded store, after that it evicts its own.
    static let ownerLimit = 250
    static let lifetime = Duration.seconds(7200)

    var count: Int { order.count }

    func item(_ target: NodeID, at now: Instant) -> StoredItem? {
        guard let kept = items[target], kept.expires > now else { return nil }
        return kept.item
    }

    /// Keeps an item whose signature was checked.
    ///
    /// - Throws: 301 when `cas` names another sequence than the stored one; 302 for an older sequence, or an equal one with
    ///   another value.
    mutating func put(
        _ item: StoredItem, cas: Int64?, from address: PackedEndpoint, at now: Instant
    ) throws(KRPCError) {
        let target = item.target
        if let new = item.signed, let stored = self.item(target, at: now), let old = stored.signed {
            if let cas, cas != old.sequence { throw .casMismatch }
            guard new.sequence >= old.sequence else { throw .oldSequence }
            if new.sequence == old.sequence, item.value != stored.value { throw .oldSequence }
        }
        remove(target)
        let owner = address.prefix
        if order.count >= Self.limit {
            let crowded = owned[owner, default: 0] >= Self.ownerLimit
            remove(order.first { !crowded || items[$0]?.owner == owner } ?? order[0])
        }
        items[target] = Kept(item: item, expires: now + Self.lifetime, owner: owner)
        order.append(target)
        owned[owner, default: 0] += 1
    }

    /// Everything that is still good, for saving: least recently put first.
    func kept(at now: Instant) -> [(item: StoredItem, left: Duration)] {
        order.compactMap { target in
            let kept = items[target]!
            return kept.expires > now ? (kept.item, kept.expires - now) : nil
        }
    }
    /// Takes back what ``kept(at:)`` gave; the caller checked the signature. Saved items are nobody's in particular.
    mutating func restore(_ item: StoredItem, for left: Duration, at now: Instant) {
        let target = item.target
        guard order.count < Self.limit, items[target] == nil else { return }
        items[target] = Kept(item: item, expires: now + min(left, Self.lifetime), owner: 0)
        order.append(target)
        owned[0, default: 0] += 1
    }

    private mutating func remove(_ target: NodeID) {
        guard let kept = items.removeValue(forKey: target) else { return }
        order.remove(at: order.firstIndex(of: target)!)
        let left = owned[kept.owner]! - 1
        owned[kept.owner] = left == 0 ? nil : left
    }

    mutating func expire(at now: Instant) {
        for target in order where items[target]!.expires <= now { remove(target) }
    }
}
