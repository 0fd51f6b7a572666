import Planning
import Testing

@Suite struct `The pipeline simulator` {
    static func stage(
        forward: Double = 0.01, backward: Double = 0.03, update: Double = 0, bytes: Double = 0, rate: Double = 1e6,
        latency: Double = 0, norm: Double = 0, depth: Int = 1000
    ) -> StageTiming {
        StageTiming(
            forward: forward, backward: backward, update: update, boundaryBytes: bytes, rateForth: rate, rateBack: rate,
            down: rate, latencyForth: latency, latencyBack: latency,
            normLatencies: [Double](repeating: norm, count: 8), depth: depth)
    }
    static func seconds(_ stages: [StageTiming], microBatches: Int, steps: Int = 1) -> Double {
        PipelineSimulator.run(stages, microBatches: microBatches, steps: steps).ends.max() ?? 0
    }

    /// 16 micro-batches, 10 and 30 ms, four stages, hops of 80 ms: the case that tells deep from plain.
    @Test func `tells plain 1F1B from deep in-flight over slow hops`() {
        func hops(_ depths: [Int]) -> [StageTiming] { depths.map { Self.stage(latency: 0.08, depth: $0) } }
        let plain = Self.seconds(hops([4, 3, 2, 1]), microBatches: 16)
        let deep = Self.seconds(hops([16, 16, 16, 16]), microBatches: 16)
        #expect(abs(plain - 3.0) < 1e-9, "plain 1F1B: \(plain) s")
        #expect(abs(deep - 1.24) < 1e-9, "deep in-flight: \(deep) s")
    }

    @Test func `adds up one stage exactly`() {
        #expect(abs(Self.seconds([Self.stage(update: 0.5)], microBatches: 7, steps: 3) - 3 * (7 * 0.04 + 0.5)) < 1e-9)
    }

    @Test func `fills, streams and drains two equal stages without latency`() {
        // Last stage: first forward at 10 ms, then 7 × 40 ms; the first stage's last backward follows.
        let two = [Self.stage(), Self.stage()]
        #expect(abs(Self.seconds(two, microBatches: 7) - (0.01 + 7 * 0.04 + 0.03)) < 1e-9)
    }

    @Test func `is bound by the uplink when activations are large`() {
        // 100 kB at 1 MB/s take 100 ms each way; the first stage's line carries one after the other.
        let stages = [Self.stage(bytes: 100_000), Self.stage(bytes: 0)]
        let many = Self.seconds(stages, microBatches: 40)
        let few = Self.seconds(stages, microBatches: 20)
        #expect(abs((many - few) / 20 - 0.1) < 1e-6)
    }

    @Test func `lets the downlink start with the first frame`() {
        // Up 1 MB/s for 160 kB, down ten times faster: 160 ms and one frame, not 176 ms.
        var stages = [Self.stage(forward: 0, backward: 0, bytes: 160_000), Self.stage(forward: 0, backward: 0)]
        stages[1].down = 1e7
        stages[1].rateBack = 1e12
        stages[0].down = 1e12
        let frame = PipelineSimulator.frameBytes
        #expect(abs(Self.seconds(stages, microBatches: 1) - (0.16 + frame / 1e7)) < 1e-6)
    }

    @Test func `waits for the last sum of squares before the optimizer step`() {
        let stages = [Self.stage(update: 0.1, norm: 0.2), Self.stage(update: 0.1, norm: 0.2)]
        let outcome = PipelineSimulator.run(stages, microBatches: 1)
        // Stage 1 ends its backward at 50 ms, stage 0 at 80 ms; stage 0 hears of stage 1 at 250 ms.
        #expect(abs(outcome.ends[0] - 0.35) < 1e-9)
        #expect(abs(outcome.ends[1] - 0.38) < 1e-9)
    }

    @Test func `asks no stage to wait for a way that its news does not go`() {
        // From the second to the first 200 ms, back 50: docs/COST.md.
        var stages = [Self.stage(update: 0.1), Self.stage(update: 0.1)]
        stages[0].normLatencies = [0, 0.2]
        stages[1].normLatencies = [0.05, 0]
        let outcome = PipelineSimulator.run(stages, microBatches: 1)
        #expect(abs(outcome.ends[0] - 0.35) < 1e-9)
        #expect(abs(outcome.ends[1] - 0.23) < 1e-9)
        // Three stages: the last waits for the first alone, from which it is 10 ms, not for the 500 ms between two others.
        var three = [Self.stage(update: 0.1), Self.stage(update: 0.1), Self.stage(update: 0.1)]
        three[0].normLatencies = [0, 0.01, 0.01]
        three[1].normLatencies = [0.01, 0, 0.5]
        three[2].normLatencies = [0.01, 0.01, 0]
        // Backwards end at 120, 90 and 60 ms.
        let ends = PipelineSimulator.run(three, microBatches: 1).ends
        for (end, expected) in zip(ends, [0.22, 0.66, 0.23]) { #expect(abs(end - expected) < 1e-9) }
    }

    @Test func `never has more in flight than the first stage may`() {
        let spans = PipelineSimulator.record(
            [Self.stage(latency: 0.05, depth: 3), Self.stage(latency: 0.05, depth: 3)], microBatches: 12
        ).spans.filter { $0.stage == 0 }
        for span in spans where span.kind == .forward {
            let begun = spans.filter { $0.kind == .forward && $0.start <= span.start }.count
            let ended = spans.filter { $0.kind == .backward && $0.end <= span.start + 1e-12 }.count
            #expect(begun - ended <= 3)
        }
        #expect(spans.filter { $0.kind == .backward }.count == 12)
    }

    @Test func `sends validation through before the first step`() {
        let outcome = PipelineSimulator.run([Self.stage(), Self.stage()], microBatches: 1, validations: 5)
        let plain = PipelineSimulator.run([Self.stage(), Self.stage()], microBatches: 1)
        #expect(abs(outcome.ends[0] - plain.ends[0] - 0.05) < 1e-9)
    }
}
