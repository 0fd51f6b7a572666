/// A binary heap of moments, first in first out among equals, so that the order never depends on anything but the input.
public struct Deadlines<Key: Sendable>: Sendable {
    private struct Entry: Sendable {
        let at: Instant
        let order: UInt64
        let key: Key
        static func < (x: Entry, y: Entry) -> Bool { x.at == y.at ? x.order < y.order : x.at < y.at }
    }
    private var heap: [Entry] = []
    private var pushed: UInt64 = 0

    public init() {}
    public var first: (at: Instant, key: Key)? { heap.first.map { ($0.at, $0.key) } }
    public var count: Int { heap.count }

    public mutating func push(_ key: Key, at: Instant) {
        heap.append(Entry(at: at, order: pushed, key: key))
        pushed += 1
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    public mutating func popFirst() {
        guard let last = heap.popLast(), !heap.isEmpty else { return }
        heap[0] = last
        var parent = 0
        while true {
            var least = 2 * parent + 1
            guard least < heap.count else { return }
            if least + 1 < heap.count, heap[least + 1] < heap[least] { least += 1 }
            guard heap[least] < heap[parent] else { return }
            heap.swapAt(least, parent)
            parent = least
        }
    }
    public mutating func removeAll() { heap.removeAll() }
}
