import ArgumentParser
import Datasets
import Files
import Foundation
import Inference
import JSON
import Node
import Primitives
import Tokenizers
import Weights

/// `atoll eval`: how well a model predicts texts.
struct EvalCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "eval", abstract: "Loss, perplexity and bits a byte of a model on texts, rows or tokens.")

    @Argument(help: "A checkpoint's folder, or the --out of a job.") var checkpoint: String
    @Argument(help: "Texts, .jsonl files, folders of them, or one file that atoll data prepare wrote.")
    var input: [String]
    @Option(help: "Tokens of one window; the model's own context if not given, at most 4096.") var context: Int?
    @Option(help: "Tokens at each window's beginning that are read again and not counted.") var overlap = 0
    @Option(help: "Count this many windows at most; 0: all.") var windows = 0
    @Option(help: "The chat template for messages, where the folder's is not known.") var template: String?
    @Option(help: "Threads.") var threads = 1
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        Interrupt.watch()
        let loaded = try LoadedModel(checkpoint, template: template, quiet: json)
        let longest = min(loaded.model.shape.context, 4096)
        let context = context ?? longest
        guard (2...loaded.model.shape.context).contains(context) else {
            throw NodeError.badInput("--context \(context): 2 to \(loaded.model.shape.context)")
        }
        guard overlap >= 0, overlap < context else {
            throw NodeError.badInput("--overlap \(overlap): at least 0, less than the context of \(context)")
        }
        let bytes = try prepared(loaded)
        let file = try data { () throws(DatasetError) in
            try bytes.withOctets { octets throws(DatasetError) in
                try TokenFile(UnsafeRawBufferPointer(octets), path: input[0])
            }
        }
        guard file.count > 1 else { throw NodeError.badInput("\(input[0]): there is no text to be judged") }
        let sum = try withExtendedLifetime(bytes) { try judge(file, loaded, context) }
        try show(sum, context)
    }

    /// Bytes of a file of tokens, mapped or made here.
    private func prepared(_ loaded: LoadedModel) throws -> Octets {
        if input.count == 1, !isFolder(input[0]) {
            let file = try readable { () throws(FileError) in try MappedFile(input[0]) }
            if file.bytes.starts(with: TokenFile.magic) { return Octets(file) }
        }
        let text = loaded.text
        var builder = TokenFileBuilder(vocabulary: text.tokenizer.count)
        let encoder = DocumentEncoder(text.tokenizer, template: text.template, ending: text.ending)
        var body: [UInt8] = []
        let isDone = try DataInput(input).encode(encoder, into: &builder) { builder, _ in
            body += builder.takeBytes()
            return !Interrupt.asked
        }
        guard isDone else { throw ExitCode(130) }
        body += builder.takeBytes()
        return Octets(builder.header + body + builder.trailer)
    }

    struct Sum {
        var nats = 0.0
        var tokens = 0
        var bytes = 0
        var windows = 0
    }

    private func judge(_ file: TokenFile, _ loaded: LoadedModel, _ context: Int) throws -> Sum {
        let source = DataSource.documents(file)
        let session = InferenceSession(loaded.model, capacity: context + 1, threads: threads)
        let step = context - overlap
        let shows = !json && isatty(2) != 0
        let began = Date()
        var sum = Sum()
        for start in stride(from: 0, to: file.count - 1, by: step) {
            if windows > 0, sum.windows == windows { break }
            guard !Interrupt.asked else { throw ExitCode(130) }
            let window = try data { () throws(DatasetError) in
                try source.window(start: start, context: context, vocabulary: loaded.model.shape.vocabulary)
            }
            let size = min(context + 1, file.count - start)
            add(window, size: size, skipping: start == 0 ? 0 : overlap, session, loaded.text.tokenizer, &sum)
            sum.windows += 1
            if shows, Date().timeIntervalSince(began) > 2 {
                let percent = start * 100 / file.count
                let loss = String(format: "%.4f", sum.nats / Double(max(1, sum.tokens)))
                Output.note("\r\(percent) %, \(loss)")
            }
            if start + context >= file.count - 1 { break }
        }
        if shows { Output.note("\r\u{1B}[K") }
        return sum
    }

    /// Each document of a window by itself: a model sees nothing of another.
    private func add(
        _ window: DataSource.Window, size: Int, skipping: Int, _ session: InferenceSession, _ tokenizer: Tokenizer,
        _ sum: inout Sum
    ) {
        for (index, start) in window.starts.enumerated() {
            let end = index + 1 < window.starts.count ? window.starts[index + 1] : size
            guard end - start > 1 else { continue }
            session.keep(0)
            let losses = session.losses(Array(window.tokens[start..<end]))
            for place in start + 1..<end
            where place > skipping && window.bearsLoss[place - 1] {
                sum.nats += Double(losses[place - start] ?? 0)
                sum.tokens += 1
                let id = UInt32(window.tokens[place])
                if !tokenizer.isSpecial(id) { sum.bytes += tokenizer.bytes(of: id)?.count ?? 0 }
            }
        }
    }

    private func show(_ sum: Sum, _ context: Int) throws {
        guard sum.tokens > 0 else { throw NodeError.badInput("no token of this text is to be predicted") }
        let loss = sum.nats / Double(sum.tokens)
        let bits = sum.bytes > 0 ? sum.nats / 0.6931471805599453 / Double(sum.bytes) : nil
        if json {
            let object: JSONValue = [
                "loss": JSONValue(loss), "perplexity": JSONValue(exp(loss)),
                "bits_per_byte": bits.map { JSONValue($0) } ?? .null, "tokens": JSONValue(sum.tokens),
                "bytes": JSONValue(sum.bytes), "windows": JSONValue(sum.windows), "context": JSONValue(context),
                "overlap": JSONValue(overlap),
            ]
            print(object.written(indented: true))
        } else {
            print(
                String(format: "loss %.5f nats a token, perplexity %.3f", loss, exp(loss))
                    + (bits.map { String(format: ", %.4f bits a byte", $0) } ?? "")
                    + " (\(sum.tokens) tokens, \(sum.bytes) bytes, \(sum.windows) windows of \(context))")
        }
    }
}

/// Bytes that stay where they are: of a file, or of this program.
final class Octets {
    private let file: MappedFile?
    private let base: UnsafeMutableRawPointer?
    private let count: Int
    init(_ file: MappedFile) {
        self.file = file
        base = nil
        count = 0
    }
    init(_ bytes: [UInt8]) {
        file = nil
        count = bytes.count
        let copy = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes.count), alignment: 16)
        bytes.withUnsafeBytes { copy.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        base = copy
    }
    deinit { base?.deallocate() }
    func withOctets<Answer, Failure: Error>(
        _ body: (UnsafeBufferPointer<UInt8>) throws(Failure) -> Answer
    ) throws(Failure) -> Answer {
        if let file { return try file.withOctets(body) }
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeRawBufferPointer(start: base, count: count).bindMemory(to: UInt8.self))
    }
}
