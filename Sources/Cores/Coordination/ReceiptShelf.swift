import Digests
import Messages
import Primitives
import Record
import Wire

/// Receipts that an elector has, with the entries that rest on them: each is opened once, some at a time, so that whoever comes to lead need
/// not open those of the whole job at once.
struct ReceiptShelf: Sendable {
    private let job: Digest256
    private(set) var opened: [(peer: PeerID, receipt: Receipt)] = []
    private(set) var envelopes: [PBEnvelope] = []
    private var waiting: ArraySlice<PBEnvelope> = []
    private var known: Set<Digest256> = []
    /// A few milliseconds of work.
    static let atOnce = 32
    /// After so long the next ones.
    static let pause = Duration.milliseconds(1)

    init(job: Digest256) { self.job = job }

    var isOpen: Bool { waiting.isEmpty }

    /// What makes two receipts one. Whoever does a round again, in another's place, comes to the same, and signs the same body: that is its receipt,
    /// and not the other's.
    static func name(of envelope: PBEnvelope) -> Digest256 {
        sha256([UInt8](envelope.signer) + [UInt8](envelope.body))
    }

    /// - Parameter isCounted: whether the leader here has opened and counted it.
    mutating func add(_ envelope: PBEnvelope, isCounted: Bool = false) {
        guard known.insert(Self.name(of: envelope)).inserted else { return }
        if isCounted { open(envelope) } else { waiting.append(envelope) }
    }
    mutating func openSome() {
        guard !waiting.isEmpty else { return }
        for envelope in waiting.prefix(Self.atOnce) { open(envelope) }
        waiting.removeFirst(min(Self.atOnce, waiting.count))
    }
    /// Of the rounds from one on.
    func envelopes(since round: Int) -> [PBEnvelope] {
        zip(opened, envelopes).compactMap { $0.receipt.work.round >= round ? $1 : nil }
    }
    mutating func openAll() { while !isOpen { openSome() } }
    /// One that does not verify is nobody's word.
    private mutating func open(_ envelope: PBEnvelope) {
        guard let (signer, receipt) = try? Receipt.open(envelope, job: job, wall: nil) else { return }
        opened.append((signer, receipt))
        envelopes.append(envelope)
    }
}
