import Messages
public import Primitives
public import Wire

/// Contents at hand that others may ask for, chunk by chunk. Answers are slices; nothing is copied before somebody asks.
public struct ContentShelf: Sendable {
    private struct Item: Sendable {
        var index: ContentIndex
        /// One after the other; none is copied to lie beside the one before.
        var parts: [StoredBytes]
        /// Dropped when nobody asked for so long; nil: stays until it is taken off.
        var keep: Duration?
        var lastAsked: Instant
    }
    private var items: [Digest256: Item] = [:]
    public init() {}

    public func holds(_ id: Digest256) -> Bool { items[id] != nil }
    /// Chunks of a content; 0 where it is not here.
    public func chunks(of id: Digest256) -> Int { items[id]?.index.count ?? 0 }
    public var bytes: Int { items.values.reduce(0) { $0 + $1.index.bytes } }

    /// - Parameter keep: for so long after it was last asked for.
    @discardableResult
    public mutating func put(_ bytes: [UInt8], keep: Duration? = nil, at now: Instant) -> Digest256 {
        put([StoredBytes(bytes)], ContentIndex(of: bytes), keep: keep, at: now)
    }
    /// Nil where a store does not give them.
    public mutating func put(_ bytes: StoredBytes, at now: Instant) -> Digest256? {
        ContentIndex(of: bytes).map { put([bytes], $0, at: now) }
    }
    /// Of parts that follow each other, and their index.
    @discardableResult
    public mutating func put(
        _ parts: [StoredBytes], _ index: ContentIndex, keep: Duration? = nil, at now: Instant
    ) -> Digest256 {
        items[index.id] = Item(index: index, parts: parts, keep: keep, lastAsked: now)
        return index.id
    }
    public mutating func remove(_ id: Digest256) { items[id] = nil }
    public mutating func removeAll() { items = [:] }

    /// The answer to a request; nil where the content is not here, or cannot be read any more.
    public mutating func answer(indexOf id: Digest256, from first: Int, at now: Instant) -> IndexPart? {
        guard let item = items[id], first <= item.index.count else { return nil }
        items[id]!.lastAsked = now
        return IndexPart(
            content: id, first: first, total: item.index.count,
            entries: item.index.encoded(from: first, most: IndexPart.most))
    }
    public mutating func answer(chunk number: Int, of id: Digest256, at now: Instant) -> [UInt8]? {
        guard let item = items[id], number < item.index.count else { return nil }
        items[id]!.lastAsked = now
        guard let bytes = ContentIndex.bytes(item.index.range(number), ofParts: item.parts) else { return nil }
        // A file may have been changed since; whoever hands on what is not right is not asked again.
        return item.parts.allSatisfy { $0.inMemory != nil } || item.index.holds(bytes, chunk: number) ? bytes : nil
    }

    /// Takes off what nobody asks for any more.
    public mutating func wake(at now: Instant) {
        items = items.filter { item in item.value.keep.map { item.value.lastAsked + $0 > now } ?? true }
    }
    public var nextWake: Instant? {
        items.values.compactMap { item in item.keep.map { item.lastAsked + $0 } }.min()
    }
}
