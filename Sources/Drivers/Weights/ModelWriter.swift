public import Checkpoints
import Digests
import Files
import Foundation
import JSON
public import Primitives
import Training

/// Writes a model's folder unit by unit, in order, in the type asked for and in files of a bounded size; ``finish()`` puts it
/// in place of a folder of that name when all of it is on disk.
public final class ModelWriter {
    public static let defaultFileSize = 5 << 30

    private struct Shard {
        var name: String
        var tensors: [(name: String, shape: [Int])]
        var bytes: Int
    }
    private let target: String
    private let temporary: String
    private let configuration: ModelConfiguration
    private let type: ElementType
    private let shards: [Shard]
    private var current = 0
    private var file: FileWriter?
    private var digestPlace = 0
    private var written = 0  // tensors of the current shard
    private var nextUnit = 0
    private var stream = SHA256Stream()

    /// - Parameters:
    ///   - carrying: a folder whose tokenizer, templates and generation files are copied.
    ///   - files: others to be written, by name; they win over carried ones.
    public init(
        to path: String, _ configuration: ModelConfiguration, type: ElementType,
        largestFile: Int = ModelWriter.defaultFileSize, carrying: ModelFolder? = nil,
        files extra: [(name: String, bytes: [UInt8])] = []
    ) throws(CheckpointError) {
        target = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        temporary = target + ".partial-\(getpid())"
        self.configuration = configuration
        self.type = type
        shards = Self.shards(configuration.shape, type, largestFile)
        let folder = temporary
        try? FileManager.default.removeItem(atPath: folder)
        do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
            throw .file(path: folder, problem: "it cannot be made")
        }
        do throws(CheckpointError) {
            for name in try carrying?.carriedFiles() ?? [] where !extra.contains(where: { $0.name == name }) {
                try put(name, try contents(carrying!.path + "/" + name, limit: 256 << 20))
            }
            for (name, bytes) in extra { try put(name, bytes) }
            let json = JSONValue.object(configuration.json(type: type))
            try put(ModelFolder.configurationFile, json.bytes(indented: true) + [10])
        } catch {
            abandon()
            throw error
        }
    }

    deinit { if nextUnit >= 0 { abandon() } }

    private func abandon() { try? FileManager.default.removeItem(atPath: temporary) }

    private func put(_ name: String, _ bytes: [UInt8]) throws(CheckpointError) {
        let path = temporary + "/" + name
        try Weights.files { () throws(FileError) in
            let file = try FileWriter(path)
            file.append(bytes)
            try file.finish()
        }
    }

    /// Tensors in canonical order, as many in a file as fit.
    private static func shards(_ shape: ModelShape, _ type: ElementType, _ largest: Int) -> [Shard] {
        var shards = [Shard(name: "", tensors: [], bytes: 0)]
        for unit in shape.allUnits {
            for tensor in shape.tensors(unit: unit) {
                let bytes = tensor.count * type.bytes
                if shards[shards.count - 1].bytes > 0, shards[shards.count - 1].bytes + bytes > largest {
                    shards.append(Shard(name: "", tensors: [], bytes: 0))
                }
                shards[shards.count - 1].tensors.append((tensor.name, tensor.shape))
                shards[shards.count - 1].bytes += bytes
            }
        }
        for index in shards.indices { shards[index].name = ShardIndex.fileName(index + 1, of: shards.count) }
        return shards
    }

    // MARK: units

    /// The next unit's values, in canonical order.
    public func append(_ values: UnsafeBufferPointer<Float>) throws(CheckpointError) {
        precondition(values.count == configuration.shape.parameters(unit: nextUnit), "unit \(nextUnit) of another size")
        var offset = 0
        for tensor in configuration.shape.tensors(unit: nextUnit) {
            let part = UnsafeBufferPointer(rebasing: values[offset..<offset + tensor.count])
            try append(part, tensor.name)
            offset += tensor.count
        }
        nextUnit += 1
    }

    private func append(_ values: UnsafeBufferPointer<Float>, _ name: String) throws(CheckpointError) {
        if written == shards[current].tensors.count {
            try finishFile()
            current += 1
        }
        let path = temporary + "/" + shards[current].name
        if file == nil { try openFile(path) }
        let step = 1 << 18
        let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: step * type.bytes, alignment: 16)
        defer { raw.deallocate() }
        var back = [Float](repeating: 0, count: min(step, values.count))
        for start in stride(from: 0, to: values.count, by: step) {
            let part = UnsafeBufferPointer(rebasing: values[start..<min(values.count, start + step)])
            let bytes = UnsafeMutableRawBufferPointer(rebasing: raw[..<(part.count * type.bytes)])
            if let bad = type.write(part, into: bytes) {
                let index = start + bad
                throw part[bad].isFinite
                    ? .tooLarge(path: path, name: name, index: index, type: type.rawValue)
                    : .notFinite(path: path, name: name, index: index)
            }
            file?.append(UnsafeRawBufferPointer(bytes))
            // The digest is of what a reader will see.
            back.withUnsafeMutableBufferPointer { buffer in
                let seen = UnsafeMutableBufferPointer(rebasing: buffer[..<part.count])
                _ = type.read(UnsafeRawBufferPointer(bytes), into: seen)
                stream.update(UnsafeRawBufferPointer(seen))
            }
        }
        written += 1
    }

    private func openFile(_ path: String) throws(CheckpointError) {
        // The digest is known at the end only: its place is kept.
        let metadata = [("format", "pt")] + (shards.count == 1 ? [(digestKey, Self.placeholder)] : [])
        let header = SafetensorsHeader.bytes(shards[current].tensors, type: type, metadata: metadata)
        let opened = try Weights.files { () throws(FileError) in try FileWriter(path) }
        opened.append(header)
        if shards.count == 1 {
            let pattern = Array(Self.placeholder.utf8)
            digestPlace = (0..<header.count).first { header[$0...].starts(with: pattern) } ?? 0
        }
        file = opened
        written = 0
    }
    private static let placeholder = String(repeating: "0", count: 64)

    private func finishFile() throws(CheckpointError) {
        guard let file else { return }
        self.file = nil
        try Weights.files { () throws(FileError) in try file.finish() }
    }

    /// All units, and ``finish()``.
    func write(_ weights: ModelUnits) throws(CheckpointError) {
        for unit in weights.shape.allUnits {
            guard let values = weights.values(unit) else {
                abandon()
                throw .file(path: target, problem: "unit \(unit) cannot be read from where it was put down")
            }
            try values.withUnsafeBufferPointer { values throws(CheckpointError) in try append(values) }
        }
        try finish()
    }

    /// Completes the folder; the digest of its weights as fp32.
    @discardableResult
    public func finish() throws(CheckpointError) -> Digest256 {
        precondition(nextUnit == configuration.shape.unitCount, "\(nextUnit) units were given")
        let digest = stream.finish()
        if shards.count == 1 { file?.overwrite(Array(digest.hex.utf8), at: digestPlace) }
        try finishFile()
        if shards.count > 1 {
            let index = ShardIndex.json(
                tensors: shards.flatMap { shard in shard.tensors.map { ($0.name, shard.name) } },
                totalSize: shards.reduce(0) { $0 + $1.bytes }, metadata: [("format", "pt"), (digestKey, digest.hex)])
            try put(ShardIndex.name, index.bytes(indented: true) + [10])
        }
        nextUnit = -1
        try Weights.files { () throws(FileError) in try replaceFolder(target, with: temporary) }
        return digest
    }
}
