import JSON

/// `model` of a `tokenizer.json`.
struct ModelSection {
    /// What it holds, checked.
    struct Content {
        var entries: [Vocabulary.Entry]
        /// By text as written.
        var numbers: [[UInt8]: UInt32]
        var alphabet: Tokenizer.Alphabet
        var ofByte: [UInt32]
        var merges: [MergeTable.Merge]
        var unknown: Tokenizer.Unknown?
        var ignoresMerges: Bool
        var partsAtMetaspace: Bool
    }

    let file: TokenizerFile
    let isByteLevel: Bool

    func read(_ value: JSONValue?) throws(TokenizerError) -> Content {
        let object = try file.object(
            value, "model",
            keys: [
                "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                "byte_fallback", "ignore_merges", "vocab", "merges",
            ])
        guard object["type"]?.text ?? (object["merges"] == nil ? nil : "BPE") == "BPE" else {
            throw file.unsupported("model.type", object["type"], "“BPE”")
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            let value = object[key] ?? .null
            guard value.isNull || value.text == "" else { throw file.unsupported("model.\(key)", value, "null") }
        }
        let dropout = object["dropout"] ?? .null
        guard dropout.isNull || dropout.double == 0 else { throw file.unsupported("model.dropout", dropout, "null") }

        let (entries, numbers) = try vocabulary(object["vocab"])
        let merges = try merges(object["merges"], numbers)
        let fallsBack = try file.flag(object["byte_fallback"], "model.byte_fallback", otherwise: false)
        guard !(isByteLevel && fallsBack) else {
            throw file.unsupported("model.byte_fallback", true, "false beside a ByteLevel pre_tokenizer")
        }
        var content = Content(
            entries: entries, numbers: numbers, alphabet: isByteLevel ? .bytes : .characters(fallsBack: fallsBack),
            ofByte: bytes(numbers), merges: merges, unknown: nil,
            ignoresMerges: try file.flag(object["ignore_merges"], "model.ignore_merges", otherwise: false),
            partsAtMetaspace: false)
        content.partsAtMetaspace =
            !isByteLevel && !content.ignoresMerges && numbers[metaspaceBytes] != nil
            && Self.neverBridge(merges, entries)
        // An empty text is how some files say that there is none.
        if let name = object["unk_token"], !name.isNull, name.text != "" {
            guard let text = name.text, let id = numbers[Array(text.utf8)] else {
                throw file.malformed("model.unk_token", "\(name.kind) is not in the vocabulary")
            }
            content.unknown = Tokenizer.Unknown(
                id: id, isFused: try file.flag(object["fuse_unk"], "model.fuse_unk", otherwise: false))
        }
        return content
    }

    /// Whether no merge makes a token that holds a ▁ after something else.
    private static func neverBridge(_ merges: [MergeTable.Merge], _ entries: [Vocabulary.Entry]) -> Bool {
        let made = Set(merges.map(\.result))
        return entries.allSatisfy { entry in
            guard made.contains(entry.id) else { return true }
            var rest = entry.content[...]
            while rest.starts(with: metaspaceBytes) { rest = rest.dropFirst(3) }
            return !rest.indices.contains { rest[$0...].starts(with: metaspaceBytes) }
        }
    }

    // MARK: vocabulary

    private func vocabulary(
        _ value: JSONValue?
    ) throws(TokenizerError) -> (entries: [Vocabulary.Entry], numbers: [[UInt8]: UInt32]) {
        guard let members = value?.object?.members else {
            throw file.malformed("model.vocab", "is \(value?.kind ?? "missing"), it must be an object")
        }
        guard members.count <= TokenizerFile.mostTokens else {
            throw .tooLarge(
                path: file.path, what: "tokens", found: members.count, limit: TokenizerFile.mostTokens)
        }
        var entries: [Vocabulary.Entry] = []
        entries.reserveCapacity(members.count)
        var numbers: [[UInt8]: UInt32] = [:]
        numbers.reserveCapacity(members.count)
        var owners: [UInt32: Int] = [:]
        owners.reserveCapacity(members.count)
        for (index, member) in members.enumerated() {
            let text = Array(member.key.utf8)
            guard text.count <= TokenizerFile.longestToken else {
                throw .tooLarge(
                    path: file.path, what: "bytes in a token", found: text.count, limit: TokenizerFile.longestToken)
            }
            let id = try file.id(member.value, "model.vocab[“\(member.key.prefix(40))”]")
            guard id < 2 * members.count + 65_536 else {
                throw file.malformed(
                    "model.vocab[“\(member.key.prefix(40))”]", "\(id) is far beyond \(members.count) tokens")
            }
            if let other = owners.updateValue(index, forKey: id) {
                throw file.malformed(
                    "model.vocab[“\(member.key.prefix(40))”]",
                    "\(id) is the number of “\(members[other].key.prefix(40))”")
            }
            numbers[text] = id
            let bytes = isByteLevel ? ByteAlphabet.bytes(of: member.key) : text
            entries.append(
                Vocabulary.Entry(id: id, content: bytes ?? text, isFindable: bytes != nil && !text.isEmpty))
        }
        return (entries, numbers)
    }

    /// The token of each byte: its character, or `<0x0A>`.
    private func bytes(_ numbers: [[UInt8]: UInt32]) -> [UInt32] {
        (0...255).map { (byte: Int) in
            let digits = String(byte, radix: 16, uppercase: true)
            let name =
                isByteLevel
                ? String(Character(ByteAlphabet.characters[byte]))
                : "<0x\(digits.count < 2 ? "0" : "")\(digits)>"
            return numbers[Array(name.utf8)] ?? Vocabulary.none
        }
    }

    // MARK: merges

    private func merges(
        _ value: JSONValue?, _ numbers: [[UInt8]: UInt32]
    ) throws(TokenizerError) -> [MergeTable.Merge] {
        guard let list = value?.array else {
            throw file.malformed("model.merges", "is \(value?.kind ?? "missing"), it must be an array")
        }
        guard list.count <= TokenizerFile.mostMerges else {
            throw .tooLarge(path: file.path, what: "merges", found: list.count, limit: TokenizerFile.mostMerges)
        }
        var merges: [MergeTable.Merge] = []
        merges.reserveCapacity(list.count)
        for (index, value) in list.enumerated() {
            guard let (left, right) = pair(value) else {
                throw file.malformed(
                    "model.merges[\(index)]", "is \(value.kind), it must be two texts or one with a space between them")
            }
            guard let first = numbers[left] else { throw missing(left, index) }
            guard let second = numbers[right] else { throw missing(right, index) }
            guard let result = numbers[left + right] else { throw missing(left + right, index) }
            merges.append(MergeTable.Merge(left: first, right: second, result: result))
        }
        return merges
    }

    private func missing(_ text: [UInt8], _ index: Int) -> TokenizerError {
        file.malformed(
            "model.merges[\(index)]", "“\(String(decoding: text.prefix(40), as: UTF8.self))” is not in the vocabulary")
    }

    /// ["a", "b"], or "a b" as older files have it.
    private func pair(_ value: JSONValue) -> (left: [UInt8], right: [UInt8])? {
        if let parts = value.array {
            guard parts.count == 2, let left = parts[0].text, let right = parts[1].text, !left.isEmpty, !right.isEmpty
            else { return nil }
            return (Array(left.utf8), Array(right.utf8))
        }
        guard let text = value.text else { return nil }
        let parts = Array(text.utf8).split(separator: 32, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        return (Array(parts[0]), Array(parts[1]))
    }
}
