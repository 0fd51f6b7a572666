/// How a planning spreads over cores: a driver lends its pool, the core decides what is done. Parts depend on nothing that
/// another writes and their results are taken in order, so that the plan is the same on any number of cores.
public struct Parallel: Sendable {
    private let run: @Sendable (Int, @escaping @Sendable (Int) -> Void) -> Void

    /// - Parameter run: calls the body once with each of 0..<count, in any order and at any time, and returns when all are
    ///   done: `DispatchQueue.concurrentPerform` is one.
    public init(_ run: @escaping @Sendable (Int, @escaping @Sendable (Int) -> Void) -> Void) {
        self.run = run
    }
    /// One after the other on the caller's thread.
    public static let serial = Parallel { count, body in for index in 0..<count { body(index) } }

    /// The results of 0..<count, in order.
    package func map<Result: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) -> Result) -> [Result] {
        if count == 0 { return [] }
        let results = UnsafeMutablePointer<Result?>.allocate(capacity: count)
        results.initialize(repeating: nil, count: count)
        defer {
            results.deinitialize(count: count)
            results.deallocate()
        }
        // Each part writes its own place.
        nonisolated(unsafe) let places = results
        run(count) { places[$0] = body($0) }
        return (0..<count).map { index in
            guard let result = results[index] else { preconditionFailure("part \(index) of \(count) was not run") }
            return result
        }
    }
}
