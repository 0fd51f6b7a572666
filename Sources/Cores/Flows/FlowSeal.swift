internal import Digests

/// Seals the packets of one flow in one direction: encrypts and authenticates them in place. A number is used once.
///
/// A packet is `clear` bytes that are only authenticated, then the text, then ``FlowLimits/tag`` bytes of room for the tag.
public protocol PacketSeal: Sendable {
    func seal(_ packet: UnsafeMutableRawBufferPointer, clear: Int, number: UInt64)
    /// - Returns: false when it was sealed with another key, as another number, or changed on the way; the text is then undefined.
    func open(_ packet: UnsafeMutableRawBufferPointer, clear: Int, number: UInt64) -> Bool
}

/// Makes seals from a key that all members of a pool have. Equal contexts give equal seals, at both ends.
public protocol SealMaker: Sendable {
    func seal(for context: [UInt8]) -> any PacketSeal
}

/// Random bytes that nobody can foretell who does not know the secret: HMAC-SHA-256 of a counter. With the same secret the same ones.
struct SecretGenerator: RandomNumberGenerator, Sendable {
    private let secret: [UInt8]
    private var counter: UInt64 = 0
    private var block: [UInt8] = []

    /// - Parameter secret: 32 random bytes.
    init(secret: [UInt8]) { self.secret = secret }

    mutating func next() -> UInt64 {
        if block.count < 8 {
            block = hmacSHA256(key: secret, Array("flow random".utf8) + bigEndian(counter))
            counter += 1
        }
        defer { block.removeFirst(8) }
        return block.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
    mutating func bytes(_ count: Int) -> [UInt8] {
        var out: [UInt8] = []
        while out.count < count { out += bigEndian(next()) }
        return Array(out.prefix(count))
    }
}

func bigEndian(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * $0)) } }
