/// What a member has sent for the job, from its heartbeats, which count from the beginning of its process: what was sent before the job, or
/// between two stays in it, is no part of that.
struct SentForJob: Sendable {
    /// In stays that are over, and under processes before.
    private var before = 0
    /// Of the stay in progress: what was said first, and last; nil before anything was said.
    private var counts: (first: Int, last: Int)?

    mutating func says(_ count: Int) {
        guard let known = counts else { return counts = (count, count) }
        if count >= known.last { return counts!.last = count }
        // Another process.
        end()
        counts = (0, count)
    }
    /// A stay is over, or another one begins.
    mutating func end() {
        before = total
        counts = nil
    }
    var total: Int { Self.sum(before, counts.map { $0.last - $0.first } ?? 0) }
    /// What one member says fits; what many say, again and again, may not.
    static func sum(_ a: Int, _ b: Int) -> Int {
        let (sum, overflows) = a.addingReportingOverflow(b)
        return overflows ? .max : sum
    }
}
