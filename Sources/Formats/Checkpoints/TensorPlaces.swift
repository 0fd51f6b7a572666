public import Primitives

/// Where the tensors of a model lie in a checkpoint's files, after checking all of it: none is missing, none is left over.
public struct TensorPlaces: Sendable {
    public struct Place: Sendable {
        /// Number of the file.
        public let file: Int
        public let entry: SafetensorsHeader.Entry
    }
    /// By canonical name.
    private let places: [String: Place]
    /// A head beside embeddings that are tied to it: must be equal to them.
    public let tiedCopy: Place?
    /// `rotary_emb.inv_freq` of old files, by layer: must be what the configuration says.
    public let frequencies: [Place]

    static let head = "lm_head.weight"

    /// `files`: names for errors, and headers, in the index's order.
    public init(
        shape: ModelShape, files: [(path: String, header: SafetensorsHeader)], index: (path: String, ShardIndex)?
    ) throws(CheckpointError) {
        var found: [String: Place] = [:]
        for (number, file) in files.enumerated() {
            for entry in file.header.entries {
                guard found.updateValue(Place(file: number, entry: entry), forKey: entry.name) == nil else {
                    throw .malformed(path: file.path, problem: "tensor \(entry.name) is in another file, too")
                }
            }
        }
        if let (path, index) = index {
            for (tensor, file) in index.places {
                guard let place = found[tensor] else { throw .missingTensor(path: path, name: tensor) }
                guard place.file == file else {
                    throw .malformed(path: path, problem: "tensor \(tensor) is in \(files[place.file].path)")
                }
            }
            guard index.places.count == found.count else {
                let named = Set(index.places.map(\.tensor))
                let extra = found.keys.filter { !named.contains($0) }.min() ?? ""
                throw .unexpectedTensor(path: path, name: extra)
            }
        }
        let path = { (file: Int) in files[file].path }
        var places: [String: Place] = [:]
        for unit in shape.allUnits {
            for tensor in shape.tensors(unit: unit) {
                guard let place = found.removeValue(forKey: tensor.name) else {
                    throw .missingTensor(path: index?.path ?? files.first?.path ?? "", name: tensor.name)
                }
                try Self.check(place, tensor.shape, path(place.file))
                places[tensor.name] = place
            }
        }
        self.places = places
        tiedCopy = shape.tieWordEmbeddings ? found.removeValue(forKey: Self.head) : nil
        if let tiedCopy { try Self.check(tiedCopy, [shape.vocabulary, shape.hiddenSize], path(tiedCopy.file)) }
        var frequencies: [Place] = []
        for layer in 0..<shape.layers {
            guard let place = found.removeValue(forKey: "model.layers.\(layer).self_attn.rotary_emb.inv_freq") else {
                continue
            }
            try Self.check(place, [shape.headSize / 2], path(place.file))
            frequencies.append(place)
        }
        self.frequencies = frequencies
        if let extra = found.values.min(by: { $0.entry.name < $1.entry.name }) {
            throw .unexpectedTensor(path: path(extra.file), name: extra.entry.name)
        }
    }

    private static func check(_ place: Place, _ shape: [Int], _ path: String) throws(CheckpointError) {
        guard place.entry.shape == shape else {
            throw .wrongShape(path: path, name: place.entry.name, found: place.entry.shape, expected: shape)
        }
    }

    /// The place of a tensor of the model.
    public subscript(name: String) -> Place { places[name]! }
}
