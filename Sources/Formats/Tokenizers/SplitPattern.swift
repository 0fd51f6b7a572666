/// The regular expressions that cut a text into pieces before merging, as matchers written by hand: no look-ahead engine,
/// linear time. Every character is in exactly one piece.
public enum SplitPattern: String, Sendable, CaseIterable {
    /// Radford et al. 2019; contractions in small letters only, a number with the space before it.
    case gpt2
    /// Contractions in either case, three digits a piece, a letter run with one character of any other kind before it.
    case llama3
    /// As ``llama3``, one digit a piece.
    case qwen2

    /// As it stands in `tokenizer.json`.
    public var expression: String {
        switch self {
        case .gpt2: #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
        case .llama3: Self.newer(number: #"\p{N}{1,3}"#)
        case .qwen2: Self.newer(number: #"\p{N}"#)
        }
    }

    private static func newer(number: String) -> String {
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + number
            + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }

    /// The pattern that a file writes so; nil for any other.
    package init?(expression: String) {
        // GPT-2's is written in two ways.
        let short = #"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
        guard
            let found = Self.allCases.first(where: {
                $0.expression == expression || ($0 == .gpt2 && expression == short)
            })
        else { return nil }
        self = found
    }

    /// Where the piece that begins at `at` ends: after `at`, at most at `end`. What comes after `end` is not there.
    @inline(__always)
    package func next(_ text: UnsafePointer<UInt8>, _ at: Int, _ end: Int, _ classes: CharacterClasses) -> Int {
        switch self {
        case .gpt2: nextOfGPT2(text, at, end, classes)
        case .llama3: nextOfLlama3(text, at, end, classes, digits: 3)
        case .qwen2: nextOfLlama3(text, at, end, classes, digits: 1)
        }
    }

    @inline(__always)
    private func nextOfGPT2(
        _ text: UnsafePointer<UInt8>, _ at: Int, _ end: Int, _ classes: CharacterClasses
    ) -> Int {
        let byte = text[at]
        if byte == UInt8(ascii: "'") {
            let length = contraction(text, at, end, anyCase: false)
            if length > 0 { return at + length }
        }
        let first = byte == UInt8(ascii: " ") && at + 1 < end ? at + 1 : at
        let (flags, length) = classes.look(text, first, end)
        let kind = flags & CharacterClasses.known
        guard kind & CharacterClasses.space == 0 else { return spaces(text, at, end, classes) }
        return run(of: kind, text, first + length, end, classes)
    }

    @inline(__always)
    private func nextOfLlama3(
        _ text: UnsafePointer<UInt8>, _ at: Int, _ end: Int, _ classes: CharacterClasses, digits: Int
    ) -> Int {
        let byte = text[at]
        if byte == UInt8(ascii: "'") {
            let length = contraction(text, at, end, anyCase: true)
            if length > 0 { return at + length }
        }
        let (flags, length) = classes.look(text, at, end)
        if flags & CharacterClasses.letter != 0 {
            return run(of: CharacterClasses.letter, text, at + length, end, classes)
        }
        if flags & CharacterClasses.number != 0 {
            var next = at + length
            var taken = 1
            while taken < digits, next < end {
                let (flags, length) = classes.look(text, next, end)
                guard flags & CharacterClasses.number != 0 else { break }
                next += length
                taken += 1
            }
            return next
        }
        var second = at + length
        guard second < end else { return second }
        let (after, afterLength) = classes.look(text, second, end)
        if after & CharacterClasses.letter != 0, flags & CharacterClasses.newline == 0 {
            return run(of: CharacterClasses.letter, text, second + afterLength, end, classes)
        }
        if flags & CharacterClasses.space != 0 {
            guard byte == UInt8(ascii: " "), after & CharacterClasses.known == 0 else {
                return spacesWithNewlines(text, at, end, classes)
            }
            second += afterLength
        }
        second = run(of: 0, text, second, end, classes)
        while second < end, text[second] == 10 || text[second] == 13 { second += 1 }
        return second
    }

    /// The end of characters of one kind: letters, numbers, or (0) neither of them nor spaces.
    @inline(__always)
    private func run(
        of kind: UInt8, _ text: UnsafePointer<UInt8>, _ from: Int, _ end: Int, _ classes: CharacterClasses
    ) -> Int {
        var at = from
        while at < end {
            let (flags, length) = classes.look(text, at, end)
            guard flags & CharacterClasses.known == kind else { break }
            at += length
        }
        return at
    }

    /// `\s+(?!\S)|\s+`: the last space before something else stays for it.
    private func spaces(_ text: UnsafePointer<UInt8>, _ from: Int, _ end: Int, _ classes: CharacterClasses) -> Int {
        var at = from
        var last = from
        while at < end {
            let (flags, length) = classes.look(text, at, end)
            guard flags & CharacterClasses.space != 0 else { return last > from ? last : at }
            last = at
            at += length
        }
        return at
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`.
    private func spacesWithNewlines(
        _ text: UnsafePointer<UInt8>, _ from: Int, _ end: Int, _ classes: CharacterClasses
    ) -> Int {
        var at = from
        var last = from
        var lines = from
        var isLast = true
        while at < end {
            let (flags, length) = classes.look(text, at, end)
            guard flags & CharacterClasses.space != 0 else {
                isLast = false
                break
            }
            last = at
            at += length
            if flags & CharacterClasses.newline != 0 { lines = at }
        }
        if lines > from { return lines }
        return isLast || last == from ? at : last
    }

    /// The length of 's, 't, 're, 've, 'm, 'll or 'd at an apostrophe; 0 where there is none. In any case of letters ſ
    /// (U+017F) is an s, as Unicode folds it.
    @inline(__always)
    private func contraction(_ text: UnsafePointer<UInt8>, _ at: Int, _ end: Int, anyCase: Bool) -> Int {
        guard at + 1 < end else { return 0 }
        let fold: UInt8 = anyCase ? 0x20 : 0
        @inline(__always) func letter(_ index: Int) -> UInt8 {
            let byte = text[at + index]
            return byte &- 0x41 < 26 ? byte | fold : byte
        }
        switch letter(1) {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return 2
        case UInt8(ascii: "r"), UInt8(ascii: "v"): return at + 2 < end && letter(2) == UInt8(ascii: "e") ? 3 : 0
        case UInt8(ascii: "l"): return at + 2 < end && letter(2) == UInt8(ascii: "l") ? 3 : 0
        case 0xC5: return anyCase && at + 2 < end && text[at + 2] == 0xBF ? 3 : 0
        default: return 0
        }
    }
}
