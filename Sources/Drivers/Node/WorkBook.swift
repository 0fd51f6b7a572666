import Consensus
import Digests
import Foundation
public import Primitives
public import Record

/// What one peer did in one job, as the job's log in its folder says.
public struct WorkBook: Sendable {
    public struct Totals: Hashable, Sendable {
        /// Micro-batches.
        public var counted = 0
        public var late = 0
        public var lost = 0
        public var superseded = 0
        public var ended: Int { counted + late + lost + superseded }
        public init() {}
        public mutating func add(_ other: Totals) {
            counted += other.counted
            late += other.late
            lost += other.lost
            superseded += other.superseded
        }
    }
    public var peer: PeerID
    public var job: Digest256
    public var name: String
    /// The log's path, for `atoll verify`.
    public var log: String
    public var endings: [Ledger.Ending]
    public var underWay: Int
    /// Why the job ended; nil while it goes on as far as the log knows.
    public var ended: String?
    /// So many entries have a quorum's signatures beside the log.
    public var certified: Int?
    public var fault: LogVerdict.Fault?
    /// What of the log is not in this; nil where all of it is.
    public var unread: Unread?

    public struct Unread: Hashable, Sendable {
        /// The first byte that does not hold.
        public var byte: Int
        /// That are or were behind it, as far as can be told.
        public var entries: Int
        /// Only its last record is not whole: what a crash leaves, and nobody was shown.
        public var isTorn: Bool
        public var why: String
    }

    public var totals: Totals {
        var out = Totals()
        for ending in endings {
            switch ending.outcome {
            case .counted: out.counted += ending.microBatches
            case .late: out.late += ending.microBatches
            case .lost: out.lost += ending.microBatches
            case .superseded: out.superseded += ending.microBatches
            }
        }
        return out
    }

    /// The key of a peer's folder.
    static func key(in folder: String) throws(NodeError) -> SigningKey {
        let place = folder + "/key"
        let text = String(decoding: try readFile(place, limit: 4096), as: UTF8.self)
        guard let seed = [UInt8](hex: text.filter { !$0.isWhitespace }), let key = SigningKey(seed: seed) else {
            throw .badInput("\(place) is not a key: 64 hexadecimal digits expected")
        }
        return key
    }
    /// Of all jobs whose logs lie in a peer's folder, by job. Empty where the folder has no key.
    public static func all(in folder: String, parse: @escaping Record.Parser) throws(NodeError) -> [WorkBook] {
        guard FileManager.default.fileExists(atPath: folder + "/key") else { return [] }
        let key = try key(in: folder)
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder + "/log")) ?? []).sorted()
        return names.compactMap { name in
            guard name.count == 64, let job = Digest256(hex: name) else { return nil }
            return read(folder + "/log/" + name, job, key.peerID, parse)
        }
    }
    /// One that cannot be read says so: the others are read all the same.
    private static func read(
        _ path: String, _ job: Digest256, _ peer: PeerID, _ parse: @escaping Record.Parser
    ) -> WorkBook {
        var book = WorkBook(peer: peer, job: job, name: "", log: path, endings: [], underWay: 0)
        let log: [UInt8]
        do throws(NodeError) { log = try readFile(path) } catch {
            book.unread = Unread(byte: 0, entries: 0, isTorn: false, why: error.description)
            return book
        }
        let proof = try? readFile(path + LogFile.certificateSuffix)
        let verdict = LogVerifier.verify(log: log, certificate: proof, job: job, listing: peer, parse: parse)
        if let fault = verdict.fault, fault.kind != .certificate {
            let salvage = LogSalvage(log, .entries)
            let there = salvage.envelopes.count + salvage.lost
            book.unread = Unread(
                byte: fault.offset, entries: max(0, there - (verdict.record?.length ?? 0)),
                isTorn: fault.kind == .torn && verdict.record != nil, why: fault.why)
        }
        book.fault = verdict.fault
        guard let record = verdict.record else { return book }
        book.name = record.parameters.name
        book.endings = record.ledger.endings
        book.underWay = record.state.finished == nil ? record.ledger.ownUnderWay : 0
        book.ended = record.state.finished?.reason
        book.certified = verdict.certificate?.claim.size
        return book
    }
}
