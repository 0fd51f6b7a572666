import ArgumentParser
import Datasets
import Files
import Foundation
import Node
import Tokenizers
import Weights

/// What a job is trained on: the bytes that peers fetch.
struct JobContent {
    var bytes: [UInt8]
    /// Where they are a file of tokens: how many.
    var tokens: Int?
    /// Tokens in all.
    var count: Int { tokens ?? bytes.count }

    init(bytes: [UInt8], tokens: Int? = nil) {
        self.bytes = bytes
        self.tokens = tokens
    }

    /// A text of which every byte is a token.
    init(text path: String) throws {
        bytes = try readFile(path)
        guard !bytes.isEmpty else { throw NodeError.badInput("\(path) is empty: training needs some text") }
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw NodeError.badInput("\(path) is not UTF-8 text; convert it, for example with iconv -t utf-8")
        }
    }

    /// A file of tokens as it is, or text and rows made into one by a model's tokenizer.
    init(tokens path: String, vocabulary: Int, model: String?) throws {
        var head: [UInt8] = []
        if !isFolder(path) {
            head = try readable { () throws(FileError) in
                let reader = try FileReader(path)
                return try reader.read(0..<min(8, reader.count))
            }
        }
        if head.starts(with: TokenFile.magic) || TokenShard.begins(head) {
            bytes = try readFile(path)
        } else {
            guard let model else {
                throw NodeError.badInput(
                    "\(path) is no file of tokens, and the job has no model.from whose tokenizer could make it one; prepare it "
                        + "with atoll data prepare")
            }
            bytes = try Self.tokenised(path, model)
        }
        let found = try bytes.withUnsafeBytes { raw throws in
            try data { () throws(DatasetError) in
                let source = try DataSource(raw, path: path)
                try source.checkTokens(below: vocabulary)
                return source.count
            }
        }
        tokens = found
    }

    private static func tokenised(_ path: String, _ model: String) throws -> [UInt8] {
        Interrupt.watch()
        let text: ModelText
        do throws(ModelText.Failure) { text = try ModelText(model) } catch {
            throw NodeError.badInput(error.description)
        }
        var builder = TokenFileBuilder(vocabulary: text.tokenizer.count)
        let encoder = DocumentEncoder(text.tokenizer, template: text.template, ending: text.ending)
        var tokens: [UInt8] = []
        let isDone = try DataInput([path]).encode(encoder, into: &builder) { builder, _ in
            tokens += builder.takeBytes()
            return !Interrupt.asked
        }
        guard isDone else { throw ExitCode(130) }
        tokens += builder.takeBytes()
        return builder.header + tokens + builder.trailer
    }
}
