import CPU
import Compute
import Exchange
import Kernels
import Primitives
import Wire

/// What a stage keeps that no group agrees on: error feedback, where low-rank searches begin, and with a delayed exchange the weights that
/// differ from the outer ones. It goes to this member's own disk and back, so that everything may be switched off.
extension Stage {
    func residue(of unit: Int, _ writer: inout StoredBytesWriter) throws(Refusal) -> UnitResidue {
        let range = layout.range(unit: unit)
        var out = UnitResidue()
        for node in Set(feedback.keys).union(warmStarts.keys).sorted() {
            var bytes = StoredBytes()
            if let kept = feedback[node] {
                let values = FloatBuffer(range.count)
                kept.read(range, into: values.base)
                bytes = writer.put(values.rawBytes(0..<range.count))
            }
            let factors = (warmStarts[node].map { Array($0[slots(of: unit)]) } ?? []).map { start in
                start.right.withUnsafeBytes { [UInt8]($0) }
            }
            out.nodes.append(UnitResidue.Node(node: node, feedback: bytes, factors: factors))
        }
        if outer != nil, !isAtOuterWeights {
            let values = FloatBuffer(range.count)
            try device.read(.parameters, unit: unit, into: values.allValues)
            out.weights = writer.put(values.rawBytes(0..<range.count))
        }
        return out
    }

    /// Places of a unit's tensors among those of the stage.
    private func slots(of unit: Int) -> Range<Int> {
        let first = (configuration.units.lowerBound..<unit).reduce(0) { $0 + layout.entries(unit: $1).count }
        return first..<first + layout.entries(unit: unit).count
    }

    /// Before anything changes.
    func check(_ residue: UnitResidue, unit: Int) throws(Refusal) {
        let bytes = 4 * layout.range(unit: unit).count
        let tensors = layout.entries(unit: unit).count
        for (name, found) in residue.nodes.map({ ("error feedback", $0.feedback) }) + [("weights", residue.weights)]
        where !found.isEmpty {
            guard found.count == bytes else {
                throw Refusal("unit \(unit), \(name): \(bytes) bytes expected, \(found.count) found")
            }
            try checkFinite(found, "unit \(unit), \(name)")
        }
        for node in residue.nodes {
            guard configuration.mode == .rounds ? node.node == 0 : tree.contains(node.node) else {
                throw Refusal("unit \(unit): error feedback of node \(node.node), which is not in the tree")
            }
            guard node.factors.isEmpty || node.factors.count == tensors,
                node.factors.allSatisfy({ $0.count % 4 == 0 && $0.count <= bytes && isFinite($0) })
            else { throw Refusal("unit \(unit): factors that do not fit its tensors") }
        }
        guard residue.weights.isEmpty || configuration.outer.delay > 0 && outer != nil else {
            throw Refusal("unit \(unit): weights beside the outer ones in a job without a delay")
        }
    }
    private func isFinite(_ bytes: [UInt8]) -> Bool {
        floats(fromLittleEndian: bytes).withUnsafeBufferPointer {
            $0.isEmpty || kernels_all_finite($0.count, $0.baseAddress!)
        }
    }

    /// Of a unit that has just come in: its residue, or none.
    func restore(_ residue: UnitResidue, unit: Int) throws(Refusal) {
        let range = layout.range(unit: unit)
        let slots = slots(of: unit)
        for kept in feedback.values { kept.zero(range) }
        for node in warmStarts.keys { for slot in slots { warmStarts[node]![slot] = WarmStart() } }
        let values = FloatBuffer(range.count)
        for part in residue.nodes {
            if !part.feedback.isEmpty {
                if feedback[part.node] == nil { feedback[part.node] = newFeedback() }
                try load(part.feedback, values.allValues)
                feedback[part.node]!.write(range, from: values.base)
            }
            guard !part.factors.isEmpty else { continue }
            if warmStarts[part.node] == nil { warmStarts[part.node] = layout.entries.map { _ in WarmStart() } }
            for (slot, bytes) in zip(slots, part.factors) {
                warmStarts[part.node]![slot] = WarmStart(right: floats(fromLittleEndian: bytes))
            }
        }
        guard !residue.weights.isEmpty else { return }
        try load(residue.weights, values.allValues)
        try device.write(.parameters, unit: unit, from: UnsafeBufferPointer(values.allValues))
        isAtOuterWeights = false
    }
}
