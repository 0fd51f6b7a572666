import Primitives

/// What waits for a line: round robin among hosts, and for each host round robin among its streams, in chunks.
/// The datagrams of a host count as one more stream.
///
/// Hosts and streams are found by place: a lane stays when it is empty, and a chunk costs no look-up but that of its host.
@usableFromInline struct FairQueue<Payload> {
    /// Something offered, of which `remaining` bytes still wait.
    @usableFromInline struct Offer {
        @usableFromInline var remaining: Int
        @usableFromInline var payload: Payload
        @usableFromInline var at: Instant
        @inlinable init(remaining: Int, payload: Payload, at: Instant) {
            self.remaining = remaining
            self.payload = payload
            self.at = at
        }
    }
    @usableFromInline struct Flow {
        @usableFromInline let stream: UInt64?
        @usableFromInline var offers = EffectQueue<Offer>()
        @usableFromInline var front: Offer?
        @usableFromInline var bytes = 0
        @inlinable init(stream: UInt64?) { self.stream = stream }
    }
    @usableFromInline struct Lane {
        @usableFromInline let host: HostID
        /// Those that wait, and the one that is served.
        @usableFromInline var flows: [Flow] = []
        /// Streams that wait, in the order of service.
        @usableFromInline var ring: [UInt64?] = []
        @usableFromInline var isInRing = false
        @inlinable init(host: HostID) { self.host = host }
    }
    @usableFromInline var lanes: [Lane] = []
    @usableFromInline var places: [HostID: Int] = [:]
    /// Lanes of the hosts for which something waits, in the order of service.
    @usableFromInline var ring: [Int] = []
    /// Whose chunk the line carries now.
    @usableFromInline var serving: (lane: Int, stream: UInt64?)?

    @inlinable init() {}

    @inlinable var isEmpty: Bool { ring.isEmpty }
    /// The first in the order of service.
    @inlinable var first: HostID? { ring.isEmpty ? nil : lanes[ring[0]].host }
    @inlinable func queuedBytes(_ host: HostID, _ stream: UInt64?) -> Int {
        guard let lane = places[host], let flow = lanes[lane].place(of: stream) else { return 0 }
        return lanes[lane].flows[flow].bytes
    }

    @inlinable mutating func push(_ host: HostID, _ stream: UInt64?, bytes: Int, payload: Payload, at now: Instant) {
        let lane = place(of: host)
        let hostServed = serving?.lane == lane
        lanes[lane].push(
            Offer(remaining: bytes, payload: payload, at: now), stream,
            served: hostServed && serving!.stream == stream)
        if !hostServed, !lanes[lane].isInRing { enqueue(lane) }
    }

    /// Takes the next chunk for `host`, which must be in the ring. Host and stream rejoin their rings, behind whoever came in
    /// the meantime, with ``release()``.
    /// - Returns: the chunk and when it was offered.
    @inlinable mutating func pop(_ host: HostID) -> (parcel: Parcel<Payload>, offered: Instant) {
        precondition(serving == nil, "the line carries one chunk at a time")
        guard let lane = places[host], lanes[lane].isInRing, let place = ring.firstIndex(of: lane) else {
            preconditionFailure("\(host) has nothing waiting")
        }
        ring.remove(at: place)
        lanes[lane].isInRing = false
        let (stream, bytes, payload, offered) = lanes[lane].pop()
        serving = (lane, stream)
        return (Parcel(host: host, stream: stream, bytes: bytes, payload: payload), offered)
    }
    /// The chunk taken last has passed.
    @inlinable mutating func release() {
        guard let (lane, stream) = serving else { return }
        serving = nil
        if lanes[lane].release(stream) { enqueue(lane) }
    }

    @inlinable mutating func remove(_ host: HostID, _ stream: UInt64?) {
        guard let lane = places[host], let flow = lanes[lane].place(of: stream) else { return }
        lanes[lane].flows.remove(at: flow)
        lanes[lane].ring.removeAll { $0 == stream }
        if lanes[lane].ring.isEmpty { dequeue(lane) }
    }
    @inlinable mutating func remove(_ host: HostID) {
        guard let lane = places[host] else { return }
        lanes[lane].flows = []
        lanes[lane].ring = []
        dequeue(lane)
    }

    @inlinable mutating func place(of host: HostID) -> Int {
        if let place = places[host] { return place }
        lanes.append(Lane(host: host))
        places[host] = lanes.count - 1
        return lanes.count - 1
    }
    @inlinable mutating func enqueue(_ lane: Int) {
        ring.append(lane)
        lanes[lane].isInRing = true
    }
    @inlinable mutating func dequeue(_ lane: Int) {
        guard lanes[lane].isInRing else { return }
        ring.removeAll { $0 == lane }
        lanes[lane].isInRing = false
    }
}

extension FairQueue.Lane {
    @inlinable func place(of stream: UInt64?) -> Int? {
        for place in flows.indices where flows[place].stream == stream { return place }
        return nil
    }
    @inlinable mutating func push(_ offer: FairQueue.Offer, _ stream: UInt64?, served: Bool) {
        var place = flows.count
        if let known = self.place(of: stream) { place = known } else { flows.append(FairQueue.Flow(stream: stream)) }
        flows[place].bytes += offer.remaining
        if flows[place].front == nil {
            flows[place].front = offer
            if !served { ring.append(stream) }
        } else {
            flows[place].offers.push(offer)
        }
    }
    /// The next chunk of the stream whose turn it is; the payload with the last chunk of its offer.
    @inlinable mutating func pop() -> (stream: UInt64?, bytes: Int, payload: Payload?, offered: Instant) {
        let stream = ring.removeFirst()
        guard let place = place(of: stream), flows[place].front != nil else {
            preconditionFailure("a stream in the ring waits for nothing")
        }
        // A datagram is never cut; a stream's offers are.
        let remaining = flows[place].front!.remaining
        let bytes = stream == nil ? remaining : min(remaining, Shaping.chunkBytes)
        let offered = flows[place].front!.at
        flows[place].bytes -= bytes
        guard bytes == remaining else {
            flows[place].front!.remaining -= bytes
            return (stream, bytes, nil, offered)
        }
        let payload = flows[place].front!.payload
        flows[place].front = flows[place].offers.pop()
        return (stream, bytes, payload, offered)
    }
    /// Whether anything still waits in this lane.
    @inlinable mutating func release(_ stream: UInt64?) -> Bool {
        if let place = place(of: stream) {
            if flows[place].front != nil { ring.append(stream) } else { flows.remove(at: place) }
        }
        return !ring.isEmpty
    }
}

/// Parcels on their way, by arrival and then by the order in which they left: a binary heap of places in a slab, so that no
/// item moves before it is taken.
@usableFromInline struct TimedHeap<Item> {
    @usableFromInline struct Entry {
        @usableFromInline var at: Instant
        @usableFromInline var sequence: UInt64
        @usableFromInline var slot: Int
        @inlinable init(at: Instant, sequence: UInt64, slot: Int) {
            self.at = at
            self.sequence = sequence
            self.slot = slot
        }
        @inlinable func precedes(_ other: Entry) -> Bool {
            at < other.at || (at == other.at && sequence < other.sequence)
        }
    }
    @usableFromInline var heap: [Entry] = []
    @usableFromInline var items: [Item?] = []
    @usableFromInline var free: [Int] = []
    @usableFromInline var sequence: UInt64 = 0

    @inlinable init() {}

    @inlinable var next: Instant? { heap.isEmpty ? nil : heap[0].at }

    @inlinable mutating func push(_ item: Item, at: Instant) {
        var slot = items.count
        if let unused = free.popLast() {
            slot = unused
            items[slot] = item
        } else {
            items.append(item)
        }
        let entry = Entry(at: at, sequence: sequence, slot: slot)
        sequence += 1
        heap.append(entry)
        rise(entry, from: heap.count - 1)
    }
    @inlinable mutating func pop(due now: Instant) -> Item? {
        guard !heap.isEmpty, heap[0].at <= now else { return nil }
        let slot = heap[0].slot
        let last = heap.removeLast()
        if !heap.isEmpty { sink(last) }
        var item: Item?
        swap(&item, &items[slot])
        free.append(slot)
        return item
    }
    @inlinable mutating func removeAll(where gone: (Item) -> Bool) {
        let kept = heap.filter { !gone(items[$0.slot]!) }
        for entry in heap where gone(items[entry.slot]!) {
            items[entry.slot] = nil
            free.append(entry.slot)
        }
        heap = []
        for entry in kept {
            heap.append(entry)
            rise(entry, from: heap.count - 1)
        }
    }
    @inlinable mutating func rise(_ entry: Entry, from start: Int) {
        var place = start
        while place > 0, entry.precedes(heap[(place - 1) / 2]) {
            heap[place] = heap[(place - 1) / 2]
            place = (place - 1) / 2
        }
        heap[place] = entry
    }
    @inlinable mutating func sink(_ entry: Entry) {
        var place = 0
        while true {
            var least = 2 * place + 1
            guard least < heap.count else { break }
            if least + 1 < heap.count, heap[least + 1].precedes(heap[least]) { least += 1 }
            guard heap[least].precedes(entry) else { break }
            heap[place] = heap[least]
            place = least
        }
        heap[place] = entry
    }
}
extension FairQueue.Offer: Sendable where Payload: Sendable {}
extension FairQueue.Flow: Sendable where Payload: Sendable {}
extension FairQueue.Lane: Sendable where Payload: Sendable {}
extension FairQueue: Sendable where Payload: Sendable {}
extension TimedHeap.Entry: Sendable {}
extension TimedHeap: Sendable where Item: Sendable {}
