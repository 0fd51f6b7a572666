import Testing
import Tokenizers

@Suite struct ChatTemplateTests {
    static let talk: [ChatTemplate.Message] = [
        .init(.system, "Be brief."), .init(.user, "Hello"), .init(.assistant, " Hi "), .init(.user, "Who?"),
    ]
    static func text(_ template: ChatTemplate, _ messages: [ChatTemplate.Message] = talk) throws -> String {
        try template.segments(messages, answering: true).map(\.text).joined()
    }

    @Test func `each template writes as it was published`() throws {
        #expect(
            try Self.text(.chatml)
                == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n Hi <|im_end|>\n"
                + "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n")
        #expect(try Self.text(.smollm2) == Self.text(.chatml))
        #expect(
            try Self.text(.smollm2, Array(Self.talk[1...1])).hasPrefix(
                "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nHello"
            ))
        #expect(
            try Self.text(.qwen2, Array(Self.talk[1...1])).hasPrefix(
                "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"))
        #expect(
            try Self.text(.llama3)
                == "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user"
                + "<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHi<|eot_id|>"
                + "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        )
        #expect(
            try Self.text(.llama2)
                == "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST] Hi </s><s>[INST] Who? [/INST]")
        #expect(
            try Self.text(.mistral, Array(Self.talk[1...])) == "<s>[INST] Hello [/INST] Hi </s>[INST] Who? [/INST]")
        #expect(
            try Self.text(.zephyr)
                == "<|system|>\nBe brief.</s>\n<|user|>\nHello</s>\n<|assistant|>\n Hi </s>\n<|user|>\nWho?</s>\n<|assistant|>\n"
        )
    }

    @Test(arguments: ChatTemplate.allCases)
    func `answers are segments of their own that end as the model ends`(template: ChatTemplate) throws {
        let segments = try template.segments(Array(Self.talk[1...]), answering: false)
        let answers = segments.filter(\.isAnswer)
        #expect(answers.count == 1)
        #expect(answers[0].text.hasSuffix(template.ending))
        #expect(answers[0].text.contains("Hi"))
        #expect(!segments.filter { !$0.isAnswer }.contains { $0.text.contains("Hi") })
    }

    @Test func `what a template cannot write is said`() {
        #expect(throws: TokenizerError.self) { try ChatTemplate.mistral.segments(Self.talk, answering: true) }
        #expect(throws: TokenizerError.self) {
            try ChatTemplate.llama2.segments([.init(.assistant, "x")], answering: true)
        }
        #expect(throws: TokenizerError.self) { try ChatTemplate.chatml.segments([], answering: true) }
    }

    @Test func `published texts are known by their fingerprint, others are not guessed`() {
        #expect(ChatTemplate(recognising: "{{ messages }}") == nil)
        let chatml =
            "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
            + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
        #expect(ChatTemplate(recognising: chatml) == .chatml)
        #expect(ChatTemplate(recognising: chatml + " ") == .chatml)
        #expect(ChatTemplate(recognising: chatml + "x") == nil)
    }
}
