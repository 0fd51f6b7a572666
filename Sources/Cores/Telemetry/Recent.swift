/// The last elements of a series, oldest first, and how many went before them: memory stays bounded however long it gets.
public struct Recent<Element> {
    public private(set) var items: [Element] = []
    /// Elements that were let go.
    public private(set) var leftOut = 0
    /// So many are kept at least, and at most 63 more.
    public let limit: Int

    public init(limit: Int) {
        precondition(limit > 0, "a series of \(limit) elements")
        self.limit = limit
    }
    /// All that ever came.
    public var count: Int { items.count + leftOut }
    public var last: Element? { items.last }

    public mutating func append(_ element: Element) {
        items.append(element)
        // In bulk: removing one at the front moves all others.
        guard items.count > limit, items.count - limit >= min(limit, 64) else { return }
        leftOut += items.count - limit
        items.removeFirst(items.count - limit)
    }
    /// Changes elements in place, newest first, until the body says that it is done.
    mutating func change(_ body: (inout Element) -> Bool) {
        for index in items.indices.reversed() where !body(&items[index]) { return }
    }
}
extension Recent: Sendable where Element: Sendable {}
extension Recent: Equatable where Element: Equatable {}
extension Recent: Hashable where Element: Hashable {}

/// A whole series in at most `limit` points: when they are full, every other one is let go, and from then on only every second,
/// fourth, … value is kept. For a curve of a run of any length.
public struct Thinned: Hashable, Sendable {
    public private(set) var points: [Double] = []
    /// A point stands for so many values.
    public private(set) var stride = 1
    /// All that ever came.
    public private(set) var count = 0
    public let limit: Int

    public init(limit: Int = 64) {
        precondition(limit > 1, "a curve of \(limit) points")
        self.limit = limit
    }
    public mutating func append(_ value: Double) {
        defer { count += 1 }
        guard count % stride == 0 else { return }
        if points.count == limit {
            points = points.indices.filter { $0 % 2 == 0 }.map { points[$0] }
            stride *= 2
            guard count % stride == 0 else { return }
        }
        points.append(value)
    }
}
