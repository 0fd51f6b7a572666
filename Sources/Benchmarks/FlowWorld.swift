public import Flows
public import Primitives

/// Homes with flows between them over simulated lines, in virtual time. The owner of the first may upload and ping beside.
///
/// A datagram goes over its sender's up line, the way between the two, and its receiver's down line; each is a ``DatagramLine``.
public struct FlowWorld {
    public struct Home {
        public var endpoint: Endpoint
        public var host: FlowHost
        var up: DatagramLine
        var down: DatagramLine
        var wake: Instant?
        /// What waits before the up line.
        public func upQueue(_ now: Instant) -> Duration { up.queue(at: now) }
        /// By flow: bytes that came, and the ones to keep writing to without end.
        public internal(set) var received: [UInt64: Int] = [:]
        var endless: [UInt64] = []
        /// Its process comes to look at what has arrived, and at its timers, only so often: the machine has much else to do.
        public var turns: Duration = .zero
        /// Datagrams of the largest burst that its host handed over at once.
        public internal(set) var mostDatagrams = 0

        /// When what happens at a moment is looked at.
        func turn(_ moment: Instant) -> Instant {
            let turns = turns.wholeNanoseconds
            return turns > 0 ? Instant(nanoseconds: (moment.nanoseconds + turns - 1) / turns * turns) : moment
        }
    }
    private enum Event {
        case up(from: Int, to: Endpoint, [UInt8])
        case way(from: Int, source: Endpoint, to: Int, [UInt8])
        case down(source: Endpoint, to: Int, [UInt8], at: Instant)
        case wake(Int)
        case ownerDone(OwnerPacket)
        case ping
    }
    private enum OwnerPacket {
        case upload(Int)
        case ping(Instant)
    }
    public internal(set) var homes: [Home] = []
    private var ways: [[DatagramLine?]] = []
    private var events = TimedQueue<Event>()
    public private(set) var now = Instant(seconds: 1)
    private let seed: UInt64
    private var upload: OwnerUpload?
    private var ownerDelay: Duration = .milliseconds(24)
    /// Round trips of the owner's pings, with the moment of sending.
    public private(set) var pings: [(at: Instant, took: Duration)] = []
    private var isPinging = false
    /// Everything that hosts have said, but bytes and datagrams.
    public var said: [(home: Int, effect: FlowHost.Effect)] = []
    /// Sees, and may change or drop, every datagram that enters the way between two homes.
    public var tap: ((_ from: Int, _ to: Int, _ bytes: inout [UInt8]) -> Bool)?
    /// What was received in order, where it is to be kept.
    public var keeps = false
    /// Bytes that were sent to where nobody is.
    public private(set) var astray: [Endpoint: Int] = [:]
    public internal(set) var kept: [[UInt64: [UInt8]]] = []

    public init(seed: UInt64) { self.seed = seed }

    /// - Returns: the home's number.
    public mutating func add(
        up: DatagramLine.Properties, down: DatagramLine.Properties, sizes: [Int] = FlowLimits.datagramSizes
    ) -> Int {
        let n = homes.count
        let secret = SeededGenerator.bytes(32, seed: seed, stream: UInt64(1000 + n))
        let host = FlowHost(SimulatedSeals(key: 7), secret: secret, sizes: sizes, at: now)
        let endpoint = Endpoint(ipv4: 60, 0, 0, UInt8(n + 1), port: 4000)
        homes.append(
            Home(
                endpoint: endpoint, host: host,
                up: DatagramLine(up, seed: seed &+ UInt64(10 * n + 1)),
                down: DatagramLine(down, seed: seed &+ UInt64(10 * n + 2))))
        for row in ways.indices { ways[row].append(nil) }
        ways.append([DatagramLine?](repeating: nil, count: n + 1))
        kept.append([:])
        return n
    }
    /// The way between two homes, each direction.
    public mutating func connect(_ a: Int, _ b: Int, _ way: DatagramLine.Properties) {
        ways[a][b] = DatagramLine(way, seed: seed &+ UInt64(1000 * a + b + 77))
        ways[b][a] = DatagramLine(way, seed: seed &+ UInt64(1000 * b + a + 77))
    }
    public mutating func change(_ a: Int, _ b: Int, _ change: (inout DatagramLine.Properties) -> Void) {
        change(&ways[a][b]!.properties)
        change(&ways[b][a]!.properties)
    }
    /// From now on a home is seen elsewhere; what is sent to where it was does not arrive.
    public mutating func renumber(_ home: Int, to endpoint: Endpoint) { homes[home].endpoint = endpoint }
    /// The host of a home begins anew, with nothing in memory.
    public mutating func restart(_ home: Int) {
        homes[home].host = FlowHost(
            SimulatedSeals(key: 7), secret: SeededGenerator.bytes(32, seed: seed, stream: UInt64(5000 + home)), at: now)
    }

    // MARK: what hosts are told

    public mutating func open(_ id: UInt64, from a: Int, to b: Int) {
        homes[a].host.open(id, to: homes[b].endpoint, at: now)
        drain(a)
    }
    public mutating func write(_ home: Int, _ id: UInt64, _ bytes: [UInt8]) {
        homes[home].host.write(id, bytes, at: now)
        drain(home)
    }
    /// Writes to a flow as fast as it takes bytes.
    public mutating func writeEndlessly(_ home: Int, _ id: UInt64) {
        homes[home].endless.append(id)
        refill(home, id)
        drain(home)
    }
    public mutating func stopWriting(_ home: Int) { homes[home].endless = [] }
    public mutating func tell(_ home: Int, _ input: (inout FlowHost, Instant) -> Void) {
        input(&homes[home].host, now)
        drain(home)
    }
    /// A datagram from nowhere.
    public mutating func inject(_ bytes: [UInt8], from source: Endpoint, to home: Int) {
        homes[home].host.receive(bytes, from: source, at: now)
        drain(home)
    }
    private mutating func refill(_ home: Int, _ id: UInt64) {
        let unsent = homes[home].host.unsent(id)
        guard unsent < FlowHost.writableBelow else { return }
        homes[home].host.write(id, [UInt8](repeating: 0x5A, count: 2 * FlowHost.writableBelow - unsent), at: now)
    }

    // MARK: the owner

    public mutating func startUpload() {
        upload = OwnerUpload()
        pumpUpload()
    }
    public mutating func stopUpload() { upload = nil }
    /// Bytes that the owner's upload has delivered.
    public var uploaded: Int { upload?.delivered ?? 0 }
    /// A ping every tenth of a second, over the first home's up line.
    public mutating func startPinging(way: Duration) {
        ownerDelay = way
        if !isPinging { events.push(.ping, at: now) }
        isPinging = true
    }
    private mutating func pumpUpload() {
        while let number = upload?.send(at: now) { ownerSend(.upload(number), OwnerUpload.packetBytes) }
    }
    private mutating func ownerSend(_ packet: OwnerPacket, _ bytes: Int) {
        let arrivals = homes[0].up.carry(bytes, at: now)
        if arrivals.isEmpty, case .ping(let at) = packet { pings.append((at, .seconds(1))) }
        for arrival in arrivals { events.push(.ownerDone(packet), at: arrival + ownerDelay) }
    }

    // MARK: running

    public mutating func run(until end: Instant, while goes: (borrowing FlowWorld) -> Bool = { _ in true }) {
        while let (at, _) = events.first, at <= end, goes(self) {
            now = at
            step(events.popFirst()!)
        }
        if goes(self) { now = max(now, end) }
    }
    private mutating func step(_ event: Event) {
        switch event {
        case .wake(let home):
            guard let due = homes[home].wake, due <= now else { return }
            homes[home].wake = nil
            homes[home].host.wake(at: now)
            drain(home)
        case .up(let from, let to, let bytes): leave(from, to, bytes)
        case .way(let from, let source, let to, let bytes):
            var bytes = bytes
            if let tap, !tap(from, to, &bytes) { return }
            for arrival in ways[from][to]?.carry(bytes.count + 28, at: now) ?? [] {
                events.push(.down(source: source, to: to, bytes, at: arrival), at: homes[to].turn(arrival))
            }
        case .down(let source, let to, var bytes, let arrival):
            bytes.withUnsafeMutableBytes {
                homes[to].host.receive($0, segment: $0.count, from: source, at: now, age: now - arrival)
            }
            drain(to)
        case .ownerDone(.upload(let number)):
            upload?.acknowledged(number, at: now)
            pumpUpload()
        case .ownerDone(.ping(let at)): pings.append((at, now - at))
        case .ping:
            ownerSend(.ping(now), 84)
            if upload != nil { pumpUpload() }
            events.push(.ping, at: now + .milliseconds(100))
        }
    }
    private mutating func leave(_ from: Int, _ to: Endpoint, _ bytes: [UInt8]) {
        guard let target = homes.firstIndex(where: { $0.endpoint == to }) else {
            astray[to, default: 0] += bytes.count
            return
        }
        let source = homes[from].endpoint
        for arrival in homes[from].up.carry(bytes.count + 28, at: now) {
            events.push(.way(from: from, source: source, to: target, bytes), at: arrival)
        }
    }
    private mutating func drain(_ home: Int) {
        while let effect = homes[home].host.poll() {
            switch effect {
            case .send(let burst):
                homes[home].mostDatagrams = max(homes[home].mostDatagrams, burst.datagrams.count)
                for datagram in burst.datagrams { leave(home, burst.to, Array(datagram)) }
            case .received(let id, let bytes):
                homes[home].received[id, default: 0] += bytes.count
                if keeps { kept[home][id, default: []] += bytes }
            case .writable(let id, _): if homes[home].endless.contains(id) { refill(home, id) }
            default: said.append((home, effect))
            }
        }
        guard let next = homes[home].host.whenToWake() else { return }
        let due = homes[home].turn(max(next, now))
        if let wake = homes[home].wake, wake <= due, wake >= now { return }
        homes[home].wake = due
        events.push(.wake(home), at: due)
    }
}
