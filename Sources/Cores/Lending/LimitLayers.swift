/// Where limits were given: each layer wins over those before it.
public struct LimitLayers: Hashable, Sendable {
    public struct Layer: Hashable, Sendable {
        /// For people: “peer.yaml”, “atoll limits”, “the environment”, “the command line”.
        public var name: String
        public var values: [LimitKey: String]
        public init(name: String, values: [LimitKey: String]) {
            self.name = name
            self.values = values
        }
    }
    /// Of the layer that commands write.
    public static let byCommand = "atoll limits"
    public private(set) var layers: [Layer]

    /// - Throws: ``LimitProblem`` for the first value that cannot be used.
    public init(_ layers: [Layer]) throws(LimitProblem) {
        self.layers = layers
        var limits = OwnerLimits()
        for layer in layers {
            for key in LimitKey.allCases {
                if let text = layer.values[key] { try limits.set(key, to: text) }
            }
        }
    }
    /// All of them together.
    public var limits: OwnerLimits {
        var limits = OwnerLimits()
        for key in LimitKey.allCases {
            // It was checked when it came.
            if let text = layers.last(where: { $0.values[key] != nil })?.values[key] { try? limits.set(key, to: text) }
        }
        return limits
    }
    /// Nil: nobody gave it, the default counts.
    public func source(of key: LimitKey) -> String? { layers.last { $0.values[key] != nil }?.name }

    /// Gives a limit by command; `default` takes it back.
    ///
    /// - Returns: the layer that still wins over it, if there is one.
    public mutating func set(_ key: LimitKey, to text: String) throws(LimitProblem) -> String? {
        var limits = OwnerLimits()
        if text != "default" { try limits.set(key, to: text) }
        guard let index = layers.firstIndex(where: { $0.name == Self.byCommand }) else { return nil }
        layers[index].values[key] = text == "default" ? nil : text
        return layers[(index + 1)...].last { $0.values[key] != nil }?.name
    }
    /// What commands gave, as the file that keeps it.
    public var commandFile: String {
        let values = layers.first { $0.name == Self.byCommand }?.values ?? [:]
        var out =
            "# Written by `atoll limits set`; wins over peer.yaml. `atoll limits set KEY default` takes a line back.\n"
        guard !values.isEmpty else { return out + "limits: {}\n" }
        out += "limits:\n"
        for key in LimitKey.allCases { if let text = values[key] { out += "  \(key.rawValue): \"\(text)\"\n" } }
        return out
    }
}
