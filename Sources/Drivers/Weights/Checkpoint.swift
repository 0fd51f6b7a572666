public import Checkpoints
import Digests
import JSON
public import Primitives
import Tokenizers
public import Training

/// A Hugging Face checkpoint of a byte-level model: what a job ends with. Opens in `transformers` as it is.
public enum Checkpoint {
    /// Writes the folder `directory`, replacing one of that name only when everything is on disk: files go to a
    /// temporary sibling, are synchronised, and the folder is renamed.
    ///
    /// - Parameter model: the folder that the job continues, whose files go along; nil: a byte-level model, or one without
    ///   a tokenizer.
    public static func write(
        _ parameters: ModelParameters, to directory: String, like model: ContinuedModel? = nil
    ) throws(CheckpointError) {
        try write(ModelUnits(parameters), to: directory, like: model)
    }
    /// The same of weights that are read unit by unit.
    public static func write(
        _ weights: ModelUnits, to directory: String, like model: ContinuedModel? = nil
    ) throws(CheckpointError) {
        if let model { return try model.write(weights, to: directory) }
        guard let configuration = ModelConfiguration(weights.shape, type: .fp32) else {
            throw .unsupported(
                path: directory, key: "model", found: "a mixture of biases, norms and layers without positions",
                allowed: "what one family of Hugging Face's has")
        }
        let context = JSONValue(weights.shape.context)
        let settings: JSONValue = ["do_sample": true, "max_length": context]
        var files = [("generation_config.json", settings.bytes(indented: true) + [10])]
        if weights.shape.vocabulary == 256 {
            files += [
                ("tokenizer.json", ByteTokenizer.tokenizer.bytes(indented: true) + [10]),
                ("tokenizer_config.json", ByteTokenizer.configuration(context: context).bytes(indented: true) + [10]),
            ]
        }
        try ModelWriter(to: directory, configuration, type: .fp32, files: files).write(weights)
    }

    /// Reads a folder unit by unit, and checks it as ``read(from:)`` does.
    /// - Returns: SHA-256 of all weights.
    public static func weightsDigest(of directory: String) throws(CheckpointError) -> Digest256 {
        let folder = try ModelFolder(directory)
        try folder.verifyCopies()
        var stream = SHA256Stream()
        for unit in folder.shape.allUnits { (try folder.unit(unit)).withUnsafeBytes { stream.update($0) } }
        let digest = stream.finish()
        if folder.hasDigest { try folder.check(digest: digest) }
        return digest
    }

    /// Reads a folder that ``write(_:to:)`` or `transformers` wrote. Everything is checked: nothing in the files
    /// decides how much memory is taken before it agrees with the files' sizes.
    public static func read(from directory: String) throws(CheckpointError) -> ModelParameters {
        let folder = try ModelFolder(directory)
        try folder.verifyCopies()
        var units: [[Float]] = []
        for unit in folder.shape.allUnits { units.append(try folder.unit(unit)) }
        guard let parameters = ModelParameters(shape: folder.shape, units: units) else {
            throw .malformed(path: directory, problem: "the tensors do not fit the model")
        }
        if folder.hasDigest { try folder.check(digest: parameters.weightsDigest) }
        return parameters
    }
}
