/// Text to tokens and back, as a Hugging Face `tokenizer.json` of byte-pair kind says. Immutable; one ``TokenEncoder`` a
/// thread does the work.
public final class Tokenizer: Sendable {
    /// How bytes become the first symbols.
    enum Alphabet: Sendable {
        /// Every byte is a symbol (GPT-2, Llama 3, Qwen2, SmolLM2).
        case bytes
        /// Every character is; one that the vocabulary lacks is spelt in bytes, if `fallsBack` (Llama 2, TinyLlama, Mistral).
        case characters(fallsBack: Bool)
    }
    /// What is done to a text before it is looked at.
    enum Normalization: Hashable, Sendable {
        case none
        case compose
        /// Spaces become ▁; `prepends` puts one before everything.
        case metaspace(prepends: Bool)
    }
    /// When a ▁ is put before a part that does not begin with one.
    enum Prepending: String, Sendable { case always, first, never }
    enum Split: Sendable {
        case pattern(SplitPattern)
        case digits(individual: Bool)
    }
    /// How a text is parted before merging.
    struct Splitting: Sendable {
        var steps: [Split] = []
        /// Spaces become ▁ here; parts begin with one.
        var metaspace: (prepending: Prepending, splits: Bool)?
    }
    /// What stands for characters that no token is made of.
    struct Unknown: Sendable {
        var id: UInt32
        /// Neighbours become one.
        var isFused: Bool
    }

    package let vocabulary: Vocabulary
    let alphabet: Alphabet
    /// By byte: itself where every byte is a symbol, else `<0x0A>`.
    package let ofByte: [UInt32]
    package let merges: MergeTable
    let unknown: Unknown?
    /// A piece that is a token is that token, whatever its merges would make.
    let ignoresMerges: Bool
    /// Whether a text may be parted before every ▁ that follows something else: no token holds one further in.
    package let partsAtMetaspace: Bool
    let normalization: Normalization
    let splitting: Splitting
    let rawAdded: AddedTokens
    let normalizedAdded: AddedTokens
    let decoding: Decoding
    private let special: Set<UInt32>
    private let addedIDs: [[UInt8]: UInt32]

    /// What the template puts before and after a text.
    public let prefix: [UInt32]
    public let suffix: [UInt32]

    init(_ parts: Parts) {
        vocabulary = parts.vocabulary
        alphabet = parts.alphabet
        ofByte = parts.ofByte
        merges = parts.merges
        unknown = parts.unknown
        ignoresMerges = parts.ignoresMerges
        partsAtMetaspace = parts.partsAtMetaspace
        normalization = parts.normalization
        splitting = parts.splitting
        rawAdded = AddedTokens(parts.rawAdded)
        normalizedAdded = AddedTokens(parts.normalizedAdded)
        decoding = parts.decoding
        special = Set(parts.added.filter(\.isSpecial).map(\.id))
        addedIDs = Dictionary(parts.added.map { ($0.content, $0.id) }) { first, _ in first }
        prefix = parts.prefix
        suffix = parts.suffix
    }

    /// What ``init(_:)`` is given.
    struct Parts {
        var vocabulary: Vocabulary
        var alphabet: Alphabet
        var ofByte: [UInt32]
        var merges: MergeTable
        var unknown: Unknown?
        var ignoresMerges = false
        var partsAtMetaspace = true
        var normalization = Normalization.none
        var splitting = Splitting()
        /// As written in the file.
        var added: [AddedTokens.Token] = []
        /// As looked for, before and after normalization.
        var rawAdded: [AddedTokens.Token] = []
        var normalizedAdded: [AddedTokens.Token] = []
        var decoding = Decoding()
        var prefix: [UInt32] = []
        var suffix: [UInt32] = []
    }

    /// All IDs are below it.
    public var count: Int { vocabulary.count }

    /// Bytes that no token stands for: a text with one of them does not survive. SmolLM2 lacks 21.
    public var missingBytes: [UInt8] {
        unknown == nil ? (0...255).filter { ofByte[Int($0)] == Vocabulary.none && !isSpelt($0) } : []
    }
    private func isSpelt(_ byte: UInt8) -> Bool {
        guard case .characters = alphabet, byte < 0x80 else { return false }
        return vocabulary.find([byte]) != nil
    }

    /// The ID of an added token, such as `<|im_end|>`.
    public func id(ofAdded text: String) -> UInt32? { addedIDs[Array(text.utf8)] }

    public func isSpecial(_ id: UInt32) -> Bool { special.contains(id) }

    /// The bytes of one token, as they stand within a text; nil for a number without a token.
    public func bytes(of id: UInt32) -> [UInt8]? {
        guard id < count else { return nil }
        return decoding.bytes(of: vocabulary.content(id))
    }

    /// The text of tokens. Bytes that are no UTF-8 stay.
    public func decode(_ ids: some Sequence<UInt32>, skippingSpecial: Bool = true) throws(TokenizerError) -> [UInt8] {
        var decoder = TokenDecoder(self, skippingSpecial: skippingSpecial)
        var text: [UInt8] = []
        for id in ids { text += try decoder.append(id) }
        return text
    }

    /// The tokens of a text; ``TokenEncoder`` for many texts.
    public func encode(_ text: String, addingSpecial: Bool = true, parsingSpecial: Bool = true) -> [UInt32] {
        TokenEncoder(self).encode(Array(text.utf8), addingSpecial: addingSpecial, parsingSpecial: parsingSpecial)
    }
}

/// How tokens become text.
struct Decoding: Sendable {
    /// ▁ becomes a space.
    var replacesMetaspace = false
    /// `<0x0A>` becomes its byte.
    var readsBytes = false
    /// A space at the very beginning goes.
    var stripsStart = false

    /// `content` as text within others.
    func bytes(of content: ArraySlice<UInt8>) -> [UInt8] {
        if readsBytes, let byte = Self.byte(content) { return [byte] }
        guard replacesMetaspace, content.contains(0xE2) else { return Array(content) }
        var text: [UInt8] = []
        var at = content.startIndex
        while at < content.endIndex {
            if content[at...].starts(with: metaspaceBytes) {
                text.append(32)
                at += 3
            } else {
                text.append(content[at])
                at += 1
            }
        }
        return text
    }

    /// `<0x0A>` read.
    private static func byte(_ content: ArraySlice<UInt8>) -> UInt8? {
        guard content.count == 6, content.starts(with: "<0x".utf8), content.last == UInt8(ascii: ">") else {
            return nil
        }
        return UInt8(String(decoding: content.dropFirst(3).dropLast(), as: UTF8.self), radix: 16)
    }
}

/// ▁ (U+2581).
let metaspaceBytes: [UInt8] = [0xE2, 0x96, 0x81]

/// Tokens to text, one by one.
public struct TokenDecoder: Sendable {
    private let tokenizer: Tokenizer
    private let skippingSpecial: Bool
    private var isStart: Bool

    /// `continuing`: what comes is not the beginning of a text, so a space before its first word stays.
    public init(_ tokenizer: Tokenizer, skippingSpecial: Bool = true, continuing: Bool = false) {
        self.tokenizer = tokenizer
        self.skippingSpecial = skippingSpecial
        isStart = !continuing
    }

    /// What the next token adds to the text.
    public mutating func append(_ id: UInt32) throws(TokenizerError) -> [UInt8] {
        if skippingSpecial, tokenizer.isSpecial(id) { return [] }
        guard var bytes = tokenizer.bytes(of: id) else {
            throw .unknownToken(id: Int(id), count: tokenizer.count)
        }
        if isStart, !bytes.isEmpty {
            isStart = false
            if tokenizer.decoding.stripsStart, bytes[0] == 32 { bytes.removeFirst() }
        }
        return bytes
    }
}
