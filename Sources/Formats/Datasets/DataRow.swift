import JSON
public import Tokenizers

/// A row of a `.jsonl` file.
public enum DataRow: Hashable, Sendable {
    case text(String)
    /// The completion is learnt, the prompt is not.
    case completion(prompt: String, completion: String)
    /// The assistant's messages are learnt.
    case conversation([ChatTemplate.Message])

    /// Reads one line. Keys beside those of its kind are allowed: rows carry sources and numbers along.
    public init(parsing line: UnsafeBufferPointer<UInt8>, path: String, line number: Int) throws(DatasetError) {
        func bad(_ problem: String) -> DatasetError { .row(path: path, line: number, problem: problem) }
        let value: JSONValue
        do throws(JSONError) { value = try JSONValue(parsing: line, maximumDepth: 32) } catch {
            throw bad("column \(error.column): \(error.problem)")
        }
        guard let row = value.object else { throw bad("\(value.kind) is no object") }
        let kinds = [row["text"] != nil, row["prompt"] != nil || row["completion"] != nil, row["messages"] != nil]
        guard kinds.filter({ $0 }).count == 1 else {
            throw bad("one of “text”, “prompt” with “completion”, and “messages” must be there, and only one")
        }
        if kinds[0] {
            guard let text = row["text"]?.text else { throw bad("“text” is \(row["text"]!.kind)") }
            self = .text(text)
        } else if kinds[1] {
            guard let prompt = row["prompt"]?.text, let completion = row["completion"]?.text else {
                throw bad("“prompt” and “completion” must both be texts")
            }
            self = .completion(prompt: prompt, completion: completion)
        } else {
            self = .conversation(try Self.messages(row["messages"]!, bad))
        }
    }

    private static func messages(
        _ value: JSONValue, _ bad: (String) -> DatasetError
    ) throws(DatasetError) -> [ChatTemplate.Message] {
        guard let list = value.array, !list.isEmpty else { throw bad("“messages” must be an array with at least one") }
        var messages: [ChatTemplate.Message] = []
        for (index, item) in list.enumerated() {
            guard let message = item.object, let content = message["content"]?.text else {
                throw bad("message \(index) has no text as “content”")
            }
            guard let role = message["role"]?.text.flatMap(ChatTemplate.Message.Role.init(rawValue:)) else {
                throw bad(
                    "message \(index) is of role \(message["role"]?.kind ?? "missing"); system, user and assistant are known"
                )
            }
            for member in message.members
            where !["role", "content", "name", "id"].contains(member.key) && !member.value.isNull {
                throw bad("message \(index) has “\(member.key)”, which no template here writes")
            }
            messages.append(ChatTemplate.Message(role, content))
        }
        return messages
    }
}

/// Rows and texts as tokens of documents.
public struct DocumentEncoder {
    private let tokenizer: Tokenizer
    private let encoder: TokenEncoder
    private let template: ChatTemplate?
    private let ending: UInt32?

    /// `ending` is put after every text and completion.
    public init(_ tokenizer: Tokenizer, template: ChatTemplate?, ending: UInt32?) {
        self.tokenizer = tokenizer
        self.template = template
        self.ending = ending
        encoder = TokenEncoder(tokenizer)
    }

    /// Appends a whole text as one document, in pieces, so that it need not be held as tokens; `progress` is told how many
    /// bytes are done and may answer false to stop.
    public func append(
        text: UnsafeBufferPointer<UInt8>, to builder: inout TokenFileBuilder,
        progress: (_ bytes: Int, inout TokenFileBuilder) -> Bool = { _, _ in true }
    ) {
        builder.append(tokenizer.prefix)
        var start = 0
        while start < text.count {
            let end = tokenizer.cut(text, from: start, atLeast: Self.pieceBytes)
            builder.append(
                encoder.encode(
                    UnsafeBufferPointer(rebasing: text[start..<end]), addingSpecial: false, continuing: start > 0))
            start = end
            guard progress(end, &builder) else { return }
        }
        if let ending { builder.append([ending]) } else { builder.append(tokenizer.suffix) }
        builder.endDocument()
    }
    static let pieceBytes = 1 << 18

    /// Appends a row as one document.
    public func append(
        _ row: DataRow, to builder: inout TokenFileBuilder, path: String, line: Int
    ) throws(DatasetError) {
        switch row {
        case .text(let text):
            Array(text.utf8).withUnsafeBufferPointer { append(text: $0, to: &builder) }
        case .completion(let prompt, let completion):
            builder.append(encoder.encode(Array(prompt.utf8)).dropLast(tokenizer.suffix.count), bearsLoss: false)
            // As when it is generated: by itself, not as the text's beginning.
            builder.append(encoder.encode(Array(completion.utf8), addingSpecial: false, continuing: true))
            builder.append(ending.map { [$0] } ?? tokenizer.suffix)
            builder.endDocument()
        case .conversation(let messages):
            guard let template else {
                throw .row(
                    path: path, line: line,
                    problem:
                        "messages need a chat template: name one of \(ChatTemplate.allCases.map(\.rawValue).joined(separator: ", "))"
                )
            }
            let segments: [ChatTemplate.Segment]
            do throws(TokenizerError) { segments = try template.segments(messages, answering: false) } catch {
                throw .row(path: path, line: line, problem: error.description)
            }
            for (index, segment) in segments.enumerated() {
                builder.append(
                    encoder.encode(Array(segment.text.utf8), addingSpecial: false, continuing: index > 0),
                    bearsLoss: segment.isAnswer)
            }
            builder.endDocument()
        }
    }
}
