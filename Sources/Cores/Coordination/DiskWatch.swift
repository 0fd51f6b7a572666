import Primitives

/// Entries that could not be stored, and when it is tried again.
package struct DiskWatch: Sendable {
    private var failedFrom: Int?
    private var pause = Duration.seconds(1)
    package private(set) var retryAt: Instant?
    private static let mostPause = Duration.seconds(10)

    package init() {}

    /// - Returns: whether that is news.
    package mutating func failed(_ index: Int, at now: Instant) -> Bool {
        let isNews = failedFrom == nil
        failedFrom = min(failedFrom ?? index, index)
        if retryAt == nil {
            retryAt = now + pause
            pause = min(pause * 2, Self.mostPause)
        }
        return isNews
    }
    /// - Returns: whether it had failed before.
    package mutating func recovered(through index: Int, at now: Instant) -> Bool {
        guard let first = failedFrom, index >= first else { return false }
        failedFrom = nil
        retryAt = nil
        pause = .seconds(1)
        return true
    }
    /// The first entry to store again, when it is time.
    package mutating func retry(at now: Instant) -> Int? {
        guard let due = retryAt, due <= now, let first = failedFrom else { return nil }
        retryAt = nil
        return first
    }
}
