import Digests
public import Primitives

/// One end of a secure stream over bytes that somebody else carries, as it is over a virtual network's own streams: messages and records of
/// their true sizes, both keys shown, an exporter that is the same at both ends. Nothing is encrypted.
public struct VirtualTLS: Sendable {
    private enum Kind: UInt8 {
        case hello = 1
        case answer = 2
        case finish = 3
        case data = 4
    }
    private let local: PeerID
    private let expected: PeerID?
    private let isClient: Bool
    private let nonce: [UInt8]
    private var otherNonce: [UInt8] = []
    private var isSecure = false
    private var isBroken = false
    private var pending: [UInt8] = []

    /// Of ClientHello, the server's flight and the client's, as over a stream of the network.
    private static let sizes: [Kind: Int] = [.hello: 320, .answer: 900, .finish: 760]
    private static let headBytes = 5
    private static let recordBytes = 16_384
    private static let recordHead = 22

    /// - Parameter nonce: 16 bytes that no other session has.
    public init(local: PeerID, isClient: Bool, expecting expected: PeerID?, nonce: [UInt8]) {
        precondition(nonce.count == 16, "a nonce of \(nonce.count) bytes")
        self.local = local
        self.isClient = isClient
        self.expected = expected
        self.nonce = nonce
    }

    public mutating func begin() -> [CarriedEvent] {
        isClient ? [.ciphertext(Self.message(.hello, nonce))] : []
    }
    public mutating func write(_ plaintext: [UInt8]) -> [CarriedEvent] {
        guard isSecure else { return [] }
        var out: [UInt8] = []
        var start = 0
        repeat {
            let end = min(plaintext.count, start + Self.recordBytes)
            out += Self.head(.data, end - start + Self.recordHead - Self.headBytes)
            out += [UInt8](repeating: 0, count: Self.recordHead - Self.headBytes)
            out += plaintext[start..<end]
            start = end
        } while start < plaintext.count
        return [.ciphertext(out)]
    }
    public mutating func receive(_ ciphertext: [UInt8]) -> [CarriedEvent] {
        guard !isBroken else { return [] }
        pending += ciphertext
        var out: [CarriedEvent] = []
        while pending.count >= Self.headBytes, !isBroken {
            let length = (1..<Self.headBytes).reduce(0) { $0 << 8 | Int(pending[$1]) }
            guard let kind = Kind(rawValue: pending[0]), length <= 1 << 20 else {
                isBroken = true
                return out + [.ended]
            }
            guard pending.count >= Self.headBytes + length else { break }
            let body = Array(pending[Self.headBytes..<Self.headBytes + length])
            pending.removeFirst(Self.headBytes + length)
            out += took(kind, body)
        }
        return out
    }

    private mutating func took(_ kind: Kind, _ body: [UInt8]) -> [CarriedEvent] {
        switch kind {
        case .hello where !isClient && otherNonce.isEmpty && body.count >= 16:
            otherNonce = Array(body.prefix(16))
            return [.ciphertext(Self.message(.answer, nonce + local.bytes))]
        case .answer where isClient && !isSecure && body.count >= 48:
            otherNonce = Array(body.prefix(16))
            guard let secured = secured(by: body[16..<48]) else { return broken() }
            return [.ciphertext(Self.message(.finish, local.bytes)), secured]
        case .finish where !isClient && !isSecure && !otherNonce.isEmpty && body.count >= 32:
            guard let secured = secured(by: body[..<32]) else { return broken() }
            return [secured]
        case .data where isSecure && body.count >= Self.recordHead - Self.headBytes:
            return [.plaintext(Array(body.dropFirst(Self.recordHead - Self.headBytes)))]
        default: return broken()
        }
    }
    private mutating func broken() -> [CarriedEvent] {
        isBroken = true
        return [.ended]
    }
    private mutating func secured(by key: ArraySlice<UInt8>) -> CarriedEvent? {
        guard let peer = PeerID(Array(key)), expected.map({ $0 == peer }) ?? true else { return nil }
        isSecure = true
        let nonces = isClient ? nonce + otherNonce : otherNonce + nonce
        return .secured(peer, exporter: sha256(Array("exporter".utf8) + nonces).bytes)
    }
    private static func head(_ kind: Kind, _ length: Int) -> [UInt8] {
        [kind.rawValue] + (0..<4).reversed().map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }
    }
    private static func message(_ kind: Kind, _ body: [UInt8]) -> [UInt8] {
        let size = sizes[kind]! - headBytes
        return head(kind, size) + body + [UInt8](repeating: 0, count: size - body.count)
    }
}
