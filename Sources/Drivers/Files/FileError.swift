import Primitives

/// The system's own words for a file or folder that cannot be opened, read, written or renamed.
public struct FileError: Error, Hashable, Sendable, CustomStringConvertible {
    public let path: String
    public let problem: String
    public init(path: String, problem: String) {
        self.path = path
        self.problem = problem
    }
    public var description: String { "\(path): \(problem); \(fileAdvice(problem))" }
}
