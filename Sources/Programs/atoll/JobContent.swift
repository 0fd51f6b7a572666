import ArgumentParser
import Datasets
import Files
import Foundation
import Node
import Tokenizers
import Training
import Weights
import Wire

/// What a job is trained on: the bytes that peers fetch. A file stays on its disk, and is read where it lies.
struct JobContent {
    var bytes: StoredBytes
    /// Where they are a file of tokens: how many.
    var tokens: Int?
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

    /// A text of which every byte is a token.
    init(text path: String) throws {
        bytes = try fileBytes(path, limit: Self.limit)
        guard !bytes.isEmpty else { throw NodeError.badInput("\(path) is empty: training needs some text") }
        var check = UTF8Check()
        guard bytes.eachPiece({ check.read($0) }) else { throw Self.unreadable }
        guard check.isText else {
            throw NodeError.badInput("\(path) is not UTF-8 text; convert it, for example with iconv -t utf-8")
        }
    }

    /// A file of tokens as it is, or text and rows made into one by a model's tokenizer.
    /// - Parameter scratch: a folder for what is made; nil for memory.
    init(tokens path: String, vocabulary: Int, model: String?, scratch: String?) throws {
        var head: [UInt8] = []
        if !isFolder(path) {
            head = try readable { () throws(FileError) in
                let reader = try FileReader(path)
                return try reader.read(0..<min(8, reader.count))
            }
        }
        if head.starts(with: TokenFile.magic) || TokenShard.begins(head) {
            bytes = try fileBytes(path, limit: Self.limit)
        } else {
            guard let model else {
                throw NodeError.badInput(
                    "\(path) is no file of tokens, and the job has no model.from whose tokenizer could make it one; prepare it "
                        + "with atoll data prepare")
            }
            bytes = try Self.tokenised(path, model, scratch.flatMap { ScratchFolder($0).growing() })
        }
        guard let corpus = CorpusBytes(bytes) else { throw Self.unreadable }
        tokens = try corpus.withBytes { raw throws in
            try data { () throws(DatasetError) in
                let source = try DataSource(raw, path: path)
                try source.checkTokens(below: vocabulary)
                return source.count
            }
        }
    }

    /// All of it in memory, for a world of virtual time.
    func inMemory() throws -> [UInt8] {
        guard let all = bytes.all else { throw Self.unreadable }
        return all
    }

    private static func tokenised(_ path: String, _ model: String, _ store: (any ByteStore)?) throws -> StoredBytes {
        Interrupt.watch()
        let text: ModelText
        do throws(ModelText.Failure) { text = try ModelText(model) } catch {
            throw NodeError.badInput(error.description)
        }
        var builder = TokenFileBuilder(vocabulary: text.tokenizer.count)
        let encoder = DocumentEncoder(text.tokenizer, template: text.template, ending: text.ending)
        // The head's numbers are known in the end; its place is kept.
        let head = builder.header.count
        var made = TokenBytes(store, at: head)
        let isDone = try DataInput([path]).encode(encoder, into: &builder) { builder, _ in
            made.append(builder.takeBytes())
            return !Interrupt.asked && !made.hasFailed
        }
        guard isDone || made.hasFailed else { throw ExitCode(130) }
        made.append(builder.takeBytes())
        made.append(builder.trailer)
        guard let bytes = made.finish(builder.header) else {
            throw NodeError.badInput(
                "there is no room for the tokens of \(path) in the folder of --out. Free some, or choose another folder"
            )
        }
        return bytes
    }
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
