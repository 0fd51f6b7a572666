public import Flows
public import Primitives

/// The flows of one host of a virtual network: a ``FlowHost``, and TLS over each of its flows, as `FlowDriver` and `SecureTransport` have them
/// live. Commands, and what is told of them, are those of streams; datagrams are the network's to carry.
public struct VirtualFlows {
    public enum Effect: Sendable {
        case send([UInt8], to: Endpoint)
        case report(StreamEvent)
    }
    private struct Stream {
        /// By which its owner knows it.
        let id: UInt64
        let remote: Endpoint
        let isInbound: Bool
        let expected: PeerID?
        /// Nil until the first byte has come to the one that accepts: it says who begins.
        var session: VirtualTLS?
        var isSecure = false
        /// Its owner has closed it, and hears no more of it.
        var isClosing = false
        /// When it is cut: of a handshake, or of what is closed and still has bytes to send.
        var deadline: Instant?
    }
    private let local: PeerID
    private var host: FlowHost
    private var random: SeededGenerator
    /// By their numbers in the host; and the numbers of those that their owner knows.
    private var streams: [UInt64: Stream] = [:]
    private var numbers: [UInt64: UInt64] = [:]
    private var next: UInt64 = 1
    private var nextInbound = Self.firstInbound
    private var effects = EffectQueue<Effect>()

    /// Of flows that others open; streams of the network and of relays have other ones.
    private static let firstInbound: UInt64 = 1 << 61
    /// "The one that dialled is the TLS server: begin", as live.
    private static let serverMark: UInt8 = 0x52
    private static let handshakeTimeout: Duration = .seconds(10)
    private static let lingerTimeout: Duration = .seconds(5)

    /// - Parameters:
    ///   - poolKey: who has another one opens nothing.
    ///   - seed: of cookies, numbers and nonces; no two hosts, and no two lives of one, have the same.
    public init(local: PeerID, poolKey: [UInt8], seed: UInt64, at now: Instant) {
        self.local = local
        let key = poolKey.reduce(UInt64(0xCBF2_9CE4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
        let secret = SeededGenerator.bytes(32, seed: seed, stream: 0x666c_6f77)
        host = FlowHost(SimulatedSeals(key: key), secret: secret, at: now)
        random = SeededGenerator(seed: seed, stream: 0x6e6f_6e63_65)
    }

    /// Whether a datagram is a flow's: the overlay's begin otherwise.
    public static func isFlow(_ datagram: [UInt8]) -> Bool { datagram.first.map { $0 & 0xF0 == 0xA0 } ?? false }
    public func has(_ id: UInt64) -> Bool { numbers[id] != nil }
    public var counters: FlowCounters { host.counters }
    public var count: Int { host.flowCount }
    /// Bytes of the datagrams that the path of a flow carries.
    public func datagramSize(_ id: UInt64) -> Int? { numbers[id].flatMap { host.datagramSize($0) } }

    // MARK: commands

    /// - Parameter id: odd, and never used before by this host.
    public mutating func open(_ id: UInt64, to remote: Endpoint, expecting peer: PeerID?, at now: Instant) {
        let number = next
        next += 2
        streams[number] = Stream(
            id: id, remote: remote, isInbound: false, expected: peer, deadline: now + Self.handshakeTimeout)
        numbers[id] = number
        host.open(number, to: remote, at: now)
        drain(at: now)
    }
    /// The datagram that has the router of this host let in what comes from where it is sent; it goes no further than there.
    public mutating func opener() -> [UInt8] { host.opener() }
    public mutating func receive(_ datagram: [UInt8], from sender: Endpoint, at now: Instant) {
        host.receive(datagram, from: sender, at: now)
        drain(at: now)
    }
    public mutating func write(_ id: UInt64, _ bytes: [UInt8], at now: Instant) {
        guard let number = numbers[id], let written = streams[number]!.session?.write(bytes) else { return }
        perform(written, number, at: now)
        drain(at: now)
    }
    /// What was written still goes; nothing is reported any more.
    public mutating func close(_ id: UInt64, at now: Instant) {
        guard let number = numbers.removeValue(forKey: id) else { return }
        if streams[number]!.isSecure {
            streams[number]!.isClosing = true
            streams[number]!.deadline = now + Self.lingerTimeout
            host.finish(number, at: now)
        } else {
            streams[number] = nil
            host.close(number, at: now)
        }
        drain(at: now)
    }
    /// The process ends in good order: the other ends are told what can be told at once.
    public mutating func shutdown(at now: Instant) {
        for number in streams.keys.sorted() { host.close(number, at: now) }
        (streams, numbers) = ([:], [:])
        drain(at: now)
    }
    /// This host has another address, or another line.
    public mutating func lineChanged(at now: Instant) {
        host.lineChanged(at: now)
        drain(at: now)
    }

    // MARK: time and effects

    public mutating func wake(at now: Instant) {
        for number in streams.keys.sorted() {
            guard let deadline = streams[number]!.deadline, deadline <= now else { continue }
            fail(number, at: now)
        }
        host.wake(at: now)
        drain(at: now)
    }
    public mutating func poll() -> Effect? { effects.pop() }
    public mutating func whenToWake() -> Instant? {
        let cut = streams.isEmpty ? nil : streams.values.compactMap(\.deadline).min()
        return earliest(cut, host.whenToWake())
    }

    // MARK: what the host says

    private mutating func drain(at now: Instant) {
        while let effect = host.poll() {
            switch effect {
            case .send(let burst):
                for datagram in burst.datagrams { effects.push(.send(Array(datagram), to: burst.to)) }
            case .opened(let number, let remote, true):
                streams[number] = Stream(
                    id: nextInbound, remote: remote, isInbound: true, expected: nil,
                    deadline: now + Self.handshakeTimeout)
                numbers[nextInbound] = number
                nextInbound += 2
            case .opened(let number, _, false): begin(number, at: now)
            case .received(let number, let bytes): took(number, bytes, at: now)
            case .writable(let number, let unsent):
                guard let stream = streams[number], stream.isSecure, !stream.isClosing else { continue }
                effects.push(.report(.writable(stream.id, unsent: unsent)))
            case .ended(let number), .closed(let number, _): fail(number, at: now)
            // Who it is TLS knows, wherever it is.
            case .moved: break
            }
        }
    }
    /// The smaller key is the TLS client, whoever dialled.
    private mutating func begin(_ number: UInt64, at now: Instant) {
        guard let stream = streams[number] else { return }
        let isClient = stream.expected.map { local < $0 } ?? true
        if !isClient { host.write(number, [Self.serverMark], at: now) }
        start(number, isClient: isClient, at: now)
    }
    private mutating func start(_ number: UInt64, isClient: Bool, at now: Instant) {
        let nonce = random.bytes(16)
        var session = VirtualTLS(
            local: local, isClient: isClient, expecting: streams[number]!.expected, nonce: nonce)
        let events = session.begin()
        streams[number]!.session = session
        perform(events, number, at: now)
    }
    private mutating func took(_ number: UInt64, _ bytes: [UInt8], at now: Instant) {
        guard let stream = streams[number], !stream.isClosing else { return }
        var bytes = bytes[...]
        if stream.session == nil {
            let isMarked = bytes.first == Self.serverMark
            if isMarked { bytes = bytes.dropFirst() }
            start(number, isClient: isMarked, at: now)
        }
        guard let events = streams[number]?.session?.receive(Array(bytes)) else { return }
        perform(events, number, at: now)
    }
    private mutating func perform(_ events: [CarriedEvent], _ number: UInt64, at now: Instant) {
        for event in events {
            guard let stream = streams[number] else { return }
            switch event {
            case .ciphertext(let bytes): host.write(number, bytes, at: now)
            case .secured(let peer, let exporter):
                streams[number]!.isSecure = true
                streams[number]!.deadline = nil
                let secured = SecuredStream(
                    peer: peer, exporter: exporter, remote: stream.remote, inbound: stream.isInbound,
                    isTLSClient: local < peer, isFlow: true)
                effects.push(.report(.secured(stream.id, secured)))
            case .plaintext(let bytes): effects.push(.report(.received(stream.id, bytes)))
            case .ended: fail(number, at: now)
            }
        }
    }
    /// It is over, and its owner is told what that means to him.
    private mutating func fail(_ number: UInt64, at now: Instant) {
        guard let stream = streams.removeValue(forKey: number) else { return }
        numbers[stream.id] = nil
        host.close(number, at: now)
        guard !stream.isClosing else { return }
        if stream.isSecure {
            effects.push(.report(.closed(stream.id)))
        } else if !stream.isInbound {
            effects.push(.report(.dialFailed(stream.id, isRefused: false)))
        }
    }
}
