public import Primitives

/// A router in front of one or more hosts: what packets from inside look like outside, and which packets from outside get in.
///
/// A *mapping* ties an address and port inside to one outside, for one transport; with a symmetric router for one destination, too. Whom
/// a mapping was used to write to is remembered for a time, and decides who gets in by it. Packets either way renew what they
/// pass by. Nothing is ever sent from here; the owner asks where a packet goes.
public struct Router: Sendable {
    public enum Transport: UInt8, Hashable, Sendable { case udp, tcp }

    private struct Inside: Hashable {
        let transport: Transport
        let endpoint: Endpoint
        /// Of a symmetric router.
        let remote: Endpoint?
    }
    private struct Outside: Hashable {
        let transport: Transport
        let port: UInt16
    }
    private struct Mapping {
        let inside: Inside
        /// Whom it was used to write to, and until when that is remembered.
        var written: [Endpoint: (until: Instant, isAnswered: Bool)] = [:]
    }

    public let kind: NATKind
    /// Under which it is known outside.
    public private(set) var address: [UInt8]
    private let timers: RouterTimers
    /// Who gets what comes to no mapping, where strangers get in.
    private let exposed: Endpoint?
    private var mappings: [Outside: Mapping] = [:]
    private var ports: [Inside: UInt16] = [:]
    private var random: SeededGenerator
    /// Packets from outside that did not get in, and from inside that did not get out.
    public private(set) var refused = 0

    /// With so many they are looked through for what is over: with twice as many as were left the last time.
    private var tidyAt = Router.tidyLeast
    private static let tidyLeast = 1024
    /// With so many it takes no more: ports run out.
    private static let most = 32_768

    /// - Parameters:
    ///   - exposed: the host that a full cone hands strangers' packets to.
    ///   - seed: ports of a symmetric router are drawn from it.
    public init(
        _ kind: NATKind, address: [UInt8], exposing exposed: Endpoint?, timers: RouterTimers = RouterTimers(),
        seed: UInt64
    ) {
        self.kind = kind
        self.address = address
        self.exposed = exposed
        self.timers = timers
        random = SeededGenerator(seed: seed, stream: 0x726f_7574_6572)
    }

    public var mappingCount: Int { mappings.count }

    /// A packet leaves.
    ///
    /// - Parameter inside: where it comes from.
    /// - Returns: what it seems to come from outside; nil when it may not pass.
    public mutating func leave(
        _ transport: Transport, from inside: Endpoint, to remote: Endpoint, at now: Instant
    ) -> Endpoint? {
        let isBarred =
            switch kind {
            case .noUDP: transport == .udp
            case .webOnly: transport == .udp || (remote.port != 80 && remote.port != 443)
            default: false
            }
        guard !isBarred, mappings.count < Self.most else {
            refused += 1
            return nil
        }
        let key = Inside(transport: transport, endpoint: inside, remote: kind == .symmetric ? remote : nil)
        if let port = ports[key], isOver(mappings[Outside(transport: transport, port: port)]!, at: now) { remove(key) }
        let port = ports[key] ?? open(key, at: now)
        let outside = Outside(transport: transport, port: port)
        let isAnswered = mappings[outside]!.written[remote].map { $0.until > now && $0.isAnswered } ?? false
        let life = transport == .tcp ? timers.connection : isAnswered ? timers.answered : timers.unanswered
        mappings[outside]!.written[remote] = (now + life, isAnswered)
        return Endpoint(address: kind.translates ? address : inside.address, port: port)
    }

    /// A packet comes to this router.
    ///
    /// - Parameter outside: where it was sent to.
    /// - Returns: who gets it inside; nil where it does not get in.
    public mutating func enter(
        _ transport: Transport, from remote: Endpoint, to outside: Endpoint, at now: Instant
    ) -> Endpoint? {
        guard let inside = recipient(transport, from: remote, to: outside, at: now) else {
            refused += 1
            return nil
        }
        let place = Outside(transport: transport, port: outside.port)
        if mappings[place]?.written[remote] != nil {
            let life = transport == .tcp ? timers.connection : timers.answered
            mappings[place]!.written[remote] = (now + life, true)
        }
        return inside
    }
    /// The same, without a packet: changes nothing.
    public func recipient(
        _ transport: Transport, from remote: Endpoint, to outside: Endpoint, at now: Instant
    ) -> Endpoint? {
        guard kind != .noUDP && kind != .webOnly || transport == .tcp else { return nil }
        guard kind != .noConnectionsIn || transport == .udp else { return nil }
        let mapping = mappings[Outside(transport: transport, port: outside.port)]
        if kind == .fullCone, mapping.map({ isOver($0, at: now) }) ?? true {
            return exposed.flatMap { $0.port == outside.port ? $0 : nil }
        }
        guard let mapping else { return nil }
        if kind == .firewall, mapping.inside.endpoint != outside { return nil }
        let isLetIn =
            switch kind {
            case .none, .fullCone: true
            case .restricted: mapping.written.contains { $0.key.address == remote.address && $0.value.until > now }
            case .portRestricted, .symmetric, .firewall, .noConnectionsIn, .noUDP, .webOnly:
                mapping.written[remote].map { $0.until > now } ?? false
            }
        return isLetIn ? mapping.inside.endpoint : nil
    }
    /// Who is behind a port now, whether or not a packet would get in.
    public func owner(_ transport: Transport, of outside: Endpoint) -> Endpoint? {
        mappings[Outside(transport: transport, port: outside.port)]?.inside.endpoint
    }

    /// It was switched off and on: nothing is remembered.
    public mutating func forget() {
        mappings = [:]
        ports = [:]
    }
    /// It has another address, and remembers nothing.
    public mutating func renumber(to address: [UInt8]) {
        self.address = address
        forget()
    }

    // MARK: mappings

    private func isOver(_ mapping: Mapping, at now: Instant) -> Bool {
        !mapping.written.isEmpty && mapping.written.allSatisfy { $0.value.until <= now }
    }
    /// The port inside where it is free outside, else one nearby; a symmetric router draws.
    private mutating func open(_ key: Inside, at now: Instant) -> UInt16 {
        if mappings.count >= tidyAt { tidy(at: now) }
        var port = key.endpoint.port
        if kind == .symmetric { port = drawn() }
        while mappings[Outside(transport: key.transport, port: port)] != nil {
            port = kind == .symmetric ? drawn() : port == .max ? 1024 : port + 1
        }
        ports[key] = port
        mappings[Outside(transport: key.transport, port: port)] = Mapping(inside: key)
        return port
    }
    private mutating func drawn() -> UInt16 { UInt16(1024 + random.next() % 64_512) }
    private mutating func remove(_ key: Inside) {
        guard let port = ports.removeValue(forKey: key) else { return }
        mappings[Outside(transport: key.transport, port: port)] = nil
    }
    private mutating func tidy(at now: Instant) {
        for mapping in mappings.values where isOver(mapping, at: now) { remove(mapping.inside) }
        tidyAt = max(Self.tidyLeast, 2 * mappings.count)
    }
}
