public import EventLoop
public import Links
public import Primitives

/// What a process pretends its links to be, when many peers share one machine. Switched off in real runs.
public struct ShapingPlan: Sendable {
    public var up: BitRate?
    public var down: BitRate?
    /// By remote address: 4 or 16 bytes.
    public var links: [[UInt8]: LinkProperties]
    /// For addresses that are not listed.
    public var other: LinkProperties
    /// All time is multiplied by this: rates are divided, latencies multiplied. 1 for real time.
    public var stretch: Double
    public var seed: UInt64
    /// It is not pretended: these are the most that an owner allows, to hosts beyond the local network.
    var isCap = false
    /// Of a cap: hosts of the local network count, too.
    var isForAll = true

    static func cap(up: BitRate?, down: BitRate?, forAll: Bool) -> ShapingPlan {
        var plan = ShapingPlan(up: up, down: down, seed: 0)
        (plan.isCap, plan.isForAll) = (true, forAll)
        return plan
    }
    public init(
        up: BitRate?, down: BitRate?, links: [[UInt8]: LinkProperties] = [:],
        other: LinkProperties = LinkProperties(latency: .zero), stretch: Double = 1, seed: UInt64
    ) {
        (self.up, self.down, self.links, self.other) = (up, down, links, other)
        (self.stretch, self.seed) = (stretch, seed)
    }

    /// Of a receiving cap what is taken: what senders have under way when it begins to bite comes besides, up to ``aheadSeconds`` of it.
    var pacedDown: BitRate? {
        guard isCap else { return stretched(down) }
        return down.map { BitRate(bitsPerSecond: 0.97 * $0.bitsPerSecond) }
    }
    static let aheadSeconds = 0.6

    func stretched(_ rate: BitRate?) -> BitRate? { rate.map { BitRate(bitsPerSecond: $0.bitsPerSecond / stretch) } }
    func link(to address: [UInt8]) -> LinkProperties {
        var link = links[address] ?? other
        link.latency = link.latency * stretch
        link.jitter = link.jitter * stretch
        link.rate = stretched(link.rate)
        return link
    }
}

/// The links of one process: TCP and UDP wait here for one up line and one down line. Confined to the loop.
public final class LinkShaper {
    enum Cargo {
        /// Ciphertext.
        case stream([UInt8])
        case datagram([UInt8], Endpoint)
    }
    private let loop: Loop
    private var plan: ShapingPlan
    private var shaper: Shaper<Cargo>
    private var reception: Reception<Cargo>
    private var timer: Timer?
    private var known: Set<HostID> = []
    private var isDraining = false
    /// By stream.
    var onSend: [UInt64: ([UInt8]) -> Void] = [:]
    var onReceive: [UInt64: ([UInt8]) -> Void] = [:]
    var onSendDatagram: (([UInt8], Endpoint) -> Void)?
    var onReceiveDatagram: (([UInt8], Endpoint) -> Void)?

    public init(_ loop: Loop, _ plan: ShapingPlan) {
        precondition(plan.stretch > 0, "time can be stretched by a positive factor only")
        self.loop = loop
        self.plan = plan
        shaper = Shaper(up: plan.stretched(plan.up), seed: plan.seed)
        reception = Reception(down: plan.pacedDown)
        timer = Timer(loop) { [unowned self] in wake() }
    }

    /// Whether what goes there and comes from there waits here.
    func shapes(_ endpoint: Endpoint) -> Bool { plan.isForAll || !endpoint.isPrivate }
    var isCap: Bool { plan.isCap }
    /// Other caps than before.
    func cap(up: BitRate?, down: BitRate?) {
        (plan.up, plan.down) = (up, down)
        shaper.setUp(up)
        reception.setDown(plan.pacedDown)
        onRoom?()
        wake()
    }
    /// Bytes that may wait on the down line before a stream is read no more.
    var receiveHigh: Int { receiveShare.map { $0 / 5 } ?? Self.usualReceiveHigh }
    /// What the kernel may take ahead of that, of each stream; nil: what it likes. All that it has is read at once, and then it may take as much again.
    var kernelReceive: Int? { receiveShare.map { 2 * $0 / 5 } }
    /// Under a receiving cap, what of a stream may have come and not passed: of all together so much of a second's bytes that, with the line paced
    /// a little below the cap, no ten seconds carry more than a twentieth above it. With many streams and a small cap 4 KiB each.
    private var receiveShare: Int? {
        guard plan.isCap, let down = plan.down else { return nil }
        let each = Int(down.bytesPerSecond * ShapingPlan.aheadSeconds) / max(1, onReceive.count)
        return max(4096, min(5 * Self.usualReceiveHigh, each))
    }
    private static let usualReceiveHigh = 262_144
    /// Of a slow cap less goes at once: what any ten seconds carry stays within it.
    private var chunkBytes: Int { pieces(of: plan.up) }
    private func pieces(of rate: BitRate?) -> Int {
        guard plan.isCap, let rate else { return Shaping.chunkBytes }
        return max(1024, min(Shaping.chunkBytes, Int(rate.bytesPerSecond / 8)))
    }
    /// What a stream may have in the kernel is another than before.
    var onRoom: (() -> Void)?

    func host(_ endpoint: Endpoint) -> HostID {
        // Under a cap all hosts share one lane: nobody makes it remember one more.
        if plan.isCap { return HostID(0) }
        // FNV-1a over the address: the same number in every process, so jitter and loss are too.
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in endpoint.address { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        let host = HostID(hash)
        if known.insert(host).inserted { shaper.setLink(to: host, plan.link(to: endpoint.address)) }
        return host
    }
    func send(_ bytes: UnsafeRawBufferPointer, to host: HostID, stream: UInt64) {
        let (now, chunkBytes) = (loop.now, chunkBytes)
        for start in stride(from: 0, to: bytes.count, by: chunkBytes) {
            let piece = [UInt8](bytes[start..<min(start + chunkBytes, bytes.count)])
            shaper.offerStream(bytes: piece.count, .stream(piece), to: host, stream: stream, at: now)
        }
        drain()
    }
    func received(_ bytes: UnsafeRawBufferPointer, from host: HostID, stream: UInt64) {
        let (now, chunkBytes) = (loop.now, pieces(of: plan.down))
        for start in stride(from: 0, to: bytes.count, by: chunkBytes) {
            let piece = [UInt8](bytes[start..<min(start + chunkBytes, bytes.count)])
            reception.arrive(Parcel(host: host, stream: stream, bytes: piece.count, payload: .stream(piece)), at: now)
        }
        drain()
    }
    func sendDatagram(_ bytes: [UInt8], to endpoint: Endpoint) {
        guard !bytes.isEmpty else { return }
        shaper.offerDatagram(bytes: bytes.count, .datagram(bytes, endpoint), to: host(endpoint), at: loop.now)
        drain()
    }
    func receivedDatagram(_ bytes: [UInt8], from endpoint: Endpoint) {
        let parcel = Parcel(
            host: host(endpoint), stream: nil, bytes: bytes.count, payload: Cargo.datagram(bytes, endpoint))
        reception.arrive(parcel, at: loop.now)
        drain()
    }
    /// Bytes that wait for the up line.
    func queuedToSend(to host: HostID, stream: UInt64) -> Int { shaper.queuedBytes(to: host, stream: stream) }
    func queuedToReceive(from host: HostID, stream: UInt64) -> Int {
        reception.queuedBytes(from: host, stream: stream)
    }
    func cancel(_ host: HostID, stream: UInt64) {
        shaper.cancel(to: host, stream: stream)
        reception.cancel(from: host, stream: stream)
        onSend[stream] = nil
        onReceive[stream] = nil
        onRoom?()
    }
    /// Datagrams that the modelled links lost.
    public var datagramsLost: Int { shaper.datagramsLost }

    private func wake() {
        let now = loop.now
        shaper.wake(at: now)
        reception.wake(at: now)
        drain()
    }
    private func drain() {
        // What is delivered may send again; that is drained by the call under way.
        if isDraining { return }
        isDraining = true
        while true {
            if let effect = shaper.poll() {
                if case .arrive(let parcel) = effect { forward(parcel, onSend, onSendDatagram) }
            } else if case .deliver(let parcel)? = reception.poll() {
                forward(parcel, onReceive, onReceiveDatagram)
            } else {
                break
            }
        }
        isDraining = false
        timer?.arm(at: earliest(shaper.nextWake, reception.nextWake))
    }
    private func forward(
        _ parcel: Parcel<Cargo>, _ streams: [UInt64: ([UInt8]) -> Void], _ datagrams: (([UInt8], Endpoint) -> Void)?
    ) {
        switch parcel.payload {
        case .stream(let bytes)?: if let stream = parcel.stream { streams[stream]?(bytes) }
        case .datagram(let bytes, let endpoint)?: datagrams?(bytes, endpoint)
        case nil: break
        }
    }
    public func close() { timer?.close() }
}
