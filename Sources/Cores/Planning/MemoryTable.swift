package import Primitives

/// ``MemoryLaw`` for one model and size of micro-batch, by what it depends on: how many blocks, whether the embedding and the head are
/// among the units. A search asks a million times.
package struct MemoryTable: Sendable {
    private let layers: Int
    private let unitCount: Int
    /// By ``index(_:rounds:recompute:)``: bytes beside what micro-batches keep, and what each of those keeps.
    private let once: [Int]
    private let each: [Int]

    package init(_ law: MemoryLaw, _ model: ModelShape) {
        layers = model.layers
        unitCount = model.unitCount
        var (once, each): ([Int], [Int]) = ([], [])
        for kind in 0..<4 {
            let (rounds, recompute) = (kind & 1 != 0, kind & 2 != 0)
            for ends in 0..<4 {
                let (embedding, head) = (ends & 1 != 0, ends & 2 != 0)
                for blocks in 0...model.layers {
                    // A stage of both ends holds all blocks, one of neither at least one.
                    let start = embedding ? 0 : head ? model.layers + 1 - blocks : 1
                    let end = head ? model.unitCount : blocks + 1
                    guard start < end, !(embedding && head) || blocks == model.layers else {
                        once.append(0)
                        each.append(0)
                        continue
                    }
                    func bytes(_ kept: Int) -> Int {
                        law.bytes(units: start..<end, rounds: rounds, inFlight: kept, recompute: recompute)
                    }
                    let one = bytes(1)
                    each.append(bytes(2) - one)
                    once.append(one - each[each.count - 1])
                }
            }
        }
        (self.once, self.each) = (once, each)
    }

    package func bytes(_ units: Range<Int>, rounds: Bool, kept: Int, recompute: Bool) -> Int {
        let place = index(units, rounds: rounds, recompute: recompute)
        return once[place] + max(1, kept) * each[place]
    }
    private func index(_ units: Range<Int>, rounds: Bool, recompute: Bool) -> Int {
        let blocks = max(0, min(units.upperBound, layers + 1) - max(units.lowerBound, 1))
        let ends = (units.lowerBound == 0 ? 1 : 0) + (units.upperBound == unitCount ? 2 : 0)
        let kind = (rounds ? 1 : 0) + (recompute ? 2 : 0)
        return (kind * 4 + ends) * (layers + 1) + blocks
    }
}
