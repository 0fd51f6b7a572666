import Primitives

/// Entries that could not be stored, and when it is tried again.
package struct DiskWatch: Sendable {
    private var failedFrom: Int?
    /// It has been said that something could not be stored.
    private var isTold = false
    private var pause = Duration.seconds(1)
    package private(set) var retryAt: Instant?
    private static let mostPause = Duration.seconds(10)

    package init() {}

    /// - Returns: whether that is news.
    package mutating func failed(_ index: Int, at now: Instant) -> Bool {
        defer { isTold = true }
        waits(index, at: now)
        return !isTold
    }
    /// It could not be stored yet, and nothing is wrong.
    package mutating func waits(_ index: Int, at now: Instant) {
        failedFrom = min(failedFrom ?? index, index)
        if retryAt == nil {
            retryAt = now + pause
            pause = min(pause * 2, Self.mostPause)
        }
    }
    /// - Returns: whether it had been said to fail.
    package mutating func recovered(through index: Int, at now: Instant) -> Bool {
        guard let first = failedFrom, index >= first else { return false }
        defer { isTold = false }
        failedFrom = nil
        retryAt = nil
        pause = .seconds(1)
        return isTold
    }
    /// The disk takes something else again: it is tried at once.
    package mutating func hurry(at now: Instant) {
        guard let due = retryAt else { return }
        retryAt = min(due, now)
        pause = .seconds(1)
    }
    /// The first entry to store again, together with something else; nil where none failed.
    package mutating func takeUp() -> Int? {
        if failedFrom != nil { retryAt = nil }
        return failedFrom
    }
    /// The first entry to store again, when it is time.
    package mutating func retry(at now: Instant) -> Int? {
        guard let due = retryAt, due <= now, let first = failedFrom else { return nil }
        retryAt = nil
        return first
    }
}
