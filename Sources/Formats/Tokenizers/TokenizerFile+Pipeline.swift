import JSON

extension TokenizerFile {
    /// What happens to a text before merging.
    struct Pipeline {
        var normalization = Tokenizer.Normalization.none
        var splitting = Tokenizer.Splitting()
        var isByteLevel = false
    }

    func pipeline(_ file: JSONObject) throws(TokenizerError) -> Pipeline {
        var found = Pipeline()
        found.normalization = try normalization(file["normalizer"])
        if let value = file["pre_tokenizer"], !value.isNull { try addSteps(value, "pre_tokenizer", to: &found) }
        if found.isByteLevel, case .metaspace = found.normalization {
            throw unsupported("normalizer", file["normalizer"], "null or NFC beside a ByteLevel pre_tokenizer")
        }
        if !found.isByteLevel, !found.splitting.steps.isEmpty {
            throw unsupported("pre_tokenizer", file["pre_tokenizer"], "Split or Digits with ByteLevel after them")
        }
        if !found.isByteLevel, found.splitting.metaspace == nil,
            found.normalization == .none
                || found.normalization == .compose
        {
            throw unsupported(
                "pre_tokenizer", file["pre_tokenizer"],
                "ByteLevel or Metaspace, or a normalizer that writes ▁ for spaces")
        }
        return found
    }

    // MARK: normalizer

    private func normalization(_ value: JSONValue?) throws(TokenizerError) -> Tokenizer.Normalization {
        guard let value, !value.isNull else { return .none }
        switch value.object?["type"]?.text {
        case "NFC":
            _ = try object(value, "normalizer", keys: ["type"])
            return .compose
        case "Sequence":
            let object = try object(value, "normalizer", keys: ["type", "normalizers"])
            guard let list = object["normalizers"]?.array, list.count <= 8 else {
                throw malformed("normalizer.normalizers", "must be an array of a few")
            }
            return try sequence(list)
        default: return try sequence([value])
        }
    }

    /// Nothing, NFC, or what Llama 2 does: a ▁ before everything, then ▁ for each space.
    private func sequence(_ list: [JSONValue]) throws(TokenizerError) -> Tokenizer.Normalization {
        var prepends = false
        var replaces = false
        for (index, value) in list.enumerated() {
            let place = "normalizer.normalizers[\(index)]"
            switch value.object?["type"]?.text {
            case "NFC" where list.count == 1:
                _ = try object(value, place, keys: ["type"])
                return .compose
            case "Prepend" where !prepends && !replaces:
                let object = try object(value, place, keys: ["type", "prepend"])
                guard object["prepend"]?.text == "▁" else {
                    throw unsupported("\(place).prepend", object["prepend"], "“▁”")
                }
                prepends = true
            case "Replace" where !replaces:
                try expectReplacement(value, place, from: " ", to: "▁")
                replaces = true
            default:
                throw unsupported(
                    "\(place).type", value.object?["type"], "NFC alone, or Prepend and Replace as Llama 2 has them")
            }
        }
        guard replaces || !prepends else {
            throw unsupported("normalizer", "Prepend alone", "Prepend with a Replace of spaces after it")
        }
        return replaces ? .metaspace(prepends: prepends) : .none
    }

    func expectReplacement(
        _ value: JSONValue, _ place: String, from old: String, to new: String
    ) throws(TokenizerError) {
        let object = try object(value, place, keys: ["type", "pattern", "content"])
        guard object["pattern"] == ["String": .string(old)] else {
            throw unsupported("\(place).pattern", object["pattern"], "{\"String\": \"\(old)\"}")
        }
        guard object["content"]?.text == new else {
            throw unsupported("\(place).content", object["content"], "“\(new)”")
        }
    }

    // MARK: pre_tokenizer

    private func addSteps(_ value: JSONValue, _ place: String, to found: inout Pipeline) throws(TokenizerError) {
        guard !found.isByteLevel, found.splitting.metaspace == nil else {
            throw unsupported(place, value, "nothing after ByteLevel or Metaspace")
        }
        switch value.object?["type"]?.text {
        case "Sequence" where place == "pre_tokenizer":
            let object = try object(value, place, keys: ["type", "pretokenizers"])
            guard let list = object["pretokenizers"]?.array, list.count <= 8 else {
                throw malformed("\(place).pretokenizers", "must be an array of a few")
            }
            for (index, item) in list.enumerated() {
                try addSteps(item, "\(place).pretokenizers[\(index)]", to: &found)
            }
        case "Split": found.splitting.steps.append(.pattern(try splitPattern(value, place)))
        case "Digits":
            let object = try object(value, place, keys: ["type", "individual_digits"])
            found.splitting.steps.append(
                .digits(
                    individual: try flag(object["individual_digits"], "\(place).individual_digits", otherwise: false)))
        case "ByteLevel":
            let object = try object(value, place, keys: ["type", "add_prefix_space", "trim_offsets", "use_regex"])
            guard try !flag(object["add_prefix_space"], "\(place).add_prefix_space", otherwise: true) else {
                throw unsupported("\(place).add_prefix_space", object["add_prefix_space"] ?? true, "false")
            }
            if try flag(object["use_regex"], "\(place).use_regex", otherwise: true) {
                found.splitting.steps.append(.pattern(.gpt2))
            }
            found.isByteLevel = true
        case "Metaspace":
            guard found.splitting.steps.isEmpty else {
                throw unsupported(place, "Metaspace", "Metaspace alone")
            }
            found.splitting.metaspace = try metaspace(value, place)
        default:
            throw unsupported(
                "\(place).type", value.object?["type"], "ByteLevel, Metaspace, Digits, Split or a Sequence of them")
        }
    }

    private func splitPattern(_ value: JSONValue, _ place: String) throws(TokenizerError) -> SplitPattern {
        let object = try object(value, place, keys: ["type", "pattern", "behavior", "invert"])
        guard object["behavior"]?.text == "Isolated" else {
            throw unsupported("\(place).behavior", object["behavior"], "“Isolated”")
        }
        guard try !flag(object["invert"], "\(place).invert", otherwise: false) else {
            throw unsupported("\(place).invert", object["invert"], "false")
        }
        guard let expression = object["pattern"]?.object?["Regex"]?.text,
            let pattern = SplitPattern(expression: expression)
        else {
            throw unsupported(
                "\(place).pattern", object["pattern"]?.object?["Regex"] ?? object["pattern"],
                "the expression of \(SplitPattern.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return pattern
    }

    private func metaspace(
        _ value: JSONValue, _ place: String
    ) throws(TokenizerError) -> (prepending: Tokenizer.Prepending, splits: Bool) {
        let object = try object(
            value, place, keys: ["type", "replacement", "prepend_scheme", "add_prefix_space", "split"])
        guard object["replacement"]?.text == "▁" else {
            throw unsupported("\(place).replacement", object["replacement"], "“▁”")
        }
        let prefix = try flag(object["add_prefix_space"], "\(place).add_prefix_space", otherwise: true)
        let scheme = object["prepend_scheme"]?.text ?? (prefix ? "always" : "never")
        guard let prepending = Tokenizer.Prepending(rawValue: scheme), prefix || prepending == .never else {
            throw unsupported("\(place).prepend_scheme", object["prepend_scheme"], "“always”, “first” or “never”")
        }
        return (prepending, try flag(object["split"], "\(place).split", otherwise: true))
    }

    // MARK: decoder

    func decoding(_ value: JSONValue?, isByteLevel: Bool) throws(TokenizerError) -> Decoding {
        guard let value, !value.isNull else {
            guard isByteLevel else { throw unsupported("decoder", nil, "a Sequence as Llama 2 has it, or Metaspace") }
            return Decoding()
        }
        switch value.object?["type"]?.text {
        case "ByteLevel" where isByteLevel:
            _ = try object(value, "decoder", keys: ["type", "add_prefix_space", "trim_offsets", "use_regex"])
            return Decoding()
        case "Metaspace" where !isByteLevel:
            let (prepending, _) = try metaspace(value, "decoder")
            return Decoding(replacesMetaspace: true, stripsStart: prepending != .never)
        case "Sequence" where !isByteLevel:
            let object = try object(value, "decoder", keys: ["type", "decoders"])
            return try decoderSequence(object["decoders"]?.array ?? [])
        default:
            throw unsupported(
                "decoder.type", value.object?["type"],
                isByteLevel ? "ByteLevel, as the pre_tokenizer" : "Metaspace or a Sequence as Llama 2 has it")
        }
    }

    /// Replace, ByteFallback, Fuse, Strip, in that order; the last may be missing.
    private func decoderSequence(_ list: [JSONValue]) throws(TokenizerError) -> Decoding {
        var found = Decoding()
        var last = -1
        for (index, value) in list.enumerated() {
            let place = "decoder.decoders[\(index)]"
            let order = ["Replace", "ByteFallback", "Fuse", "Strip"]
            guard let number = value.object?["type"]?.text.flatMap(order.firstIndex(of:)), number > last else {
                throw unsupported(
                    "\(place).type", value.object?["type"], "Replace, ByteFallback, Fuse and Strip in this order")
            }
            last = number
            switch number {
            case 0:
                try expectReplacement(value, place, from: "▁", to: " ")
                found.replacesMetaspace = true
            case 1:
                _ = try object(value, place, keys: ["type"])
                found.readsBytes = true
            case 2: _ = try object(value, place, keys: ["type"])
            default:
                let object = try object(value, place, keys: ["type", "content", "start", "stop"])
                guard object["content"]?.text == " ", object["stop"]?.integer == 0,
                    let start = object["start"]?.integer, start == 0 || start == 1
                else { throw unsupported(place, value, "a Strip of at most one space at the start") }
                found.stripsStart = start == 1
            }
        }
        guard found.replacesMetaspace else { throw unsupported("decoder.decoders", nil, "a Replace of ▁ by a space") }
        return found
    }
}
