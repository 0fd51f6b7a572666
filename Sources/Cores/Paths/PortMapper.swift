public import Primitives

/// A port of the gateway that leads to this machine, as the gateway says. Nobody has tried it yet.
public struct ForwardedPort: Hashable, Sendable {
    /// The gateway's address outside, and the TCP port there.
    public var endpoint: Endpoint
    /// The same for UDP, where the gateway forwards that, too.
    public var datagramPort: UInt16?
    public var spoken: GatewayProtocol
    /// The gateway keeps it so long, unless it is asked again.
    public var until: Instant
    public init(endpoint: Endpoint, datagramPort: UInt16?, spoken: GatewayProtocol, until: Instant) {
        self.endpoint = endpoint
        self.datagramPort = datagramPort
        self.spoken = spoken
        self.until = until
    }
}

/// Has the router in front of this machine, or the firewall of IPv6 in it, let the listening port in, TCP and UDP, by PCP (RFC 6887) or NAT-PMP (RFC 6886), and keeps it so.
///
/// PCP is asked first; where nothing has come back for 250 ms both are, and whichever answers is spoken from then on. A gateway that answers PCP with version
/// 0 is spoken to in NAT-PMP at once (RFC 6887, Appendix A). Questions are asked again at the times of RFC 6887 §8.1.1 (3 s, doubled up to 1024 s, for ever, each varied by a
/// tenth) and of RFC 6886 §3.1 (250 ms, doubled, nine times). A mapping is asked for again at half of its life, and at half of what is left of
/// that (§11.2.1). Every minute the gateway is asked for its epoch; one that has begun anew is asked for everything anew.
///
/// Only what comes from the gateway's own address and port counts, and of that only what answers a question of ours: the nonce, the port, the transport are the
/// same. What it says is clipped to what can be: lives between 8 s and a day, refusals between 30 s and 30 min.
public struct PortMapper: Core {
    public enum Effect: Hashable, Sendable {
        case send([UInt8], to: Endpoint)
        /// Another port than before, or none.
        case forwarded(ForwardedPort?)
        /// Of somebody who speaks UPnP; ``answered(_:at:)`` follows.
        case igd(IGDWish)
    }
    public struct Gateway: Hashable, Sendable {
        /// Its address and port; the port is ``GatewayProtocol/port`` but in tests.
        public var endpoint: Endpoint
        /// This machine's address in the gateway's network; the port says nothing.
        public var local: Endpoint
        public init(endpoint: Endpoint, local: Endpoint) {
            self.endpoint = endpoint
            self.local = local
        }
    }
    /// Of the whole, for people.
    public enum Standing: Hashable, Sendable {
        /// There is nobody to ask, or nothing to ask for.
        case idle
        case asking
        /// Nothing has come back for ``patience``; it is still asked.
        case silent
        case refused(GatewayRefusal)
        case forwarded(ForwardedPort)
    }
    public struct Counts: Hashable, Sendable {
        public var sent = 0
        /// Answers that were of use.
        public var answers = 0
        /// Datagrams from others than the gateway, no answers, or answers to nothing that was asked.
        public var strays = 0
        /// The gateway has lost what it knew.
        public var restarts = 0
        public init() {}
    }
    private enum Stage: Sendable {
        /// Not had; asked for by each protocol that may be spoken.
        case asking(pcp: Repetition, natPMP: Repetition)
        case held(until: Instant, renewAt: Instant)
        case refused(GatewayRefusal, until: Instant)
    }
    /// When a question is asked again, and how long after that.
    private struct Repetition: Sendable {
        var next: Instant?
        var pause: Duration
        var count = 0
    }
    private struct Lease: Sendable {
        let transport: ForwardedTransport
        var nonce: [UInt8]
        var stage: Stage
        /// Where it is seen, or would like to be: kept over a restart of the gateway.
        var external: Endpoint
        var askedAt: Instant?
    }
    private let port: UInt16
    private let secret: [UInt8]
    private var random: SeededGenerator
    private var gateway: Gateway?
    private var leases: [Lease] = []
    /// What the gateway speaks, once it has answered.
    private var spoken: GatewayProtocol?
    private var epoch = GatewayEpoch()
    /// The gateway's address outside, which NAT-PMP tells apart from ports.
    private var outside: [UInt8]?
    /// When the gateway is asked for its epoch next.
    private var checkAt: Instant?
    private var begunAt = Instant.zero
    private var heardAt: Instant?
    /// As told last.
    private var told: Endpoint?
    var igd = IGDLease()
    private var effects = EffectQueue<Effect>()
    public private(set) var counts = Counts()

    static let life: UInt32 = 7200
    static let checkPause = Duration.seconds(60)
    /// So long until an unanswered gateway is called silent.
    static let patience = Duration.seconds(3)
    /// So long until one that answers neither protocol is asked in UPnP.
    private static let igdDelay = Duration.seconds(1)
    private static let firstPause = Duration.seconds(3)
    private static let mostPause = Duration.seconds(1024)
    private static let natPMPDelay = Duration.milliseconds(250)
    private static let natPMPTries = 9
    /// Between two questions for one lease that others could provoke.
    private static let least = Duration.seconds(4)
    private static let lives = 8...86_400
    private static let refusals = 30...1800

    /// - Parameters:
    ///   - port: that this machine listens at, TCP and UDP.
    ///   - secret: 24 bytes that only this machine knows and that a restart does not change: who does not know them cannot end its mappings, and
    ///     a gateway that still has one of before gives it to nobody else (RFC 6887 §11.3).
    public init(port: UInt16, secret: [UInt8], seed: UInt64) {
        precondition(secret.count == 24, "two nonces of 12 bytes, not \(secret.count)")
        (self.port, self.secret) = (port, secret)
        random = SeededGenerator(seed: seed, stream: 0x9A7E)
    }

    // MARK: what is known

    /// What the gateway says it forwards, with whatever life it has left.
    public var forwarded: ForwardedPort? { leased ?? igd.port }
    private var leased: ForwardedPort? {
        guard let tcp = leases.first(where: { $0.transport == .tcp }), case .held(let until, _) = tcp.stage, let spoken
        else { return nil }
        let address = spoken == .pcp ? tcp.external.address : outside
        guard let address, let endpoint = Endpoint(address: address, port: tcp.external.port), endpoint.isDialable
        else { return nil }
        var datagramPort: UInt16?
        if let udp = leases.first(where: { $0.transport == .udp }), case .held = udp.stage {
            datagramPort = udp.external.port
        }
        return ForwardedPort(endpoint: endpoint, datagramPort: datagramPort, spoken: spoken, until: until)
    }
    public func standing(at now: Instant) -> Standing {
        guard gateway != nil else { return .idle }
        if let forwarded { return .forwarded(forwarded) }
        if case .refused(let why, _)? = leases.first(where: { $0.transport == .tcp })?.stage { return .refused(why) }
        return heardAt == nil && now - begunAt >= Self.patience ? .silent : .asking
    }
    public mutating func poll() -> Effect? { effects.pop() }
    public var nextWake: Instant? {
        var next = earliest(checkAt, igd.due(isWanted: leased == nil))
        if igd.stage == .idle, gateway?.endpoint.isIPv4 == true, heardAt == nil {
            next = earliest(next, begunAt + Self.igdDelay)
        }
        for lease in leases { next = earliest(next, due(lease)) }
        return next
    }
    private func due(_ lease: Lease) -> Instant? {
        switch lease.stage {
        case .asking(let pcp, let natPMP):
            earliest(spoken == .natPMP ? nil : pcp.next, spoken == .pcp ? nil : natPMP.next)
        case .held(let until, let renewAt): min(until, renewAt)
        case .refused(_, let until): until
        }
    }

    // MARK: inputs

    /// The gateway is this one, from now on; nil: there is none. Said again, nothing happens.
    public mutating func use(_ gateway: Gateway?, at now: Instant) {
        guard gateway != self.gateway else { return }
        release()
        self.gateway = gateway
        (spoken, outside, heardAt, begunAt) = (nil, nil, nil, now)
        igd = IGDLease()
        epoch = GatewayEpoch()
        checkAt = nil
        leases = []
        if gateway != nil {
            for (place, transport) in [ForwardedTransport.tcp, .udp].enumerated() {
                leases.append(
                    Lease(
                        transport: transport, nonce: Array(secret[place * 12..<place * 12 + 12]), stage: fresh(at: now),
                        external: anywhere(port: port)))
            }
        }
        wake(at: now)
    }
    /// This machine goes: the gateway need not keep anything. What is sent is not repeated.
    public mutating func stop(at now: Instant) { use(nil, at: now) }
    /// The machine has slept, or its network is another one that looks the same: whether the gateway still knows is asked now.
    public mutating func hurry(at now: Instant) {
        guard gateway != nil else { return }
        for place in leases.indices {
            if case .asking = leases[place].stage, may(leases[place], at: now) { leases[place].stage = fresh(at: now) }
        }
        if checkAt != nil { checkAt = now }
        wake(at: now)
    }

    public mutating func receive(_ bytes: [UInt8], from sender: Endpoint, at now: Instant) {
        guard let gateway, sender == gateway.endpoint, let answer = GatewayAnswer(bytes), concerns(answer) else {
            counts.strays += 1
            return
        }
        counts.answers += 1
        heardAt = now
        if spoken == nil { choose(after: answer, at: now) }
        guard answer.spoken == spoken else { return tell() }
        if !epoch.accepts(answer.epoch, answer.spoken, at: now) { begunAnew(at: now) }
        switch answer.content {
        case .mapping(let transport, _, _, let external, let address):
            take(answer, transport, external, address, at: now)
        case .address(let address): outside = address
        case .none: break
        }
        if checkAt == nil || lacksAddress { checkAt = now + checkPause }
        wake(at: now)
    }
    /// A port is forwarded, and it is not known yet of which address.
    private var lacksAddress: Bool { spoken == .natPMP && outside == nil }
    private var checkPause: Duration { lacksAddress ? .seconds(1) : Self.checkPause }
    /// Whether it answers something that was asked here.
    private func concerns(_ answer: GatewayAnswer) -> Bool {
        guard case .mapping(let transport, let nonce, let port, _, _) = answer.content else { return true }
        guard let lease = leases.first(where: { $0.transport == transport }) else { return false }
        return port == self.port && lease.askedAt != nil && (nonce == nil || nonce == lease.nonce)
    }
    /// Whoever answers is spoken to in its own words from now on.
    private mutating func choose(after answer: GatewayAnswer, at now: Instant) {
        spoken = answer.spoken
        guard answer.spoken == .natPMP, answer.refusal == .unsupportedVersion else { return }
        // It was asked in PCP: what it understands is asked at once.
        for place in leases.indices {
            guard case .asking(let pcp, var natPMP) = leases[place].stage else { continue }
            natPMP.next = now
            leases[place].stage = .asking(pcp: pcp, natPMP: natPMP)
        }
    }
    private mutating func begunAnew(at now: Instant) {
        counts.restarts += 1
        outside = nil
        for place in leases.indices {
            guard case .held = leases[place].stage else { continue }
            let pause = may(leases[place], at: now) ? Duration.zero : Self.least
            leases[place].stage = fresh(at: now + pause)
        }
    }
    /// Whether it was not asked for a moment ago.
    private func may(_ lease: Lease, at now: Instant) -> Bool {
        lease.askedAt.map { now - $0 >= Self.least } ?? true
    }
    private mutating func take(
        _ answer: GatewayAnswer, _ transport: ForwardedTransport, _ external: UInt16, _ address: [UInt8]?,
        at now: Instant
    ) {
        let place = leases.firstIndex { $0.transport == transport }!
        if let why = answer.refusal {
            // What is held is held until its end, whatever a renewal says.
            if case .held = leases[place].stage { return }
            let seconds = min(max(Int(answer.seconds), Self.refusals.lowerBound), Self.refusals.upperBound)
            leases[place].stage = .refused(why, until: now + .seconds(seconds))
            return
        }
        guard external != 0, answer.seconds != 0,
            let endpoint = Endpoint(address: address ?? anywhere(port: 0).address, port: external),
            endpoint.isIPv4 == gateway?.endpoint.isIPv4
        else { return }
        let life = Duration.seconds(min(max(Int(answer.seconds), Self.lives.lowerBound), Self.lives.upperBound))
        leases[place].external = endpoint
        // Between a half and five eighths of its life, so that machines do not move in step.
        leases[place].stage = .held(until: now + life, renewAt: now + life * (0.5 + random.uniform() / 8))
    }

    // MARK: time

    public mutating func wake(at now: Instant) {
        guard gateway != nil else { return tell() }
        for place in leases.indices { wake(place, at: now) }
        if igd.wake(isWanted: isInVain(at: now), at: now) { wish(seconds: Self.life) }
        if let at = checkAt, at <= now {
            checkAt = now + checkPause
            send(spoken == .pcp ? GatewayRequest.announce(client: gateway!.local) : GatewayRequest.externalAddress)
        }
        tell()
    }
    private mutating func wake(_ place: Int, at now: Instant) {
        switch leases[place].stage {
        case .asking(var pcp, var natPMP):
            let isDuePCP = spoken != .natPMP && pcp.next.map { $0 <= now } ?? false
            let isDueNATPMP = spoken != .pcp && natPMP.next.map { $0 <= now } ?? false
            if isDuePCP { advance(&pcp, at: now) }
            if isDueNATPMP { advanceNATPMP(&natPMP, at: now) }
            leases[place].stage = .asking(pcp: pcp, natPMP: natPMP)
            if isDuePCP { ask(place, in: .pcp, at: now) }
            if isDueNATPMP { ask(place, in: .natPMP, at: now) }
        case .held(let until, let renewAt):
            if until <= now { return beginAgain(at: now) }
            guard renewAt <= now, let spoken else { return }
            leases[place].stage = .held(until: until, renewAt: now + max(Self.least, (until - now) / 2))
            ask(place, in: spoken, at: now)
        case .refused(_, let until):
            guard until <= now else { return }
            leases[place].stage = fresh(at: now)
            wake(place, at: now)
        }
    }
    /// The gateway has not answered for a whole life: perhaps it is another one, that speaks otherwise.
    private mutating func beginAgain(at now: Instant) {
        (spoken, outside, heardAt, begunAt, checkAt) = (nil, nil, nil, now, nil)
        epoch = GatewayEpoch()
        for place in leases.indices { leases[place].stage = fresh(at: now) }
        for place in leases.indices { wake(place, at: now) }
    }
    /// A firewall is asked to let a port in; nothing is translated (RFC 6887, §1).
    private var isIPv6: Bool { gateway?.endpoint.isIPv4 == false }
    /// Wherever the gateway likes.
    private func anywhere(port: UInt16) -> Endpoint {
        Endpoint(address: [UInt8](repeating: 0, count: isIPv6 ? 16 : 4), port: port)!
    }
    /// Not had, and asked for from `now` on.
    private func fresh(at now: Instant) -> Stage {
        .asking(
            pcp: Repetition(next: now, pause: Self.firstPause),
            natPMP: Repetition(
                // NAT-PMP knows no IPv6.
                next: isIPv6 ? nil : spoken == .natPMP ? now : now + Self.natPMPDelay, pause: Self.natPMPDelay))
    }
    /// RFC 6887 §8.1.1: the first pause varied by a tenth; each later one twice the last, and a tenth of it more or less.
    private mutating func advance(_ pcp: inout Repetition, at now: Instant) {
        let varied = random.uniform() * 0.2 - 0.1
        if pcp.count == 0 {
            pcp.pause = Self.firstPause * (1 + varied)
        } else {
            let doubled = pcp.pause * (2 + varied)
            pcp.pause = doubled < Self.mostPause ? doubled : Self.mostPause * (1 + varied)
        }
        pcp.count += 1
        pcp.next = now + pcp.pause
    }
    /// RFC 6886 §3.1; the last try is 64 s long and is not followed by another.
    private mutating func advanceNATPMP(_ natPMP: inout Repetition, at now: Instant) {
        if natPMP.count > 0 { natPMP.pause = natPMP.pause * 2 }
        natPMP.count += 1
        natPMP.next = natPMP.count < Self.natPMPTries ? now + natPMP.pause : nil
        // Nobody speaks NAT-PMP there; one that did is asked again some time.
        if natPMP.next == nil, spoken == .natPMP, !isIPv6 {
            natPMP = Repetition(next: now + Self.mostPause, pause: Self.natPMPDelay)
        }
    }
    /// Neither protocol has come to anything: nobody has answered for a while, or the answer was no.
    private func isInVain(at now: Instant) -> Bool {
        guard gateway?.endpoint.isIPv4 == true, leased == nil else { return false }
        if case .refused? = leases.first(where: { $0.transport == .tcp })?.stage { return true }
        return heardAt == nil && now - begunAt >= Self.igdDelay
    }
    private mutating func wish(seconds: UInt32) {
        effects.push(.igd(IGDWish(gateway: gateway!.endpoint, port: port, seconds: seconds)))
    }
    private mutating func ask(_ place: Int, in spoken: GatewayProtocol, at now: Instant) {
        leases[place].askedAt = now
        let request = request(leases[place], seconds: Self.life)
        switch spoken {
        case .pcp: send(request.pcp(client: gateway!.local))
        case .natPMP:
            if outside == nil, leases[place].transport == .tcp { send(GatewayRequest.externalAddress) }
            send(request.natPMP)
        case .upnp: preconditionFailure("UPnP is asked in by somebody else")
        }
    }
    private func request(_ lease: Lease, seconds: UInt32) -> GatewayRequest {
        GatewayRequest(
            transport: lease.transport, nonce: lease.nonce, port: port,
            wish: seconds == 0 ? anywhere(port: 0) : lease.external, seconds: seconds)
    }
    /// What is held is given back (RFC 6887 §15, RFC 6886 §3.4).
    private mutating func release() {
        if gateway != nil, igd.port != nil { wish(seconds: 0) }
        guard let gateway, let spoken else { return }
        for lease in leases {
            guard case .held = lease.stage else { continue }
            let request = request(lease, seconds: 0)
            send(spoken == .pcp ? request.pcp(client: gateway.local) : request.natPMP)
        }
    }
    private mutating func send(_ bytes: [UInt8]) {
        counts.sent += 1
        effects.push(.send(bytes, to: gateway!.endpoint))
    }
    private mutating func tell() {
        let forwarded = forwarded
        guard forwarded?.endpoint != told else { return }
        told = forwarded?.endpoint
        effects.push(.forwarded(forwarded))
    }
}
