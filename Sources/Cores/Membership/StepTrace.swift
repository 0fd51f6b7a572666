package import Compute
package import Messages
package import Primitives

/// When the pieces of a stage's steps were computed: forwards and backwards of micro-batches, and the optimizer's step. Of the last few steps that are over.
package struct StepTrace: Sendable {
    package struct Span: Hashable, Sendable {
        package var kind: StepReport.Kind
        package var from: Instant
        package var to: Instant
        package init(kind: StepReport.Kind, from: Instant, to: Instant) {
            (self.kind, self.from, self.to) = (kind, from, to)
        }
    }
    package struct Step: Sendable {
        package var step: Int
        package var spans: [Span]
        package init(step: Int, spans: [Span]) { (self.step, self.spans) = (step, spans) }
    }
    /// What a job of the engine is to a step.
    package enum Mark: Hashable, Sendable {
        case piece(StepReport.Kind, step: Int)
        case update
        /// What was begun is given up.
        case reset
        /// - Returns: nil of what is no piece of a step.
        package init?(_ job: ComputeJob) {
            switch job {
            case .forward(let key, _): self = .piece(.forward, step: key.step)
            case .head(let key, _), .backward(let key, _): self = .piece(.backward, step: key.step)
            case .optimizerStep: self = .update
            case .configure: self = .reset
            default: return nil
            }
        }
    }
    /// The newest last.
    package private(set) var done: [Step] = []
    private var current: Step?
    private static let mostSteps = 4
    /// Of a step; one that has more is not kept.
    package static let mostSpans = StepReport.mostPieces

    package init() {}

    package mutating func note(_ job: ComputeJob, from: Instant, to: Instant) {
        if let mark = Mark(job) { note(mark, from: from, to: to) }
    }
    package mutating func note(_ mark: Mark, from: Instant, to: Instant) {
        switch mark {
        case .piece(let kind, let step): note(step, kind, from, to)
        case .update: if let current { note(current.step, .update, from, to) }
        case .reset: current = nil
        }
    }
    private mutating func note(_ step: Int, _ kind: StepReport.Kind, _ from: Instant, _ to: Instant) {
        if let current, current.step != step {
            // A step that is done anew has been begun only.
            if step > current.step, current.spans.count <= Self.mostSpans { done.append(current) }
            if done.count > Self.mostSteps { done.removeFirst() }
            self.current = nil
        }
        if current == nil { current = Step(step: step, spans: []) }
        if current!.spans.count <= Self.mostSpans { current!.spans.append(Span(kind: kind, from: from, to: to)) }
    }
    package func step(_ number: Int) -> Step? { done.last { $0.step == number } }
}

extension StepTrace.Step {
    /// For a leader who asked.
    package func report(at now: Instant) -> StepReport? {
        guard let begin = spans.map(\.from).min() else { return nil }
        return StepReport(
            step: step, age: now - begin,
            pieces: spans.map { StepReport.Piece(kind: $0.kind, from: $0.from - begin, to: $0.to - begin) })
    }
    /// - Parameter begin: of its first piece.
    package init(_ report: StepReport, since begin: Instant) {
        self.init(
            step: report.step,
            spans: report.pieces.map { StepTrace.Span(kind: $0.kind, from: begin + $0.from, to: begin + $0.to) })
    }
}

/// Of a member: the step of which its leader wants to know when it was computed. Nothing is noted while nobody asks.
package struct StepWish: Sendable {
    private var asked: Int?
    private var trace: StepTrace?
    /// As soon as it is over: many steps may pass before it is told.
    private var found: StepTrace.Step?

    package init() {}

    /// - Parameters:
    ///   - step: one to come; of one that has begun nothing is told.
    ///   - current: under way here.
    package mutating func wish(_ step: Int, current: Int) {
        guard step != asked else { return }
        asked = step
        found = nil
        trace = step > current ? StepTrace() : nil
    }
    package mutating func note(_ mark: StepTrace.Mark?, from: Instant, to: Instant) {
        guard trace != nil, let asked, let mark else { return }
        trace!.note(mark, from: from, to: to)
        guard let newest = trace!.done.last?.step, newest >= asked else { return }
        found = trace!.step(asked)
        trace = nil
    }
    /// Once, when it is over.
    package mutating func take(at now: Instant) -> StepReport? {
        defer { found = nil }
        return found?.report(at: now)
    }
}
