import Primitives

/// What waits for a line: round robin among hosts, and for each host round robin among its streams, in chunks.
/// The datagrams of a host count as one more stream.
struct FairQueue<Payload> {
    /// Something offered, of which `remaining` bytes still wait.
    fileprivate struct Offer {
        var remaining: Int
        var payload: Payload
        var at: Instant
    }
    fileprivate struct Flow {
        var offers = EffectQueue<Offer>()
        var front: Offer?
        var bytes = 0
    }
    fileprivate struct Lane {
        var flows: [UInt64?: Flow] = [:]
        /// Streams that wait, in the order of service.
        var ring: [UInt64?] = []
    }
    private var lanes: [HostID: Lane] = [:]
    /// Hosts for which something waits, in the order of service.
    private(set) var ring: [HostID] = []
    /// Whose chunk the line carries now.
    private var serving: (host: HostID, stream: UInt64?)?

    var isEmpty: Bool { ring.isEmpty }
    func queuedBytes(_ host: HostID, _ stream: UInt64?) -> Int { lanes[host]?.flows[stream]?.bytes ?? 0 }

    mutating func push(_ host: HostID, _ stream: UInt64?, bytes: Int, payload: Payload, at now: Instant) {
        let offer = Offer(remaining: bytes, payload: payload, at: now)
        let hostServed = serving?.host == host
        if !hostServed, lanes[host] == nil { ring.append(host) }
        lanes[host, default: Lane()].push(offer, stream, served: hostServed && serving?.stream == stream)
    }

    /// Takes the next chunk for `host`, which must be in the ring. Host and stream rejoin their rings, behind whoever came in
    /// the meantime, with ``release()``.
    /// - Returns: the chunk and when it was offered.
    mutating func pop(_ host: HostID) -> (parcel: Parcel<Payload>, offered: Instant) {
        precondition(serving == nil, "the line carries one chunk at a time")
        guard let place = ring.firstIndex(of: host), lanes[host] != nil else {
            preconditionFailure("\(host) has nothing waiting")
        }
        ring.remove(at: place)
        let (stream, bytes, offer) = lanes[host]!.pop()
        serving = (host, stream)
        let payload = offer.remaining == 0 ? offer.payload : nil
        return (Parcel(host: host, stream: stream, bytes: bytes, payload: payload), offer.at)
    }
    /// The chunk taken last has passed.
    mutating func release() {
        guard let (host, stream) = serving else { return }
        serving = nil
        guard lanes[host] != nil else { return }
        if lanes[host]!.release(stream) { ring.append(host) } else { lanes[host] = nil }
    }

    mutating func remove(_ host: HostID, _ stream: UInt64?) {
        guard lanes[host]?.flows.removeValue(forKey: stream) != nil else { return }
        lanes[host]!.ring.removeAll { $0 == stream }
        if lanes[host]!.ring.isEmpty, serving?.host != host {
            lanes[host] = nil
            ring.removeAll { $0 == host }
        }
    }
    mutating func remove(_ host: HostID) {
        if lanes.removeValue(forKey: host) != nil { ring.removeAll { $0 == host } }
    }
}

extension FairQueue.Lane {
    fileprivate mutating func push(_ offer: FairQueue.Offer, _ stream: UInt64?, served: Bool) {
        var flow = flows.removeValue(forKey: stream) ?? FairQueue.Flow()
        if flow.front == nil {
            flow.front = offer
            if !served { ring.append(stream) }
        } else {
            flow.offers.push(offer)
        }
        flow.bytes += offer.remaining
        flows[stream] = flow
    }
    /// The next chunk of the stream whose turn it is, with what is left of its offer.
    fileprivate mutating func pop() -> (stream: UInt64?, bytes: Int, offer: FairQueue.Offer) {
        let stream = ring.removeFirst()
        guard var flow = flows.removeValue(forKey: stream), var offer = flow.front else {
            preconditionFailure("a stream in the ring waits for nothing")
        }
        // A datagram is never cut; a stream's offers are.
        let bytes = stream == nil ? offer.remaining : min(offer.remaining, Shaping.chunkBytes)
        offer.remaining -= bytes
        flow.bytes -= bytes
        flow.front = offer.remaining == 0 ? flow.offers.pop() : offer
        flows[stream] = flow
        return (stream, bytes, offer)
    }
    /// Whether anything still waits in this lane.
    fileprivate mutating func release(_ stream: UInt64?) -> Bool {
        if let flow = flows[stream] {
            if flow.front != nil { ring.append(stream) } else { flows[stream] = nil }
        }
        return !ring.isEmpty
    }
}

/// Parcels on their way, by arrival and then by the order in which they left: a binary heap.
struct TimedHeap<Item> {
    private var items: [(at: Instant, sequence: UInt64, item: Item)] = []
    private var sequence: UInt64 = 0

    var next: Instant? { items.first?.at }

    mutating func push(_ item: Item, at: Instant) {
        items.append((at, sequence, item))
        sequence += 1
        var child = items.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }
    mutating func pop(due now: Instant) -> Item? {
        guard let first = items.first, first.at <= now else { return nil }
        items.swapAt(0, items.count - 1)
        items.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < items.count && precedes(child, least) {
                least = child
            }
            if least == parent { break }
            items.swapAt(parent, least)
            parent = least
        }
        return first.item
    }
    mutating func removeAll(where gone: (Item) -> Bool) {
        let kept = items.filter { !gone($0.item) }.sorted { ($0.at, $0.sequence) < ($1.at, $1.sequence) }
        items = kept
    }
    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (items[a].at, items[a].sequence) < (items[b].at, items[b].sequence)
    }
}
extension FairQueue.Offer: Sendable where Payload: Sendable {}
extension FairQueue.Flow: Sendable where Payload: Sendable {}
extension FairQueue.Lane: Sendable where Payload: Sendable {}
extension FairQueue: Sendable where Payload: Sendable {}
extension TimedHeap: Sendable where Item: Sendable {}
