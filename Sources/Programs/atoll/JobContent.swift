import ArgumentParser
import Compute
import Datasets
import Files
import Foundation
import Node
import Primitives
import Tokenizers
import Training
import Weights
import Wire

/// What a job is trained on: the bytes that peers fetch. A file stays on its disk, and is read where it lies.
struct JobContent {
    var bytes: StoredBytes
    /// Where they are a file of tokens: how many.
    var tokens: Int?
    /// Of a mixture: its sources, one after the other.
    var parts: [DataPart] = []
    /// Tokens in all.
    var count: Int { tokens ?? bytes.count }
    /// What an index can describe.
    private static let limit = ContentIndex.chunkLimit * ContentIndex.chunkBytes
    static let unreadable = NodeError.badInput(
        "the job's text cannot be read any more: it was changed, or its disk fails. Launch the job again when it is whole"
    )

    init(bytes: StoredBytes, tokens: Int? = nil) {
        self.bytes = bytes
        self.tokens = tokens
    }

    /// How files become tokens.
    struct Encoding {
        /// Every byte of a text is a token.
        var isBytes: Bool
        var vocabulary: Int
        /// The folder whose tokenizer makes tokens of texts.
        var model: String?
        /// A folder for what is made; nil for memory.
        var scratch: String?

        fileprivate func room() -> (any ByteStore)? { scratch.flatMap { ScratchFolder($0).growing() } }
    }

    /// A text, a file of tokens as it is, or text and rows made into one by a model's tokenizer.
    init(_ path: String, _ encoding: Encoding) throws {
        if encoding.isBytes {
            bytes = try Self.text(path)
            return
        }
        if try Self.isTokens(path) {
            bytes = try fileBytes(path, limit: Self.limit)
        } else {
            bytes = try TokenMaker([path], encoding).made()
        }
        tokens = try count(below: encoding.vocabulary, path)
    }

    /// Several of them, one after the other: what each is, its sequences' share is by its weight.
    init(mixing files: [(path: String, weight: Double)], _ encoding: Encoding) throws {
        var counts: [Int] = []
        if encoding.isBytes {
            var made = TokenBytes(encoding.room(), at: 0)
            for (path, _) in files {
                let text = try Self.text(path)
                guard text.eachPiece({ made.append(Array($0)) }) else { throw Self.unreadable }
                counts.append(text.count)
            }
            guard let bytes = made.finish([]) else { throw Self.noRoom(files[0].path) }
            self.bytes = bytes
        } else {
            let maker = try TokenMaker(files.map(\.path), encoding)
            bytes = try maker.made { counts.append($0 - counts.reduce(0, +)) }
            tokens = try count(below: encoding.vocabulary, files.map(\.path).joined(separator: ", "))
        }
        guard bytes.count <= Self.limit else {
            throw NodeError.badInput(
                "the sources have \(ByteCount(bytes.count)) together, at most \(ByteCount(Self.limit)) allowed")
        }
        parts = zip(files, counts).map { DataPart(tokens: $1, weight: $0.weight) }
    }

    private static func text(_ path: String) throws -> StoredBytes {
        let bytes = try fileBytes(path, limit: limit)
        guard !bytes.isEmpty else { throw NodeError.badInput("\(path) is empty: training needs some text") }
        var check = UTF8Check()
        guard bytes.eachPiece({ check.read($0) }) else { throw unreadable }
        guard check.isText else {
            throw NodeError.badInput("\(path) is not UTF-8 text; convert it, for example with iconv -t utf-8")
        }
        return bytes
    }

    fileprivate static func isTokens(_ path: String) throws -> Bool {
        guard !isFolder(path) else { return false }
        let head = try readable { () throws(FileError) in
            let reader = try FileReader(path)
            return try reader.read(0..<min(8, reader.count))
        }
        return head.starts(with: TokenFile.magic) || TokenShard.begins(head)
    }

    /// Tokens, all of them looked at.
    private func count(below vocabulary: Int, _ path: String) throws -> Int {
        guard let corpus = CorpusBytes(bytes) else { throw Self.unreadable }
        return try corpus.withBytes { raw throws in
            try data { () throws(DatasetError) in
                let source = try DataSource(raw, path: path)
                try source.checkTokens(below: vocabulary)
                return source.count
            }
        }
    }

    fileprivate static func noRoom(_ path: String) -> NodeError {
        .badInput(
            "there is no room for the tokens of \(path) in the folder of --out. Free some, or choose another folder")
    }

    /// What of each source is read how often in `sequences` sequences, for people; nothing where there is one.
    func shares(_ names: [String], context: Int, validationFraction: Double, sequences: Int, seed: UInt64) -> [String] {
        guard !parts.isEmpty,
            let plan = try? DataPlan(
                sources: parts.map { .init(tokens: $0.tokens, weight: $0.weight) }, context: context,
                validationFraction: validationFraction, seed: seed)
        else { return [] }
        let weights = parts.reduce(0) { $0 + $1.weight }
        return zip(names, parts).enumerated().map { number, source in
            let (name, part) = source
            let share = part.weight / weights
            let times = share * Double(sequences) / Double(plan.windows(number))
            return "source \(number + 1), \(name): \(grouped(part.tokens)) \(tokens == nil ? "bytes" : "tokens"), "
                + "\(fixed(100 * share, 1)) % of what is read, \(fixed(times, 2)) times in all"
        }
    }

    /// All of it in memory, for a world of virtual time.
    func inMemory() throws -> [UInt8] {
        guard let all = bytes.all else { throw Self.unreadable }
        return all
    }
}

/// Makes one file of tokens of texts, rows and other files of tokens.
private struct TokenMaker {
    private let paths: [String]
    private let encoding: JobContent.Encoding
    private let areTokens: [Bool]
    private let text: ModelText?

    init(_ paths: [String], _ encoding: JobContent.Encoding) throws {
        self.paths = paths
        self.encoding = encoding
        areTokens = try paths.map { try JobContent.isTokens($0) }
        guard let first = areTokens.firstIndex(of: false) else {
            text = nil
            return
        }
        guard let model = encoding.model else {
            throw NodeError.badInput(
                "\(paths[first]) is no file of tokens, and the job has no model.from whose tokenizer could make it one; prepare "
                    + "it with atoll data prepare")
        }
        do throws(ModelText.Failure) { text = try ModelText(model) } catch {
            throw NodeError.badInput(error.description)
        }
    }

    /// - Parameter each: is told after each path how many tokens there are so far.
    func made(each: (Int) -> Void = { _ in }) throws -> StoredBytes {
        Interrupt.watch()
        let known = text?.tokenizer.count ?? 1
        var builder = TokenFileBuilder(vocabulary: areTokens.contains(true) ? max(known, encoding.vocabulary) : known)
        // The head's numbers are known in the end; its place is kept.
        var made = TokenBytes(encoding.room(), at: builder.header.count)
        for (path, isTokens) in zip(paths, areTokens) {
            func take(_ builder: inout TokenFileBuilder) -> Bool {
                made.append(builder.takeBytes())
                return !Interrupt.asked && !made.hasFailed
            }
            let isDone = try isTokens ? copy(path, to: &builder, take) : encode(path, to: &builder, take)
            guard isDone || made.hasFailed else { throw ExitCode(130) }
            builder.endDocument()
            each(builder.count)
        }
        made.append(builder.takeBytes())
        made.append(builder.trailer)
        guard let bytes = made.finish(builder.header) else {
            throw JobContent.noRoom(paths.joined(separator: ", "))
        }
        return bytes
    }

    private func encode(
        _ path: String, to builder: inout TokenFileBuilder, _ take: (inout TokenFileBuilder) -> Bool
    ) throws -> Bool {
        guard let text else { return true }
        let encoder = DocumentEncoder(text.tokenizer, template: text.template, ending: text.ending)
        return try DataInput([path]).encode(encoder, into: &builder) { builder, _ in take(&builder) }
    }

    /// Tokens of a file of them, with its documents and what of them is learnt.
    private func copy(
        _ path: String, to builder: inout TokenFileBuilder, _ take: (inout TokenFileBuilder) -> Bool
    ) throws -> Bool {
        let file = try readable { () throws(FileError) in try MappedFile(path) }
        defer { withExtendedLifetime(file) {} }
        let source = try data { () throws(DatasetError) in
            let source = try DataSource(file.bytes, path: path)
            try source.checkTokens(below: encoding.vocabulary)
            return source
        }
        for start in stride(from: 0, to: source.count, by: Self.piece) {
            source.copy(start..<min(source.count, start + Self.piece), to: &builder)
            guard take(&builder) else { return false }
        }
        return true
    }
    private static let piece = 1 << 16
}

/// Bytes that come one after the other, and some before them in the end: in a store, or in memory where there is none.
private struct TokenBytes {
    private let store: (any ByteStore)?
    private let head: Int
    private var end: Int
    private var memory: [UInt8] = []
    /// The store took no more.
    private(set) var hasFailed = false

    init(_ store: (any ByteStore)?, at head: Int) {
        self.store = store
        self.head = head
        end = head
    }
    mutating func append(_ bytes: [UInt8]) {
        guard let store else { return memory += bytes }
        guard !hasFailed, bytes.withUnsafeBytes({ store.put($0, at: end) }) else { return hasFailed = true }
        end += bytes.count
    }
    /// Nil where the store took not all.
    func finish(_ first: [UInt8]) -> StoredBytes? {
        precondition(first.count == head, "\(first.count) bytes before the others, \(head) were kept free")
        guard let store else { return StoredBytes(first + memory) }
        guard !hasFailed, first.withUnsafeBytes({ store.put($0, at: 0) }) else { return nil }
        return StoredBytes(store, 0..<end)
    }
}
