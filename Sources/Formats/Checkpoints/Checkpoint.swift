import Foundation
import Primitives
public import Training

/// A Hugging Face checkpoint of a byte-level Llama model: what a job ends with. Opens in `transformers` as it is.
public enum Checkpoint {
    static let configurationFile = "config.json"
    static let weightsFile = "model.safetensors"

    /// Writes the folder `directory`, replacing one of that name only when everything is on disk: files go to a
    /// temporary sibling, are synchronised, and the folder is renamed.
    public static func write(_ parameters: ModelParameters, to directory: String) throws(CheckpointError) {
        let target = directory.count > 1 && directory.hasSuffix("/") ? String(directory.dropLast()) : directory
        let files: [(String, [UInt8])] = [
            (configurationFile, json(Configuration.object(of: parameters.shape))),
            ("generation_config.json", json(["do_sample": true, "max_length": parameters.shape.context])),
            ("tokenizer.json", json(ByteTokenizer.tokenizer)),
            ("tokenizer_config.json", json(ByteTokenizer.configuration(context: parameters.shape.context))),
        ]
        try replaceFolder(target) { temporary throws(CheckpointError) in
            for (name, bytes) in files {
                let file = try FileWriter(temporary + "/" + name)
                bytes.withUnsafeBytes { file.append($0) }
                try file.finish()
            }
            let header = SafetensorsHeader.bytes(
                of: parameters.shape, metadata: ["format": "pt", "atoll_weights": parameters.weightsDigest.hex])
            let weights = try FileWriter(temporary + "/" + weightsFile)
            header.withUnsafeBytes { weights.append($0) }
            for unit in parameters.units { unit.withUnsafeBytes { weights.append($0) } }
            try weights.finish()
        }
    }

    /// Reads a folder that ``write(_:to:)`` or `transformers` wrote. Everything is checked: nothing in the files
    /// decides how much memory is taken before it agrees with the files' sizes.
    public static func read(from directory: String) throws(CheckpointError) -> ModelParameters {
        let shape = try Configuration.shape(from: directory + "/" + configurationFile)
        let path = directory + "/" + weightsFile
        let data = try contents(of: path)
        let header = try SafetensorsHeader(data, path: path)
        let ranges = try header.ranges(for: shape)
        var units: [[Float]] = []
        for unit in shape.allUnits {
            var values: [Float] = []
            values.reserveCapacity(shape.parameters(unit: unit))
            for tensor in shape.tensors(unit: unit) {
                let range = ranges[tensor.name]!
                values += [Float](unsafeUninitializedCapacity: tensor.count) { target, count in
                    data.copyBytes(to: UnsafeMutableRawBufferPointer(target), from: range)
                    count = tensor.count
                }
                if let bad = values.suffix(tensor.count).firstIndex(where: { !$0.isFinite }) {
                    let index = bad - (values.count - tensor.count)
                    throw .notFinite(path: path, name: tensor.name, index: index)
                }
            }
            units.append(values)
        }
        guard let parameters = ModelParameters(shape: shape, units: units) else {
            throw .malformed(path: path, problem: "the tensors do not fit the model")
        }
        if let expected = header.metadata["atoll_weights"], expected != parameters.weightsDigest.hex {
            throw .wrongDigest(path: path, expected: expected, found: parameters.weightsDigest.hex)
        }
        return parameters
    }

    /// The bytes of a JSON object, keys sorted: the same file for the same model.
    static func json(_ object: [String: Any]) -> [UInt8] {
        let options: JSONSerialization.WritingOptions = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        guard let data = try? JSONSerialization.data(withJSONObject: object, options: options) else {
            preconditionFailure("an object that is no JSON: \(object)")
        }
        return [UInt8](data) + [10]
    }
}
