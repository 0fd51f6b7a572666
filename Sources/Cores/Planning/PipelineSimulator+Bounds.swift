extension PipelineSimulator {
    /// Below what any step but the first can take, from the end of one to the end of the next, both at stage 0.
    ///
    /// In between, every stage computes all micro-batches; the first comes to it through all stages before it, and the last goes back
    /// through them. A stage's line up carries its part of all micro-batches, its line down too, from the first one's forward to the
    /// last one's gradient. And every micro-batch is in flight at stage 0 from its forward there to its backward, at most so many at
    /// a time.
    ///
    /// - Parameter validations: micro-batches that go through forward only, before the step's own.
    package static func leastStep(_ stages: [StageTiming], microBatches: Int, validations: Int = 0) -> Double {
        let count = Double(microBatches)
        let last = stages.count - 1
        var whole = 0.0
        let isRing = stages[0].lentHead > 0
        for s in stages.indices {
            whole += stages[s].own
            if s < last || isRing { whole += hop(stages, s) }
        }
        var (least, way) = (0.0, 0.0)
        for s in stages.indices {
            let stage = stages[s]
            let own = stage.own
            least = max(
                least, way + count * own + Double(validations) * (stage.forward + stage.lentForward))
            let before = s > 0 ? stages[s - 1].boundaryBytes : 0
            let (forth, back) = (stage.boundaryBytes / stage.rateForth, before / stage.rateBack)
            if last > 0 {
                // The last to be sent up is a gradient, but on the first stage; the last to come down is one, but on the last stage.
                let sent = count * (s == last ? back : forth + back)
                let up =
                    s == 0
                    ? sent - forth + whole
                    : way + stage.forward + (s == last ? stage.backward : 0) + sent - back
                least = max(least, up)
                let came = count * (s == last ? before : before + stage.boundaryBytes) / stage.down
                let down =
                    s == 0
                    ? whole - stage.boundaryBytes / stages[1].rateBack + came
                    : way - before / stages[s - 1].rateForth + came + (s == last ? own : stage.backward)
                least = max(least, down)
            }
            way += stage.forward + stage.backward
            if s < last { way += hop(stages, s) }
        }
        return max(least, whole * max(1, count / Double(stages[0].depth))) + stages[0].update
    }
    /// A micro-batch's way from stage `s` to the next and back.
    private static func hop(_ stages: [StageTiming], _ s: Int) -> Double {
        let bytes = stages[s].boundaryBytes
        let next = s + 1 < stages.count ? s + 1 : 0
        return bytes / stages[s].rateForth + stages[s].latencyForth + bytes / stages[next].rateBack
            + stages[s].latencyBack
    }
}
