internal import Digests
public import Primitives

/// Datagrams of one destination and one size (the last may be shorter), to be sent in one call where the kernel can.
public struct FlowBurst: Hashable, Sendable {
    public let bytes: [UInt8]
    /// Bytes of each datagram.
    public let segment: Int
    public let to: Endpoint
    public var datagrams: [ArraySlice<UInt8>] {
        stride(from: 0, to: bytes.count, by: segment).map { bytes[$0..<min($0 + segment, bytes.count)] }
    }
}

/// All flows at one datagram socket: opens and accepts them, finds whose a datagram is, shares the line among them. No socket, no clock.
///
/// Flows have numbers: odd ones of the caller's choice for those opened here, even ones for others. After ``Effect/closed(_:_:)``, or a call
/// of ``close(_:at:)``, nothing more is said about a flow.
public struct FlowHost: Core, Sendable {
    public enum Effect: Hashable, Sendable {
        case send(FlowBurst)
        /// A flow can be written to. An inbound one has just come into being.
        case opened(UInt64, remote: Endpoint, isInbound: Bool)
        case received(UInt64, [UInt8])
        /// Bytes have gone; so many, fewer than ``FlowHost/writableBelow``, were not sent yet.
        case writable(UInt64, unsent: Int)
        /// The other end will send no more bytes.
        case ended(UInt64)
        case closed(UInt64, FlowEnd)
        /// The other end is somewhere else now, and has proven it.
        case moved(UInt64, to: Endpoint)
    }
    public static let writableBelow = 131_072
    /// Most bytes and datagrams of a burst: what one call of the kernel takes.
    static let mostBurst = 60_000
    static let mostSegments = 40

    /// Of the pool's keys that are right now, the one to seal with first.
    private(set) var makers: [any SealMaker]
    let jar: CookieJar
    let sizes: [Int]
    var random: SecretGenerator
    var flows = FlowTable()
    /// By the ID that packets bear, and by the number that the owner knows.
    var connections: [UInt64: Int] = [:]
    var numbers: [UInt64: Int] = [:]
    var lines: [LineController]
    var now: Instant
    /// When what is being received was here: before `now` by what this process was late.
    var arrived: Instant
    var effects = EffectQueue<Effect>()
    var isDirty = false
    private var turns = [0, 0]
    var nextInbound: UInt64 = 2
    /// Window beyond the first that flows have, together.
    var grantedWindows = 0
    var goneAt = Instant(nanoseconds: .min / 2)
    public internal(set) var counters = FlowCounters()

    /// - Parameters:
    ///   - maker: seals of the pool's key.
    ///   - secret: 32 random bytes that nobody else knows: cookies, connection IDs and challenges come from it.
    ///   - sizes: of datagrams that are tried above 1200 bytes, ascending.
    public init(
        _ maker: any SealMaker, secret: [UInt8], sizes: [Int] = FlowLimits.datagramSizes, at now: Instant
    ) {
        precondition(secret.count >= 16, "a secret of \(secret.count) bytes can be guessed")
        makers = [maker]
        self.sizes = sizes
        self.now = now
        arrived = now
        jar = CookieJar(secret: secret)
        random = SecretGenerator(secret: secret)
        lines = [LineController(at: now), LineController(at: now)]
    }

    // MARK: the owner's inputs

    /// The pool's key is being changed: flows are opened with the first of these, others' with any. Those that are open keep their seals.
    public mutating func use(_ makers: [any SealMaker]) {
        precondition(!makers.isEmpty, "flows without a key")
        self.makers = makers
    }
    /// Opens a flow to an address. ``Effect/opened(_:remote:isInbound:)`` or ``Effect/closed(_:_:)`` follows; it may be written to at once.
    public mutating func open(_ id: UInt64, to remote: Endpoint, at now: Instant) {
        precondition(id % 2 == 1 && numbers[id] == nil, "flow \(id) exists, or has the number of an inbound one")
        self.now = now
        guard flows.count < FlowLimits.flows else {
            counters.crowded += 1
            effects.push(.closed(id, .crowded))
            return
        }
        let names = Flow.Names(id: id, isInbound: false, local: random.next(), other: 0)
        let slot = add(Flow(names, makers[0], remote, .greeting(0), sizes: sizes, seed: random.next(), at: now))
        greet(slot)
    }
    /// A datagram for the socket's owner to send with so few hops that it passes the router in front of this machine and no other: so that one lets
    /// in what comes from there.
    public mutating func opener() -> [UInt8] { FlowPacket.opener(salt: random.bytes(FlowPacket.saltBytes)) }
    /// Bytes for the other end. The caller keeps to ``Effect/writable(_:unsent:)``.
    public mutating func write(_ id: UInt64, _ bytes: [UInt8], at now: Instant) {
        guard let slot = numbers[id], flows[slot].sending.isOpen else { return }
        touch(now)
        flows[slot].sending.write(bytes)
    }
    public mutating func write(_ id: UInt64, _ bytes: UnsafeRawBufferPointer, at now: Instant) {
        guard let slot = numbers[id], flows[slot].sending.isOpen else { return }
        touch(now)
        flows[slot].sending.write(bytes)
    }
    /// No more bytes will be written; those that were still go.
    public mutating func finish(_ id: UInt64, at now: Instant) {
        guard let slot = numbers[id] else { return }
        touch(now)
        flows[slot].sending.finish()
    }
    /// Ends a flow at once; the other end hears of it if it can.
    public mutating func close(_ id: UInt64, at now: Instant) {
        guard let slot = numbers[id] else { return }
        self.now = now
        remove(slot, saying: .closed)
    }
    /// While held, a flow hands on nothing, and its window closes.
    public mutating func hold(_ id: UInt64, _ isHeld: Bool, at now: Instant) {
        guard let slot = numbers[id] else { return }
        touch(now)
        if isHeld { flows[slot].marks.insert(.held) } else { flows[slot].marks.remove(.held) }
    }
    /// This machine has another address, or another line: everybody is told, and nothing that was learnt holds.
    public mutating func lineChanged(at now: Instant) {
        touch(now)
        lines = [LineController(at: now), LineController(at: now)]
        for slot in flows.places where flows.has(slot) && flows[slot].isOpen {
            flows[slot].arriveElsewhere(flows[slot].remote, sizes: sizes, at: now)
        }
    }

    // MARK: what is known

    /// Not sent yet of what was written.
    public func unsent(_ id: UInt64) -> Int { numbers[id].map { flows[$0].sending.unsent } ?? 0 }
    public func remote(_ id: UInt64) -> Endpoint? { numbers[id].map { flows[$0].remote } }
    public func roundTrip(_ id: UInt64) -> Duration? { numbers[id].flatMap { flows[$0].roundTrip.latest } }
    /// Bytes of the datagrams that the path of a flow carries.
    public func datagramSize(_ id: UInt64) -> Int? { numbers[id].map { flows[$0].mtu.size } }
    public var flowCount: Int { numbers.count }
    /// The rate of the line to other networks; nil before anything was measured.
    public var lineRate: BitRate? { lines[0].rate.map { BitRate(bitsPerSecond: $0 * 8) } }
    /// What waited on it in the last round.
    public var lineQueue: Duration { .nanoseconds(Int64(lines[0].queue * 1e9)) }
    /// Memory for bytes that came and wait.
    package var receiveMemory: Int {
        flows.places.reduce(0) { flows.has($1) ? $0 + flows[$1].receiving.memory : $0 }
    }

    // MARK: time and effects

    public mutating func wake(at now: Instant) {
        touch(now)
        for line in lines.indices { lines[line].wake(at: now) }
        for slot in flows.places where flows.has(slot) { wake(slot) }
    }
    private mutating func wake(_ slot: Int) {
        switch flows[slot].state {
        case .greeting(let tries):
            if flows[slot].isSilent(at: now) {
                end(slot, .timedOut)
            } else if now - flows[slot].clock.sentAt >= Flow.helloInterval(tries) {
                greet(slot)
            }
        case .lingering(let until): if until <= now { forget(slot) }
        case .beginning, .open:
            if flows[slot].isSilent(at: now) {
                end(slot, .timedOut)
            } else {
                let line = flows[slot].line
                flows[slot].wake(&lines[line], slot: slot, at: now)
            }
        }
    }
    public mutating func poll() -> Effect? {
        if let effect = effects.pop() { return effect }
        guard isDirty else { return nil }
        isDirty = false
        pump()
        return effects.pop()
    }
    /// Of a copy; drivers, whose own it is, ask ``whenToWake()``.
    public var nextWake: Instant? {
        var copy = self
        return copy.whenToWake()
    }
    public mutating func whenToWake() -> Instant? {
        if isDirty { return now }
        var next: Instant?
        for slot in flows.places where flows.has(slot) {
            next = earliest(next, flows[slot].whenToWake())
            guard flows[slot].hasBytes, let ready = lines[flows[slot].line].ready(at: now) else { continue }
            next = earliest(next, ready)
        }
        return next
    }
    mutating func touch(_ now: Instant) {
        self.now = now
        isDirty = true
    }

    // MARK: flows come and go

    mutating func add(_ flow: Flow) -> Int {
        let names = flow.names
        let slot = flows.add(flow)
        connections[names.local] = slot
        numbers[names.id] = slot
        return slot
    }
    /// It is over, and its owner is told.
    mutating func end(_ slot: Int, _ why: FlowEnd) {
        guard flows.has(slot) else { return }
        hand(slot)
        let id = flows[slot].names.id
        if numbers[id] == slot { effects.push(.closed(id, why)) }
        forget(slot)
    }
    /// It is over, and the other end is told.
    mutating func remove(_ slot: Int, saying why: FlowEnd) {
        if flows[slot].isReady, flows[slot].isOpen {
            let bytes = flows[slot].writeAlone(.close, UInt64(why.rawValue), width: 1, at: now)
            effects.push(.send(FlowBurst(bytes: bytes, segment: bytes.count, to: flows[slot].remote)))
        }
        forget(slot)
    }
    mutating func forget(_ slot: Int) {
        guard flows.has(slot) else { return }
        let (local, id) = (flows[slot].names.local, flows[slot].names.id)
        grantedWindows -= flows[slot].receiving.window - FlowLimits.firstWindow
        connections[local] = nil
        if numbers[id] == slot { numbers[id] = nil }
        counters.blackHoles += flows[slot].mtu.blackHoles
        flows.remove(slot)
    }
    /// Hands on what is in order.
    mutating func hand(_ slot: Int) {
        guard flows[slot].isOpen, !flows[slot].marks.contains(.held) else { return }
        let id = flows[slot].names.id
        if !flows[slot].receiving.ready.isEmpty { effects.push(.received(id, flows[slot].receiving.takeReady())) }
        if flows[slot].receiving.isComplete, !flows[slot].marks.contains(.ended) {
            flows[slot].marks.insert(.ended)
            effects.push(.ended(id))
        }
    }

    // MARK: sending

    private mutating func pump() {
        for slot in flows.places where flows.has(slot) && flows[slot].isReady { settle(slot) }
        for line in lines.indices { fill(line) }
        for slot in flows.places where flows.has(slot) && flows[slot].marks.contains(.progress) {
            let unsent = flows[slot].sending.unsent
            guard unsent < Self.writableBelow, flows[slot].isOpen else { continue }
            flows[slot].marks.remove(.progress)
            effects.push(.writable(flows[slot].names.id, unsent: unsent))
        }
    }
    /// Everything about a flow but its share of the line.
    private mutating func settle(_ slot: Int) {
        hand(slot)
        let spare = FlowLimits.windows - grantedWindows
        let (isDue, grown) = flows[slot].receiving.regrant(
            roundTrip: flows[slot].roundTrip.smoothed, spare: spare, at: now)
        grantedWindows += grown
        if isDue { flows[slot].marks.insert(.window) }
        while flows[slot].clock.probes > 0 {
            flows[slot].clock.probes -= 1
            send(slot, .probe, size: flows[slot].mtu.size)
        }
        if flows[slot].isOpen, flows[slot].path.law != nil, flows[slot].sending.unacknowledged > 0,
            let size = flows[slot].mtu.probe(at: now)
        {
            flows[slot].mtu.probed(size)
            send(slot, .size, size: size)
        }
        if flows[slot].received.isDue(at: now) || !flows[slot].marks.isDisjoint(with: [.window, .ping]) {
            // With bytes of the stream, where some may go at once.
            send(slot, .control, size: flows[slot].mtu.size)
        }
        guard flows[slot].isOpen, flows[slot].sending.isFinished, flows[slot].marks.contains(.ended) else { return }
        let id = flows[slot].names.id
        effects.push(.closed(id, .closed))
        numbers[id] = nil
        flows[slot].state = .lingering(until: now + flows[slot].roundTrip.persistence + FlowLimits.linger)
    }
    private mutating func send(_ slot: Int, _ load: Flow.Load, size: Int) {
        var bytes: [UInt8] = []
        guard let count = flows[slot].write(load, size: size, to: &bytes, at: now) else { return }
        if load != .control { lines[flows[slot].line].sent(count, packets: 1, at: now) }
        effects.push(.send(FlowBurst(bytes: bytes, segment: count, to: flows[slot].remote)))
    }

    /// Bursts of a line's flows in turn, as long as its rate lets them.
    private mutating func fill(_ line: Int) {
        var passed = 0
        while passed < flows.places.count {
            turns[line] = (turns[line] + 1) % flows.places.count
            let slot = turns[line]
            guard flows.has(slot), flows[slot].line == line, flows[slot].hasBytes else {
                passed += 1
                continue
            }
            guard lines[line].ready(at: now) == nil else {
                held(slot)
                return lines[line].awaited(true)
            }
            passed = sendBurst(slot) ? 0 : passed + 1
        }
        lines[line].awaited(false)
    }
    private mutating func sendBurst(_ slot: Int) -> Bool {
        let line = flows[slot].line
        let size = flows[slot].mtu.size
        let window = flows[slot].path.window(lines[line], packet: size)
        var room = min(window - flows[slot].sent.bytesInFlight, lines[line].burst)
        guard room >= size else {
            held(slot)
            return false
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(room, Self.mostBurst))
        var packets = 0
        while room >= size, packets < Self.mostSegments, bytes.count + size <= Self.mostBurst,
            flows[slot].sending.hasPiece,
            let count = flows[slot].write(.stream, size: size, to: &bytes, at: now)
        {
            packets += 1
            room -= count
            if count < size { break }
        }
        guard packets > 0 else { return false }
        lines[line].sent(bytes.count, packets: packets, at: now)
        effects.push(.send(FlowBurst(bytes: bytes, segment: min(size, bytes.count), to: flows[slot].remote)))
        return true
    }
    /// A flow had more to send than it may: the line's rate, or its path's, may grow.
    private mutating func held(_ slot: Int) {
        let line = flows[slot].line
        guard let lineRate = lines[line].rate, let own = flows[slot].path.law?.rate else { return }
        let share = lineRate / Double(lines[line].flows)
        if own > share / 2 { lines[line].limited() }
        if own < share * 2 { flows[slot].path.limited() }
    }
}
