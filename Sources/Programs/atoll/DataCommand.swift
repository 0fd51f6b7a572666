import ArgumentParser
import Datasets
import Files
import Foundation
import JSON
import Node
import Tokenizers
import Weights

/// `atoll data`: texts as tokens in a file, and a look into it.
struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Turn texts into files of tokens, and look into them.",
        subcommands: [PrepareCommand.self, ShowCommand.self])

    struct PrepareCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "prepare", abstract: "Tokenize texts, folders and .jsonl rows into one file.")

        @Argument(help: "The file of tokens to write.") var output: String
        @Argument(help: "Texts, .jsonl files (text, prompt and completion, or messages), or folders of them.")
        var input: [String]
        @Option(help: "The model's folder, whose tokenizer is used.") var model: String
        @Option(help: "The chat template for messages, where the folder's is not known.") var template: String?
        @Flag(help: "Write a .bin shard as others read it: no documents, no loss bits.") var shard = false
        @Flag(help: "Print one JSON object.") var json = false

        func run() throws {
            Interrupt.watch()
            let given = try template.map { name in
                guard let known = ChatTemplate(rawValue: name) else {
                    throw NodeError.badInput(
                        "--template \(name): \(ChatTemplate.allCases.map(\.rawValue).joined(separator: ", "))")
                }
                return known
            }
            let text: ModelText
            do throws(ModelText.Failure) { text = try ModelText(model, template: given) } catch {
                throw NodeError.badInput(error.description)
            }
            let input = try DataInput(input)
            var builder = TokenFileBuilder(vocabulary: text.tokenizer.count)
            let encoder = DocumentEncoder(text.tokenizer, template: text.template, ending: text.ending)
            let partial = output + ".partial-\(getpid())"
            do {
                try write(input, encoder, &builder, to: partial)
                guard rename(partial, output) == 0 else {
                    throw NodeError.failed("\(output): \(lastProblem()); check the path and its permissions")
                }
            } catch {
                unlink(partial)
                throw error
            }
            let object: JSONValue = [
                "tokens": JSONValue(builder.count), "learnt": JSONValue(builder.learnt),
                "documents": JSONValue(builder.ends.count), "bytes": JSONValue(input.bytes),
                "files": JSONValue(input.items.count), "bytes_a_token": JSONValue(builder.bytesPerToken),
                "vocabulary": JSONValue(builder.vocabulary),
            ]
            if json {
                print(object.written())
            } else {
                print(
                    "\(output): \(builder.count) tokens in \(builder.ends.count) documents, \(builder.learnt) to be learnt, from "
                        + "\(input.bytes) bytes in \(input.items.count) files")
            }
        }

        private func write(
            _ input: DataInput, _ encoder: DocumentEncoder, _ builder: inout TokenFileBuilder, to path: String
        ) throws {
            let file = try failing { () throws(FileError) in try FileWriter(path) }
            let head = shard ? TokenShard.headerBytes : TokenFile.headerBytes
            file.append([UInt8](repeating: 0, count: head))
            let shows = !json && isatty(2) != 0
            let start = Date()
            var told = -1
            let all = max(1, input.bytes)
            let isDone = try input.encode(encoder, into: &builder) { builder, done in
                file.append(builder.takeBytes())
                let percent = done * 100 / all
                if shows, percent != told, Date().timeIntervalSince(start) > 2 {
                    told = percent
                    Output.note("\r\(percent) %, \(builder.count) tokens")
                }
                return !Interrupt.asked
            }
            if shows { Output.note("\r\u{1B}[K") }
            guard isDone else { throw ExitCode(130) }
            guard builder.count > 1 else { throw NodeError.badInput("there is no text in what was given") }
            file.append(builder.takeBytes())
            if shard {
                guard let count = Int32(exactly: builder.count) else {
                    throw NodeError.badInput("\(builder.count) tokens are more than a shard can count; prepare parts")
                }
                file.overwrite(TokenShard.header(count: count, wide: builder.bytesPerToken == 4), at: 0)
            } else {
                file.append(builder.trailer)
                file.overwrite(builder.header, at: 0)
            }
            try failing { () throws(FileError) in try file.finish() }
        }

        private func failing<T>(_ body: () throws(FileError) -> T) throws -> T {
            do throws(FileError) { return try body() } catch { throw NodeError.failed(error.description) }
        }
    }

    struct ShowCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Tell what a file of tokens holds, and what a sequence of a job would read.")

        @Argument(help: "A file that prepare wrote, or a .bin shard.") var input: String
        @Option(help: "The model's folder, to show text.") var model: String?
        @Option(help: "Show what this sequence of a job reads, from 0.") var sequence: Int?
        @Option(help: "With --sequence: tokens of one window.") var context = 256
        @Option(help: "With --sequence: the job's seed.") var seed: UInt64 = 1
        @Option(help: "With --sequence: the share at the end that is for validation.") var validationFraction = 0.0
        @Flag(help: "Print one JSON object.") var json = false

        func run() throws {
            let file = try readable { () throws(FileError) in try MappedFile(input) }
            try withExtendedLifetime(file) {
                let source = try open(file)
                guard let sequence else { return describe(source) }
                try show(source, sequence)
            }
        }

        private func open(_ file: MappedFile) throws -> DataSource {
            try data { () throws(DatasetError) in try DataSource(file.bytes, path: file.path) }
        }

        private func describe(_ source: DataSource) {
            var object: JSONValue
            switch source {
            case .documents(let file):
                object = [
                    "tokens": JSONValue(file.count), "documents": JSONValue(file.documents),
                    "vocabulary": JSONValue(file.vocabulary), "bytes_a_token": JSONValue(file.bytesPerToken),
                    "loss_bits": .bool(file.hasLossBits),
                ]
            case .shards(let shards, _):
                object = ["tokens": JSONValue(source.count), "bytes_a_token": JSONValue(shards[0].bytesPerToken)]
            }
            print(json ? object.written() : lines(object))
        }

        private func lines(_ object: JSONValue) -> String {
            (object.object?.members ?? []).map { "\($0.key): \($0.value.written())" }.joined(separator: "\n")
        }

        private func show(_ source: DataSource, _ sequence: Int) throws {
            guard sequence >= 0, (1...1 << 20).contains(context) else {
                throw NodeError.badInput("--sequence is at least 0, --context 1 to \(1 << 20)")
            }
            let tokenizer = try model.map { try openTokenizer($0) }
            let (place, window, windows) = try data { () throws(DatasetError) in
                let plan = try DataPlan(
                    sources: [.init(tokens: source.count, weight: 1)], context: context,
                    validationFraction: validationFraction, seed: seed)
                let place = plan.place(sequence)
                let window = try source.window(
                    start: place.start, context: context, limit: source.count - plan.validation[0],
                    vocabulary: tokenizer?.count ?? 1 << 24)
                return (place, window, plan.windows(0))
            }
            let inputs = window.tokens.dropLast().map { UInt32($0) }
            let text = try tokenizer.map { tokenizer in
                try tokens { () throws(TokenizerError) in
                    String(decoding: try tokenizer.decode(inputs, skippingSpecial: false), as: UTF8.self)
                }
            }
            let object: JSONValue = [
                "sequence": JSONValue(sequence), "windows": JSONValue(windows), "epoch": JSONValue(place.epoch),
                "start": JSONValue(place.start), "documents_begin": .array(window.starts.map { JSONValue($0) }),
                "learnt": JSONValue(window.learnt), "tokens": .array(inputs.map { JSONValue(Int($0)) }),
                "text": text.map { .string($0) } ?? .null,
            ]
            if json {
                print(object.written())
            } else {
                print(
                    "sequence \(sequence): epoch \(place.epoch), tokens \(place.start)..<\(place.start + context) of "
                        + "\(source.count), \(window.learnt) learnt, documents begin at \(window.starts)")
                print(text.map(terminalSafe) ?? inputs.map(String.init).joined(separator: " "))
            }
        }
    }
}
