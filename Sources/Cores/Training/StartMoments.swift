import CPU
import Compute
import Primitives
import Wire

/// One kind of moment of a stage as of a round's start: written when a round begins and read when it begins anew, so that on a disk they
/// are in nobody's way. In memory where there is no room, or so little of them that it makes no difference.
final class StartMoments {
    private enum Place {
        case memory(KeptMoments)
        /// fp32, canonical order, a unit where the layout has it.
        case stored(any ByteStore)
    }
    private let place: Place
    private let layout: StageLayout
    /// Of a store: units that were put there; others are zero.
    private var written: Set<Int> = []

    init(_ layout: StageLayout, _ room: (any ByteRoom)?, inMemory: () -> KeptMoments, isEmpty: Bool) {
        self.layout = layout
        if !isEmpty, let store = room?.store(4 * layout.count) {
            place = .stored(store)
        } else {
            place = .memory(inMemory())
        }
    }

    /// A unit's where they lie in memory in fp32; nil elsewhere.
    func plain(unit: Int) -> UnsafeMutableBufferPointer<Float>? {
        if case .memory(let kept) = place { kept.plain(unit: unit) } else { nil }
    }

    func read(unit: Int, into values: UnsafeMutableBufferPointer<Float>) throws(Refusal) {
        switch place {
        case .memory(let kept): kept.read(unit: unit, into: values.baseAddress!)
        case .stored(let store):
            guard written.contains(unit) else { return values.update(repeating: 0) }
            guard store.fill(4 * layout.range(unit: unit).lowerBound, UnsafeMutableRawBufferPointer(values)) else {
                throw Refusal("the disk does not give back the moments of unit \(unit)")
            }
        }
    }

    func write(unit: Int, from values: UnsafeBufferPointer<Float>) throws(Refusal) {
        switch place {
        case .memory(let kept): kept.write(unit: unit, from: values.baseAddress!)
        case .stored(let store):
            guard store.put(UnsafeRawBufferPointer(values), at: 4 * layout.range(unit: unit).lowerBound) else {
                throw Refusal("the disk does not take the moments of unit \(unit)")
            }
            written.insert(unit)
        }
    }
}
