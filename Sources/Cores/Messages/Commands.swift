public import Consensus
public import Exchange
public import Primitives
public import Wire

/// The leader is there: work goes on until the lease is over.
public struct Lease: Hashable, Sendable {
    public var duration: Duration
    /// Of the leader's committed log.
    public var logLength: Int
    /// To come: the leader wants to be told when it was computed (``Heartbeat/trace``).
    public var tracedStep: Int?
    public init(duration: Duration, logLength: Int, tracedStep: Int? = nil) {
        self.duration = duration
        self.logLength = logLength
        self.tracedStep = tracedStep
    }
    init(_ m: PBLease) throws(MalformedBytes) {
        duration = .milliseconds(Int64(try bounded(m.milliseconds, below: 86_400_000, "lease")))
        logLength = try bounded(m.logLength, below: Bounds.counter, "log length")
        let traced = try bounded(m.tracedStep, below: Bounds.step, "step")
        tracedStep = traced > 0 ? traced - 1 : nil
    }
    var encoded: PBLease {
        var m = PBLease()
        m.milliseconds = UInt32(duration.wholeNanoseconds / 1_000_000)
        m.logLength = UInt64(logLength)
        if let tracedStep { m.tracedStep = UInt64(tracedStep) + 1 }
        return m
    }
}

/// Consecutive entries of the job's log. They prove themselves, whoever sends them.
public struct LogEntries: Hashable, Sendable {
    public var entries: [PBEnvelope]
    /// Of the sender's log: who lacks more asks for it.
    public var length: Int
    /// Where several electors carry it: that a quorum of them has so many entries.
    public var certificate: Certificate?
    public init(_ entries: [PBEnvelope], length: Int, certificate: Certificate? = nil) {
        self.entries = entries
        self.length = length
        self.certificate = certificate
    }
    /// More entries than this do not come in one message.
    public static let most = 1024
    /// Bytes of entries that one message carries, if it has more than one.
    public static let bytes = 256 << 10

    init(_ m: PBLogEntries) throws(MalformedBytes) {
        guard m.entries.count <= Self.most else { throw MalformedBytes("\(m.entries.count) log entries at once") }
        entries = m.entries
        length = try bounded(m.length, below: Bounds.counter, "log length")
        certificate = m.certificate.isEmpty ? nil : try Certificate(encoded: [UInt8](m.certificate))
    }
    var encoded: PBLogEntries {
        var m = PBLogEntries()
        m.entries = entries
        m.length = UInt64(length)
        if let certificate { m.certificate = bytesOf(certificate.encoded) }
        return m
    }
}

/// One turn of a survey of lines, for one member.
public struct ProbeOrder: Hashable, Sendable {
    public struct Target: Hashable, Sendable {
        public var peer: PeerID
        public var endpoint: Endpoint
        public init(peer: PeerID, endpoint: Endpoint) {
            self.peer = peer
            self.endpoint = endpoint
        }
        init(_ m: PBProbeOrder.Target) throws(MalformedBytes) {
            peer = try peerID(m.peer)
            endpoint = try Messages.endpoint(m.endpoint)
        }
        var encoded: PBProbeOrder.Target {
            var m = PBProbeOrder.Target()
            m.peer = bytesOf(peer)
            m.endpoint = bytesOf(endpoint.compact)
            return m
        }
    }
    public struct Burst: Hashable, Sendable {
        public var to: Target
        public var bytes: Int
        /// Begin so much later.
        public var after: Duration
        public init(to: Target, bytes: Int, after: Duration) {
            self.to = to
            self.bytes = bytes
            self.after = after
        }
    }
    public var turn: UInt64
    /// To be pinged.
    public var pings: [Target]
    public var bursts: [Burst]
    /// Whose bursts come in this turn.
    public var senders: [PeerID]
    /// Report after this, whatever has come.
    public var reportAfter: Duration
    public init(turn: UInt64, pings: [Target], bursts: [Burst], senders: [PeerID], reportAfter: Duration) {
        self.turn = turn
        self.pings = pings
        self.bursts = bursts
        self.senders = senders
        self.reportAfter = reportAfter
    }
    /// Most that one order may have a member send.
    public static let mostBytes = 64 << 20

    init(_ m: PBProbeOrder) throws(MalformedBytes) {
        turn = m.turn
        pings = try list(m.ping, atMost: 4096, "peers to ping") { (raw) throws(MalformedBytes) in try Target(raw) }
        bursts = try list(m.bursts, atMost: 64, "bursts") { (raw) throws(MalformedBytes) in
            Burst(
                to: try Target(raw.to), bytes: try bounded(raw.bytes, below: Self.mostBytes + 1, "burst"),
                after: .microseconds(Int64(try bounded(raw.microseconds, below: 1_000_001, "delay of a burst"))))
        }
        guard bursts.reduce(0, { $0 + $1.bytes }) <= Self.mostBytes else {
            throw MalformedBytes("bursts of too many bytes")
        }
        senders = try list(m.senders, atMost: 64, "senders", peerID)
        reportAfter = .milliseconds(Int64(try bounded(m.milliseconds, below: 60_001, "time of a turn")))
    }
    var encoded: PBProbeOrder {
        var m = PBProbeOrder()
        m.turn = turn
        m.ping = pings.map(\.encoded)
        m.bursts = bursts.map { burst in
            var out = PBProbeOrder.Burst()
            out.to = burst.to.encoded
            out.bytes = UInt32(burst.bytes)
            out.microseconds = UInt32(burst.after.wholeNanoseconds / 1000)
            return out
        }
        m.senders = senders.map { bytesOf($0) }
        m.milliseconds = UInt32(reportAfter.wholeNanoseconds / 1_000_000)
        return m
    }
}

/// Who exchanges a round, and how. Version 0 is every pipeline of the plan; the leader raises it when somebody is left out, or an
/// owner is not believed. With the plan it says who owns which chunk: everybody computes that alike.
public struct GroupTerms: Hashable, Sendable {
    public var round: Int
    /// Of the plan.
    public var epoch: Int
    public var version: Int
    /// Pipelines whose contributions are added, ascending.
    public var ranks: [Int]
    public var way: ExchangeWay
    /// Pipelines that own nothing, ascending.
    public var barred: [Int]
    public init(round: Int, epoch: Int, version: Int, ranks: [Int], way: ExchangeWay, barred: [Int] = []) {
        self.round = round
        self.epoch = epoch
        self.version = version
        self.ranks = ranks
        self.way = way
        self.barred = barred
    }
    /// Newer terms win: of a later round, plan or version.
    public func isNewer(than other: GroupTerms?) -> Bool {
        guard let other else { return true }
        return (round, epoch, version) > (other.round, other.epoch, other.version)
    }

    init(_ m: PBGroup) throws(MalformedBytes) {
        round = try bounded(m.round, below: Bounds.round, "round")
        epoch = try bounded(m.epoch, below: Bounds.counter, "epoch")
        version = try bounded(m.version, below: Bounds.counter, "version")
        ranks = try Self.ranks(m.ranks)
        barred = try Self.ranks(m.barred)
        guard let way = ExchangeWay(m.way) else { throw MalformedBytes("an unknown way to exchange") }
        self.way = way
        guard !ranks.isEmpty else { throw MalformedBytes("a group of nobody") }
    }
    private static func ranks(_ raw: [UInt32]) throws(MalformedBytes) -> [Int] {
        let ranks = try list(raw, atMost: Bounds.rank, "ranks") { (raw) throws(MalformedBytes) in
            try bounded(raw, below: Bounds.rank, "rank")
        }
        guard zip(ranks, ranks.dropFirst()).allSatisfy({ $0 < $1 }) else { throw MalformedBytes("ranks out of order") }
        return ranks
    }
    var encoded: PBGroup {
        var m = PBGroup()
        m.round = UInt64(round)
        m.epoch = UInt64(epoch)
        m.version = UInt32(version)
        m.ranks = ranks.map { UInt32($0) }
        m.way = way.description
        m.barred = barred.map { UInt32($0) }
        return m
    }
}

/// Names a group: sums and audits belong to one.
public struct GroupStamp: Hashable, Comparable, Sendable {
    public var round: Int
    public var epoch: Int
    public var version: Int
    public init(round: Int, epoch: Int, version: Int) {
        self.round = round
        self.epoch = epoch
        self.version = version
    }
    public static func < (a: Self, b: Self) -> Bool {
        (a.round, a.epoch, a.version) < (b.round, b.epoch, b.version)
    }
    init(_ round: UInt64, _ epoch: UInt64, _ version: UInt32) throws(MalformedBytes) {
        self.round = try bounded(round, below: Bounds.round, "round")
        self.epoch = try bounded(epoch, below: Bounds.counter, "epoch")
        self.version = try bounded(version, below: Bounds.counter, "version")
    }
}
extension GroupTerms {
    public var stamp: GroupStamp { GroupStamp(round: round, epoch: epoch, version: version) }
}

/// These members add a chunk up once more.
public struct AuditOrder: Hashable, Sendable {
    public var group: GroupStamp
    public var unit: Int
    public var chunk: Int
    /// Ranks, ascending.
    public var auditors: [Int]
    public init(group: GroupStamp, unit: Int, chunk: Int, auditors: [Int]) {
        self.group = group
        self.unit = unit
        self.chunk = chunk
        self.auditors = auditors
    }
    init(_ m: PBAudit) throws(MalformedBytes) {
        group = try GroupStamp(m.round, m.epoch, m.version)
        unit = try bounded(m.unit, below: Bounds.unit, "unit")
        chunk = try bounded(m.chunk, below: Bounds.chunk, "chunk")
        auditors = try list(m.auditors, atMost: 16, "auditors") { (raw) throws(MalformedBytes) in
            try bounded(raw, below: Bounds.rank, "rank")
        }
    }
    var encoded: PBAudit {
        var m = PBAudit()
        m.round = UInt64(group.round)
        m.epoch = UInt64(group.epoch)
        m.version = UInt32(group.version)
        m.unit = UInt32(unit)
        m.chunk = UInt32(chunk)
        m.auditors = auditors.map { UInt32($0) }
        return m
    }
}

/// The leader lets a member go.
public struct Dismissal: Hashable, Sendable {
    public enum Kind: Int, Hashable, Sendable { case jobEnded, removed, jobFailed }
    public var kind: Kind
    public var reason: String
    public init(_ kind: Kind, reason: String) {
        self.kind = kind
        self.reason = reason
    }
    init(_ m: PBDismissal) throws(MalformedBytes) {
        guard let kind = Kind(rawValue: m.kind.rawValue) else { throw MalformedBytes("an unknown kind of dismissal") }
        self.kind = kind
        reason = cleaned(m.reason, bytes: Bounds.reasonBytes)
    }
    var encoded: PBDismissal {
        var m = PBDismissal()
        m.kind = PBDismissal.Kind(rawValue: kind.rawValue)!
        m.reason = reason
        return m
    }
}
