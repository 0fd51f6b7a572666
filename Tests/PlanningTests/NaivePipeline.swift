/// Inner steps of one pipeline as docs/COST.md, “A step of a pipeline”, tells them: a list of what will happen, of which the
/// earliest is looked for anew each time. Written from the text, to be compared with the product; nothing here is fast.
struct NaivePipeline {
    /// Of each stage, seconds and bytes a second. Pairs are [from][to], by stage.
    var forward: [Double]
    var backward: [Double]
    var update: [Double]
    var down: [Double]
    var rate: [[Double]]
    var latency: [[Double]]
    var messageBytes: Double
    var microBatches: Int
    var inFlight: Int
    /// Of a head that the first stage lends to the last: forward, and with the gradient of its input. nil: none is lent.
    var lentForward: Double?
    var lentHead: Double?

    struct Outcome {
        /// When each stage ended its last step (its last backward, where there is no optimizer step).
        var ends: [Double]
        /// When the first stage ended each step.
        var stepEnds: [Double]
    }

    private enum Kind { case forward, backward, validation, head, headValidation }
    private enum Happening {
        case ready(stage: Int)
        case computed(stage: Int, Kind)
        case updated(stage: Int)
        case firstFrame(stage: Int, Kind, allThere: Double)
        case received(stage: Int, Kind)
    }

    func run(steps: Int, starts: [Double], validations: Int, updates: Bool) -> Outcome {
        var course = Course(self, steps: steps, starts: starts, updates: updates)
        return course.run(validations: validations)
    }

    /// One such list, from its start to its end.
    private struct Course {
        let pipeline: NaivePipeline
        let steps: Int
        let updates: Bool
        /// Things to come. What is brought about first is nearer the front: of equal times the first one is next.
        var future: [(time: Double, what: Happening)] = []
        var stages: [Stage]
        var underWay = 0
        var outcome: Outcome

        struct Stage {
            var idle = false
            var uplinkFree = 0.0
            var downlinkFree = 0.0
            var waitingForward = 0
            var waitingBackward = 0
            var waitingValidation = 0
            var waitingHead = 0
            var waitingHeadValidation = 0
            /// Of the heads of the validation, those not begun.
            var headValidationsToCome = 0
            var forwardsOfStep = 0
            var backwardsOfStep = 0
            var stepsDone = 0
            var lastBackwardOfStep: Double?
        }

        init(_ pipeline: NaivePipeline, steps: Int, starts: [Double], updates: Bool) {
            self.pipeline = pipeline
            self.steps = steps
            self.updates = updates
            stages = starts.map { _ in Stage() }
            outcome = Outcome(ends: starts, stepEnds: [])
            for stage in stages.indices { future.append((starts[stage], .ready(stage: stage))) }
        }
        private var last: Int { stages.count - 1 }

        mutating func run(validations: Int) -> Outcome {
            stages[0].waitingForward = pipeline.microBatches * steps
            stages[0].waitingValidation = validations
            if pipeline.lentHead != nil { stages[0].headValidationsToCome = validations }
            while !future.isEmpty {
                var next = 0
                for index in future.indices where future[index].time < future[next].time { next = index }
                let (now, what) = future.remove(at: next)
                happen(what, at: now)
            }
            return outcome
        }

        private mutating func happen(_ what: Happening, at now: Double) {
            switch what {
            case .ready(let stage):
                stages[stage].idle = true
                beginWork(stage, at: now)
            case .computed(let stage, let kind):
                stages[stage].idle = true
                computed(stage, kind, at: now)
                beginWork(stage, at: now)
            case .updated(let stage):
                stages[stage].idle = true
                outcome.ends[stage] = now
                stages[stage].stepsDone += 1
                stages[stage].forwardsOfStep = 0
                stages[stage].backwardsOfStep = 0
                if stage == 0 { outcome.stepEnds.append(now) }
                beginWork(stage, at: now)
            case .firstFrame(let stage, let kind, let allThere):
                let taken = pipeline.messageBytes / pipeline.down[stage]
                let through = max(max(now, stages[stage].downlinkFree) + taken, allThere)
                stages[stage].downlinkFree = through
                future.append((through, .received(stage: stage, kind)))
            case .received(let stage, let kind):
                switch kind {
                case .forward: stages[stage].waitingForward += 1
                case .backward: stages[stage].waitingBackward += 1
                case .validation: stages[stage].waitingValidation += 1
                case .head: stages[stage].waitingHead += 1
                case .headValidation: stages[stage].waitingHeadValidation += 1
                }
                beginWork(stage, at: now)
            }
        }
        private mutating func computed(_ stage: Int, _ kind: Kind, at now: Double) {
            switch kind {
            case .forward where stage == last && pipeline.lentHead != nil: send(.head, from: stage, to: 0, at: now)
            case .validation where stage == last && pipeline.lentHead != nil:
                send(.headValidation, from: stage, to: 0, at: now)
            case .head: send(.backward, from: stage, to: last, at: now)
            case .headValidation: break
            case .forward where stage == last: stages[stage].waitingBackward += 1
            case .forward, .validation: if stage < last { send(kind, from: stage, to: stage + 1, at: now) }
            case .backward:
                outcome.ends[stage] = now
                stages[stage].backwardsOfStep += 1
                if stage > 0 { send(.backward, from: stage, to: stage - 1, at: now) } else { underWay -= 1 }
                if stages[stage].backwardsOfStep == pipeline.microBatches { endBackwards(stage, at: now) }
            }
        }

        private mutating func send(_ kind: Kind, from: Int, to: Int, at now: Double) {
            let (rate, latency) = (pipeline.rate[from][to], pipeline.latency[from][to])
            let begin = max(now, stages[from].uplinkFree)
            let end = begin + pipeline.messageBytes / rate
            stages[from].uplinkFree = end
            let frame = min(pipeline.messageBytes, 16_384)
            let allThere = end + latency + frame / pipeline.down[to]
            future.append((begin + frame / rate + latency, .firstFrame(stage: to, kind, allThere: allThere)))
        }
        private mutating func beginWork(_ stage: Int, at now: Double) {
            guard stages[stage].idle, stages[stage].stepsDone < steps else { return }
            var work: (Kind, Double)?
            if stages[stage].waitingBackward > 0 {
                stages[stage].waitingBackward -= 1
                work = (.backward, pipeline.backward[stage])
            } else if stages[stage].waitingHead > 0 {
                stages[stage].waitingHead -= 1
                work = (.head, pipeline.lentHead!)
            } else if stages[stage].waitingHeadValidation > 0 {
                stages[stage].waitingHeadValidation -= 1
                stages[stage].headValidationsToCome -= 1
                work = (.headValidation, pipeline.lentForward!)
            } else if stages[stage].waitingValidation > 0 {
                stages[stage].waitingValidation -= 1
                work = (.validation, pipeline.forward[stage])
            } else if stages[stage].headValidationsToCome > 0 {
                return
            } else if stages[stage].waitingForward > 0, stages[stage].forwardsOfStep < pipeline.microBatches,
                stage > 0 || underWay < pipeline.inFlight
            {
                stages[stage].waitingForward -= 1
                stages[stage].forwardsOfStep += 1
                if stage == 0 { underWay += 1 }
                work = (.forward, pipeline.forward[stage])
            }
            guard let work else { return }
            stages[stage].idle = false
            future.append((now + work.1, .computed(stage: stage, work.0)))
        }
        private mutating func endBackwards(_ stage: Int, at now: Double) {
            stages[stage].lastBackwardOfStep = now
            guard updates else {
                stages[stage].stepsDone += 1
                if stage == 0 { outcome.stepEnds.append(now) }
                return
            }
            stages[stage].idle = false
            let all = stages.compactMap(\.lastBackwardOfStep)
            guard all.count == stages.count else { return }
            for other in stages.indices {
                var hears = all[other]
                for from in stages.indices where from != other {
                    hears = max(hears, all[from] + pipeline.latency[from][other])
                }
                stages[other].idle = false
                future.append((hears + pipeline.update[other], .updated(stage: other)))
                stages[other].lastBackwardOfStep = nil
            }
        }
    }
}
