import JSON
public import Tokenizers

/// A request to `/v1/completions` or `/v1/chat/completions`, read and checked. What is asked for is done, or refused by name; keys
/// that only label a request (`user`, `metadata`, `store`) are left alone.
public struct CompletionRequest: Sendable {
    public enum Prompt: Hashable, Sendable {
        case text(String)
        case tokens([UInt32])
        case conversation([ChatTemplate.Message])
    }
    public static let mostPrompts = 64
    public static let mostStops = 16

    public var model: String?
    public var prompts: [Prompt] = []
    public var isChat: Bool
    /// nil: as many as fit.
    public var maximumTokens: Int?
    public var temperature = 1.0
    public var topP = 1.0
    public var topK = 0
    public var seed: UInt64?
    public var stops: [String] = []
    public var streams = false
    public var includesUsage = false
    public var echoes = false
    /// How many of the likeliest tokens are told with each; nil: no probabilities at all.
    public var logProbabilities: Int?

    private static let common: Set<String> = [
        "model", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "stream", "stream_options", "n",
        "logit_bias",
        "presence_penalty", "frequency_penalty", "user", "metadata", "store", "service_tier", "safety_identifier",
        "prompt_cache_key",
    ]

    public init(parsing body: [UInt8], isChat: Bool) throws(APIError) {
        self.isChat = isChat
        let value: JSONValue
        do throws(JSONError) { value = try JSONValue(parsing: body, maximumDepth: 32) } catch {
            throw APIError("the body is no JSON: \(error)")
        }
        guard let object = value.object else { throw APIError("the body must be a JSON object") }
        let own: Set<String> =
            isChat
            ? [
                "messages", "max_completion_tokens", "logprobs", "top_logprobs", "tools", "tool_choice", "functions",
                "response_format", "parallel_tool_calls", "reasoning_effort", "modalities",
            ] : ["prompt", "logprobs", "echo", "best_of", "suffix"]
        for member in object.members where !Self.common.contains(member.key) && !own.contains(member.key) {
            throw APIError("unknown parameter “\(member.key.prefix(64))”", parameter: String(member.key.prefix(64)))
        }
        let fields = Fields(object: object)
        model = try fields.text("model")
        temperature = try fields.number("temperature", 0...10) ?? 1
        topP = try fields.number("top_p", 0...1) ?? 1
        topK = try fields.integer("top_k", 0...1_000_000) ?? 0
        seed = try fields.integer("seed", Int.min...Int.max).map { UInt64(bitPattern: Int64($0)) }
        streams = try fields.flag("stream") ?? false
        if let options = object["stream_options"], !options.isNull {
            guard streams, let options = options.object else {
                throw APIError("stream_options needs stream: true, and must be an object", parameter: "stream_options")
            }
            includesUsage = try Fields(object: options).flag("include_usage") ?? false
        }
        stops = try Self.stops(object["stop"])
        try fields.refuse("n", unless: 1, "one answer a prompt is written")
        try fields.refuse("best_of", unless: 1, "one answer a prompt is written")
        try fields.refuse("presence_penalty", unless: 0, "penalties are not applied")
        try fields.refuse("frequency_penalty", unless: 0, "penalties are not applied")
        try fields.refuse("logit_bias", unlessEmpty: "biases are not applied")
        maximumTokens = try fields.integer("max_tokens", 0...1 << 24)
        if isChat { try readChat(fields) } else { try readCompletion(fields) }
        if streams, prompts.count > 1 {
            throw APIError("several prompts cannot be streamed; send them one by one", parameter: "stream")
        }
    }

    private mutating func readCompletion(_ fields: Fields) throws(APIError) {
        try fields.refuse("suffix", unlessEmpty: "texts are continued, not filled in")
        echoes = try fields.flag("echo") ?? false
        logProbabilities = try fields.integer("logprobs", 0...20)
        if maximumTokens == nil { maximumTokens = 16 }
        prompts = try Self.prompts(fields.object["prompt"])
        if streams, echoes, logProbabilities != nil {
            throw APIError("echo with logprobs cannot be streamed", parameter: "stream")
        }
    }

    private mutating func readChat(_ fields: Fields) throws(APIError) {
        for key in ["tools", "functions", "tool_choice"] {
            try fields.refuse(key, unlessEmpty: "the model is given no tools", otherThan: ["none", "auto"])
        }
        if let format = fields.object["response_format"], !format.isNull, format.object?["type"]?.text != "text" {
            throw APIError("response_format: only text is written", parameter: "response_format")
        }
        maximumTokens = try fields.integer("max_completion_tokens", 0...1 << 24) ?? maximumTokens
        let top = try fields.integer("top_logprobs", 0...20)
        if try fields.flag("logprobs") ?? false {
            logProbabilities = top ?? 0
        } else if top != nil {
            throw APIError("top_logprobs needs logprobs: true", parameter: "top_logprobs")
        }
        prompts = [.conversation(try Self.messages(fields.object["messages"]))]
    }

    // MARK: parts

    private static func stops(_ value: JSONValue?) throws(APIError) -> [String] {
        guard let value, !value.isNull else { return [] }
        let list = value.text.map { [$0] } ?? value.array?.compactMap(\.text)
        guard let list, list.count == (value.array?.count ?? 1), list.count <= mostStops,
            list.allSatisfy({ $0.utf8.count <= 1024 })
        else {
            throw APIError("stop must be a text, or up to \(mostStops) texts of up to 1024 bytes", parameter: "stop")
        }
        return list.filter { !$0.isEmpty }
    }

    private static func prompts(_ value: JSONValue?) throws(APIError) -> [Prompt] {
        let problem = APIError(
            "prompt must be a text, tokens, or up to \(mostPrompts) texts or lists of tokens", parameter: "prompt")
        guard let value else { throw APIError("prompt is missing", parameter: "prompt") }
        if let text = value.text { return [.text(text)] }
        guard let list = value.array, !list.isEmpty else { throw problem }
        if let tokens = tokens(list) { return [.tokens(tokens)] }
        guard list.count <= mostPrompts else { throw problem }
        var prompts: [Prompt] = []
        for item in list {
            if let text = item.text {
                prompts.append(.text(text))
            } else if let tokens = item.array.flatMap(tokens) {
                prompts.append(.tokens(tokens))
            } else {
                throw problem
            }
        }
        return prompts
    }

    private static func tokens(_ list: [JSONValue]) -> [UInt32]? {
        let tokens = list.compactMap { $0.integer.flatMap(UInt32.init(exactly:)) }
        return tokens.count == list.count ? tokens : nil
    }

    private static func messages(_ value: JSONValue?) throws(APIError) -> [ChatTemplate.Message] {
        guard let list = value?.array, !list.isEmpty else {
            throw APIError("messages must be an array with at least one", parameter: "messages")
        }
        var messages: [ChatTemplate.Message] = []
        for (index, item) in list.enumerated() {
            let place = "messages[\(index)]"
            guard let message = item.object else { throw APIError("\(place) must be an object", parameter: place) }
            for member in message.members
            where !["role", "content", "name", "refusal"].contains(member.key) && !member.value.isNull {
                throw APIError("\(place).\(member.key.prefix(64)) cannot be told to the model", parameter: place)
            }
            // “developer” is what newer clients call it.
            let role = message["role"]?.text == "developer" ? "system" : message["role"]?.text
            guard let role = role.flatMap(ChatTemplate.Message.Role.init(rawValue:)) else {
                throw APIError("\(place).role must be system, user or assistant", parameter: "\(place).role")
            }
            messages.append(ChatTemplate.Message(role, try content(message["content"], place)))
        }
        return messages
    }

    /// A text, or parts of text.
    private static func content(_ value: JSONValue?, _ place: String) throws(APIError) -> String {
        if let text = value?.text { return text }
        guard let parts = value?.array else { throw APIError("\(place).content must be a text", parameter: place) }
        var text = ""
        for part in parts {
            guard part.object?["type"]?.text == "text", let more = part.object?["text"]?.text else {
                throw APIError("\(place).content: only parts of text can be read", parameter: place)
            }
            text += more
        }
        return text
    }
}

/// A request's keys; null is as good as missing.
private struct Fields {
    let object: JSONObject
    private func value(_ key: String) -> JSONValue? {
        // Not in one expression: a literal nil is a JSON null to the compiler, where it may be one.
        guard let value = object[key], !value.isNull else { return Optional.none }
        return value
    }

    func text(_ key: String) throws(APIError) -> String? {
        guard let value = value(key) else { return nil }
        guard let text = value.text else { throw APIError("\(key) must be a text", parameter: key) }
        return text
    }
    func flag(_ key: String) throws(APIError) -> Bool? {
        guard let value = value(key) else { return nil }
        guard let flag = value.flag else { throw APIError("\(key) must be true or false", parameter: key) }
        return flag
    }
    func number(_ key: String, _ allowed: ClosedRange<Double>) throws(APIError) -> Double? {
        guard let value = value(key) else { return nil }
        guard let number = value.double, allowed.contains(number) else {
            throw APIError(
                "\(key) must be a number from \(allowed.lowerBound) to \(allowed.upperBound)", parameter: key)
        }
        return number
    }
    func integer(_ key: String, _ allowed: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = value(key) else { return nil }
        guard let number = value.integer, allowed.contains(number) else {
            throw APIError(
                "\(key) must be a whole number from \(allowed.lowerBound) to \(allowed.upperBound)", parameter: key)
        }
        return number
    }
    func refuse(_ key: String, unless allowed: Int, _ reason: String) throws(APIError) {
        guard let value = value(key), value.double != Double(allowed) else { return }
        throw APIError("\(key): \(reason); leave it out or give \(allowed)", parameter: key)
    }
    func refuse(_ key: String, unlessEmpty reason: String, otherThan words: [String] = []) throws(APIError) {
        guard let value = value(key) else { return }
        let isEmpty =
            value.array?.isEmpty ?? value.object?.members.isEmpty ?? value.text.map { $0.isEmpty || words.contains($0) }
            ?? false
        guard isEmpty else { throw APIError("\(key): \(reason)", parameter: key) }
    }
}
