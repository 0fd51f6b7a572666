import Planning
import Primitives
import Record

/// The planner's questions and answers. One question is out at a time; what becomes known meanwhile is asked next.
package struct PlanningDesk: Sendable {
    package enum Purpose: Hashable, Sendable {
        case first
        /// For the next boundary.
        case better
        /// Nothing can go on: everybody returns to a round that can be had.
        case rollBack
    }
    private enum State: Sendable {
        case idle
        case asked(Purpose, reason: String, again: String?)
        case ready(PlanAnswer, reason: String)
    }
    private var state = State.idle
    /// Something is to be asked.
    package private(set) var wanted: (purpose: Purpose, reason: String)?
    /// Members that some question was about.
    package var planned: Set<PeerID> = []
    /// Of the plan in force: what is known of it now, and what was said when it was made. Whoever is shown a prediction is shown that, and nobody
    /// another one for the same plan.
    package private(set) var answer: PlanAnswer?
    package private(set) var answerWhenMade: PlanAnswer?
    /// What was predicted of each plan when it was made, from the first that was made here.
    private var predictions: [(epoch: Int, prediction: Prediction, innerSteps: Int)] = []
    /// Of the first plan, frozen before the first step.
    package private(set) var predictionAtStart: PlanAnswer?

    private var drift: (reason: String?, asked: (round: Int, at: Instant)?) = (nil, nil)
    package static let driftRounds = 8
    /// Rounds of some milliseconds say little about speed, and would have the job planned anew many times a second.
    package static let driftPause = Duration.seconds(5)

    package init() {}

    package var isAsking: Bool { if case .asked = state { true } else { false } }
    package var hasAnswer: Bool { if case .ready = state { true } else { false } }
    /// A plan with which to go back is on its way.
    package var isGoingBack: Bool {
        if case .asked(.rollBack, _, _) = state { return true }
        return wanted?.purpose == .rollBack
    }

    package mutating func want(_ purpose: Purpose, _ reason: String) {
        if case .asked(let asked, let before, _) = state {
            if purpose == .rollBack, asked != .rollBack {
                // What comes of the question that is out is no answer to this one.
                state = .asked(.rollBack, reason: reason, again: reason)
            } else if asked != .rollBack {
                state = .asked(asked, reason: before, again: reason)
            } else if purpose == .better {
                // The question to go back may have been put before this was known.
                wanted = wanted ?? (purpose, reason)
            }
            return
        }
        if case .ready = state, purpose == .rollBack { state = .idle }
        if wanted?.purpose == .rollBack || wanted?.purpose == .first, purpose == .better { return }
        wanted = (purpose, reason)
    }
    /// Speeds are others than planned. That is asked about once in ``driftRounds`` rounds, and not within ``driftPause``; what becomes known
    /// meanwhile waits for the next time.
    package mutating func wantForDrift(_ reason: String, round: Int, at now: Instant) {
        drift.reason = reason
        heedDrift(round: round, at: now)
    }
    /// Asks about what waited, when it is time.
    package mutating func heedDrift(round: Int, at now: Instant) {
        guard let reason = drift.reason else { return }
        if let before = drift.asked {
            if round >= before.round, round - before.round < Self.driftRounds { return }
            if now - before.at < Self.driftPause { return }
        }
        drift = (nil, (round, now))
        want(.better, reason)
    }
    /// The question that is to be asked now.
    package mutating func ask() -> (purpose: Purpose, reason: String)? {
        guard !isAsking, let question = wanted else { return nil }
        wanted = nil
        state = .asked(question.purpose, reason: question.reason, again: nil)
        return question
    }
    /// What an answer is for; nil when it has been overtaken, and is asked again.
    package mutating func answered() -> (purpose: Purpose, reason: String)? {
        guard case .asked(let purpose, let reason, let again) = state else { return nil }
        state = .idle
        if let again {
            wanted = (purpose == .first ? .better : purpose, again)
            return purpose == .first ? (purpose, reason) : nil
        }
        return (purpose, reason)
    }
    /// The question cannot be put.
    package mutating func refuse() { state = .idle }
    package mutating func keep(_ answer: PlanAnswer, reason: String) { state = .ready(answer, reason: reason) }
    /// The better plan, for the boundary that has come.
    package mutating func take() -> (answer: PlanAnswer, reason: String)? {
        guard case .ready(let answer, let reason) = state else { return nil }
        state = .idle
        return (answer, reason)
    }
    /// - Parameter epoch: of the plan that is made with it.
    package mutating func isInForce(_ answer: PlanAnswer, epoch: Int) {
        self.answer = answer
        answerWhenMade = answer
        predictions.append((epoch, answer.planned.prediction, answer.plan.innerSteps))
        if predictionAtStart == nil { predictionAtStart = answer }
    }
    /// The plan in force stays, and how long its rounds take is known better now.
    package mutating func isKnownBetter(_ answer: PlanAnswer) { self.answer = answer }
    /// What was predicted when a plan was made; of one with somebody else in a place, what was predicted of the one before. Nil of what others have made.
    package func prediction(ofPlan epoch: Int) -> (prediction: Prediction, innerSteps: Int)? {
        predictions.last { $0.epoch <= epoch }.map { ($0.prediction, $0.innerSteps) }
    }
    package mutating func drop() {
        if case .ready = state { state = .idle }
        wanted = nil
    }
}
