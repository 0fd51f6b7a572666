import CPU
import Compute
import Kernels
import Primitives
import Wire

/// What outlives a round: checks of a configuration, import, export, rewinding, digests.
extension Stage {
    static func check(_ configuration: StageConfiguration, corpus: [UInt8]) throws(Refusal) {
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
        guard order.canTrain else {
            throw Refusal(
                "the training part of the corpus has \(order.trainingCount) tokens, one window needs \(geometry.context + 1)"
            )
        }
        if configuration.dataTokens == nil, shape.vocabulary < 256, let largest = corpus.max(),
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
            let values = FloatBuffer(range.count)
            load(state.parameters, values.allValues)
            outer?.parameters.values(range).baseAddress!.update(from: values.base, count: range.count)
            try device.write(.parameters, unit: state.unit, from: UnsafeBufferPointer(values.allValues))
            let moments: [(DeviceQuantity, [UInt8], KeptMoments?)] = [
                (.firstMoment, state.firstMoment, outer?.firstMoment),
                (.secondMoment, state.secondMoment, outer?.secondMoment),
            ]
            for (quantity, bytes, kept) in moments {
                load(bytes, values.allValues)
                kept?.write(unit: state.unit, from: values.base)
                try device.write(quantity, unit: state.unit, from: UnsafeBufferPointer(values.allValues))
            }
            withExtendedLifetime(values) {}
            optimizerSteps[index] = state.firstMoment.isEmpty ? 0 : state.optimizerSteps
            try restore(state.residue, unit: state.unit)
            guard let outer else { continue }
            load(state.outerMomentum, outer.momentum.values(range))
            outerSteps[index] = optimizerSteps[index]
        }
        lastContribution = []
        dropSentWeights()
        try dropWork()
        return .done
    }

    /// With rounds, the state at round start: parameters, momentum and moments belong together.
    func exportState(
        _ units: Range<Int>, _ includeMoments: Bool, _ includeResidue: Bool = false
    ) throws(Refusal) -> ComputeResult {
        guard units.lowerBound >= configuration.units.lowerBound, units.upperBound <= configuration.units.upperBound
        else {
            throw Refusal("units \(units) wanted, this stage holds \(configuration.units)")
        }
        var states: [UnitState] = []
        for unit in units {
            let range = layout.range(unit: unit)
            let values = FloatBuffer(range.count)
            func bytes(_ quantity: DeviceQuantity, _ kept: KeptMoments?) throws(Refusal) -> [UInt8] {
                kept?.read(unit: unit, into: values.base)
                if kept == nil { try device.read(quantity, unit: unit, into: values.allValues) }
                return [UInt8](values.rawBytes(0..<range.count))
            }
            let parameters: [UInt8]
            if let outer {
                parameters = [UInt8](outer.parameters.rawBytes(range))
            } else {
                parameters = try bytes(.parameters, nil)
            }
            var state = UnitState(
                unit: unit, parameters: parameters,
                outerMomentum: keptMomentum.map { [UInt8]($0.rawBytes(range)) } ?? [],
                firstMoment: includeMoments ? try bytes(.firstMoment, outer?.firstMoment) : [],
                secondMoment: includeMoments ? try bytes(.secondMoment, outer?.secondMoment) : [],
                optimizerSteps: (outer == nil ? optimizerSteps : outerSteps)[unit - configuration.units.lowerBound])
            if includeResidue { state.residue = try residue(of: unit) }
            states.append(state)
        }
        return .state(states)
    }

    /// Nil where the outer step has no momentum.
    private var keptMomentum: FloatBuffer? { configuration.outer.momentum == 0 ? nil : outer?.momentum }

    func rewind() throws(Refusal) -> ComputeResult {
        if let outer {
            dropSentWeights()
            try write(.parameters, from: outer.parameters)
            try eachMoment(outer) { quantity, unit, kept, values throws(Refusal) in
                if kept.plain(unit: unit) == nil { kept.read(unit: unit, into: values.baseAddress!) }
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
            if kept.plain(unit: unit) == nil { kept.write(unit: unit, from: values.baseAddress!) }
        }
        outerSteps = optimizerSteps
    }

    /// Both moments of the round's start, unit by unit: where they lie, or with room for them.
    private func eachMoment(
        _ outer: OuterState,
        _ body: (
            _ quantity: DeviceQuantity, _ unit: Int, _ kept: KeptMoments, _ values: UnsafeMutableBufferPointer<Float>
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
                let values = outer?.parameters ?? FloatBuffer(range.count)
                if outer == nil { try device.read(.parameters, unit: unit, into: values.allValues) }
                digests[unit] = UnitDigests(
                    parameters: ContentIndex.id(of: values.rawBytes(outer == nil ? 0..<range.count : range)),
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
        let fields: [(String, [UInt8], mayBeEmpty: Bool)] = [
            ("parameters", state.parameters, false), ("outer momentum", state.outerMomentum, true),
            ("first moment", state.firstMoment, true), ("second moment", state.secondMoment, true),
        ]
        for (name, found, mayBeEmpty) in fields where !(mayBeEmpty && found.isEmpty) {
            guard found.count == bytes else {
                throw Refusal("unit \(state.unit), \(name): \(bytes) bytes expected, \(found.count) found")
            }
            guard
                (floats(fromLittleEndian: found).withUnsafeBufferPointer {
                    kernels_all_finite($0.count, $0.baseAddress!)
                })
            else { throw Refusal("unit \(state.unit), \(name): values that are not finite") }
        }
        guard state.firstMoment.isEmpty == state.secondMoment.isEmpty else {
            throw Refusal("unit \(state.unit): one of Adam's moments without the other")
        }
        try check(state.residue, unit: state.unit)
    }

    /// Raw bytes into values; none make zeros.
    func load(_ bytes: [UInt8], _ values: UnsafeMutableBufferPointer<Float>) {
        guard !bytes.isEmpty else { return values.update(repeating: 0) }
        UnsafeMutableRawBufferPointer(values).copyBytes(from: bytes)
    }
}
