import Digests
import Primitives

/// A running hash over what was delivered, which can be read without ending it: SHA-256 of segments of a mebibyte, each begun
/// with the hash of the one before.
struct TranscriptDigest: ~Copyable {
    private var segment = SHA256Stream()
    private var filled = 0
    private var header = [UInt8](repeating: 0, count: 20)

    init() { segment.update([UInt8](repeating: 0, count: 32)) }

    mutating func add(_ bytes: [UInt8], from: Int, to: Int, at now: Instant) {
        header.withUnsafeMutableBytes {
            $0.storeBytes(of: now.nanoseconds.littleEndian, toByteOffset: 0, as: Int64.self)
            $0.storeBytes(of: UInt32(from).littleEndian, toByteOffset: 8, as: UInt32.self)
            $0.storeBytes(of: UInt32(to).littleEndian, toByteOffset: 12, as: UInt32.self)
            $0.storeBytes(of: UInt32(bytes.count).littleEndian, toByteOffset: 16, as: UInt32.self)
        }
        add(header)
        add(bytes)
    }
    private mutating func add(_ bytes: [UInt8]) {
        segment.update(bytes)
        filled += bytes.count
        guard filled >= 1 << 20 else { return }
        let digest = segment.finish()
        segment = SHA256Stream()
        segment.update(digest.bytes)
        filled = 0
    }
    var digest: Digest256 {
        var copy = segment.copy()
        return copy.finish()
    }
}
