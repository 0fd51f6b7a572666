import Digests
import Primitives

/// How a conversation is written for a model that was trained on such: the common ways by name. A file's own template is a
/// program in Jinja; it is recognised by its fingerprint, never run.
public enum ChatTemplate: String, Sendable, CaseIterable {
    /// `<|im_start|>role … <|im_end|>`, nothing added.
    case chatml
    /// ChatML that begins with SmolLM2's system message where none is given.
    case smollm2
    /// ChatML that begins with Qwen2's system message where none is given.
    case qwen2
    /// Llama 3's; later ones put dates into the system message and are other templates.
    case llama3
    /// `[INST] <<SYS>> …`, each exchange a text of its own.
    case llama2
    /// Mistral's first ones (v0.1 and v0.2): `[INST] … [/INST]`, no system message.
    case mistral
    /// `<|user|>`, `<|assistant|>` on lines of their own; TinyLlama's too.
    case zephyr

    public struct Message: Hashable, Sendable {
        public enum Role: String, Sendable, CaseIterable { case system, user, assistant }
        public var role: Role
        public var content: String
        public init(_ role: Role, _ content: String) {
            self.role = role
            self.content = content
        }
    }

    /// A part of the text that is tokenized by itself, as when it is generated: what the model answers, or all else.
    public struct Segment: Hashable, Sendable {
        public var text: String
        /// The assistant's words with the token that ends them: what training may count.
        public var isAnswer: Bool
        init(_ text: String, isAnswer: Bool = false) {
            self.text = text
            self.isAnswer = isAnswer
        }
    }

    /// What the model writes after an answer.
    public var ending: String {
        switch self {
        case .chatml, .smollm2, .qwen2: "<|im_end|>"
        case .llama3: "<|eot_id|>"
        case .llama2, .mistral, .zephyr: "</s>"
        }
    }

    /// The template with this name, or the one that a file's text is.
    ///
    /// `source` is `chat_template` of `tokenizer_config.json`; nil where it is none of these: then a name must be given.
    public init?(recognising source: String) {
        var text = source.split(separator: "\\n", omittingEmptySubsequences: false).joined(separator: "\n")
        while let last = text.last, last.isWhitespace { text.removeLast() }
        let digest = sha256(Array(text.utf8)).hex.prefix(16)
        guard let found = Self.fingerprints.first(where: { $0.digest == digest }) else { return nil }
        self = found.template
    }

    /// SHA-256 (first 16 digits) of published templates, `\n` written as a line's end, nothing at the end.
    private static let fingerprints: [(digest: Substring, template: ChatTemplate)] = [
        ("153280e3ff55d19d", .chatml), ("872be49dbb638044", .smollm2), ("793202280c0910ab", .qwen2),
        ("b48c47f644389271", .llama3), ("ba03a121d097859c", .llama3), ("9780fae5bfea3cfd", .llama2),
        ("26a59556925c9873", .mistral), ("66291cf0045c2425", .zephyr),
    ]

    /// The conversation as text in segments. `answering` adds what comes before the next answer.
    public func segments(_ messages: [Message], answering: Bool) throws(TokenizerError) -> [Segment] {
        guard !messages.isEmpty else { throw problem("there is no message") }
        return switch self {
        case .chatml: marked(messages, answering, system: nil)
        case .smollm2:
            marked(
                messages, answering, system: "You are a helpful AI assistant named SmolLM, trained by Hugging Face")
        case .qwen2: marked(messages, answering, system: "You are a helpful assistant.")
        case .llama3: headed(messages, answering)
        case .llama2: try instructed(messages, isFirstKind: true)
        case .mistral: try instructed(messages, isFirstKind: false)
        case .zephyr: lined(messages, answering)
        }
    }

    private func problem(_ text: String) -> TokenizerError { .untellable(template: rawValue, problem: text) }

    private func marked(_ messages: [Message], _ answering: Bool, system: String?) -> [Segment] {
        var all = messages
        if let system, messages[0].role != .system { all.insert(Message(.system, system), at: 0) }
        var segments: [Segment] = []
        for message in all {
            segments.append(Segment("<|im_start|>\(message.role.rawValue)\n"))
            segments.append(Segment("\(message.content)<|im_end|>", isAnswer: message.role == .assistant))
            segments.append(Segment("\n"))
        }
        if answering { segments.append(Segment("<|im_start|>assistant\n")) }
        return Self.joined(segments)
    }

    private func headed(_ messages: [Message], _ answering: Bool) -> [Segment] {
        var segments = [Segment("<|begin_of_text|>")]
        for message in messages {
            segments.append(Segment("<|start_header_id|>\(message.role.rawValue)<|end_header_id|>\n\n"))
            segments.append(Segment("\(trimmed(message.content))<|eot_id|>", isAnswer: message.role == .assistant))
        }
        if answering { segments.append(Segment("<|start_header_id|>assistant<|end_header_id|>\n\n")) }
        return Self.joined(segments)
    }

    private func lined(_ messages: [Message], _ answering: Bool) -> [Segment] {
        var segments: [Segment] = []
        for message in messages {
            segments.append(Segment("<|\(message.role.rawValue)|>\n"))
            segments.append(Segment("\(message.content)</s>", isAnswer: message.role == .assistant))
            segments.append(Segment("\n"))
        }
        if answering { segments.append(Segment("<|assistant|>\n")) }
        return Self.joined(segments)
    }

    private func instructed(_ messages: [Message], isFirstKind: Bool) throws(TokenizerError) -> [Segment] {
        var rest = messages[...]
        var system = ""
        if rest[rest.startIndex].role == .system {
            guard isFirstKind else { throw problem("it has no system message; put it into the first question") }
            system = "<<SYS>>\n\(rest.removeFirst().content)\n<</SYS>>\n\n"
        }
        var segments = isFirstKind ? [] : [Segment("<s>")]
        for (index, message) in rest.enumerated() {
            guard message.role == (index % 2 == 0 ? .user : .assistant) else {
                throw problem("questions and answers must alternate, beginning with a question")
            }
            switch (message.role, isFirstKind) {
            case (.user, true):
                let content = trimmed(index == 0 ? system + message.content : message.content)
                segments.append(Segment("<s>[INST] \(content) [/INST]"))
            case (.user, false): segments.append(Segment("[INST] \(message.content) [/INST]"))
            case (_, true): segments.append(Segment(" \(trimmed(message.content)) </s>", isAnswer: true))
            case (_, false): segments.append(Segment("\(message.content)</s>", isAnswer: true))
            }
        }
        guard rest.last?.role == .user || !rest.isEmpty else { throw problem("there is no question") }
        return Self.joined(segments)
    }

    /// Neighbours of one kind as one.
    private static func joined(_ segments: [Segment]) -> [Segment] {
        var joined: [Segment] = []
        for segment in segments {
            if let last = joined.last, last.isAnswer == segment.isAnswer, !segment.isAnswer {
                joined[joined.count - 1].text += segment.text
            } else {
                joined.append(segment)
            }
        }
        return joined
    }

    /// Without white space at both ends.
    private func trimmed(_ text: String) -> String {
        var scalars = Substring.UnicodeScalarView(text.unicodeScalars)
        let isSpace = { (scalar: Unicode.Scalar) in
            CharacterClasses.shared.flags(scalar.value) & CharacterClasses.space != 0
        }
        while let first = scalars.first, isSpace(first) { scalars.removeFirst() }
        while let last = scalars.last, isSpace(last) { scalars.removeLast() }
        return String(scalars)
    }
}
