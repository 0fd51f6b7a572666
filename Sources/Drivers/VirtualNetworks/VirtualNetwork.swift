import Digests
public import Links
public import Primitives

/// Hosts, the lines between them, datagrams and secure streams, on one virtual clock: what a daemon has below it, without a
/// machine. Same calls, same seed: the same happenings in the same order.
///
/// It is driven like a core. Commands go in: ``send(_:from:to:)``, ``dial(_:from:to:)``, ``write(_:_:from:)``, ``close(_:by:)``,
/// ``setAlarm(of:at:)``. ``happen(until:)`` moves the clock and hands out what happens next, one thing at a time; it is asked
/// again once that was dealt with. Commands to streams and reports about them are those of the live transport.
///
/// A host with access lines sends through a ``Shaper`` and receives through a ``Reception``: rates, queues, fair shares. Between
/// hosts without lines datagrams take the pair's delay and nothing else, so that a million of them fit.
///
/// Hosts are numbers. Those that were added have an endpoint, a key and perhaps lines; of all others nothing is known but the
/// number, and that is enough for datagrams and alarms.
///
/// The work of a happening does not grow with the number of hosts or streams, but for a heap's logarithm. Hosts may be behind routers: see
/// ``putBehindRouter(_:_:at:timers:seed:)``.
public struct VirtualNetwork {
    public enum Happening: Sendable {
        case datagram([UInt8], from: Int)
        case stream(StreamEvent, from: Int)
        /// What ``carry(_:bytes:from:to:)`` was given has come.
        case cargo(Int, from: Int)
        /// The moment set with ``setAlarm(of:at:)`` has come.
        case alarm
    }
    /// What stands between two hosts for whatever is new.
    public enum Wall: Hashable, Sendable {
        /// Dials fail at once: a router says that nothing passes.
        case rejects
        /// Nobody answers.
        case swallows
    }
    struct Pair: Hashable {
        var from: Int
        var to: Int
    }

    public internal(set) var now: Instant
    /// Of each ordered pair: of hosts with lines asked for once, when the pair first sends; of others with every datagram.
    public var links: (_ from: Int, _ to: Int) -> LinkProperties
    @usableFromInline var hosts: [VirtualHost] = []
    var lines: [VirtualLines] = []
    var byEndpoint: [Endpoint: Int] = [:]
    var streams: [VirtualStream] = []
    var walls: [Pair: Wall] = [:]
    var outages: [Pair: Outage] = [:]
    /// In front of hosts, by their places in here; and by the addresses under which they are known.
    var routers: [VirtualRouter] = []
    var routersByAddress: [[UInt8]: Int] = [:]
    /// Where the datagram that was handed out last seems to come from, to whoever got it; nil: from its sender's endpoint.
    public internal(set) var apparentSource: Endpoint?
    /// What has come to hosts that stand still.
    var frozen: [Int: [Occurrence]] = [:]
    /// When to look at which host.
    private var timers = TimerHeap()
    /// Datagrams on their way between hosts without lines.
    private var direct = TimedQueue<(host: Int, from: Int, bytes: [UInt8])>()
    /// What has happened and was not handed out yet.
    var happened = EffectQueue<Occurrence>()
    private var generator: SeededGenerator

    /// Arrivals of whatever was sent: datagrams, writes, legs of handshakes, ends.
    public private(set) var deliveries = 0
    /// Datagrams lost on the way, between hosts without lines.
    public private(set) var datagramsLost = 0

    public init(seed: UInt64, at now: Instant = .zero, links: @escaping (_ from: Int, _ to: Int) -> LinkProperties) {
        self.now = now
        self.links = links
        generator = SeededGenerator(seed: seed, stream: 0x6e65_7477_6f72_6b)
    }

    // MARK: Hosts

    /// - Parameters:
    ///   - key: whose certificate its streams show.
    ///   - access: its lines; nil for a host that only exchanges datagrams with others of its kind, at no rate.
    ///   - seed: jitter and loss of what it sends are drawn from it.
    /// - Returns: its number; they count from 0.
    @discardableResult
    public mutating func addHost(at endpoint: Endpoint, key: PeerID, access: AccessRates?, seed: UInt64) -> Int {
        let number = hosts.count
        byEndpoint[endpoint] = number
        hosts.append(VirtualHost(endpoint: endpoint, key: key))
        if let access {
            hosts[number].lines = lines.count
            lines.append(
                VirtualLines(
                    shaper: Shaper(up: access.up, seed: seed), reception: Reception(down: access.down)))
        }
        return number
    }
    public func host(at endpoint: Endpoint) -> Int? { byEndpoint[endpoint] }
    public func endpoint(of host: Int) -> Endpoint { hosts[host].endpoint }
    /// From now on the host is found at another endpoint; its streams go on.
    public mutating func move(_ host: Int, to endpoint: Endpoint) {
        byEndpoint[hosts[host].endpoint] = nil
        byEndpoint[endpoint] = host
        hosts[host].endpoint = endpoint
    }
    /// Inlined, so that a network that is asked is not copied.
    @inlinable public func isUp(_ host: Int) -> Bool { host >= hosts.count || hosts[host].isUp }
    /// Bytes over its lines so far, with the heads of datagrams and records.
    public func sentBytes(_ host: Int) -> Int { hosts[host].sent }
    public func receivedBytes(_ host: Int) -> Int { hosts[host].received }

    /// The process runs from now on, or is gone without a word: then the kernel closes its streams.
    public mutating func setUp(_ isUp: Bool, _ host: Int) {
        guard isUp != hosts[host].isUp else { return }
        hosts[host].isUp = isUp
        hosts[host].isUnplugged = false
        frozen[host] = nil
        guard !isUp else { return }
        hosts[host].alarm = nil
        // TCP without a process.
        for number in hosts[host].streams.values.sorted() { end(number, by: host) }
        arm(host)
    }

    /// The machine is gone without a word: nobody is told, and what is sent to it is lost.
    public mutating func unplug(_ host: Int) {
        hosts[host].isUp = false
        hosts[host].isUnplugged = true
        hosts[host].alarm = nil
        for number in hosts[host].streams.values { forget(number, at: host) }
        arm(host)
    }

    /// When the host wants to be told; nil for never. One alarm a host.
    public mutating func setAlarm(of host: Int, at moment: Instant?) {
        guard host < hosts.count else { return timers.set(host, at: moment.map { max($0, now) }) }
        guard hosts[host].alarm != moment else { return }
        hosts[host].alarm = moment
        arm(host)
    }

    // MARK: Running

    /// When something is next to be done; nil when nothing ever happens again.
    public var next: Instant? {
        if !happened.isEmpty { return now }
        return earliest(timers.next, direct.next).map { max($0, now) }
    }

    /// What happens next, and to whom, not later than `limit`.
    public mutating func happen(until limit: Instant = Instant(nanoseconds: .max)) -> (host: Int, what: Happening)? {
        while true {
            while let occurrence = happened.pop() {
                if !frozen.isEmpty, isWithheld(occurrence) { continue }
                if let what = report(occurrence) { return (occurrence.host, what) }
            }
            guard let next = earliest(timers.next, direct.next), next <= limit else { return nil }
            now = max(now, next)
            if let (at, host) = timers.first, at <= now {
                serve(host)
            } else if let (host, from, bytes) = direct.pop(due: now) {
                deliveries += 1
                if host < hosts.count { hosts[host].received += bytes.count + Self.datagramHead }
                happened.push(Occurrence(host: host, from: from, what: .arrived(.datagram(bytes))))
            }
        }
    }
    /// Lets time pass in which nothing happens.
    public mutating func rest(until moment: Instant) { now = max(now, moment) }

    /// Everything that is due on one host, in a fixed order of sources.
    private mutating func serve(_ host: Int) {
        guard host < hosts.count else {
            timers.set(host, at: nil)
            return happened.push(Occurrence(host: host, from: host, what: .alarm))
        }
        if let place = hosts[host].lines {
            if let due = lines[place].shaper.nextWake, due <= now { lines[place].shaper.wake(at: now) }
            drainShaper(host, place)
            if let due = lines[place].reception.nextWake, due <= now { lines[place].reception.wake(at: now) }
            drainReception(host, place)
        }
        if let alarm = hosts[host].alarm, alarm <= now {
            hosts[host].alarm = nil
            happened.push(Occurrence(host: host, from: host, what: .alarm))
        }
        arm(host)
    }
    /// After whatever may have changed when a host is next to be looked at.
    mutating func arm(_ host: Int) {
        var next = hosts[host].alarm
        if let place = hosts[host].lines {
            next = earliest(next, earliest(lines[place].shaper.nextWake, lines[place].reception.nextWake))
        }
        timers.set(host, at: next.map { max($0, now) })
    }

    private mutating func drainShaper(_ host: Int, _ place: Int) {
        while let effect = lines[place].shaper.poll() {
            switch effect {
            case .arrive(var parcel):
                let to = Int(parcel.host.value)
                guard let other = hosts[to].lines else { continue }
                parcel.host = HostID(UInt64(host))
                if !outages.isEmpty, isStopped(parcel, to: to) { continue }
                lines[other].reception.arrive(parcel, at: now)
                drainReception(to, other)
                if to != host { arm(to) }
            case .left(_, let stream, let bytes):
                hosts[host].sent += bytes
                guard let stream, stream < Self.firstCargoStream else { continue }
                happened.push(Occurrence(host: host, from: host, what: .left(stream: Int(stream))))
            }
        }
    }
    mutating func drainReception(_ host: Int, _ place: Int) {
        while let effect = lines[place].reception.poll() {
            guard case .deliver(let parcel) = effect else { continue }
            hosts[host].received += parcel.bytes
            guard let freight = parcel.payload else { continue }
            deliveries += 1
            happened.push(Occurrence(host: host, from: Int(parcel.host.value), what: .arrived(freight)))
        }
    }

    /// Queues something on a host's up line, or says it was lost.
    mutating func offer(_ freight: Freight, bytes: Int, stream: UInt64?, from: Int, to: Int) {
        guard let place = hosts[from].lines else { preconditionFailure("host \(from) has no lines") }
        let other = HostID(UInt64(to))
        let links = links
        lines[place].shaper.meet(other) { links(from, to) }
        if let stream {
            lines[place].shaper.offerStream(bytes: bytes, freight, to: other, stream: stream, at: now)
        } else {
            lines[place].shaper.offerDatagram(bytes: bytes, freight, to: other, at: now)
        }
        drainShaper(from, place)
        arm(from)
    }
    func unsent(_ stream: Int, from host: Int, to other: Int) -> Int {
        guard let place = hosts[host].lines else { return 0 }
        return lines[place].shaper.queuedBytes(to: HostID(UInt64(other)), stream: UInt64(stream))
    }

    // MARK: Datagrams and cargo

    /// Of IPv4 and UDP.
    static let datagramHead = 28

    /// What is sent to an endpoint where nobody is, is lost.
    public mutating func send(_ datagram: [UInt8], from: Int, to endpoint: Endpoint) {
        guard routers.isEmpty else { return sendThroughRouters(datagram, from: from, port: nil, to: endpoint) }
        guard let to = byEndpoint[endpoint] else { return }
        send(datagram, from: from, to: to)
    }
    public mutating func send(_ datagram: [UInt8], from: Int, to: Int) {
        guard walls[Pair(from: from, to: to)] == nil else { return }
        let bytes = datagram.count + Self.datagramHead
        if from < hosts.count {
            guard hosts[from].lines == nil else {
                return offer(.datagram(datagram), bytes: bytes, stream: nil, from: from, to: to)
            }
            hosts[from].sent += bytes
        }
        let link = links(from, to)
        if link.loss > 0, generator.uniform() < link.loss {
            datagramsLost += 1
            return
        }
        var delay = link.latency
        if link.jitter > .zero { delay += link.jitter * (3.464_101_6 * (generator.uniform() - 0.5)) }
        direct.push((to, from, datagram), at: now + max(delay, .zero))
    }

    /// Lets something of so many bytes travel in order with all other cargo of the pair; what it is, is the caller's affair.
    public mutating func carry(_ cargo: Int, bytes: Int, from: Int, to: Int) {
        offer(.cargo(cargo), bytes: bytes, stream: Self.firstCargoStream, from: from, to: to)
    }
    private static let firstCargoStream: UInt64 = 1 << 62

    // MARK: Faults

    /// From now on the pair's link is this.
    public mutating func setLink(from: Int, to: Int, _ link: LinkProperties) {
        guard let place = hosts[from].lines else { preconditionFailure("host \(from) has no lines") }
        lines[place].shaper.setLink(to: HostID(UInt64(to)), link)
    }
    /// From now on the host's lines have these rates.
    public mutating func setAccess(of host: Int, _ access: AccessRates) {
        guard let place = hosts[host].lines else { preconditionFailure("host \(host) has no lines") }
        lines[place].shaper.setUp(access.up)
        lines[place].reception.setDown(access.down)
    }
    /// From now on the host's line carries no larger packets, either way.
    public mutating func setMTU(of host: Int, _ bytes: Int) { hosts[host].mtu = bytes }
    /// Nothing new passes from one host to the other while there is a wall: streams cannot be opened, datagrams vanish.
    public mutating func setWall(_ wall: Wall?, from: Int, to: Int) { walls[Pair(from: from, to: to)] = wall }
}

/// What a host's access lines carry; nil for a line that is never the bottleneck.
public struct AccessRates: Hashable, Sendable {
    public var up: BitRate?
    public var down: BitRate?
    public init(up: BitRate?, down: BitRate?) {
        self.up = up
        self.down = down
    }
}

@usableFromInline struct VirtualHost {
    var endpoint: Endpoint
    let key: PeerID
    /// Its place in ``VirtualNetwork/lines``.
    var lines: Int?
    /// Its place in ``VirtualNetwork/routers``.
    var router: Int?
    @usableFromInline var isUp = true
    /// Bytes of the largest packet that its line carries; datagrams above are lost (their senders forbid that they are cut).
    var mtu = 1500
    /// Not even its machine answers.
    var isUnplugged = false
    var alarm: Instant?
    /// Its ends of streams, by the number that it knows them by.
    var streams: [UInt64: Int] = [:]
    var nextInbound: UInt64 = 2
    var sent = 0
    var received = 0
}

struct VirtualLines {
    var shaper: Shaper<Freight>
    var reception: Reception<Freight>
}

/// What travels between hosts.
enum Freight: Sendable {
    case datagram([UInt8])
    /// A datagram where there are routers: what it says of where it is from, and where it was sent to.
    case letter([UInt8], from: Endpoint, to: Endpoint)
    /// The legs of TCP and TLS 1.3 before a stream carries anything.
    case leg(stream: Int, Int)
    case bytes(stream: Int, [UInt8])
    case end(stream: Int)
    case cargo(Int)
}

/// Something that has come to pass at a host, before it is known whether anybody is there to be told.
struct Occurrence: Sendable {
    enum What: Sendable {
        case arrived(Freight)
        case left(stream: Int)
        case failed(id: UInt64, isRefused: Bool)
        case alarm
    }
    var host: Int
    var from: Int
    var what: What
}
