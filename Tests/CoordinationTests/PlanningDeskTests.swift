import Coordination
import Planning
import Primitives
import Record
import Testing

@Suite struct `The desk for plans` {
    private static let answer = try? FakePool().coordinator.answer
    private func answer() throws -> PlanAnswer { try #require(Self.answer ?? nil) }

    @Test func `puts one question at a time, and the latest reason`() {
        var desk = PlanningDesk()
        let nothing = desk.ask()
        #expect(nothing == nil)
        desk.want(.better, "one")
        desk.want(.better, "two")
        let question = desk.ask()
        #expect(question?.reason == "two")
        #expect(desk.isAsking)
        let second = desk.ask()
        #expect(second == nil)
        let answer = desk.answered()
        #expect(answer?.purpose == .better)
        #expect(!desk.isAsking)
        let (more, another) = (desk.ask(), desk.answered())
        #expect(more == nil && another == nil)
    }

    @Test func `asks again when something became known meanwhile`() {
        var desk = PlanningDesk()
        desk.want(.better, "one")
        _ = desk.ask()
        desk.want(.better, "two")
        let overtaken = desk.answered()
        #expect(overtaken == nil)
        let (question, answer) = (desk.ask(), desk.answered())
        #expect(question?.reason == "two" && answer?.reason == "two")
    }

    @Test func `begins with the first plan all the same, and asks for a better one then`() {
        var desk = PlanningDesk()
        desk.want(.first, "begin")
        _ = desk.ask()
        desk.want(.better, "one more")
        let first = desk.answered()
        #expect(first?.purpose == .first)
        let next = desk.ask()
        #expect(next?.purpose == .better && next?.reason == "one more")
    }

    @Test func `keeps a better plan for one boundary`() throws {
        var desk = PlanningDesk()
        desk.keep(try answer(), reason: "one")
        #expect(desk.hasAnswer)
        let (taken, again) = (desk.take(), desk.take())
        #expect(taken?.reason == "one" && again == nil && !desk.hasAnswer)
        desk.keep(try answer(), reason: "two")
        desk.want(.better, "three")
        desk.drop()
        let question = desk.ask()
        #expect(!desk.hasAnswer && question == nil)
    }

    @Test func `asks about drifting speeds once in some rounds, and then about the latest`() {
        var desk = PlanningDesk()
        var asked: [Int: String] = [:]
        func at(_ round: Int) -> Instant { Instant.zero + Duration.seconds(1) * round }
        for round in 0..<40 {
            desk.heedDrift(round: round, at: at(round))
            if round < 30 { desk.wantForDrift("speed of round \(round)", round: round, at: at(round)) }
            while let question = desk.ask() {
                asked[round] = question.reason
                _ = desk.answered()
            }
        }
        #expect(asked.keys.sorted() == [0, 8, 16, 24, 32])
        #expect(asked[16] == "speed of round 15" && asked[32] == "speed of round 29")
        // A loss waits for nothing, and going back begins anew.
        desk.want(.better, "somebody left")
        let question = desk.ask()
        #expect(question?.reason == "somebody left")
        _ = desk.answered()
        desk.wantForDrift("after going back", round: 3, at: at(40))
        let again = desk.ask()
        #expect(again?.reason == "after going back")
    }

    @Test func `asks about speeds no sooner than seconds later, however short rounds are`() {
        var desk = PlanningDesk()
        var asked: [Int] = []
        for round in 0..<1200 {
            let now = Instant.zero + Duration.milliseconds(10) * round
            desk.heedDrift(round: round, at: now)
            desk.wantForDrift("speed of round \(round)", round: round, at: now)
            while desk.ask() != nil {
                asked.append(round)
                _ = desk.answered()
            }
        }
        #expect(asked == [0, 500, 1000])
    }

    @Test func `has the first prediction for good`() throws {
        var desk = PlanningDesk()
        var other = try answer()
        other.plan.innerSteps += 1
        desk.isInForce(try answer(), epoch: 1)
        desk.isInForce(other, epoch: 2)
        #expect(desk.answer?.plan.innerSteps == other.plan.innerSteps)
        #expect(try desk.predictionAtStart?.plan.innerSteps == answer().plan.innerSteps)
    }

    /// Whoever looks at a plan twice reads one number, whatever has been measured meanwhile.
    @Test func `says of each plan what was predicted when it was made`() throws {
        var desk = PlanningDesk()
        #expect(desk.prediction(ofPlan: 1) == nil)
        func other(_ seconds: Double) throws -> PlanAnswer {
            var answer = try answer()
            answer.planned.prediction.roundSeconds = seconds
            return answer
        }
        desk.isInForce(try other(1), epoch: 1)
        desk.isKnownBetter(try other(7))
        #expect(desk.answer?.roundSeconds == 7 && desk.answerWhenMade?.roundSeconds == 1)
        // Somebody took a place: that is plan 2. The next one is made anew.
        desk.isInForce(try other(3), epoch: 3)
        #expect((1...4).map { desk.prediction(ofPlan: $0)?.prediction.roundSeconds } == [1, 1, 3, 3])
    }

    /// Any order of wishes and answers: one question at a time; while everybody is to go back no other plan comes through; and in the
    /// end every wish was followed by a question that could know of it.
    @Test(arguments: 0..<40 as Range<UInt64>)
    func `loses no wish, and lets nothing overtake going back`(seed: UInt64) throws {
        let answer = try answer()
        var generator = SeededGenerator(seed: seed, stream: 31)
        var desk = PlanningDesk()
        var asked: PlanningDesk.Purpose?
        /// Wishes that no question put so far could know of.
        var isOpen = false
        var mustGoBack = false
        func put() {
            guard let question = desk.ask() else { return }
            #expect(asked == nil)
            asked = question.purpose
            isOpen = false
        }
        func hear() {
            let was = asked
            asked = nil
            guard let (purpose, _) = desk.answered() else { return }
            #expect(was != nil)
            if mustGoBack { #expect(purpose == .rollBack) }
            switch purpose {
            case .rollBack: mustGoBack = false
            case .better: desk.keep(answer, reason: "")
            case .first: break
            }
        }
        desk.want(.first, "")
        isOpen = true
        for _ in 0..<400 {
            switch generator.below(8) {
            case 0, 1:
                desk.want(.better, "")
                isOpen = true
            case 2:
                desk.want(.rollBack, "")
                // A question to go back that is out answers this one, too.
                if asked != .rollBack || !mustGoBack { isOpen = true }
                mustGoBack = true
            case 3, 4: put()
            case 5, 6: if asked != nil { hear() }
            default: if desk.take() != nil { #expect(!mustGoBack) }
            }
            #expect(desk.isAsking == (asked != nil))
        }
        for _ in 0..<10 {
            put()
            if asked != nil { hear() }
        }
        let left = desk.ask()
        #expect(!isOpen && !mustGoBack && asked == nil && left == nil)
    }
}
