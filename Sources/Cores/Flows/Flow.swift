internal import Primitives

/// One reliable stream of bytes to and from one other end, over datagrams that may be lost, doubled, reordered or delayed.
///
/// What is asked of a flow with every packet or burst is `mutating`, though it changes nothing: a method of a value this large that only looks at it is
/// handed a copy, inlined or not, and that is a count for each of its fifteen references.
///
/// A flow authenticates nobody: that is TLS' part, inside. It is owned by a ``FlowHost``, which finds it by its connection ID and gives it its share of
/// the line.
struct Flow: Sendable {
    enum State: Hashable, Sendable {
        /// Hellos were sent, so many.
        case greeting(Int)
        /// The cookie goes with every packet until the other end has answered.
        case beginning
        case open
        /// Over for its owner; it still tells the other end what has come.
        case lingering(until: Instant)
    }
    struct Marks: OptionSet, Sendable {
        let rawValue: UInt8
        static let window = Marks(rawValue: 1)
        static let ping = Marks(rawValue: 2)
        /// New bytes have gone since the owner was told.
        static let progress = Marks(rawValue: 4)
        /// The owner takes no bytes now.
        static let held = Marks(rawValue: 8)
        static let ended = Marks(rawValue: 16)
    }
    struct Seals: Sendable {
        let outgoing: any PacketSeal
        let incoming: any PacketSeal
    }
    /// What the other end has asked from an address that is not ``remote``, and what was asked back.
    struct Move: Sendable {
        let candidate: Endpoint
        let challenge: UInt64
        var askedAt: Instant
        var tries = 1
    }
    struct Clock: Sendable {
        var openedAt: Instant
        var heardAt: Instant
        var sentAt: Instant
        /// Since when nothing was acknowledged although something is in flight.
        var waitingSince: Instant?
        /// Probe timeouts in a row.
        var timeouts = 0
        /// Packets that such a timeout allows, whatever the window.
        var probes = 0
    }
    /// The number that its owner knows it by, and those that packets bear: ours in what comes, the other end's in what goes.
    struct Names: Sendable {
        let id: UInt64
        let isInbound: Bool
        var local: UInt64
        var other: UInt64
        var cookie: [UInt8] = []
    }

    var names: Names
    /// From the pool's key that its opening is sealed with.
    var maker: any SealMaker
    var remote: Endpoint
    var state: State
    var seals: Seals?
    var sending = SendStream()
    var receiving = ReceiveStream()
    var sent = SentPackets()
    var received = ReceivedPackets()
    var roundTrip = RoundTrip()
    var mtu: PathMTU
    var path: PathController
    var move: Move?
    var marks: Marks = []
    var clock: Clock
    var random: SeededGenerator

    init(
        _ names: Names, _ maker: any SealMaker, _ remote: Endpoint, _ state: State, sizes: [Int], seed: UInt64,
        at now: Instant
    ) {
        self.names = names
        self.maker = maker
        self.remote = remote
        self.state = state
        mtu = PathMTU(sizes: sizes, at: now)
        path = PathController(at: now)
        clock = Clock(openedAt: now, heardAt: now, sentAt: now)
        random = SeededGenerator(seed: seed)
    }

    /// Its line: that of the local network, or that to everybody else.
    var line: Int { mutating get { remote.isPrivate ? 1 : 0 } }
    var isOpen: Bool { mutating get { state == .open || state == .beginning } }
    /// Packets can be sealed.
    var isReady: Bool { mutating get { seals != nil } }
    /// Something of the stream could go now.
    var hasBytes: Bool { mutating get { seals != nil && sending.hasPiece && !sent.isFull } }

    mutating func derive() {
        let asker = names.isInbound ? names.other : names.local
        let answerer = names.isInbound ? names.local : names.other
        func seal(_ fromAsker: Bool) -> any PacketSeal {
            maker.seal(for: FlowPacket.context(asker: asker, answerer: answerer, fromAsker: fromAsker))
        }
        seals = Seals(outgoing: seal(!names.isInbound), incoming: seal(names.isInbound))
    }
}

// MARK: out

extension Flow {
    /// What a packet may carry.
    enum Load {
        /// The next bytes of the stream, and whatever else waits.
        case stream
        /// Everything but the stream.
        case control
        /// The oldest bytes that are not acknowledged; failing that new ones, or a ping.
        case probe
        /// Nothing but its size.
        case size
    }
    var headBytes: Int { mutating get { state == .beginning ? FlowPacket.beginHead : FlowPacket.packetHead } }

    /// Appends a sealed packet of at most `size` bytes.
    /// - Returns: its size; nil when there was nothing to say.
    mutating func write(_ load: Load, size: Int, to burst: inout [UInt8], at now: Instant) -> Int? {
        guard let seals, !sent.isFull else { return nil }
        if random.below(256) == 0 { sent.skip(at: now) }
        let (start, number) = (burst.count, sent.next)
        writeHead(number, to: &burst)
        let empty = burst.count
        var packet = SentPacket(at: now, size: 0, elicits: false)
        if received.owed > 0, let ack = received.acknowledgement(at: now, most: 24) { ack.write(to: &burst) }
        let hasAcknowledgement = burst.count > empty
        writeFrames(load, start + size - FlowLimits.tag, to: &burst, &packet)
        guard burst.count > empty else {
            burst.removeLast(burst.count - start)
            return nil
        }
        if load == .size {
            packet.isProbe = true
            burst.writeZeros(start + size - FlowLimits.tag - burst.count)
        }
        // Large enough to be asked back from elsewhere.
        let least = start + FlowPacket.challengeBytes - FlowLimits.tag
        if burst.count < least { burst.writeZeros(least - burst.count) }
        burst.writeZeros(FlowLimits.tag)
        packet.size = burst.count - start
        burst.seal(from: start, clear: headBytes, number: number, with: seals.outgoing)
        if hasAcknowledgement { received.acknowledged(at: now) }
        if packet.elicits, clock.waitingSince == nil { clock.waitingSince = now }
        clock.sentAt = now
        sent.sent(packet)
        path.sent(1)
        return packet.size
    }
    private mutating func writeHead(_ number: UInt64, to burst: inout [UInt8]) {
        let isBeginning = state == .beginning
        burst.append((isBeginning ? FlowPacket.Form.begin : .packet).rawValue)
        burst.write(names.other, width: 8)
        burst.write(number & 0xFFFF_FFFF, width: 4)
        guard isBeginning else { return }
        burst.write(names.local, width: 8)
        burst += names.cookie
    }
    private mutating func writeFrames(_ load: Load, _ limit: Int, to burst: inout [UInt8], _ packet: inout SentPacket) {
        if marks.contains(.window) {
            burst.append(FlowFrame.Kind.window.rawValue)
            burst.write(number: receiving.granted)
            marks.remove(.window)
            packet.hasWindow = true
            packet.elicits = true
        }
        // To the byte: a burst is cut into datagrams of one size, and ends with one that is shorter.
        let room = limit - burst.count - FlowFrame.streamHead(sending.next)
        if load == .stream || load == .probe, room > 0 {
            let piece = load == .probe ? sending.takeOldest(room) ?? sending.take(room) : sending.take(room)
            if let piece { write(piece, to: &burst, &packet) }
        }
        guard load == .size || marks.contains(.ping) || (load == .probe && packet.piece == nil) else { return }
        burst.append(FlowFrame.Kind.ping.rawValue)
        marks.remove(.ping)
        packet.elicits = true
    }
    private mutating func write(_ piece: SendStream.Piece, to burst: inout [UInt8], _ packet: inout SentPacket) {
        burst.append((piece.isLast ? FlowFrame.Kind.lastOfStream : .stream).rawValue)
        burst.write(number: piece.offset)
        burst.write(UInt64(piece.count), width: 2)
        sending.copy(piece, to: &burst)
        packet.piece = piece
        packet.elicits = true
        marks.insert(.progress)
    }
    /// A packet that says one thing, and of which nothing is remembered.
    mutating func writeAlone(_ kind: FlowFrame.Kind, _ value: UInt64, width: Int, at now: Instant) -> [UInt8] {
        guard let seals else { return [] }
        let number = sent.next
        var bytes: [UInt8] = []
        writeHead(number, to: &bytes)
        bytes.append(kind.rawValue)
        bytes.write(value, width: width)
        bytes.writeZeros(FlowLimits.tag)
        bytes.seal(from: 0, clear: headBytes, number: number, with: seals.outgoing)
        sent.sent(SentPacket(at: now, size: bytes.count, elicits: false))
        return bytes
    }
}
