import Primitives

/// What waits for a line: round robin among hosts, and for each host round robin among its streams, in chunks.
/// The datagrams of a host count as one more stream.
struct FairQueue<Payload> {
    /// Something offered, of which `remaining` bytes still wait.
    private struct Offer {
        var remaining: Int
        var payload: Payload
        var at: Instant
    }
    private struct Flow {
        var offers = EffectQueue<Offer>()
        var front: Offer?
        var bytes = 0
    }
    private struct Lane {
        var flows: [UInt64?: Flow] = [:]
        /// Streams that wait, in the order of service.
        var ring: [UInt64?] = []
    }
    private var lanes: [HostID: Lane] = [:]
    /// Hosts for which something waits, in the order of service.
    private(set) var ring: [HostID] = []

    var isEmpty: Bool { ring.isEmpty }
    func queuedBytes(_ host: HostID, _ stream: UInt64?) -> Int { lanes[host]?.flows[stream]?.bytes ?? 0 }

    mutating func push(_ host: HostID, _ stream: UInt64?, bytes: Int, payload: Payload, at now: Instant) {
        let offer = Offer(remaining: bytes, payload: payload, at: now)
        if lanes[host]?.ring.isEmpty ?? true { ring.append(host) }
        var lane = lanes.removeValue(forKey: host) ?? Lane()
        var flow = lane.flows.removeValue(forKey: stream) ?? Flow()
        if flow.front == nil {
            flow.front = offer
            lane.ring.append(stream)
        } else {
            flow.offers.push(offer)
        }
        flow.bytes += bytes
        lane.flows[stream] = flow
        lanes[host] = lane
    }

    /// Takes the next chunk for `host`, which must be in the ring, and moves the host to the ring's end.
    /// - Returns: the chunk and when it was offered.
    mutating func pop(_ host: HostID) -> (parcel: Parcel<Payload>, offered: Instant) {
        guard let place = ring.firstIndex(of: host), var lane = lanes.removeValue(forKey: host) else {
            preconditionFailure("\(host) has nothing waiting")
        }
        ring.remove(at: place)
        let stream = lane.ring.removeFirst()
        guard var flow = lane.flows.removeValue(forKey: stream), var offer = flow.front else {
            preconditionFailure("a stream in the ring waits for nothing")
        }
        // A datagram is never cut; a stream's offers are.
        let bytes = stream == nil ? offer.remaining : min(offer.remaining, Shaping.chunkBytes)
        offer.remaining -= bytes
        flow.bytes -= bytes
        let last = offer.remaining == 0
        flow.front = last ? flow.offers.pop() : offer
        if flow.front != nil {
            lane.ring.append(stream)
            lane.flows[stream] = flow
        }
        if !lane.ring.isEmpty {
            ring.append(host)
            lanes[host] = lane
        }
        return (Parcel(host: host, stream: stream, bytes: bytes, payload: last ? offer.payload : nil), offer.at)
    }

    mutating func remove(_ host: HostID, _ stream: UInt64?) {
        guard var lane = lanes[host], lane.flows.removeValue(forKey: stream) != nil else { return }
        lane.ring.removeAll { $0 == stream }
        if lane.ring.isEmpty {
            lanes[host] = nil
            ring.removeAll { $0 == host }
        } else {
            lanes[host] = lane
        }
    }
    mutating func remove(_ host: HostID) {
        if lanes.removeValue(forKey: host) != nil { ring.removeAll { $0 == host } }
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
