import Primitives
import Testing

@Suite struct `A heap of timers` {
    /// Random settings, moves and stops, against a dictionary that is searched whole.
    @Test(arguments: 1...8) func `agrees with a search of all timers`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var heap = TimerHeap()
        var model: [Int: Instant] = [:]
        for _ in 0..<2000 {
            let timer = random.below(40)
            let moment = random.below(4) == 0 ? nil : Instant(nanoseconds: Int64(random.below(50)))
            heap.set(timer, at: moment)
            model[timer] = moment
            let now = Instant(nanoseconds: Int64(random.below(60)))
            #expect(heap.count == model.count)
            #expect(heap.next == model.values.min())
            #expect(heap[timer] == moment)
            #expect(heap.due(at: now).sorted() == model.filter { $0.value <= now }.keys.sorted())
            guard random.below(5) == 0 else { continue }
            let first = model.min { ($0.value, $0.key) < ($1.value, $1.key) }
            #expect(heap.first?.timer == first?.key)
            let due = first.flatMap { $0.value <= now ? $0.key : nil }
            #expect(heap.pop(due: now) == due)
            if let due { model[due] = nil }
        }
    }

    @Test func `gives equal moments by number`() {
        var heap = TimerHeap()
        for timer in [5, 1, 4, 0, 3, 2] { heap.set(timer, at: .zero) }
        #expect((0..<6).compactMap { _ in heap.pop(due: .zero) } == [0, 1, 2, 3, 4, 5])
        #expect(heap.pop(due: .zero) == nil && heap.first == nil)
    }
}

@Suite struct `An indirect value` {
    @Test func `is copied when one of two holders changes it`() {
        var first = Indirect([1, 2])
        let second = first
        first.value.append(3)
        #expect(first.value == [1, 2, 3] && second.value == [1, 2])
    }
}
