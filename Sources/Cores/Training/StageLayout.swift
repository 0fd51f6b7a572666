import Primitives

/// Where each tensor of a stage lies in its flat parameter buffer: units in order, tensors of a unit in canonical
/// order, nothing between them. Gradients, moments and feedback use the same layout.
struct StageLayout: Sendable {
    struct Entry: Sendable {
        let unit: Int
        let tensor: ModelShape.Tensor
        let range: Range<Int>
        /// Norm gains are vectors: not decayed.
        var isMatrix: Bool { tensor.shape.count > 1 }
    }
    let units: Range<Int>
    /// Canonical order.
    let entries: [Entry]
    let count: Int
    private let unitRanges: [Range<Int>]
    private let unitEntries: [Range<Int>]

    init(shape: ModelShape, units: Range<Int>) {
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

    func range(unit: Int) -> Range<Int> { unitRanges[unit - units.lowerBound] }
    func entries(unit: Int) -> ArraySlice<Entry> { entries[unitEntries[unit - units.lowerBound]] }
}
