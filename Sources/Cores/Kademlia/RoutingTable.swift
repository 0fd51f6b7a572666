import Primitives

/// Contacts of one address family in k-buckets (Kademlia §2.2), as a node sees the key space from its own ID.
///
/// Where we leave the paper, and why:
/// - The buckets for the far half, quarter, … are larger (128, 64, 32, 16, then k), as in libtorrent: a lookup's first hop
///   then gains seven bits and not three, for some 20 KiB a node.
/// - A contact enters only after it answered us; hearsay waits in a replacement cache. What others merely mention can fill
///   no table.
/// - A full bucket prefers, in order: contacts that answer, node IDs that fit their address (BEP 42), the longest known.
/// - Public addresses: one node an address, and two of a /24 (/56) in one bucket, so that a rented prefix is not a bucket.
struct RoutingTable: Sendable {
    struct Entry: Sendable {
        var contact: PackedContact
        /// Nil: never answered us; known from disk.
        var lastAnswer: Instant?
        var lastTry: Instant
        var roundTrip = RoundTrip()
        var failures: UInt8 = 0
        /// Node ID and address agree (BEP 42), or the address is exempt.
        var isCompliant: Bool
    }
    private struct Bucket: Sendable {
        var entries: [Entry] = []
        var replacements: [Entry] = []
    }

    private(set) var own: NodeID
    let k: Int
    let firstBuckets: [Int]
    private var buckets = [Bucket()]
    /// Changes whenever a contact enters or leaves.
    private(set) var generation: UInt64 = 0
    private(set) var count = 0

    init(own: NodeID, k: Int, firstBuckets: [Int]) {
        self.own = own
        self.k = k
        self.firstBuckets = firstBuckets
    }

    /// A table as a long life leaves it: every contact has answered.
    ///
    /// - Parameter levels: contacts that share 0, 1, 2, … leading bits with `own`, the last one all that share more; at most
    ///   a bucket's capacity each.
    ///   - span: the contacts were tried last at moments spread over this long.
    init(
        own: NodeID, k: Int, firstBuckets: [Int], levels: [[PackedContact]], roundTrip: Duration, span: Duration,
        at now: Instant
    ) {
        self.init(own: own, k: k, firstBuckets: firstBuckets)
        var typical = RoundTrip()
        typical.measure(roundTrip)
        typical.measure(roundTrip)
        // Weyl's sequence: any run of contacts is spread evenly.
        var place = 0.0
        buckets = levels.map { level in
            Bucket(
                entries: level.map {
                    place += 0.618_033_988_749_895
                    let tried = now - span * (place - place.rounded(.down))
                    return Entry(contact: $0, lastAnswer: tried, lastTry: tried, roundTrip: typical, isCompliant: true)
                })
        }
        if buckets.isEmpty { buckets = [Bucket()] }
        count = levels.reduce(0) { $0 + $1.count }
    }

    private func capacity(_ bucket: Int) -> Int { bucket < firstBuckets.count ? max(k, firstBuckets[bucket]) : k }
    private func index(_ id: NodeID) -> Int { min((id ^ own).leadingZeroBitCount, buckets.count - 1) }

    var bucketCount: Int { buckets.count }
    /// All entries, near buckets last.
    var entries: [Entry] { buckets.flatMap(\.entries) }

    func entry(_ id: NodeID) -> Entry? { buckets[index(id)].entries.first { $0.contact.id == id } }
    func entry(at address: PackedEndpoint) -> Entry? {
        for bucket in buckets {
            if let hit = bucket.entries.first(where: { $0.contact.address == address }) { return hit }
        }
        return nil
    }

    /// What became of a contact that answered.
    enum Admission: Equatable { case inserted, updated, cached, refused }

    /// A node answered us. The only way into the buckets.
    @discardableResult
    mutating func answered(_ contact: PackedContact, roundTrip: Duration?, at now: Instant) -> Admission {
        guard contact.id != own else { return .refused }
        let bucket = index(contact.id)
        if let at = buckets[bucket].entries.firstIndex(where: { $0.contact.id == contact.id }) {
            // The same ID at another address: whoever was there first keeps it while it answers.
            let known = buckets[bucket].entries[at]
            if known.contact.address != contact.address {
                guard known.failures > 0 || known.lastAnswer == nil else { return .refused }
                buckets[bucket].entries[at] = entry(contact, at: now, roundTrip)
                generation += 1
                return .inserted
            }
            buckets[bucket].entries[at].lastAnswer = now
            buckets[bucket].entries[at].failures = 0
            if let roundTrip { buckets[bucket].entries[at].roundTrip.measure(roundTrip) }
            return .updated
        }
        evict(address: contact.address)
        guard allowsPrefix(contact, in: bucket) else { return .refused }
        buckets[bucket].replacements.removeAll { $0.contact.id == contact.id || $0.contact.address == contact.address }
        return insert(entry(contact, at: now, roundTrip))
    }

    /// A contact that somebody remembers: enters only where there is room, and unproven.
    mutating func remember(_ contact: PackedContact, at now: Instant) {
        let bucket = index(contact.id)
        guard contact.id != own, entry(contact.id) == nil, entry(at: contact.address) == nil,
            buckets[bucket].entries.count < capacity(bucket), allowsPrefix(contact, in: bucket)
        else { return }
        var new = entry(contact, at: now, nil)
        new.lastAnswer = nil
        buckets[bucket].entries.append(new)
        count += 1
        generation += 1
    }

    private func entry(_ contact: PackedContact, at now: Instant, _ roundTrip: Duration?) -> Entry {
        var out = Entry(
            contact: contact, lastAnswer: now, lastTry: now,
            isCompliant: contact.address.isPrivate || NodeIDRule.allows(contact.id, at: contact.address.endpoint))
        if let roundTrip { out.roundTrip.measure(roundTrip) }
        return out
    }

    private mutating func insert(_ new: Entry) -> Admission {
        let bucket = index(new.contact.id)
        if buckets[bucket].entries.count < capacity(bucket) {
            buckets[bucket].entries.append(new)
            count += 1
            generation += 1
            return .inserted
        }
        if bucket == buckets.count - 1, buckets.count < 160 {
            split()
            return insert(new)
        }
        let victim = buckets[bucket].entries.indices.max { weakness($0, bucket) < weakness($1, bucket) }!
        let weak = buckets[bucket].entries[victim]
        if weak.failures >= 2 || (!weak.isCompliant && new.isCompliant) || weak.lastAnswer == nil {
            buckets[bucket].entries[victim] = new
            generation += 1
            return .inserted
        }
        if buckets[bucket].replacements.count >= k { buckets[bucket].replacements.removeFirst() }
        buckets[bucket].replacements.append(new)
        return .cached
    }

    private func weakness(_ at: Int, _ bucket: Int) -> Int {
        let entry = buckets[bucket].entries[at]
        return Int(entry.failures) * 4 + (entry.lastAnswer == nil ? 2 : 0) + (entry.isCompliant ? 0 : 3)
    }

    private mutating func split() {
        let depth = buckets.count - 1
        let old = buckets[depth]
        func isNearer(_ entry: Entry) -> Bool { (entry.contact.id ^ own).leadingZeroBitCount > depth }
        buckets[depth].entries = old.entries.filter { !isNearer($0) }
        buckets[depth].replacements = old.replacements.filter { !isNearer($0) }
        buckets.append(
            Bucket(entries: old.entries.filter(isNearer), replacements: old.replacements.filter(isNearer)))
        // The deeper bucket may be the smaller one: what does not fit waits as a replacement.
        while buckets[depth + 1].entries.count > capacity(depth + 1) {
            let spare = buckets[depth + 1].entries.removeLast()
            count -= 1
            if buckets[depth + 1].replacements.count < k { buckets[depth + 1].replacements.append(spare) }
        }
    }

    private func allowsPrefix(_ contact: PackedContact, in bucket: Int) -> Bool {
        guard !contact.address.isPrivate else { return true }
        let prefix = contact.address.prefix
        return buckets[bucket].entries.count { $0.contact.address.prefix == prefix } < 2
    }

    /// A public address that answers under a new ID has changed it; the old entry goes. Private ones may share an address.
    private mutating func evict(address: PackedEndpoint) {
        for bucket in buckets.indices {
            guard
                let at = buckets[bucket].entries.firstIndex(where: {
                    $0.contact.address == address
                        || (!address.isPrivate && $0.contact.address.with(port: 0) == address.with(port: 0))
                })
            else { continue }
            remove(at, bucket)
        }
    }

    /// A query of ours stayed unanswered for its estimated round trip and four deviations.
    ///
    /// - Parameter evicting: false while nobody answers at all: then the network is gone, not the contact.
    mutating func failed(_ id: NodeID, evicting: Bool) {
        let bucket = index(id)
        guard let at = buckets[bucket].entries.firstIndex(where: { $0.contact.id == id }) else { return }
        if buckets[bucket].entries[at].failures < .max { buckets[bucket].entries[at].failures += 1 }
        let limit: UInt8 = buckets[bucket].entries[at].lastAnswer == nil ? 2 : 3
        if evicting, buckets[bucket].entries[at].failures >= limit { remove(at, bucket) }
    }

    mutating func tried(_ id: NodeID, at now: Instant) {
        let bucket = index(id)
        guard let at = buckets[bucket].entries.firstIndex(where: { $0.contact.id == id }) else { return }
        buckets[bucket].entries[at].lastTry = now
    }

    /// Removes a contact that has shown itself unfit: read-only, or a liar.
    mutating func remove(_ id: NodeID) {
        let bucket = index(id)
        guard let at = buckets[bucket].entries.firstIndex(where: { $0.contact.id == id }) else { return }
        remove(at, bucket)
    }
    private mutating func remove(_ at: Int, _ bucket: Int) {
        buckets[bucket].entries.remove(at: at)
        count -= 1
        generation += 1
        // The freshest replacement takes the place.
        if buckets[bucket].entries.count < capacity(bucket), let fresh = buckets[bucket].replacements.popLast() {
            buckets[bucket].entries.append(fresh)
            count += 1
        }
    }

    /// Whether a node with this ID would be kept, so that it is worth a ping.
    func hasRoom(for contact: PackedContact) -> Bool {
        let bucket = index(contact.id)
        return contact.id != own
            && (buckets[bucket].entries.count < capacity(bucket) || bucket == buckets.count - 1
                || buckets[bucket].entries.contains { $0.failures > 0 || $0.lastAnswer == nil })
            && allowsPrefix(contact, in: bucket)
    }

    /// The `limit` entries closest to `target`, closest first.
    ///
    /// - Parameter provenOnly: leave out who never answered or is silent just now: what is told to others.
    func closest(to target: NodeID, limit: Int, provenOnly: Bool) -> [Entry] {
        var best: [(distance: NodeID, bucket: Int, at: Int)] = []
        best.reserveCapacity(limit + 1)
        for b in buckets.indices {
            buckets[b].entries.withUnsafeBufferPointer { entries in
                for at in entries.indices {
                    if provenOnly, entries[at].lastAnswer == nil || entries[at].failures > 1 { continue }
                    let distance = entries[at].contact.id ^ target
                    if best.count == limit {
                        guard distance < best[limit - 1].distance else { continue }
                        best.removeLast()
                    }
                    var slot = best.count
                    while slot > 0, distance < best[slot - 1].distance { slot -= 1 }
                    best.insert((distance, b, at), at: slot)
                }
            }
        }
        return best.map { buckets[$0.bucket].entries[$0.at] }
    }

    /// The contact that has been left alone longest: maintenance asks it next.
    var stalest: Entry? {
        var oldest: (at: Instant, bucket: Int, place: Int)?
        for bucket in buckets.indices {
            buckets[bucket].entries.withUnsafeBufferPointer { entries in
                for place in entries.indices where oldest.map({ entries[place].lastTry < $0.at }) ?? true {
                    oldest = (entries[place].lastTry, bucket, place)
                }
            }
        }
        return oldest.map { buckets[$0.bucket].entries[$0.place] }
    }

    /// Starts anew under another ID, keeping whom we know.
    mutating func rename(to id: NodeID) {
        let known = entries
        own = id
        buckets = [Bucket()]
        count = 0
        generation += 1
        for entry in known where entry.contact.id != id { _ = insert(entry) }
    }
}
