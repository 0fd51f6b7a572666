import ArgumentParser
import Completions
import Foundation
import Inference
import JSON
import Node
import Primitives
import Tokenizers
import Weights

/// `atoll generate`: continues a text with a checkpoint, or answers.
struct GenerateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Continue a text with a model's checkpoint, or answer a message.")

    @Argument(help: "A checkpoint's folder, or the --out of a job.") var checkpoint: String
    @Option(help: "The text to continue, or with --chat the message to answer.") var prompt = "In the beginning"
    @Flag(help: "Answer the prompt as a message, in the model's chat template.") var chat = false
    @Option(help: "With --chat: the system message.") var system: String?
    @Option(help: "The chat template, where the folder's is not known: chatml, llama3, …") var template: String?
    @Option(help: "How many tokens to add at most.") var count = 300
    @Option(help: "0 takes the likeliest token each time; higher is more daring.") var temperature = 0.8
    @Option(help: "Draw from this many of the likeliest tokens only; 0: from all.") var topK = 0
    @Option(help: "Draw from the likeliest tokens that have this share together; 1: from all.") var topP = 1.0
    @Option(help: "End before this text; may be repeated.") var stop: [String] = []
    @Option(help: "Seed of the draws.") var seed: UInt64 = 1
    @Option(help: "Threads.") var threads = 1
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        try check()
        Interrupt.watch()
        let loaded = try LoadedModel(checkpoint, template: template, quiet: json)
        let tokenizer = loaded.text.tokenizer
        let ids = try promptTokens(loaded)
        guard !ids.isEmpty else { throw NodeError.badInput("--prompt is empty; give at least one character") }

        let shape = loaded.model.shape
        var continuation = Continuation(context: max(2, min(shape.context, ids.count + count)))
        continuation.append(ids)
        let session = InferenceSession(loaded.model, capacity: continuation.context, threads: threads)
        var sampler = Sampler(temperature: temperature, topK: topK, topP: topP, seed: seed)
        var completion = Completion(
            tokenizer, stops: stop, endings: chat || loaded.text.hasTemplate ? loaded.text.endings : [], limit: count)
        let isTerminal = isatty(1) != 0
        var text = ""
        func show(_ more: String) {
            text += more
            guard !json, !more.isEmpty else { return }
            Output.write(isTerminal ? terminalSafe(more) : more)
        }
        if !json, !chat { Output.write(isTerminal ? terminalSafe(prompt) : prompt) }
        let start = threadSeconds()
        var seconds = 0.0
        while completion.finish == nil, !Interrupt.asked {
            let (restarts, next) = continuation.next()
            if restarts { session.keep(0) }
            let token = sampler.choose(session.read(next.map { Int32($0) }))
            if seconds == 0 { seconds = threadSeconds() - start }
            guard token < tokenizer.count else {
                throw NodeError.failed("the model chose token \(token), for which its tokenizer has no text")
            }
            continuation.append([token])
            try tokens { () throws(TokenizerError) in show(try completion.receive(token)) }
        }
        show(completion.takeAll())
        if json { print(report(completion, text, ids.count, start, seconds)) } else { print("") }
        if Interrupt.asked { throw ExitCode(130) }
    }

    private func check() throws {
        guard count > 0, count <= 1_000_000 else { throw NodeError.badInput("--count \(count): 1 to 1 000 000") }
        guard temperature >= 0, temperature.isFinite else {
            throw NodeError.badInput("--temperature \(temperature): at least 0")
        }
        guard topK >= 0 else { throw NodeError.badInput("--top-k \(topK): at least 0") }
        guard topP > 0, topP <= 1 else { throw NodeError.badInput("--top-p \(topP): above 0, at most 1") }
        guard (1...1024).contains(threads) else { throw NodeError.badInput("--threads \(threads): 1 to 1024") }
        guard stop.allSatisfy({ !$0.isEmpty && $0.utf8.count <= Completion.longestStop }) else {
            throw NodeError.badInput("--stop: one to \(Completion.longestStop) bytes")
        }
        guard chat || system == nil else { throw NodeError.badInput("--system needs --chat") }
    }

    private func promptTokens(_ loaded: LoadedModel) throws -> [UInt32] {
        let encoder = TokenEncoder(loaded.text.tokenizer)
        guard chat else { return encoder.encode(Array(prompt.utf8)) }
        let template = try loaded.requireTemplate()
        let messages = (system.map { [ChatTemplate.Message(.system, $0)] } ?? []) + [.init(.user, prompt)]
        return try tokens { () throws(TokenizerError) in try encoder.encode(messages, template) }
    }

    private func report(
        _ completion: Completion, _ text: String, _ promptTokens: Int, _ start: Double, _ firstSeconds: Double
    ) -> String {
        let rest = threadSeconds() - start - firstSeconds
        let object: JSONValue = [
            "prompt": .string(prompt), "text": .string(text), "prompt_tokens": JSONValue(promptTokens),
            "tokens": JSONValue(completion.count), "finish": .string(completion.finish?.rawValue ?? "interrupted"),
            "seed": .number(JSONNumber(Int(truncatingIfNeeded: seed))),
            "cpu_seconds_to_first_token": JSONValue(firstSeconds),
            "cpu_seconds_a_token": JSONValue(rest / Double(max(1, completion.count - 1))),
        ]
        return object.written(indented: true)
    }
}

extension TokenEncoder {
    /// A conversation up to the next answer, as it is while training: answers are tokenized by themselves.
    func encode(_ messages: [ChatTemplate.Message], _ template: ChatTemplate) throws(TokenizerError) -> [UInt32] {
        var ids: [UInt32] = []
        for segment in try template.segments(messages, answering: true) {
            ids += encode(Array(segment.text.utf8), addingSpecial: false, continuing: !ids.isEmpty)
        }
        return ids
    }
}

/// Text of a model's as a terminal may show it: what would move the cursor, change colours or hide other text is written out.
func terminalSafe(_ text: String) -> String {
    var out = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
        switch scalar.value {
        case 0x09, 0x0A: out.append(scalar)
        case 0x00...0x1F, 0x7F...0x9F, 0x061C, 0x200E, 0x200F, 0x202A...0x202E, 0x2066...0x2069:
            out.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
        default: out.append(scalar)
        }
    }
    return String(out)
}
