public import Checkpoints
import JSON
import Primitives
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
        if let model { return try model.write(parameters, to: directory) }
        guard let configuration = ModelConfiguration(parameters.shape, type: .fp32) else {
            throw .unsupported(
                path: directory, key: "model", found: "a mixture of biases, norms and layers without positions",
                allowed: "what one family of Hugging Face's has")
        }
        let context = JSONValue(parameters.shape.context)
        let settings: JSONValue = ["do_sample": true, "max_length": context]
        var files = [("generation_config.json", settings.bytes(indented: true) + [10])]
        if parameters.shape.vocabulary == 256 {
            files += [
                ("tokenizer.json", ByteTokenizer.tokenizer.bytes(indented: true) + [10]),
                ("tokenizer_config.json", ByteTokenizer.configuration(context: context).bytes(indented: true) + [10]),
            ]
        }
        let writer = try ModelWriter(to: directory, configuration, type: .fp32, files: files)
        for unit in parameters.units {
            try unit.withUnsafeBufferPointer { values throws(CheckpointError) in try writer.append(values) }
        }
        try writer.finish()
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
