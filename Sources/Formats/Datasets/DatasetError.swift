/// Why data cannot be read: which file, which line or token, what was found, what to try.
public enum DatasetError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A row of a .jsonl file, from 1.
    case row(path: String, line: Int, problem: String)
    case truncated(path: String, expected: Int, found: Int)
    case malformed(path: String, problem: String)
    /// A token beyond the vocabulary.
    case tokenOutOfRange(path: String, index: Int, token: Int, vocabulary: Int)
    case empty(path: String, problem: String)
    case badMixture(problem: String)

    public var description: String {
        switch self {
        case .row(let path, let line, let problem):
            "\(path): line \(line): \(problem); correct or remove the line"
        case .truncated(let path, let expected, let found):
            "\(path): \(expected) bytes needed, \(found) found; the copy is incomplete, make it again"
        case .malformed(let path, let problem):
            "\(path): \(problem); the file is damaged or of another kind, make it again"
        case .tokenOutOfRange(let path, let index, let token, let vocabulary):
            "\(path): token \(index) is \(token), the vocabulary ends at \(vocabulary - 1); the file was made with another "
                + "tokenizer"
        case .empty(let path, let problem): "\(path): \(problem)"
        case .badMixture(let problem): problem
        }
    }
}
