import Channels
internal import Compute
public import Coordination
public import Daemon
public import Digests
public import EventLoop
import Glibc
public import Kademlia
public import Lending
public import Membership
public import Paths
public import Pools
public import Primitives
public import Record
import SecureTransport
public import Telemetry
import Topologies
import Training
public import Wire

/// Runs a daemon's cores on a libuv loop: sockets, TLS, timers, the engine's thread. One loop thread owns every core.
public final class LiveDaemon {
    public struct Setup {
        public var key: SigningKey
        public var listen: Endpoint
        /// Nil: the open pool `mainline`.
        public var poolKey: [UInt8]?
        /// Of a pool that keeps members, and where it is kept.
        public var membership: Membership?
        public var bootstrap: [Endpoint]
        public var emulation: Emulation?
        /// Bootstrap nodes given by name; looked up until somebody knows them.
        public var bootstrapNames: [HostName] = []
        public var readOnly = false
        /// What the node knew and kept when it last ran.
        public var state: OverlayState?
        /// For the capability record.
        public var device = ""
        public var threads = 1
        /// Whether the router of this machine is asked to let the port in.
        public var router = RouterChoice.none
        /// What its owner lets it carry for others.
        public var relaying = RelayLimits.little
        /// Nil: the processor.
        public var engine: PreparedEngine?
        /// Where states are put down that come out of the engine; nil for memory.
        public var room: (any ByteRoom)?
        public var seed: UInt64
        public init(
            key: SigningKey, listen: Endpoint, poolKey: [UInt8]?, bootstrap: [Endpoint], emulation: Emulation?,
            seed: UInt64
        ) {
            self.key = key
            self.listen = listen
            self.poolKey = poolKey
            self.bootstrap = bootstrap
            self.emulation = emulation
            self.seed = seed
        }
    }

    /// What is known of a pool's members, and the file of it.
    public struct Membership {
        public var book: PoolBook
        /// Nil: it is not kept.
        public var file: String?
        public init(_ book: PoolBook, file: String?) { (self.book, self.file) = (book, file) }
    }

    public let loop: Loop
    public var endpoint: Endpoint { transport.endpoint }
    private let transport: SecureTransport
    private let datagrams: DatagramSocket
    private let pool: WorkPool
    private var worker: ComputeWorker?
    private var timer: Timer?
    private var surroundings: Surroundings?
    private var draining = false
    private var turnedAwayToldAt: Instant?
    private var resolver: NameResolver?
    private var dialBacks: [DialBack: DialBackAttempt] = [:]
    public private(set) var core: DaemonCore
    private var bookKeeper: BookKeeper?

    public var onEvent: ((Event) -> Void)?
    /// Something is to be written; answered with ``stored(_:_:for:)``.
    public var onStore: ((StorageRequest, DaemonCore.Service) -> Void)?
    public var onEnded: ((JobEnd) -> Void)?
    /// An overlay operation started with ``overlay(_:)`` is over.
    public var onFound: ((RequestID, LookupOutcome) -> Void)?
    /// The overlay's state is worth saving soon.
    public var onOverlayChanged: (() -> Void)?

    /// Opens the sockets (UDP and TCP on one port) and makes the cores. Nothing happens before the loop runs.
    public init(
        _ loop: Loop, _ setup: Setup, services: (Instant) throws(NodeError) -> DaemonCore.Services
    ) throws(NodeError) {
        self.loop = loop
        try Self.requireDescriptors(DescriptorLimit.raise())
        let opened = try Self.open(loop, setup)
        transport = opened.transport
        datagrams = opened.datagrams
        pool = WorkPool(loop, threads: 2)
        let own = opened.transport.endpoint
        var overlay = OverlayConfiguration(
            poolKey: setup.poolKey, bootstrap: setup.bootstrap.filter { $0 != own }, readOnly: setup.readOnly,
            seed: setup.seed)
        overlay.topicKey = setup.membership.map { PoolBook.topicKey($0.book.authority) }
        let now = loop.now
        var directory = Directory(
            configuration: overlay, identity: setup.key, nodeID: setup.state?.nodeID,
            known: setup.state?.contacts.filter { $0.endpoint != own } ?? [], at: now)
        if let state = setup.state { directory.perform(at: now) { $0.restore(state, at: now) } }
        let services = try services(now)
        let channels = Self.channels(setup, own, computes: services.member != nil, at: now)
        if let file = setup.membership?.file { bookKeeper = BookKeeper(file, pool.makeQueue()) }
        core = DaemonCore(
            directory: directory, channels: channels, services: services, key: setup.key, port: own.port,
            device: setup.device, relaying: setup.relaying, carriesFlows: setup.poolKey != nil, at: now)
        let paced = setup.emulation.map { $0.entry.flops / $0.stretch }
        // Arithmetic has a thread of its own: what gives way to other programs is not what writes to disk.
        worker = ComputeWorker(
            loop, pool: services.member == nil ? pool : WorkPool(loop, threads: 1), threads: setup.threads,
            paced: paced, device: setup.engine?.device, room: setup.room
        ) { [unowned self] result in
            core.computed(result, at: self.loop.now)
            drain()
        }
        timer = Timer(loop) { [unowned self] in
            core.count(sent: sentBytes, received: receivedBytes)
            core.wake(at: self.loop.now)
            drain()
        }
        look(setup.router)
        connect()
        resolver = NameResolver(loop, pool, setup.bootstrapNames) { [unowned self] endpoint in
            guard endpoint != self.endpoint else { return }
            core.overlay(at: self.loop.now) { $0.add(bootstrap: endpoint, at: self.loop.now) }
            drain()
        }
    }

    /// What is around this machine is watched from now on.
    private func look(_ router: RouterChoice) {
        surroundings = Surroundings(loop, router, listening: endpoint) { [unowned self] in
            transport.lineChanged()
            core.networkChanged(at: self.loop.now)
            drain()
        } onGateway: { [unowned self] gateway in
            core.use(gateway: gateway, at: self.loop.now)
            drain()
        } onIPv6: { [unowned self] endpoint in
            core.use(ownIPv6: endpoint, at: self.loop.now)
            drain()
        } onAnswer: { [unowned self] bytes, sender in
            core.receive(gateway: bytes, from: sender, at: self.loop.now)
            drain()
        } onIPv4: { [unowned self] endpoint in
            core.use(ownIPv4: endpoint)
        } onFirewall: { [unowned self] gateway in
            core.use(pinholes: gateway, at: self.loop.now)
            drain()
        }
    }

    /// Ciphertext and datagrams at the sockets since start.
    public var sentBytes: Int { transport.sentBytes + datagrams.sentBytes }
    public var receivedBytes: Int { transport.receivedBytes + datagrams.receivedBytes }

    private static func channels(
        _ setup: Setup, _ endpoint: Endpoint, computes: Bool, at now: Instant
    ) -> Channels {
        var channels = Channels(
            local: setup.key.peerID, listening: endpoint.port,
            // In the open pool there is nobody to talk to: no key is right.
            poolKey: setup.poolKey ?? randomBytes(32), limits: channelLimits(computes: computes), seed: setup.seed &+ 1)
        if let membership = setup.membership { channels.admit(by: membership.book, at: now) }
        return channels
    }
    /// Connections take at most half of the descriptors that this process may have.
    private static func channelLimits(computes: Bool) -> ChannelLimits {
        var limits = ChannelLimits.daemon(computes: computes)
        limits.connections = min(limits.connections, max(16, DescriptorLimit.current / 2))
        limits.unproven = min(limits.unproven, max(8, DescriptorLimit.current / 8))
        return limits
    }

    private static func requireDescriptors(_ count: Int) throws(NodeError) {
        guard count < DescriptorLimit.least else { return }
        throw .badInput(
            .fewDescriptors,
            "this process may have \(count) files open, and a daemon needs \(DescriptorLimit.least), sockets included. Allow more with `ulimit -n`"
        )
    }

    private static func open(
        _ loop: Loop, _ setup: Setup
    ) throws(NodeError) -> (transport: SecureTransport, datagrams: DatagramSocket) {
        var lastProblem = ""
        // A free TCP port may be taken on UDP: with port 0 the kernel is asked again.
        for _ in 0..<(setup.listen.port == 0 ? 16 : 1) {
            do throws(SocketError) {
                let transport = try SecureTransport(
                    loop: loop, identity: setup.key, listen: setup.listen, shaping: setup.emulation?.shaping,
                    handshakes: min(256, max(8, DescriptorLimit.current / 4)))
                do throws(SocketError) {
                    let datagrams = try DatagramSocket(loop, bind: transport.endpoint, shaper: transport.shaper)
                    if let key = setup.poolKey {
                        transport.carryFlows(over: datagrams, poolKey: key, secret: randomBytes(32))
                    }
                    return (transport, datagrams)
                } catch {
                    transport.shutdown()
                    lastProblem = error.description
                }
            } catch {
                lastProblem = error.description
            }
        }
        let end = lastProblem.hasSuffix(".") ? "" : "."
        throw .badInput(
            .portTaken, "cannot listen on \(setup.listen): \(lastProblem)\(end) --listen HOST:PORT says where to listen"
        )
    }

    private func connect() {
        datagrams.onReceived = { [unowned self] bytes, sender in
            core.receive(datagram: bytes, from: sender, at: loop.now)
            drain()
        }
        transport.on.secured = { [unowned self] id, peer, exporter, remote, inbound, isClient in
            core.secured(
                ConnectionID(id), peer: peer, exporter: exporter, remote: remote, inbound: inbound,
                isTLSClient: isClient, isFlow: transport.isFlow(id), at: loop.now)
            drain()
        }
        transport.on.dialFailed = { [unowned self] id, failure in
            core.dialFailed(ConnectionID(id), refused: failure.isRefusal, at: loop.now)
            drain()
        }
        transport.on.strayed = { [unowned self] id in core.strayed(ConnectionID(id)) }
        transport.on.received = { [unowned self] id, bytes in
            core.received(ConnectionID(id), bytes, at: loop.now)
            drain()
        }
        transport.on.writable = { [unowned self] id, unsent in
            core.writable(ConnectionID(id), unsent: unsent, at: loop.now)
            drain()
        }
        transport.on.closed = { [unowned self] id in
            core.closed(ConnectionID(id), at: loop.now)
            drain()
        }
        transport.on.turnedAway = { [unowned self] in tellTurnedAway() }
    }

    /// Strangers decide how often this happens, so it is said seldom.
    private func tellTurnedAway() {
        let now = loop.now
        guard turnedAwayToldAt.map({ now - $0 >= .seconds(10) }) ?? true else { return }
        turnedAwayToldAt = now
        let counts = transport.turnedAway
        let what = Happening.strangersTurnedAway(
            crowded: counts.crowded, timedOut: counts.timedOut, failed: counts.failed,
            withoutDescriptor: counts.withoutDescriptor)
        onEvent?(Event(what, at: now))
    }

    /// Looks at what was measured before the planner does; an answer stands instead of a plan.
    public var onQuestion: ((PlanQuestion) -> NoPlan?)?

    /// Hands the plan of a question back to the coordinator.
    public func answerPlan(_ question: PlanQuestion) {
        if let refusal = onQuestion?(question) {
            core.planned(.failure(refusal), at: loop.now)
            return
        }
        pool.makeQueue().submit({ question.answered() }) { [unowned self] result in
            core.planned(result, at: loop.now)
            drain()
        }
    }

    /// What became of what was to be written.
    public func stored(_ ticket: StorageTicket, _ outcome: StorageOutcome, for service: DaemonCore.Service) {
        core.stored(ticket, outcome, for: service, at: loop.now)
        drain()
    }
    /// Jobs of one queue run one after another, off the loop.
    public func makeQueue() -> WorkPool.Queue { pool.makeQueue() }

    /// Slow work of the owner, off the loop.
    public func offLoop<Result: Sendable>(
        _ job: @escaping @Sendable () -> Result, then: @escaping (Result) -> Void
    ) {
        pool.makeQueue().submit(job, then: then)
    }

    /// Told of each piece of arithmetic that is done here.
    func onComputed(_ tell: @escaping (ComputeJob, Instant, Instant) -> Void) { worker?.onComputed = tell }

    /// Somebody looks at the job that is led here: its members are asked when they compute.
    func watchSteps() { core.watchSteps(at: loop.now) }

    public func start() {
        surroundings?.look()
        drain()
    }
    /// What may still be written in this daemon's folder.
    func count(room: DiskRoom) { core.count(room: room) }
    func count(processorShare: Double?) { core.count(processorShare: processorShare) }

    /// What the owner of a peer wants of it, or a limit that the owner set.
    public func heedOwner(_ wish: OwnersWish) {
        core.heedOwner(wish, at: loop.now)
        drain()
    }
    /// What its owner lets it do with processor and line. An emulated line is as its topology says.
    public func lend(_ allowance: Allowance) {
        worker?.gate.set(
            isShut: !allowance.isComputing, share: allowance.cpuShare, lowestPriority: allowance.isLowestPriority)
        transport.limit(up: allowance.upload, down: allowance.download)
        datagrams.use(transport.shaper)
    }
    /// Bytes to and from others than those of the local network.
    public var meteredBytes: (sent: Int, received: Int) {
        (
            sentBytes - transport.localBytes.sent - datagrams.localBytes.sent,
            receivedBytes - transport.localBytes.received - datagrams.localBytes.received
        )
    }

    /// This daemon's place in the overlay; changes with the external address (BEP 42).
    public var nodeID: NodeID { core.directory.overlay.nodeID }

    /// Starts an operation of the owner on the overlay.
    public func overlay<T>(_ operation: (inout Overlay, Instant) -> T) -> T {
        let now = loop.now
        defer { drain() }
        return core.overlay(at: now) { operation(&$0, now) }
    }

    /// Says goodbye, gives it a moment to leave, and ends the loop.
    public func stop() {
        core.stop(at: loop.now)
        drain()
        windDown()
    }

    private var closing: Timer?
    public func windDown(after delay: Duration = .milliseconds(400)) {
        guard closing == nil else { return }
        closing = Timer(loop) { [unowned self] in
            transport.shutdown()
            datagrams.close()
            worker?.close()
            resolver?.close()
            for attempt in dialBacks.values { attempt.close() }
            timer?.close()
            surroundings?.close()
            closing?.close()
            loop.stop()
        }
        closing!.arm(at: loop.now + delay)
    }

    /// Somebody asks whether it can be reached: one TCP dial and one datagram, each from a socket of its own.
    private func dialBack(_ dial: DialBack, _ endpoint: Endpoint, _ probe: DatagramProbe) {
        // The overlay asks for few at a time; sockets for more are not to be had from us.
        guard dialBacks.count < 16 else { return core.dialledBack(dial, reached: false, at: loop.now) }
        dialBacks[dial] = DialBackAttempt(loop, to: endpoint, probe) { [unowned self] reached in
            dialBacks.removeValue(forKey: dial)?.close()
            core.dialledBack(dial, reached: reached, at: loop.now)
            drain()
        }
    }

    private func keep(book: [UInt8]) {
        bookKeeper?.keep(book) { [unowned self] problem in onEvent?(Event(.stateUnsaved(why: problem), at: loop.now)) }
    }
    /// What its owner does with the pool's members; nil where the pool keeps none.
    public func changeBook<T>(_ change: (inout PoolBook, Instant) -> T) -> T? {
        defer { drain() }
        return core.changeBook(at: loop.now, change)
    }
    private func tell(_ events: [CarriedEvent], _ id: ConnectionID) {
        for event in events { core.carried(id, event, at: loop.now) }
    }
    private func drain() {
        guard !draining else { return }
        draining = true
        while let effect = core.poll() {
            switch effect {
            case .datagram(let bytes, let endpoint): datagrams.send(bytes, to: endpoint)
            case .gateway(let bytes, let endpoint): surroundings?.send(bytes, to: endpoint)
            case .igd(let wish):
                surroundings?.ask(wish, pool) { [weak self] answer in
                    guard let self else { return }
                    core.answered(igd: answer, at: loop.now)
                    drain()
                }
            case .dial(let id, let endpoint, let expecting):
                transport.dial(id.value, to: endpoint, expecting: expecting)
            case .punch(let id, let endpoint, let expecting):
                transport.punch(id.value, to: endpoint, expecting: expecting)
            case .flow(let id, let endpoint, let expecting):
                transport.openFlow(id.value, to: endpoint, expecting: expecting)
            case .opener(let endpoint): transport.sendOpener(to: endpoint)
            case .write(let id, let bytes):
                if transport.carried.has(id.value) {
                    tell(transport.carried.write(id.value, bytes), id)
                } else {
                    transport.write(id.value, bytes)
                }
            case .close(let id):
                if transport.carried.has(id.value) {
                    tell(transport.carried.close(id.value), id)
                } else {
                    transport.close(id.value)
                }
            case .seal(let id, let isClient, let peer):
                tell(transport.carried.begin(id.value, isClient: isClient, expecting: peer), id)
            case .sealed(let id, let bytes): tell(transport.carried.receive(id.value, bytes), id)
            case .dialBack(let dial, let endpoint, let probe): dialBack(dial, endpoint, probe)
            case .recordDue: core.publishRecord(wall: Int64(time(nil)), at: loop.now)
            case .overlayChanged: onOverlayChanged?()
            case .found(let request, let outcome): onFound?(request, outcome)
            case .event(let event): onEvent?(event)
            case .connected(let peer, let endpoint):
                onEvent?(Event(.connectionMade(endpoint: endpoint.description), at: loop.now, peer: peer))
            case .compute(let job): worker?.submit(job)
            case .corpus(let bytes): worker?.use(corpus: bytes)
            case .plan(let question): answerPlan(question)
            case .store(let request, let service): onStore?(request, service)
            case .ended(let end): onEnded?(end)
            case .keepBook(let bytes): keep(book: bytes)
            case .poolKeys(let keys): transport.use(poolKeys: keys)
            }
        }
        draining = false
        worker?.yields(core.isMemberYielding)
        if closing == nil { timer?.arm(at: core.nextWake) }
    }
}
