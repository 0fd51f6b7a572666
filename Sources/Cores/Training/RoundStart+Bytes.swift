import Digests
import Primitives
public import Wire

/// Bytes of a round start, as they lie on a disk. They go and come in pieces: a stage of some gigabytes is there once, not once more for each
/// hand that it goes through.
extension RoundStart {
    public static let format = "atoll-round-start 1\n"
    private static let most = 1 << 16
    private static let largest = 1 << 40
    /// Read at a time, where nothing is kept of it.
    private static let piece = 1 << 20

    // MARK: writing

    /// Hands all bytes on, in order.
    public func write<Failure: Error>(to out: ([UInt8]) throws(Failure) -> Void) throws(Failure) {
        var stream = SHA256Stream()
        var writer = ByteWriter()
        func flush() throws(Failure) {
            stream.update(writer.bytes)
            try out(writer.bytes)
            writer = ByteWriter()
        }
        func list(_ bytes: [UInt8]) throws(Failure) {
            writer.u64(UInt64(bytes.count))
            try flush()
            stream.update(bytes)
            try out(bytes)
        }
        writer.raw(Array(Self.format.utf8))
        writer.raw(job.bytes)
        for number in [round, epoch, rank, share.count] + share + [states.count] { writer.u64(UInt64(number)) }
        for state in states {
            writer.u64(UInt64(state.unit))
            writer.u64(UInt64(state.optimizerSteps))
            for part in [
                state.parameters, state.outerMomentum, state.firstMoment, state.secondMoment, state.residue.weights,
            ] { try list(part) }
            writer.u64(UInt64(state.residue.nodes.count))
            for node in state.residue.nodes {
                writer.u64(UInt64(node.node))
                try list(node.feedback)
                writer.u64(UInt64(node.factors.count))
                for factor in node.factors { try list(factor) }
            }
        }
        try flush()
        try out(stream.finish().bytes)
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

    public var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        write { bytes += $0 }
        return bytes
    }

    // MARK: reading

    /// Throws what is wrong with the bytes: another format, torn, damaged, out of range.
    public init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        try self.init(count: bytes.count) { offset, target in
            target.copyBytes(from: bytes[offset..<offset + target.count])
            return true
        }
    }

    /// The same of bytes that lie elsewhere: first all of them for their digest, then one list after the other.
    ///
    /// - Parameters:
    ///   - count: how many bytes there are.
    ///   - keepsNumbers: otherwise what is learnt is what it is and that it is whole; all lists of its states are empty.
    ///   - fill: fills a target with the bytes from an offset on; never asked for what is beyond `count`. False where it cannot.
    public init(
        count: Int, keepsNumbers: Bool = true, fill: @escaping (_ offset: Int, UnsafeMutableRawBufferPointer) -> Bool
    ) throws(MalformedBytes) {
        var reader = Pieces(count: count - 32, fill: fill)
        let format = count < Self.format.utf8.count ? [] : try reader.take(Self.format.utf8.count)
        guard format.elementsEqual(Self.format.utf8) else {
            throw MalformedBytes("no round start of this version: it must begin with \(Self.format.debugDescription)")
        }
        guard count >= Self.format.utf8.count + 64, try Self.isWhole(count: count, fill: fill) else {
            throw MalformedBytes("torn or damaged: its digest is another")
        }
        guard let job = Digest256(try reader.take(32)) else { throw MalformedBytes("no job") }
        self.job = job
        round = try reader.number(below: Self.largest)
        epoch = try reader.number(below: Self.largest)
        rank = try reader.number(below: Self.most)
        share = []
        for _ in 0..<(try reader.number(below: Self.most)) { share.append(try reader.number(below: Self.most)) }
        states = []
        for place in 0..<(try reader.number(below: Self.most)) {
            let state = try Self.state(&reader, keepsNumbers)
            guard state.unit == states.first.map({ $0.unit + place }) ?? state.unit else {
                throw MalformedBytes("units do not follow each other")
            }
            states.append(state)
        }
        guard reader.remaining == 0 else { throw MalformedBytes("\(reader.remaining) bytes too many") }
        guard !states.isEmpty else { throw MalformedBytes("no units") }
    }

    private static func state(_ reader: inout Pieces, _ keepsNumbers: Bool) throws(MalformedBytes) -> UnitState {
        func list() throws(MalformedBytes) -> [UInt8] {
            let count = try reader.number()
            if keepsNumbers { return try reader.take(count) }
            try reader.skip(count)
            return []
        }
        let unit = try reader.number(below: most)
        let steps = try reader.number(below: largest)
        var state = UnitState(
            unit: unit, parameters: try list(), outerMomentum: try list(), firstMoment: try list(),
            secondMoment: try list(), optimizerSteps: steps)
        state.residue.weights = try list()
        for _ in 0..<(try reader.number(below: most)) {
            let node = try reader.number(below: most)
            let feedback = try list()
            var factors: [[UInt8]] = []
            for _ in 0..<(try reader.number(below: most)) { factors.append(try list()) }
            state.residue.nodes.append(UnitResidue.Node(node: node, feedback: feedback, factors: factors))
        }
        return state
    }

    /// Whether the last 32 bytes are the SHA-256 of all before them.
    public static func isWhole(
        count: Int, fill: @escaping (_ offset: Int, UnsafeMutableRawBufferPointer) -> Bool
    ) throws(MalformedBytes) -> Bool {
        guard count >= 32 else { return false }
        var stream = SHA256Stream()
        var reader = Pieces(count: count, fill: fill)
        while reader.remaining > 32 { stream.update(try reader.take(min(piece, reader.remaining - 32))) }
        return try stream.finish().bytes == reader.take(32)
    }

    /// A cursor over bytes that lie elsewhere.
    private struct Pieces {
        let count: Int
        let fill: (Int, UnsafeMutableRawBufferPointer) -> Bool
        private var position = 0
        var remaining: Int { count - position }

        init(count: Int, fill: @escaping (Int, UnsafeMutableRawBufferPointer) -> Bool) {
            self.count = count
            self.fill = fill
        }
        mutating func skip(_ bytes: Int) throws(MalformedBytes) {
            guard bytes >= 0, bytes <= remaining else {
                throw MalformedBytes("\(bytes) bytes wanted, \(remaining) left")
            }
            position += bytes
        }
        mutating func take(_ bytes: Int) throws(MalformedBytes) -> [UInt8] {
            let start = position
            try skip(bytes)
            var isThere = true
            let out = [UInt8](unsafeUninitializedCapacity: bytes) { target, filled in
                isThere =
                    bytes == 0
                    || fill(
                        start, UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(target)[..<bytes]))
                if !isThere { UnsafeMutableRawBufferPointer(target).initializeMemory(as: UInt8.self, repeating: 0) }
                filled = bytes
            }
            guard isThere else { throw MalformedBytes("byte \(start) and what follows cannot be read") }
            return out
        }
        mutating func number(below limit: Int = .max) throws(MalformedBytes) -> Int {
            var value: UInt64 = 0
            for (index, byte) in try take(8).enumerated() { value |= UInt64(byte) << (8 * UInt64(index)) }
            guard let number = Int(exactly: value), number < limit else {
                throw MalformedBytes("a number out of range")
            }
            return number
        }
    }
}
