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
        let lanes = Self.fingerprint(bytes)
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

    /// Four lanes of 64 bits, each over every fourth word, little-endian, the last words filled with zeros. A lane takes a word by
    /// exclusive or, a multiplication by an odd number and a rotation, each of which can be undone: two texts of one length that differ in one
    /// word of a lane always differ in that lane.
    static func fingerprint(_ bytes: [UInt8]) -> [4 of UInt64] {
        var lanes: [4 of UInt64] = [
            0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93,
        ]
        bytes.withUnsafeBytes { raw in
            let whole = raw.count & ~31
            // In plain variables, which stay in registers.
            var (a, b, c, d) = (lanes[0], lanes[1], lanes[2], lanes[3])
            var offset = 0
            while offset < whole {
                a = mixed(a, raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
                b = mixed(b, raw.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
                c = mixed(c, raw.loadUnaligned(fromByteOffset: offset + 16, as: UInt64.self))
                d = mixed(d, raw.loadUnaligned(fromByteOffset: offset + 24, as: UInt64.self))
                offset += 32
            }
            lanes = [a, b, c, d]
            for lane in 0..<4 where offset < raw.count {
                var word: UInt64 = 0
                for place in 0..<min(8, raw.count - offset) { word |= UInt64(raw[offset + place]) << UInt64(8 * place) }
                lanes[lane] = mixed(lanes[lane], word.littleEndian)
                offset += 8
            }
        }
        return lanes
    }
    /// - Parameter word: as it lies in memory.
    @inline(__always) private static func mixed(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        let product = (lane ^ UInt64(littleEndian: word)) &* 0xff51_afd7_ed55_8ccd
        return product &<< 29 | product &>> 35
    }
}
