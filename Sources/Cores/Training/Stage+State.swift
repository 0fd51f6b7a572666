import CPU
import Compute
import Kernels
import Primitives
import Wire

/// What outlives a round: checks of a configuration, import, export, rewinding, digests.
extension Stage {
    static func check(_ configuration: StageConfiguration, corpus: CorpusBytes) throws(Refusal) {
        let shape = configuration.model
        let geometry = configuration.geometry
        let sizes = [
            shape.hiddenSize, shape.layers, shape.heads, shape.kvHeads, shape.headSize, shape.intermediateSize,
            shape.vocabulary, geometry.context, geometry.microBatch, geometry.microBatchesPerVirtual,
            geometry.virtualPipelines,
        ]
        guard sizes.allSatisfy({ (1...1 << 30).contains($0) }) else {
            throw Refusal("sizes must be from 1 to 2^30: \(sizes)")
        }
        guard shape.heads % shape.kvHeads == 0, shape.headSize % 2 == 0 else {
            throw Refusal(
                "\(shape.heads) heads, \(shape.kvHeads) key-value heads of \(shape.headSize) values: heads must be a multiple of"
                    + " key-value heads and of an even size")
        }
        guard !configuration.units.isEmpty, configuration.units.lowerBound >= 0,
            configuration.units.upperBound <= shape.unitCount
        else { throw Refusal("units \(configuration.units) of a model with units \(shape.allUnits)") }
        if let adapters = configuration.optimizer.recipe.adapters {
            guard configuration.mode == .rounds, configuration.optimizer.recipe.kind == .adamw else {
                throw Refusal("adapters need rounds (inner_steps above 1) and AdamW")
            }
            guard (1...1 << 16).contains(adapters.rank), adapters.alpha.isFinite, adapters.alpha > 0 else {
                throw Refusal("adapters of rank \(adapters.rank) and alpha \(adapters.alpha)")
            }
        }
        guard configuration.isFirst || configuration.isLast else { return }
        let order = DataOrder(configuration, bytes: corpus.count)
        let tokens = configuration.dataTokens ?? corpus.count
        let parts = configuration.dataParts
        guard parts.isEmpty || parts.reduce(0, { $0 + $1.tokens }) == tokens else {
            throw Refusal("the job's sources are of \(parts.map(\.tokens)) tokens, its data have \(tokens)")
        }
        guard order.canTrain else {
            throw Refusal(
                "the training part of the corpus has \(order.trainingCount) tokens, one window needs \(geometry.context + 1)"
                    + (parts.isEmpty ? "" : " of each source")
            )
        }
        if configuration.dataTokens == nil, shape.vocabulary < 256, let largest = corpus.max,
            largest >= shape.vocabulary
        {
            throw Refusal("the corpus has byte \(largest), the vocabulary ends at \(shape.vocabulary - 1)")
        }
    }

    func importState(_ states: [UnitState]) throws(Refusal) -> ComputeResult {
        for state in states { try check(state) }
        for state in states {
            let range = layout.range(unit: state.unit)
            let index = state.unit - configuration.units.lowerBound
            let room = device.idle.take()
            defer { device.idle.giveBack(room) }
            let values = room.values(0..<range.count)
            try load(state.parameters, values)
            outer?.parameters.values(range).baseAddress!.update(from: values.baseAddress!, count: range.count)
            try device.write(.parameters, unit: state.unit, from: UnsafeBufferPointer(values))
            let moments: [(DeviceQuantity, StoredBytes, StartMoments?)] = [
                (.firstMoment, state.firstMoment, outer?.firstMoment),
                (.secondMoment, state.secondMoment, outer?.secondMoment),
            ]
            for (quantity, bytes, kept) in moments {
                try load(bytes, values)
                try kept?.write(unit: state.unit, from: UnsafeBufferPointer(values))
                try device.write(quantity, unit: state.unit, from: UnsafeBufferPointer(values))
            }
            optimizerSteps[index] = state.firstMoment.isEmpty ? 0 : state.optimizerSteps
            try restore(state.residue, unit: state.unit)
            guard let outer else { continue }
            try load(state.outerMomentum, outer.momentum.values(range))
            outerSteps[index] = optimizerSteps[index]
        }
        lastContribution = []
        dropSentWeights()
        try dropWork()
        return .done
    }

    /// Weights that are only evaluated: no moments come with them.
    func importWeights(_ state: UnitState) throws(Refusal) {
        try check(state)
        let values = FloatBuffer(layout.range(unit: state.unit).count)
        try load(state.parameters, values.allValues)
        try device.write(.parameters, unit: state.unit, from: UnsafeBufferPointer(values.allValues))
    }

    /// With rounds, the state at round start: parameters, momentum and moments belong together. Each list is put down as it comes out of the
    /// device; lists of chunks are made on the way, where others are to fetch it.
    func exportState(
        _ units: Range<Int>, _ includeMoments: Bool, _ includeResidue: Bool = false
    ) throws(Refusal) -> ComputeResult {
        guard units.lowerBound >= configuration.units.lowerBound, units.upperBound <= configuration.units.upperBound
        else {
            throw Refusal("units \(units) wanted, this stage holds \(configuration.units)")
        }
        let lists = (outer == nil ? 1 : 2) + (includeMoments ? 2 : 0) + (includeResidue ? feedback.count + 1 : 0)
        let total = 4 * units.reduce(0) { $0 + layout.range(unit: $1).count } * lists
        var writer = StoredBytesWriter(room.store?.store(total))
        return .state(
            try units.map { unit throws(Refusal) in
                try exportUnit(unit, includeMoments, includeResidue, &writer)
            })
    }
    private func exportUnit(
        _ unit: Int, _ includeMoments: Bool, _ includeResidue: Bool, _ writer: inout StoredBytesWriter
    ) throws(Refusal) -> UnitState {
        let range = layout.range(unit: unit)
        let room = device.idle.take()
        defer { device.idle.giveBack(room) }
        /// The device's, or what is kept of a round's start.
        func put(
            _ quantity: DeviceQuantity, _ kept: StartMoments?, _ stream: inout ContentIndexStream
        ) throws(Refusal) -> StoredBytes {
            var place = kept == nil ? device.place(quantity, unit: unit) : kept!.plain(unit: unit)?.baseAddress
            if place == nil {
                let values = room.values(0..<range.count)
                if let kept {
                    try kept.read(unit: unit, into: values)
                } else {
                    try device.read(quantity, unit: unit, into: values)
                }
                place = room.base
            }
            let bytes = UnsafeRawBufferPointer(start: place, count: 4 * range.count)
            if !includeResidue { stream.update(bytes) }
            return writer.put(bytes)
        }
        func put(_ buffer: FloatBuffer, _ stream: inout ContentIndexStream) -> StoredBytes {
            if !includeResidue { stream.update(buffer.rawBytes(range)) }
            return writer.put(buffer.rawBytes(range))
        }
        var weights = ContentIndexStream()
        var momenta = ContentIndexStream()
        var moments = ContentIndexStream()
        let parameters: StoredBytes
        if let outer {
            parameters = put(outer.parameters, &weights)
        } else {
            parameters = try put(.parameters, nil, &weights)
        }
        var state = UnitState(
            unit: unit, parameters: parameters,
            optimizerSteps: (outer == nil ? optimizerSteps : outerSteps)[unit - configuration.units.lowerBound])
        if let keptMomentum { state.outerMomentum = put(keptMomentum, &momenta) }
        if includeMoments {
            state.firstMoment = try put(.firstMoment, outer?.firstMoment, &moments)
            state.secondMoment = try put(.secondMoment, outer?.secondMoment, &moments)
        }
        if includeResidue {
            // For this member's own disk: nobody fetches it.
            state.residue = try residue(of: unit, &writer)
        } else {
            state.indices = UnitIndices(
                parameters: weights.finish(), outerMomentum: keptMomentum == nil ? nil : momenta.finish(),
                moments: includeMoments ? moments.finish() : nil)
        }
        return state
    }

    /// Nil where the outer step has no momentum.
    private var keptMomentum: FloatBuffer? { configuration.outer.momentum == 0 ? nil : outer?.momentum }

    func rewind() throws(Refusal) -> ComputeResult {
        if let outer {
            dropSentWeights()
            try write(.parameters, from: outer.parameters)
            try eachMoment(outer) { quantity, unit, kept, values throws(Refusal) in
                if kept.plain(unit: unit) == nil { try kept.read(unit: unit, into: values) }
                try device.write(quantity, unit: unit, from: UnsafeBufferPointer(values))
            }
            optimizerSteps = outerSteps
            isAtOuterWeights = true
        }
        try dropWork()
        return .done
    }

    /// The current moments become those of a round's start.
    func startRound() throws(Refusal) {
        try dropWork()
        guard let outer else { return }
        try eachMoment(outer) { quantity, unit, kept, values throws(Refusal) in
            try device.read(quantity, unit: unit, into: values)
            if kept.plain(unit: unit) == nil { try kept.write(unit: unit, from: UnsafeBufferPointer(values)) }
        }
        outerSteps = optimizerSteps
    }

    /// Both moments of the round's start, unit by unit: where they lie, or with room for them.
    private func eachMoment(
        _ outer: OuterState,
        _ body: (
            _ quantity: DeviceQuantity, _ unit: Int, _ kept: StartMoments, _ values: UnsafeMutableBufferPointer<Float>
        ) throws(Refusal) -> Void
    ) throws(Refusal) {
        for (quantity, kept) in [(DeviceQuantity.firstMoment, outer.firstMoment), (.secondMoment, outer.secondMoment)] {
            for unit in configuration.units {
                if let plain = kept.plain(unit: unit) {
                    try body(quantity, unit, kept, plain)
                } else {
                    let room = FloatBuffer(layout.range(unit: unit).count)
                    try body(quantity, unit, kept, room.allValues)
                }
            }
        }
    }

    var digests: [Int: UnitDigests] {
        get throws(Refusal) {
            var digests: [Int: UnitDigests] = [:]
            for unit in configuration.units {
                let range = layout.range(unit: unit)
                var place = outer.map { $0.parameters.base + range.lowerBound } ?? device.place(.parameters, unit: unit)
                let room = place == nil ? device.idle.take() : nil
                defer { if let room { device.idle.giveBack(room) } }
                if let room {
                    try device.read(.parameters, unit: unit, into: room.values(0..<range.count))
                    place = room.base
                }
                digests[unit] = UnitDigests(
                    parameters: ContentIndex.id(of: UnsafeRawBufferPointer(start: place, count: 4 * range.count)),
                    outerMomentum: keptMomentum.map { ContentIndex.id(of: $0.rawBytes(range)) })
            }
            return digests
        }
    }

    private func check(_ state: UnitState) throws(Refusal) {
        guard configuration.units.contains(state.unit) else {
            throw Refusal("state of unit \(state.unit), this stage holds \(configuration.units)")
        }
        guard state.optimizerSteps >= 0 else {
            throw Refusal("unit \(state.unit): \(state.optimizerSteps) optimizer steps")
        }
        let bytes = layout.range(unit: state.unit).count * 4
        let fields: [(String, StoredBytes, mayBeEmpty: Bool)] = [
            ("parameters", state.parameters, false), ("outer momentum", state.outerMomentum, true),
            ("first moment", state.firstMoment, true), ("second moment", state.secondMoment, true),
        ]
        for (name, found, mayBeEmpty) in fields where !(mayBeEmpty && found.isEmpty) {
            guard found.count == bytes else {
                throw Refusal("unit \(state.unit), \(name): \(bytes) bytes expected, \(found.count) found")
            }
            try checkFinite(found, "unit \(state.unit), \(name)")
        }
        guard state.firstMoment.isEmpty == state.secondMoment.isEmpty else {
            throw Refusal("unit \(state.unit): one of Adam's moments without the other")
        }
        try check(state.residue, unit: state.unit)
    }

    func checkFinite(_ bytes: StoredBytes, _ what: String) throws(Refusal) {
        var isFinite = true
        let isThere = bytes.eachPiece { piece in
            let values = piece.bindMemory(to: Float.self)
            isFinite = isFinite && kernels_all_finite(values.count, values.baseAddress!)
        }
        guard isThere else { throw Refusal("\(what): the disk does not give it back") }
        guard isFinite else { throw Refusal("\(what): values that are not finite") }
    }
    /// Raw bytes into values; none make zeros.
    func load(_ bytes: StoredBytes, _ values: UnsafeMutableBufferPointer<Float>) throws(Refusal) {
        guard !bytes.isEmpty else { return values.update(repeating: 0) }
        guard
            bytes.fill(
                0, UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(values)[..<bytes.count]))
        else {
            throw Refusal("a state: the disk does not give it back")
        }
    }
}
