import Planning
import Primitives
import Testing

/// What the search looks up or leaves out in place of what it would compute.
@Suite struct `A shortcut of the search` {
    @Test func `holds the memory law for every stage of every shape`() {
        var random = SeededGenerator(seed: 31)
        for _ in 0..<40 {
            let model = ModelShape(
                hiddenSize: 32 * (1 + random.below(6)), layers: 1 + random.below(9), heads: 4,
                kvHeads: [1, 2, 4][random.below(3)], intermediateSize: 48 + 80 * random.below(6),
                context: [32, 64, 200][random.below(3)], tieWordEmbeddings: random.below(4) == 0)
            let law = MemoryLaw(model, sequences: 1 + random.below(4))
            let table = MemoryTable(law, model)
            for start in 0..<model.unitCount {
                for end in start + 1...model.unitCount {
                    let kept = 1 + random.below(20)
                    for kind in 0..<4 {
                        let (rounds, recompute) = (kind & 1 != 0, kind & 2 != 0)
                        #expect(
                            table.bytes(start..<end, rounds: rounds, kept: kept, recompute: recompute)
                                == law.bytes(
                                    units: start..<end, rounds: rounds, inFlight: kept, recompute: recompute))
                    }
                }
            }
        }
    }

    /// Random pipelines, some bound by compute, some by lines, latency or depth: the bound is below every step but the first, and not
    /// idle.
    @Test func `never takes a step for longer than it is`() {
        var random = SeededGenerator(seed: 32)
        var closest = 0.0
        for _ in 0..<600 {
            let count = 1 + random.below(5)
            let scale = [0.001, 0.1, 2][random.below(3)]
            let depth = 1 + random.below(6)
            let stages = (0..<count).map { s in
                let forward = 0.1 + random.uniform()
                return StageTiming(
                    forward: forward, backward: forward * Double(2 + random.below(2)), update: 0.2 * random.uniform(),
                    boundaryBytes: s == count - 1 ? 0 : 1e5, rateForth: 1e5 / scale * (0.2 + random.uniform()),
                    rateBack: 1e5 / scale * (0.2 + random.uniform()), down: 1e5 / scale * (0.2 + random.uniform()),
                    latencyForth: s == count - 1 ? 0 : scale * random.uniform(),
                    latencyBack: s == count - 1 ? 0 : scale * random.uniform(),
                    normLatencies: [Double](repeating: 0, count: count), depth: depth)
            }
            let microBatches = 1 + random.below(12)
            let ends = PipelineSimulator.run(stages, microBatches: microBatches, steps: 4).stepEnds
            let least = PipelineSimulator.leastStep(stages, microBatches: microBatches)
            for (before, after) in zip(ends, ends.dropFirst()) {
                #expect(least <= (after - before) * (1 + 1e-9))
                closest = max(closest, least / (after - before))
            }
            // What is given up takes as long as that, and what is not is simulated to its end.
            let two = PipelineSimulator.run(stages, microBatches: microBatches, steps: 2).stepEnds
            let second = two[1] - two[0]
            let found = PipelineSimulator.secondStep(stages, microBatches: microBatches, below: second * 1.0001)
            #expect(found == second)
            for factor in [1, 0.999, 0.9, 0.5] {
                let limit = second * factor
                #expect(PipelineSimulator.secondStep(stages, microBatches: microBatches, below: limit) == nil)
            }
        }
        #expect(closest > 0.999)
    }
}
