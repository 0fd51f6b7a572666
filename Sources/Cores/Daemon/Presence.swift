import Kademlia
import Paths
import Primitives

/// How a daemon stands towards the outside: where it is seen, whether it can be reached, what it says about itself.
///
/// Private and loopback networks start reachable. Elsewhere a peer starts read-only until others could dial it on TCP and
/// UDP; a bootstrap node starts as a server, because with none nobody could begin.
struct Presence: Sendable {
    let port: UInt16
    private let device: String
    private let isNode: Bool
    private let isSilent: Bool
    private let hasPool: Bool
    private(set) var external: Endpoint?
    private(set) var isReachable = true
    /// No datagram has ever come in, though nodes on the internet were asked: the network lets none through.
    var isDeaf: Bool { nextKnock != nil }
    /// Others have tried to dial it, or nobody could try for long enough.
    private var isJudged = false
    /// Where it is to be had where it cannot be dialled.
    var relays: [Endpoint] = []
    private(set) var nextCheck: Instant?
    /// When a daemon that hears no datagrams looks again whether those whom everybody begins with are there; nil of one that hears them.
    private(set) var nextKnock: Instant?
    /// How often others were asked to try, and what they say.
    private var votes = (rounds: 0, verdict: ReachVerdict())
    /// Others may open flows to its port for datagrams.
    var carriesFlows = false
    /// Since it was looked at last.
    var isChanged = true
    private var published: CapabilityRecord?
    struct Machine: Sendable {
        /// The router in front of it, if that may be asked.
        var gateway: PortMapper.Gateway?
        /// That of IPv6, whose firewall is asked to let the port in.
        var gatewayIPv6: PortMapper.Gateway?
        /// The public IPv6 address that it has itself, if any, and the port that is listened at.
        var ownIPv6: Endpoint?
        /// Its own address on its way to the internet.
        var ownIPv4: Endpoint?
    }
    var machine = Machine()
    /// What that says it forwards; the same, once others have come in there; what they try, or tried last (nil: the port that is listened at); and
    /// what they tried in vain.
    private(set) var forwarded: Endpoint?
    private(set) var opened: Endpoint?
    private(set) var forwardTried: Endpoint?
    private var vain: Endpoint?

    /// A verdict is asked for again after this long, and sooner while nobody can give one.
    private static let interval = Duration.seconds(900)
    private static let retry = Duration.seconds(65)
    /// So often it is asked again soon where nobody has said anything.
    private static let hastyChecks = 3
    private static let haste = Duration.seconds(4)
    private static let knockPause = Duration.seconds(5)
    private static let recordLife: Int64 = 7200
    /// Versions of the wire that this daemon speaks.
    private static let versions: [Int64] = [1]

    /// - Parameters:
    ///   - isNode: it is there for others.
    ///   - isSilent: it publishes nothing about itself: it does nothing in jobs.
    ///   - hasPool: reachability is asked for in closed pools only: strangers do not know the query.
    init(port: UInt16, device: String, isNode: Bool, isSilent: Bool, hasPool: Bool) {
        self.port = port
        self.device = device
        self.isNode = isNode
        self.isSilent = isSilent
        self.hasPool = hasPool
    }

    /// Others see us at `endpoint`.
    ///
    /// - Returns: whether to be read-only from now on.
    mutating func seen(at endpoint: Endpoint, now: Instant) -> Bool {
        let moved = external?.address != endpoint.address || isDeaf
        nextKnock = nil
        external = endpoint
        isChanged = true
        if moved { (opened, vain) = (nil, nil) }
        guard moved, hasPool else { return false }
        guard !endpoint.isPrivate else {
            isReachable = true
            nextCheck = nil
            return false
        }
        (isJudged, votes.verdict) = (false, ReachVerdict())
        nextCheck = now + .seconds(1)
        guard !isNode else { return false }
        isReachable = false
        return true
    }

    /// Nobody answers in the overlay, which is all datagrams. What can be reached then is reached by connections, and nobody can be asked whether he
    /// comes in here.
    ///
    /// - Returns: whether that is news.
    mutating func hearsNothing(at now: Instant) -> Bool {
        guard external == nil, hasPool, !isNode, !isDeaf else { return false }
        (isReachable, isJudged, isChanged) = (false, true, true)
        nextKnock = now
        return true
    }
    /// Without datagrams nothing else says that they are there again.
    mutating func isKnockDue(at now: Instant) -> Bool {
        guard let next = nextKnock, next <= now else { return false }
        nextKnock = now + Self.knockPause
        return true
    }
    /// A relay sees the connection from here come from there.
    mutating func seen(byRelayAt endpoint: Endpoint) {
        guard isDeaf, external == nil, !endpoint.isPrivate else { return }
        external = endpoint
        isChanged = true
    }

    var nextWake: Instant? { earliest(nextCheck, nextKnock) }
    /// - Parameter isBusy: others are trying already.
    /// - Returns: the port that others should try now.
    mutating func dueCheck(isBusy: Bool, at now: Instant) -> UInt16? {
        guard let next = nextCheck, next <= now else { return nil }
        guard !isBusy else {
            nextCheck = now + .seconds(1)
            return nil
        }
        nextCheck = now + Self.retry
        votes.rounds += 1
        if votes.rounds > 1 { (isJudged, isChanged) = (true, true) }
        forwardTried = usable == vain ? nil : usable
        return forwardTried?.port ?? port
    }

    /// - Parameter isProvisional: others can say more in a minute.
    mutating func judged(reached: Int, asked: Int, isProvisional: Bool, at now: Instant) {
        guard asked > 0 else {
            // Nobody could say: others may be known in a moment.
            if votes.rounds <= Self.hastyChecks { nextCheck = now + Self.haste }
            return
        }
        guard let isReached = votes.verdict.heard(reached: reached, asked: asked, isReachable: isReachable) else {
            nextCheck = now + Self.retry
            return
        }
        (isJudged, isChanged, isReachable) = (true, true, isReached)
        nextCheck = now + (isProvisional ? Self.retry : Self.interval)
        opened = isReachable && forwardTried == usable ? forwardTried : nil
        vain = isReachable ? nil : forwardTried
        // Perhaps its owner has forwarded the very port that is listened at.
        if let vain, vain.port != port { nextCheck = now + Self.retry }
    }

    /// Others see another address than this machine has, or it is not known which one it has.
    var isTranslated: Bool { external.map { $0.isIPv4 && $0.address != machine.ownIPv4?.address } ?? true }

    // MARK: the router

    /// Where others in the same home dial it.
    var inside: Endpoint? {
        guard let local = machine.gateway?.local, local.isPrivate else { return nil }
        return Endpoint(address: local.address, port: port)
    }

    /// Nil where there is nothing to be had: in a private network, and where this machine has its public address itself.
    var gatewayToAsk: PortMapper.Gateway? {
        guard hasPool, let gateway = machine.gateway, let external, external.isIPv4, !external.isPrivate,
            external.address != gateway.local.address
        else { return nil }
        return gateway
    }
    /// The router says that this leads here; nil: nothing does.
    mutating func forward(_ endpoint: Endpoint?, at now: Instant) {
        let wasOpen = opened != nil
        (forwarded, vain) = (endpoint, nil)
        if opened != endpoint { opened = nil }
        guard wasOpen != (opened != nil) || usable != nil, external.map({ !$0.isPrivate }) ?? false else { return }
        isChanged = true
        // The first one is due anyway, when more are known who may be asked.
        if let next = nextCheck, next - now <= .seconds(2) { return }
        nextCheck = now
    }
    var firewallToAsk: PortMapper.Gateway? {
        guard hasPool, let gateway = machine.gatewayIPv6, let external, !external.isPrivate else { return nil }
        return gateway
    }
    /// The firewall says that strangers come in at this address of ours now; others are to try.
    mutating func pinhole(_ endpoint: Endpoint?, at now: Instant) {
        guard let endpoint, let external, endpoint.address == external.address, nextCheck != nil else { return }
        nextCheck = now
    }
    /// What the router forwards, unless it has its own address from another router.
    private var usable: Endpoint? { forwarded.flatMap { $0.address == external?.address ? $0 : nil } }
    var isBehindAnother: Bool { forwarded != nil && external != nil && usable == nil }
    /// Others tried what the router forwards, and did not come in.
    var isForwardedInVain: Bool { vain != nil && vain == usable }
    /// Where others dial: the port that is listened at, or that of the router once others have come in there.
    var outerPort: UInt16 { opened?.port ?? port }

    /// Whether a record would say something that the last one did not.
    var isNews: Bool {
        guard let record = makeRecord(wall: 0) else { return false }
        guard let published else { return true }
        return record.endpoints != published.endpoints || record.isReachable != published.isReachable
            || record.relays != published.relays
    }
    /// It cannot be dialled, as far as others could find out: others have to carry it.
    var isHome: Bool { isJudged && !isReachable && external.map { !$0.isPrivate } ?? false }
    /// Where it would be dialled from outside.
    var dialled: Endpoint? { external.flatMap { Endpoint(address: $0.address, port: outerPort) } }
    mutating func forgetRecord() { published = nil }

    private func makeRecord(wall: Int64) -> CapabilityRecord? {
        guard !isSilent, let external else { return nil }
        var endpoints = [Endpoint(address: external.address, port: outerPort) ?? external]
        // Behind a router the port that others see is not ours; dialling both costs one packet.
        if external.port != outerPort { endpoints.append(external) }
        return CapabilityRecord(
            endpoints: endpoints, isReachable: isReachable, relays: isReachable ? [] : relays, device: device,
            versions: Self.versions,
            expires: wall + Self.recordLife)
    }
    mutating func record(wall: Int64) -> CapabilityRecord? {
        published = makeRecord(wall: wall)
        return published
    }
}
