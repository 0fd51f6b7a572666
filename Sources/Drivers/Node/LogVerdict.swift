public import Consensus
public import Primitives
public import Record

/// What a job's log file says, and up to where it holds, read alone: no network, no keys but those it names.
public struct LogVerdict: Sendable {
    /// The first thing that does not hold. What comes after it was not looked at.
    public struct Fault: Hashable, Sendable {
        public enum Kind: String, Sendable {
            /// The first line.
            case format
            /// The file ends within a record: what a crash leaves, and what the next start cuts off.
            case torn
            /// Bytes of a record have changed since they were written.
            case damaged
            /// A record was written that does not belong there: not signed by an elector, out of order, of another job, breaking a rule.
            case refused
            /// The certificate does not hold, or certifies another log.
            case certificate
        }
        public var kind: Kind
        /// The first wrong byte, where that is known; else the first byte of what is wrong as a whole.
        public var offset: Int
        public var isExact: Bool
        /// In the order of the file, from 0; nil outside of entries.
        public var entry: Int?
        /// Bytes of the record.
        public var record: Range<Int>?
        public var why: String
    }
    /// Entries that one leader wrote in one term.
    public struct Term: Hashable, Sendable {
        public var term: Int
        public var leader: PeerID
        public var entries: Range<Int>
    }
    /// Where the job did not simply go on.
    public struct Break: Hashable, Sendable {
        public var entry: Int
        public var what: String
    }

    public internal(set) var bytes: Int
    /// As far as it holds; nil without a genesis.
    public internal(set) var record: Record?
    /// Where that ends.
    public internal(set) var end = 0
    public internal(set) var terms: [Term] = []
    public internal(set) var breaks: [Break] = []
    public internal(set) var certificate: Certificate?
    /// What its electors are proven to have lied about.
    public internal(set) var lies: [Contradiction] = []
    public internal(set) var fault: Fault?

    init(bytes: Int) { self.bytes = bytes }
}

// MARK: for people and programs

extension LogVerdict {
    public var text: String {
        var lines = ["log        \(bytes) bytes, \(record?.length ?? 0) entries that hold, to byte \(end)"]
        if let record {
            let (state, totals) = (record.state, record.ledger.totals)
            lines.append("job        \(record.job.hex)")
            lines.append(
                "           \(record.parameters.name): round \(state.round), \(state.sealedTokens) of \(state.tokens) tokens, "
                    + (state.finished.map { "ended: \($0.reason)" } ?? "not ended"))
            lines.append("electors   \(record.electors.map(\.hex).joined(separator: ", "))")
            lines.append(
                "books      \(totals.granted) micro-batches: \(totals.counted) counted, \(totals.late) late, \(totals.lost) lost, "
                    + "\(totals.superseded) superseded, \(record.ledger.underWay) under way")
        }
        for term in terms {
            lines.append(
                "term \(term.term)".padded(to: 11)
                    + "entries \(term.entries.lowerBound) to \(term.entries.upperBound - 1), by \(term.leader.short)")
        }
        for item in breaks { lines.append("break      entry \(item.entry): \(item.what)") }
        if let certificate {
            let signers = certificate.signatures.map(\.signer.short).joined(separator: ", ")
            lines.append(
                "certified  \(certificate.claim.size) entries of term \(certificate.claim.term)"
                    + "\(certificate.claim.era > 0 ? " of era \(certificate.claim.era)" : ""), by \(signers)")
        } else if record != nil {
            lines.append("certified  nothing: there is no certificate beside the log")
        }
        for lie in lies { lines.append("LIE        \(lie.what)") }
        lines.append(fault.map(Self.sentence) ?? "holds      every byte")
        return lines.joined(separator: "\n")
    }

    private static func sentence(_ fault: Fault) -> String {
        var out = "BAD        byte \(fault.offset)"
        if let entry = fault.entry {
            out += ", entry \(entry)"
            if let record = fault.record { out += " (bytes \(record.lowerBound) to \(record.upperBound - 1))" }
        }
        return out + ": " + fault.why
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
