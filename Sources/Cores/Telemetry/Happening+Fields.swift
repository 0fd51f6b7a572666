extension Happening {
    /// A word in snake case, e.g. `peer_lost`: the case's name.
    public var kind: String { name.kind }

    /// The payload under its labels in snake case, in the order of the declaration; absent where nil.
    public var fields: [Event.Field] { reading.fields }

    /// Which case it is.
    public var name: Name { reading.name }

    /// Name and fields at once.
    var reading: (name: Name, fields: [Event.Field]) {
        let encoder = FieldEncoder()
        do { try encode(to: encoder) } catch { preconditionFailure("\(self) has no name in Happening.Name") }
        guard let name = Name(rawValue: encoder.reading.name) else {
            preconditionFailure("\(self) has no name in Happening.Name")
        }
        return (name, encoder.reading.fields)
    }

    /// Reads back what ``kind`` and ``fields`` say; nil for another kind, or where a field is missing or of another type.
    ///
    /// - Parameter field: the value of a field by its name; reals may come as integers.
    public init?(kind: String, field: (String) -> Event.Value?) {
        guard var name = Name.named[kind] else { return nil }
        // The two of one kind differ in their fields.
        if name == .contributionRefused, field("rank") != nil { name = .contributionUnusable }
        let read: Happening? = withoutActuallyEscaping(field) { field in
            try? Happening(from: FieldDecoder(name: name.rawValue) { field($0.field) })
        }
        guard let read else { return nil }
        self = read
    }
}

extension Happening.Name {
    static let named = Dictionary(
        uniqueKeysWithValues: allCases.filter { $0 != .contributionUnusable }.map { ($0.kind, $0) })

    /// A value of this case with something in each field: for documentation and tests.
    public var sample: Happening { declaration.sample }

    /// A sample, and what the declaration says of the fields.
    package var declaration: (sample: Happening, requests: [FieldDecoder.Request]) {
        var requests: [FieldDecoder.Request] = []
        do {
            let sample = try withoutActuallyEscaping({ (request: FieldDecoder.Request) -> Event.Value? in
                requests.append(request)
                return switch request.kind {
                case .integer: .integer(requests.count)
                case .real: .real(Double(requests.count) + 0.5)
                case .text: .text("some \(request.field)")
                case .truth: .text("yes")
                }
            }) { source in try Happening(from: FieldDecoder(name: rawValue, source: source)) }
            return (sample, requests)
        } catch {
            preconditionFailure("no sample of \(rawValue): \(error)")
        }
    }
}

extension Happening {
    /// One value of each case.
    public static var samples: [Happening] { Name.allCases.map(\.sample) }
}
