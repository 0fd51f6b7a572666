import Planning
import Primitives
import Testing

/// Which codec a link asks for, and the sentence that says why.
struct CodecChoiceTests {
    static func choose(
        megabits: Double, parameters: Int = 100_000_000, pipelines: Int = 4, innerSteps: Int = 10, steps: Int = 100_000,
        seconds: Double = 1, budget: Double = 0.2
    ) -> CodecChoice {
        CodecChoice.choose(
            CodecChoice.Situation(
                up: .megabits(megabits), down: .megabits(4 * megabits), parameters: parameters,
                pipelines: pipelines, innerSteps: innerSteps, steps: steps, computeSeconds: seconds,
                qualityBudget: budget))
    }

    @Test func `a slow link takes fewer bits, a fast one none off`() {
        let bits = [1.0, 20, 1000, 1e9].map { Self.choose(megabits: $0).codec.bitsPerValue }
        #expect(bits == bits.sorted() && bits[0] < 1 && bits[3] == 32)
    }

    @Test func `one pipeline exchanges nothing`() {
        #expect(Self.choose(megabits: 1, pipelines: 1).codec == .fp32)
    }

    @Test func `short runs and single steps do without sparse codecs`() {
        #expect(!Self.choose(megabits: 1, steps: 100).codec.isSparse)
        #expect(!Self.choose(megabits: 1, innerSteps: 1).codec.isSparse)
    }

    @Test func `the budget is kept, or broken as little as can be`() {
        #expect(Self.choose(megabits: 1, innerSteps: 1, budget: 0.0005).codec.isLossless)
        let none = Self.choose(megabits: 1, budget: 0)
        #expect(none.codec == .fp32 && none.reason.contains("more than allowed"))
    }

    @Test func `the reason names the codec, the time and the loss`() {
        let choice = Self.choose(megabits: 20)
        #expect(choice.reason.hasPrefix("Exchange in \(choice.codec): a round takes "))
        #expect(choice.reason.contains("in fp32") && choice.reason.contains("% more loss"))
    }

    @Test func `the choice depends on nothing else`() {
        #expect(Self.choose(megabits: 20) == Self.choose(megabits: 20))
    }
}
