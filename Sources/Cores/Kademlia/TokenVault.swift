import Digests
import Primitives

/// Write tokens (BEP 5): 8 bytes that prove that whoever stores at a target has just received an answer about that target
/// at its address. The secret changes every five minutes; the one before is still accepted.
struct TokenVault: Sendable {
    private var current: [UInt8]
    private var previous: [UInt8]
    private(set) var rotation: Instant
    static let lifetime = Duration.seconds(300)
    static let size = 8

    init(secret: [UInt8], at now: Instant) {
        current = secret
        previous = secret
        rotation = now + Self.lifetime
    }

    func token(for target: NodeID, to address: PackedEndpoint) -> ArraySlice<UInt8> {
        Self.make(current, target, address)
    }
    func accepts(_ token: ArraySlice<UInt8>, for target: NodeID, from address: PackedEndpoint) -> Bool {
        guard token.count == Self.size else { return false }
        let given = Array(token)
        return constantTimeEqual(given, Array(Self.make(current, target, address)))
            || constantTimeEqual(given, Array(Self.make(previous, target, address)))
    }
    mutating func rotate(to secret: [UInt8], at now: Instant) {
        previous = current
        current = secret
        rotation = now + Self.lifetime
    }
    /// Bound to the address without the port, as in BEP 5: some NATs change the port between two datagrams.
    private static func make(_ secret: [UInt8], _ target: NodeID, _ address: PackedEndpoint) -> ArraySlice<UInt8> {
        hmacSHA256(key: secret, address.address + target.bytes).prefix(size)
    }
}

/// Unpredictable numbers for transactions and secrets: HMAC-SHA-256 of a counter under a secret key. A plain generator
/// would give its state away to anybody who is asked often enough.
struct KeyedStream: Sendable {
    private let key: [UInt8]
    private var counter: UInt64 = 0
    private var block: [UInt8] = []

    init(key: [UInt8]) { self.key = key }

    mutating func bytes32() -> [UInt8] {
        counter += 1
        return hmacSHA256(key: key, (0..<8).map { UInt8(truncatingIfNeeded: counter >> (8 * UInt64($0))) })
    }
    mutating func next() -> UInt32 {
        if block.isEmpty { block = bytes32() }
        var word: UInt32 = 0
        for _ in 0..<4 { word = word << 8 | UInt32(block.removeLast()) }
        return word
    }
}
