import Checkpoints
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
        JobContent(
            bytes: StoredBytes([UInt8](repeating: 32, count: 4 << 20)),
            tokens: manifest.text.tokenizer == .ids ? 2 << 20 : nil)
    }

    /// What there is to train on, checked: text is UTF-8, tokens are the model's, and both parts have enough of it.
    /// - Parameter scratch: a folder for what is made of it; nil for memory.
    func content(scratch: String? = nil) throws -> JobContent {
        guard case .path(let path) = manifest.data else {
            throw NodeError.badInput(
                "data is a content ID; a launcher needs the text itself: give it with --data FILE or data.path")
        }
        let full = Self.path(path, beside: folder)
        let content: JobContent
        switch manifest.text.tokenizer {
        case .byte: content = try JobContent(text: full)
        case .ids:
            content = try JobContent(
                tokens: full, vocabulary: manifest.model.vocabulary, model: model?.folder.path,
                scratch: scratch)
        }
        let count = content.count
        let validation = Int(Double(count) * manifest.validationFraction)
        let context = manifest.model.context
        guard validation > context, count - validation > context else {
            throw NodeError.badInput(
                "\(full) has \(count) \(content.tokens == nil ? "bytes" : "tokens"): with validation_fraction "
                    + "\(manifest.validationFraction) and context \(context), training and validation each need more than "
                    + "\(context). Use more text")
        }
        return content
    }
}
