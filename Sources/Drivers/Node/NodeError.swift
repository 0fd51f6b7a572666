/// What stops a daemon before or while it runs; each text says what, where and what to try.
public enum NodeError: Error, Sendable, CustomStringConvertible {
    /// A file or argument from the user is wrong: exit code 2.
    case badInput(String)
    /// Something failed on the way: exit code 1.
    case failed(String)

    public var description: String {
        switch self {
        case .badInput(let text), .failed(let text): text
        }
    }
    /// The same, with the code of its page: `atoll help CODE` says more, and `atoll doctor` looks for it beforehand.
    public static func badInput(_ code: DiagnosisCode, _ text: String) -> NodeError {
        .badInput("\(text) [\(code.rawValue): atoll help \(code.rawValue)]")
    }
    /// The same of what failed on the way.
    public static func failed(_ code: DiagnosisCode, _ text: String) -> NodeError {
        .failed("\(text) [\(code.rawValue): atoll help \(code.rawValue)]")
    }
    public var exitCode: Int32 {
        switch self {
        case .badInput: 2
        case .failed: 1
        }
    }
}
