extension Tokenizer {
    /// Where a text may be cut so that its parts, encoded one after the other, give the tokens of the whole; at least `length`
    /// bytes after `start`, or the text's end.
    ///
    /// Byte-level: after a line's end between two visible ASCII characters, where every pattern ends a piece and nothing
    /// composes. With ▁: before a space that follows something visible, where no token reaches across.
    public func cut(_ text: UnsafeBufferPointer<UInt8>, from start: Int, atLeast length: Int) -> Int {
        guard canCut, text.count - start > length else { return text.count }
        @inline(__always) func isVisible(_ index: Int) -> Bool { text[index] > 0x20 && text[index] < 0x7F }
        let separator: UInt8
        let offset: Int
        if case .bytes = alphabet { (separator, offset) = (10, 1) } else { (separator, offset) = (32, 0) }
        var at = max(start + length, 1)
        while at + 1 < text.count {
            if text[at] == separator, isVisible(at - 1), isVisible(at + 1) { return at + offset }
            at += 1
        }
        return text.count
    }

    /// Whether added tokens leave white space alone, and marks part the text.
    private var canCut: Bool {
        if case .characters = alphabet, !partsAtMetaspace, splitting.metaspace?.splits != true { return false }
        return rawAdded.leavesSpace && normalizedAdded.leavesSpace
    }
}
