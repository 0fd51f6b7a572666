import Primitives

/// Why a checkpoint cannot be written or read: which file, what was found, what to try.
public enum CheckpointError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The system's own words for a file that cannot be opened, written or renamed.
    case file(path: String, problem: String)
    case truncated(path: String, expected: Int, found: Int)
    /// A header or a configuration that is not what it should be.
    case malformed(path: String, problem: String)
    /// A key of config.json with a value that this program cannot run.
    case unsupported(path: String, key: String, found: String, allowed: String)
    case missingTensor(path: String, name: String)
    case unexpectedTensor(path: String, name: String)
    case wrongType(path: String, name: String, found: String)
    case wrongShape(path: String, name: String, found: [Int], expected: [Int])
    /// Offsets outside the file, of another size than the tensor, overlapping or with holes between.
    case wrongOffsets(path: String, name: String, found: [Int], problem: String)
    case notFinite(path: String, name: String, index: Int)
    /// A value that the type asked for cannot hold.
    case tooLarge(path: String, name: String, index: Int, type: String)
    case wrongDigest(path: String, expected: String, found: String)

    public var description: String {
        switch self {
        case .file(let path, let problem):
            "\(path): \(problem); \(fileAdvice(problem))"
        case .truncated(let path, let expected, let found):
            "\(path): \(expected) bytes needed, \(found) found; the copy is incomplete, copy or download it again"
        case .malformed(let path, let problem):
            "\(path): \(problem); the file is damaged or of another kind, copy or download it again"
        case .unsupported(let path, let key, let found, let allowed):
            "\(path): \(key) is \(found), allowed is \(allowed); use a checkpoint of a model like those Atoll trains"
        case .missingTensor(let path, let name):
            "\(path): tensor \(name) is missing; config.json and the weights may be of different models"
        case .unexpectedTensor(let path, let name):
            "\(path): tensor \(name) does not belong to the model of config.json; the two may be of different models"
        case .wrongType(let path, let name, let found):
            "\(path): tensor \(name) is \(found); F32, F16 and BF16 can be read. Convert the checkpoint"
        case .wrongShape(let path, let name, let found, let expected):
            "\(path): tensor \(name) has shape \(found), config.json says \(expected); they may be of different models"
        case .wrongOffsets(let path, let name, let found, let problem):
            "\(path): tensor \(name) lies at \(found): \(problem); the file is damaged, copy or download it again"
        case .notFinite(let path, let name, let index):
            "\(path): tensor \(name) has a value that is not finite at \(index); take an earlier checkpoint"
        case .tooLarge(let path, let name, let index, let type):
            "\(path): tensor \(name) has a value at \(index) that \(type) cannot hold; write F32 or BF16"
        case .wrongDigest(let path, let expected, let found):
            "\(path): the weights' digest is \(found), written was \(expected); the file is damaged, copy it again"
        }
    }
}
