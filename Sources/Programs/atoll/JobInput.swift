import Foundation
import Node
import Planning
import Primitives
import Wire

/// A job file with what the command line changes in it.
struct JobInput {
    var manifest: JobManifest
    let folder: String

    init(file: String, data: String?, steps: Int?, seed: UInt64?) throws {
        let bytes = try readFile(file, limit: 1 << 20)
        do throws(ManifestError) {
            manifest = try JobManifest(parsing: bytes, file: file)
        } catch {
            throw NodeError.badInput("\(error)")
        }
        folder = (file as NSString).deletingLastPathComponent
        if let data { manifest.data = .path(URL(fileURLWithPath: data).path) }
        if let seed { manifest.seed = seed }
        if let steps {
            guard steps > 0 else { throw NodeError.badInput("--steps \(steps): at least 1") }
            // So many steps of a batch that stays what it is.
            let k = manifest.fixedMicroBatchesPerVirtual ?? 1
            let batch = manifest.geometry(microBatchesPerVirtual: k).batchTokens
            manifest.batchTokens = .fixed(batch)
            manifest.tokens = steps * batch
        }
    }

    /// The manifest as it is signed: the text by its content ID.
    func manifest(for corpus: [UInt8]) -> JobManifest {
        var out = manifest
        out.data = .content(ContentIndex(of: corpus).id.hex)
        return out
    }

    /// The text to train on, checked: UTF-8, and enough of it for both parts.
    func corpus() throws -> [UInt8] {
        guard case .path(let path) = manifest.data else {
            throw NodeError.badInput(
                "data is a content ID; a launcher needs the text itself: give it with --data FILE or data.path")
        }
        let full = path.hasPrefix("/") || folder.isEmpty ? path : folder + "/" + path
        let bytes = try readFile(full)
        guard !bytes.isEmpty else { throw NodeError.badInput("\(full) is empty: training needs some text") }
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw NodeError.badInput("\(full) is not UTF-8 text; convert it, for example with iconv -t utf-8")
        }
        let validation = Int(Double(bytes.count) * manifest.validationFraction)
        let context = manifest.model.context
        guard validation > context, bytes.count - validation > context else {
            throw NodeError.badInput(
                "\(full) has \(bytes.count) bytes: with validation_fraction \(manifest.validationFraction) and context "
                    + "\(context), training and validation each need more than \(context). Use more text")
        }
        return bytes
    }
}
