/// Chunks for one member that travel in one message.
public struct PartBundle<Destination: Hashable & Sendable>: Hashable, Sendable {
    public struct Chunk: Hashable, Sendable {
        public var unit: Int
        public var chunk: Int
        public var bytes: [UInt8]
        public init(unit: Int, chunk: Int, bytes: [UInt8]) {
            self.unit = unit
            self.chunk = chunk
            self.bytes = bytes
        }
    }
    public let destination: Destination
    /// Sums of an owner, else contributions.
    public let isAggregate: Bool
    public private(set) var chunks: [Chunk] = []
    public private(set) var bytes = 0

    public init(to destination: Destination, isAggregate: Bool, chunks: [Chunk] = []) {
        self.destination = destination
        self.isAggregate = isAggregate
        for chunk in chunks { add(chunk) }
    }

    public mutating func add(_ chunk: Chunk) {
        chunks.append(chunk)
        bytes += chunk.bytes.count
    }
    public var isFull: Bool { bytes >= PartBundling.bytesWanted || chunks.count >= PartBundling.chunkLimit }
}

/// How chunks are put together.
public enum PartBundling {
    /// A message is sent when it has this many bytes: small beside a line's second, large beside its head.
    public static let bytesWanted = 32_768
    /// More chunks than this in one message are refused.
    public static let chunkLimit = 4096
}

/// Collects what an exchange sends until a message is full; the rest goes when there is nothing more to send.
public struct PartBundler<Destination: Hashable & Sendable>: Sendable {
    private var open: [PartBundle<Destination>] = []
    public init() {}

    /// - Returns: a message that is full now.
    public mutating func add(
        _ chunk: PartBundle<Destination>.Chunk, to destination: Destination, isAggregate: Bool
    ) -> PartBundle<Destination>? {
        let known = open.firstIndex { $0.destination == destination && $0.isAggregate == isAggregate }
        if known == nil { open.append(PartBundle(to: destination, isAggregate: isAggregate)) }
        let index = known ?? open.count - 1
        open[index].add(chunk)
        return open[index].isFull ? open.remove(at: index) : nil
    }
    /// What is left, in the order in which it was begun.
    public mutating func rest() -> [PartBundle<Destination>] {
        defer { open = [] }
        return open
    }
}
