import Digests
import Primitives

/// What can still be read of a log whose bytes have changed: records behind the damage as well.
struct LogSalvage {
    /// A place at which no record is.
    struct Damage: Hashable, Sendable {
        /// From the first byte of a record that does not hold to the first of the next that does, or to the end of the file.
        var bytes: Range<Int>
        /// Records that were there, as their lengths say; one at least.
        var records: Int
    }
    private(set) var envelopes: [[UInt8]] = []
    /// In the order of the file. A last record that a crash has torn is none.
    private(set) var damages: [Damage] = []
    /// The first line says that it is of another kind, or it is damaged; records are looked for all the same.
    private(set) var isOfAnotherFormat = false
    /// Of what the search for the next record may hash.
    private static let budget = 1 << 28

    private let bytes: [UInt8]
    private var spent = 0

    init(_ bytes: [UInt8], _ kind: LogFile.Kind) {
        self.bytes = bytes
        let format = Array(kind.format.utf8)
        var place = format.count
        if !bytes.starts(with: format) {
            isOfAnotherFormat = true
            // Of another version nothing is understood; of this one the length of the first line is known.
            guard bytes.count > place, record(at: place) != nil else { return }
            damages.append(Damage(bytes: 0..<place, records: 0))
        }
        while place < bytes.count {
            if let end = record(at: place) {
                envelopes.append(Array(bytes[place + 12..<end]))
                place = end
                continue
            }
            guard let next = next(after: place) else {
                // What is cut short at the end is what a crash leaves.
                if !isTorn(place) {
                    damages.append(Damage(bytes: place..<bytes.count, records: count(place, bytes.count)))
                }
                return
            }
            damages.append(Damage(bytes: place..<next, records: count(place, next)))
            place = next
        }
    }

    private func length(at place: Int) -> Int? {
        guard place + 12 <= bytes.count else { return nil }
        let length = (0..<4).reduce(0) { $0 | Int(bytes[place + $1]) << (8 * $1) }
        return length <= LogFile.entryLimit ? length : nil
    }
    /// Where the record ends that begins here; nil where none does.
    private mutating func record(at place: Int) -> Int? {
        guard let length = length(at: place), place + 12 + length <= bytes.count else { return nil }
        spent += length
        let body = bytes[place + 12..<place + 12 + length]
        guard sha256(body).bytes.prefix(8).elementsEqual(bytes[place + 4..<place + 12]) else { return nil }
        return place + 12 + length
    }
    /// The next record: mostly where this one's length says, else wherever one begins.
    private mutating func next(after place: Int) -> Int? {
        if let length = length(at: place), record(at: place + 12 + length) != nil { return place + 12 + length }
        var at = place + 1
        while at + 12 <= bytes.count, spent < Self.budget {
            if record(at: at) != nil { return at }
            at += 1
        }
        return nil
    }
    private func isTorn(_ place: Int) -> Bool {
        guard place + 12 <= bytes.count else { return true }
        return length(at: place).map { place + 12 + $0 > bytes.count } ?? false
    }
    private func count(_ place: Int, _ end: Int) -> Int {
        var (at, count) = (place, 1)
        while let length = length(at: at), at + 12 + length < end {
            at += 12 + length
            count += 1
        }
        return count
    }
    var lost: Int { damages.reduce(0) { $0 + $1.records } }
}
