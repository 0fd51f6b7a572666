public import Checkpoints
import Digests
import Files
public import Primitives
public import Training
public import Wire

/// A model's folder that a job continues: the units it begins with, and how its results are written, with the folder's own
/// tokenizer, templates and keys.
public final class ContinuedModel: Sendable {
    public let folder: ModelFolder
    /// As the job has it: of a context of its own, and perhaps with a head apart from the embedding.
    public let shape: ModelShape
    private let configuration: ModelConfiguration

    /// - Parameter shape: the folder's, but for `context` and `tieWordEmbeddings`, which may be shorter and false.
    public init(_ path: String, shape: ModelShape) throws(CheckpointError) {
        folder = try ModelFolder(path)
        self.shape = shape
        configuration =
            folder.shape.tieWordEmbeddings && !shape.tieWordEmbeddings
            ? folder.configuration.untied : folder.configuration
        try folder.verifyCopies()
    }

    /// A unit's values, canonical order. Where the head is set apart from the embedding, it begins as its copy.
    private func values(_ unit: Int) throws(CheckpointError) -> [Float] {
        let values = try folder.unit(unit)
        guard unit == shape.layers + 1, values.count < shape.parameters(unit: unit) else { return values }
        return values + (try folder.unit(0))
    }

    /// What a job begins with in a unit.
    public func state(_ unit: Int) throws(CheckpointError) -> UnitState {
        var writer = StoredBytesWriter(nil)
        return try state(unit, &writer)
    }
    private func state(_ unit: Int, _ writer: inout StoredBytesWriter) throws(CheckpointError) -> UnitState {
        let values = try values(unit)
        return UnitState(unit: unit, parameters: values.withUnsafeBytes { writer.put($0) }, optimizerSteps: 0)
    }
    /// What a job begins with, put down unit by unit.
    /// - Parameter room: nil for memory.
    public func states(in room: (any ByteRoom)?) throws(CheckpointError) -> [UnitState] {
        var writer = StoredBytesWriter(room?.store(4 * shape.parameters))
        var out: [UnitState] = []
        for unit in shape.allUnits { out.append(try state(unit, &writer)) }
        return out
    }

    /// The contents that the job names; one unit at a time is in memory. The folder's own digest is checked on the way.
    public func contents() throws(CheckpointError) -> [Digest256] {
        var stream = SHA256Stream()
        var out: [Digest256] = []
        for unit in shape.allUnits {
            let state = try state(unit)
            // A head that was set apart is no part of the folder.
            let own = state.parameters[0..<4 * folder.shape.parameters(unit: unit)]
            guard own.eachPiece({ stream.update($0) }), let digests = UnitDigests(of: state) else {
                preconditionFailure("bytes in memory cannot be read")
            }
            out.append(digests.parameters)
        }
        if folder.hasDigest { try folder.check(digest: stream.finish()) }
        return out
    }

    /// Writes weights of the job as a folder like this one, in fp32.
    public func write(_ weights: ModelUnits, to directory: String) throws(CheckpointError) {
        try ModelWriter(to: directory, configuration, type: .fp32, carrying: folder).write(weights)
    }
}
