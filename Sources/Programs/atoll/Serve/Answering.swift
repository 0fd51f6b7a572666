import CompletionAPI
import Completions
import Foundation
import Inference
import Tokenizers
import Weights

/// One answer in the making: a prompt is read in pieces, then tokens are chosen one by one. Every step is a job for the work pool's
/// thread, so that a client that leaves stops the work.
final class Answering: @unchecked Sendable {
    /// Tokens of a prompt that are read in one step.
    static let pieceTokens = 256

    /// What a step brought.
    enum Step: Sendable {
        case reading
        case token(text: String, CompletionAnswer.Token?)
        case finished(String)
        case failed(String)
    }

    private let engine: AnsweringEngine
    let prompt: [UInt32]
    private let request: CompletionRequest
    private var completion: Completion
    private var sampler: Sampler
    private var read = 0
    private var next: [Float] = []
    private var hasStarted = false
    /// Of an echoed prompt.
    private(set) var promptTokens: [CompletionAnswer.Token] = []
    var answerCount: Int { completion.count }

    /// - Parameter limit: tokens at most.
    init(_ engine: AnsweringEngine, prompt: [UInt32], request: CompletionRequest, limit: Int, seed: UInt64) {
        self.engine = engine
        self.prompt = prompt
        self.request = request
        completion = Completion(
            engine.text.tokenizer, stops: request.stops, endings: engine.text.endings, limit: limit)
        sampler = Sampler(
            temperature: request.temperature, topK: request.topK, topP: request.topP, seed: seed)
    }

    /// Does a little more. On the engine's thread only.
    func step() -> Step {
        if !hasStarted {
            hasStarted = true
            if request.echoes, request.logProbabilities != nil {
                promptTokens = engine.judge(prompt, likeliest: request.logProbabilities ?? 0)
                if let finish = completion.finish { return .finished(finish.rawValue) }
                read = prompt.count - 1
                engine.session.keep(read)
            } else {
                if let finish = completion.finish { return .finished(finish.rawValue) }
                read = engine.reuse(prompt)
            }
        }
        if read < prompt.count {
            let end = min(prompt.count, read + Self.pieceTokens)
            next = engine.read(Array(prompt[read..<end]))
            read = end
            if read < prompt.count { return .reading }
        }
        return chooseToken()
    }

    private func chooseToken() -> Step {
        let (token, told) = next.withUnsafeBufferPointer { logits -> (UInt32, CompletionAnswer.Token?) in
            let token = sampler.choose(logits)
            return (token, request.logProbabilities.map { engine.token(token, logits, likeliest: $0) })
        }
        guard token < engine.text.tokenizer.count else {
            return .failed("the model chose token \(token), which has no text")
        }
        let text: String
        do throws(TokenizerError) { text = try completion.receive(token) } catch { return .failed(error.description) }
        if completion.finish == nil { next = engine.read([token]) }
        return .token(text: text, told)
    }

    /// Why it is over, if it is.
    var finish: String? { completion.finish?.rawValue }
}

/// The model, and the one session that answers go through in turn.
final class AnsweringEngine: @unchecked Sendable {
    let model: InferenceModel
    let text: ModelText
    let session: InferenceSession
    /// Tokens that the session has read.
    private var seen: [UInt32] = []
    var capacity: Int { session.capacity }

    init(_ model: InferenceModel, _ text: ModelText, capacity: Int, threads: Int) {
        self.model = model
        self.text = text
        session = InferenceSession(model, capacity: capacity, threads: threads)
    }

    /// Keeps what the session has of these tokens already; how many that is. The last one is read anew, for its logits.
    func reuse(_ tokens: [UInt32]) -> Int {
        let same = zip(seen, tokens.dropLast()).prefix { $0 == $1 }.count
        session.keep(same)
        seen = Array(tokens.prefix(same))
        return same
    }

    func read(_ tokens: [UInt32]) -> [Float] {
        let logits = Array(session.read(tokens.map { Int32($0) }))
        seen = Array(seen.prefix(session.position - tokens.count)) + tokens
        return logits
    }

    /// What the model thinks of each token of a prompt.
    func judge(_ tokens: [UInt32], likeliest: Int) -> [CompletionAnswer.Token] {
        session.keep(0)
        seen = []
        var told = [CompletionAnswer.Token](
            repeating: CompletionAnswer.Token(text: "", bytes: [], logProbability: nil, likeliest: []),
            count: tokens.count)
        told[0] = plain(tokens[0])
        _ = session.losses(tokens.map { Int32($0) }) { index, logits in
            told[index] = self.token(tokens[index], logits, likeliest: likeliest)
        }
        seen = tokens
        return told
    }

    private func plain(_ token: UInt32) -> CompletionAnswer.Token {
        let bytes = text.tokenizer.bytes(of: token) ?? []
        return CompletionAnswer.Token(
            text: String(decoding: bytes, as: UTF8.self), bytes: bytes, logProbability: nil, likeliest: [])
    }

    /// A token with its probability, and the likeliest in its place; the chosen one is always among them.
    func token(_ token: UInt32, _ logits: UnsafeBufferPointer<Float>, likeliest count: Int) -> CompletionAnswer.Token {
        var others = count > 0 ? Sampler.likeliest(logits, min(count, logits.count)) : []
        if count > 0, !others.contains(Int(token)) { others.append(Int(token)) }
        let shares = Sampler.logProbabilities(logits, of: [Int(token)] + others)
        var told = plain(token)
        told.logProbability = shares[0]
        told.likeliest = zip(others, shares.dropFirst()).map { id, share in
            let bytes = text.tokenizer.bytes(of: UInt32(id)) ?? []
            return (String(decoding: bytes, as: UTF8.self), bytes, share)
        }
        return told
    }
}
