import Channels
import Coordination
import Daemon
import Digests
import JobFixtures
import Kademlia
import Membership
import Messages
import Planning
import Primitives
import Record
import Telemetry
import Training
import Wire

/// A daemon on a bench: peers of its pool talk to it over real channels, and everything that it wants of its driver is written down.
struct Bench {
    private struct Speaker {
        var channels: Channels
        let connection: ConnectionID
        let inbound: ConnectionID
    }
    static let poolKey = [UInt8](repeating: 3, count: 32)
    static let text = SeededGenerator.bytes(1000, seed: 5, stream: 1)

    var daemon: DaemonCore
    let key: SigningKey
    var now = Instant(seconds: 10)
    private var speakers: [Int: Speaker] = [:]
    /// What each of them has heard.
    private(set) var heard: [Int: [Packet]] = [:]
    private(set) var events: [Happening] = []
    private(set) var dials: [Endpoint] = []
    /// Whose sessions began.
    private(set) var connected: [String] = []
    private var lastDial: ConnectionID?
    private(set) var stored: [(ticket: StorageTicket, service: DaemonCore.Service)] = []
    private(set) var corpora = 0
    private(set) var end: JobEnd?
    private var jobs = EffectQueue<ComputeJob>()
    /// Asked for, and not answered.
    private var unrehearsed = 0

    static func job() -> JobManifest {
        var job = JobManifest(
            name: "small", model: Small.model, data: .path("text"), tokens: 10_000, virtualPipelines: 4, microBatch: 1)
        job.batchTokens = .fixed(32)
        return job
    }
    static func member(_ key: SigningKey, accepts: [PeerID], at now: Instant) -> Member {
        Member(
            key: key, terms: MemberTerms(name: "bench", device: "cpu", memory: .mebibytes(64), accepts: accepts),
            wall: WallClock(secondsAtZero: 1000), at: now, parse: JobParameters.init(manifest:))
    }
    static func coordinator(_ key: SigningKey, expected: Int? = nil, at now: Instant) throws -> Coordinator {
        var options = CoordinatorOptions()
        options.expectedPeers = expected
        return try Coordinator(
            key: key, manifest: job().canonicalText, content: StoredBytes(text),
            nonce: [UInt8](repeating: 9, count: 32),
            options: options, wall: WallClock(secondsAtZero: 1000), at: now, parse: JobParameters.init(manifest:))
    }

    init(_ key: SigningKey = Small.key(100), _ services: (Instant) throws -> DaemonCore.Services) throws {
        self.key = key
        let directory = Directory(
            configuration: OverlayConfiguration(poolKey: Self.poolKey, bootstrap: [], seed: 1), identity: key,
            nodeID: nil, known: [], at: now)
        let services = try services(now)
        let channels = Channels(
            local: key.peerID, listening: 4000, poolKey: Self.poolKey,
            limits: .daemon(computes: services.member != nil), seed: 1)
        daemon = DaemonCore(
            directory: directory, channels: channels, services: services, key: key, port: 4000, at: now)
        run()
    }

    // MARK: others

    /// A peer of the pool dials the daemon.
    ///
    /// - Parameter limits: of the peer.
    mutating func connect(_ number: Int, limits: ChannelLimits = ChannelLimits()) {
        let other = Small.key(number)
        var channels = Channels(
            local: other.peerID, listening: 4000, poolKey: Self.poolKey, limits: limits, seed: UInt64(number))
        channels.connect(to: key.peerID, at: Endpoint(ipv4: 10, 9, 9, 9, port: 4000), now: now)
        var dialled: ConnectionID?
        while let effect = channels.poll() { if case .dial(let id, _, _) = effect { dialled = id } }
        guard let dialled else { return }
        let inbound = ConnectionID(UInt64(1_000_000 + 2 * number))
        let exporter = sha256(Array("exporter \(number)".utf8)).bytes
        channels.secured(
            dialled, peer: key.peerID, exporter: exporter, remote: Endpoint(ipv4: 10, 9, 9, 9, port: 4000),
            inbound: false, isTLSClient: other.peerID < key.peerID, at: now)
        daemon.secured(
            inbound, peer: other.peerID, exporter: exporter, remote: Small.endpoint(number), inbound: true,
            isTLSClient: key.peerID < other.peerID, at: now)
        speakers[number] = Speaker(channels: channels, connection: dialled, inbound: inbound)
        run()
    }
    /// It opens another connection, as for a better way, hears the daemon's greeting, and says nothing itself.
    mutating func brush(_ number: Int) {
        let id = ConnectionID(UInt64(2_000_000 + number))
        daemon.secured(
            id, peer: Small.peer(number), exporter: sha256(Array("other \(number)".utf8)).bytes,
            remote: Small.endpoint(number), inbound: true, isTLSClient: key.peerID < Small.peer(number), at: now)
        run()
        daemon.closed(id, at: now)
        run()
    }
    func isConnected(_ number: Int) -> Bool { daemon.channels.isConnected(to: Small.peer(number)) }
    mutating func disconnect(_ number: Int) {
        guard let speaker = speakers.removeValue(forKey: number) else { return }
        daemon.closed(speaker.inbound, at: now)
        run()
    }
    /// What it dialled last leads nowhere.
    ///
    /// - Parameter refused: the machine there says that nobody listens.
    mutating func failDial(refused: Bool) {
        guard let id = lastDial else { return }
        daemon.dialFailed(id, refused: refused, at: now)
        run()
    }
    mutating func say(_ number: Int, _ packet: Packet) {
        let framed = packet.framed
        say(number, raw: framed.header + framed.payload, on: packet.message.channel)
    }
    mutating func say(_ number: Int, raw bytes: [UInt8], on channel: Channel = .control) {
        let (peer, now) = (key.peerID, now)
        _ = speakers[number]?.channels.send(bytes, on: channel, to: peer, at: now)
        run()
    }
    func heard(_ number: Int, _ kind: String) -> [Packet] { (heard[number] ?? []).filter { $0.message.kind == kind } }

    // MARK: the driver

    mutating func changeNetwork() {
        daemon.networkChanged(at: now)
        run()
    }
    /// - Parameter forAll: time passes for those who talk to it, too.
    mutating func pass(_ time: Duration, forAll: Bool = false) {
        now += time
        daemon.wake(at: now)
        if forAll { for number in speakers.keys.sorted() { speakers[number]!.channels.wake(at: now) } }
        run()
    }
    /// Time passes, and the next that it gets are packets of others, before it is woken.
    mutating func sleep(_ time: Duration, hearing numbers: [Int]) {
        now += time
        for number in numbers { say(number, Packet(.ping(UInt64(number)))) }
    }
    /// The engine answers each benchmark after some time.
    mutating func compute(_ time: Duration = .milliseconds(400)) {
        while let job = jobs.pop() {
            now += time
            switch job {
            case .benchmark: answer()
            case .rehearse: unrehearsed += 1
            default: break
            }
        }
    }
    /// And what a member does to be measured in a job.
    mutating func rehearse(_ time: Duration) {
        compute()
        while unrehearsed > 0 {
            unrehearsed -= 1
            now += time
            answer()
            compute()
        }
    }
    private mutating func answer() {
        daemon.computed(.done, at: now)
        run()
    }
    /// Until nobody has anything to do.
    private mutating func run() {
        var busy = true
        while busy {
            busy = false
            while let effect = daemon.poll() {
                busy = true
                perform(effect)
            }
            for number in speakers.keys.sorted() {
                while let effect = speakers[number]?.channels.poll() {
                    busy = true
                    perform(effect, of: number)
                }
            }
        }
    }
    private mutating func perform(_ effect: DaemonCore.Effect) {
        switch effect {
        case .write(let id, let bytes):
            guard let number = speakers.first(where: { $0.value.inbound == id })?.key else { return }
            speakers[number]!.channels.received(speakers[number]!.connection, bytes, at: now)
            daemon.writable(id, unsent: 0, at: now)
        case .close(let id):
            guard let number = speakers.first(where: { $0.value.inbound == id })?.key else { return }
            speakers[number]!.channels.closed(speakers[number]!.connection, at: now)
            speakers[number] = nil
        case .dial(let id, let endpoint, _):
            dials.append(endpoint)
            lastDial = id
        case .compute(let job): jobs.push(job)
        case .corpus: corpora += 1
        case .store(let request, let service):
            stored.append((request.ticket, service))
            daemon.stored(request.ticket, .stored(path: ""), for: service, at: now)
        case .event(let event): events.append(event.what)
        case .connected(let peer, _): connected.append(peer)
        case .ended(let end): self.end = end
        case .datagram, .dialBack, .gateway, .igd, .recordDue, .overlayChanged, .found, .plan, .punch, .flow, .opener,
            .seal,
            .sealed, .keepBook, .poolKeys:
            break
        }
    }
    private mutating func perform(_ effect: Channels.Effect, of number: Int) {
        switch effect {
        case .write(let id, let bytes):
            guard let speaker = speakers[number] else { return }
            daemon.received(speaker.inbound, bytes, at: now)
            speakers[number]?.channels.writable(id, unsent: 0, at: now)
        case .message(_, _, let bytes):
            if let packet = try? Packet(decoding: bytes) { heard[number, default: []].append(packet) }
        default: break
        }
    }
}
