/// Inner steps of one pipeline as docs/COST.md, “A step of a pipeline”, tells them: a list of what will happen, of which the
/// earliest is looked for anew each time. Written from the text, to be compared with the product; nothing here is fast.
struct NaivePipeline {
    /// Of each stage, seconds and bytes a second. Pairs are [from][to], by stage.
    var forward: [Double]
    var update: [Double]
    var down: [Double]
    var rate: [[Double]]
    var latency: [[Double]]
    var messageBytes: Double
    var microBatches: Int
    var inFlight: Int

    struct Outcome {
        /// When each stage ended its last step (its last backward, where there is no optimizer step).
        var ends: [Double]
        /// When the first stage ended each step.
        var stepEnds: [Double]
    }

    private enum Kind { case forward, backward, validation }
    private enum Happening {
        case ready(stage: Int)
        case computed(stage: Int, Kind)
        case updated(stage: Int)
        case firstFrame(stage: Int, Kind, allThere: Double)
        case received(stage: Int, Kind)
    }

    func run(steps: Int, starts: [Double], validations: Int, updates: Bool) -> Outcome {
        let count = forward.count
        let last = count - 1
        // Things to come. What is brought about first is nearer the front: of equal times the first one is next.
        var future: [(time: Double, what: Happening)] = []
        var idle = [Bool](repeating: false, count: count)
        var uplinkFree = [Double](repeating: 0, count: count)
        var downlinkFree = uplinkFree
        var waitingForward = [Int](repeating: 0, count: count)
        var waitingBackward = waitingForward
        var waitingValidation = waitingForward
        var forwardsOfStep = waitingForward
        var backwardsOfStep = waitingForward
        var stepsDone = waitingForward
        var underWay = 0
        var lastBackwardOfStep = [Double?](repeating: nil, count: count)
        var outcome = Outcome(ends: starts, stepEnds: [])

        func send(_ kind: Kind, from: Int, to: Int, at now: Double) {
            let begin = max(now, uplinkFree[from])
            let end = begin + messageBytes / rate[from][to]
            uplinkFree[from] = end
            let frame = min(messageBytes, 16_384)
            future.append(
                (
                    begin + frame / rate[from][to] + latency[from][to],
                    .firstFrame(stage: to, kind, allThere: end + latency[from][to] + frame / down[to])
                ))
        }
        func beginWork(_ stage: Int, at now: Double) {
            guard idle[stage], stepsDone[stage] < steps else { return }
            var work: (Kind, Double)?
            if waitingBackward[stage] > 0 {
                waitingBackward[stage] -= 1
                work = (.backward, 2 * forward[stage])
            } else if waitingValidation[stage] > 0 {
                waitingValidation[stage] -= 1
                work = (.validation, forward[stage])
            } else if waitingForward[stage] > 0, forwardsOfStep[stage] < microBatches,
                stage > 0 || underWay < inFlight
            {
                waitingForward[stage] -= 1
                forwardsOfStep[stage] += 1
                if stage == 0 { underWay += 1 }
                work = (.forward, forward[stage])
            }
            guard let work else { return }
            idle[stage] = false
            future.append((now + work.1, .computed(stage: stage, work.0)))
        }
        func endBackwards(_ stage: Int, at now: Double) {
            lastBackwardOfStep[stage] = now
            guard updates else {
                stepsDone[stage] += 1
                if stage == 0 { outcome.stepEnds.append(now) }
                return
            }
            idle[stage] = false
            let all = lastBackwardOfStep.compactMap { $0 }
            guard all.count == count else { return }
            for other in 0..<count {
                var hears = all[other]
                for from in 0..<count where from != other { hears = max(hears, all[from] + latency[from][other]) }
                idle[other] = false
                future.append((hears + update[other], .updated(stage: other)))
                lastBackwardOfStep[other] = nil
            }
        }

        for stage in 0..<count { future.append((starts[stage], .ready(stage: stage))) }
        waitingForward[0] = microBatches * steps
        waitingValidation[0] = validations
        while !future.isEmpty {
            var next = 0
            for index in future.indices where future[index].time < future[next].time { next = index }
            let (now, what) = future.remove(at: next)
            switch what {
            case .ready(let stage):
                idle[stage] = true
                beginWork(stage, at: now)
            case .computed(let stage, let kind):
                idle[stage] = true
                switch kind {
                case .forward where stage == last: waitingBackward[stage] += 1
                case .forward, .validation: if stage < last { send(kind, from: stage, to: stage + 1, at: now) }
                case .backward:
                    outcome.ends[stage] = now
                    backwardsOfStep[stage] += 1
                    if stage > 0 { send(.backward, from: stage, to: stage - 1, at: now) } else { underWay -= 1 }
                    if backwardsOfStep[stage] == microBatches { endBackwards(stage, at: now) }
                }
                beginWork(stage, at: now)
            case .updated(let stage):
                idle[stage] = true
                outcome.ends[stage] = now
                stepsDone[stage] += 1
                forwardsOfStep[stage] = 0
                backwardsOfStep[stage] = 0
                if stage == 0 { outcome.stepEnds.append(now) }
                beginWork(stage, at: now)
            case .firstFrame(let stage, let kind, let allThere):
                let through = max(max(now, downlinkFree[stage]) + messageBytes / down[stage], allThere)
                downlinkFree[stage] = through
                future.append((through, .received(stage: stage, kind)))
            case .received(let stage, let kind):
                switch kind {
                case .forward: waitingForward[stage] += 1
                case .backward: waitingBackward[stage] += 1
                case .validation: waitingValidation[stage] += 1
                }
                beginWork(stage, at: now)
            }
        }
        return outcome
    }
}
