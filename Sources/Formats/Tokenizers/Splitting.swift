extension [Tokenizer.Split] {
    /// Calls `body` with where each piece begins and ends, in order. Each step cuts the pieces of the one before.
    @inline(__always)
    func forEachPiece(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, _ body: (Int, Int) -> Void) {
        let classes = CharacterClasses.shared
        guard count == 1, case .pattern(let pattern) = self[0] else {
            cut(0, text, start, end, classes, body)
            return
        }
        // What most tokenizers do, without a call a piece.
        var at = start
        while at < end {
            let next = pattern.next(text, at, end, classes)
            body(at, next)
            at = next
        }
    }

    private func cut(
        _ index: Int, _ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, _ classes: CharacterClasses,
        _ body: (Int, Int) -> Void
    ) {
        guard index < count else {
            if start < end { body(start, end) }
            return
        }
        var at = start
        while at < end {
            let next =
                switch self[index] {
                case .pattern(let pattern): pattern.next(text, at, end, classes)
                case .digits(let individual): Self.run(text, at, end, classes, individual: individual)
                }
            cut(index + 1, text, at, next, classes, body)
            at = next
        }
    }

    /// The end of a digit, or of a run of what is none; unless `individual`, of a run of digits.
    private static func run(
        _ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, _ classes: CharacterClasses, individual: Bool
    ) -> Int {
        let (flags, length) = classes.look(text, start, end)
        let isNumeric = flags & CharacterClasses.numeric != 0
        var at = start + length
        if isNumeric && individual { return at }
        while at < end {
            let (flags, length) = classes.look(text, at, end)
            guard (flags & CharacterClasses.numeric != 0) == isNumeric else { break }
            at += length
        }
        return at
    }
}
