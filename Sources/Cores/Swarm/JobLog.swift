public import Digests
public import Primitives
public import Wire

/// The job's only truth: signed entries, each naming the hash of the one before it. One elector signs for now.
///
/// A replica appends what verifies and refuses everything else; gaps are asked for by index.
public struct JobLog: Sendable {
    /// The version of kernels, codecs and data order that a job pins: exact match, else the same log gives other bits.
    public static let numerics = "atoll-2"
    static let entryLimit = 1_000_000

    public let job: Digest256
    public let electors: [PeerID]
    public private(set) var envelopes: [PBEnvelope] = []
    private var lastHash: [UInt8] = []

    public var length: Int { envelopes.count }

    /// Starts a log from its genesis, which must be signed by one of the electors it names.
    public init(genesis: PBEnvelope) throws(MalformedBytes) {
        let statement = try genesis.open(.logEntry, job: nil, as: PBLogEntry.self)
        guard statement.body.index == 0, case .genesis(let body)? = statement.body.body else {
            throw MalformedBytes("a log begins with its genesis")
        }
        guard body.numerics == Self.numerics else {
            throw MalformedBytes("the job needs numerics \(body.numerics); this build has \(Self.numerics)")
        }
        job = sha256(Array(body.manifest.utf8))
        guard Array(genesis.job) == job.bytes else { throw MalformedBytes("job ID is not the manifest's hash") }
        electors = body.electors.compactMap { PeerID($0) }
        guard !electors.isEmpty, electors.count == body.electors.count, electors.contains(statement.signer) else {
            throw MalformedBytes("genesis is not signed by an elector")
        }
        envelopes = [genesis]
        lastHash = sha256(genesis.encoded).bytes
    }

    /// Signs the next entry; only an elector can.
    public mutating func append(_ body: PBLogEntry.OneOf_Body, epoch: Int, by key: SigningKey) -> (
        PBEnvelope, PBLogEntry
    ) {
        precondition(electors.contains(key.peerID), "only electors write the log")
        var entry = PBLogEntry()
        entry.index = UInt64(length)
        entry.previous = bytesOf(lastHash)
        entry.body = body
        let envelope = PBEnvelope(
            entry, type: .logEntry, job: job, epoch: UInt64(epoch), sequence: UInt64(length), by: key)
        lastHash = sha256(envelope.encoded).bytes
        envelopes.append(envelope)
        return (envelope, entry)
    }

    /// Makes and signs a genesis.
    public static func genesis(manifest: String, content: Digest256, contentBytes: Int, by key: SigningKey)
        -> PBEnvelope
    {
        var body = PBGenesis()
        body.manifest = manifest
        body.electors = [bytesOf(key.peerID)]
        body.numerics = numerics
        body.content = bytesOf(content)
        body.contentBytes = UInt64(contentBytes)
        var entry = PBLogEntry()
        entry.genesis = body
        let job = sha256(Array(manifest.utf8))
        return PBEnvelope(entry, type: .logEntry, job: job, epoch: 0, sequence: 0, by: key)
    }

    /// What became of a received entry.
    public enum Acceptance: Sendable {
        case appended(PBLogEntry, epoch: Int)
        /// Already here, byte for byte or not: the first one stays.
        case known
        /// Entries before it are missing.
        case gap(from: Int)
    }

    public mutating func receive(_ envelope: PBEnvelope) throws(MalformedBytes) -> Acceptance {
        let statement = try envelope.open(.logEntry, job: job, as: PBLogEntry.self)
        guard electors.contains(statement.signer) else {
            throw MalformedBytes("log entry signed by \(statement.signer.short), who is no elector")
        }
        let index = Int(clamping: statement.body.index)
        if index < length { return .known }
        if index > length { return .gap(from: length) }
        guard index < Self.entryLimit, Array(statement.body.previous) == lastHash else {
            throw MalformedBytes("entry \(index) does not follow the one before it")
        }
        lastHash = sha256(envelope.encoded).bytes
        envelopes.append(envelope)
        return .appended(statement.body, epoch: Int(clamping: statement.epoch))
    }
}
