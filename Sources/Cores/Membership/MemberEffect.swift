public import Messages
public import Primitives
public import Record
public import Telemetry
public import Training
public import Wire

/// What a member asks of its driver.
public enum MemberEffect: Sendable {
    case send(Packet, to: PeerID)
    /// Keep a connection to a peer; harmless when there is one.
    case connect(PeerID, Endpoint)
    /// A connection to a peer is wanted, wherever it was reached before and through whoever carries it.
    case seek(PeerID)
    /// What this host's line carries up, as measured: activations go first on it.
    case uplink(BitRate)
    /// For the engine of this process; answers come back in order, by ``Member/computed(_:at:)``.
    indirect case compute(ComputeJob)
    /// The job's text is here and verified: the engine's data.
    case corpus(StoredBytes)
    /// Write, and answer with ``Member/stored(_:_:at:)``.
    indirect case store(StorageRequest)
    indirect case event(Event)
}

/// What a peer offers and whom it works for: its owner's decision, enforced here.
public struct MemberTerms: Sendable {
    public var name: String
    public var device: String
    public var memory: ByteCount
    /// Launchers its owner accepted.
    public var accepts: [PeerID]
    /// Jobs that may be founded anew though that drops what is certified here: their owner has said so.
    public var refounds: [Digest256] = []
    /// Else it carries the records of jobs that several electors carry, and nothing more; its memory is for their texts.
    public var computes = true
    /// Where states are put down that are kept for others, or come from them; nil for memory.
    public var room: (any ByteRoom)?
    public init(name: String, device: String, memory: ByteCount, accepts: [PeerID]) {
        self.name = name
        self.device = device
        self.memory = memory
        self.accepts = accepts
    }
}
