import ArgumentParser
import Files
import Foundation
import JSON
import Node
import Tokenizers

/// `atoll tokenizer`: makes tokenizers.
struct TokenizerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenizer", abstract: "Make tokenizers.", subcommands: [TrainCommand.self])

    struct TrainCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "train", abstract: "Learn a byte-pair vocabulary from texts; write it as tokenizer.json.")

        @Argument(help: "The folder to write to; made where there is none.") var folder: String
        @Argument(help: "Texts to learn from.") var corpus: [String]
        @Option(help: "Tokens in the vocabulary: control tokens, 256 bytes, and merges.") var size = 8192
        @Option(help: "How texts are parted: gpt2, llama3, qwen2 or smollm2.") var split = "llama3"
        @Option(help: "A control token; may be repeated. The first ends a text.") var special: [String] = []
        @Option(help: "Pairs that occur less often are not merged.") var minimumCount = 2
        @Flag(help: "Print one JSON object.") var json = false

        func run() throws {
            guard let splitting = TokenizerTrainer.Splitting(rawValue: split) else {
                let all = TokenizerTrainer.Splitting.allCases.map(\.rawValue).joined(separator: ", ")
                throw NodeError.badInput("--split \(split): \(all)")
            }
            guard !corpus.isEmpty else { throw NodeError.badInput("give at least one text to learn from") }
            Interrupt.watch()
            let control = special.isEmpty ? ["<|endoftext|>"] : special
            var trainer = try tokens { () throws(TokenizerError) in
                try TokenizerTrainer(splitting: splitting, special: control)
            }
            var bytes = 0
            for path in corpus {
                let file = try readable { () throws(FileError) in try MappedFile(path) }
                bytes += file.count
                try tokens { () throws(TokenizerError) in
                    try file.withOctets { bytes throws(TokenizerError) in try trainer.add(bytes) }
                }
            }
            let showsProgress = !json && isatty(2) != 0
            let file = try tokens { () throws(TokenizerError) in
                try trainer.train(size: size, minimumCount: minimumCount) { made in
                    if showsProgress { Output.note("\r\(made) of \(size) tokens") }
                    return !Interrupt.asked
                }
            }
            if showsProgress { Output.note("\r\u{1B}[K") }
            guard !Interrupt.asked else { throw ExitCode(130) }
            try write(file, control)
            let made = file.object?["model"]?.object?["vocab"]?.object?.members.count ?? 0
            if json {
                let object: JSONValue = [
                    "tokens": .init(made), "bytes": .init(bytes), "words": .init(trainer.wordCount),
                    "folder": .string(folder),
                ]
                print(object.written())
            } else {
                print(
                    "\(folder)/tokenizer.json: \(made) tokens from \(bytes) bytes, \(trainer.wordCount) different pieces"
                )
                if made < size {
                    print("no other pair occurs \(minimumCount) times: give more text, or a smaller --size")
                }
            }
        }

        private func write(_ file: JSONValue, _ control: [String]) throws {
            let configuration: JSONValue = [
                "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": .string(control[0]),
                "eos_token": .string(control[0]), "clean_up_tokenization_spaces": false,
            ]
            do {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                try replaceFile(folder + "/tokenizer.json", file.bytes(indented: true) + [10])
                try replaceFile(folder + "/tokenizer_config.json", configuration.bytes(indented: true) + [10])
            } catch let error as FileError {
                throw NodeError.failed(error.description)
            } catch {
                throw NodeError.failed("\(folder): cannot be made; check the path and its permissions")
            }
        }
    }
}
