import Checkpoints
import Digests
import Exchange
import Files
import Foundation
public import Primitives

/// Encoded tensors in a file: what `atoll codec` writes. Format: `docs/WIRE.md`, “Codec files”.
public struct CodecFile {
    public struct Entry: Sendable {
        public var name: String
        public var shape: [Int]
        public var count: Int
        public var message: ArraySlice<UInt8>
    }
    static let magic = Array("atollcdc".utf8)
    private static let digestBytes = 32

    public var scheme: Codec
    public var entries: [Entry]
    /// Of the safetensors file it was made from.
    public var metadata: [String: String]

    /// Reads a file and checks everything but the messages themselves.
    public init(_ path: String) throws(TensorFileError) {
        let bytes = try readable(path)
        guard bytes.count >= 16 + Self.digestBytes else {
            throw .truncated(path: path, expected: 16 + Self.digestBytes, found: bytes.count)
        }
        guard bytes.starts(with: Self.magic) else {
            throw .malformed(
                path: path, problem: "it does not begin with “atollcdc”, so atoll codec encode did not make it")
        }
        let length = bytes[8..<16].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let room = bytes.count - 16 - Self.digestBytes
        guard length <= UInt64(SafetensorsHeader.largestHeader) else {
            throw .malformed(path: path, problem: "a header of \(length) bytes is announced")
        }
        guard Int(length) <= room else {
            throw .truncated(path: path, expected: 16 + Int(length) + Self.digestBytes, found: bytes.count)
        }
        let start = 16 + Int(length), end = bytes.count - Self.digestBytes
        let json = Data(bytes[16..<start])
        guard let object = (try? JSONSerialization.jsonObject(with: json)) as? [String: Any],
            object["format"] as? String == "atoll-codec/1", let name = object["scheme"] as? String,
            let list = object["tensors"] as? [[String: Any]]
        else { throw .malformed(path: path, problem: "the header is not that of format atoll-codec/1") }
        guard let codec = Codec(name) else { throw .malformed(path: path, problem: Codec.problem(name)) }
        scheme = codec
        metadata = object["metadata"] as? [String: String] ?? [:]
        entries = []
        var offset = start
        var names: Set<String> = []
        for item in list {
            guard let name = item["name"] as? String, names.insert(name).inserted, let shape = item["shape"] as? [Int],
                let size = item["bytes"] as? Int, let count = SafetensorsHeader.elements(of: shape)
            else { throw .malformed(path: path, problem: "tensor \(entries.count) of the header is incomplete") }
            guard size >= 0, size <= codec.maximumBytes(for: count, shape: shape) else {
                throw .malformed(path: path, problem: "tensor \(name): \(size) bytes are announced for \(count) values")
            }
            guard size <= end - offset else {
                throw .truncated(path: path, expected: offset + size + Self.digestBytes, found: bytes.count)
            }
            entries.append(Entry(name: name, shape: shape, count: count, message: bytes[offset..<offset + size]))
            offset += size
        }
        guard offset == end else {
            throw .malformed(path: path, problem: "\(end - offset) bytes come after the last tensor")
        }
        guard Array(sha256(Array(bytes[..<end])).bytes) == Array(bytes[end...]) else {
            throw .malformed(path: path, problem: "its SHA-256 is not the one at its end")
        }
    }

    public init(scheme: Codec, entries: [Entry], metadata: [String: String]) {
        self.scheme = scheme
        self.entries = entries
        self.metadata = metadata
    }

    /// Writes the file, to take the place of one of that name; and its bytes.
    func prepare(for path: String) throws(TensorFileError) -> (file: PreparedFile, bytes: Int) {
        let list = entries.map {
            ["name": $0.name, "shape": $0.shape, "bytes": $0.message.count] as [String: Any]
        }
        let header = sortedJSON([
            "format": "atoll-codec/1", "scheme": scheme.description, "tensors": list, "metadata": metadata,
        ])
        var bytes = Self.magic + withUnsafeBytes(of: UInt64(header.count).littleEndian) { [UInt8]($0) } + header
        for entry in entries { bytes += entry.message }
        bytes += sha256(bytes).bytes
        return (try PreparedFile(path) { file in bytes.withUnsafeBytes { file.append($0) } }, bytes.count)
    }
}
