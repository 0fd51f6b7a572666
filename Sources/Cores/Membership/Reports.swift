import Messages
import Primitives

/// What a leader needs of the round in progress, and has been told: a newer one, or one that was away, is told again.
package struct Reports: Sendable {
    private enum Kind: Hashable {
        case receipt
        case held(rank: Int)
        case gathered
        case objection(WorkKey)
        case setback
        case applied
    }
    private struct Said: Sendable {
        var kind: Kind
        var round: Int
        var message: Message
    }
    private var said: [Said] = []

    package init() {}

    /// - Parameter round: that it is about.
    package mutating func keep(_ message: Message, round: Int) {
        let kind: Kind
        switch message {
        case .receipt: kind = .receipt
        case .held(let held): kind = .held(rank: held.work.rank)
        case .gathered: kind = .gathered
        case .objection(let objection): kind = .objection(objection.work)
        case .setback: kind = .setback
        case .applied: kind = .applied
        default: return
        }
        said.removeAll { $0.kind == kind }
        said.append(Said(kind: kind, round: round, message: message))
    }

    /// What is over is not said again; what came of the last round is.
    package mutating func forget(before round: Int) {
        guard said.contains(where: { isOver($0, at: round) }) else { return }
        said = said.filter { !isOver($0, at: round) }
    }
    private func isOver(_ said: Said, at round: Int) -> Bool {
        said.kind == .applied ? said.round + 1 != round : said.round != round
    }
    /// In the order in which it was said.
    package var all: [Message] { said.map(\.message) }
}

/// Complaints about one kind of thing: all are counted, one in a while is said.
package struct Complaints: Sendable {
    package private(set) var count = 0
    private var quietUntil = Instant(nanoseconds: .min)
    package static let every = Duration.seconds(10)

    /// - Returns: whether it is to be said.
    package mutating func note(at now: Instant) -> Bool {
        count += 1
        guard quietUntil <= now else { return false }
        quietUntil = now + Self.every
        return true
    }
}
