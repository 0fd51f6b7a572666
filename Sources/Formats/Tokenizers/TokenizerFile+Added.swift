import JSON

extension TokenizerFile {
    /// `added_tokens` as read so far.
    struct Added {
        /// As written.
        private(set) var tokens: [AddedTokens.Token] = []
        /// As looked for, in the text as it is and in the normalized one.
        private(set) var raw: [AddedTokens.Token] = []
        private(set) var normalized: [AddedTokens.Token] = []
        /// The number that the reference would give the next one that the model's vocabulary lacks.
        private var next: UInt32
        private var numbers: Set<UInt32> = []
        private var contents: Set<[UInt8]> = []

        /// `count`: the tokens of the model's own vocabulary.
        init(count: Int) { next = UInt32(count) }

        mutating func read(
            _ value: JSONValue?, _ file: TokenizerFile, _ model: ModelSection.Content,
            _ normalization: Tokenizer.Normalization
        ) throws(TokenizerError) {
            guard let value, !value.isNull else { return }
            guard let list = value.array else {
                throw file.malformed("added_tokens", "is \(value.kind), it must be an array")
            }
            guard list.count <= TokenizerFile.mostTokens else {
                throw .tooLarge(
                    path: file.path, what: "added tokens", found: list.count, limit: TokenizerFile.mostTokens)
            }
            for (index, value) in list.enumerated() {
                let place = "added_tokens[\(index)]"
                let (token, isNormalized) = try file.addedToken(value, place)
                guard numbers.insert(token.id).inserted else {
                    throw file.malformed("\(place).id", "\(token.id) is another added token's")
                }
                guard contents.insert(token.content).inserted else {
                    throw file.malformed("\(place).content", "is another added token's")
                }
                let known = model.numbers[token.content]
                guard known ?? next == token.id else {
                    throw file.malformed(
                        "\(place).id",
                        "is \(token.id), the vocabulary makes it \(known ?? next): other programs would number it anew")
                }
                next = max(next, token.id + 1)
                tokens.append(token)
                if isNormalized {
                    var looked = token
                    looked.content = file.normalized(token.content, normalization)
                    normalized.append(looked)
                } else {
                    raw.append(token)
                }
            }
        }

        /// The vocabulary with these: decoded as what they are, whatever alphabet their letters are of.
        func entries(with model: [Vocabulary.Entry]) -> [Vocabulary.Entry] {
            var own: [UInt32: [UInt8]] = [:]
            for token in tokens { own[token.id] = token.content }
            var entries = model
            for index in entries.indices {
                guard let content = own.removeValue(forKey: entries[index].id), content != entries[index].content
                else { continue }
                entries[index].content = content
                entries[index].isFindable = false
            }
            for token in tokens where own[token.id] != nil {
                entries.append(Vocabulary.Entry(id: token.id, content: token.content, isFindable: false))
            }
            return entries
        }
    }

    fileprivate func addedToken(
        _ value: JSONValue, _ place: String
    ) throws(TokenizerError) -> (AddedTokens.Token, isNormalized: Bool) {
        let object = try object(
            value, place, keys: ["id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"])
        guard let content = object["content"]?.text, !content.isEmpty else {
            throw malformed("\(place).content", "must be a text")
        }
        guard content.utf8.count <= AddedTokens.longest else {
            throw .tooLarge(
                path: path, what: "bytes in \(place).content", found: content.utf8.count, limit: AddedTokens.longest)
        }
        guard try !flag(object["single_word"], "\(place).single_word", otherwise: false) else {
            throw unsupported("\(place).single_word", object["single_word"], "false")
        }
        let isSpecial = try flag(object["special"], "\(place).special", otherwise: false)
        let token = AddedTokens.Token(
            id: try id(object["id"] ?? .null, "\(place).id"), content: Array(content.utf8),
            stripsLeft: try flag(object["lstrip"], "\(place).lstrip", otherwise: false),
            stripsRight: try flag(object["rstrip"], "\(place).rstrip", otherwise: false), isSpecial: isSpecial)
        return (token, try flag(object["normalized"], "\(place).normalized", otherwise: !isSpecial))
    }

    fileprivate func normalized(_ content: [UInt8], _ normalization: Tokenizer.Normalization) -> [UInt8] {
        switch normalization {
        case .none: return content
        case .compose:
            var out: [UInt8] = []
            content.withUnsafeBufferPointer { Composition.shared.append($0.baseAddress!, $0.count, to: &out) }
            return out
        case .metaspace(let prepends):
            return (prepends ? metaspaceBytes : []) + content.flatMap { $0 == 32 ? metaspaceBytes : [$0] }
        }
    }
}
