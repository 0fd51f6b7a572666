import Digests
import Primitives

/// A running hash over what was delivered, which can be read without ending it: SHA-256 over when, from whom, to whom, how many
/// bytes, and a ``Fingerprint`` of the bytes. It is to notice every difference between two runs, which nobody crafts, so that the gigabytes
/// of a job need not pass through a hash that resists an adversary.
///
/// SHA-256 of segments of a mebibyte, each begun with the hash of the one before.
struct TranscriptDigest: ~Copyable {
    private var segment = SHA256Stream()
    private var filled = 0
    private var line = [UInt8](repeating: 0, count: 52)

    init() { segment.update([UInt8](repeating: 0, count: 32)) }

    mutating func add(_ bytes: [UInt8], from: Int, to: Int, at now: Instant) {
        let lanes = Fingerprint(bytes).lanes
        line.withUnsafeMutableBytes {
            $0.storeBytes(of: now.nanoseconds.littleEndian, toByteOffset: 0, as: Int64.self)
            $0.storeBytes(of: UInt32(from).littleEndian, toByteOffset: 8, as: UInt32.self)
            $0.storeBytes(of: UInt32(to).littleEndian, toByteOffset: 12, as: UInt32.self)
            $0.storeBytes(of: UInt32(bytes.count).littleEndian, toByteOffset: 16, as: UInt32.self)
            for lane in 0..<4 {
                $0.storeBytes(of: lanes[lane].littleEndian, toByteOffset: 20 + 8 * lane, as: UInt64.self)
            }
        }
        segment.update(line)
        filled += line.count
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
