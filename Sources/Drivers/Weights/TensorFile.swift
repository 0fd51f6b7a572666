public import Checkpoints
import Files
import Foundation

/// Any safetensors file whose tensors are F32, F16 or BF16: names, shapes and values. Everything in the header is checked
/// against the file's size before memory is taken.
public struct TensorFile {
    public typealias Entry = SafetensorsHeader.Entry
    public let path: String
    /// In the order of their values in the file.
    public let entries: [Entry]
    public let metadata: [String: String]
    private let file: FileReader

    public init(_ path: String) throws(TensorFileError) {
        self.path = path
        do throws(CheckpointError) {
            file = try files { () throws(FileError) in try FileReader(path) }
            let header = try ModelFolder.header(file)
            entries = header.entries
            metadata = header.metadata
        } catch { throw TensorFileError(error) }
    }

    /// A tensor's values in fp32; all of them finite.
    public func values(_ entry: Entry) throws(TensorFileError) -> [Float] {
        let raw: [UInt8]
        do throws(FileError) { raw = try file.read(entry.range) } catch {
            throw .unreadable(path: path, problem: error.problem)
        }
        var values = [Float](repeating: 0, count: entry.count)
        let bad = raw.withUnsafeBytes { raw in values.withUnsafeMutableBufferPointer { entry.type.read(raw, into: $0) }
        }
        if let bad { throw .notFinite(path: path, name: entry.name, index: bad) }
        return values
    }

    // MARK: writing

    /// A tensor to be written, as F32.
    public struct Tensor: Sendable {
        public var name: String
        public var shape: [Int]
        public var values: [Float]
        public init(name: String, shape: [Int], values: [Float]) {
            self.name = name
            self.shape = shape
            self.values = values
        }
    }

    /// Writes a safetensors file in place of one of that name, only when all of it is on disk.
    public static func write(
        _ tensors: [Tensor], metadata: [String: String] = [:], to path: String
    ) throws(TensorFileError) {
        try prepare(tensors, metadata: metadata, for: path).replace()
    }

    static func prepare(
        _ tensors: [Tensor], metadata: [String: String], for path: String
    ) throws(TensorFileError) -> PreparedFile {
        var object: [String: Any] = metadata.isEmpty ? [:] : ["__metadata__": metadata]
        var offset = 0
        for tensor in tensors {
            let end = offset + 4 * tensor.values.count
            object[tensor.name] =
                ["dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, end]] as [String: Any]
            offset = end
        }
        var json = sortedJSON(object)
        while json.count % 8 != 0 { json.append(32) }
        let length = withUnsafeBytes(of: UInt64(json.count).littleEndian) { [UInt8]($0) }
        return try PreparedFile(path) { file in
            (length + json).withUnsafeBytes { file.append($0) }
            for tensor in tensors { tensor.values.withUnsafeBytes { file.append($0) } }
        }
    }
}

func sortedJSON(_ object: [String: Any]) -> [UInt8] {
    guard
        let json = try? JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
    else { preconditionFailure("a header that is no JSON") }
    return [UInt8](json)
}

func readable(_ path: String) throws(TensorFileError) -> [UInt8] {
    do throws(FileError) { return try fileContents(path, limit: .max) } catch {
        throw .unreadable(path: path, problem: error.problem)
    }
}
