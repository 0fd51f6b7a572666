/// Why a tokenizer cannot be read, made or used: which file, where in it, what was found, what to try.
public enum TokenizerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No JSON; the line and the column are in the problem.
    case notJSON(path: String, problem: String)
    /// A part that is missing, of another kind, or contradicts another.
    case malformed(path: String, place: String, problem: String)
    /// A part that this program does not know how to follow. It is never left out in silence.
    case unsupported(path: String, place: String, found: String, allowed: String)
    case tooLarge(path: String, what: String, found: Int, limit: Int)
    /// A token ID that the vocabulary does not have.
    case unknownToken(id: Int, count: Int)
    /// Messages that a chat template cannot write.
    case untellable(template: String, problem: String)
    case untrainable(problem: String)

    public var description: String {
        switch self {
        case .notJSON(let path, let problem): "\(path): \(problem); the file is damaged or of another kind"
        case .malformed(let path, let place, let problem):
            "\(path): \(place): \(problem); the file is damaged, take it again from where the model is from"
        case .unsupported(let path, let place, let found, let allowed):
            "\(path): \(place) is \(found), allowed is \(allowed); Atoll reads byte-pair tokenizers of GPT-2, Llama, Mistral, "
                + "Qwen2 and SmolLM2 kind"
        case .tooLarge(let path, let what, let found, let limit):
            "\(path): \(found) \(what), at most \(limit) are read; the file is damaged or of another kind"
        case .unknownToken(let id, let count):
            "token \(id) is not in the vocabulary of \(count); the ids may be of another tokenizer"
        case .untellable(let template, let problem): "chat template \(template): \(problem)"
        case .untrainable(let problem): problem
        }
    }
}
