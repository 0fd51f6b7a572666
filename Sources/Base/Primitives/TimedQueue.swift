/// Items by moment, and by the order in which they were put in among equals, so that what comes out depends on nothing but
/// what went in. A binary heap of places in a slab: no item moves before it is taken.
public struct TimedQueue<Item> {
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

    @inlinable public init() {}

    @inlinable public var count: Int { heap.count }
    /// The moment of the first.
    @inlinable public var next: Instant? { heap.isEmpty ? nil : heap[0].at }
    /// The first, left where it is.
    @inlinable public var first: (at: Instant, item: Item)? {
        heap.isEmpty ? nil : (heap[0].at, items[heap[0].slot]!)
    }

    @inlinable public mutating func push(_ item: Item, at moment: Instant) {
        var slot = items.count
        if let unused = free.popLast() {
            slot = unused
            items[slot] = item
        } else {
            items.append(item)
        }
        let entry = Entry(at: moment, sequence: sequence, slot: slot)
        sequence += 1
        heap.append(entry)
        rise(entry, from: heap.count - 1)
    }

    /// Takes the first, if its moment has come.
    @inlinable public mutating func pop(due now: Instant) -> Item? {
        guard !heap.isEmpty, heap[0].at <= now else { return nil }
        return take()
    }

    /// Takes the first, whenever it is due.
    @discardableResult
    @inlinable public mutating func popFirst() -> Item? { heap.isEmpty ? nil : take() }

    @inlinable public mutating func removeAll() {
        heap = []
        items = []
        free = []
    }
    @inlinable public mutating func removeAll(where gone: (Item) -> Bool) {
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

    @inlinable mutating func take() -> Item? {
        let slot = heap[0].slot
        let last = heap.removeLast()
        if !heap.isEmpty { sink(last) }
        var item: Item?
        swap(&item, &items[slot])
        free.append(slot)
        return item
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
extension TimedQueue.Entry: Sendable {}
extension TimedQueue: Sendable where Item: Sendable {}
