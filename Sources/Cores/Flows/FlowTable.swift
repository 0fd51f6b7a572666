internal import Primitives

/// The flows of a host, each at a place that it keeps for life.
///
/// A flow is large, and a handful of its fields are asked for with every packet. So each lies behind a reference, and is looked at and changed where it
/// lies: read out of an array of values, one field would cost a copy of the whole, with a count for each of its parts.
struct FlowTable: Sendable {
    private var slots: [Indirect<Flow>?] = []
    /// Flows, without the places that are free.
    private(set) var count = 0

    /// All places, free ones too, in the order of their numbers.
    var places: Range<Int> { slots.indices }
    func has(_ place: Int) -> Bool { slots[place] != nil }

    /// The flow at a place that ``has(_:)`` one.
    subscript(place: Int) -> Flow {
        unsafeAddress { slots[place]!.address }
        unsafeMutableAddress { slots[place]!.mutableAddress() }
    }
    /// Puts a flow at the first place that is free.
    mutating func add(_ flow: Flow) -> Int {
        count += 1
        let made = Indirect(flow)
        guard let place = slots.firstIndex(where: { $0 == nil }) else {
            slots.append(made)
            return slots.count - 1
        }
        slots[place] = made
        return place
    }
    mutating func remove(_ place: Int) {
        precondition(has(place), "no flow at place \(place)")
        slots[place] = nil
        count -= 1
    }
    /// The first place whose flow is as wanted.
    func first(where isWanted: (Flow) -> Bool) -> Int? {
        for (place, flow) in slots.enumerated() {
            if let flow, isWanted(flow.value) { return place }
        }
        return nil
    }
    func count(where isWanted: (Flow) -> Bool) -> Int {
        var count = 0
        for case .some(let flow) in slots where isWanted(flow.value) { count += 1 }
        return count
    }
}
