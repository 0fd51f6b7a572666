import Compute
import Primitives

/// One kind of moment of a stage: of all tensors, or of those that the optimizer has a use for; the others read as zeros.
package final class KeptMoments {
    private let layout: StageLayout
    /// Where each tensor's begin; nil for none.
    private let places: [Int?]
    let kept: StoredBuffer

    package static func first(_ layout: StageLayout, _ optimizer: InnerOptimizer) -> KeptMoments {
        KeptMoments(layout, optimizer) { _ in optimizer.recipe.adapters == nil }
    }
    package static func second(_ layout: StageLayout, _ optimizer: InnerOptimizer) -> KeptMoments {
        KeptMoments(layout, optimizer) { optimizer.recipe.adapters == nil && !optimizer.orthogonalises($0) }
    }

    private init(_ layout: StageLayout, _ optimizer: InnerOptimizer, has: (StageLayout.Entry) -> Bool) {
        self.layout = layout
        var places: [Int?] = []
        var count = 0
        for entry in layout.entries {
            places.append(has(entry) ? count : nil)
            if has(entry) { count += entry.range.count }
        }
        self.places = places
        kept = StoredBuffer(count, format: optimizer.recipe.kept.state)
    }

    /// Of the tensor with this number; it must have one.
    func place(_ number: Int) -> Int { places[number]! }

    /// A unit's where they lie in fp32, nothing left out; nil elsewhere.
    package func plain(unit: Int) -> UnsafeMutableBufferPointer<Float>? {
        let numbers = layout.entries(unit: unit).indices
        guard let plain = kept.plain, numbers.allSatisfy({ places[$0] != nil }) else { return nil }
        let first = places[numbers.lowerBound]!
        return plain.values(first..<first + layout.range(unit: unit).count)
    }

    /// A unit's, canonical order.
    package func read(unit: Int, into values: UnsafeMutablePointer<Float>) {
        each(unit) { place, count, at in
            if let place {
                kept.read(place..<place + count, into: values + at)
            } else {
                (values + at).update(repeating: 0, count: count)
            }
        }
    }
    package func write(unit: Int, from values: UnsafePointer<Float>) {
        each(unit) { place, count, at in
            if let place { kept.write(place..<place + count, from: values + at) }
        }
    }

    private func each(_ unit: Int, _ body: (_ place: Int?, _ count: Int, _ at: Int) -> Void) {
        let entries = layout.entries(unit: unit)
        let first = layout.range(unit: unit).lowerBound
        for index in entries.indices {
            body(places[index], entries[index].range.count, entries[index].range.lowerBound - first)
        }
    }
}

extension InnerOptimizer {
    /// Whether a tensor moves by Muon.
    func orthogonalises(_ entry: StageLayout.Entry) -> Bool {
        recipe.kind == .muon && entry.isMatrix && entry.tensor.name.hasPrefix("model.layers.")
    }
}
