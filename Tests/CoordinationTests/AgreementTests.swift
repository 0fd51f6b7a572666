import Coordination
import Digests
import JobFixtures
import Messages
import Primitives
import Record
import Testing

/// Three pipelines of one stage each: every unit has three holders, who may say one of two things, or nothing.
@Suite struct `What holders agree on` {
    private enum Word: CaseIterable {
        case one, other
        /// It is present, and has not spoken.
        case silent
        /// It is not expected to speak: gone, or fetching.
        case gone
    }
    private func sealed(_ rounds: Int = 1) throws -> Script {
        var script = try Script()
        try script.join([1, 2, 3])
        try script.plan(Small.plan([[1], [2], [3]]))
        for _ in 0..<rounds { try script.seal([0, 1, 2]) }
        return script
    }
    private func roots(_ unit: Int, _ tag: UInt8) -> UnitRoots {
        UnitRoots(unit: unit, parameters: sha256([tag, UInt8(unit)]), outerMomentum: nil)
    }
    private func applied(_ tag: UInt8, round: Int = 0) -> Applied {
        Applied(round: round, units: Small.model.allUnits.map { roots($0, tag) }, compute: .zero, squares: nil)
    }

    /// All 64 cases, in every order of arrival: the naive count of votes.
    @Test func `is what more than half of those say who are to speak`() throws {
        let script = try sealed()
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        for first in Word.allCases {
            for second in Word.allCases {
                for third in Word.allCases {
                    let words = [first, second, third]
                    let spoken = words.filter { $0 == .one || $0 == .other }.count
                    let expected = spoken + words.count { $0 == .silent }
                    let votes = [Word.one, .other].map { word in words.count { $0 == word } }
                    let wins = votes.firstIndex { 2 * $0 > expected && $0 > 0 }
                    for order in orders {
                        var agreement = Agreement()
                        var found: [Agreement.Finding] = []
                        for place in order {
                            let (peer, word) = (Small.peer(place + 1), words[place])
                            if word == .one { agreement.receive(applied(1), from: peer, state: script.state) }
                            if word == .other { agreement.receive(applied(2), from: peer, state: script.state) }
                        }
                        found = agreement.findings(script.state) { peer, _ in
                            (0..<3).contains { Small.peer($0 + 1) == peer && words[$0] != .gone }
                        }
                        if let wins {
                            let units = Small.model.allUnits.map { roots($0, UInt8(wins + 1)) }
                            #expect(found == [.agreed(States(round: 1, units: units))], "\(words)")
                        } else if spoken == expected, votes[0] > 0, votes[1] > 0 {
                            #expect(found.count == 4, "\(words)")
                            #expect(found.allSatisfy { if case .disputed(_, 0, _) = $0 { true } else { false } })
                            #expect(agreement.isDisputed(1))
                        } else {
                            #expect(found == [], "\(words)")
                        }
                    }
                }
            }
        }
    }

    @Test func `names whoever differs from it, once, and expels nobody on a tie`() throws {
        var script = try sealed()
        var agreement = Agreement()
        for number in [1, 2] { agreement.receive(applied(1), from: Small.peer(number), state: script.state) }
        let found = agreement.findings(script.state) { _, _ in true }
        guard case .agreed(let states)? = found.first, found.count == 1 else {
            Issue.record("\(found)")
            return
        }
        try script.append(.states(states))
        agreement.receive(applied(2), from: Small.peer(3), state: script.state)
        let late = agreement.findings(script.state) { _, _ in true }
        #expect(late == [.differs(Small.peer(3), unit: 0, round: 0)])
        #expect(agreement.findings(script.state) { _, _ in true } == [])
    }

    @Test func `counts a holder's first word, and of its own units only`() throws {
        var script = try Script()
        try script.join([1, 2, 3])
        try script.plan(Small.plan([[1, 2], [3]]))
        try script.seal([0, 1])
        var agreement = Agreement()
        // It holds the first two units.
        agreement.receive(applied(1), from: Small.peer(1), state: script.state)
        agreement.receive(applied(2), from: Small.peer(1), state: script.state)
        agreement.receive(applied(1), from: Small.peer(9), state: script.state)
        agreement.receive(applied(1), from: Small.peer(3), state: script.state)
        #expect(agreement.findings(script.state) { _, _ in true } == [])
        agreement.receive(applied(1), from: Small.peer(2), state: script.state)
        let found = agreement.findings(script.state) { _, _ in true }
        #expect(found == [.agreed(States(round: 1, units: Small.model.allUnits.map { roots($0, 1) }))])
    }

    @Test func `is not asked about rounds that are not sealed, or long past, or void`() throws {
        var script = try sealed(6)
        var agreement = Agreement()
        for round in [-1, 0, 1, 2, 6, 7, .max] {
            for number in 1...3 {
                agreement.receive(applied(1, round: round), from: Small.peer(number), state: script.state)
            }
        }
        #expect(agreement.findings(script.state) { _, _ in true } == [])
        for number in 1...2 {
            agreement.receive(applied(1, round: 5), from: Small.peer(number), state: script.state)
        }
        try script.rollBack(Small.plan([[1], [2], [3]], round: 3, attempts: [1, 1, 1]))
        agreement.forgetAll()
        #expect(agreement.findings(script.state) { _, _ in true } == [])
        #expect(!agreement.isDisputed(6))
    }
}
