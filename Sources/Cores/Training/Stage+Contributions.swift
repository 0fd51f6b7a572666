import CPU
import Compute
import Exchange
import Kernels
import Primitives
import Wire

/// One sender's part of one unit, known to decode. It is opened when its unit's turn comes: of all that was sent one unit is in memory at a time,
/// where the rest lies elsewhere.
struct UnitMessage {
    let rank: Int
    let microBatches: Int
    let unit: Int
    let node: Int
    let bytes: StoredBytes
}

/// What is exchanged: encoding this stage's part of a round, and taking in everybody's.
extension Stage {
    func encodeContribution() throws(Refusal) -> ComputeResult {
        switch configuration.mode {
        case .everyStep:
            guard progress.lastAdded != nil else { throw Refusal("no micro-batch has been added") }
            var room: FloatBuffer?
            defer { if let room { device.idle.giveBack(room) } }
            var parts: [UnitContribution] = []
            for node in try device.completeShares() {
                parts += try encode(node: node) { unit, count throws(Refusal) in
                    let place = device.place(.share(node: node), unit: unit)
                    if place == nil {
                        room = room ?? device.idle.take()
                        try device.read(.share(node: node), unit: unit, into: room!.values(0..<count))
                    }
                    let values = UnsafePointer(place ?? room!.base)
                    try demandFinite(values, count)
                    return values
                }
            }
            lastContribution = parts.sorted { ($0.unit, $0.node) < ($1.unit, $1.node) }
            try dropWork()
        case .rounds:
            try keepSentWeights()
            let delta = device.idle.take()
            defer { device.idle.giveBack(delta) }
            try read(.parameters, into: delta)
            subtract(delta, from: outer!, into: delta)
            try demandFinite(delta.base, delta.count)
            lastContribution = try encode(node: 0) { unit, _ throws(Refusal) in
                UnsafePointer(delta.base + layout.range(unit: unit).lowerBound)
            }
        }
        return .contribution(lastContribution)
    }

    /// What diverges is said by whoever computed it, before others have to refuse it.
    private func demandFinite(_ values: UnsafePointer<Float>, _ count: Int) throws(Refusal) {
        guard kernels_all_finite(count, values) else {
            throw Refusal("its own contribution is \(ComputeResult.notFinite)")
        }
    }

    /// Left out of the seal: what was sent is added back, so that it is sent with the next round's.
    func returnContribution() throws(Refusal) -> ComputeResult {
        try addBack(everyCodec: configuration.mode == .rounds)
        lastContribution = []
        return .done
    }

    /// The round begins anew: its change will be sent again, so nothing of it may stay in the error feedback. What was
    /// there before is there again, to rounding (a sparse codec's has decayed once).
    func withdrawContribution() throws(Refusal) -> ComputeResult {
        if configuration.mode == .rounds, let outer, let kept = feedback[0] {
            try addBack(everyCodec: false)
            let delta = device.idle.take()
            defer { device.idle.giveBack(delta) }
            if sentWeights == nil { try read(.parameters, into: delta) }
            subtract(sentWeights ?? delta, from: outer, into: delta)
            try change(kept, 0..<delta.count) { values, range in
                kernels_subtract(threads, range.count, values, delta.base + range.lowerBound, values)
            }
        }
        lastContribution = []
        return .done
    }

    /// What steps have changed since the round's start: the outer weights as the device keeps them, less its own.
    private func subtract(_ weights: FloatBuffer, from outer: OuterState, into delta: FloatBuffer) {
        let format = configuration.optimizer.recipe.kept.weights
        guard format != .fp32 else {
            return kernels_subtract(threads, delta.count, outer.parameters.base, weights.base, delta.base)
        }
        let stretch = min(delta.count, 1 << 16)
        let kept = StoredBuffer(stretch, format: format)
        let start = FloatBuffer(stretch)
        for first in stride(from: 0, to: delta.count, by: stretch) {
            let count = min(stretch, delta.count - first)
            kept.write(0..<count, from: outer.parameters.base + first)
            kept.read(0..<count, into: start.base)
            kernels_subtract(threads, count, start.base, weights.base + first, delta.base + first)
        }
    }

    private func addBack(everyCodec: Bool) throws(Refusal) {
        guard !lastContribution.isEmpty else { throw Refusal("there is no contribution to return") }
        for contribution in lastContribution {
            if everyCodec, feedback[contribution.node] == nil {
                feedback[contribution.node] = newFeedback()
            }
            guard let kept = feedback[contribution.node] else { continue }
            let range = layout.range(unit: contribution.unit)
            let decoded = FloatBuffer(range.count)
            try decode(contribution.bytes, unit: contribution.unit, into: decoded.allValues)
            try change(kept, range) { values, part in
                kernels_add(threads, part.count, decoded.base + part.lowerBound - range.lowerBound, values)
            }
        }
    }

    func newFeedback() -> StoredBuffer {
        StoredBuffer(layout.count, format: configuration.optimizer.recipe.kept.state)
    }

    /// A range of what is kept, in stretches where it has to be opened.
    private func change(
        _ kept: StoredBuffer, _ range: Range<Int>,
        _ body: (_ values: UnsafeMutablePointer<Float>, _ part: Range<Int>) throws(Refusal) -> Void
    ) throws(Refusal) {
        if let plain = kept.plain { return try body(plain.base + range.lowerBound, range) }
        let room = FloatBuffer(min(range.count, 1 << 16))
        for first in stride(from: range.lowerBound, to: range.upperBound, by: room.count) {
            let part = first..<min(range.upperBound, first + room.count)
            kept.read(part, into: room.base)
            try body(room.base, part)
            kept.write(part, from: room.base)
        }
    }

    func outerStep(_ contributions: [RankedContribution]) throws(Refusal) -> ComputeResult {
        guard let outer else { throw Refusal("gradients are exchanged every step in this job") }
        let messages = try parse(contributions)
        let delta = device.idle.takeZeroed()
        defer { device.idle.giveBack(delta) }
        for unit in configuration.units {
            let parts = messages[unit - configuration.units.lowerBound]
            var readers = parts.map { PieceReader($0.bytes) }
            let pieces = pieces(unit: unit)
            for chunk in chunkLayouts[unit - configuration.units.lowerBound].chunks {
                var cut: [AverageInput] = []
                for (index, part) in parts.enumerated() {
                    let pieces = chunk.compactMap { _ in readers[index].next() }
                    guard pieces.count == chunk.count else { throw Refusal(Self.unread) }
                    cut.append(AverageInput(rank: part.rank, weight: part.microBatches, pieces: pieces[...]))
                }
                do throws(Refused) {
                    try average(cut, pieces[chunk], unit: unit, into: delta, from: 0)
                } catch {
                    throw Refusal("rank \(error.rank), unit \(unit): \(error.why)")
                }
            }
        }
        return try outerStep(delta, outer)
    }

    func outerStep(_ delta: FloatBuffer, _ outer: OuterState) throws(Refusal) -> ComputeResult {
        guard kernels_all_finite(delta.count, delta.base) else {
            throw Refusal("the contributions' average is \(ComputeResult.notFinite)")
        }
        try step(outer, by: delta)
        try startRound()
        defer { squares = GradientSquares() }
        return .digests(try digests, squares: squares.isPlausible ? squares : nil)
    }

    /// Another pipeline's part: every unit of this stage, decoding and finite.
    func checkContribution(_ contribution: RankedContribution) throws(Refusal) -> ComputeResult {
        _ = try parse([contribution])
        return .done
    }

    // MARK: bytes

    /// In values of the stage's layout.
    func pieces(unit: Int) -> [Range<Int>] {
        let first = layout.range(unit: unit).lowerBound
        return chunkLayouts[unit - configuration.units.lowerBound].pieces.map {
            first + $0.lowerBound..<first + $0.upperBound
        }
    }

    /// A whole tensor has its own shape, a part of one is a row of values.
    func shape(of piece: Range<Int>, unit: Int) -> [Int] {
        layout.entries(unit: unit).first { $0.range == piece }?.tensor.shape ?? [piece.count]
    }

    /// Encodes all units of a sum, piece by piece: a u32 length and the codec's bytes each.
    ///
    /// - Parameter values: where a unit's values are; valid until the next is asked for.
    private func encode(
        node: Int, _ values: (_ unit: Int, _ count: Int) throws(Refusal) -> UnsafePointer<Float>
    ) throws(Refusal) -> [UnitContribution] {
        let codec = configuration.exchangeCodec
        if codec.usesErrorFeedback, feedback[node] == nil { feedback[node] = newFeedback() }
        // Codecs without feedback keep one only where a contribution was left out.
        let kept = feedback[node]
        if case .lowrank = codec, warmStarts[node] == nil {
            warmStarts[node] = layout.entries.map { _ in WarmStart() }
        }
        var warm = (warmStarts[node] ?? [])[...]
        let expected = layout.entries.reduce(0) { $0 + codec.expectedBytes(for: $1.range.count) }
        let store = room.store.flatMap { expected < $0.leastContribution ? nil : $0.store(expected) }
        let isKept = store != nil
        var writer = StoredBytesWriter(store)
        var out: [UnitContribution] = []
        for unit in configuration.units {
            let range = layout.range(unit: unit)
            let own = try values(unit, range.count)
            var parts: [StoredBytes] = []
            var bytes: [UInt8] = []
            bytes.reserveCapacity(isKept ? 1 << 20 : 4 * range.count)
            for piece in pieces(unit: unit) {
                let values = UnsafeBufferPointer(start: own + piece.lowerBound - range.lowerBound, count: piece.count)
                let room = kept?.plain == nil && kept != nil ? FloatBuffer(piece.count) : nil
                if let room { kept!.read(piece, into: room.base) }
                let message = codec.encode(
                    values, shape: shape(of: piece, unit: unit),
                    feedback: room?.allValues ?? kept?.plain?.values(piece),
                    decay: configuration.outer.feedbackDecay, warmStart: warm.popFirst())
                if let room { kept!.write(piece, from: room.base) }
                withUnsafeBytes(of: UInt32(message.count).littleEndian) { bytes.append(contentsOf: $0) }
                bytes.append(contentsOf: message)
                if isKept, bytes.count >= 1 << 19 {
                    parts.append(bytes.withUnsafeBytes { writer.put($0) })
                    bytes.removeAll(keepingCapacity: true)
                }
            }
            parts.append(isKept ? bytes.withUnsafeBytes { writer.put($0) } : StoredBytes(bytes))
            out.append(UnitContribution(unit: unit, node: node, bytes: StoredBytes(joining: parts)))
        }
        return out
    }

    private static let unread = "the disk does not give a contribution back"

    /// A part that is known to decode.
    func decode(_ message: StoredBytes, unit: Int, into target: UnsafeMutableBufferPointer<Float>) throws(Refusal) {
        var reader = PieceReader(message)
        var offset = 0
        for piece in pieces(unit: unit) {
            guard let bytes = reader.next() else { throw Refusal(Self.unread) }
            do {
                try configuration.exchangeCodec.decode(
                    bytes, shape: shape(of: piece, unit: unit),
                    into: UnsafeMutableBufferPointer(rebasing: target[offset..<offset + piece.count]))
            } catch { preconditionFailure("a validated message does not decode: \(error)") }
            offset += piece.count
        }
    }

    /// Checks everything that others sent for this stage's units; other units are passed over. By unit, senders in rank
    /// order.
    func parse(_ contributions: [RankedContribution]) throws(Refusal) -> [[UnitMessage]] {
        guard !contributions.isEmpty else { throw Refusal("no contribution to take in") }
        var messages = [[UnitMessage]](repeating: [], count: configuration.units.count)
        let ranked = contributions.sorted { $0.rank < $1.rank }
        for (index, contribution) in ranked.enumerated() {
            guard index == 0 || ranked[index - 1].rank < contribution.rank else {
                throw Refusal("two contributions of rank \(contribution.rank)")
            }
            guard (1...1_000_000).contains(contribution.microBatches) else {
                throw Refusal("rank \(contribution.rank) counts \(contribution.microBatches) micro-batches")
            }
            for part in contribution.units where configuration.units.contains(part.unit) {
                do throws(Refusal) { try validate(part.bytes, unit: part.unit) } catch {
                    throw Refusal("rank \(contribution.rank), unit \(part.unit): \(error.reason)")
                }
                messages[part.unit - configuration.units.lowerBound].append(
                    UnitMessage(
                        rank: contribution.rank, microBatches: contribution.microBatches, unit: part.unit,
                        node: part.node,
                        bytes: part.bytes))
            }
        }
        for unit in configuration.units {
            try checkNodes(messages[unit - configuration.units.lowerBound], unit: unit, senders: ranked.count)
        }
        return messages
    }

    /// Every sender is in for every unit: with rounds exactly once, else with disjoint subtrees.
    private func checkNodes(_ messages: [UnitMessage], unit: Int, senders: Int) throws(Refusal) {
        guard Set(messages.map(\.rank)).count == senders else {
            throw Refusal("unit \(unit): parts of \(Set(messages.map(\.rank)).count) of \(senders) contributors")
        }
        switch configuration.mode {
        case .rounds:
            guard messages.count == senders, messages.allSatisfy({ $0.node == 0 }) else {
                throw Refusal("unit \(unit): one part of node 0 is due from each contributor")
            }
        case .everyStep:
            for message in messages where !tree.contains(message.node) {
                throw Refusal("unit \(unit), rank \(message.rank): node \(message.node) is not in the tree")
            }
            if let node = tree.overlap(messages.map(\.node)) {
                throw Refusal("unit \(unit): node \(node) is counted twice")
            }
        }
    }

    /// Asks the codec whether each of a unit's pieces would decode.
    private func validate(_ contribution: StoredBytes, unit: Int) throws(Refusal) {
        var reader = PieceReader(contribution)
        for piece in pieces(unit: unit) {
            guard let bytes = reader.next() else { throw Refusal(missing(piece, unit, reader.remaining)) }
            try validate(bytes, piece, unit: unit, codec: configuration.exchangeCodec)
        }
        guard reader.isAtEnd else { throw Refusal("\(reader.remaining) bytes too many") }
    }
    private func name(_ piece: Range<Int>, _ unit: Int) -> String {
        layout.entries(unit: unit).first { $0.range.contains(piece.lowerBound) }?.tensor.name ?? "?"
    }
    private func missing(_ piece: Range<Int>, _ unit: Int, _ left: Int) -> String {
        left < 4
            ? "\(name(piece, unit)): its length is missing"
            : "\(name(piece, unit)): more bytes announced than the \(left) left"
    }
    private func validate(_ bytes: ArraySlice<UInt8>, _ piece: Range<Int>, unit: Int, codec: Codec) throws(Refusal) {
        do {
            try codec.validate(bytes, count: piece.count, shape: shape(of: piece, unit: unit))
        } catch CodecError.notFinite {
            throw Refusal("\(name(piece, unit)) as \(codec): values that are \(ComputeResult.notFinite)")
        } catch {
            throw Refusal("\(name(piece, unit)) as \(codec): \(error)")
        }
    }

    /// Cuts bytes into pieces' messages and asks the codec whether each would decode.
    func cut(
        _ bytes: ArraySlice<UInt8>, _ pieces: ArraySlice<Range<Int>>, unit: Int, codec: Codec
    ) throws(Refusal) -> [ArraySlice<UInt8>] {
        var rest = bytes
        var tensors: [ArraySlice<UInt8>] = []
        for piece in pieces {
            guard rest.count >= 4 else { throw Refusal(missing(piece, unit, rest.count)) }
            let length = rest.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
            guard length <= rest.count - 4 else { throw Refusal(missing(piece, unit, rest.count)) }
            let bytes = rest.dropFirst(4).prefix(length)
            try validate(bytes, piece, unit: unit, codec: codec)
            tensors.append(bytes)
            rest = rest.dropFirst(4 + length)
        }
        guard rest.isEmpty else { throw Refusal("\(rest.count) bytes too many") }
        return tensors
    }
}
