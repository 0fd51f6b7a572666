public import Digests
public import Primitives
public import Wire

/// Names a pipeline's work on a round: everything is idempotent by it.
public struct WorkKey: Hashable, Comparable, Sendable {
    public var round: Int
    public var rank: Int
    /// Rises when the pipeline begins its round anew.
    public var attempt: Int
    public init(round: Int, rank: Int, attempt: Int) {
        self.round = round
        self.rank = rank
        self.attempt = attempt
    }
    public static func < (a: Self, b: Self) -> Bool { (a.round, a.rank, a.attempt) < (b.round, b.rank, b.attempt) }

    init(_ round: UInt64, _ rank: UInt32, _ attempt: UInt32) throws(MalformedBytes) {
        self.round = try bounded(round, below: Bounds.round, "round")
        self.rank = try bounded(rank, below: Bounds.rank, "rank")
        self.attempt = try bounded(attempt, below: Bounds.counter, "attempt")
    }
    init(_ m: PBWorkKey) throws(MalformedBytes) { try self.init(m.round, m.rank, m.attempt) }
    var encoded: PBWorkKey {
        var m = PBWorkKey()
        m.round = UInt64(round)
        m.rank = UInt32(rank)
        m.attempt = UInt32(attempt)
        return m
    }
}

/// What goes from one stage to its neighbour: activations forward, gradients back.
public struct Activation: Hashable, Sendable {
    public enum Part: Hashable, Sendable {
        /// Of a micro-batch of a global step.
        case microBatch(step: Int, virtualPipeline: Int, index: Int, isGradient: Bool)
        /// Of validation windows.
        case windows(Range<Int>)
    }
    public var work: WorkKey
    public var part: Part
    /// ``Fingerprint/word`` of the payload: what arrives is what the engine gave. (Against others there are TLS and audits.)
    public var checksum: [UInt8]
    public init(work: WorkKey, part: Part, payload: [UInt8]) {
        self.work = work
        self.part = part
        checksum = Fingerprint(payload).bytes
    }
    init(_ m: PBActivation) throws(MalformedBytes) {
        work = try WorkKey(m.work)
        checksum = try bytes(m.checksum, atMost: 8, "a checksum")
        if m.evaluation {
            let first = try bounded(m.firstWindow, below: Bounds.counter, "window")
            let end = try bounded(m.endWindow, below: Bounds.counter, "window")
            guard first < end else { throw MalformedBytes("windows \(first)..<\(end)") }
            part = .windows(first..<end)
        } else {
            part = .microBatch(
                step: try bounded(m.step, below: Bounds.step, "step"),
                virtualPipeline: try bounded(m.virtualPipeline, below: Bounds.rank * 16, "virtual pipeline"),
                index: try bounded(m.index, below: Bounds.rank * 16, "micro-batch"), isGradient: m.gradient)
        }
    }
    var encoded: PBActivation {
        var m = PBActivation()
        m.work = work.encoded
        m.checksum = bytesOf(checksum)
        switch part {
        case .microBatch(let step, let virtualPipeline, let index, let isGradient):
            m.step = UInt64(step)
            m.virtualPipeline = UInt32(virtualPipeline)
            m.index = UInt32(index)
            m.gradient = isGradient
        case .windows(let windows):
            m.evaluation = true
            m.firstWindow = UInt32(windows.lowerBound)
            m.endWindow = UInt32(windows.upperBound)
        }
        return m
    }
    public func matches(_ payload: [UInt8]) -> Bool { checksum == Fingerprint(payload).bytes }
}

/// Sums of squares of a stage's gradients, one a tensor, for the norm of all.
public struct Norms: Hashable, Sendable {
    public var work: WorkKey
    public var step: Int
    public var stage: Int
    public var sumSquares: [Float]
    public init(work: WorkKey, step: Int, stage: Int, sumSquares: [Float]) {
        self.work = work
        self.step = step
        self.stage = stage
        self.sumSquares = sumSquares
    }
    /// Not finite is possible: a job that diverges has such norms, and says so.
    init(_ m: PBNorms) throws(MalformedBytes) {
        work = try WorkKey(m.work)
        step = try bounded(m.step, below: Bounds.step, "step")
        stage = try bounded(m.stage, below: Bounds.unit, "stage")
        guard m.sumSquares.count <= 1 << 16 else { throw MalformedBytes("\(m.sumSquares.count) norms") }
        sumSquares = m.sumSquares
    }
    var encoded: PBNorms {
        var m = PBNorms()
        m.work = work.encoded
        m.step = UInt64(step)
        m.stage = UInt32(stage)
        m.sumSquares = sumSquares
        return m
    }
}

/// Chunks of a round's exchange: of a pipeline's contribution, of the sums that an owner made, or for an auditor.
public struct ExchangePart: Hashable, Sendable {
    public enum Purpose: Hashable, Sendable { case contribution, aggregate, audit }
    public struct Chunk: Hashable, Sendable {
        public var unit: Int
        public var chunk: Int
        public var bytes: [UInt8]
        public init(unit: Int, chunk: Int, bytes: [UInt8]) {
            self.unit = unit
            self.chunk = chunk
            self.bytes = bytes
        }
    }
    /// Of the sender.
    public var work: WorkKey
    public var group: GroupStamp
    public var purpose: Purpose
    public var chunks: [Chunk]
    public init(work: WorkKey, group: GroupStamp, purpose: Purpose, chunks: [Chunk]) {
        self.work = work
        self.group = group
        self.purpose = purpose
        self.chunks = chunks
    }
    /// More chunks than this in one message are refused.
    public static let chunkLimit = 4096

    init(_ m: PBExchangePart, payload: [UInt8]) throws(MalformedBytes) {
        work = try WorkKey(m.work)
        group = try GroupStamp(m.work.round, m.epoch, m.version)
        purpose = m.audit ? .audit : m.aggregate ? .aggregate : .contribution
        var reader = ByteReader(payload)
        chunks = try list(m.chunks, atMost: Self.chunkLimit, "chunks") { (raw) throws(MalformedBytes) in
            Chunk(
                unit: try bounded(raw.unit, below: Bounds.unit, "unit"),
                chunk: try bounded(raw.chunk, below: Bounds.chunk, "chunk"),
                bytes: Array(try reader.take(Int(raw.bytes))))
        }
        try reader.finish()
    }
    public var bytes: Int { chunks.reduce(0) { $0 + $1.bytes.count } }
    var payload: [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(bytes)
        for chunk in chunks { out += chunk.bytes }
        return out
    }
    var encoded: PBExchangePart {
        var m = PBExchangePart()
        m.work = work.encoded
        m.epoch = UInt64(group.epoch)
        m.version = UInt32(group.version)
        m.aggregate = purpose == .aggregate
        m.audit = purpose == .audit
        m.chunks = chunks.map { chunk in
            var out = PBExchangePart.Chunk()
            out.unit = UInt32(chunk.unit)
            out.chunk = UInt32(chunk.chunk)
            out.bytes = UInt32(chunk.bytes.count)
            return out
        }
        return m
    }
}
