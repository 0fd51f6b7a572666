import Coordination
import JobFixtures
import Messages
import Primitives
import Testing

@Suite struct `When a step was computed` {
    private func places(_ steps: [Int], ranks: Int = 1) -> [StepWatch.Place] {
        steps.enumerated().map {
            StepWatch.Place(peer: Small.peer($0.offset + 1), rank: $0.offset % ranks, step: $0.element)
        }
    }
    private func report(_ step: Int, age: Duration = .seconds(1)) -> StepReport {
        StepReport(
            step: step, age: age,
            pieces: [
                .init(kind: .forward, from: .zero, to: .milliseconds(250)),
                .init(kind: .backward, from: .milliseconds(250), to: .milliseconds(750)),
            ])
    }
    private func at(_ seconds: Double) -> Instant { .zero + .milliseconds(Int64(seconds * 1000)) }

    @Test func `nobody is asked while nobody looks, and not any more soon after`() {
        var watch = StepWatch()
        #expect(watch.step(for: Small.peer(1), at: .zero) == nil)
        watch.look(places([7, 8]), at: at(1))
        #expect(watch.step(for: Small.peer(1), at: at(1)) == 10, "one to come, for all")
        #expect(watch.step(for: Small.peer(2), at: at(5.9)) == 10 && watch.step(for: Small.peer(3), at: at(1)) == nil)
        #expect(watch.step(for: Small.peer(1), at: at(6)) == nil)
        var nobody = StepWatch()
        nobody.look([], at: .zero)
        #expect(nobody.step(for: Small.peer(1), at: .zero) == nil && nobody.done == nil)
    }

    @Test func `is told by each once, since when it is by the clock here, and then another step is named`() throws {
        var watch = StepWatch()
        watch.look(places([0, 0]), at: .zero)
        let step = try #require(watch.step(for: Small.peer(1), at: .zero))
        watch.receive(report(step + 1), from: Small.peer(1), roundTrip: nil, at: at(1))
        watch.receive(report(step), from: Small.peer(9), roundTrip: nil, at: at(1))
        watch.receive(StepReport(step: step, age: .zero, pieces: []), from: Small.peer(1), roundTrip: nil, at: at(1))
        #expect(
            watch.step(for: Small.peer(1), at: at(1)) == step,
            "another step, a stranger, and nothing at all are no answers")
        watch.receive(report(step), from: Small.peer(1), roundTrip: .milliseconds(100), at: at(4))
        watch.receive(report(step, age: .zero), from: Small.peer(1), roundTrip: nil, at: at(4.5))
        #expect(watch.step(for: Small.peer(1), at: at(4)) == nil && watch.step(for: Small.peer(2), at: at(4)) == step)
        watch.look(places([step + 1, step]), at: at(5))
        #expect(watch.done == nil)
        watch.receive(report(step), from: Small.peer(2), roundTrip: nil, at: at(6))
        watch.look(places([step + 1, step + 1]), at: at(6))
        let done = try #require(watch.done)
        let told = Dictionary(uniqueKeysWithValues: done.told.map { ($0.peer, $0.begin) })
        #expect(done.number == step && told == [Small.peer(1): at(2.95), Small.peer(2): at(5)])
        watch.look(places([step + 1, step + 1]), at: at(7))
        let next = try #require(watch.step(for: Small.peer(2), at: at(7)))
        #expect(next > step + 1)
        #expect(watch.done?.number == step, "stays until the next is whole")
    }

    @Test func `faster steps are named longer before, as heartbeats and leases take their time`() throws {
        var watch = StepWatch()
        var named: Set<Int> = []
        for second in 0..<60 {
            // Twenty steps a second.
            watch.look(places([20 * second, 20 * second + 1]), at: at(Double(second)))
            if let step = watch.step(for: Small.peer(1), at: at(Double(second))), named.insert(step).inserted,
                named.count > 1
            {
                #expect(step >= 20 * second + 1 + 100, "a lease and a heartbeat away: \(step) at \(20 * second)")
            }
        }
        #expect(named.count > 4, "who says nothing holds nobody up: \(named.sorted())")
        #expect(watch.done == nil)
    }

    @Test func `whoever is silent is waited for until all are past it, and who leaves not at all`() throws {
        var watch = StepWatch()
        watch.look(places([0, 0]), at: .zero)
        let step = try #require(watch.step(for: Small.peer(1), at: .zero))
        watch.receive(report(step), from: Small.peer(1), roundTrip: nil, at: at(3))
        watch.look(places([step + 1, step]), at: at(3))
        watch.look(places([step + 9, step]), at: at(60))
        #expect(watch.done == nil)
        watch.look(places([step + 9, step + 1]), at: at(61))
        watch.look(places([step + 9, step + 1]), at: at(62))
        #expect(watch.done == nil, "its word may be on its way")
        watch.look(places([step + 9, step + 1]), at: at(64))
        #expect(watch.done?.told.map(\.peer) == [Small.peer(1)])
        // Another plan: who was asked is not there.
        watch.look(places([40, 40]), at: at(65))
        let next = try #require(watch.step(for: Small.peer(2), at: at(65)))
        watch.look(places([40]), at: at(66))
        #expect(watch.step(for: Small.peer(2), at: at(66)) == nil && watch.step(for: Small.peer(1), at: at(66)) != nil)
        // The job goes back: a step that was near is far away.
        watch.look(places([1]), at: at(67))
        let again = try #require(watch.step(for: Small.peer(1), at: at(67)))
        #expect(again < next && again > 1)
    }

    /// Steps of a hundredth of a second, and a planner that thinks again three times a second: the step was never over for those asked first.
    @Test func `a plan that changes all the time hides no step`() throws {
        var watch = StepWatch()
        var seen: Set<Int> = []
        for tick in 0..<200 {
            let now = at(Double(tick) / 5)
            let furthest = 20 * tick
            let here = tick % 3 == 0 ? places([furthest, furthest]) : places([furthest])
            watch.look(here, at: now)
            for number in 1...2 {
                guard let step = watch.step(for: Small.peer(number), at: now), furthest > step,
                    number == 1 || tick % 3 == 0
                else { continue }
                watch.receive(report(step), from: Small.peer(number), roundTrip: nil, at: now)
            }
            if let done = watch.done { seen.insert(done.number) }
        }
        #expect(seen.count >= 3, "\(seen.sorted())")
    }

    @Test func `of very many members so many are asked at a time, by whole pipelines, each in its turn`() {
        var watch = StepWatch()
        var asked: Set<Int> = []
        for turn in 0..<4 {
            let now = at(Double(turn) * 700)
            watch.look(places(Array(repeating: 0, count: 600), ranks: 150), at: now)
            let here = (1...600).filter { watch.step(for: Small.peer($0), at: now) != nil }
            #expect(!here.isEmpty && here.count <= StepWatch.mostAsked)
            for rank in 0..<150 {
                let members = (1...600).filter { ($0 - 1) % 150 == rank }
                #expect(Set(members.map { here.contains($0) }).count == 1)
            }
            asked.formUnion(here)
        }
        #expect(asked.count == 600)
    }
}
