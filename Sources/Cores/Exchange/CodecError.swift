/// Why encoded values from another peer were refused. Nothing has been applied when it is thrown.
public enum CodecError: Error, Hashable, Sendable {
    case truncated(expected: Int, found: Int)
    case trailingBytes(Int)
    case indexOutOfRange(Int, limit: Int)
    case notFinite
    case malformed(String)
}
