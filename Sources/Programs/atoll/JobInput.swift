import Checkpoints
import Compute
import Foundation
import Node
import Planning
import Primitives
import Weights
import Wire

/// A job file with what the command line changes in it.
struct JobInput {
    var manifest: JobManifest
    let folder: String
    /// What the job continues.
    var model: ContinuedModel?

    init(file: String, data: String?, steps: Int?, seed: UInt64?) throws {
        try self.init(bytes: try readFile(file, limit: 1 << 20), file: file, data: data, steps: steps, seed: seed)
    }
    /// - Parameter file: where the bytes are from: paths in them are relative to its folder.
    init(bytes: [UInt8], file: String, data: String?, steps: Int?, seed: UInt64?) throws {
        let folder = (file as NSString).deletingLastPathComponent
        self.folder = folder
        do throws(ManifestError) {
            manifest = try JobManifest(parsing: bytes, file: file) { path throws(JobManifest.FolderProblem) in
                do throws(CheckpointError) { return try ModelFolder(Self.path(path, beside: folder)).shape } catch {
                    throw JobManifest.FolderProblem(error.description)
                }
            }
        } catch {
            throw NodeError.badInput("\(error)")
        }
        if let path = manifest.beginning.folder {
            do throws(CheckpointError) {
                model = try ContinuedModel(Self.path(path, beside: folder), shape: manifest.model)
            } catch {
                throw NodeError.badInput(error.description)
            }
        }
        if let data { manifest.data = .path(URL(fileURLWithPath: data).path) }
        if let seed { manifest.seed = seed }
        if let steps {
            guard steps > 0 else { throw NodeError.badInput("--steps \(steps): at least 1") }
            // So many steps of a batch that stays what it is.
            let k = manifest.fixedMicroBatchesPerVirtual ?? 1
            let batch = manifest.geometry(microBatchesPerVirtual: k).batchTokens
            guard steps <= JobManifest.mostTokens / batch else {
                throw NodeError.badInput(
                    "--steps \(steps) of \(batch) tokens each: at most \(JobManifest.mostTokens / batch), or 10^15 tokens in all"
                )
            }
            manifest.batchTokens = .fixed(batch)
            manifest.tokens = steps * batch
        }
    }

    /// A path of the job file: relative to its folder.
    private static func path(_ path: String, beside folder: String) -> String {
        path.hasPrefix("/") || folder.isEmpty ? path : folder + "/" + path
    }

    /// The manifest as it is signed: text and first units by their content IDs.
    func manifest(for content: JobContent) throws -> JobManifest {
        var out = manifest
        guard let index = ContentIndex(of: content.bytes) else { throw JobContent.unreadable }
        out.data = .content(index.id.hex)
        out.text.tokens = content.tokens
        out.text.parts = content.parts
        guard let model else { return out }
        do throws(CheckpointError) { out.beginning.units = try model.contents() } catch {
            throw NodeError.badInput(error.description)
        }
        return out
    }

    /// As virtual time has it: weights are drawn from the seed, their first way to the peers is left out.
    func simulated(_ content: JobContent) throws -> JobManifest {
        var drawn = self
        drawn.model = nil
        return try drawn.manifest(for: content)
    }
    /// In place of a text that is not at hand.
    var blank: JobContent {
        var out = JobContent(
            bytes: StoredBytes([UInt8](repeating: 32, count: 4 << 20)),
            tokens: manifest.text.tokenizer == .ids ? 2 << 20 : nil)
        guard case .mixture(let files) = manifest.data else { return out }
        let each = out.count / files.count
        for (index, file) in files.enumerated() {
            let isLast = index == files.count - 1
            out.parts.append(DataPart(tokens: isLast ? out.count - each * index : each, weight: file.weight))
        }
        return out
    }
    /// Where the data lie: a file, or those of a mixture; nothing where they are a content ID.
    var dataFiles: [(name: String, path: String)] {
        switch manifest.data {
        case .path(let name): [(name, Self.path(name, beside: folder))]
        case .mixture(let files): files.map { ($0.path, Self.path($0.path, beside: folder)) }
        case .content: []
        }
    }

    /// What there is to train on, checked: text is UTF-8, tokens are the model's, and both parts have enough of it.
    /// - Parameter scratch: a folder for what is made of it; nil for memory.
    func content(scratch: String? = nil) throws -> JobContent {
        let content: JobContent
        let encoding = JobContent.Encoding(
            isBytes: manifest.text.tokenizer == .byte, vocabulary: manifest.model.vocabulary,
            model: model?.folder.path, scratch: scratch)
        switch manifest.data {
        case .content:
            throw NodeError.badInput(
                "data is a content ID; a launcher needs the text itself: give it with --data FILE or data.path")
        case .path(let path):
            content = try JobContent(Self.path(path, beside: folder), encoding)
        case .mixture(let files):
            content = try JobContent(
                mixing: files.map { (Self.path($0.path, beside: folder), $0.weight) }, encoding)
        }
        try checkLength(of: content)
        return content
    }

    /// Training and validation need a window each; of a mixture training one of each source, and validation one of any.
    private func checkLength(of content: JobContent) throws {
        let what = content.tokens == nil ? "bytes" : "tokens"
        let context = manifest.model.context
        func kept(_ count: Int) -> Int { Int((Double(count) * manifest.validationFraction).rounded(.down)) }
        let files = dataFiles.map(\.path)
        let full = files.first ?? "the text"
        for (path, part) in zip(files, content.parts) where part.tokens - kept(part.tokens) <= context {
            throw NodeError.badInput(
                "\(path) has \(part.tokens) \(what): with validation_fraction \(manifest.validationFraction) and context "
                    + "\(context), each source needs more than \(context) of them for training. Use more text of it")
        }
        if !content.parts.isEmpty {
            guard content.parts.contains(where: { kept($0.tokens) > context }) else {
                throw NodeError.badInput(
                    "no source has more than \(context) \(what) for validation: give more text, or a larger "
                        + "validation_fraction than \(manifest.validationFraction)")
            }
            return
        }
        let count = content.count
        let validation = Int(Double(count) * manifest.validationFraction)
        guard validation > context, count - validation > context else {
            throw NodeError.badInput(
                "\(full) has \(count) \(what): with validation_fraction "
                    + "\(manifest.validationFraction) and context \(context), training and validation each need more than "
                    + "\(context). Use more text")
        }
    }
}
