public import Primitives
import Wire

/// What a peer says about itself to people who have only its key: where it is, whether it can be dialled, what it is, what
/// it speaks. Lies in the overlay as a mutable item under salt `atoll/cap/1`; the full record is asked for over TLS.
public struct CapabilityRecord: Hashable, Sendable {
    public static let salt = Array("atoll/cap/1".utf8)
    /// So that an answer with eight nodes stays within 1024 bytes (BEP 32).
    public static let sizeLimit = 590

    /// Where to dial, best first; at most eight are kept.
    public var endpoints: [Endpoint]
    /// Whether the vote found it reachable from outside.
    public var isReachable: Bool
    /// Of one that cannot be dialled: where those are who carry it; at most two are kept.
    public var relays: [Endpoint]
    /// For people: "cpu/8/16GiB". At most 64 bytes are kept.
    public var device: String
    /// Wire versions spoken, ascending; at most eight are kept.
    public var versions: [Int64]
    /// SHA-256 of the full record, when there is one.
    public var fullRecord: Digest256?
    /// Wall time, in seconds since 1970, after which nobody should believe this.
    public var expires: Int64

    public init(
        endpoints: [Endpoint], isReachable: Bool, relays: [Endpoint] = [], device: String, versions: [Int64],
        fullRecord: Digest256? = nil, expires: Int64
    ) {
        self.relays = relays
        self.endpoints = endpoints
        self.isReachable = isReachable
        self.device = device
        self.versions = versions
        self.fullRecord = fullRecord
        self.expires = expires
    }

    /// Bencoded: a = addresses, c = carried by, d = device, f = full record, r = reachable, v = versions, x = expiry.
    public var encoded: [UInt8] {
        var entries: [String: BencodeValue] = [
            "a": .list(endpoints.prefix(8).map { .string($0.compact) }),
            "d": .string(Array(device.utf8.prefix(64))),
            "r": .integer(isReachable ? 1 : 0),
            "v": .list(versions.prefix(8).map { .integer($0) }),
            "x": .integer(expires),
        ]
        if !relays.isEmpty { entries["c"] = .list(relays.prefix(2).map { .string($0.compact) }) }
        if let fullRecord { entries["f"] = .string(fullRecord.bytes) }
        let out = BencodeValue.dictionary(entries).encoded
        precondition(out.count <= Self.sizeLimit, "a capability record of \(out.count) bytes")
        return out
    }

    /// Reads a record.
    ///
    /// - Parameter wall: now, in seconds since 1970; an expired record is nil, as is a malformed one.
    public init?(_ value: [UInt8], wall: Int64) {
        guard value.count <= StoredItem.valueLimit, let view = try? BencodeView(value),
            let addresses = view["a"]?.list, let expires = view["x"]?.integer, expires > wall
        else { return nil }
        endpoints = addresses.prefix(8).compactMap { $0.string.flatMap { Endpoint(compact: $0) } }
        isReachable = view["r"]?.integer == 1
        relays = (view["c"]?.list ?? []).prefix(2).compactMap { $0.string.flatMap { Endpoint(compact: $0) } }
        device = String(decoding: (view["d"]?.string ?? []).prefix(64), as: UTF8.self)
        versions = (view["v"]?.list ?? []).prefix(8).compactMap(\.integer)
        fullRecord = view["f"]?.string.flatMap { Digest256($0) }
        self.expires = expires
    }
}
