import Digests
import Wire

/// What makes a pool closed: every datagram carries, under the top-level key `h`, the first 16 bytes of the HMAC-SHA-256
/// over its encoding without that key. Whoever lacks the 32-byte pool key can neither ask nor answer.
///
/// `h` sorts between `e` and `ip`, so a sealed datagram is still canonical bencode, and KRPC ignores unknown keys. The
/// seal proves membership, not freshness: replays are met by transaction IDs and by tokens bound to addresses.
package struct PoolSeal: Sendable {
    /// The first one seals; each of them opens: where a pool has another key, both are right for a while.
    private let keys: [[UInt8]]
    package static let size = 16

    /// - Parameter key: the pool key, 32 bytes.
    package init(key: [UInt8]) { self.init(keys: [key]) }
    /// - Parameter keys: at least one, the one to seal with first.
    package init(keys: [[UInt8]]) {
        precondition(!keys.isEmpty && keys.allSatisfy { $0.count == 32 }, "a pool key has 32 bytes")
        self.keys = keys
    }

    /// `datagram` with the seal inserted before byte `slot`, which must be where key `h` sorts.
    func seal(_ datagram: [UInt8], slot: Int) -> [UInt8] {
        let code = hmacSHA256(key: keys[0], datagram).prefix(Self.size)
        var out: [UInt8] = []
        out.reserveCapacity(datagram.count + Self.size + 6)
        out.append(contentsOf: datagram[..<slot])
        out.append(contentsOf: "1:h16:".utf8)
        out.append(contentsOf: code)
        out.append(contentsOf: datagram[slot...])
        return out
    }

    /// Whether `seal`, the value of the checked datagram's key `h`, is right.
    func opens(_ datagram: [UInt8], seal: BencodeView) -> Bool {
        guard let code = seal.string, code.count == Self.size else { return false }
        // The key itself is the three bytes `1:h` before its value.
        let start = seal.encoded.startIndex - 3
        var bare: [UInt8] = []
        bare.reserveCapacity(datagram.count)
        bare.append(contentsOf: datagram[..<start])
        bare.append(contentsOf: datagram[seal.encoded.endIndex...])
        return keys.contains { constantTimeEqual(Array(code), Array(hmacSHA256(key: $0, bare).prefix(Self.size))) }
    }
}
