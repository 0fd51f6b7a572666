import Exchange
import Primitives
import Testing
import Training

@Suite struct `Averages made by owners` {
    private func configuration(_ mode: ExchangeMode, _ codec: Codec) -> StageConfiguration {
        Small.configuration(mode: mode, codec: codec, virtualPipelines: 3, microBatches: 1)
    }

    /// Engines of three pipelines after a step, and what they contribute.
    private func contributions(
        _ configuration: StageConfiguration
    ) throws -> (engines: [StageEngine], parts: [RankedContribution]) {
        var engines: [StageEngine] = []
        var parts: [RankedContribution] = []
        for rank in 0..<3 {
            let engine = StageEngine(corpus: Small.corpus, threads: 1)
            #expect(engine.perform(.configure(configuration)) == .done)
            let key = MicroBatchKey(step: 0, virtualPipeline: rank, index: 0)
            _ = engine.perform(.forward(key, input: []))
            _ = engine.perform(.backward(key, gradient: []))
            if configuration.mode == .rounds {
                _ = engine.perform(.finishGradient(microBatches: 1))
                #expect(engine.perform(.optimizerStep(norm: 1, learningRate: 0.01)) == .done)
            }
            guard case .contribution(let units) = engine.perform(.encodeContribution) else {
                Issue.record("no contribution")
                continue
            }
            engines.append(engine)
            parts.append(RankedContribution(rank: rank, microBatches: rank + 1, units: units))
        }
        return (engines, parts)
    }

    private func chunks(
        _ parts: [RankedContribution], _ configuration: StageConfiguration, unit: Int
    ) throws -> [[ChunkContribution]] {
        let layout = configuration.chunkLayout(unit: unit)
        let cut = try parts.map { part in
            try #require(chunked(part.units.filter { $0.unit == unit }, layout: layout))
        }
        return layout.chunks.indices.map { chunk in
            parts.indices.map {
                ChunkContribution(rank: parts[$0].rank, microBatches: parts[$0].microBatches, bytes: cut[$0][chunk])
            }
        }
    }

    @Test(arguments: [ExchangeMode.everyStep, .rounds], [Codec.fp32, .bf16, .int8, .int4, .sparse(k: 512)])
    func `are bit for bit those of an all-gather`(mode: ExchangeMode, codec: Codec) throws {
        let whole = try contributions(configuration(mode, codec))
        let scattered = configuration(mode, codec)
        let group = try contributions(scattered)
        var aggregates: [UnitAggregate] = []
        for unit in scattered.units {
            var aggregate = UnitAggregate(unit: unit, chunks: [])
            for (chunk, parts) in try chunks(group.parts, scattered, unit: unit).enumerated() {
                let owner = group.engines[chunk % 3]
                guard
                    case .chunk(let bytes) = owner.perform(
                        .averageChunk(unit: unit, chunk: chunk, parts.reversed(), codec: .fp32))
                else {
                    Issue.record("chunk \(chunk) of unit \(unit) was not averaged")
                    return
                }
                aggregate.chunks.append(bytes)
            }
            aggregates.append(aggregate)
        }
        for (a, b) in zip(whole.engines, group.engines) {
            let gathered = a.perform(
                mode == .rounds ? .outerStep(whole.parts) : .aggregateGradients(whole.parts))
            #expect(b.perform(.applyAggregates(aggregates, codec: .fp32)) == gathered)
            if mode == .everyStep {
                #expect(a.perform(.optimizerStep(norm: 2, learningRate: 0.01)) == .done)
                #expect(b.perform(.optimizerStep(norm: 2, learningRate: 0.01)) == .done)
            }
            #expect(a.perform(.digests) == b.perform(.digests))
        }
    }

    @Test func `name whose part is not finite or does not decode, whatever was broken`() throws {
        let configuration = configuration(.rounds, .fp32)
        let (engines, parts) = try contributions(configuration)
        let good = try chunks(parts, configuration, unit: 1)[0]
        var generator = SeededGenerator(seed: 9)
        let infinity = withUnsafeBytes(of: Float.infinity.bitPattern.littleEndian) { Array($0) }
        for round in 0..<500 {
            var broken = good
            var bytes = broken[1].bytes
            switch round % 3 {
            case 0: bytes.removeLast(1 + generator.below(bytes.count - 1))
            case 1: bytes.replaceSubrange(12..<16, with: infinity)
            default: bytes[generator.below(12)] ^= UInt8(1 + generator.below(255))
            }
            broken[1].bytes = bytes
            guard
                case .chunkRefused(let rank, _) = engines[0].perform(
                    .averageChunk(unit: 1, chunk: 0, broken, codec: .fp32))
            else {
                Issue.record("a broken part was added in round \(round)")
                return
            }
            #expect(rank == 1)
        }
        guard case .chunk = engines[0].perform(.averageChunk(unit: 1, chunk: 0, good, codec: .fp32)) else {
            Issue.record("the unbroken chunk was refused")
            return
        }
    }
}
