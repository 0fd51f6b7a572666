import Foundation

/// Any safetensors file whose tensors are F32, F16 or BF16: names, shapes and values. Everything in the header is checked
/// against the file's size before memory is taken.
public struct TensorFile {
    public enum ElementType: String, Sendable {
        case fp32 = "F32"
        case fp16 = "F16"
        case bf16 = "BF16"
        var bytes: Int { self == .fp32 ? 4 : 2 }
    }
    public struct Entry: Sendable {
        public let name: String
        public let type: ElementType
        public let shape: [Int]
        public let count: Int
        /// Bytes within the file.
        let range: Range<Int>
    }
    public let path: String
    /// In the order of their values in the file.
    public let entries: [Entry]
    public let metadata: [String: String]
    private let data: Data

    public init(_ path: String) throws(TensorFileError) {
        self.path = path
        data = try readable(path)
        guard data.count >= 8 else { throw .truncated(path: path, expected: 8, found: data.count) }
        let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(SafetensorsHeader.largestHeader) else {
            throw .malformed(
                path: path,
                problem: "a header of \(length) bytes is announced, \(SafetensorsHeader.largestHeader) are allowed")
        }
        let start = 8 + Int(length)
        guard data.count >= start else { throw .truncated(path: path, expected: start, found: data.count) }
        guard var object = (try? JSONSerialization.jsonObject(with: data.subdata(in: 8..<start))) as? [String: Any]
        else { throw .malformed(path: path, problem: "the header is not a JSON object") }
        metadata = object.removeValue(forKey: "__metadata__") as? [String: String] ?? [:]
        var found: [Entry] = []
        for name in object.keys.sorted() {
            found.append(try Self.entry(name, object[name], start: start, size: data.count, path: path))
        }
        found.sort {
            ($0.range.lowerBound, $0.range.upperBound, $0.name) < ($1.range.lowerBound, $1.range.upperBound, $1.name)
        }
        var end = start
        for entry in found {
            guard entry.range.lowerBound == end else {
                let problem = entry.range.lowerBound < end ? "overlaps the one before" : "comes after a hole"
                throw .malformed(path: path, problem: "tensor \(entry.name) \(problem)")
            }
            end = entry.range.upperBound
        }
        guard end == data.count else {
            throw .malformed(path: path, problem: "\(data.count - end) bytes come after the last tensor")
        }
        entries = found
    }

    private static func entry(
        _ name: String, _ value: Any?, start: Int, size: Int, path: String
    ) throws(TensorFileError) -> Entry {
        guard let object = value as? [String: Any], let typeName = object["dtype"] as? String,
            let shape = object["shape"] as? [Int], let offsets = object["data_offsets"] as? [Int], offsets.count == 2
        else { throw .malformed(path: path, problem: "the header's entry of tensor \(name) is incomplete") }
        guard let type = ElementType(rawValue: typeName) else {
            throw .unsupportedType(path: path, name: name, found: typeName)
        }
        guard let count = elements(of: shape) else {
            throw .malformed(path: path, problem: "tensor \(name) has shape \(shape)")
        }
        let (begin, end) = (offsets[0], offsets[1])
        guard begin >= 0, end >= begin, end - begin == count * type.bytes else {
            throw .malformed(
                path: path,
                problem: "tensor \(name) of \(count) values of type \(typeName) cannot lie at \(begin)…\(end)")
        }
        guard end <= size - start else { throw .truncated(path: path, expected: start + end, found: size) }
        return Entry(name: name, type: type, shape: shape, count: count, range: start + begin..<start + end)
    }

    /// Values of a shape; nil if that is negative or more than ``mostValues``.
    static func elements(of shape: [Int]) -> Int? {
        var count = 1
        for side in shape {
            guard side >= 0, side <= mostValues else { return nil }
            let (product, overflow) = count.multipliedReportingOverflow(by: side)
            guard !overflow, product <= mostValues else { return nil }
            count = product
        }
        return count
    }
    /// Of one tensor: 16 GiB in fp32.
    static let mostValues = 1 << 32

    /// A tensor's values in fp32; all of them finite.
    public func values(_ entry: Entry) throws(TensorFileError) -> [Float] {
        let values = [Float](unsafeUninitializedCapacity: entry.count) { target, count in
            count = entry.count
            data.withUnsafeBytes { (bytes: UnsafeRawBufferPointer) in
                let bytes = UnsafeRawBufferPointer(rebasing: bytes[entry.range])
                switch entry.type {
                case .fp32: UnsafeMutableRawBufferPointer(target).copyMemory(from: bytes)
                case .bf16:
                    for index in 0..<entry.count {
                        let upper = bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
                        target.initializeElement(at: index, to: Float(bitPattern: UInt32(upper) << 16))
                    }
                case .fp16:
                    for index in 0..<entry.count {
                        let half = bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
                        target.initializeElement(at: index, to: TensorFile.value(ofHalf: half))
                    }
                }
            }
        }
        if let bad = values.firstIndex(where: { !$0.isFinite }) {
            throw .notFinite(path: path, name: entry.name, index: bad)
        }
        return values
    }

    /// IEEE 754 binary16.
    private static func value(ofHalf half: UInt16) -> Float {
        let exponent = UInt32(half >> 10 & 31), mantissa = UInt32(half & 1023), sign = UInt32(half & 0x8000) << 16
        switch exponent {
        case 0: return Float(bitPattern: (Float(mantissa) * 0x1p-24).bitPattern | sign)
        case 31: return Float(bitPattern: 0x7F80_0000 | mantissa << 13 | sign)
        default: return Float(bitPattern: (exponent + 112) << 23 | mantissa << 13 | sign)
        }
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

func readable(_ path: String) throws(TensorFileError) -> Data {
    do throws(CheckpointError) { return try contents(of: path) } catch {
        if case .file(_, let problem) = error { throw .unreadable(path: path, problem: problem) }
        throw .unreadable(path: path, problem: error.description)
    }
}

/// A file that is complete on disk under a name of its own, and takes the place of another when told to.
struct PreparedFile {
    private let path: String
    private let temporary: String

    /// Lets `body` fill it; on failure it is removed.
    init(_ path: String, _ body: (FileWriter) -> Void) throws(TensorFileError) {
        self.path = path
        temporary = path + ".partial-\(getpid())"
        do throws(CheckpointError) {
            var isFolder: ObjCBool = false
            guard !FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) || !isFolder.boolValue else {
                throw .file(path: path, problem: String(cString: strerror(EISDIR)))
            }
            let file = try FileWriter(temporary)
            body(file)
            try file.finish()
        } catch {
            discard()
            throw Self.unwritable(error, path)
        }
    }

    /// Takes the place of what has the name.
    func replace() throws(TensorFileError) {
        do throws(CheckpointError) {
            guard rename(temporary, path) == 0 else {
                throw .file(path: path, problem: String(cString: strerror(errno)))
            }
            let parent = (path as NSString).deletingLastPathComponent
            try synchroniseFolder(parent.isEmpty ? "." : parent)
        } catch {
            discard()
            throw Self.unwritable(error, path)
        }
    }

    func discard() { unlink(temporary) }

    private static func unwritable(_ error: CheckpointError, _ path: String) -> TensorFileError {
        if case .file(_, let problem) = error { return .unwritable(path: path, problem: problem) }
        return .unwritable(path: path, problem: error.description)
    }
}
