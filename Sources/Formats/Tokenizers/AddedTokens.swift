/// Tokens that are looked for in the text before everything else, leftmost first and of those the longest.
struct AddedTokens: Sendable {
    struct Token: Hashable, Sendable {
        var id: UInt32
        /// UTF-8, as looked for.
        var content: [UInt8]
        /// Takes the white space before, after it.
        var stripsLeft = false
        var stripsRight = false
        /// Control tokens: not written by decoding unless asked for.
        var isSpecial = false
    }
    /// A piece of text, or a token.
    struct Match: Hashable, Sendable {
        var token: UInt32?
        var range: Range<Int>
    }
    /// Longest content in bytes.
    static let longest = 512

    private struct Node {
        let byte: UInt8
        var token: Int32 = -1
        var firstChild: Int32 = -1
        var nextSibling: Int32 = -1
    }
    private let tokens: [Token]
    private var nodes: [Node] = []
    private var roots = [Int32](repeating: -1, count: 256)

    init(_ tokens: [Token]) {
        self.tokens = tokens
        leavesSpace = tokens.allSatisfy { token in
            // ▁ is how a space is looked for after normalization.
            !token.stripsLeft && !token.stripsRight && !token.content.contains { $0 <= 32 }
                && !token.content.indices.contains { token.content[$0...].starts(with: metaspaceBytes) && $0 > 0 }
        }
        for (index, token) in tokens.enumerated() where !token.content.isEmpty { insert(token.content, Int32(index)) }
    }

    var isEmpty: Bool { nodes.isEmpty }

    /// Whether no token holds white space within it or takes that around it.
    let leavesSpace: Bool

    private mutating func insert(_ content: [UInt8], _ token: Int32) {
        var node = roots[Int(content[0])]
        if node < 0 {
            node = Int32(nodes.count)
            roots[Int(content[0])] = node
            nodes.append(Node(byte: content[0]))
        }
        for byte in content.dropFirst() {
            var child = nodes[Int(node)].firstChild
            while child >= 0, nodes[Int(child)].byte != byte { child = nodes[Int(child)].nextSibling }
            if child < 0 {
                child = Int32(nodes.count)
                nodes.append(Node(byte: byte, nextSibling: nodes[Int(node)].firstChild))
                nodes[Int(node)].firstChild = child
            }
            node = child
        }
        nodes[Int(node)].token = token
    }

    /// The longest token that begins at `at`.
    private func longest(_ text: UnsafePointer<UInt8>, _ at: Int, _ end: Int) -> Token? {
        var node = roots[Int(text[at])]
        var found: Int32 = -1
        var next = at + 1
        while node >= 0 {
            if nodes[Int(node)].token >= 0 { found = nodes[Int(node)].token }
            guard next < end else { break }
            var child = nodes[Int(node)].firstChild
            while child >= 0, nodes[Int(child)].byte != text[next] { child = nodes[Int(child)].nextSibling }
            node = child
            next += 1
        }
        return found < 0 ? nil : tokens[Int(found)]
    }

    /// Calls `body` with the parts of the text in order; special tokens stay text unless `parsingSpecial`.
    func forEachPart(
        _ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int, parsingSpecial: Bool, _ body: (Match) -> Void
    ) {
        var done = start
        var at = start
        while at < end {
            guard roots[Int(text[at])] >= 0, let token = longest(text, at, end) else {
                at += 1
                continue
            }
            var first = at
            at += token.content.count
            guard parsingSpecial || !token.isSpecial else { continue }
            if token.stripsLeft { first = Self.spaceBefore(text, first, downTo: done) }
            if token.stripsRight { at = Self.spaceAfter(text, at, end) }
            if done < first { body(Match(token: nil, range: done..<first)) }
            body(Match(token: token.id, range: first..<at))
            done = at
        }
        if done < end { body(Match(token: nil, range: done..<end)) }
    }

    private static func spaceAfter(_ text: UnsafePointer<UInt8>, _ from: Int, _ end: Int) -> Int {
        var at = from
        while at < end {
            let (flags, length) = CharacterClasses.shared.look(text, at, end)
            guard flags & CharacterClasses.space != 0 else { break }
            at += length
        }
        return at
    }

    private static func spaceBefore(_ text: UnsafePointer<UInt8>, _ from: Int, downTo start: Int) -> Int {
        var at = from
        while at > start {
            // Spaces have at most three bytes.
            guard
                let length = (1...min(3, at - start)).first(where: { length in
                    let found = CharacterClasses.shared.look(text, at - length, at)
                    return found.length == length && found.flags & CharacterClasses.space != 0
                })
            else { break }
            at -= length
        }
        return at
    }
}
