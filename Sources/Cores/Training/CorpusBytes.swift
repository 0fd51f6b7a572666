public import Wire

/// What is learnt from: in memory, or read where it lies in a store. A text may be larger than the memory of whoever learns from it.
public struct CorpusBytes: Sendable {
    private enum Place: @unchecked Sendable {
        case memory([UInt8])
        /// For as long as the second is held.
        case mapped(UnsafeRawBufferPointer, StoredBytes)
    }
    private let place: Place

    public init(_ bytes: [UInt8]) { place = .memory(bytes) }
    /// Nil where they cannot be had any more.
    public init?(_ bytes: StoredBytes) {
        if let mapped = bytes.mapped {
            place = .mapped(mapped, bytes)
        } else if let all = bytes.all {
            place = .memory(all)
        } else {
            return nil
        }
    }

    public var count: Int {
        switch place {
        case .memory(let bytes): bytes.count
        case .mapped(let bytes, _): bytes.count
        }
    }
    var isEmpty: Bool { count == 0 }
    subscript(index: Int) -> UInt8 {
        switch place {
        case .memory(let bytes): bytes[index]
        case .mapped(let bytes, _): bytes[index]
        }
    }
    var max: UInt8? {
        switch place {
        case .memory(let bytes): bytes.max()
        case .mapped(let bytes, _): bytes.max()
        }
    }
    /// Where they lie, for as long as this is held; nil where they are in memory.
    var mapped: UnsafeRawBufferPointer? { if case .mapped(let bytes, _) = place { bytes } else { nil } }
    /// Calls `body` with all of them.
    public func withBytes<Answer>(_ body: (UnsafeRawBufferPointer) throws -> Answer) rethrows -> Answer {
        switch place {
        case .memory(let bytes): return try bytes.withUnsafeBytes(body)
        case .mapped(let bytes, let owner):
            defer { withExtendedLifetime(owner) {} }
            return try body(bytes)
        }
    }
    /// Copies all of them.
    func copy(to target: UnsafeMutableRawBufferPointer) {
        switch place {
        case .memory(let bytes): target.copyBytes(from: bytes)
        case .mapped(let bytes, _): target.copyMemory(from: bytes)
        }
    }
}
