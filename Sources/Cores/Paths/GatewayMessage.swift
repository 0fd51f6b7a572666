import Primitives

/// The protocols in which a gateway is asked to let a port in. Two of them are UDP at port 5351 of the gateway and are told apart by their first byte.
public enum GatewayProtocol: UInt8, CaseIterable, Hashable, Sendable, CustomStringConvertible {
    /// NAT Port Mapping Protocol, RFC 6886.
    case natPMP = 0
    /// Port Control Protocol, RFC 6887.
    case pcp = 2
    /// Universal Plug and Play's Internet Gateway Device: no datagrams of ours, somebody else speaks it.
    case upnp = 255

    public var description: String {
        switch self {
        case .natPMP: "NAT-PMP"
        case .pcp: "PCP"
        case .upnp: "UPnP"
        }
    }
    public static let port: UInt16 = 5351
    /// Those that are spoken here.
    package static let own: [GatewayProtocol] = [.natPMP, .pcp]
}

/// Why a gateway forwards nothing: the result codes of RFC 6887 §7.4 and RFC 6886 §3.5 as one list.
public enum GatewayRefusal: UInt8, CaseIterable, Hashable, Sendable, CustomStringConvertible {
    case unsupportedVersion, notAuthorized, malformed, unsupportedOpcode, networkFailure, noResources
    case unsupportedProtocol, quota, noExternalPort
    /// The gateway sees another source address than ours: there is one more router before it.
    case addressMismatch
    case other

    init?(pcp code: UInt8) {
        switch code {
        case 0: return nil
        case 1: self = .unsupportedVersion
        case 2: self = .notAuthorized
        case 3: self = .malformed
        case 4: self = .unsupportedOpcode
        case 7: self = .networkFailure
        case 8: self = .noResources
        case 9: self = .unsupportedProtocol
        case 10: self = .quota
        case 11: self = .noExternalPort
        case 12: self = .addressMismatch
        default: self = .other
        }
    }
    init?(natPMP code: UInt16) {
        switch code {
        case 0: return nil
        case 1: self = .unsupportedVersion
        case 2: self = .notAuthorized
        case 3: self = .networkFailure
        case 4: self = .noResources
        case 5: self = .unsupportedOpcode
        default: self = .other
        }
    }
    /// In a clause.
    public var description: String {
        switch self {
        case .unsupportedVersion: "it speaks another version"
        case .notAuthorized: "its settings do not allow it"
        case .malformed: "it did not understand the question"
        case .unsupportedOpcode: "it forwards no ports"
        case .networkFailure: "it has no address outside at the moment"
        case .noResources: "it has no room for more"
        case .unsupportedProtocol: "it does not forward this protocol"
        case .quota: "this machine has as many as it may have"
        case .noExternalPort: "the port is taken"
        case .addressMismatch: "another router stands between it and this machine"
        case .other: "it gave a reason that nobody knows"
        }
    }
}

/// What is forwarded. The numbers are those of IP, which PCP uses.
package enum ForwardedTransport: UInt8, CaseIterable, Hashable, Sendable {
    case tcp = 6
    case udp = 17

    /// NAT-PMP's opcode.
    var opcode: UInt8 { self == .udp ? 1 : 2 }
}

/// A wish of this machine, or with a life of zero the end of one.
package struct GatewayRequest: Hashable, Sendable {
    var transport: ForwardedTransport
    /// 12 bytes, always the same for one mapping: who does not know them cannot end it (RFC 6887 §11.2).
    var nonce: [UInt8]
    var port: UInt16
    /// Where it would like to be seen; zeros and port 0 leave it to the gateway.
    var wish: Endpoint
    var seconds: UInt32

    /// 60 bytes (RFC 6887 §7.1, §11.1).
    ///
    /// - Parameter client: this machine's address, as the gateway sees it.
    func pcp(client: Endpoint) -> [UInt8] {
        var out = Self.head(opcode: 1, client: client, seconds: seconds)
        out += nonce
        out += [transport.rawValue, 0, 0, 0]
        out += bigEndian(port) + bigEndian(wish.port) + mapped(wish.address)
        return out
    }
    /// 12 bytes (RFC 6886 §3.3).
    var natPMP: [UInt8] {
        [0, transport.opcode, 0, 0] + bigEndian(port) + bigEndian(wish.port) + bigEndian(seconds)
    }
    /// Does nothing but have the gateway tell its epoch (RFC 6887 §14.1.1), 24 bytes.
    static func announce(client: Endpoint) -> [UInt8] { head(opcode: 0, client: client, seconds: 0) }
    /// The gateway's address outside is asked for (RFC 6886 §3.2), 2 bytes.
    static let externalAddress: [UInt8] = [0, 0]

    private static func head(opcode: UInt8, client: Endpoint, seconds: UInt32) -> [UInt8] {
        [GatewayProtocol.pcp.rawValue, opcode, 0, 0] + bigEndian(seconds) + mapped(client.address)
    }
}

/// What a gateway says, decoded. Everything is in range; whether it answers a question of ours is for ``PortMapper`` to see.
package struct GatewayAnswer: Hashable, Sendable {
    package enum Content: Hashable, Sendable {
        /// A port is forwarded, or that is refused. The address is PCP's; NAT-PMP tells it apart.
        case mapping(ForwardedTransport, nonce: [UInt8]?, port: UInt16, external: UInt16, address: [UInt8]?)
        /// The gateway's address outside, IPv4.
        case address([UInt8])
        /// Nothing but what the head says.
        case none
    }
    package var spoken: GatewayProtocol
    package var refusal: GatewayRefusal?
    /// Of a mapping; of a refusal by PCP: how long it stays one. 0 where it is not said.
    package var seconds: UInt32
    /// Since the gateway began to know its mappings.
    package var epoch: UInt32
    package var content: Content

    /// Nil for what is no answer of either protocol: too short, too long, a question, a version or an opcode that nobody asked in.
    package init?(_ bytes: some RandomAccessCollection<UInt8>) {
        let bytes = Array(bytes)
        // RFC 6887 §7: at most 1100; both protocols' answers set the top bit of the opcode.
        guard bytes.count >= 8, bytes.count <= 1100, bytes[1] & 0x80 != 0 else { return nil }
        switch GatewayProtocol(rawValue: bytes[0]) {
        case .pcp: self.init(pcp: bytes)
        case .natPMP: self.init(natPMP: bytes)
        case .upnp, nil: return nil
        }
    }
    private init?(pcp bytes: [UInt8]) {
        guard bytes.count >= 24, bytes.count % 4 == 0 else { return nil }
        spoken = .pcp
        refusal = GatewayRefusal(pcp: bytes[3])
        seconds = number32(bytes, 4)
        epoch = number32(bytes, 8)
        switch bytes[1] & 0x7f {
        case 0: content = .none
        case 1 where bytes.count >= 60:
            guard let transport = ForwardedTransport(rawValue: bytes[36]) else { return nil }
            content = .mapping(
                transport, nonce: Array(bytes[24..<36]), port: number16(bytes, 40), external: number16(bytes, 42),
                address: unmapped(bytes[44..<60]))
        // Of a question that it did not understand a gateway repeats what it can.
        case 1 where refusal == .unsupportedVersion: content = .none
        default: return nil
        }
    }
    private init?(natPMP bytes: [UInt8]) {
        spoken = .natPMP
        refusal = GatewayRefusal(natPMP: number16(bytes, 2))
        epoch = number32(bytes, 4)
        seconds = 0
        switch bytes[1] & 0x7f {
        case 0 where bytes.count == 12 && refusal == nil: content = .address(Array(bytes[8..<12]))
        case let opcode where (opcode == 1 || opcode == 2) && bytes.count == 16:
            seconds = number32(bytes, 12)
            content = .mapping(
                opcode == 1 ? .udp : .tcp, nonce: nil, port: number16(bytes, 8), external: number16(bytes, 10),
                address: nil)
        // Whatever it was asked, in a version or with an opcode that it does not know.
        default:
            guard refusal != nil else { return nil }
            content = .none
        }
    }
}

private func bigEndian(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
private func bigEndian(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)]
}
private func number16(_ bytes: [UInt8], _ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
private func number32(_ bytes: [UInt8], _ at: Int) -> UInt32 {
    UInt32(number16(bytes, at)) << 16 | UInt32(number16(bytes, at + 2))
}
/// 16 bytes: PCP writes IPv4 inside IPv6 (RFC 6887 §5).
private func mapped(_ address: [UInt8]) -> [UInt8] {
    address.count == 16 ? address : [UInt8](repeating: 0, count: 10) + [255, 255] + address
}
private func unmapped(_ address: ArraySlice<UInt8>) -> [UInt8] {
    let bytes = Array(address)
    return bytes.starts(with: [UInt8](repeating: 0, count: 10) + [255, 255]) ? Array(bytes.suffix(4)) : bytes
}
