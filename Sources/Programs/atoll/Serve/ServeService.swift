import CompletionAPI
import Completions
import EventLoop
import Foundation
import Inference
import JSON
import Node
import Primitives
import Tokenizers
import Web
import Weights

/// Requests of OpenAI's kind, answered one after the other. On the loop; the arithmetic is on a thread of the pool.
final class ServeService {
    struct Options {
        var name: String
        /// Requests that may wait.
        var queue = 16
        /// Tokens of a prompt and its answer together.
        var capacity: Int
    }

    /// A request being answered.
    private final class Job {
        let exchange: WebExchange
        let request: CompletionRequest
        let writer: AnswerWriter
        var waiting: [Answering]
        var answers: [CompletionAnswer] = []
        var text = ""
        var tokens: [CompletionAnswer.Token] = []
        init(_ exchange: WebExchange, _ request: CompletionRequest, _ writer: AnswerWriter, _ waiting: [Answering]) {
            self.exchange = exchange
            self.request = request
            self.writer = writer
            self.waiting = waiting
        }
    }

    private let loop: Loop
    private let pool: WorkPool
    private let queue: WorkPool.Queue
    private let reading: WorkPool.Queue
    private var isReading = false
    private let options: Options
    private var engine: AnsweringEngine
    private var jobs: [Job] = []
    private var isBusy = false
    private var counter = 0
    private var lastToken: Instant
    private var seeds: SeededGenerator
    /// A model to change to when nothing is being answered.
    private var newer: AnsweringEngine?

    init(_ loop: Loop, _ engine: AnsweringEngine, _ options: Options, seed: UInt64) {
        self.loop = loop
        self.engine = engine
        self.options = options
        // One for answers, one to read a newer model.
        pool = WorkPool(loop, threads: 2)
        queue = pool.makeQueue()
        reading = pool.makeQueue()
        lastToken = loop.now
        seeds = SeededGenerator(seed: seed)
    }

    func close() { pool.close() }

    /// Reads a newer model beside the answers; requests that come once it is there are answered by it. `then` is told why it
    /// cannot be, if so.
    func change(
        _ load: @escaping @Sendable () -> Result<AnsweringEngine, NodeError>, then: @escaping (NodeError?) -> Void
    ) {
        guard !isReading else { return }
        isReading = true
        reading.submit(load) { [weak self] result in
            guard let self else { return }
            isReading = false
            switch result {
            case .success(let engine):
                newer = engine
                if jobs.isEmpty, !isBusy { adopt() }
                then(nil)
            case .failure(let error): then(error)
            }
        }
    }
    private func adopt() {
        if let newer { engine = newer }
        newer = nil
    }

    // MARK: requests

    func receive(_ exchange: WebExchange) {
        let request = exchange.request
        switch (request.method, request.path) {
        case ("GET", "/v1/models"): reply(exchange, models)
        case ("GET", "/v1/models/" + options.name): reply(exchange, model)
        case ("GET", "/health"): health(exchange)
        case ("POST", "/v1/completions"): complete(exchange, isChat: false)
        case ("POST", "/v1/chat/completions"): complete(exchange, isChat: true)
        case (_, "/v1/models"), (_, "/health"), (_, "/v1/completions"), (_, "/v1/chat/completions"):
            refuse(exchange, APIError(status: 405, "\(request.method) is not understood here"))
        default:
            refuse(exchange, APIError(status: 404, "there is no \(request.path.prefix(100)) here", code: "not_found"))
        }
    }

    private func reply(_ exchange: WebExchange, _ json: JSONValue, status: Int = 200) {
        exchange.answer(status: status, type: "application/json", body: json.bytes() + [10])
    }
    private func refuse(_ exchange: WebExchange, _ error: APIError) {
        var headers: [(name: String, value: String)] = []
        if error.status == 503 { headers.append(("Retry-After", "5")) }
        exchange.answer(
            status: error.status, type: "application/json", body: error.json.bytes() + [10], headers: headers)
    }

    private var model: JSONValue {
        ["id": .string(options.name), "object": "model", "created": 0, "owned_by": "atoll"]
    }
    private var models: JSONValue { ["object": "list", "data": [model]] }

    /// Healthy is who generates: now, or lately when busy.
    private func health(_ exchange: WebExchange) {
        guard !isBusy else {
            let silence = loop.now - lastToken
            let isWell = silence < .seconds(60)
            reply(
                exchange, ["status": isWell ? "busy" : "stuck", "waiting": JSONValue(jobs.count)],
                status: isWell ? 200 : 503)
            return
        }
        isBusy = true
        let engine = engine
        queue.submit({
            engine.session.keep(0)
            _ = engine.reuse([])
            return engine.read([0]).allSatisfy { $0.isFinite }
        }) { [weak self] isWell in
            guard let self else { return }
            isBusy = false
            lastToken = loop.now
            reply(exchange, ["status": isWell ? "ok" : "not finite", "waiting": 0], status: isWell ? 200 : 503)
            goOn()
        }
    }

    private func complete(_ exchange: WebExchange, isChat: Bool) {
        do throws(APIError) {
            let request = try CompletionRequest(parsing: exchange.request.body, isChat: isChat)
            if let model = request.model, model != options.name {
                throw APIError(
                    status: 404, "the model here is \(options.name)", parameter: "model", code: "model_not_found")
            }
            guard jobs.count < options.queue else {
                throw APIError(status: 503, "\(jobs.count) requests are waiting; try again", code: "overloaded")
            }
            if newer != nil, jobs.isEmpty { adopt() }
            counter += 1
            let writer = AnswerWriter(
                id: (isChat ? "chatcmpl-" : "cmpl-") + String(counter), created: Int(Date().timeIntervalSince1970),
                model: options.name, isChat: isChat, includesUsage: request.includesUsage)
            let waiting = try request.prompts.map { prompt throws(APIError) in try answering(prompt, request) }
            let job = Job(exchange, request, writer, waiting)
            exchange.onGone = { [weak self, unowned job] in
                guard let self else { return }
                // The first one ends by itself after the step under way.
                let first = jobs.first
                jobs.removeAll { $0 === job && $0 !== first }
            }
            jobs.append(job)
            if request.streams {
                exchange.stream(type: "text/event-stream")
                if let opening = writer.opening { exchange.send(AnswerWriter.event(opening)) }
            }
            goOn()
        } catch { refuse(exchange, error) }
    }

    private func answering(
        _ prompt: CompletionRequest.Prompt, _ request: CompletionRequest
    ) throws(APIError) -> Answering {
        let tokens = try tokens(prompt)
        guard !tokens.isEmpty else { throw APIError("the prompt is empty", parameter: "prompt") }
        let room = options.capacity - tokens.count
        guard room >= 0, room > 0 || request.maximumTokens == 0 else {
            throw APIError(
                "the prompt has \(tokens.count) tokens, prompt and answer together may have \(options.capacity)",
                parameter: request.isChat ? "messages" : "prompt", code: "context_length_exceeded")
        }
        return Answering(
            engine, prompt: tokens, request: request, limit: min(request.maximumTokens ?? room, room),
            seed: request.seed ?? seeds.next())
    }

    private func tokens(_ prompt: CompletionRequest.Prompt) throws(APIError) -> [UInt32] {
        let text = engine.text
        switch prompt {
        case .text(let prompt): return text.tokenizer.encode(prompt)
        case .tokens(let ids):
            if let bad = ids.first(where: { $0 >= text.tokenizer.count }) {
                throw APIError("token \(bad) is not in the vocabulary of \(text.tokenizer.count)", parameter: "prompt")
            }
            return ids
        case .conversation(let messages):
            guard let template = text.template else {
                throw APIError(
                    "this model has no chat template that is known here; use /v1/completions", parameter: "messages")
            }
            do throws(TokenizerError) { return try TokenEncoder(text.tokenizer).encode(messages, template) } catch {
                throw APIError(error.description, parameter: "messages")
            }
        }
    }

    // MARK: answering

    private func goOn() {
        while let job = jobs.first, job.exchange.isGone { jobs.removeFirst() }
        guard !isBusy else { return }
        guard let job = jobs.first, let answering = job.waiting.first else {
            adopt()
            return
        }
        isBusy = true
        queue.submit({ answering.step() }) { [weak self] step in
            guard let self else { return }
            isBusy = false
            lastToken = loop.now
            if !job.exchange.isGone { take(step, job, answering) }
            goOn()
        }
    }

    private func take(_ step: Answering.Step, _ job: Job, _ answering: Answering) {
        switch step {
        case .reading: break
        case .token(let text, let told):
            job.text += text
            if let told { job.tokens.append(told) }
            if job.request.streams { sendPiece(text, told, job) }
            if let finish = answering.finish { end(answering, finish, job) }
        case .finished(let finish): end(answering, finish, job)
        case .failed(let problem):
            jobs.removeFirst()
            if job.request.streams {
                job.exchange.send(AnswerWriter.event(APIError(status: 500, problem).json))
                job.exchange.finish()
            } else {
                refuse(job.exchange, APIError(status: 500, problem))
            }
        }
    }

    private func sendPiece(_ text: String, _ told: CompletionAnswer.Token?, _ job: Job) {
        guard !text.isEmpty || told != nil else { return }
        let piece = job.writer.piece(text, tokens: told.map { [$0] } ?? [], telling: told != nil)
        job.exchange.send(AnswerWriter.event(piece))
    }

    /// One prompt of a request is answered.
    private func end(_ answering: Answering, _ finish: String, _ job: Job) {
        job.waiting.removeFirst()
        var text = job.text
        if job.request.echoes {
            let prompt = (try? engine.text.tokenizer.decode(answering.prompt, skippingSpecial: false)) ?? []
            text = String(decoding: prompt, as: UTF8.self) + text
        }
        job.answers.append(
            CompletionAnswer(
                text: text, finish: finish, tokens: answering.promptTokens + job.tokens,
                promptTokens: answering.prompt.count, answerTokens: answering.answerCount))
        job.text = ""
        job.tokens = []
        guard job.waiting.isEmpty else { return }
        jobs.removeFirst()
        if job.request.streams {
            job.exchange.send(AnswerWriter.event(job.writer.ending(finish)))
            if job.request.includesUsage {
                let usage = job.writer.usage(prompt: answering.prompt.count, answer: answering.answerCount)
                job.exchange.send(AnswerWriter.event(usage))
            }
            job.exchange.send(AnswerWriter.done)
            job.exchange.finish()
        } else {
            reply(job.exchange, job.writer.whole(job.answers, telling: job.request.logProbabilities != nil))
        }
    }
}
