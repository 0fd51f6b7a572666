import FoundationEssentials
public import Primitives
public import Wire

/// When the pieces of one step were computed at a member: told to a leader who asked, for people who look. Nothing is decided by it.
public struct StepReport: Hashable, Sendable {
    public enum Kind: UInt8, Sendable { case forward = 1, backward, update }
    public struct Piece: Hashable, Sendable {
        public var kind: Kind
        /// After the first piece began.
        public var from: Duration
        public var to: Duration
        public init(kind: Kind, from: Duration, to: Duration) { (self.kind, self.from, self.to) = (kind, from, to) }
    }
    /// Of the job, from 0.
    public var step: Int
    /// Since the first piece began, when this is said: clocks of two machines are not compared.
    public var age: Duration
    public var pieces: [Piece]
    /// A step of more is not told.
    public static let mostPieces = 512

    public init(step: Int, age: Duration, pieces: [Piece]) {
        (self.step, self.age, self.pieces) = (step, age, pieces)
    }

    init(_ m: PBHeartbeat.Trace) throws(MalformedBytes) {
        step = try bounded(m.step, below: Bounds.step, "step")
        age = .microseconds(try bounded(m.ageMicroseconds, below: 86_400_000_000, "age of a step"))
        guard m.kinds.count <= Self.mostPieces, m.begins.count == m.kinds.count, m.ends.count == m.kinds.count else {
            throw MalformedBytes("\(m.kinds.count), \(m.begins.count) and \(m.ends.count) parts of pieces of a step")
        }
        pieces = []
        for (place, raw) in m.kinds.enumerated() {
            guard let kind = Kind(rawValue: raw) else { throw MalformedBytes("a piece of a step of kind \(raw)") }
            let (from, to) = (m.begins[place], m.ends[place])
            guard from <= to else { throw MalformedBytes("a piece of a step from \(from) to \(to)") }
            pieces.append(Piece(kind: kind, from: .microseconds(Int(from)), to: .microseconds(Int(to))))
        }
    }
    var encoded: PBHeartbeat.Trace {
        var m = PBHeartbeat.Trace()
        m.step = UInt64(step)
        m.ageMicroseconds = UInt64(clamping: max(0, age.wholeNanoseconds / 1000))
        m.kinds = Data(pieces.map(\.kind.rawValue))
        m.begins = pieces.map { UInt32(clamping: $0.from.wholeNanoseconds / 1000) }
        m.ends = pieces.map { UInt32(clamping: $0.to.wholeNanoseconds / 1000) }
        return m
    }
}
