public import Daemon
import Primitives

/// What kind of line a machine has towards its pool: what `atoll doctor net` says in words, and in JSON.
public struct LineReport: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Sendable, CaseIterable {
        /// Nobody has said how this machine is seen.
        case unknown
        /// One network, in which everybody can dial everybody.
        case `private`
        /// Others can dial it.
        case open
        /// Others can dial it, at a port that its router forwards because it was asked to.
        case forwarded
        /// Nobody gets in who was not written to; what its router does to ports is not known.
        case closed
        /// The same, and its router shows one port to all.
        case onePort = "one_port"
        /// The same, and its router shows another port to each.
        case portEach = "port_each"
    }
    public var kind: Kind
    /// Where others see it.
    public var external: String?
    /// Where others dial it, if its router forwards a port.
    public var forwarded: String?
    /// As ``DaemonStatus/Forwarding`` has it; nil where the router was not asked.
    public var forwarding: String?
    /// How many relays others reach it through.
    public var relays: Int
    /// A public IPv6 address, and a way out for it.
    public var hasIPv6: Bool
    /// Of TCP, to a node of the pool.
    public var segmentBytes: Int?

    enum CodingKeys: String, CodingKey {
        case kind, external, forwarded, forwarding, relays
        case hasIPv6 = "has_ipv6"
        case segmentBytes = "segment_bytes"
    }
    init(_ overlay: DaemonStatus.Overlay?, _ machine: Doctor.Machine, segmentBytes: Int?) {
        self.segmentBytes = segmentBytes
        hasIPv6 = machine.hasWayOutIPv6 && (machine.addresses ?? []).contains { Doctor.isPublicIPv6($0) }
        relays = overlay?.berths.count ?? 0
        external = overlay?.external
        forwarding = overlay?.forwarding?.state.rawValue
        forwarded = overlay?.forwarding.flatMap { $0.state == .open ? $0.endpoint : nil }
        kind = Self.kind(of: overlay)
    }
    private static func kind(of overlay: DaemonStatus.Overlay?) -> Kind {
        guard let overlay, let external = overlay.external.flatMap({ Endpoint($0) }) else { return .unknown }
        if external.isPrivate { return .private }
        if overlay.forwarding?.state == .open { return .forwarded }
        if overlay.isReachable { return .open }
        let ports = [overlay.connectionPorts, overlay.datagramPorts]
        if ports.contains("varies") { return .portEach }
        return ports.contains("same") ? .onePort : .closed
    }

    /// Two or three sentences: what it is, and what follows.
    public var words: String {
        let seen = external.map { "Others see this machine at \($0)" } ?? "Nobody has said how this machine is seen"
        let line =
            switch kind {
            case .unknown:
                "\(seen): no node of the pool answers, or no pool was named (--invite)."
            case .private:
                "This machine and the pool's nodes that it knows are in one private network: everybody can dial everybody."
            case .open: "\(seen) and can dial it. It carries for others as its owner allows."
            case .forwarded:
                "\(seen). Its router forwards \(forwarded ?? "a port") here because it was asked to, and others come in there."
            case .closed:
                "\(seen) and cannot dial it. What its router does to ports is not known: too few have said. It meets whoever it can dial, and the others through relays."
            case .onePort:
                "\(seen) and cannot dial it. Its router shows one port to all: others at home whose routers do so, too, are met by introductions, the rest by dialling them or through relays."
            case .portEach:
                "\(seen) and cannot dial it. Its router gives each destination another port: it meets whoever can be dialled, and everybody else through relays only."
            }
        let packets = segmentBytes.map { " TCP sends \($0) bytes in a packet." } ?? ""
        return line + (hasIPv6 ? " IPv6 is there." : " There is no IPv6.") + packets
    }
}

extension Doctor {
    /// What kind of line this is, by a daemon that runs, or by a node that was made to look.
    public func line() -> LineReport {
        let running = scene.daemons.compactMap { $0.status?.daemon.overlay }.first { $0.isJoined }
        let nodes = scene.invite.flatMap { try? Invite(file: $0) }?.nodes ?? []
        return LineReport(
            running ?? scene.probe?.overlay, scene.machine,
            segmentBytes: nodes.prefix(4).lazy.compactMap(scene.machine.segmentBytes).first)
    }
    /// Whether a daemon of this machine can say it.
    public var knowsLine: Bool { scene.daemons.contains { $0.status?.daemon.overlay.isJoined == true } }
    static func isPublicIPv6(_ endpoint: Endpoint) -> Bool { !endpoint.isIPv4 && endpoint.address[0] & 0xe0 == 0x20 }
}
