public import Pools

/// One of four streams of messages between two peers, in strict priority; each lower one keeps a floor of 5 %.
public enum Channel: UInt8, CaseIterable, Hashable, Comparable, Sendable {
    case control, activations, exchange, bulk
    public static func < (a: Channel, b: Channel) -> Bool { a.rawValue < b.rawValue }
    /// Its place in arrays by channel.
    var place: Int { Int(rawValue) }
}

/// A value for each channel.
public struct PerChannel<Value> {
    private var control: Value, activations: Value, exchange: Value, bulk: Value
    public init(control: Value, activations: Value, exchange: Value, bulk: Value) {
        (self.control, self.activations, self.exchange, self.bulk) = (control, activations, exchange, bulk)
    }
    public init(repeating value: Value) { (control, activations, exchange, bulk) = (value, value, value, value) }
    public subscript(channel: Channel) -> Value {
        get {
            switch channel {
            case .control: control
            case .activations: activations
            case .exchange: exchange
            case .bulk: bulk
            }
        }
        _modify {
            switch channel {
            case .control: yield &control
            case .activations: yield &activations
            case .exchange: yield &exchange
            case .bulk: yield &bulk
            }
        }
    }
}
extension PerChannel: Sendable where Value: Sendable {}
extension PerChannel: Equatable where Value: Equatable {}
extension PerChannel: Hashable where Value: Hashable {}

/// A connection below a core of channels. Those that the core dials are odd; a driver numbers inbound ones evenly.
public struct ConnectionID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var value: UInt64
    public init(_ value: UInt64) { self.value = value }
    public var description: String { "connection \(value)" }
    public static func < (a: ConnectionID, b: ConnectionID) -> Bool { a.value < b.value }
}

/// What became of a message handed to ``Channels/send(_:on:to:at:)``.
public enum SendOutcome: Hashable, Sendable {
    /// It will be sent, in order, unless the peer is lost before. An interrupted connection is no loss.
    case queued
    /// This channel's queue already holds `queuedBytes`, or as much is unconfirmed; try again when it has drained.
    case full(queuedBytes: Int)
    /// No connection to the peer and none being opened.
    case notConnected
    /// Longer than the channel's messages may be.
    case tooLarge(limit: Int)
}

/// Why a peer can no longer be reached. What was sent and not answered must be counted as undelivered.
public enum LossReason: Hashable, Sendable, CustomStringConvertible {
    /// The connection ended without a word.
    case closed
    /// Pings were not answered for the silence time-out.
    case silent
    /// Dialling was given up.
    case unreachable
    /// The peer's process is another one now; it is established next.
    case restarted
    /// There was no connection for the session time-out.
    case away
    /// This side said goodbye.
    case disconnected(String)
    /// The other side said goodbye.
    case farewell(String)
    /// The peer, a member, broke the rules of the wire.
    case violation(String)
    /// It was reached and turned away: another pool, another version.
    case refused(Refusal)

    public var description: String {
        switch self {
        case .closed: "the connection was closed"
        case .silent: "the peer fell silent"
        case .unreachable: "the peer could not be reached"
        case .restarted: "the peer has started anew"
        case .away: "the peer stayed away for too long"
        case .disconnected(let why): "we left: \(why)"
        case .farewell(let why): "the peer left: \(why)"
        case .violation(let what): "the peer broke the wire protocol: \(what)"
        case .refused(let why): "refused: \(why.text)"
        }
    }
}

/// Why a connection was turned away before it was established.
public enum Refusal: Hashable, Sendable {
    case wrongPool, version, malformed, slowHello, impostor, oneself, full, crowded, keyInUse, ownKeyElsewhere
    /// It is no member of a pool that keeps members.
    case membership(PoolRefusal)
    /// The other side says that this peer is none.
    case turnedAway(PoolRefusal)

    public var text: String {
        switch self {
        case .wrongPool: "it does not hold this pool's key"
        case .version: "no wire version in common"
        case .malformed: "something else than a well-formed hello came first"
        case .slowHello: "no hello in time"
        case .impostor: "another peer answered at this address"
        case .oneself: "the address is our own"
        case .full: "too many connections"
        case .crowded: "others came, and it had proven nothing for the longest time"
        case .keyInUse:
            "another process of this peer is connected: two machines or two folders have one key, and whoever came last is heard (`atoll help ID-004`)"
        case .ownKeyElsewhere:
            "another process with this machine's own key was there since: every machine needs a folder (--data) of its own (`atoll help ID-004`)"
        case .membership(let why): why.ofAnother
        case .turnedAway(let why): why.toItself
        }
    }
    /// Dialling again will not change it.
    var isFinal: Bool {
        switch self {
        case .wrongPool, .version, .oneself, .membership, .turnedAway: true
        default: false
        }
    }
}

/// Bytes of messages exchanged with one peer since the start, by channel; frames and headers left out.
public struct Traffic: Hashable, Sendable {
    public var sent = PerChannel(repeating: 0)
    public var received = PerChannel(repeating: 0)
    public init() {}
    public var sentInAll: Int { Channel.allCases.reduce(0) { $0 + sent[$1] } }
    public var receivedInAll: Int { Channel.allCases.reduce(0) { $0 + received[$1] } }
}
