package import Compute
package import Primitives

/// When the pieces of a stage's steps were computed: forwards and backwards of micro-batches, and the optimizer's step. Of the last few steps that are over.
package struct StepTrace {
    package struct Span: Hashable, Sendable {
        package enum Kind: String, Sendable { case forward = "fw", backward = "bw", update = "uw" }
        package var kind: Kind
        package var from: Instant
        package var to: Instant
    }
    package struct Step {
        package var step: Int
        package var spans: [Span]
        package init(step: Int, spans: [Span]) { (self.step, self.spans) = (step, spans) }
    }
    /// The newest last.
    package private(set) var done: [Step] = []
    private var current: Step?
    private static let mostSteps = 4
    /// Of a step; one that has more is not kept.
    package static let mostSpans = 512

    package init() {}

    package mutating func note(_ job: ComputeJob, from: Instant, to: Instant) {
        switch job {
        case .forward(let key, _): note(key.step, .forward, from, to)
        case .head(let key, _), .backward(let key, _): note(key.step, .backward, from, to)
        case .optimizerStep: if let current { note(current.step, .update, from, to) }
        case .configure: current = nil
        default: break
        }
    }
    private mutating func note(_ step: Int, _ kind: Span.Kind, _ from: Instant, _ to: Instant) {
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
