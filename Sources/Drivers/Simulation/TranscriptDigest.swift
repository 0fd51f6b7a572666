import Digests
import Primitives

/// A running hash over what was delivered, which can be read without ending it: SHA-256 over when, from whom, to whom, how many
/// bytes, and a fingerprint of the bytes. It is to notice every difference between two runs, which nobody crafts, so that the gigabytes
/// of a job need not pass through a hash that resists an adversary.
///
/// SHA-256 of segments of a mebibyte, each begun with the hash of the one before.
struct TranscriptDigest: ~Copyable {
    private var segment = SHA256Stream()
    private var filled = 0
    private var line = [UInt8](repeating: 0, count: 52)

    init() { segment.update([UInt8](repeating: 0, count: 32)) }

    mutating func add(_ bytes: [UInt8], from: Int, to: Int, at now: Instant) {
        let print = Self.fingerprint(bytes)
        line.withUnsafeMutableBytes {
            $0.storeBytes(of: now.nanoseconds.littleEndian, toByteOffset: 0, as: Int64.self)
            $0.storeBytes(of: UInt32(from).littleEndian, toByteOffset: 8, as: UInt32.self)
            $0.storeBytes(of: UInt32(to).littleEndian, toByteOffset: 12, as: UInt32.self)
            $0.storeBytes(of: UInt32(bytes.count).littleEndian, toByteOffset: 16, as: UInt32.self)
            for lane in 0..<4 {
                $0.storeBytes(of: print[lane].littleEndian, toByteOffset: 20 + 8 * lane, as: UInt64.self)
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

    /// Four lanes of 64 bits, each over every fourth word, little-endian, the last words filled with zeros. A lane takes a word by
    /// exclusive or, a multiplication by an odd number and a rotation, each of which can be undone: two texts of one length that differ in one
    /// word of a lane always differ in that lane.
    static func fingerprint(_ bytes: [UInt8]) -> SIMD4<UInt64> {
        var lanes = SIMD4<UInt64>(
            0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93)
        let odd = SIMD4<UInt64>(repeating: 0xff51_afd7_ed55_8ccd)
        func take(_ words: SIMD4<UInt64>) {
            let mixed = (lanes ^ words) &* odd
            lanes = mixed &<< 29 | mixed &>> 35
        }
        bytes.withUnsafeBytes { raw in
            var offset = 0
            while offset + 32 <= raw.count {
                take(
                    SIMD4(
                        UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)),
                        UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)),
                        UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset + 16, as: UInt64.self)),
                        UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset + 24, as: UInt64.self))))
                offset += 32
            }
            guard offset < raw.count else { return }
            var last = SIMD4<UInt64>()
            for place in offset..<raw.count {
                let index = place - offset
                last[index / 8] |= UInt64(raw[place]) << UInt64(8 * (index % 8))
            }
            take(last)
        }
        return lanes
    }
}
