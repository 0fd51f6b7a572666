/// One stage as the simulator sees it. All times in seconds.
package struct StageTiming: Hashable, Sendable {
    /// Forward of one micro-batch.
    package var forward: Double
    /// Backward of one micro-batch.
    package var backward: Double
    /// The optimizer step, the sums of squares before it included.
    package var update: Double
    /// Bytes of an activation, or of its gradient, on the way to the next stage; 0 on the last.
    package var boundaryBytes: Double
    /// Bytes per second towards the next and towards the previous stage: the uplink, or the pair's cap if that is lower.
    package var rateForth: Double
    package var rateBack: Double
    /// Bytes per second of the downlink.
    package var down: Double
    /// One way to the next stage and back from it; 0 on the last.
    package var latencyForth: Double
    package var latencyBack: Double
    /// Latency from each stage of its pipeline, one way, its own being 0: the way of the sums of squares.
    package var normLatencies: [Double]
    /// Micro-batches whose forward has begun and whose backward has not ended, at most.
    package var depth: Int
    /// Of a head that this stage, the first, lends to the last (tied embeddings): its forward, and that with the gradient of its input.
    /// The pipeline is then a ring: the last stage's activation goes on to the first, and its gradient comes back from there.
    package var lentForward: Double
    package var lentHead: Double
    /// All that one micro-batch takes here.
    package var own: Double { forward + backward + lentHead }

    package init(
        forward: Double, backward: Double, update: Double, boundaryBytes: Double, rateForth: Double, rateBack: Double,
        down: Double, latencyForth: Double, latencyBack: Double, normLatencies: [Double], depth: Int,
        lentForward: Double = 0, lentHead: Double = 0
    ) {
        self.lentForward = lentForward
        self.lentHead = lentHead
        self.forward = forward
        self.backward = backward
        self.update = update
        self.boundaryBytes = boundaryBytes
        self.rateForth = rateForth
        self.rateBack = rateBack
        self.down = down
        self.latencyForth = latencyForth
        self.latencyBack = latencyBack
        self.normLatencies = normLatencies
        self.depth = depth
    }
}

/// An exact simulation of one pipeline's inner steps by list scheduling: 1F1B with backward first, every access line a FIFO
/// queue shared by both directions of the pipeline's traffic, store-and-forward in frames.
///
/// It is the evaluator of the cost model: cheap (about forty events for two stages and four micro-batches), and it knows
/// what closed forms miss, such as a gradient that waits behind an activation.
package struct PipelineSimulator {
    /// Bytes that travel together: a receiver's line starts when the first frame is there.
    package static let frameBytes = 16_384.0

    package struct Outcome: Hashable, Sendable {
        /// When each stage has ended its last step; without `updates`, its last backward.
        package var ends: [Double]
        /// When stage 0 ended each step.
        package var stepEnds: [Double]
        /// Seconds each stage computed.
        package var busy: [Double]
    }

    /// An event is 16 bytes of key and a packed body; ties are broken by order of creation.
    private struct Event {
        enum Kind: UInt8 { case computed, arrived, delivered }
        var time: Double
        /// When the last byte can be there at the earliest.
        var tail: Double
        var order: Int
        var stage: Int32
        var microBatch: Int32
        var kind: Kind
        /// 0 forward, 1 backward, 2 validation, 3 update, 4 the start, 5 a head that is lent, 6 the same of a validation.
        var work: UInt8
        func precedes(_ other: Event) -> Bool { time != other.time ? time < other.time : order < other.order }
    }
    /// What one stage has done and waits for.
    private struct Stage {
        var isBusy = true
        var upFree = 0.0
        var downFree = 0.0
        /// Micro-batches that may go forward next: how many have arrived in all, and how many were begun.
        var arrivedForward = 0
        var begunForward = 0
        var arrivedBackward = 0
        var begunBackward = 0
        var endedBackward = 0
        var arrivedValidation = 0
        var begunValidation = 0
        var arrivedHead = 0
        var begunHead = 0
        var arrivedHeadValidation = 0
        var begunHeadValidation = 0
        var step = 0
        var end = 0.0
        var busy = 0.0
        /// When the last backward of the present step ended; −1 until it is known.
        var lastBackward = -1.0
    }

    private let count: Int
    private let isRing: Bool
    private let microBatches: Int
    private let validations: Int
    private let steps: Int
    private let updates: Bool
    private let recording: Bool
    /// In one block each: simulations are what a search's time goes into.
    private let timings: UnsafeMutablePointer<StageTiming>
    private let stages: UnsafeMutablePointer<Stage>
    private var heap: UnsafeMutablePointer<Event>
    private var capacity: Int
    private var size = 0
    private var order = 0
    private var clock = 0.0
    private var stepEnds: [Double] = []
    /// Seconds that the last step may take at most, where what takes longer is given up; and when stage 0 began it.
    private var limit = Double.infinity
    private var begun = Double.infinity
    private var spans: [StageSpan] = []

    /// - Parameters:
    ///   - starts: when each stage is ready (the seal's arrival, the outer step done).
    ///   - validations: micro-batches that go through forward only, before the first step.
    ///   - updates: whether a step ends with the norm exchange and the optimizer step (false: with the last backward).
    package static func run(
        _ stages: [StageTiming], microBatches: Int, steps: Int = 1, starts: [Double] = [], validations: Int = 0,
        updates: Bool = true
    ) -> Outcome {
        var simulator = PipelineSimulator(stages, microBatches, steps, validations, updates, recording: false)
        defer { simulator.deallocate() }
        return simulator.run(starts)
    }
    /// The same, with everything that each stage did.
    package static func record(
        _ stages: [StageTiming], microBatches: Int, steps: Int = 1, starts: [Double] = [], validations: Int = 0,
        updates: Bool = true
    ) -> (outcome: Outcome, spans: [StageSpan]) {
        var simulator = PipelineSimulator(stages, microBatches, steps, validations, updates, recording: true)
        defer { simulator.deallocate() }
        let outcome = simulator.run(starts)
        return (outcome, simulator.spans)
    }

    /// The second step of stages that begin together, from the end of the first, both at stage 0; nil when it takes `limit` seconds or
    /// longer: it is given up as soon as that is certain.
    package static func secondStep(_ stages: [StageTiming], microBatches: Int, below limit: Double) -> Double? {
        var simulator = PipelineSimulator(stages, microBatches, 2, 0, true, recording: false)
        defer { simulator.deallocate() }
        simulator.limit = limit
        let ends = simulator.run([]).stepEnds
        guard ends.count == 2 else { return nil }
        let seconds = ends[1] - ends[0]
        return seconds < limit ? seconds : nil
    }

    private init(
        _ stages: [StageTiming], _ microBatches: Int, _ steps: Int, _ validations: Int, _ updates: Bool, recording: Bool
    ) {
        precondition(!stages.isEmpty && microBatches > 0 && steps > 0, "nothing to simulate")
        count = stages.count
        isRing = stages[0].lentHead > 0
        self.microBatches = microBatches
        self.validations = validations
        self.steps = steps
        self.updates = updates
        self.recording = recording
        timings = .allocate(capacity: count)
        timings.initialize(from: stages, count: count)
        self.stages = .allocate(capacity: count)
        self.stages.initialize(repeating: Stage(), count: count)
        self.stages[0].arrivedForward = microBatches * steps
        self.stages[0].arrivedValidation = validations
        capacity = 64 + 4 * count
        heap = .allocate(capacity: capacity)
        stepEnds.reserveCapacity(steps)
    }
    private func deallocate() {
        timings.deinitialize(count: count)
        timings.deallocate()
        stages.deallocate()
        heap.deallocate()
    }

    private mutating func run(_ starts: [Double]) -> Outcome {
        // A stage is ready at its start: an update that takes no time, of step −1.
        for s in 0..<count {
            push(at: starts.isEmpty ? 0 : starts[s], .computed, work: 4, stage: s, microBatch: 0)
        }
        while size > 0 {
            let event = pop()
            clock = event.time
            if clock - begun >= limit { break }
            let s = Int(event.stage)
            switch event.kind {
            case .computed: finish(event, on: s)
            case .arrived:
                let bytes = timings[event.work == 1 ? s : s > 0 ? s - 1 : count - 1].boundaryBytes
                let start = max(clock, stages[s].downFree)
                let end = max(start + bytes / timings[s].down, event.tail)
                stages[s].downFree = end
                push(at: end, .delivered, work: event.work, stage: s, microBatch: Int(event.microBatch))
            case .delivered:
                switch event.work {
                case 0: stages[s].arrivedForward += 1
                case 1: stages[s].arrivedBackward += 1
                case 5: stages[s].arrivedHead += 1
                case 6: stages[s].arrivedHeadValidation += 1
                default: stages[s].arrivedValidation += 1
                }
                begin(on: s)
            }
        }
        return Outcome(
            ends: (0..<count).map { stages[$0].end }, stepEnds: stepEnds, busy: (0..<count).map { stages[$0].busy })
    }

    private mutating func finish(_ event: Event, on s: Int) {
        stages[s].isBusy = false
        switch event.work {
        case 0:
            if s < count - 1 {
                send(work: 0, from: s, to: s + 1, Int(event.microBatch))
            } else if isRing {
                send(work: 5, from: s, to: 0, Int(event.microBatch))
            } else {
                stages[s].arrivedBackward += 1
            }
        case 1:
            stages[s].endedBackward += 1
            stages[s].end = clock
            if s > 0 { send(work: 1, from: s, to: s - 1, Int(event.microBatch)) }
            if stages[s].endedBackward == microBatches * (stages[s].step + 1) { endStep(on: s) }
        case 2:
            if s < count - 1 {
                send(work: 2, from: s, to: s + 1, Int(event.microBatch))
            } else if isRing {
                send(work: 6, from: s, to: 0, Int(event.microBatch))
            }
        case 5: send(work: 1, from: s, to: count - 1, Int(event.microBatch))
        case 3:
            stages[s].end = clock
            stages[s].step += 1
            stages[s].lastBackward = -1
            if s == 0 { stepEnded() }
        default: break
        }
        begin(on: s)
    }

    private mutating func stepEnded() {
        stepEnds.append(clock)
        // Of what is over nothing more is waited for.
        if limit < .infinity { begun = stepEnds.count == steps - 1 ? clock : .infinity }
    }

    /// All backwards of a step are done here: the sums of squares go to the others, and the last to arrive lets each
    /// stage take its optimizer step.
    private mutating func endStep(on s: Int) {
        guard updates else {
            stages[s].step += 1
            if s == 0 { stepEnded() }
            return
        }
        stages[s].lastBackward = clock
        for i in 0..<count where stages[i].lastBackward < 0 {
            stages[s].isBusy = true
            return
        }
        for i in 0..<count {
            var start = stages[i].lastBackward
            for other in 0..<count where other != i {
                start = max(start, stages[other].lastBackward + timings[i].normLatencies[other])
            }
            stages[i].isBusy = true
            stages[i].busy += timings[i].update
            note(i, .update, 0, start, start + timings[i].update)
            push(at: start + timings[i].update, .computed, work: 3, stage: i, microBatch: 0)
        }
    }

    private mutating func send(work: UInt8, from: Int, to: Int, _ microBatch: Int) {
        let isBack = work == 1
        let bytes = timings[isBack ? to : from].boundaryBytes
        let latency = isBack ? timings[to].latencyBack : timings[from].latencyForth
        let rate = isBack ? timings[from].rateBack : timings[from].rateForth
        let start = max(clock, stages[from].upFree)
        let sent = start + bytes / rate
        stages[from].upFree = sent
        let frame = min(bytes, PipelineSimulator.frameBytes)
        push(
            at: start + frame / rate + latency, .arrived, work: work, stage: to, microBatch: microBatch,
            tail: sent + latency + frame / timings[to].down)
    }

    /// Starts what is most urgent on an idle stage: backward, a head that is lent, validation, forward.
    private mutating func begin(on s: Int) {
        let stage = stages[s]
        guard !stage.isBusy, stage.step < steps else { return }
        let limit = microBatches * (stage.step + 1)
        if stage.begunBackward < stage.arrivedBackward, stage.begunBackward < stage.begunForward {
            compute(s, 1, .backward, stage.begunBackward, timings[s].backward)
            stages[s].begunBackward += 1
        } else if stage.begunHead < stage.arrivedHead {
            compute(s, 5, .head, stage.begunHead, timings[s].lentHead)
            stages[s].begunHead += 1
        } else if stage.begunHeadValidation < stage.arrivedHeadValidation {
            compute(s, 6, .validate, stage.begunHeadValidation, timings[s].lentForward)
            stages[s].begunHeadValidation += 1
        } else if stage.begunValidation < min(stage.arrivedValidation, validations) {
            compute(s, 2, .validate, stage.begunValidation, timings[s].forward)
            stages[s].begunValidation += 1
        } else if isRing, s == 0, stage.begunHeadValidation < validations {
            // The first step begins when the validation is over.
        } else if stage.begunForward < min(stage.arrivedForward, limit),
            stage.begunForward - stage.endedBackward < timings[s].depth
        {
            compute(s, 0, .forward, stage.begunForward, timings[s].forward)
            stages[s].begunForward += 1
        }
    }
    private mutating func compute(_ s: Int, _ work: UInt8, _ kind: StageSpan.Kind, _ microBatch: Int, _ time: Double) {
        // What a stage has still to compute takes that long if nothing else keeps it from it.
        if begun < .infinity, rest(s) >= limit { begun = -.infinity }
        stages[s].isBusy = true
        stages[s].busy += time
        note(s, kind, microBatch % microBatches, clock, clock + time)
        push(at: clock + time, .computed, work: work, stage: s, microBatch: microBatch)
    }
    /// A little less than what the last step takes if stage `s` is idle no more before it has computed all of it.
    private mutating func rest(_ s: Int) -> Double {
        let all = microBatches * steps
        let rest =
            Double(all - stages[s].begunForward) * timings[s].forward
            + Double(all - stages[s].begunBackward) * timings[s].backward + timings[0].update
        return (clock + rest - begun) * (1 - 1e-9)
    }
    private mutating func note(_ s: Int, _ kind: StageSpan.Kind, _ microBatch: Int, _ start: Double, _ end: Double) {
        if recording { spans.append(StageSpan(stage: s, kind: kind, microBatch: microBatch, start: start, end: end)) }
    }

    // MARK: a binary heap by (time, order)

    private mutating func push(
        at time: Double, _ kind: Event.Kind, work: UInt8, stage: Int, microBatch: Int, tail: Double = 0
    ) {
        if size == capacity { grow() }
        let event = Event(
            time: time, tail: tail, order: order, stage: Int32(truncatingIfNeeded: stage),
            microBatch: Int32(truncatingIfNeeded: microBatch), kind: kind, work: work)
        order += 1
        var child = size
        size += 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard event.precedes(heap[parent]) else { break }
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = event
    }
    private mutating func grow() {
        let larger = UnsafeMutablePointer<Event>.allocate(capacity: 2 * capacity)
        larger.moveInitialize(from: heap, count: size)
        heap.deallocate()
        heap = larger
        capacity *= 2
    }
    private mutating func pop() -> Event {
        let first = heap[0]
        size -= 1
        if size == 0 { return first }
        let last = heap[size]
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < size else { break }
            if child + 1 < size, heap[child + 1].precedes(heap[child]) { child += 1 }
            guard heap[child].precedes(last) else { break }
            heap[parent] = heap[child]
            parent = child
        }
        heap[parent] = last
        return first
    }
}
