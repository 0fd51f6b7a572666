/// Where many bytes are put down that would be too many for memory: a file that is open.
public protocol ByteStore: AnyObject, Sendable {
    /// Fills a target with the bytes from an offset on; false where they cannot be had.
    func fill(_ offset: Int, _ target: UnsafeMutableRawBufferPointer) -> Bool
    /// False where they could not be put down.
    func put(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool
    /// Bytes within a range where they lie, for as long as the store is held and nothing is put there any more; nil where that cannot be. A disk that fails
    /// under them ends the process.
    func map(_ range: Range<Int>) -> UnsafeRawBufferPointer?
}
extension ByteStore {
    public func map(_ range: Range<Int>) -> UnsafeRawBufferPointer? { nil }
}

/// Gives stores to whoever has many bytes to put down for a time. What is in a store is gone when nobody holds it any more.
/// An object: with a value of any kind in it a core could not be looked at without being copied.
public protocol ByteRoom: AnyObject, Sendable {
    /// A store with room for so many bytes; nil where there is none, or where so few may as well stay in memory.
    func store(_ bytes: Int) -> (any ByteStore)?
    /// For what is to be somewhere, once, and is read where it lies: in memory where there is no other room.
    func place(_ bytes: Int) -> (any ByteStore)?
    /// What lives for a step only is put down where it has so many bytes.
    var leastContribution: Int { get }
}
extension ByteRoom {
    public func place(_ bytes: Int) -> (any ByteStore)? { store(bytes) }
    public var leastContribution: Int { 64 << 20 }
}

/// Bytes in memory, or put down elsewhere and read piece by piece: weights and moments are larger than all else that a peer handles, and what is
/// kept of them for others, or is on its way to a disk, is not to take the memory that training needs.
public struct StoredBytes: Sendable {
    private enum Part: Sendable {
        case memory([UInt8])
        case stored(any ByteStore, Range<Int>)

        var count: Int {
            switch self {
            case .memory(let bytes): bytes.count
            case .stored(_, let range): range.count
            }
        }
        func fill(_ offset: Int, _ target: UnsafeMutableRawBufferPointer) -> Bool {
            switch self {
            case .memory(let bytes):
                bytes[offset..<offset + target.count].withUnsafeBytes { target.copyMemory(from: $0) }
                return true
            case .stored(let store, let range): return store.fill(range.lowerBound + offset, target)
            }
        }
    }
    /// One after the other; none is copied to lie beside the one before.
    private let parts: [Part]
    /// Of the parts, so many bytes are not of these.
    private let start: Int
    public let count: Int
    /// Read at a time where all are wanted.
    private static let piece = 1 << 20

    private init(_ parts: [Part], _ range: Range<Int>) {
        self.parts = parts
        start = range.lowerBound
        count = range.count
    }
    private init(_ parts: [Part]) { self.init(parts, 0..<parts.reduce(0) { $0 + $1.count }) }
    public init(_ bytes: [UInt8] = []) { self.init(bytes.isEmpty ? [] : [.memory(bytes)]) }
    /// Those of a store within a range.
    public init(_ store: any ByteStore, _ range: Range<Int>) { self.init([.stored(store, range)]) }
    /// Of others that follow each other.
    public init(joining all: [StoredBytes]) {
        var parts: [Part] = []
        for part in all.flatMap(\.whole) {
            if case .stored(let store, let range) = part, case .stored(let before, let place)? = parts.last,
                before === store,
                place.upperBound == range.lowerBound
            {
                parts[parts.count - 1] = .stored(store, place.lowerBound..<range.upperBound)
            } else {
                parts.append(part)
            }
        }
        self.init(parts)
    }
    /// Parts that are these bytes and no more.
    private var whole: [Part] {
        var first = 0
        return parts.compactMap { part in
            let here = (start..<start + count).clamped(to: first..<first + part.count)
            let own = here.lowerBound - first..<here.upperBound - first
            first += part.count
            guard !own.isEmpty else { return nil }
            switch part {
            case .memory(let bytes): return own.count == bytes.count ? part : .memory(Array(bytes[own]))
            case .stored(let store, let range):
                return .stored(store, range.lowerBound + own.lowerBound..<range.lowerBound + own.upperBound)
            }
        }
    }

    public var isEmpty: Bool { count == 0 }
    /// A part of them, at the same place.
    public subscript(range: Range<Int>) -> StoredBytes {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "\(range) of \(count) bytes")
        return StoredBytes(parts, start + range.lowerBound..<start + range.upperBound)
    }

    /// Fills a target of no more bytes than there are from an offset on; false where a store does not give them.
    public func fill(_ offset: Int, _ target: UnsafeMutableRawBufferPointer) -> Bool {
        precondition(offset >= 0 && offset + target.count <= count, "\(target.count) bytes from \(offset) of \(count)")
        let wanted = start + offset..<start + offset + target.count
        var first = 0
        for part in parts {
            let here = wanted.clamped(to: first..<first + part.count)
            if !here.isEmpty {
                let room = target[here.lowerBound - wanted.lowerBound..<here.upperBound - wanted.lowerBound]
                guard part.fill(here.lowerBound - first, UnsafeMutableRawBufferPointer(rebasing: room)) else {
                    return false
                }
            }
            first += part.count
        }
        return true
    }
    /// Some of them; nil where the store does not give them.
    public func bytes(_ range: Range<Int>) -> [UInt8]? {
        var isThere = true
        let out = [UInt8](unsafeUninitializedCapacity: range.count) { target, filled in
            let wanted = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(target)[..<range.count])
            isThere = fill(range.lowerBound, wanted)
            if !isThere { wanted.initializeMemory(as: UInt8.self, repeating: 0) }
            filled = range.count
        }
        return isThere ? out : nil
    }
    /// All of them, where they lie in memory one beside the other.
    public var inMemory: [UInt8]? {
        guard parts.count == 1, case .memory(let bytes) = parts[0], bytes.count == count else { return nil }
        return bytes
    }
    /// All of them in memory; nil where a store does not give them.
    public var all: [UInt8]? { inMemory ?? bytes(0..<count) }

    /// Where they lie in a store, for as long as it is held (``ByteStore/map(_:)``); nil where they lie otherwise.
    public var mapped: UnsafeRawBufferPointer? {
        let whole = whole
        guard whole.count == 1, case .stored(let store, let range) = whole[0] else { return nil }
        return store.map(range)
    }

    /// Hands all of them on in order, some at a time; false where the store does not give them.
    public func eachPiece<Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) -> Bool {
        guard count > 0 else { return true }
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: min(count, Self.piece), alignment: 16)
        defer { room.deallocate() }
        for first in stride(from: 0, to: count, by: Self.piece) {
            let target = UnsafeMutableRawBufferPointer(rebasing: room[..<min(Self.piece, count - first)])
            guard fill(first, target) else { return false }
            try body(UnsafeRawBufferPointer(target))
        }
        return true
    }
}

extension StoredBytes: Hashable {
    /// The same bytes, wherever they are. What cannot be read equals nothing.
    public static func == (a: StoredBytes, b: StoredBytes) -> Bool {
        guard a.count == b.count else { return false }
        for first in stride(from: 0, to: a.count, by: piece) {
            let range = first..<min(first + piece, a.count)
            guard let left = a.bytes(range), let right = b.bytes(range), left == right else { return false }
        }
        return true
    }
    public func hash(into hasher: inout Hasher) { hasher.combine(count) }
}

/// Puts one list down after the other: in a store, or in memory where there is none, or where it takes no more.
public struct StoredBytesWriter {
    private let store: (any ByteStore)?
    private var end = 0
    /// - Parameter store: nil for memory.
    public init(_ store: (any ByteStore)?) { self.store = store }

    public mutating func put(_ bytes: UnsafeRawBufferPointer) -> StoredBytes {
        guard let store, !bytes.isEmpty, store.put(bytes, at: end) else { return StoredBytes([UInt8](bytes)) }
        defer { end += bytes.count }
        return StoredBytes(store, end..<end + bytes.count)
    }
}
