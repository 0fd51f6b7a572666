import Checkpoints
public import Exchange

/// Why a file of tensors cannot be read or written: which file, what was found, what to try.
public enum TensorFileError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The system's own words for a file that cannot be read.
    case unreadable(path: String, problem: String)
    /// The system's own words for a file that cannot be written; what had its name before is untouched.
    case unwritable(path: String, problem: String)
    case truncated(path: String, expected: Int, found: Int)
    case malformed(path: String, problem: String)
    case unsupportedType(path: String, name: String, found: String)
    case notFinite(path: String, name: String, index: Int)
    /// A message in an encoded file that the codec refuses.
    case refused(path: String, name: String, reason: CodecError)
    /// An error-feedback file of other tensors or another codec.
    case otherState(path: String, problem: String)
    case interrupted

    public var description: String {
        switch self {
        case .unreadable(let path, let problem): "\(path): \(problem); check the path and its permissions"
        case .unwritable(let path, let problem):
            "\(path): \(problem); nothing was replaced. Check the path, its permissions and the free space"
        case .truncated(let path, let expected, let found):
            "\(path): \(expected) bytes needed, \(found) found; the copy is incomplete, make it again"
        case .malformed(let path, let problem):
            "\(path): \(problem); the file is damaged or of another kind, copy or make it again"
        case .unsupportedType(let path, let name, let found):
            "\(path): tensor \(name) is \(found); F32, F16 and BF16 can be encoded. Convert it or leave it out"
        case .notFinite(let path, let name, let index):
            "\(path): tensor \(name) has a value that is not finite at \(index); every receiver would refuse it. Leave out "
                + "the step that made it"
        case .refused(let path, let name, let reason):
            "\(path): tensor \(name) is refused (\(reason)); the file is damaged, copy or make it again"
        case .otherState(let path, let problem):
            "\(path): \(problem). Give the file of the same tensors and scheme, or a name that does not exist to start anew"
        case .interrupted: "interrupted; nothing was replaced"
        }
    }
}

extension TensorFileError {
    /// What reading a header threw.
    init(_ error: CheckpointError) {
        switch error {
        case .file(let path, let problem): self = .unreadable(path: path, problem: problem)
        case .truncated(let path, let expected, let found):
            self = .truncated(path: path, expected: expected, found: found)
        case .wrongType(let path, let name, let found): self = .unsupportedType(path: path, name: name, found: found)
        case .malformed(let path, let problem): self = .malformed(path: path, problem: problem)
        case .wrongOffsets(let path, let name, let found, let problem):
            self = .malformed(path: path, problem: "tensor \(name) lies at \(found): \(problem)")
        default: self = .malformed(path: "", problem: error.description)
        }
    }
}
