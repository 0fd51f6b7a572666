import JSON

/// Reads `tokenizer.json` of Hugging Face's `tokenizers`, version 1.0, byte-pair kind. Everything in it is either followed or
/// refused by name.
struct TokenizerFile {
    static let largestFile = 256 << 20
    static let mostTokens = 1 << 22
    static let mostMerges = 1 << 24
    static let longestToken = 1 << 16

    let path: String

    func malformed(_ place: String, _ problem: String) -> TokenizerError {
        .malformed(path: path, place: place, problem: problem)
    }
    func unsupported(_ place: String, _ found: JSONValue?, _ allowed: String) -> TokenizerError {
        .unsupported(path: path, place: place, found: found?.kind ?? "missing", allowed: allowed)
    }

    /// The object at `place`, of which only `keys` may be there.
    func object(_ value: JSONValue?, _ place: String, keys: [String]) throws(TokenizerError) -> JSONObject {
        guard let object = value?.object else {
            throw malformed(place, "is \(value?.kind ?? "missing"), it must be an object")
        }
        for member in object.members where !keys.contains(member.key) {
            throw unsupported("\(place).\(member.key)", member.value, "only \(keys.joined(separator: ", "))")
        }
        return object
    }

    func flag(_ value: JSONValue?, _ place: String, otherwise: Bool) throws(TokenizerError) -> Bool {
        guard let value, !value.isNull else { return otherwise }
        guard let flag = value.flag else { throw malformed(place, "is \(value.kind), it must be true or false") }
        return flag
    }

    func id(_ value: JSONValue, _ place: String) throws(TokenizerError) -> UInt32 {
        guard let number = value.integer, number >= 0 else {
            throw malformed(place, "is \(value.kind), a token's number must be whole and at least 0")
        }
        guard number < 4 * Self.mostTokens else {
            throw .tooLarge(path: path, what: "as a token's number", found: number, limit: 4 * Self.mostTokens)
        }
        return UInt32(number)
    }

    func parts(of json: JSONValue) throws(TokenizerError) -> Tokenizer.Parts {
        let file = try object(
            json, "the file",
            keys: [
                "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                "decoder", "model",
            ])
        guard file["version"]?.text == "1.0" else { throw unsupported("version", file["version"], "“1.0”") }
        for key in ["truncation", "padding"] where !(file[key]?.isNull ?? true) {
            throw unsupported(key, file[key], "null: training cuts and fills by itself")
        }
        let steps = try pipeline(file)
        let model = try ModelSection(file: self, isByteLevel: steps.isByteLevel).read(file["model"])
        var added = Added(count: model.entries.count)
        try added.read(file["added_tokens"], self, model, steps.normalization)
        guard let vocabulary = Vocabulary(added.entries(with: model.entries)) else {
            throw malformed("model.vocab", "two tokens are alike or have one number")
        }
        var parts = Tokenizer.Parts(
            vocabulary: vocabulary, alphabet: model.alphabet, ofByte: model.ofByte, merges: MergeTable(model.merges),
            unknown: model.unknown, ignoresMerges: model.ignoresMerges, partsAtMetaspace: model.partsAtMetaspace,
            normalization: steps.normalization, splitting: steps.splitting, added: added.tokens, rawAdded: added.raw,
            normalizedAdded: added.normalized, decoding: try decoding(file["decoder"], isByteLevel: steps.isByteLevel))
        (parts.prefix, parts.suffix) = try template(file["post_processor"], parts)
        return parts
    }

    // MARK: template

    private func template(
        _ value: JSONValue?, _ parts: Tokenizer.Parts
    ) throws(TokenizerError) -> (prefix: [UInt32], suffix: [UInt32]) {
        guard let value, !value.isNull else { return ([], []) }
        return try template(value, "post_processor", parts)
    }

    private func template(
        _ value: JSONValue, _ place: String, _ parts: Tokenizer.Parts
    ) throws(TokenizerError) -> (prefix: [UInt32], suffix: [UInt32]) {
        switch value.object?["type"]?.text {
        case "ByteLevel":
            // It moves offsets only.
            _ = try object(value, place, keys: ["type", "add_prefix_space", "trim_offsets", "use_regex"])
            return ([], [])
        case "Sequence":
            let object = try object(value, place, keys: ["type", "processors"])
            guard let list = object["processors"]?.array, list.count <= 8 else {
                throw malformed("\(place).processors", "must be an array of a few")
            }
            var found: (prefix: [UInt32], suffix: [UInt32]) = ([], [])
            for (index, item) in list.enumerated() {
                guard item.object?["type"]?.text != "Sequence" else {
                    throw unsupported("\(place).processors[\(index)]", "Sequence", "no sequence within a sequence")
                }
                let (prefix, suffix) = try template(item, "\(place).processors[\(index)]", parts)
                found = (prefix + found.prefix, found.suffix + suffix)
            }
            return found
        case "TemplateProcessing": return try single(value, place, parts)
        default:
            throw unsupported(
                "\(place).type", value.object?["type"], "ByteLevel, TemplateProcessing or a Sequence of them")
        }
    }

    /// What `single` puts around A; `pair` is for tasks of two texts.
    private func single(
        _ value: JSONValue, _ place: String, _ parts: Tokenizer.Parts
    ) throws(TokenizerError) -> (prefix: [UInt32], suffix: [UInt32]) {
        let object = try object(value, place, keys: ["type", "single", "pair", "special_tokens"])
        guard let list = object["single"]?.array, list.count <= 64 else {
            throw malformed("\(place).single", "must be an array of a few")
        }
        var prefix: [UInt32] = []
        var suffix: [UInt32] = []
        var hasText = false
        for (index, item) in list.enumerated() {
            let here = "\(place).single[\(index)]"
            if let name = item.object?["SpecialToken"]?.object?["id"]?.text {
                guard let ids = object["special_tokens"]?.object?[name]?.object?["ids"]?.array else {
                    throw malformed(here, "\(name) is not among special_tokens")
                }
                for value in ids {
                    let id = try id(value, "\(place).special_tokens.\(name).ids")
                    guard id < parts.vocabulary.count else {
                        throw malformed("\(place).special_tokens.\(name).ids", "\(id) is no token")
                    }
                    if hasText { suffix.append(id) } else { prefix.append(id) }
                }
            } else if item.object?["Sequence"]?.object?["id"]?.text == "A", !hasText {
                hasText = true
            } else {
                throw unsupported(here, item, "a SpecialToken, or Sequence A once")
            }
        }
        guard hasText else { throw malformed("\(place).single", "does not hold Sequence A") }
        return (prefix, suffix)
    }
}

extension Tokenizer {
    /// Reads `tokenizer.json`. `path` names it in errors.
    public convenience init(json bytes: UnsafeBufferPointer<UInt8>, path: String) throws(TokenizerError) {
        guard bytes.count <= TokenizerFile.largestFile else {
            throw .tooLarge(path: path, what: "bytes", found: bytes.count, limit: TokenizerFile.largestFile)
        }
        let json: JSONValue
        do throws(JSONError) { json = try JSONValue(parsing: bytes, maximumDepth: 16) } catch {
            throw .notJSON(path: path, problem: error.description)
        }
        self.init(try TokenizerFile(path: path).parts(of: json))
    }

    /// Likewise.
    public static func read(_ bytes: [UInt8], path: String) throws(TokenizerError) -> Tokenizer {
        try bytes.withUnsafeBufferPointer { buffer throws(TokenizerError) in
            try Tokenizer(json: buffer, path: path)
        }
    }
}
