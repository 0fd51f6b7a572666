/// Encodes texts with one tokenizer: working memory and a cache of short pieces, for one thread. What it answers does not
/// depend on what it was asked before.
public final class TokenEncoder {
    /// Longer pieces are cut, so that memory is bounded; only texts of that length without a space are concerned.
    static let longestPiece = 1 << 24

    private let tokenizer: Tokenizer
    @exclusivity(unchecked) private var merging = Merging()
    @exclusivity(unchecked) private var symbols: UnsafeMutablePointer<UInt32>
    @exclusivity(unchecked) private var capacity = 1024
    @exclusivity(unchecked) private var cache = PieceCache()
    @exclusivity(unchecked) private var normalized: [UInt8] = []
    @exclusivity(unchecked) private var spaced: [UInt8] = []
    @exclusivity(unchecked) private var ids: [UInt32] = []
    private var isContinuing = false

    public init(_ tokenizer: Tokenizer) {
        self.tokenizer = tokenizer
        symbols = .allocate(capacity: capacity)
    }
    deinit { symbols.deallocate() }

    /// The tokens of a text. Bytes that are no UTF-8 are encoded as what they are, each a character of no class.
    ///
    /// `addingSpecial` puts before and after what the file's template says; without `parsingSpecial` the text of a control
    /// token is text. `continuing`: something came before, so no ▁ is put at the beginning.
    public func encode(
        _ text: UnsafeBufferPointer<UInt8>, addingSpecial: Bool = true, parsingSpecial: Bool = true,
        continuing: Bool = false
    ) -> [UInt32] {
        ids.removeAll(keepingCapacity: true)
        isContinuing = continuing
        if addingSpecial { ids += tokenizer.prefix }
        if let base = text.baseAddress, !text.isEmpty {
            tokenizer.rawAdded.forEachPart(base, 0, text.count, parsingSpecial: parsingSpecial) { part in
                if let token = part.token {
                    ids.append(token)
                } else {
                    encodeRaw(base, part.range, parsingSpecial: parsingSpecial)
                }
            }
        }
        if addingSpecial { ids += tokenizer.suffix }
        defer { ids = [] }
        return ids
    }

    public func encode(
        _ text: [UInt8], addingSpecial: Bool = true, parsingSpecial: Bool = true, continuing: Bool = false
    ) -> [UInt32] {
        text.withUnsafeBufferPointer {
            encode($0, addingSpecial: addingSpecial, parsingSpecial: parsingSpecial, continuing: continuing)
        }
    }

    /// A part without raw added tokens.
    private func encodeRaw(_ text: UnsafePointer<UInt8>, _ range: Range<Int>, parsingSpecial: Bool) {
        let start = text + range.lowerBound
        switch tokenizer.normalization {
        case .compose where !Composition.isSettled(start, range.count):
            normalized.removeAll(keepingCapacity: true)
            Composition.shared.append(start, range.count, to: &normalized)
        case .metaspace(let prepends):
            normalized.removeAll(keepingCapacity: true)
            if prepends, !(isContinuing && range.lowerBound == 0) { normalized += metaspaceBytes }
            appendSpaced(start, range.count, to: &normalized)
        case .none, .compose:
            encodeNormalized(start, range.count, isFirst: range.lowerBound == 0, parsingSpecial: parsingSpecial)
            return
        }
        let copy = normalized
        copy.withUnsafeBufferPointer {
            encodeNormalized(
                $0.baseAddress!, $0.count, isFirst: range.lowerBound == 0, parsingSpecial: parsingSpecial)
        }
    }

    private func encodeNormalized(
        _ text: UnsafePointer<UInt8>, _ count: Int, isFirst: Bool, parsingSpecial: Bool
    ) {
        guard !tokenizer.normalizedAdded.isEmpty else {
            split(text, 0, count, isFirst: isFirst)
            return
        }
        tokenizer.normalizedAdded.forEachPart(text, 0, count, parsingSpecial: parsingSpecial) { part in
            if let token = part.token {
                ids.append(token)
            } else {
                split(
                    text, part.range.lowerBound, part.range.upperBound, isFirst: isFirst && part.range.lowerBound == 0)
            }
        }
    }

    /// Spaces as ▁.
    private func appendSpaced(_ text: UnsafePointer<UInt8>, _ count: Int, to out: inout [UInt8]) {
        out.reserveCapacity(out.count + count + count / 2)
        for index in 0..<count {
            if text[index] == 32 { out += metaspaceBytes } else { out.append(text[index]) }
        }
    }

    // MARK: pieces

    private func split(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, isFirst: Bool) {
        if let metaspace = tokenizer.splitting.metaspace {
            spaced.removeAll(keepingCapacity: true)
            let begins =
                text[start] == 32
                || end - start >= 3 && UnsafeBufferPointer(start: text + start, count: 3).elementsEqual(metaspaceBytes)
            let continues = isFirst && isContinuing
            if !begins, !continues, metaspace.prepending == .always || metaspace.prepending == .first && isFirst {
                spaced += metaspaceBytes
            }
            appendSpaced(text + start, end - start, to: &spaced)
            let copy = spaced
            copy.withUnsafeBufferPointer {
                splitAtMetaspace($0.baseAddress!, $0.count, everyOne: metaspace.splits, end: $0.count)
            }
            return
        }
        if case .characters = tokenizer.alphabet {
            splitAtMetaspace(text + start, end - start, everyOne: false, end: end - start)
            return
        }
        tokenizer.splitting.steps.forEachPiece(text, start, end) { first, last in
            piece(text, first, last, room: end)
        }
    }

    /// Parts before each ▁, or before those that follow something else.
    private func splitAtMetaspace(_ text: UnsafePointer<UInt8>, _ count: Int, everyOne: Bool, end: Int) {
        guard everyOne || tokenizer.partsAtMetaspace else {
            piece(text, 0, count, room: end)
            return
        }
        var start = 0
        var at = 0
        var followsMark = true
        while at < count {
            guard text[at] == 0xE2, at + 2 < count, text[at + 1] == 0x96, text[at + 2] == 0x81 else {
                followsMark = false
                at += 1
                continue
            }
            if at > start, everyOne || !followsMark {
                piece(text, start, at, room: end)
                start = at
            }
            followsMark = true
            at += 3
        }
        if start < count { piece(text, start, count, room: end) }
    }

    @inline(__always)
    private func piece(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, room: Int) {
        let length = end - start
        if length < 16 {
            let key = PieceCache.Key(text, start, length, room: room)
            if cache.appendHit(key, to: &ids) { return }
            let count = ids.count
            encodePiece(text, start, end)
            cache.store(key, ids, from: count)
        } else {
            longPiece(text, start, end)
        }
    }

    private func longPiece(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) {
        var at = start
        while end - at > Self.longestPiece {
            var cut = at + Self.longestPiece
            // Not within a character.
            while cut > at + Self.longestPiece - 4, text[cut] & 0xC0 == 0x80 { cut -= 1 }
            encodePiece(text, at, cut)
            at = cut
        }
        encodePiece(text, at, end)
    }

    private func encodePiece(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) {
        if tokenizer.ignoresMerges,
            let id = tokenizer.vocabulary.find(UnsafeBufferPointer(start: text + start, count: end - start))
        {
            ids.append(id)
            return
        }
        if end - start > capacity {
            symbols.deallocate()
            capacity = end - start
            symbols = .allocate(capacity: capacity)
        }
        let count: Int
        switch tokenizer.alphabet {
        case .bytes: count = byteSymbols(text, start, end)
        case .characters(let fallsBack): count = characterSymbols(text, start, end, fallsBack: fallsBack)
        }
        let kept = merging.merge(symbols, count, tokenizer.merges)
        ids.append(contentsOf: UnsafeBufferPointer(start: symbols, count: kept))
    }

    /// A symbol a byte. Bytes without a token become the unknown one; without that they vanish, as in the reference.
    private func byteSymbols(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> Int {
        var count = 0
        var followsUnknown = false
        tokenizer.ofByte.withUnsafeBufferPointer { ofByte in
            for index in start..<end {
                let id = ofByte[Int(text[index])]
                if id != Vocabulary.none {
                    symbols[count] = id
                    count += 1
                    followsUnknown = false
                } else if let unknown = tokenizer.unknown {
                    if !(followsUnknown && unknown.isFused) {
                        symbols[count] = unknown.id
                        count += 1
                    }
                    followsUnknown = true
                }
            }
        }
        return count
    }

    /// A symbol a character. One without a token is spelt in bytes where all of them have one, else unknown. An unknown one is
    /// held back until the next character that has a token, as in the reference.
    private func characterSymbols(
        _ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, fallsBack: Bool
    ) -> Int {
        var count = 0
        var isWaiting = false
        var at = start
        while at < end {
            let length = text[at] < 0x80 ? 1 : max(1, decodeScalar(text, at, end).length)
            let character = UnsafeBufferPointer(start: text + at, count: length)
            at += length
            if let id = tokenizer.vocabulary.find(character) {
                if isWaiting, let unknown = tokenizer.unknown {
                    symbols[count] = unknown.id
                    count += 1
                    isWaiting = false
                }
                symbols[count] = id
                count += 1
            } else if fallsBack, character.allSatisfy({ tokenizer.ofByte[Int($0)] != Vocabulary.none }) {
                for byte in character {
                    symbols[count] = tokenizer.ofByte[Int(byte)]
                    count += 1
                }
            } else if let unknown = tokenizer.unknown {
                if isWaiting, !unknown.isFused {
                    symbols[count] = unknown.id
                    count += 1
                }
                isWaiting = true
            }
        }
        if isWaiting, let unknown = tokenizer.unknown {
            symbols[count] = unknown.id
            count += 1
        }
        return count
    }
}
