public import Compute
import Exchange
import Kernels
public import Primitives
import Wire

/// Where chunks have owners: the owner's arithmetic on one chunk, and taking in what all owners made.
extension Stage {
    func averageChunk(
        _ unit: Int, _ chunk: Int, _ parts: [ChunkContribution], _ codec: Codec
    ) throws(Refusal) -> ComputeResult {
        guard configuration.units.contains(unit), !parts.isEmpty else {
            throw Refusal("no chunk of unit \(unit) is averaged here")
        }
        let chunkLayout = chunkLayouts[unit - configuration.units.lowerBound]
        guard chunkLayout.chunks.indices.contains(chunk) else { throw Refusal("unit \(unit) has no chunk \(chunk)") }
        let own = pieces(unit: unit)[chunkLayout.chunks[chunk]]
        var messages: [(part: ChunkContribution, node: Int, pieces: [ArraySlice<UInt8>])] = []
        for part in parts.sorted(by: { $0.rank < $1.rank }) {
            do throws(Refusal) {
                for (node, bytes) in try treeNodes(part.bytes[...]) {
                    let cut = try cut(bytes, own, unit: unit, codec: configuration.exchangeCodec)
                    messages.append((part, node, cut))
                }
                try check(nodes: messages.filter { $0.part.rank == part.rank }.map(\.node), all: messages.map(\.node))
            } catch {
                return .chunkRefused(rank: part.rank, "unit \(unit), chunk \(chunk): \(error.reason)")
            }
        }
        let first = own.first!.lowerBound
        let values = FloatBuffer(own.last!.upperBound - first)
        let ranges = own.map { $0.lowerBound - first..<$0.upperBound - first }
        switch configuration.mode {
        case .rounds:
            let inputs = messages.map {
                AverageInput(rank: $0.part.rank, weight: $0.part.microBatches, pieces: $0.pieces[...])
            }
            do throws(Refused) {
                try average(inputs, own, unit: unit, into: values, from: first)
            } catch {
                return .chunkRefused(rank: error.rank, "unit \(unit), chunk \(chunk): \(error.why)")
            }
        case .everyStep:
            let sums = messages.map { message in
                let decoded = FloatBuffer(values.count)
                decode(
                    message.pieces, ranges, configuration.exchangeCodec, unit: unit, from: first,
                    into: decoded.allValues)
                return (message.node, decoded)
            }
            let sum = tree.fold(sums) { left, right in
                kernels_add(threads, left.count, right.base, left.base)
                return left
            }
            values.copy(from: sum!)
            kernels_scale(threads, values.count, 1 / Float(parts.reduce(0) { $0 + $1.microBatches }), values.base)
        }
        var bytes: [UInt8] = []
        for (piece, range) in zip(own, ranges) {
            let message = codec.encode(
                UnsafeBufferPointer(values.values(range)), shape: shape(of: piece, unit: unit))
            withUnsafeBytes(of: UInt32(message.count).littleEndian) { bytes.append(contentsOf: $0) }
            bytes += message
        }
        return .chunk(bytes)
    }

    func applyAggregates(_ aggregates: [UnitAggregate], _ codec: Codec) throws(Refusal) -> ComputeResult {
        guard aggregates.map(\.unit) == Array(configuration.units) else {
            throw Refusal("aggregates of units \(aggregates.map(\.unit)), not of \(configuration.units)")
        }
        var all: [(unit: Int, pieces: [ArraySlice<UInt8>], ranges: [Range<Int>])] = []
        for aggregate in aggregates {
            let ranges = pieces(unit: aggregate.unit)
            let bytes = aggregate.chunks.flatMap { $0 }
            all.append((aggregate.unit, try cut(bytes[...], ranges[...], unit: aggregate.unit, codec: codec), ranges))
        }
        guard let outer else {
            return try takeGradient { unit, target throws(Refusal) in
                let part = all[unit - configuration.units.lowerBound]
                let first = layout.range(unit: unit).lowerBound
                let ranges = part.ranges.map { $0.lowerBound - first..<$0.upperBound - first }
                decode(part.pieces, ranges, codec, unit: unit, from: first, into: target)
            }
        }
        let averages = device.idle.take()
        defer { device.idle.giveBack(averages) }
        for part in all {
            decode(part.pieces, part.ranges, codec, unit: part.unit, from: 0, into: averages.allValues)
        }
        return try outerStep(averages, outer)
    }

    private func check(nodes own: [Int], all: [Int]) throws(Refusal) {
        switch configuration.mode {
        case .rounds: guard own == [0] else { throw Refusal("one part of node 0 is due, not \(own)") }
        case .everyStep:
            guard !own.isEmpty, own.allSatisfy({ tree.contains($0) }) else {
                throw Refusal("nodes \(own) are not in the tree")
            }
            if let node = tree.overlap(all) { throw Refusal("node \(node) is counted twice") }
        }
    }

    /// `start`: where `target` begins in the stage's layout.
    private func decode(
        _ messages: [ArraySlice<UInt8>], _ ranges: [Range<Int>], _ codec: Codec, unit: Int, from start: Int,
        into target: UnsafeMutableBufferPointer<Float>
    ) {
        for (bytes, range) in zip(messages, ranges) {
            let piece = range.lowerBound + start..<range.upperBound + start
            do {
                try codec.decode(
                    bytes, shape: shape(of: piece, unit: unit),
                    into: UnsafeMutableBufferPointer(rebasing: target[range]))
            } catch { preconditionFailure("a validated message does not decode: \(error)") }
        }
    }
}

/// One contributor's parts of a chunk of a unit, ready to travel (``ChunkContribution``): of each tree node's bytes those
/// of each chunk. Nil where the bytes do not fit the layout, or cannot be read.
public func chunked(_ parts: [UnitContribution], layout: ChunkLayout) -> [[UInt8]]? {
    var out: [[UInt8]] = []
    return eachChunk(of: parts, layout: layout) { out.append($0) } ? out : nil
}
/// The same, one chunk after the other.
/// - Returns: whether all bytes could be read, and fit the layout.
public func eachChunk(of parts: [UnitContribution], layout: ChunkLayout, _ body: ([UInt8]) -> Void) -> Bool {
    var readers = parts.map { PieceReader($0.bytes) }
    for chunk in layout.chunks {
        var out: [UInt8] = []
        for (index, part) in parts.enumerated() {
            var bytes: [UInt8] = []
            for _ in chunk {
                guard let piece = readers[index].next() else { return false }
                withUnsafeBytes(of: UInt32(piece.count).littleEndian) { bytes.append(contentsOf: $0) }
                bytes += piece
            }
            withUnsafeBytes(of: UInt32(part.node).littleEndian) { out.append(contentsOf: $0) }
            withUnsafeBytes(of: UInt32(bytes.count).littleEndian) { out.append(contentsOf: $0) }
            out += bytes
        }
        body(out)
    }
    return readers.allSatisfy(\.isAtEnd)
}

/// The other way round: one contributor's chunks of a unit, as they travelled, as the parts they were cut from. Nil where
/// heads and bytes do not fit each other, or chunks speak of different nodes.
public func unchunked(_ chunks: [[UInt8]], unit: Int, layout: ChunkLayout) -> [UnitContribution]? {
    guard chunks.count == layout.chunks.count else { return nil }
    var out: [(node: Int, bytes: [UInt8])] = []
    for (index, chunk) in chunks.enumerated() {
        guard let nodes = try? treeNodes(chunk[...]), index == 0 || nodes.count == out.count else { return nil }
        for (position, part) in nodes.enumerated() {
            if index == 0 { out.append((part.node, [])) }
            guard out[position].node == part.node else { return nil }
            out[position].bytes += part.bytes
        }
    }
    return out.isEmpty ? nil : out.map { UnitContribution(unit: unit, node: $0.node, bytes: $0.bytes) }
}

/// The parts by tree node, lengths checked.
private func treeNodes(_ bytes: ArraySlice<UInt8>) throws(Refusal) -> [(node: Int, bytes: ArraySlice<UInt8>)] {
    var rest = bytes
    var out: [(node: Int, bytes: ArraySlice<UInt8>)] = []
    func number(_ bytes: ArraySlice<UInt8>) -> Int { bytes.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) } }
    while !rest.isEmpty {
        guard rest.count >= 8, number(rest.dropFirst(4)) <= rest.count - 8, out.count < 64 else {
            throw Refusal("a part's head and its bytes do not fit")
        }
        let length = number(rest.dropFirst(4))
        out.append((number(rest), rest.dropFirst(8).prefix(length)))
        rest = rest.dropFirst(8 + length)
    }
    return out
}
