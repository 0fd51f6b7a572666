import Kademlia
import Primitives

/// How a daemon stands towards the outside: where it is seen, whether it can be reached, what it says about itself.
///
/// Private and loopback networks start reachable. Elsewhere a peer starts read-only until others could dial it on TCP and
/// UDP; a bootstrap node starts as a server, because with none nobody could begin.
struct Presence: Sendable {
    let port: UInt16
    private let device: String
    private let isServer: Bool
    private let hasPool: Bool
    private(set) var external: Endpoint?
    private(set) var isReachable = true
    /// Others have tried to dial it, or nobody could try for long enough.
    private var isJudged = false
    /// Where it is to be had where it cannot be dialled.
    var relays: [Endpoint] = []
    private(set) var nextCheck: Instant?
    private var checks = 0
    /// Since it was looked at last.
    var isChanged = true
    private var published: CapabilityRecord?

    /// A verdict is asked for again after this long, and sooner while nobody can give one.
    private static let interval = Duration.seconds(900)
    private static let retry = Duration.seconds(65)
    private static let recordLife: Int64 = 7200
    /// Versions of the wire that this daemon speaks.
    private static let versions: [Int64] = [1]

    /// - Parameters:
    ///   - isServer: a node; it publishes nothing about itself.
    ///   - hasPool: reachability is asked for in closed pools only: strangers do not know the query.
    init(port: UInt16, device: String, isServer: Bool, hasPool: Bool) {
        self.port = port
        self.device = device
        self.isServer = isServer
        self.hasPool = hasPool
    }

    /// Others see us at `endpoint`.
    ///
    /// - Returns: whether to be read-only from now on.
    mutating func seen(at endpoint: Endpoint, now: Instant) -> Bool {
        let moved = external?.address != endpoint.address
        external = endpoint
        isChanged = true
        guard moved, hasPool else { return false }
        guard !endpoint.isPrivate else {
            isReachable = true
            nextCheck = nil
            return false
        }
        isJudged = false
        nextCheck = now + .seconds(1)
        guard !isServer else { return false }
        isReachable = false
        return true
    }

    mutating func checkIsDue(at now: Instant) -> Bool {
        guard let next = nextCheck, next <= now else { return false }
        nextCheck = now + Self.retry
        checks += 1
        if checks > 1 { (isJudged, isChanged) = (true, true) }
        return true
    }

    mutating func judged(reached: Int, asked: Int, at now: Instant) {
        guard asked > 0 else { return }
        (isJudged, isChanged) = (true, true)
        isReachable = reached * 2 > asked
        nextCheck = now + Self.interval
    }

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
    var dialled: Endpoint? { external.flatMap { Endpoint(address: $0.address, port: port) } }
    mutating func forgetRecord() { published = nil }

    private func makeRecord(wall: Int64) -> CapabilityRecord? {
        guard !isServer, let external else { return nil }
        var endpoints = [Endpoint(address: external.address, port: port) ?? external]
        // Behind a router the port that others see is not ours; dialling both costs one packet.
        if external.port != port { endpoints.append(external) }
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
