/// What a transport of secure streams reports; the commands to it are to dial, to write and to close. Live it is TCP or a flow
/// over datagrams with TLS above; simulated, handshake legs and records of their true sizes. Whoever is above cannot tell.
///
/// Streams have numbers: those dialled here are odd and of the caller's choice, others even. After a `close` nothing more is
/// reported about a stream.
public enum StreamEvent: Sendable {
    /// The handshake is done: both sides have proven their keys.
    case secured(UInt64, SecuredStream)
    /// A dial did not lead to a secure stream, or to another peer than expected; refused when the machine said that nobody
    /// listens there.
    case dialFailed(UInt64, isRefused: Bool)
    case received(UInt64, [UInt8])
    /// The transport holds `unsent` bytes of the stream, after some have gone.
    case writable(UInt64, unsent: Int)
    /// A secure stream ended.
    case closed(UInt64)
}

/// What TLS over bytes that the core itself carries reports: of a relayed stream. The commands to it are to begin, to take ciphertext, to write
/// and to close; each is answered by these.
public enum CarriedEvent: Hashable, Sendable {
    /// To be carried to the other end.
    case ciphertext([UInt8])
    /// The handshake is done: both sides have proven their keys. The exporter has 32 bytes.
    case secured(PeerID, exporter: [UInt8])
    case plaintext([UInt8])
    /// It is over: broken, another key than expected, or closed here. Ciphertext that came before is still to be carried.
    case ended
}

/// What is known of a stream once it is secure.
public struct SecuredStream: Hashable, Sendable {
    public var peer: PeerID
    /// 32 bytes that both ends derive from this TLS session (RFC 8446, §7.5).
    public var exporter: [UInt8]
    /// The address at the other end.
    public var remote: Endpoint
    public var inbound: Bool
    public var isTLSClient: Bool
    /// Its bytes go in datagrams.
    public var isFlow: Bool
    public init(
        peer: PeerID, exporter: [UInt8], remote: Endpoint, inbound: Bool, isTLSClient: Bool, isFlow: Bool = false
    ) {
        self.peer = peer
        self.exporter = exporter
        self.remote = remote
        self.inbound = inbound
        self.isTLSClient = isTLSClient
        self.isFlow = isFlow
    }
}
