/// A peer's identity: its 32-byte Ed25519 public key (RFC 8032). Ordered bytewise.
public struct PeerID: Hashable, Comparable, Sendable, CustomStringConvertible {
    private let a: UInt64, b: UInt64, c: UInt64, d: UInt64

    /// - Parameter bytes: exactly 32 bytes, else nil.
    public init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 32 else { return nil }
        var words: [UInt64] = [0, 0, 0, 0]
        for (index, byte) in bytes.enumerated() { words[index / 8] = words[index / 8] << 8 | UInt64(byte) }
        (a, b, c, d) = (words[0], words[1], words[2], words[3])
    }
    /// From 64 hexadecimal digits, else nil.
    public init?(hex: String) {
        guard let bytes = [UInt8](hex: hex) else { return nil }
        self.init(bytes)
    }

    /// A key is as good as random, and cannot be chosen with more than a few bits of another's: a part of it tells them apart.
    public func hash(into hasher: inout Hasher) { hasher.combine(b) }

    public var bytes: [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(32)
        for word in [a, b, c, d] {
            for shift in stride(from: UInt64(56), through: 0, by: -8) {
                out.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
        return out
    }
    public var hex: String { bytes.hex }
    /// The first eight hexadecimal digits, for people.
    public var short: String { String(hex.prefix(8)) }
    public var description: String { short }

    public static func < (x: PeerID, y: PeerID) -> Bool { (x.a, x.b, x.c, x.d) < (y.a, y.b, y.c, y.d) }
}

/// A SHA-256 value: names jobs, contents, log entries and weights.
public struct Digest256: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let bytes: [UInt8]
    /// - Parameter bytes: exactly 32 bytes, else nil.
    public init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 32 else { return nil }
        self.bytes = [UInt8](bytes)
    }
    public init?(hex: String) {
        guard let bytes = [UInt8](hex: hex) else { return nil }
        self.init(bytes)
    }
    public var hex: String { bytes.hex }
    public var short: String { String(hex.prefix(8)) }
    public var description: String { short }
    public static func < (x: Digest256, y: Digest256) -> Bool { x.bytes.lexicographicallyPrecedes(y.bytes) }
}

extension Collection<UInt8> {
    /// Lower-case hexadecimal.
    public var hex: String {
        let digits: [UInt8] = Array("0123456789abcdef".utf8)
        var out: [UInt8] = []
        out.reserveCapacity(count * 2)
        for byte in self {
            out.append(digits[Int(byte >> 4)])
            out.append(digits[Int(byte & 15)])
        }
        return String(decoding: out, as: UTF8.self)
    }
}

extension [UInt8] {
    /// Bytes from an even number of hexadecimal digits in either case, else nil.
    public init?(hex: String) {
        let digits = Array<UInt8>(hex.utf8)
        guard digits.count % 2 == 0 else { return nil }
        func value(_ digit: UInt8) -> UInt8? {
            switch digit {
            case 48...57: digit - 48
            case 65...70: digit - 55
            case 97...102: digit - 87
            default: nil
            }
        }
        self = []
        reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = value(digits[index]), let low = value(digits[index + 1]) else { return nil }
            append(high << 4 | low)
        }
    }
}
