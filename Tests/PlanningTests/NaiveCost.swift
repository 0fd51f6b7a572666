import Exchange
import Links
import Planning
import Primitives
import Topologies

/// What a plan costs, from docs/COST.md alone: arrays and loops, nothing remembered, nothing shared with the product but the
/// types of plans, topologies, jobs and models, and the sizes of codecs. The other half of every claim that a prediction is right.
struct NaiveCost {
    let plan: Plan
    let topology: Topology
    let job: JobManifest
    var model: ModelShape { job.model }

    struct Answer {
        var stepSeconds = 0.0
        var pipelineStepSeconds: [Double] = []
        var roundSeconds = 0.0
        var exposedSeconds = 0.0
        var validationSeconds = 0.0
        var totalSeconds = 0.0
        /// compute, bandwidth, latency, bubble, exchange, validation.
        var binding: [Double] = []
    }

    /// What a pipeline does between two seals.
    struct Lap {
        var ready: [Double]
        var ended: [Double]
        var trained: Double
        var step: Double
        var validation: Double
    }

    // MARK: sizes

    func host(_ p: Int, _ s: Int) -> Int { topology.index(of: plan.pipelines[p].stages[s].peer)! }
    func units(_ p: Int, _ s: Int) -> Range<Int> { plan.pipelines[p].stages[s].units }
    func parameters(_ units: Range<Int>) -> Double {
        var sum = 0
        for unit in units { for tensor in model.tensors(unit: unit) { sum += tensor.shape.reduce(1, *) } }
        return Double(sum)
    }
    /// W of a block: its matrices' weights.
    private var blockWeights: Int {
        2 * model.hiddenSize * model.hiddenSize + 2 * model.kvSize * model.hiddenSize
            + 3 * model.intermediateSize * model.hiddenSize
    }
    private func forwardFLOPs(_ units: Range<Int>) -> Double {
        let tokens = Double(job.microBatch * model.context)
        let d = Double(model.hiddenSize)
        var sum = 0.0
        for unit in units {
            if unit == 0 || unit > model.layers && model.tieWordEmbeddings {
                sum += tokens * d
                if unit == 0, model.tieWordEmbeddings { sum += tokens * 2 * Double(model.vocabulary) * d }
            } else if unit <= model.layers {
                sum += tokens * (2 * Double(blockWeights) + 2 * Double(model.context) * d)
            } else {
                sum += tokens * 2 * Double(model.vocabulary) * d
            }
        }
        return sum
    }
    func contributionBytes(_ units: Range<Int>) -> Double {
        var bytes = 0
        for unit in units {
            for tensor in model.tensors(unit: unit) { bytes += 4 + plan.exchangeCodec.expectedBytes(for: tensor.shape) }
        }
        return Double(bytes)
    }
    var activationBytes: Double {
        Double(plan.activationCodec.expectedBytes(for: job.microBatch * model.context * model.hiddenSize) + 96)
    }
    var coordinator: Int { topology.hosts.firstIndex { $0.role == .coordinator } ?? topology.peers[0] }
    func latency(_ from: Int, _ to: Int) -> Double { topology.latencySeconds(from: from, to: to) }
    func up(_ host: Int) -> Double { topology.hosts[host].up.bytesPerSecond }
    func down(_ host: Int) -> Double { topology.hosts[host].down.bytesPerSecond }
    func rate(_ from: Int, _ to: Int) -> Double {
        guard let cap = topology.declaredLink(from: from, to: to)?.rate else { return up(from) }
        return min(up(from), cap.bytesPerSecond)
    }
    /// Bytes that a stage needs.
    func memory(_ p: Int, _ s: Int) -> Int {
        let (m, T, d) = (job.microBatch, model.context, model.hiddenSize)
        let isLast = s == plan.pipelines[p].stages.count - 1
        let kept = isLast && !isRing(p) ? 1 : plan.pipelines[p].inFlight
        let recomputes = plan.pipelines[p].stages[s].recompute
        let rows = m * T
        // Stretches: a thousand rows of the gated product, whole sequences of the attention, 64 MiB of logits.
        let stretch = min(rows, 1024)
        let whole = min(rows, T > 1024 ? T : 1024 / T * T)
        let logitRows = min(rows, max(64, 16_777_216 / model.vocabulary))
        var (own, shared, once) = (0, 0, 2 * 4 * rows * d + (isLast ? 0 : 4 * rows * d))
        var widest = 0
        let blocks = units(p, s).filter { $0 > 0 && $0 <= model.layers }.count
        if blocks > 0 {
            let wide = 3 * d + 2 * model.kvSize + 2 * model.intermediateSize + 2
            own += blocks * 4 * rows * d + (recomputes ? 0 : blocks * 4 * rows * wide)
            shared = recomputes ? 4 * rows * wide : 0
            once += 4 * whole * (2 * d + 2 * model.kvSize) + 4 * stretch * 3 * model.intermediateSize
            once += 4 * T * d / model.heads + 4 * 128 * (T + 31)
            widest = max(stretch, whole)
        }
        if isLast {
            own += 4 * rows * (d + 1)
            once += 4 * logitRows * (model.vocabulary + d + 1) + 4 * d
            widest = max(widest, logitRows)
            if isRing(p) {
                own -= 4 * rows
                once -= 4 * logitRows * model.vocabulary
            }
        }
        if s == 0, isRing(p) {
            own += 4 * rows * (d + 1)
            once += 4 * logitRows * model.vocabulary
        }
        let state = Int(parameters(units(p, s))) * (plan.innerSteps > 1 ? 28 : 16)
        return state + own * kept + shared + once + 8 * widest * d
    }

    // MARK: a pipeline

    private func pipeline(_ p: Int) -> NaivePipeline {
        let stages = plan.pipelines[p].stages.indices
        let hosts = stages.map { host(p, $0) }
        let head = isRing(p) ? 2 * Double(job.microBatch * model.context * model.vocabulary * model.hiddenSize) : 0
        let lent = head / topology.hosts[hosts[0]].flops
        return NaivePipeline(
            forward: stages.map {
                (forwardFLOPs(units(p, $0)) - ($0 == 0 ? head : 0)) / topology.hosts[hosts[$0]].flops
            },
            backward: stages.map {
                (plan.pipelines[p].stages[$0].recompute ? 3 : 2)
                    * (forwardFLOPs(units(p, $0)) - ($0 == 0 ? head : 0))
                    / topology.hosts[hosts[$0]].flops + ($0 == 0 ? 2 * lent : 0)
            },
            update: stages.map { 22 * parameters(units(p, $0)) / topology.hosts[hosts[$0]].flops },
            down: hosts.map(down), rate: hosts.map { a in hosts.map { a == $0 ? up(a) : rate(a, $0) } },
            latency: hosts.map { a in hosts.map { latency(a, $0) } }, messageBytes: activationBytes,
            microBatches: plan.pipelines[p].virtualPipelines.count * plan.microBatchesPerVirtual,
            inFlight: plan.pipelines[p].inFlight, lentForward: isRing(p) ? lent : nil,
            lentHead: isRing(p) ? 2 * lent : nil)
    }
    /// Embeddings that are the head too, the last stage being another than the first.
    private func isRing(_ p: Int) -> Bool { model.tieWordEmbeddings && plan.pipelines[p].stages.count > 1 }
    /// Messages of a contribution: H > 1 one, H = 1 one for each maximal aligned power-of-two block.
    func parts(_ p: Int) -> Int {
        if plan.innerSteps > 1 { return 1 }
        var left = plan.pipelines[p].virtualPipelines
        var count = 0
        while let first = left.first {
            var size = 1
            while first % (2 * size) == 0, 2 * size <= left.count { size *= 2 }
            left.removeFirst(size)
            count += 1
        }
        return count
    }
    private func lap(_ p: Int, validations: Int) -> Lap {
        let stages = plan.pipelines[p].stages.indices
        let contributions = plan.pipelines.indices.map(parts).reduce(0, +)
        let perParameter = stages.map { parameters(units(p, $0)) / topology.hosts[host(p, $0)].flops }
        let outer = stages.map {
            latency(coordinator, host(p, $0)) + (30 + 4 * Double(contributions)) * perParameter[$0]
        }
        let encoding = perParameter.map { 30 * Double(parts(p)) * $0 }
        if plan.innerSteps == 1 {
            let starts = stages.map { s in
                stages.map { $0 == s ? outer[s] : outer[$0] + latency(host(p, $0), host(p, s)) }.max()!
                    + 22 * perParameter[s]
            }
            let outcome = pipeline(p).run(steps: 1, starts: starts, validations: validations, updates: false)
            let ready = stages.map { outcome.ends[$0] + encoding[$0] }
            let trained = outcome.ends.max()!
            return Lap(ready: ready, ended: ready, trained: trained, step: trained, validation: 0)
        }
        let simulated = min(3, plan.innerSteps)
        let outcome = pipeline(p).run(steps: simulated, starts: outer, validations: validations, updates: true)
        let step = outcome.stepEnds[simulated - 1] - outcome.stepEnds[simulated - 2]
        let ends = outcome.ends.map { $0 + Double(plan.innerSteps - simulated) * step }
        let validation = max(0, outcome.stepEnds[0] - outer[0] - step)
        if plan.exchangeDelay == 0 {
            let ready = stages.map { ends[$0] + encoding[$0] }
            return Lap(ready: ready, ended: ready, trained: ends.max()!, step: step, validation: validation)
        }
        let pause = encoding.max()!
        return Lap(
            ready: stages.map { ends[$0] + encoding[$0] - Double(plan.exchangeDelay) * step },
            ended: ends.map { $0 + pause }, trained: ends.max()! + pause, step: step, validation: validation)
    }

    // MARK: a round

    private func round(validations: Int) -> (seconds: Double, laps: [Lap]) {
        let laps = plan.pipelines.indices.map { lap($0, validations: validations) }
        return (sealed(laps), laps)
    }
    func answer() -> Answer {
        let windows = (64 + plan.pipelines.count - 1) / plan.pipelines.count
        let validations = (windows + job.microBatch - 1) / job.microBatch
        let hasRounds = plan.innerSteps > 1
        let (seconds, laps) = round(validations: hasRounds ? validations : 0)
        var answer = Answer()
        answer.pipelineStepSeconds = laps.map(\.step)
        let slowest = laps.indices.filter { laps[$0].trained == laps.map(\.trained).max()! }[0]
        answer.roundSeconds = seconds
        answer.exposedSeconds = seconds - laps[slowest].trained
        answer.validationSeconds = laps[slowest].validation
        answer.stepSeconds = laps[slowest].step
        if !hasRounds {
            answer.validationSeconds = (round(validations: validations).seconds - seconds) / 10
            answer.roundSeconds += answer.validationSeconds
            answer.stepSeconds = answer.roundSeconds
        }
        let batch = job.virtualPipelines * plan.microBatchesPerVirtual * job.microBatch * model.context
        var budget = Double(job.tokens)
        if job.batchTokens == .auto {
            let (critical, smallest) = (job.criticalBatch.tokens, Double(batch) / Double(plan.microBatchesPerVirtual))
            budget = (budget * (1 + Double(batch) / critical) / (1 + smallest / critical)).rounded()
        }
        let steps = max(1, Int((budget / Double(batch)).rounded(.up)))
        let rounds = Int((Double(steps) / Double(plan.innerSteps)).rounded(.up))
        var leaving = 0.0
        for p in plan.pipelines.indices {
            for s in plan.pipelines[p].stages.indices {
                guard let session = topology.hosts[host(p, s)].meanSession else { continue }
                let recovery = 16 * parameters(units(p, s)) / down(host(p, s))
                leaving += (5 + recovery + answer.roundSeconds / 2) / (session / .seconds(1))
            }
        }
        let missing = Double(rounds * plan.innerSteps - steps) * answer.stepSeconds
        answer.totalSeconds = (Double(rounds) * answer.roundSeconds - missing) * (1 + leaving)
        answer.binding = binding(slowest, answer)
        return answer
    }

    private func binding(_ p: Int, _ answer: Answer) -> [Double] {
        let whole = pipeline(p)
        func step(_ pipeline: NaivePipeline) -> Double {
            let starts = pipeline.forward.map { _ in 0.0 }
            let ends = pipeline.run(steps: 3, starts: starts, validations: 0, updates: true).stepEnds
            return ends[2] - ends[1]
        }
        var weightless = whole
        weightless.messageBytes = 0
        var instant = weightless
        instant.latency = instant.latency.map { $0.map { _ in 0 } }
        let work = whole.forward.indices.map {
            Double(whole.microBatches)
                * (whole.forward[$0] + whole.backward[$0] + ($0 == 0 ? whole.lentHead ?? 0 : 0)) + whole.update[$0]
        }
        let (full, light, free) = (step(whole), step(weightless), step(instant))
        let H = Double(plan.innerSteps)
        var seconds = [
            H * min(work.max()!, free), H * max(0, full - light), H * max(0, light - free),
            H * max(0, free - work.max()!), 0, answer.validationSeconds,
        ]
        seconds[4] = max(0, answer.roundSeconds - seconds.reduce(0, +))
        let all = seconds.reduce(0, +)
        return seconds.map { $0 / all }
    }
}
