import ArgumentParser
import Files
import Foundation
import JSON
import Node
import Tokenizers

/// `atoll tokenize`: a text's tokens, and tokens' text.
struct TokenizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize", abstract: "Turn text into token IDs with a model's tokenizer.json, or IDs into text.")

    @Argument(help: "A model's folder, or a tokenizer.json.") var tokenizer: String
    @Argument(help: "Files to read; standard input if there are none.") var files: [String] = []
    @Option(help: "The text (or the IDs) instead of files.") var text: String?
    @Flag(help: "The input is token IDs with anything between them; print the text.") var decode = false
    @Flag(help: "Print how many tokens there are, not which.") var count = false
    @Flag(
        help: "Each input line is a JSON text (with --decode, an array of IDs) by itself, each output line its answer.")
    var lines = false
    @Flag(inversion: .prefixedNo, help: "Add what the tokenizer's template puts around a text.") var special = true
    @Flag(help: "Read control tokens in the text as plain text.") var plain = false
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        guard text == nil || files.isEmpty else { throw NodeError.badInput("--text and files: give one of the two") }
        let tokenizer = try openTokenizer(tokenizer)
        let encoder = TokenEncoder(tokenizer)
        try withInput { input in
            if lines { return try answerLines(input, tokenizer, encoder) }
            try answer(input, tokenizer, encoder)
        }
    }

    private func answer(
        _ input: UnsafeBufferPointer<UInt8>, _ tokenizer: Tokenizer, _ encoder: TokenEncoder
    ) throws {
        if decode {
            let ids = try Self.ids(in: input)
            let bytes = try tokens { () throws(TokenizerError) in
                try tokenizer.decode(ids, skippingSpecial: !plain)
            }
            if json {
                let object: JSONValue = [
                    "text": .string(String(decoding: bytes, as: UTF8.self)), "tokens": .init(ids.count),
                ]
                print(object.written())
            } else {
                Output.write(bytes)
            }
            return
        }
        let start = threadSeconds()
        let ids = encode(input, encoder)
        let seconds = threadSeconds() - start
        let missing = tokenizer.missingBytes
        if !missing.isEmpty, input.contains(where: missing.contains) {
            complain("the text has bytes that this tokenizer has no token for; they are left out, as others do")
        }
        if json {
            var object: JSONValue = [
                "tokens": .init(ids.count), "bytes": .init(input.count), "vocabulary": .init(tokenizer.count),
                "megabytes_per_second": .init(seconds > 0 ? Double(input.count) / seconds / 1e6 : 0),
            ]
            if !count, case .object(var members) = object {
                members["ids"] = .array(ids.map { .init(Int($0)) })
                object = .object(members)
            }
            print(object.written())
        } else if count {
            let share = Double(input.count) / Double(max(1, ids.count))
            print("\(ids.count) tokens, \(input.count) bytes, \(String(format: "%.2f", share)) bytes a token")
        } else {
            print(ids.map(String.init).joined(separator: " "))
        }
    }

    private func encode(_ bytes: UnsafeBufferPointer<UInt8>, _ encoder: TokenEncoder) -> [UInt32] {
        encoder.encode(bytes, addingSpecial: special, parsingSpecial: !plain)
    }

    /// Gives `body` the bytes of the text or of all files.
    private func withInput(_ body: (UnsafeBufferPointer<UInt8>) throws -> Void) throws {
        if let text { return try Array(text.utf8).withUnsafeBufferPointer(body) }
        if files.count == 1 {
            return try readable { () throws(FileError) in try MappedFile(files[0]) }.withOctets(body)
        }
        var all: [UInt8] = []
        if files.isEmpty { all = [UInt8](FileHandle.standardInput.readDataToEndOfFile()) }
        for path in files { try readable { () throws(FileError) in try MappedFile(path) }.withOctets { all += $0 } }
        try all.withUnsafeBufferPointer(body)
    }

    private func answerLines(
        _ input: UnsafeBufferPointer<UInt8>, _ tokenizer: Tokenizer, _ encoder: TokenEncoder
    ) throws {
        var out: [UInt8] = []
        for (index, line) in input.split(separator: 10).enumerated() {
            let value: JSONValue
            do throws(JSONError) { value = try JSONValue(parsing: UnsafeBufferPointer(rebasing: line)) } catch {
                throw NodeError.badInput("line \(index + 1): \(error.problem)")
            }
            if decode {
                let ids = value.array?.compactMap { $0.integer.flatMap(UInt32.init(exactly:)) }
                guard let ids, ids.count == value.array?.count else {
                    throw NodeError.badInput("line \(index + 1): \(value.kind), it must be an array of token IDs")
                }
                let bytes = try tokens { () throws(TokenizerError) in
                    try tokenizer.decode(ids, skippingSpecial: !plain)
                }
                out += JSONValue.string(String(decoding: bytes, as: UTF8.self)).bytes()
            } else {
                guard let text = value.text else {
                    throw NodeError.badInput("line \(index + 1): \(value.kind), it must be a text in quotes")
                }
                let ids = Array(text.utf8).withUnsafeBufferPointer { encode($0, encoder) }
                out += (count ? JSONValue(ids.count) : .array(ids.map { .init(Int($0)) })).bytes()
            }
            out.append(10)
        }
        Output.write(out)
    }

    /// Whole numbers with anything between them.
    private static func ids(in text: UnsafeBufferPointer<UInt8>) throws -> [UInt32] {
        try text.split { !(48...57).contains($0) }.map { digits in
            guard let id = UInt32(String(decoding: digits, as: UTF8.self)) else {
                throw NodeError.badInput("\(String(decoding: digits.prefix(20), as: UTF8.self))… is no token ID")
            }
            return id
        }
    }
}

/// Runs `body`; what it throws becomes bad input.
func tokens<T>(_ body: () throws(TokenizerError) -> T) throws -> T {
    do throws(TokenizerError) { return try body() } catch { throw NodeError.badInput(error.description) }
}

/// Runs `body`; a file that cannot be read becomes bad input.
func readable<T>(_ body: () throws(FileError) -> T) throws -> T {
    do throws(FileError) { return try body() } catch { throw NodeError.badInput(error.description) }
}

/// The tokenizer of a model's folder, or of a file.
func openTokenizer(_ path: String) throws -> Tokenizer {
    let file = try readable { () throws(FileError) in
        try MappedFile(isFolder(path) ? path + "/tokenizer.json" : path)
    }
    return try tokens { () throws(TokenizerError) in
        try file.withOctets { bytes throws(TokenizerError) in try Tokenizer(json: bytes, path: file.path) }
    }
}
