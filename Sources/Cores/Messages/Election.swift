public import Consensus
import Digests
public import Primitives
public import Wire

/// What one elector says to another.
public enum ElectionMessage: Hashable, Sendable {
    case consensus(ElectorMessage)
    /// The sender's signature under a claim (``Ack``).
    case ack(LogClaim, signature: [UInt8])
}

/// An entry of the log as electors carry it: with the receipts that were counted since the one before. So whoever has an entry has what it
/// rests on.
public struct CarriedEntry: Hashable, Sendable {
    public var envelope: PBEnvelope
    public var receipts: [PBEnvelope]
    /// More receipts than this are of no round: a pipeline has at most so many stages, and there are so many pipelines.
    public static let mostReceipts = 1 << 16
    public init(_ envelope: PBEnvelope, receipts: [PBEnvelope] = []) {
        self.envelope = envelope
        self.receipts = receipts
    }

    init(_ m: PBCarriedEntry) throws(MalformedBytes) {
        guard m.receipts.count <= Self.mostReceipts else {
            throw MalformedBytes("\(m.receipts.count) receipts at once")
        }
        envelope = m.entry
        receipts = m.receipts
    }
    private var message: PBCarriedEntry {
        var m = PBCarriedEntry()
        m.entry = envelope
        m.receipts = receipts
        return m
    }
    func message(term: Int) -> PBCarriedEntry {
        var m = message
        m.term = UInt64(term)
        return m
    }

    /// For the elector, who does not look at it.
    public var encoded: [UInt8] { message.encoded }
    public init(encoded: [UInt8]) throws(MalformedBytes) {
        guard let m = PBCarriedEntry(encoded: encoded) else { throw MalformedBytes("a carried entry that is none") }
        try self.init(m)
    }
    /// Who decides from it on, where the entry says so. Nothing is verified by this.
    public var electorate: Electorate? {
        guard case .electors(let m)? = PBLogEntry(encoded: [UInt8](envelope.body))?.body else {
            return nil
        }
        return try? Electorate(m)
    }
}

extension Electorate {
    public init(_ m: PBElectors) throws(MalformedBytes) {
        let voters = try list(m.voters, atMost: Self.mostVoters, "electors", peerID)
        let outgoing = try list(m.outgoing, atMost: Self.mostVoters, "electors", peerID)
        guard let electorate = Electorate(voters: voters, outgoing: outgoing) else {
            throw MalformedBytes("electors without voters, or with one twice")
        }
        guard electorate.voters == voters, electorate.outgoing == outgoing else {
            throw MalformedBytes("electors out of order")
        }
        self = electorate
    }
}

// MARK: the wire

extension ElectionMessage {
    init(_ m: PBElection) throws(MalformedBytes) {
        if case .ack(let signed)? = m.body {
            var reader = ByteReader([UInt8](signed.claim))
            let claim = try LogClaim(&reader)
            try reader.finish()
            guard signed.signature.count == 64 else {
                throw MalformedBytes("a signature of \(signed.signature.count) bytes")
            }
            self = .ack(claim, signature: [UInt8](signed.signature))
            return
        }
        let term = try bounded(m.term, below: Bounds.counter, "term")
        self = .consensus(ElectorMessage(term: term, try Self.body(m)))
    }

    private static func body(_ m: PBElection) throws(MalformedBytes) -> ElectorMessage.Body {
        func count(_ value: UInt64) throws(MalformedBytes) -> Int {
            try bounded(value, below: Bounds.counter, "log length")
        }
        func end(_ raw: PBElection.End) throws(MalformedBytes) -> LogEnd {
            LogEnd(term: try bounded(raw.term, below: Bounds.counter, "term"), count: try count(raw.count))
        }
        switch m.body {
        case .canvass(let raw)?: return .canvass(try end(raw))
        case .canvassed(let granted)?: return .canvassed(granted)
        case .vote(let raw)?: return .vote(try end(raw.end), byRequest: raw.byRequest)
        case .voted(let granted)?: return .voted(granted)
        case .append(let raw)?:
            let entries = try list(raw.entries, atMost: ElectorBounds.messageEntries, "entries") {
                (raw) throws(MalformedBytes) in
                let entry = try CarriedEntry(raw)
                return ReplicatedEntry(
                    term: try bounded(raw.term, below: Bounds.counter, "term"), body: entry.encoded,
                    electorate: entry.electorate)
            }
            return .append(after: try end(raw.after), entries: entries, committed: try count(raw.committed))
        case .appended(let value)?: return .appended(try count(value))
        case .refused(let raw)?: return .refused(after: try count(raw.after), hint: try count(raw.hint))
        case .beat(let committed)?: return .beat(committed: try count(committed))
        case .beaten(let raw)?: return .beaten(received: try count(raw.received), stored: try count(raw.stored))
        case .outdated?: return .outdated
        case .takeOver?: return .takeOver
        case .ack?, nil: throw MalformedBytes("an elector's message of an unknown kind")
        }
    }

    var encoded: PBElection {
        var m = PBElection()
        switch self {
        case .ack(let claim, let signature):
            m.ack.claim = bytesOf(claim.encoded)
            m.ack.signature = bytesOf(signature)
        case .consensus(let message):
            m.term = UInt64(message.term)
            Self.encode(message.body, into: &m)
        }
        return m
    }
    private static func encode(_ body: ElectorMessage.Body, into m: inout PBElection) {
        func end(_ end: LogEnd) -> PBElection.End {
            var out = PBElection.End()
            (out.term, out.count) = (UInt64(end.term), UInt64(end.count))
            return out
        }
        switch body {
        case .canvass(let log): m.canvass = end(log)
        case .canvassed(let granted): m.canvassed = granted
        case .vote(let log, let byRequest):
            m.vote.end = end(log)
            m.vote.byRequest = byRequest
        case .voted(let granted): m.voted = granted
        case .append(let after, let entries, let committed):
            m.append.after = end(after)
            m.append.entries = entries.compactMap { entry in
                (try? CarriedEntry(encoded: entry.body))?.message(term: entry.term)
            }
            m.append.committed = UInt64(committed)
        case .appended(let count): m.appended = UInt64(count)
        case .refused(let after, let hint):
            m.refused.after = UInt64(after)
            m.refused.hint = UInt64(hint)
        case .beat(let committed): m.beat = UInt64(committed)
        case .beaten(let received, let stored):
            m.beaten.received = UInt64(received)
            m.beaten.stored = UInt64(stored)
        case .outdated: m.outdated = true
        case .takeOver: m.takeOver = true
        }
    }
}
