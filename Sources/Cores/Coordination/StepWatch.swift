public import Messages
public import Primitives

/// When members computed the pieces of one step, for whoever watches: nothing is decided by it, and nobody is asked while nobody looks.
///
/// A step is named a while before it begins (``Lease/tracedStep``), so that all who take part in it can note it; each tells it with a heartbeat, as old
/// as it is by its own clock. When all have told it, or it is over for all, it is ``done``, and the next one is named.
public struct StepWatch: Sendable {
    public struct Told: Sendable {
        public var peer: PeerID
        /// Of its first piece, by the clock here: as exact as the way there and back is even.
        public var begin: Instant
        public var report: StepReport
    }
    /// Of as many members as can be asked at once.
    public struct Step: Sendable {
        public var number: Int
        public var told: [Told]
    }
    private struct Wish: Sendable {
        var step: Int
        /// Which pipelines are asked: those whose rank leaves this much when it is divided by so many.
        var share: (of: Int, turn: Int)
        /// Who takes part now and is asked. A plan may change before the step comes: who is new is asked, too, and who left is not waited for.
        var asked: [PeerID]
        /// Who has been asked at any time: a word of theirs counts, wherever they are by now.
        var everAsked: Set<PeerID> = []
        var told: [PeerID: Told] = [:]
        let since: Instant
        /// Since when all are past it: the last word is on its way.
        var passed: Instant?

        mutating func ask(_ places: [Place]) {
            asked = places.filter { $0.rank % share.of == share.turn }.prefix(mostAsked).map(\.peer)
            everAsked.formUnion(asked)
        }
    }
    /// A member as far as it has said.
    package struct Place: Sendable {
        package var peer: PeerID
        package var rank: Int
        package var step: Int
        package init(peer: PeerID, rank: Int, step: Int) { (self.peer, self.rank, self.step) = (peer, rank, step) }
    }
    /// The newest that is whole, or as whole as it gets.
    public private(set) var done: Step?
    private var wish: Wish?
    private var lookedAt: Instant?
    private var pace: (step: Int, at: Instant)?
    private var turn = 0
    /// More members are asked in turn, by whole pipelines: of a step at most 512 pieces each are kept.
    package static let mostAsked = 256
    /// Nobody is asked so long after somebody looked.
    package static let patience = Duration.seconds(5)
    /// A step is named so long before it begins: a lease goes every two seconds, and what members say of themselves is a second old.
    private static let notice = 5.0
    private static let longest = Duration.seconds(600)

    package init() {}

    /// Somebody looks. To be said again once in a while.
    package mutating func look(_ places: [Place], at now: Instant) {
        lookedAt = now
        guard let furthest = places.map(\.step).max(), let last = places.map(\.step).min() else { return wish = nil }
        wish?.ask(places)
        if let open = wish {
            if open.passed == nil, last > open.step { wish!.passed = now }
            let isWhole = !open.told.isEmpty && open.asked.allSatisfy { open.told[$0] != nil }
            let isOver = wish!.passed.map { now - $0 >= .seconds(3) } ?? false
            if isWhole || isOver { return close() }
            // The job went back, or a step takes very long.
            if now - open.since < Self.longest, furthest + 2 * ahead(furthest, at: now) + 2 >= open.step { return }
            wish = nil
        }
        name(furthest + ahead(furthest, at: now), of: places, at: now)
    }
    private mutating func close() {
        let told = wish!.told.values.sorted { $0.peer < $1.peer }
        if !told.isEmpty { done = Step(number: wish!.step, told: told) }
        wish = nil
    }
    /// So many steps begin before everybody can have heard of one.
    private mutating func ahead(_ furthest: Int, at now: Instant) -> Int {
        guard let before = pace, now > before.at, furthest >= before.step else {
            pace = (furthest, now)
            return 2
        }
        let rate = Double(furthest - before.step) / (now - before.at).inSeconds
        if (now - before.at) > .seconds(20) { pace = (furthest, now) }
        return 2 + Int(min(1e6, rate * Self.notice))
    }
    private mutating func name(_ step: Int, of places: [Place], at now: Instant) {
        let every = (places.count + Self.mostAsked - 1) / Self.mostAsked
        turn += 1
        wish = Wish(step: step, share: (every, turn % every), asked: [], since: now)
        wish!.ask(places)
    }

    /// For its next lease.
    package func step(for peer: PeerID, at now: Instant) -> Int? {
        guard let wish, let lookedAt, now - lookedAt < Self.patience, wish.told[peer] == nil, wish.asked.contains(peer)
        else { return nil }
        return wish.step
    }
    /// - Parameter roundTrip: of the connection; it was said half of it ago.
    package mutating func receive(_ report: StepReport, from peer: PeerID, roundTrip: Duration?, at now: Instant) {
        guard let open = wish, open.step == report.step, open.everAsked.contains(peer), open.told[peer] == nil,
            !report.pieces.isEmpty
        else { return }
        wish!.told[peer] = Told(peer: peer, begin: now - report.age - (roundTrip ?? .zero) / 2, report: report)
    }
}
