import Digests
public import Primitives
import Wire

/// What a node keeps on disk: its ID, whom it knew, and what it held for others. With it a restart is back in one round trip,
/// and a rendezvous node forgets nothing.
public struct OverlayState: Sendable {
    public var nodeID: NodeID
    public var contacts: [Contact]
    /// Items of others and for how long they are still to be kept.
    var items: [(item: StoredItem, left: Duration)] = []
    var peers: [(infoHash: NodeID, address: PackedEndpoint, left: Duration)] = []

    /// More is not read from a file; a node with full stores writes about 4 MB.
    public static let sizeLimit = 1 << 26
    private static let format: Int64 = 1

    /// Bencoded. The pool's fingerprint keeps one pool's contacts from another's.
    ///
    /// - Parameter wall: now, in seconds since 1970.
    public func encoded(poolKey: [UInt8]?, wall: Int64) -> [UInt8] {
        var writer = BencodeWriter(capacity: 1 << 14)
        writer.beginDictionary()
        writer.key("contacts")
        writer.beginList()
        for contact in contacts { writer.string(contact.id.bytes + contact.endpoint.compact) }
        writer.end()
        writer.key("format")
        writer.integer(Self.format)
        writer.key("id")
        writer.string(nodeID.bytes)
        writer.key("items")
        writer.beginList()
        for (item, left) in items { Self.write(item, left, to: &writer) }
        writer.end()
        writer.key("peers")
        writer.beginList()
        for peer in peers {
            writer.beginDictionary()
            writer.key("a")
            writer.string(peer.address.compact)
            writer.key("h")
            writer.string(peer.infoHash.bytes)
            writer.key("left")
            writer.integer(peer.left.wholeNanoseconds / 1_000_000_000)
            writer.end()
        }
        writer.end()
        writer.key("pool")
        writer.string(Self.fingerprint(poolKey))
        writer.key("wall")
        writer.integer(wall)
        writer.end()
        return writer.bytes
    }

    private static func write(_ item: StoredItem, _ left: Duration, to writer: inout BencodeWriter) {
        writer.beginDictionary()
        if let signed = item.signed {
            writer.key("k")
            writer.string(signed.key.bytes)
        }
        writer.key("left")
        writer.integer(left.wholeNanoseconds / 1_000_000_000)
        if let signed = item.signed {
            writer.key("salt")
            writer.string(signed.salt)
            writer.key("seq")
            writer.integer(signed.sequence)
            writer.key("sig")
            writer.string(signed.signature)
        }
        writer.key("v")
        writer.raw(item.value)
        writer.end()
    }

    private static func fingerprint(_ poolKey: [UInt8]?) -> ArraySlice<UInt8> {
        poolKey.map { sha256(Array("atoll/pool/1".utf8) + $0).bytes.prefix(8) } ?? []
    }

    /// Reads what ``encoded(poolKey:wall:)`` wrote; nil for another pool's, another version's or a damaged file. What ran out
    /// meanwhile is left out, and so is every item whose signature is wrong.
    public init?(_ bytes: [UInt8], poolKey: [UInt8]?, wall: Int64) {
        guard bytes.count <= Self.sizeLimit, let view = try? BencodeView(bytes),
            view["format"]?.integer == Self.format, let id = view["id"]?.string, let nodeID = NodeID(id),
            let pool = view["pool"]?.string, pool.elementsEqual(Self.fingerprint(poolKey)),
            let saved = view["wall"]?.integer
        else { return nil }
        self.nodeID = nodeID
        contacts = (view["contacts"]?.list ?? []).prefix(1000).compactMap { entry in
            guard let bytes = entry.string, bytes.count >= 26, let id = NodeID(bytes.prefix(20)),
                let endpoint = Endpoint(compact: bytes.dropFirst(20))
            else { return nil }
            return Contact(id: id, endpoint: endpoint)
        }
        // A clock that went backwards makes nothing live longer than it would have.
        let age = max(0, wall - saved)
        func left(_ entry: BencodeView) -> Duration? {
            guard let seconds = entry["left"]?.integer, seconds > age, seconds <= 86_400 else { return nil }
            return .seconds(seconds - age)
        }
        items = (view["items"]?.list ?? []).prefix(ItemStore.limit).compactMap { entry in
            guard let left = left(entry), let item = Self.item(entry), item.isAuthentic else { return nil }
            return (item, left)
        }
        peers = (view["peers"]?.list ?? []).prefix(100_000).compactMap { entry in
            guard let left = left(entry), let hash = entry["h"]?.string, let infoHash = NodeID(hash),
                let address = entry["a"]?.string.flatMap(PackedEndpoint.init(compact:)), address.isUsable
            else { return nil }
            return (infoHash, address, left)
        }
    }

    private static func item(_ entry: BencodeView) -> StoredItem? {
        guard let value = entry["v"]?.encoded, value.count <= StoredItem.valueLimit else { return nil }
        guard let k = entry["k"]?.string else { return StoredItem(value: Array(value), signed: nil) }
        guard let key = PeerID(k), let salt = entry["salt"]?.string, salt.count <= StoredItem.saltLimit,
            let sequence = entry["seq"]?.integer, let signature = entry["sig"]?.string, signature.count == 64
        else { return nil }
        let signed = StoredItem.Signed(
            key: key, salt: Array(salt), sequence: sequence, signature: Array(signature))
        return StoredItem(value: Array(value), signed: signed)
    }

    init(nodeID: NodeID, contacts: [Contact]) {
        self.nodeID = nodeID
        self.contacts = contacts
    }
}

extension Overlay {
    /// What to keep on disk: at most 200 contacts, the closest to this node first, and everything kept for others.
    public func state(at now: Instant) -> OverlayState {
        var known = contacts
        known.sort { ($0.id ^ nodeID) < ($1.id ^ nodeID) }
        // Half near, half from anywhere, so that a neighbourhood that died does not lock us out.
        if known.count > 200 {
            let far = stride(from: 100, to: known.count, by: max(1, (known.count - 100) / 100)).map { known[$0] }
            known = Array(known.prefix(100)) + far.prefix(100)
        }
        var state = OverlayState(nodeID: nodeID, contacts: known)
        state.items = kept.items.kept(at: now)
        state.peers = kept.peers.kept(at: now)
        return state
    }

    /// Takes back what an earlier run held for others; ID and contacts go to the initialiser.
    public mutating func restore(_ state: OverlayState, at now: Instant) {
        for (item, left) in state.items { kept.items.restore(item, for: left, at: now) }
        for peer in state.peers { kept.peers.restore(peer.address, under: peer.infoHash, for: peer.left, at: now) }
    }
}
