import Digests
import Primitives

/// When to look at which host: a binary heap by (time, host). Stale entries are harmless: the host is asked again.
struct WakeQueue {
    struct Entry {
        var at: Instant
        var host: Int
    }
    private var heap: [Entry] = []
    var next: Entry? { heap.first }

    private func before(_ a: Entry, _ b: Entry) -> Bool { (a.at, a.host) < (b.at, b.host) }

    mutating func push(at: Instant, host: Int) {
        heap.append(Entry(at: at, host: host))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard before(heap[child], heap[parent]) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }
    mutating func pop() -> Entry? {
        guard let top = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2]
                where child < heap.count && before(heap[child], heap[least]) {
                    least = child
                }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        return top
    }
}

/// A running hash that can be read without ending it: hashes of segments are chained.
struct SHA256Box {
    struct Stream {
        private var pending: [UInt8] = []
        private(set) var chained: [UInt8] = [UInt8](repeating: 0, count: 32)
        mutating func update(_ bytes: [UInt8]) {
            pending += bytes
            if pending.count >= 1 << 20 { fold() }
        }
        mutating func fold() {
            chained = sha256(chained + pending).bytes
            pending.removeAll(keepingCapacity: true)
        }
    }
    var stream = Stream()
    var digest: Digest256 {
        var copy = stream
        copy.fold()
        return Digest256(copy.chained)!
    }
}
