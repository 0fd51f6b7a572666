/// What a text's tokens are read into when there are more than a context has room for: the first ones, as many as fit. When it is
/// full, reading goes on with the later half, so that what was said last is never lost.
public struct Continuation: Sendable {
    /// Tokens that fit.
    public let context: Int
    /// What the model sees, oldest first.
    public private(set) var seen: [UInt32] = []
    /// How many of ``seen`` were read since it began anew.
    public private(set) var read = 0

    public init(context: Int) {
        precondition(context > 1, "a context of \(context) tokens")
        self.context = context
    }

    /// Adds tokens.
    public mutating func append(_ tokens: some Sequence<UInt32>) { seen += tokens }

    /// What is to be read next, after forgetting everything if `restarts`. Empty when all is read.
    public mutating func next() -> (restarts: Bool, tokens: ArraySlice<UInt32>) {
        var restarts = false
        if seen.count > context {
            seen.removeFirst(seen.count - max(1, context / 2))
            read = 0
            restarts = true
        }
        defer { read = seen.count }
        return (restarts, seen[read...])
    }
}
