public import Primitives

/// The ends of relayed circuits at one daemon: streams of ciphertext, each in pieces that relays carry.
///
/// TLS is somebody else's: ``Effect/begin(_:with:isClient:)`` asks for it, what it wants sent comes in through ``carry(_:_:at:)``, what came for
/// it goes out as ``Effect/ciphertext(_:_:)``. Streams have numbers: odd ones of the caller's choice, even ones for those that others opened.
public struct Circuits: Sendable {
    public enum Effect: Hashable, Sendable {
        case send(CarriageMessage, to: PeerID)
        case begin(UInt64, with: PeerID, isClient: Bool)
        case ciphertext(UInt64, [UInt8])
        case writable(UInt64, unsent: Int)
        /// The circuit is gone; nothing follows.
        case ended(UInt64, CircuitEnd, Stream)
    }
    /// What is known of a stream.
    public struct Stream: Hashable, Sendable {
        public let peer: PeerID
        public let relay: PeerID
        public let isInbound: Bool
        /// Where the relay sees the other end; nil before it has said so.
        public fileprivate(set) var endpoint: Endpoint?
    }
    private struct Circuit: Sendable {
        var stream: Stream
        let leg: UInt32
        var waiting: [UInt8] = []
        var window = CircuitWindow()
        /// Taken and not yet granted again.
        var owed = 0
        /// Bytes that may still come.
        var grant = RelayLimits.window
        var isClosing = false
    }
    private struct Leg: Hashable {
        let relay: PeerID
        let number: UInt32
    }
    private let local: PeerID
    private var circuits: [UInt64: Circuit] = [:]
    private var ids: [Leg: UInt64] = [:]
    private var given: [PeerID: UInt32] = [:]
    private var inbound: UInt64 = 0
    private var effects = EffectQueue<Effect>()
    /// Circuits of relays that broke the rules.
    public private(set) var violations = 0

    /// Streams that others may have opened to here, through one relay.
    private static let mostInbound = 64
    private static let firstInbound: UInt64 = 1 << 62
    /// Granted again in portions of this.
    private static let portion = 8_192
    /// Less is not sent alone, unless it is all that there is. With what the other end has not granted again this fits the least window.
    private static let crumb = 4_096

    public init(local: PeerID) { self.local = local }

    public subscript(id: UInt64) -> Stream? { circuits[id]?.stream }
    public var isEmpty: Bool { circuits.isEmpty }
    /// Whether a stream with a peer goes through a relay.
    public func has(_ peer: PeerID, via relay: PeerID) -> Bool {
        circuits.values.contains { $0.stream.peer == peer && $0.stream.relay == relay }
    }
    public mutating func poll() -> Effect? { effects.pop() }

    /// A stream to a peer, through a relay that this daemon has a session with.
    public mutating func open(_ id: UInt64, to peer: PeerID, via relay: PeerID) {
        precondition(circuits[id] == nil, "stream \(id) exists")
        let number = LegNumber.next(given[relay, default: 0], asRelay: false, local: local, peer: relay)
        given[relay, default: 0] &+= 1
        add(id, Circuit(stream: Stream(peer: peer, relay: relay, isInbound: false), leg: number))
        effects.push(.send(.open(leg: number, to: peer), to: relay))
    }
    /// What TLS wants sent.
    public mutating func carry(_ id: UInt64, _ ciphertext: [UInt8], at now: Instant) {
        guard circuits[id] != nil else { return }
        circuits[id]!.waiting += ciphertext
        fill(id, at: now)
    }
    /// What waits is still sent; nothing more is said about the stream.
    public mutating func close(_ id: UInt64, at now: Instant) {
        guard circuits[id] != nil else { return }
        circuits[id]!.isClosing = true
        finishIfEmpty(id)
    }
    /// The session with a relay is over.
    public mutating func lost(_ relay: PeerID) {
        for id in circuits.keys.sorted() where circuits[id]!.stream.relay == relay { end(id, .gone) }
        given[relay] = nil
    }

    /// - Parameter isExpected: this daemon has a berth at the relay, so that others may reach it there.
    public mutating func receive(
        _ message: CarriageMessage, from relay: PeerID, isExpected: Bool, at now: Instant
    ) {
        switch message {
        case .incoming(let leg, let peer, let endpoint):
            incoming(leg, from: peer, at: endpoint, relay, isExpected)
        case .opened(let leg, let endpoint):
            guard let id = ids[Leg(relay: relay, number: leg)], !circuits[id]!.stream.isInbound,
                circuits[id]!.stream.endpoint == nil
            else { return }
            circuits[id]!.stream.endpoint = endpoint
            begin(id)
        case .data(let leg, let bytes): take(bytes, Leg(relay: relay, number: leg))
        case .credit(let leg, let bytes):
            guard let id = ids[Leg(relay: relay, number: leg)] else { return }
            guard circuits[id]!.window.credit(bytes, at: now) else { return violated(id) }
            fill(id, at: now)
        case .closed(let leg, let why): if let id = ids[Leg(relay: relay, number: leg)] { end(id, why) }
        default: break
        }
    }
    private mutating func incoming(
        _ leg: UInt32, from peer: PeerID, at endpoint: Endpoint, _ relay: PeerID, _ isExpected: Bool
    ) {
        guard LegNumber.isOthers(leg, asRelay: true, local: local, peer: relay),
            ids[Leg(relay: relay, number: leg)] == nil
        else {
            violations += 1
            return
        }
        let here = circuits.values.count { $0.stream.isInbound && $0.stream.relay == relay }
        guard isExpected, peer != local, peer != relay, here < Self.mostInbound else {
            return effects.push(.send(.closed(leg: leg, .refused), to: relay))
        }
        inbound += 2
        let id = Self.firstInbound + inbound
        add(id, Circuit(stream: Stream(peer: peer, relay: relay, isInbound: true, endpoint: endpoint), leg: leg))
        begin(id)
    }
    private mutating func add(_ id: UInt64, _ circuit: Circuit) {
        circuits[id] = circuit
        ids[Leg(relay: circuit.stream.relay, number: circuit.leg)] = id
    }
    private mutating func begin(_ id: UInt64) {
        let peer = circuits[id]!.stream.peer
        effects.push(.begin(id, with: peer, isClient: local < peer))
    }

    private mutating func take(_ bytes: [UInt8], _ leg: Leg) {
        guard let id = ids[leg], !bytes.isEmpty else { return }
        guard bytes.count <= circuits[id]!.grant, circuits[id]!.stream.endpoint != nil else { return violated(id) }
        circuits[id]!.grant -= bytes.count
        circuits[id]!.owed += bytes.count
        if circuits[id]!.owed >= Self.portion {
            let owed = circuits[id]!.owed
            circuits[id]!.owed = 0
            circuits[id]!.grant += owed
            effects.push(.send(.credit(leg: leg.number, bytes: owed), to: leg.relay))
        }
        if !circuits[id]!.isClosing { effects.push(.ciphertext(id, bytes)) }
    }
    private mutating func fill(_ id: UInt64, at now: Instant) {
        guard let circuit = circuits[id], circuit.stream.endpoint != nil else { return }
        var start = 0
        while start < circuit.waiting.count {
            let room = circuits[id]!.window.room
            let piece = min(CarriageMessage.dataBytes, circuit.waiting.count - start)
            // No crumbs: a message has a head of its own.
            guard room >= min(piece, Self.crumb) else { break }
            let end = start + min(piece, room)
            circuits[id]!.window.send(end - start, at: now)
            effects.push(.send(.data(leg: circuit.leg, Array(circuit.waiting[start..<end])), to: circuit.stream.relay))
            start = end
        }
        guard start > 0 else { return }
        circuits[id]!.waiting.removeFirst(start)
        if !circuit.isClosing { effects.push(.writable(id, unsent: circuits[id]!.waiting.count)) }
        finishIfEmpty(id)
    }
    private mutating func finishIfEmpty(_ id: UInt64) {
        guard let circuit = circuits[id], circuit.isClosing, circuit.waiting.isEmpty || circuit.stream.endpoint == nil
        else { return }
        effects.push(.send(.closed(leg: circuit.leg, .done), to: circuit.stream.relay))
        remove(id)
    }
    private mutating func violated(_ id: UInt64) {
        violations += 1
        let circuit = circuits[id]!
        effects.push(.send(.closed(leg: circuit.leg, .broken), to: circuit.stream.relay))
        end(id, .broken)
    }
    private mutating func end(_ id: UInt64, _ why: CircuitEnd) {
        guard let circuit = circuits[id] else { return }
        remove(id)
        if !circuit.isClosing { effects.push(.ended(id, why, circuit.stream)) }
    }
    private mutating func remove(_ id: UInt64) {
        guard let circuit = circuits.removeValue(forKey: id) else { return }
        ids[Leg(relay: circuit.stream.relay, number: circuit.leg)] = nil
    }
}
