import JSON

/// `model.safetensors.index.json`: which file has which tensor.
public struct ShardIndex: Sendable {
    public static let name = "model.safetensors.index.json"
    /// Names in the folder, in the order of their bytes.
    public let files: [String]
    /// Number among ``files`` by tensor.
    let places: [(tensor: String, file: Int)]
    public let metadata: [String: String]

    /// Reads the file's bytes. Files outside the folder, or that are no safetensors, are refused.
    public init(parsing bytes: [UInt8], path: String) throws(CheckpointError) {
        let value: JSONValue
        do throws(JSONError) { value = try JSONValue(parsing: bytes, maximumDepth: 8) } catch {
            throw .malformed(path: path, problem: error.description)
        }
        guard let map = value.object?["weight_map"]?.object, !map.members.isEmpty else {
            throw .malformed(path: path, problem: "weight_map is missing")
        }
        var names: Set<String> = []
        for member in map.members {
            guard let name = member.value.text else {
                throw .malformed(path: path, problem: "weight_map of \(member.key) is \(member.value.kind)")
            }
            guard name.hasSuffix(".safetensors"), !name.hasPrefix("."), !name.utf8.contains(UInt8(ascii: "/")),
                !name.utf8.contains(0), name.utf8.count < 256
            else { throw .malformed(path: path, problem: "“\(name.prefix(80))” is no file name of this folder") }
            names.insert(name)
        }
        let files = names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        var numbers: [String: Int] = [:]
        for (number, name) in files.enumerated() { numbers[name] = number }
        self.files = files
        places = map.members.map { ($0.key, numbers[$0.value.text ?? ""] ?? 0) }
        var metadata: [String: String] = [:]
        for item in value.object?["metadata"]?.object?.members ?? [] { metadata[item.key] = item.value.text }
        self.metadata = metadata
    }

    /// The index of files to be written.
    public static func json(
        tensors: [(name: String, file: String)], totalSize: Int, metadata: [(key: String, text: String)]
    ) -> JSONValue {
        var items = JSONObject()
        items["total_size"] = JSONValue(totalSize)
        for (key, text) in metadata { items[key] = .string(text) }
        let map = tensors.map { JSONObject.Member($0.name, .string($0.file)) }
        return ["metadata": .object(items), "weight_map": .object(JSONObject(map))]
    }

    /// The name of file `number` (from 1) of `count`, as others name them.
    public static func fileName(_ number: Int, of count: Int) -> String {
        guard count > 1 else { return "model.safetensors" }
        func five(_ value: Int) -> String {
            String(repeating: "0", count: max(0, 5 - String(value).count)) + String(value)
        }
        return "model-\(five(number))-of-\(five(count)).safetensors"
    }
}
