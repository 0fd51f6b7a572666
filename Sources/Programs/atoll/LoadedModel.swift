import ArgumentParser
import Checkpoints
import Foundation
import Inference
import Node
import Primitives
import Tokenizers
import Weights

/// A model's folder, read for use.
struct LoadedModel: Sendable {
    let path: String
    let model: InferenceModel
    let text: ModelText

    /// Says what it does where that takes a while and somebody looks.
    ///
    /// - Parameter place: a model's folder, or the folder that a job writes to: then the newest of its checkpoints.
    init(_ place: String, template: String?, quiet: Bool) throws {
        let given = try template.map { name in
            guard let known = ChatTemplate(rawValue: name) else {
                let all = ChatTemplate.allCases.map(\.rawValue).joined(separator: ", ")
                throw NodeError.badInput("--template \(name): \(all)")
            }
            return known
        }
        let path = CheckpointFolders.newest(in: place)
        self.path = path
        let shows = !quiet && isatty(2) != 0
        let loaded: InferenceModel?
        do throws(CheckpointError) {
            let start = Date()
            loaded = try ModelFolder(path).inferenceModel { done, count in
                if shows, Date().timeIntervalSince(start) > 2 {
                    Output.note("\rreading \(done * 100 / count) %")
                }
                return !Interrupt.asked
            }
        } catch { throw NodeError.badInput(error.description) }
        if shows { Output.note("\r\u{1B}[K") }
        guard let loaded else { throw ExitCode(130) }
        model = loaded
        do throws(ModelText.Failure) { text = try ModelText(path, template: given) } catch {
            throw NodeError.badInput(error.description)
        }
        guard text.tokenizer.count <= model.shape.vocabulary else {
            throw NodeError.badInput(
                "\(path): the tokenizer has \(text.tokenizer.count) tokens, the model \(model.shape.vocabulary); they are of "
                    + "different models")
        }
    }

    /// The template, or why there is none.
    func requireTemplate() throws -> ChatTemplate {
        if let template = text.template { return template }
        let all = ChatTemplate.allCases.map(\.rawValue).joined(separator: ", ")
        throw NodeError.badInput(
            "\(path): "
                + (text.hasTemplate ? "its chat template is none of those known here" : "it has no chat template")
                + "; name the one it was trained with: --template \(all)")
    }
}
