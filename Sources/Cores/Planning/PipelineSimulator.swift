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

    package init(
        forward: Double, backward: Double, update: Double, boundaryBytes: Double, rateForth: Double, rateBack: Double,
        down: Double, latencyForth: Double, latencyBack: Double, normLatencies: [Double], depth: Int
    ) {
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
        var order: Int
        var kind: Kind
        /// 0 forward, 1 backward, 2 validation, 3 update.
        var work: UInt8
        var stage: Int32
        var microBatch: Int32
        /// When the last byte can be there at the earliest.
        var tail: Double
    }

    private let stages: [StageTiming]
    private let microBatches: Int
    private let validations: Int
    private let steps: Int
    private let updates: Bool
    private var heap: [Event] = []
    private var order = 0
    private var clock = 0.0
    private var busyUntil: [Double]
    private var isBusy: [Bool]
    private var upFree: [Double]
    private var downFree: [Double]
    /// Micro-batches that may be forwarded next: how many have arrived in all, and how many were begun.
    private var arrivedForward: [Int]
    private var begunForward: [Int]
    private var arrivedBackward: [Int]
    private var begunBackward: [Int]
    private var endedBackward: [Int]
    private var arrivedValidation: [Int]
    private var begunValidation: [Int]
    private var step: [Int]
    private var ends: [Double]
    private var stepEnds: [Double] = []
    private var busy: [Double]
    /// [steps, stages]; −1 until it is known.
    private var lastBackward: [Double]
    private var spans: [StageSpan] = []
    private let recording: Bool

    /// - Parameters:
    ///   - starts: when each stage is ready (the seal's arrival, the outer step done).
    ///   - validations: micro-batches that go through forward only, before the first step.
    ///   - updates: whether a step ends with the norm exchange and the optimizer step (false: with the last backward).
    package static func run(
        _ stages: [StageTiming], microBatches: Int, steps: Int = 1, starts: [Double] = [], validations: Int = 0,
        updates: Bool = true
    ) -> Outcome {
        var simulator = PipelineSimulator(stages, microBatches, steps, starts, validations, updates, recording: false)
        simulator.run()
        return Outcome(ends: simulator.ends, stepEnds: simulator.stepEnds, busy: simulator.busy)
    }
    /// The same, with everything that each stage did.
    package static func record(
        _ stages: [StageTiming], microBatches: Int, steps: Int = 1, starts: [Double] = [], validations: Int = 0,
        updates: Bool = true
    ) -> (outcome: Outcome, spans: [StageSpan]) {
        var simulator = PipelineSimulator(stages, microBatches, steps, starts, validations, updates, recording: true)
        simulator.run()
        return (Outcome(ends: simulator.ends, stepEnds: simulator.stepEnds, busy: simulator.busy), simulator.spans)
    }

    private init(
        _ stages: [StageTiming], _ microBatches: Int, _ steps: Int, _ starts: [Double], _ validations: Int,
        _ updates: Bool, recording: Bool
    ) {
        precondition(!stages.isEmpty && microBatches > 0 && steps > 0, "nothing to simulate")
        let n = stages.count
        self.stages = stages
        self.microBatches = microBatches
        self.validations = validations
        self.steps = steps
        self.updates = updates
        self.recording = recording
        busyUntil = starts.isEmpty ? [Double](repeating: 0, count: n) : starts
        isBusy = [Bool](repeating: true, count: n)
        upFree = [Double](repeating: 0, count: n)
        downFree = upFree
        arrivedForward = [Int](repeating: 0, count: n)
        begunForward = arrivedForward
        arrivedBackward = arrivedForward
        begunBackward = arrivedForward
        endedBackward = arrivedForward
        arrivedValidation = arrivedForward
        begunValidation = arrivedForward
        step = arrivedForward
        ends = upFree
        busy = upFree
        lastBackward = [Double](repeating: -1, count: n * steps)
        arrivedForward[0] = microBatches * steps
        arrivedValidation[0] = validations
        heap.reserveCapacity(64)
    }

    private mutating func run() {
        // A stage is ready at its start: an update that takes no time, of step −1.
        for s in stages.indices { push(at: busyUntil[s], .computed, work: 4, stage: s, microBatch: 0) }
        while let event = pop() {
            clock = event.time
            let s = Int(event.stage)
            switch event.kind {
            case .computed: finish(event, on: s)
            case .arrived:
                let bytes = boundary(event.work, to: s)
                let start = max(clock, downFree[s])
                let end = max(start + bytes / stages[s].down, event.tail)
                downFree[s] = end
                push(at: end, .delivered, work: event.work, stage: s, microBatch: Int(event.microBatch))
            case .delivered:
                switch event.work {
                case 0: arrivedForward[s] += 1
                case 1: arrivedBackward[s] += 1
                default: arrivedValidation[s] += 1
                }
                begin(on: s)
            }
        }
    }

    private func boundary(_ work: UInt8, to s: Int) -> Double {
        work == 1 ? stages[s].boundaryBytes : stages[s - 1].boundaryBytes
    }

    private mutating func finish(_ event: Event, on s: Int) {
        isBusy[s] = false
        let last = stages.count - 1
        switch event.work {
        case 0:
            if s < last { send(work: 0, from: s, to: s + 1, Int(event.microBatch)) } else { arrivedBackward[s] += 1 }
        case 1:
            endedBackward[s] += 1
            ends[s] = clock
            if s > 0 { send(work: 1, from: s, to: s - 1, Int(event.microBatch)) }
            if endedBackward[s] == microBatches * (step[s] + 1) { endStep(on: s) }
        case 2: if s < last { send(work: 2, from: s, to: s + 1, Int(event.microBatch)) }
        case 3:
            ends[s] = clock
            step[s] += 1
            if s == 0 { stepEnds.append(clock) }
        default: break
        }
        begin(on: s)
    }

    /// All backwards of a step are done here: the sums of squares go to the others, and the last to arrive lets each
    /// stage take its optimizer step.
    private mutating func endStep(on s: Int) {
        let current = step[s]
        guard updates else {
            step[s] += 1
            if s == 0 { stepEnds.append(clock) }
            return
        }
        let row = current * stages.count
        lastBackward[row + s] = clock
        for i in stages.indices where lastBackward[row + i] < 0 {
            isBusy[s] = true
            return
        }
        for i in stages.indices {
            var start = lastBackward[row + i]
            for other in stages.indices where other != i {
                start = max(start, lastBackward[row + other] + stages[i].normLatencies[other])
            }
            isBusy[i] = true
            busy[i] += stages[i].update
            note(i, .update, 0, start, start + stages[i].update)
            push(at: start + stages[i].update, .computed, work: 3, stage: i, microBatch: 0)
        }
    }

    private mutating func send(work: UInt8, from: Int, to: Int, _ microBatch: Int) {
        let bytes = boundary(work, to: to)
        let latency = work == 1 ? stages[to].latencyBack : stages[from].latencyForth
        let rate = work == 1 ? stages[from].rateBack : stages[from].rateForth
        let start = max(clock, upFree[from])
        let sent = start + bytes / rate
        upFree[from] = sent
        let frame = min(bytes, PipelineSimulator.frameBytes)
        push(
            at: start + frame / rate + latency, .arrived, work: work, stage: to, microBatch: microBatch,
            tail: sent + latency + frame / stages[to].down)
    }

    /// Starts what is most urgent on an idle stage: backward, then validation, then forward.
    private mutating func begin(on s: Int) {
        guard !isBusy[s], step[s] < steps else { return }
        let limit = microBatches * (step[s] + 1)
        if begunBackward[s] < arrivedBackward[s], begunBackward[s] < begunForward[s] {
            compute(s, 1, .backward, begunBackward[s], stages[s].backward)
            begunBackward[s] += 1
        } else if begunValidation[s] < min(arrivedValidation[s], validations) {
            compute(s, 2, .validate, begunValidation[s], stages[s].forward)
            begunValidation[s] += 1
        } else if begunForward[s] < min(arrivedForward[s], limit), begunForward[s] - endedBackward[s] < stages[s].depth
        {
            compute(s, 0, .forward, begunForward[s], stages[s].forward)
            begunForward[s] += 1
        }
    }
    private mutating func compute(_ s: Int, _ work: UInt8, _ kind: StageSpan.Kind, _ microBatch: Int, _ time: Double) {
        isBusy[s] = true
        busy[s] += time
        note(s, kind, microBatch % microBatches, clock, clock + time)
        push(at: clock + time, .computed, work: work, stage: s, microBatch: microBatch)
    }
    private mutating func note(_ s: Int, _ kind: StageSpan.Kind, _ microBatch: Int, _ start: Double, _ end: Double) {
        if recording { spans.append(StageSpan(stage: s, kind: kind, microBatch: microBatch, start: start, end: end)) }
    }

    // MARK: a binary heap by (time, order)

    private mutating func push(
        at time: Double, _ kind: Event.Kind, work: UInt8, stage: Int, microBatch: Int, tail: Double = 0
    ) {
        let event = Event(
            time: time, order: order, kind: kind, work: work, stage: Int32(stage),
            microBatch: Int32(truncatingIfNeeded: microBatch), tail: tail)
        order += 1
        heap.append(event)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard precedes(heap[child], heap[parent]) else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }
    private mutating func pop() -> Event? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if heap.isEmpty { return first }
        heap[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { return first }
            if child + 1 < heap.count, precedes(heap[child + 1], heap[child]) { child += 1 }
            guard precedes(heap[child], heap[parent]) else { return first }
            heap.swapAt(child, parent)
            parent = child
        }
    }
    private func precedes(_ a: Event, _ b: Event) -> Bool { a.time != b.time ? a.time < b.time : a.order < b.order }
}
