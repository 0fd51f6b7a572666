import Planning
import Primitives
import Testing

/// docs/COST.md, “Loss”: the worked case, term by term, by numbers computed there.
@Suite struct `The loss penalty` {
    static func penalty(
        _ pipelines: Int, _ innerSteps: Int, _ codec: Codec = .fp32, steps: Int = 600, activations: Codec = .fp32,
        delay: Int = 0
    ) -> Double {
        LossPenalty.relative(
            pipelines: pipelines, innerSteps: innerSteps, codec: codec, activations: activations, steps: steps,
            delay: delay)
    }
    static func agree(_ a: Double, _ b: Double, location: SourceLocation = #_sourceLocation) {
        #expect(abs(a - b) < 1e-9, "\(a), not \(b)", sourceLocation: location)
    }

    @Test func `of drift is that of the worst measured row, less for fewer pipelines, shorter rounds and shorter runs`()
    {
        let a = 1.5528 / 1.4409 - 1
        Self.agree(Self.penalty(4, 15), a)
        Self.agree(Self.penalty(4, 15, steps: 6000), a)
        // (½)^¼ = 0.840896415253715, (⅓)^⅝ = 0.5032678828257017.
        Self.agree(Self.penalty(2, 8), a * 0.840896415253715 * 0.5032678828257017)
        // (150/600)^⅛ = 0.840896415253715.
        Self.agree(Self.penalty(4, 15, steps: 150), a * 0.840896415253715)
        Self.agree(Self.penalty(4, 1), 0)
        Self.agree(Self.penalty(1, 15), 0)
    }

    @Test func `is not below any measured row of dense codecs`() {
        for row in LossPenalty.rows where !row.codec.isSparse {
            let stated = Self.penalty(row.pipelines, row.innerSteps, row.codec, steps: row.steps)
            #expect(stated >= row.relative - 1e-12, "\(row)")
        }
    }

    @Test(arguments: [
        (Codec.fp32, 0.0, 0.0), (.bf16, 0.001, 0.001), (.fp16, 0.001, 0.001), (.int8, 0.004, 0.004),
        (.int4, 0.008, 0.02), (.lowrank(rank: 4), 0.105, 0.105),
    ]) func `of a codec is what is listed, in rounds and for single steps`(
        codec: Codec, inRounds: Double, eachStep: Double
    ) {
        Self.agree(Self.penalty(4, 15, codec) - Self.penalty(4, 15), inRounds)
        Self.agree(Self.penalty(4, 1, codec), eachStep)
        // One pipeline encodes for nobody, but rounds keep their codec.
        Self.agree(Self.penalty(1, 1, codec), 0)
        Self.agree(Self.penalty(1, 15, codec), inRounds)
    }

    @Test func `of a sparse codec falls with coverage and rises with coarse values`() {
        let dense = Self.penalty(4, 15)
        // 40 rounds × 128 ÷ 4096 = 1.25.
        Self.agree(Self.penalty(4, 15, .sparse(k: 128)) - dense, 0.024 + 0.003375)
        // 40 rounds × 1024 ÷ 4096 = 10.
        Self.agree(Self.penalty(4, 15, .sparse(k: 1024)) - dense, 0.003 + 0.027)
        // Less than one round counts as one: 128 ÷ 4096.
        Self.agree(Self.penalty(4, 15, .sparse(k: 128), steps: 7) - Self.penalty(4, 15, steps: 7), 0.96 + 0.003375)
    }

    @Test func `of a delay is 0_4 per cent for one step, thrice that for sparse codecs`() {
        let (dense, sparse) = (Self.penalty(4, 15, .int8), Self.penalty(4, 15, .sparse(k: 128)))
        Self.agree(Self.penalty(4, 15, .int8, delay: 1) - dense, 0.004)
        // 2^1.25 = 2.378414230005442, 4^1.25 = 5.656854249492381.
        Self.agree(Self.penalty(4, 15, .int8, delay: 2) - dense, 0.004 * 2.378414230005442)
        Self.agree(Self.penalty(4, 15, .int8, delay: 4) - dense, 0.004 * 5.656854249492381)
        Self.agree(Self.penalty(4, 15, .sparse(k: 128), delay: 2) - sparse, 0.012 * 2.378414230005442)
        Self.agree(Self.penalty(1, 15, .int8, delay: 2) - Self.penalty(1, 15, .int8), 0)
    }

    @Test(arguments: [
        (Codec.fp32, 0.0), (.bf16, 0.0005), (.fp16, 0.0005), (.int8, 0.003), (.int4, 0.04), (.sparse(k: 64), 0.5),
    ]) func `of activations is what is assumed, for any number of pipelines`(codec: Codec, share: Double) {
        Self.agree(Self.penalty(1, 1, activations: codec), share)
        Self.agree(Self.penalty(4, 15, activations: codec) - Self.penalty(4, 15), share)
    }
}
