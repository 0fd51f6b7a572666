public import JSON

/// An answer to a prompt.
public struct CompletionAnswer: Sendable {
    /// A token with what the model thought of it and of others in its place.
    public struct Token: Sendable {
        public var text: String
        /// The bytes, where the text has replacement characters.
        public var bytes: [UInt8]
        /// Natural logarithm; nil for a text's first token.
        public var logProbability: Double?
        public var likeliest: [(text: String, bytes: [UInt8], logProbability: Double)]
        public init(
            text: String, bytes: [UInt8], logProbability: Double?,
            likeliest: [(text: String, bytes: [UInt8], logProbability: Double)]
        ) {
            self.text = text
            self.bytes = bytes
            self.logProbability = logProbability
            self.likeliest = likeliest
        }
    }
    public var text: String
    /// “stop” or “length”.
    public var finish: String
    /// The prompt's too, if it is echoed. Empty unless asked for.
    public var tokens: [Token]
    public var promptTokens: Int
    public var answerTokens: Int

    public init(text: String, finish: String, tokens: [Token], promptTokens: Int, answerTokens: Int) {
        self.text = text
        self.finish = finish
        self.tokens = tokens
        self.promptTokens = promptTokens
        self.answerTokens = answerTokens
    }
}

/// What goes back: whole answers, or the chunks of a stream.
public struct AnswerWriter: Sendable {
    public var id: String
    /// Seconds since 1970.
    public var created: Int
    public var model: String
    public var isChat: Bool
    /// Chunks say that a usage comes.
    public var includesUsage: Bool

    public init(id: String, created: Int, model: String, isChat: Bool, includesUsage: Bool = false) {
        self.id = id
        self.created = created
        self.model = model
        self.isChat = isChat
        self.includesUsage = includesUsage
    }

    private func envelope(_ object: String, _ choices: [JSONValue], usage: JSONValue?) -> JSONValue {
        var json: JSONObject = JSONObject()
        json["id"] = .string(id)
        json["object"] = .string(object)
        json["created"] = JSONValue(created)
        json["model"] = .string(model)
        json["choices"] = .array(choices)
        if let usage { json["usage"] = usage }
        return .object(json)
    }

    private static func usage(prompt: Int, answer: Int) -> JSONValue {
        [
            "prompt_tokens": JSONValue(prompt), "completion_tokens": JSONValue(answer),
            "total_tokens": JSONValue(prompt + answer),
        ]
    }

    /// All answers of a request that does not stream.
    public func whole(_ answers: [CompletionAnswer], telling: Bool) -> JSONValue {
        let choices = answers.enumerated().map { index, answer -> JSONValue in
            let finish = JSONValue.string(answer.finish)
            let probabilities: JSONValue =
                !telling ? .null : isChat ? Self.chatProbabilities(answer.tokens) : Self.oldProbabilities(answer.tokens)
            return isChat
                ? [
                    "index": JSONValue(index),
                    "message": ["role": "assistant", "content": .string(answer.text), "refusal": nil],
                    "logprobs": probabilities, "finish_reason": finish,
                ]
                : [
                    "text": .string(answer.text), "index": JSONValue(index), "logprobs": probabilities,
                    "finish_reason": finish,
                ]
        }
        let usage = Self.usage(
            prompt: answers.reduce(0) { $0 + $1.promptTokens }, answer: answers.reduce(0) { $0 + $1.answerTokens })
        return envelope(isChat ? "chat.completion" : "text_completion", choices, usage: usage)
    }

    // MARK: streams

    /// An event of a stream (Server-Sent Events, WHATWG HTML §9.2).
    public static func event(_ json: JSONValue) -> [UInt8] { Array("data: ".utf8) + json.bytes() + [10, 10] }
    /// The last one.
    public static let done = Array("data: [DONE]\n\n".utf8)

    private func chunk(_ choices: [JSONValue], usage: JSONValue? = nil) -> JSONValue {
        envelope(
            isChat ? "chat.completion.chunk" : "text_completion", choices, usage: usage ?? (includesUsage ? .null : nil)
        )
    }

    /// The first chunk of a conversation: who speaks.
    public var opening: JSONValue? {
        guard isChat else { return nil }
        return chunk([
            ["index": 0, "delta": ["role": "assistant", "content": ""], "logprobs": nil, "finish_reason": nil]
        ])
    }

    /// More text.
    public func piece(_ text: String, tokens: [CompletionAnswer.Token], telling: Bool) -> JSONValue {
        let probabilities: JSONValue =
            !telling ? .null : isChat ? Self.chatProbabilities(tokens) : Self.oldProbabilities(tokens)
        return isChat
            ? chunk([
                [
                    "index": 0, "delta": ["content": .string(text)], "logprobs": probabilities, "finish_reason": nil,
                ]
            ])
            : chunk([
                ["text": .string(text), "index": 0, "logprobs": probabilities, "finish_reason": nil]
            ])
    }

    /// The chunk that says why it ended.
    public func ending(_ finish: String) -> JSONValue {
        isChat
            ? chunk([["index": 0, "delta": [:], "logprobs": nil, "finish_reason": .string(finish)]])
            : chunk([["text": "", "index": 0, "logprobs": nil, "finish_reason": .string(finish)]])
    }

    /// The extra chunk with the usage and no choices; only where it was asked for.
    public func usage(prompt: Int, answer: Int) -> JSONValue {
        chunk([], usage: Self.usage(prompt: prompt, answer: answer))
    }

    // MARK: probabilities

    private static func chatProbabilities(_ tokens: [CompletionAnswer.Token]) -> JSONValue {
        func entry(_ text: String, _ bytes: [UInt8], _ logProbability: Double) -> JSONValue {
            [
                "token": .string(text), "logprob": JSONValue(logProbability),
                "bytes": .array(bytes.map { JSONValue(Int($0)) }),
            ]
        }
        let content = tokens.map { token -> JSONValue in
            guard case .object(var object) = entry(token.text, token.bytes, token.logProbability ?? 0) else {
                return nil
            }
            object["top_logprobs"] = .array(token.likeliest.map { entry($0.text, $0.bytes, $0.logProbability) })
            return .object(object)
        }
        return ["content": .array(content), "refusal": nil]
    }

    /// The form that evaluation harnesses read.
    private static func oldProbabilities(_ tokens: [CompletionAnswer.Token]) -> JSONValue {
        var offset = 0
        var offsets: [JSONValue] = []
        for token in tokens {
            offsets.append(JSONValue(offset))
            offset += token.text.unicodeScalars.count
        }
        let likeliest = tokens.map { token -> JSONValue in
            guard token.logProbability != nil else { return nil }
            var object = JSONObject()
            // Two tokens of one text (parts of characters): the likelier one stands.
            for item in token.likeliest where object[item.text] == nil {
                object[item.text] = JSONValue(item.logProbability)
            }
            return .object(object)
        }
        return [
            "tokens": .array(tokens.map { .string($0.text) }),
            "token_logprobs": .array(tokens.map { $0.logProbability.map { JSONValue($0) } ?? .null }),
            "top_logprobs": .array(likeliest), "text_offset": .array(offsets),
        ]
    }
}
