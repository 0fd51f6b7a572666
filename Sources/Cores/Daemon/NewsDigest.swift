import Primitives

/// Says of many like occurrences only some: the first at once, then at most one in ten seconds, with how many there were.
/// Others decide how often they happen, and each event is kept by somebody.
struct NewsDigest<Kind: Hashable & Sendable>: Sendable {
    private struct Tally {
        var saidAt: Instant
        var unsaid = 0
    }
    private var tallies: [Kind: Tally] = [:]
    private static var interval: Duration { .seconds(10) }
    /// More kinds than these are said together with the others of their time, as nobody's.
    private static var kindsMax: Int { 256 }

    /// - Returns: how many occurrences an event about this one stands for; nil when nothing is to be said now.
    mutating func note(_ kind: Kind, at now: Instant) -> Int? {
        if var tally = tallies[kind] {
            tally.unsaid += 1
            defer { tallies[kind] = tally }
            guard now - tally.saidAt >= Self.interval else { return nil }
            defer { tally = Tally(saidAt: now) }
            return tally.unsaid
        }
        if tallies.count >= Self.kindsMax {
            tallies = tallies.filter { now - $0.value.saidAt < Self.interval }
            guard tallies.count < Self.kindsMax else { return nil }
        }
        tallies[kind] = Tally(saidAt: now)
        return 1
    }
}
