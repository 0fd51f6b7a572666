extension Happening {
    /// A word in snake case, e.g. `peer_lost`: the case's name.
    public var kind: String { reading.kind }

    /// The payload under its labels in snake case, in the order of the declaration; absent where nil.
    public var fields: [Event.Field] { reading.fields }

    /// Kind and fields at once.
    var reading: (kind: String, fields: [Event.Field]) {
        let encoder = FieldEncoder()
        do { try encode(to: encoder) } catch { preconditionFailure("\(self): \(error)") }
        let name = encoder.reading.name
        // One word for one thing: what a member finds and what its coordinator hears of it.
        return (name == "contributionUnusable" ? "contribution_refused" : snakeCase(name), encoder.reading.fields)
    }
}
