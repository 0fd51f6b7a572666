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
        var out: [WorkBook] = []
        for name in names where name.count == 64 {
            guard let job = Digest256(hex: name) else { continue }
            if let book = try read(folder + "/log/" + name, job, key.peerID, parse) { out.append(book) }
        }
        return out
    }
    private static func read(
        _ path: String, _ job: Digest256, _ peer: PeerID, _ parse: @escaping Record.Parser
    ) throws(NodeError) -> WorkBook? {
        let beside = path + ".certificate"
        let proof = FileManager.default.fileExists(atPath: beside) ? try readFile(beside) : nil
        let verdict = LogVerifier.verify(
            log: try readFile(path), certificate: proof, job: job, listing: peer, parse: parse)
        guard let record = verdict.record else { return nil }
        return WorkBook(
            peer: peer, job: job, name: record.parameters.name, log: path, endings: record.ledger.endings,
            underWay: record.state.finished == nil ? record.ledger.ownUnderWay : 0,
            ended: record.state.finished?.reason,
            certified: verdict.certificate?.claim.size, fault: verdict.fault)
    }
}
