public import Primitives
public import Wire

/// Entries of a content's list of chunks.
public struct IndexPart: Hashable, Sendable {
    public var content: Digest256
    public var first: Int
    /// Chunks in all.
    public var total: Int
    /// Of ``ContentIndex/entryBytes`` each.
    public var entries: [UInt8]
    /// Most entries in one message.
    public static let most = 8192
    public init(content: Digest256, first: Int, total: Int, entries: [UInt8]) {
        self.content = content
        self.first = first
        self.total = total
        self.entries = entries
    }
    init(_ m: PBContentIndex) throws(MalformedBytes) {
        content = try digest(m.content)
        total = try bounded(m.total, below: Bounds.contentChunks + 1, "chunks")
        first = try bounded(m.first, below: total + 1, "index entry")
        entries = try bytes(m.entries, atMost: Self.most * ContentIndex.entryBytes, "an index")
        guard entries.count % ContentIndex.entryBytes == 0, entries.count / ContentIndex.entryBytes <= total - first
        else {
            throw MalformedBytes("an index of \(entries.count) bytes at \(first) of \(total)")
        }
    }
    var encoded: PBContentIndex {
        var m = PBContentIndex()
        m.content = bytesOf(content)
        m.first = UInt64(first)
        m.total = UInt64(total)
        m.entries = bytesOf(entries)
        return m
    }
}

/// Asks a holder which contents are the state of units as of the start of a round.
public struct StateRequest: Hashable, Sendable {
    public var round: Int
    /// Ascending.
    public var units: [Int]
    /// Adam's moments, too.
    public var moments: Bool
    public init(round: Int, units: [Int], moments: Bool) {
        self.round = round
        self.units = units
        self.moments = moments
    }
    init(_ m: PBStateRequest) throws(MalformedBytes) {
        round = try bounded(m.round, below: Bounds.round, "round")
        units = try list(m.units, atMost: 4096, "units") { (raw) throws(MalformedBytes) in
            try bounded(raw, below: Bounds.unit, "unit")
        }
        guard zip(units, units.dropFirst()).allSatisfy({ $0 < $1 }) else { throw MalformedBytes("units out of order") }
        moments = m.moments
    }
    var encoded: PBStateRequest {
        var m = PBStateRequest()
        m.round = UInt64(round)
        m.units = units.map { UInt32($0) }
        m.moments = moments
        return m
    }
}

/// A holder's answer.
public struct StateOffer: Hashable, Sendable {
    public struct Part: Hashable, Sendable {
        public var roots: UnitRoots
        /// Adam's m, then v; nil when left out.
        public var moments: Digest256?
        public var optimizerSteps: Int
        public init(roots: UnitRoots, moments: Digest256?, optimizerSteps: Int) {
            self.roots = roots
            self.moments = moments
            self.optimizerSteps = optimizerSteps
        }
        public var unit: Int { roots.unit }
    }
    public var round: Int
    public var parts: [Part]
    /// Why there are no parts.
    public var unavailable: String?
    public init(round: Int, parts: [Part], unavailable: String? = nil) {
        self.round = round
        self.parts = parts
        self.unavailable = unavailable
    }
    init(_ m: PBStateOffer) throws(MalformedBytes) {
        round = try bounded(m.round, below: Bounds.round, "round")
        parts = try list(m.parts, atMost: 4096, "units") { (raw) throws(MalformedBytes) in
            var roots = PBUnitRoots()
            roots.unit = raw.unit
            roots.parameters = raw.parameters
            roots.outerMomentum = raw.outerMomentum
            return Part(
                roots: try UnitRoots(roots), moments: try optionalDigest(raw.moments),
                optimizerSteps: try bounded(raw.optimizerSteps, below: Bounds.step, "steps"))
        }
        guard Set(parts.map(\.unit)).count == parts.count else { throw MalformedBytes("a unit twice") }
        unavailable = m.unavailable.isEmpty ? nil : cleaned(m.unavailable, bytes: Bounds.reasonBytes)
    }
    var encoded: PBStateOffer {
        var m = PBStateOffer()
        m.round = UInt64(round)
        m.parts = parts.map { part in
            var out = PBStateOffer.Part()
            out.unit = UInt32(part.unit)
            out.parameters = bytesOf(part.roots.parameters)
            if let momentum = part.roots.outerMomentum { out.outerMomentum = bytesOf(momentum) }
            if let moments = part.moments { out.moments = bytesOf(moments) }
            out.optimizerSteps = UInt64(part.optimizerSteps)
            return out
        }
        m.unavailable = unavailable ?? ""
        return m
    }
}
