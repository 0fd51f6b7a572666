import Digests
import Primitives

/// Which byte of a record was changed, where a single one explains it: by trying, because the check over the record is strong enough to tell.
enum DamageSearch {
    /// What a search may cost, in bytes hashed.
    static let budget = 1 << 31

    /// How long the envelope must be for the check to be right: the length written beside it is wrong then.
    static func length(of bytes: ArraySlice<UInt8>, check: [UInt8], atMost limit: Int) -> Int? {
        var hash = SHA256Stream()
        var length = 0
        for byte in bytes.prefix(min(limit, 1 << 20)) {
            hash.update([byte])
            length += 1
            var end = hash.copy()
            if Array(end.finish().bytes.prefix(8)) == check { return length }
        }
        return nil
    }

    /// The byte of an envelope that was another when the check was written; of long ones a single bit is looked for only.
    static func changedByte(of envelope: [UInt8], check: [UInt8]) -> (place: Int, was: UInt8)? {
        let cost = envelope.count * (envelope.count / 2 + 64)
        let changes: [UInt8]
        if cost * 255 <= budget {
            changes = Array(1...255)
        } else if cost * 8 <= budget {
            changes = (0..<8).map { 1 << $0 }
        } else {
            return nil
        }
        var before = SHA256Stream()
        for place in envelope.indices {
            let rest = Array(envelope[(place + 1)...])
            for change in changes {
                var hash = before.copy()
                hash.update([envelope[place] ^ change])
                hash.update(rest)
                if Array(hash.finish().bytes.prefix(8)) == check { return (place, envelope[place] ^ change) }
            }
            before.update([envelope[place]])
        }
        return nil
    }
}
