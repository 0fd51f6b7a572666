import JSON

/// The header of a safetensors file: u64 little-endian length, then JSON {name: {dtype, shape, data_offsets}} with
/// offsets from the end of the header, optionally `__metadata__`; raw little-endian row-major values follow without
/// holes.
public struct SafetensorsHeader: Sendable {
    /// The reference implementation's limit.
    public static let largestHeader = 100_000_000
    /// Of one tensor: 16 GiB in fp32.
    public static let mostValues = 1 << 32

    public struct Entry: Hashable, Sendable {
        public let name: String
        public let type: ElementType
        public let shape: [Int]
        public let count: Int
        /// Bytes within the file.
        public let range: Range<Int>
    }
    /// In the order of their values in the file.
    public let entries: [Entry]
    public let metadata: [String: String]

    /// Where the values begin, from the file's first eight bytes.
    public static func start(
        _ prefix: [UInt8], fileSize: Int, path: String
    ) throws(CheckpointError) -> Int {
        guard fileSize >= 8, prefix.count >= 8 else { throw .truncated(path: path, expected: 8, found: fileSize) }
        let length = prefix.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(largestHeader) else {
            throw .malformed(
                path: path, problem: "a header of \(length) bytes is announced, \(largestHeader) are allowed")
        }
        guard fileSize >= 8 + Int(length) else {
            throw .truncated(path: path, expected: 8 + Int(length), found: fileSize)
        }
        return 8 + Int(length)
    }

    /// Checks all of the header's JSON, which ends at `start`, against the file's size.
    public init(
        json bytes: UnsafeBufferPointer<UInt8>, start: Int, fileSize: Int, path: String
    ) throws(CheckpointError) {
        let json: JSONValue
        // Padded with spaces, as a rule.
        do throws(JSONError) { json = try JSONValue(parsing: bytes, maximumDepth: 8) } catch {
            throw .malformed(path: path, problem: "the header is not a JSON object: \(error)")
        }
        guard let object = json.object else { throw .malformed(path: path, problem: "the header is not a JSON object") }
        var metadata: [String: String] = [:]
        var found: [Entry] = []
        for member in object.members {
            if member.key == "__metadata__" {
                for item in member.value.object?.members ?? [] { metadata[item.key] = item.value.text }
            } else {
                found.append(
                    try Self.entry(member.key, member.value, start: start, fileSize: fileSize, path: path))
            }
        }
        found.sort {
            ($0.range.lowerBound, $0.range.upperBound) == ($1.range.lowerBound, $1.range.upperBound)
                ? $0.name.utf8.lexicographicallyPrecedes($1.name.utf8)
                : ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
        }
        var end = start
        for entry in found {
            guard entry.range.lowerBound == end else {
                let problem = entry.range.lowerBound < end ? "it overlaps the tensor before" : "a hole comes before it"
                throw .wrongOffsets(
                    path: path, name: entry.name,
                    found: [entry.range.lowerBound - start, entry.range.upperBound - start],
                    problem: problem)
            }
            end = entry.range.upperBound
        }
        guard end == fileSize else {
            throw .malformed(path: path, problem: "\(fileSize - end) bytes come after the last tensor")
        }
        entries = found
        self.metadata = metadata
    }

    private static func entry(
        _ name: String, _ value: JSONValue, start: Int, fileSize: Int, path: String
    ) throws(CheckpointError) -> Entry {
        guard let object = value.object, let typeName = object["dtype"]?.text,
            let shape = integers(object["shape"]), let offsets = integers(object["data_offsets"]), offsets.count == 2
        else { throw .malformed(path: path, problem: "the header's entry of tensor \(name) is incomplete") }
        guard let type = ElementType(rawValue: typeName) else {
            throw .wrongType(path: path, name: name, found: typeName)
        }
        guard let count = elements(of: shape) else {
            throw .malformed(path: path, problem: "tensor \(name) has shape \(shape)")
        }
        let (begin, end) = (offsets[0], offsets[1])
        guard begin >= 0, end >= begin, end - begin == count * type.bytes else {
            throw .wrongOffsets(
                path: path, name: name, found: offsets, problem: "\(count * type.bytes) bytes are needed")
        }
        guard end <= fileSize - start else { throw .truncated(path: path, expected: start + end, found: fileSize) }
        return Entry(name: name, type: type, shape: shape, count: count, range: start + begin..<start + end)
    }

    private static func integers(_ value: JSONValue?) -> [Int]? {
        guard let values = value?.array, values.count <= 64 else { return nil }
        let numbers = values.compactMap(\.integer)
        return numbers.count == values.count ? numbers : nil
    }

    /// Values of a shape; nil if that is negative or more than ``mostValues``.
    public static func elements(of shape: [Int]) -> Int? {
        var count = 1
        for side in shape {
            guard side >= 0, side <= mostValues else { return nil }
            let (product, overflow) = count.multipliedReportingOverflow(by: side)
            guard !overflow, product <= mostValues else { return nil }
            count = product
        }
        return count
    }

    /// The header of a file of these tensors, one after the other; padded with spaces so that the values are aligned.
    public static func bytes(
        _ tensors: [(name: String, shape: [Int])], type: ElementType, metadata: [(key: String, text: String)]
    ) -> [UInt8] {
        var members: [JSONObject.Member] = []
        if !metadata.isEmpty {
            let items = metadata.map { JSONObject.Member($0.key, .string($0.text)) }
            members.append(JSONObject.Member("__metadata__", .object(JSONObject(items))))
        }
        var offset = 0
        for (name, shape) in tensors {
            let end = offset + shape.reduce(type.bytes, *)
            members.append(
                JSONObject.Member(
                    name,
                    [
                        "dtype": .string(type.rawValue), "shape": .array(shape.map { JSONValue($0) }),
                        "data_offsets": [JSONValue(offset), JSONValue(end)],
                    ]))
            offset = end
        }
        var json = JSONValue.object(JSONObject(members)).bytes()
        while json.count % 8 != 0 { json.append(32) }
        return withUnsafeBytes(of: UInt64(json.count).littleEndian) { [UInt8]($0) } + json
    }
}
