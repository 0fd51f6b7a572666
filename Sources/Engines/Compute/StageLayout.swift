package import Primitives

/// Where each tensor of a stage lies in its flat parameter buffer: units in order, tensors of a unit in canonical
/// order, nothing between them. Gradients, moments and feedback use the same layout.
package struct StageLayout: Sendable {
    package struct Entry: Sendable {
        package let unit: Int
        package let tensor: ModelShape.Tensor
        package let range: Range<Int>
        /// Norm gains are vectors: not decayed.
        package var isMatrix: Bool { tensor.shape.count > 1 }
    }
    package let units: Range<Int>
    /// Canonical order.
    package let entries: [Entry]
    package let count: Int
    private let unitRanges: [Range<Int>]
    private let unitEntries: [Range<Int>]

    package init(shape: ModelShape, units: Range<Int>) {
        var entries: [Entry] = []
        var unitRanges: [Range<Int>] = []
        var unitEntries: [Range<Int>] = []
        var offset = 0
        for unit in units {
            let start = offset
            let firstEntry = entries.count
            for tensor in shape.tensors(unit: unit) {
                entries.append(Entry(unit: unit, tensor: tensor, range: offset..<offset + tensor.count))
                offset += tensor.count
            }
            unitRanges.append(start..<offset)
            unitEntries.append(firstEntry..<entries.count)
        }
        self.units = units
        self.entries = entries
        self.unitRanges = unitRanges
        self.unitEntries = unitEntries
        count = offset
    }

    package func range(unit: Int) -> Range<Int> { unitRanges[unit - units.lowerBound] }
    package func entries(unit: Int) -> ArraySlice<Entry> { entries[unitEntries[unit - units.lowerBound]] }
}
