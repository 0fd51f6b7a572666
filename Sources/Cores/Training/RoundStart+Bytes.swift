import Digests
import Primitives
public import Wire

/// Bytes of a round start, as they lie on a disk. They go and come in pieces: a stage of some gigabytes is there once, not once more for each
/// hand that it goes through.
extension RoundStart {
    public static let format = "atoll-round-start 1\n"
    private static let most = 1 << 16
    private static let largest = 1 << 40

    // MARK: writing

    /// Hands all bytes on, in order.
    /// - Returns: whether they were all to be had from where they had been put down.
    public func write<Failure: Error>(to out: ([UInt8]) throws(Failure) -> Void) throws(Failure) -> Bool {
        var stream = SHA256Stream()
        var writer = ByteWriter()
        func flush() throws(Failure) {
            stream.update(writer.bytes)
            try out(writer.bytes)
            writer = ByteWriter()
        }
        func list(_ bytes: StoredBytes) throws(Failure) -> Bool {
            writer.u64(UInt64(bytes.count))
            try flush()
            return try bytes.eachPiece { piece throws(Failure) in
                stream.update(piece)
                try out([UInt8](piece))
            }
        }
        writer.raw(Array(Self.format.utf8))
        writer.raw(job.bytes)
        for number in [round, epoch, rank, share.count] + share + [states.count] { writer.u64(UInt64(number)) }
        for state in states {
            writer.u64(UInt64(state.unit))
            writer.u64(UInt64(state.optimizerSteps))
            for part in [
                state.parameters, state.outerMomentum, state.firstMoment, state.secondMoment, state.residue.weights,
            ] { guard try list(part) else { return false } }
            writer.u64(UInt64(state.residue.nodes.count))
            for node in state.residue.nodes {
                writer.u64(UInt64(node.node))
                guard try list(node.feedback) else { return false }
                writer.u64(UInt64(node.factors.count))
                for factor in node.factors { _ = try list(StoredBytes(factor)) }
            }
        }
        try flush()
        try out(stream.finish().bytes)
        return true
    }

    public var byteCount: Int {
        var count = Self.format.utf8.count + 32 + 8 * (5 + share.count) + 32
        for state in states {
            count += 8 * 8
            for part in [
                state.parameters, state.outerMomentum, state.firstMoment, state.secondMoment, state.residue.weights,
            ] { count += part.count }
            for node in state.residue.nodes {
                count += 8 * (3 + node.factors.count) + node.feedback.count
                count += node.factors.reduce(0) { $0 + $1.count }
            }
        }
        return count
    }

    /// All of them in memory; nil where they are not to be had any more.
    public var encoded: [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        return write { bytes += $0 } ? bytes : nil
    }

    // MARK: reading

    /// Throws what is wrong with the bytes: another format, torn, damaged, out of range.
    public init(decoding bytes: [UInt8]) throws(MalformedBytes) { try self.init(StoredBytes(bytes)) }

    /// The same of bytes that lie elsewhere: first all of them are read for their digest. What is large of it stays where it lies.
    public init(_ source: StoredBytes) throws(MalformedBytes) {
        let format = Array(Self.format.utf8)
        guard source.count >= format.count, source.bytes(0..<format.count) == format else {
            throw MalformedBytes("no round start of this version: it must begin with \(Self.format.debugDescription)")
        }
        guard source.count >= format.count + 64, Self.isWhole(source) else {
            throw MalformedBytes("torn or damaged: its digest is another")
        }
        var reader = Reader(source[format.count..<source.count - 32])
        guard let job = Digest256(try reader.bytes(32)) else { throw MalformedBytes("no job") }
        self.job = job
        round = try reader.number(below: Self.largest)
        epoch = try reader.number(below: Self.largest)
        rank = try reader.number(below: Self.most)
        share = []
        for _ in 0..<(try reader.number(below: Self.most)) { share.append(try reader.number(below: Self.most)) }
        states = []
        for place in 0..<(try reader.number(below: Self.most)) {
            let state = try Self.state(&reader)
            guard state.unit == states.first.map({ $0.unit + place }) ?? state.unit else {
                throw MalformedBytes("units do not follow each other")
            }
            states.append(state)
        }
        guard reader.remaining == 0 else { throw MalformedBytes("\(reader.remaining) bytes too many") }
        guard !states.isEmpty else { throw MalformedBytes("no units") }
    }

    private static func state(_ reader: inout Reader) throws(MalformedBytes) -> UnitState {
        let unit = try reader.number(below: most)
        let steps = try reader.number(below: largest)
        var state = UnitState(
            unit: unit, parameters: try reader.list(), outerMomentum: try reader.list(), firstMoment: try reader.list(),
            secondMoment: try reader.list(), optimizerSteps: steps)
        state.residue.weights = try reader.list()
        for _ in 0..<(try reader.number(below: most)) {
            let node = try reader.number(below: most)
            let feedback = try reader.list()
            var factors: [[UInt8]] = []
            for _ in 0..<(try reader.number(below: most)) { factors.append(try reader.bytes(try reader.number())) }
            state.residue.nodes.append(UnitResidue.Node(node: node, feedback: feedback, factors: factors))
        }
        return state
    }

    /// Whether the last 32 bytes are the SHA-256 of all before them.
    public static func isWhole(_ source: StoredBytes) -> Bool {
        guard source.count >= 32 else { return false }
        var stream = SHA256Stream()
        guard source[0..<source.count - 32].eachPiece({ stream.update($0) }) else { return false }
        return source.bytes(source.count - 32..<source.count) == stream.finish().bytes
    }

    /// A cursor.
    private struct Reader {
        private let source: StoredBytes
        private var position = 0
        var remaining: Int { source.count - position }

        init(_ source: StoredBytes) { self.source = source }

        private mutating func take(_ bytes: Int) throws(MalformedBytes) -> StoredBytes {
            guard bytes >= 0, bytes <= remaining else {
                throw MalformedBytes("\(bytes) bytes wanted, \(remaining) left")
            }
            defer { position += bytes }
            return source[position..<position + bytes]
        }
        /// After its length.
        mutating func list() throws(MalformedBytes) -> StoredBytes { try take(try number()) }
        mutating func bytes(_ count: Int) throws(MalformedBytes) -> [UInt8] {
            guard let bytes = try take(count).all else {
                throw MalformedBytes("byte \(position) and what follows cannot be read")
            }
            return bytes
        }
        mutating func number(below limit: Int = .max) throws(MalformedBytes) -> Int {
            var value: UInt64 = 0
            for (index, byte) in try bytes(8).enumerated() { value |= UInt64(byte) << (8 * UInt64(index)) }
            guard let number = Int(exactly: value), number < limit else {
                throw MalformedBytes("a number out of range")
            }
            return number
        }
    }
}
