/// What votes on whether a node can be reached come to.
///
/// A majority decides. One vote alone against a node that could be reached until then may be one datagram that was lost, or the voter's own trouble,
/// and has to be said twice: a bootstrap node that believed it would serve nobody any more, and carry nobody.
public struct ReachVerdict: Hashable, Sendable {
    /// The votes before said no.
    private var isDoubted = false

    public init() {}

    /// - Parameters:
    ///   - asked: votes, more than 0; `reached` of them came through.
    ///   - isReachable: what holds until now.
    /// - Returns: whether it can be reached; nil where that stays open, and what held holds.
    public mutating func heard(reached: Int, asked: Int, isReachable: Bool) -> Bool? {
        let isReached = reached * 2 > asked
        let isOpen = !isReached && asked == 1 && isReachable && !isDoubted
        isDoubted = !isReached
        return isOpen ? nil : isReached
    }
}
