public import Checkpoints
import Digests
import Files
import Foundation
public import Primitives

/// A model's folder as Hugging Face writes them: opened with all of its headers checked, read unit by unit. No process holds
/// more of it than the units that it asks for.
public final class ModelFolder: Sendable {
    static let configurationFile = "config.json"
    static let weightsFile = "model.safetensors"
    /// Names whose meaning is this program's: written anew, not carried along.
    static func isWritten(_ name: String) -> Bool {
        name == configurationFile || name.hasSuffix(".safetensors") || name == ShardIndex.name
    }

    public let path: String
    public let configuration: ModelConfiguration
    public var shape: ModelShape { configuration.shape }
    private let files: [FileReader]
    private let places: TensorPlaces
    /// ``ModelParameters/weightsDigest`` as written, if we wrote it.
    private let expectedDigest: String?

    /// Opens `config.json` and the headers of all weights, and checks that they fit each other.
    public init(_ path: String) throws(CheckpointError) {
        self.path = path
        let configurationPath = path + "/" + Self.configurationFile
        configuration = try ModelConfiguration(
            parsing: try contents(configurationPath, limit: 1 << 20), path: configurationPath)
        let indexPath = path + "/" + ShardIndex.name
        var index: (path: String, index: ShardIndex)?
        if fileExists(indexPath) {
            index = (indexPath, try ShardIndex(parsing: try contents(indexPath, limit: 64 << 20), path: indexPath))
        }
        var readers: [FileReader] = []
        var headers: [(path: String, header: SafetensorsHeader)] = []
        for name in index?.index.files ?? [Self.weightsFile] {
            let reader = try Weights.files { () throws(FileError) in try FileReader(path + "/" + name) }
            headers.append((reader.path, try Self.header(reader)))
            readers.append(reader)
        }
        places = try TensorPlaces(shape: configuration.shape, files: headers, index: index.map { ($0.path, $0.index) })
        files = readers
        expectedDigest = index?.index.metadata[digestKey] ?? headers.first?.header.metadata[digestKey]
    }

    static func header(_ reader: FileReader) throws(CheckpointError) -> SafetensorsHeader {
        let first = try Weights.files { () throws(FileError) in try reader.read(0..<min(8, reader.count)) }
        let start = try SafetensorsHeader.start(first, fileSize: reader.count, path: reader.path)
        let json = try Weights.files { () throws(FileError) in try reader.read(8..<start) }
        return try json.withUnsafeBufferPointer { bytes throws(CheckpointError) in
            try SafetensorsHeader(json: bytes, start: start, fileSize: reader.count, path: reader.path)
        }
    }

    /// Values of a unit in canonical order, as fp32; every one is finite.
    public func readUnit(
        _ unit: Int, into values: UnsafeMutableBufferPointer<Float>
    ) throws(CheckpointError) {
        precondition(values.count == shape.parameters(unit: unit), "\(values.count) values for unit \(unit)")
        var offset = 0
        for tensor in shape.tensors(unit: unit) {
            let target = UnsafeMutableBufferPointer(rebasing: values[offset..<offset + tensor.count])
            try read(places[tensor.name], into: target)
            offset += tensor.count
        }
    }

    public func unit(_ unit: Int) throws(CheckpointError) -> [Float] {
        var failure: CheckpointError?
        let count = shape.parameters(unit: unit)
        let values = [Float](unsafeUninitializedCapacity: count) { buffer, filled in
            let whole = UnsafeMutableBufferPointer(rebasing: buffer[..<count])
            whole.initialize(repeating: 0)
            filled = count
            do throws(CheckpointError) { try readUnit(unit, into: whole) } catch { failure = error }
        }
        if let failure { throw failure }
        return values
    }

    /// Reads a megabyte at a time: what is converted is not held twice.
    private func read(
        _ place: TensorPlaces.Place, into values: UnsafeMutableBufferPointer<Float>
    ) throws(CheckpointError) {
        let file = files[place.file], entry = place.entry
        let step = 1 << 18
        let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: step * entry.type.bytes, alignment: 16)
        defer { raw.deallocate() }
        for start in stride(from: 0, to: entry.count, by: step) {
            let count = min(step, entry.count - start)
            let bytes = UnsafeMutableRawBufferPointer(rebasing: raw[..<(count * entry.type.bytes)])
            try Weights.files { () throws(FileError) in
                try file.read(into: bytes, at: entry.range.lowerBound + start * entry.type.bytes)
            }
            let target = UnsafeMutableBufferPointer(rebasing: values[start..<start + count])
            if let bad = entry.type.read(UnsafeRawBufferPointer(bytes), into: target) {
                throw .notFinite(path: file.path, name: entry.name, index: start + bad)
            }
        }
    }

    private func values(_ place: TensorPlaces.Place) throws(CheckpointError) -> [Float] {
        var values = [Float](repeating: 0, count: place.entry.count)
        try values.withUnsafeMutableBufferPointer { buffer throws(CheckpointError) in try read(place, into: buffer) }
        return values
    }

    // MARK: checks that read values

    /// What only the values can tell: a copy of tied embeddings is equal to them, old frequency tables are those of the
    /// configuration, and the digest is the one that was written.
    public func verify(progress: (_ unit: Int) -> Bool = { _ in true }) throws(CheckpointError) {
        try verifyCopies()
        guard let expectedDigest else { return }
        var stream = SHA256Stream()
        for unit in shape.allUnits {
            guard progress(unit) else { return }
            let values = try self.unit(unit)
            values.withUnsafeBytes { stream.update($0) }
        }
        let found = stream.finish().hex
        guard found == expectedDigest else {
            throw .wrongDigest(path: path, expected: expectedDigest, found: found)
        }
    }

    /// Whether every tensor is stored in bfloat16.
    var isAllBF16: Bool {
        shape.allUnits.allSatisfy { unit in
            shape.tensors(unit: unit).allSatisfy { places[$0.name].entry.type == .bf16 }
        }
    }

    /// Whether ``verify(progress:)`` would read all weights.
    public var hasDigest: Bool { expectedDigest != nil }
    func check(digest: Digest256) throws(CheckpointError) {
        guard let expectedDigest, expectedDigest != digest.hex else { return }
        throw .wrongDigest(path: files.first?.path ?? path, expected: expectedDigest, found: digest.hex)
    }

    /// What does not need all weights: copies and old tables.
    public func verifyCopies() throws(CheckpointError) {
        try verifyTiedCopy()
        try verifyFrequencies()
    }

    private func verifyTiedCopy() throws(CheckpointError) {
        guard let copy = places.tiedCopy else { return }
        let embedding = places["model.embed_tokens.weight"]
        if let index = zip(try values(copy), try values(embedding)).enumerated().first(where: { $1.0 != $1.1 })?.offset
        {
            throw .unsupported(
                path: files[copy.file].path, key: copy.entry.name,
                found: "unlike model.embed_tokens.weight at \(index), though tie_word_embeddings is true",
                allowed: "the same values, or tie_word_embeddings false")
        }
    }

    private func verifyFrequencies() throws(CheckpointError) {
        for place in places.frequencies {
            let values = try values(place)
            for (index, value) in values.enumerated() {
                let expected = pow(shape.ropeTheta, -2 * Double(index) / Double(shape.headSize))
                // Half precision in the oldest ones.
                guard abs(Double(value) - expected) <= 4e-3 * expected else {
                    throw .unsupported(
                        path: files[place.file].path, key: place.entry.name, found: "\(value) at \(index)",
                        allowed: "\(expected), by rope_theta of config.json")
                }
            }
        }
    }

    /// Files of the folder that a copy keeps: tokenizer, templates, generation settings, licence.
    public func carriedFiles() throws(CheckpointError) -> [String] {
        try Weights.files { () throws(FileError) in try folderContents(path) }.filter { name in
            let kept = [".json", ".jinja", ".model", ".txt", ".md", ".tiktoken"].contains { name.hasSuffix($0) }
            return !Self.isWritten(name) && !name.hasPrefix(".")
                && (kept || ["LICENSE", "NOTICE", "USE_POLICY"].contains { name.hasPrefix($0) })
                && !isFolder(path + "/" + name)
        }
    }
}

/// Of ``ModelParameters/weightsDigest``, in a file's metadata.
let digestKey = "atoll_weights"

/// A file's error as a checkpoint's.
func files<Answer>(_ body: () throws(FileError) -> Answer) throws(CheckpointError) -> Answer {
    do throws(FileError) { return try body() } catch { throw .file(path: error.path, problem: error.problem) }
}

func contents(_ path: String, limit: Int) throws(CheckpointError) -> [UInt8] {
    try files { () throws(FileError) in try fileContents(path, limit: limit) }
}
