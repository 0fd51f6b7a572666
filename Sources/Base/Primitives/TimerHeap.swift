/// Which of many timers is due first: a heap of moments that knows where each timer stands, so that setting, moving and
/// stopping one costs the logarithm of their number, and asking for the next costs nothing.
///
/// Timers are small numbers of the owner's choice (places in its own array). Equal moments go by number, so that the order
/// depends on nothing but the input. Four children a node: shallower than two, and their keys share a cache line.
public struct TimerHeap: Sendable {
    @usableFromInline struct Entry: Sendable {
        @usableFromInline var at: Instant
        @usableFromInline var timer: Int
        @inlinable init(at: Instant, timer: Int) {
            self.at = at
            self.timer = timer
        }
        @inlinable func precedes(_ other: Entry) -> Bool {
            at < other.at || (at == other.at && timer < other.timer)
        }
    }
    @usableFromInline var heap: [Entry] = []
    /// By timer: its place in the heap, or -1.
    @usableFromInline var places: [Int32] = []

    @inlinable public init() {}
    /// Timers that are running.
    @inlinable public var count: Int { heap.count }
    /// The moment of the first.
    @inlinable public var next: Instant? { heap.isEmpty ? nil : heap[0].at }
    /// The first: when, and which.
    @inlinable public var first: (at: Instant, timer: Int)? { heap.isEmpty ? nil : (heap[0].at, heap[0].timer) }

    /// When a timer is due; nil while it is stopped.
    @inlinable public subscript(timer: Int) -> Instant? {
        timer < places.count && places[timer] >= 0 ? heap[Int(places[timer])].at : nil
    }

    /// Starts or moves a timer (number ≥ 0), or stops it with nil.
    @inlinable public mutating func set(_ timer: Int, at moment: Instant?) {
        while places.count <= timer { places.append(-1) }
        let place = Int(places[timer])
        guard let moment else {
            if place >= 0 { remove(at: place) }
            return
        }
        if place < 0 {
            heap.append(Entry(at: moment, timer: timer))
            rise(heap.count - 1)
        } else if moment != heap[place].at {
            let sooner = moment < heap[place].at
            heap[place].at = moment
            if sooner { rise(place) } else { sink(place) }
        }
    }

    /// Stops the first timer if it is due, and names it.
    @inlinable public mutating func pop(due now: Instant) -> Int? {
        guard let (at, timer) = first, at <= now else { return nil }
        remove(at: 0)
        return timer
    }

    /// Every timer that is due, running on; in no particular order.
    @inlinable public func due(at now: Instant) -> [Int] {
        guard let next, next <= now else { return [] }
        var found: [Int] = []
        var open = [0]
        while let place = open.popLast() {
            guard heap[place].at <= now else { continue }
            found.append(heap[place].timer)
            let children = 4 * place + 1
            if children < heap.count { open += children..<min(children + 4, heap.count) }
        }
        return found
    }

    @usableFromInline mutating func remove(at place: Int) {
        places[heap[place].timer] = -1
        let last = heap.removeLast()
        guard place < heap.count else { return }
        let wasSooner = last.precedes(heap[place])
        heap[place] = last
        if wasSooner { rise(place) } else { sink(place) }
    }

    @usableFromInline mutating func rise(_ start: Int) {
        let entry = heap[start]
        var place = start
        while place > 0 {
            let parent = (place - 1) / 4
            guard entry.precedes(heap[parent]) else { break }
            put(heap[parent], at: place)
            place = parent
        }
        put(entry, at: place)
    }

    @usableFromInline mutating func sink(_ start: Int) {
        let entry = heap[start]
        var place = start
        while true {
            let children = 4 * place + 1
            guard children < heap.count else { break }
            var least = children
            for child in children + 1..<max(children + 1, min(children + 4, heap.count))
            where heap[child].precedes(heap[least]) {
                least = child
            }
            guard heap[least].precedes(entry) else { break }
            put(heap[least], at: place)
            place = least
        }
        put(entry, at: place)
    }

    @usableFromInline mutating func put(_ entry: Entry, at place: Int) {
        heap[place] = entry
        places[entry.timer] = Int32(place)
    }
}
