import Foundation
import Primitives

/// The header of a safetensors file: u64 little-endian length, then JSON {name: {dtype, shape, data_offsets}} with
/// offsets from the end of the header, optionally `__metadata__`; raw little-endian row-major values follow without
/// holes.
struct SafetensorsHeader {
    /// The reference implementation's limit.
    static let largestHeader = 100_000_000

    let metadata: [String: String]
    private let path: String
    private let tensors: [String: Any]
    /// Of the values within the file.
    private let dataStart: Int
    private let dataCount: Int

    /// The header bytes of a model, tensors in canonical order; padded with spaces so that the values are aligned.
    static func bytes(of shape: ModelShape, metadata: [String: String]) -> [UInt8] {
        var object: [String: Any] = ["__metadata__": metadata]
        var offset = 0
        for unit in shape.allUnits {
            for tensor in shape.tensors(unit: unit) {
                let end = offset + tensor.count * 4
                object[tensor.name] =
                    ["dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, end]] as [String: Any]
                offset = end
            }
        }
        guard
            var json = try? JSONSerialization.data(
                withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
        else { preconditionFailure("a header that is no JSON") }
        while json.count % 8 != 0 { json.append(32) }
        return withUnsafeBytes(of: UInt64(json.count).littleEndian) { [UInt8]($0) } + [UInt8](json)
    }

    init(_ data: Data, path: String) throws(CheckpointError) {
        self.path = path
        guard data.count >= 8 else { throw .truncated(path: path, expected: 8, found: data.count) }
        let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(Self.largestHeader) else {
            throw .malformed(
                path: path, problem: "a header of \(length) bytes is announced, \(Self.largestHeader) are allowed")
        }
        dataStart = 8 + Int(length)
        guard data.count >= dataStart else { throw .truncated(path: path, expected: dataStart, found: data.count) }
        dataCount = data.count - dataStart
        let json = data.subdata(in: data.startIndex + 8..<data.startIndex + dataStart)
        guard var object = (try? JSONSerialization.jsonObject(with: json)) as? [String: Any] else {
            throw .malformed(path: path, problem: "the header is not a JSON object")
        }
        metadata = object.removeValue(forKey: "__metadata__") as? [String: String] ?? [:]
        tensors = object
    }

    /// Where each tensor of the model lies in the file, after checking all of it.
    func ranges(for shape: ModelShape) throws(CheckpointError) -> [String: Range<Int>] {
        var ranges: [String: Range<Int>] = [:]
        var inOrder: [(name: String, range: Range<Int>)] = []
        for unit in shape.allUnits {
            for tensor in shape.tensors(unit: unit) {
                let range = try range(of: tensor)
                ranges[tensor.name] = dataStart + range.lowerBound..<dataStart + range.upperBound
                inOrder.append((tensor.name, range))
            }
        }
        for name in tensors.keys.sorted() where ranges[name] == nil {
            throw .unexpectedTensor(path: path, name: name)
        }
        inOrder.sort { $0.range.lowerBound < $1.range.lowerBound }
        var end = 0
        for (name, range) in inOrder {
            guard range.lowerBound == end else {
                let problem = range.lowerBound < end ? "it overlaps the tensor before" : "a hole comes before it"
                throw .wrongOffsets(
                    path: path, name: name, found: [range.lowerBound, range.upperBound], problem: problem)
            }
            end = range.upperBound
        }
        guard end == dataCount else {
            throw .malformed(path: path, problem: "\(dataCount - end) bytes come after the last tensor")
        }
        return ranges
    }

    /// Checked against the file's size and the tensor's.
    private func range(of tensor: ModelShape.Tensor) throws(CheckpointError) -> Range<Int> {
        guard let found = tensors[tensor.name] else { throw .missingTensor(path: path, name: tensor.name) }
        guard let entry = found as? [String: Any], let type = entry["dtype"] as? String,
            let shape = entry["shape"] as? [Int], let offsets = entry["data_offsets"] as? [Int], offsets.count == 2
        else { throw .malformed(path: path, problem: "the header's entry of tensor \(tensor.name) is incomplete") }
        guard type == "F32" else { throw .wrongType(path: path, name: tensor.name, found: type) }
        guard shape == tensor.shape else {
            throw .wrongShape(path: path, name: tensor.name, found: shape, expected: tensor.shape)
        }
        let (begin, end) = (offsets[0], offsets[1])
        guard begin >= 0, end >= begin, end - begin == tensor.count * 4 else {
            throw .wrongOffsets(
                path: path, name: tensor.name, found: offsets, problem: "\(tensor.count * 4) bytes are needed")
        }
        guard end <= dataCount else {
            throw .truncated(path: path, expected: dataStart + end, found: dataStart + dataCount)
        }
        return begin..<end
    }
}
