/// Unicode's normal form C (UAX #15), with the tables of the reference: Unicode 9.0.
package struct Composition: Sendable {
    package static let shared = Composition()

    private let combining: [UInt32: UInt8]
    /// First and, unless 0, second.
    private let decomposed: [UInt32: (UInt32, UInt32)]
    private let composed: [UInt64: UInt32]

    private init() {
        var combining: [UInt32: UInt8] = [:]
        for row in HexadecimalRows(UnicodeTables.combining) {
            for point in row[0]..<row[0] + row[1] { combining[UInt32(point)] = UInt8(row[2]) }
        }
        var decomposed: [UInt32: (UInt32, UInt32)] = [:]
        var composed: [UInt64: UInt32] = [:]
        for row in HexadecimalRows(UnicodeTables.decompositions) {
            decomposed[UInt32(row[0])] = (UInt32(row[1]), UInt32(row[2]))
            if row[3] == 1 { composed[UInt64(row[1]) << 32 | UInt64(row[2])] = UInt32(row[0]) }
        }
        self.combining = combining
        self.decomposed = decomposed
        self.composed = composed
    }

    /// Whether the text is as it would be afterwards, without a look at what an unsettled character would do: then nothing
    /// has to be copied.
    static func isSettled(_ text: UnsafePointer<UInt8>, _ count: Int) -> Bool {
        let classes = CharacterClasses.shared
        var at = 0
        while at < count {
            // Below U+0300 everything is settled.
            if text[at] < 0xCC {
                at += 1
                continue
            }
            let (flags, length) = classes.look(text, at, count)
            if flags & CharacterClasses.unsettled != 0 { return false }
            at += length
        }
        return true
    }

    /// Appends the text in normal form C. Bytes that are no UTF-8 stay as they are and part what is around them.
    package func append(_ text: UnsafePointer<UInt8>, _ count: Int, to out: inout [UInt8]) {
        let classes = CharacterClasses.shared
        out.reserveCapacity(out.count + count)
        var copied = 0
        var start = 0  // of the last settled character: what follows may join it
        var at = 0
        while at < count {
            let (flags, length) = classes.look(text, at, count)
            guard flags & CharacterClasses.unsettled != 0 else {
                start = at
                at += length
                continue
            }
            var end = at + length
            while end < count {
                let (flags, length) = classes.look(text, end, count)
                guard flags & CharacterClasses.unsettled != 0 else { break }
                end += length
            }
            out.append(contentsOf: UnsafeBufferPointer(start: text + copied, count: start - copied))
            appendSegment(text, start, end, to: &out)
            copied = end
            start = end
            at = end
        }
        out.append(contentsOf: UnsafeBufferPointer(start: text + copied, count: count - copied))
    }

    /// One settled character, if any, and the unsettled ones after it.
    private func appendSegment(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, to out: inout [UInt8]) {
        var points: [(point: UInt32, order: UInt8)] = []
        var at = start
        // Only the first may be a byte that is no UTF-8: those are settled.
        if text[at] >= 0x80, decodeScalar(text, at, end).length == 0 {
            out.append(text[at])
            at += 1
        }
        while at < end {
            if text[at] < 0x80 {
                points.append((UInt32(text[at]), 0))
                at += 1
            } else {
                let (point, length) = decodeScalar(text, at, end)
                decompose(point, into: &points)
                at += length
            }
        }
        reorder(&points)
        compose(&points)
        for (point, _) in points { appendScalar(point, to: &out) }
    }

    private func decompose(_ point: UInt32, into points: inout [(point: UInt32, order: UInt8)]) {
        if (0xAC00..<0xD7A4).contains(point) {
            let index = point - 0xAC00
            points.append((0x1100 + index / 588, 0))
            points.append((0x1161 + index % 588 / 28, 0))
            if index % 28 > 0 { points.append((0x11A7 + index % 28, 0)) }
        } else if let (first, second) = decomposed[point] {
            decompose(first, into: &points)
            if second > 0 { decompose(second, into: &points) }
        } else {
            points.append((point, combining[point] ?? 0))
        }
    }

    /// Runs of marks in the order of their classes, equal ones in the order in which they came.
    private func reorder(_ points: inout [(point: UInt32, order: UInt8)]) {
        var at = 0
        while at < points.count {
            guard points[at].order > 0 else {
                at += 1
                continue
            }
            var end = at
            var isOrdered = true
            while end < points.count, points[end].order > 0 {
                if end > at, points[end].order < points[end - 1].order { isOrdered = false }
                end += 1
            }
            if !isOrdered {
                // Counted by class: linear in the run, and stable.
                var counts = [Int](repeating: 0, count: 257)
                for index in at..<end { counts[Int(points[index].order) + 1] += 1 }
                for order in 1...256 { counts[order] += counts[order - 1] }
                var sorted = Array(points[at..<end])
                for index in at..<end {
                    sorted[counts[Int(points[index].order)]] = points[index]
                    counts[Int(points[index].order)] += 1
                }
                points.replaceSubrange(at..<end, with: sorted)
            }
            at = end
        }
    }

    private func compose(_ points: inout [(point: UInt32, order: UInt8)]) {
        var starter: Int?
        var last: UInt8 = 0  // class of the character kept before this one, since the starter
        var kept = 0
        for index in points.indices {
            let (point, order) = points[index]
            let isBlocked = starter.map { kept > $0 + 1 && (last >= order) } ?? true
            if let starter, !isBlocked, let joined = pair(points[starter].point, point) {
                points[starter].point = joined
                continue
            }
            points[kept] = (point, order)
            if order == 0 {
                starter = kept
                last = 0
            } else {
                last = order
            }
            kept += 1
        }
        points.removeLast(points.count - kept)
    }

    private func pair(_ first: UInt32, _ second: UInt32) -> UInt32? {
        if (0x1100..<0x1113).contains(first), (0x1161..<0x1176).contains(second) {
            return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28
        }
        if (0xAC00..<0xD7A4).contains(first), (first - 0xAC00) % 28 == 0, (0x11A8..<0x11C3).contains(second) {
            return first + second - 0x11A7
        }
        return composed[UInt64(first) << 32 | UInt64(second)]
    }
}

/// A scalar's UTF-8.
func appendScalar(_ point: UInt32, to out: inout [UInt8]) {
    switch point {
    case 0..<0x80: out.append(UInt8(point))
    case 0x80..<0x800:
        out.append(UInt8(0xC0 | point >> 6))
        out.append(UInt8(0x80 | point & 0x3F))
    case 0x800..<0x10000:
        out.append(UInt8(0xE0 | point >> 12))
        out.append(UInt8(0x80 | point >> 6 & 0x3F))
        out.append(UInt8(0x80 | point & 0x3F))
    default:
        out.append(UInt8(0xF0 | point >> 18))
        out.append(UInt8(0x80 | point >> 12 & 0x3F))
        out.append(UInt8(0x80 | point >> 6 & 0x3F))
        out.append(UInt8(0x80 | point & 0x3F))
    }
}
