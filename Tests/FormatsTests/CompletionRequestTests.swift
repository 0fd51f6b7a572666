import CompletionAPI
import JSON
import Primitives
import Testing
import Tokenizers

@Suite struct CompletionRequestTests {
    static func read(_ json: JSONValue, chat: Bool = false) throws(APIError) -> CompletionRequest {
        try CompletionRequest(parsing: json.bytes(), isChat: chat)
    }
    static let talk: JSONValue = ["messages": [["role": "user", "content": "Hi"]]]

    @Test func `what clients and harnesses send is understood`() throws {
        let scoring = try Self.read([
            "model": "m", "prompt": [[1, 2, 3], [4]], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234,
            "echo": true,
        ])
        #expect(scoring.prompts == [.tokens([1, 2, 3]), .tokens([4])])
        #expect(scoring.echoes && scoring.logProbabilities == 1 && scoring.maximumTokens == 1 && scoring.seed == 1234)
        let plain = try Self.read([
            "prompt": "x", "stop": "\n", "stream": true, "stream_options": ["include_usage": true],
        ])
        #expect(plain.prompts == [.text("x")] && plain.stops == ["\n"] && plain.streams && plain.includesUsage)
        #expect(plain.maximumTokens == 16 && plain.temperature == 1)
        #expect(try Self.read(["prompt": [1, 2]]).prompts == [.tokens([1, 2])])
        let chat = try Self.read(
            [
                "messages": [
                    ["role": "developer", "content": "S"],
                    ["role": "user", "content": [["type": "text", "text": "Hi"]]],
                ],
                "max_completion_tokens": 5, "logprobs": true, "top_logprobs": 2, "tools": [], "tool_choice": "none",
                "response_format": ["type": "text"], "n": 1, "presence_penalty": 0.0, "user": "u", "logit_bias": [:],
            ], chat: true)
        #expect(chat.prompts == [.conversation([.init(.system, "S"), .init(.user, "Hi")])])
        #expect(chat.maximumTokens == 5 && chat.logProbabilities == 2)
    }

    /// Clients in other languages write down what was not said.
    @Test func `null is as good as missing`() throws {
        let common = [
            "model", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "stream", "stream_options", "n",
            "logit_bias", "presence_penalty", "frequency_penalty", "user", "metadata", "store", "logprobs",
        ]
        for key in common + ["suffix", "echo", "best_of"] {
            let read = try Self.read(["prompt": "x", key: nil])
            #expect(read.prompts == [.text("x")] && read.maximumTokens == 16 && read.seed == nil, "\(key)")
            #expect(read.logProbabilities == nil && read.temperature == 1 && read.stops == [] && !read.echoes, "\(key)")
        }
        for key in common + ["max_completion_tokens", "top_logprobs", "tools", "tool_choice", "response_format"] {
            let read = try Self.read(Self.talk.setting(key, .null), chat: true)
            #expect(read.maximumTokens == nil && read.logProbabilities == nil && read.model == nil, "\(key)")
        }
    }

    @Test func `what cannot be done is refused by name`() {
        let cases: [(change: (String, JSONValue?), chat: Bool, parameter: String?)] = [
            (("prompt", nil), false, "prompt"), (("prompt", [1.5]), false, "prompt"), (("prompt", []), false, "prompt"),
            (("prompt", ["a", 1]), false, "prompt"), (("temperature", -1), false, "temperature"),
            (("top_p", 2), false, "top_p"), (("n", 2), false, "n"), (("best_of", 3), false, "best_of"),
            (("suffix", "x"), false, "suffix"), (("logprobs", 100), false, "logprobs"), (("magic", 1), false, "magic"),
            (("frequency_penalty", 0.5), false, "frequency_penalty"), (("logit_bias", ["5": 1]), false, "logit_bias"),
            (("stop", [1]), false, "stop"), (("stream", "yes"), false, "stream"),
            (("max_tokens", -1), false, "max_tokens"),
            (("stream_options", [:]), false, "stream_options"), (("messages", []), true, "messages"),
            (("messages", [["role": "robot", "content": "x"]]), true, "messages[0].role"),
            (("messages", [["role": "user", "content": [["type": "image_url"]]]]), true, "messages[0]"),
            (("messages", [["role": "assistant", "content": "x", "tool_calls": [1]]]), true, "messages[0]"),
            (("tools", [["type": "function"]]), true, "tools"),
            (("response_format", ["type": "json_object"]), true, "response_format"),
            (("top_logprobs", 3), true, "top_logprobs"),
        ]
        for (change, chat, parameter) in cases {
            let good: JSONValue = chat ? Self.talk : ["prompt": "x"]
            do throws(APIError) {
                _ = try Self.read(good.setting(change.0, change.1), chat: chat)
                Issue.record("\(change.0) was taken")
            } catch {
                #expect(error.parameter == parameter, "\(error.message)")
                #expect(error.json.object?["error"]?.object?["message"]?.text == error.message)
            }
        }
    }

    @Test func `damaged bodies are refused, never worse`() {
        let good = Self.talk.setting("stream", true).bytes()
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<5000 {
            var bytes = good
            for _ in 0...generator.below(3) { bytes[generator.below(bytes.count)] = UInt8(generator.below(256)) }
            _ = try? CompletionRequest(parsing: bytes, isChat: generator.below(2) == 0)
        }
    }

    @Test func `answers have the form that clients read`() {
        let writer = AnswerWriter(id: "x", created: 7, model: "m", isChat: true, includesUsage: true)
        #expect(
            String(decoding: AnswerWriter.event(writer.ending("stop")), as: UTF8.self)
                == #"data: {"id":"x","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#
                + "\n\n")
        #expect(
            writer.usage(prompt: 3, answer: 4).written().hasSuffix(
                #""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#))
        #expect(writer.opening?.written().contains(#""delta":{"role":"assistant","content":""}"#) == true)
        let token = CompletionAnswer.Token(
            text: "é", bytes: [0xC3, 0xA9], logProbability: -0.5, likeliest: [("é", [0xC3, 0xA9], -0.5)])
        let first = CompletionAnswer.Token(text: "ab", bytes: [97, 98], logProbability: nil, likeliest: [])
        let old = AnswerWriter(id: "x", created: 7, model: "m", isChat: false).whole(
            [
                CompletionAnswer(
                    text: "abé", finish: "length", tokens: [first, token], promptTokens: 1, answerTokens: 1)
            ],
            telling: true)
        #expect(
            old.object?["choices"]?.array?[0].object?["logprobs"]?.written()
                == #"{"tokens":["ab","é"],"token_logprobs":[null,-0.5],"top_logprobs":[null,{"é":-0.5}],"text_offset":[0,2]}"#
        )
    }
}
