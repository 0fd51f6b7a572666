import Digests
import Primitives
import Wire

/// Why a datagram was dropped unanswered.
package enum DatagramRefusal: Error, Hashable, Sendable {
    /// Not strict bencode, or no KRPC.
    case malformed
    /// Without this pool's seal.
    case wrongPool
}

extension KRPCMessage {
    /// Understands one datagram.
    ///
    /// - Parameter pool: the key of a closed pool, whose seal is then demanded and checked; nil for an open pool, where a
    ///   query in broken bencode is understood as ``Body/refusedQuery(_:)`` as long as its transaction can be read.
    package static func decode(_ datagram: [UInt8], pool: PoolSeal?) throws(DatagramRefusal) -> KRPCMessage {
        guard datagram.count <= 65_507, datagram.first == UInt8(ascii: "d") else { throw .malformed }
        let top: BencodeView
        var sloppy = false
        do {
            top = try BencodeView(datagram)
        } catch {
            guard pool == nil, let lenient = try? BencodeView(datagram, canonical: false) else { throw .malformed }
            top = lenient
            sloppy = true
        }
        let seal = top["h"]
        if let pool {
            guard let seal, pool.opens(datagram, seal: seal) else { throw .wrongPool }
        }
        guard let transaction = top["t"]?.string, transaction.count <= 64, let kind = top["y"]?.string, kind.count == 1
        else { throw .malformed }
        var message: KRPCMessage
        switch kind.first! {
        case UInt8(ascii: "q"):
            message = KRPCMessage(transaction: transaction, body: sloppy ? Self.sloppyQuery : query(top))
            message.isReadOnly = top["ro"]?.integer == 1
        case UInt8(ascii: "r") where !sloppy:
            guard let fields = top["r"], let answer = KRPCAnswer(fields) else { throw .malformed }
            message = KRPCMessage(transaction: transaction, body: .answer(answer))
        case UInt8(ascii: "e") where !sloppy:
            guard let list = top["e"]?.list, list.count >= 2, let code = list[0].integer, let text = list[1].string
            else { throw .malformed }
            let error = KRPCError(Int(clamping: code), String(decoding: text.prefix(200), as: UTF8.self))
            message = KRPCMessage(transaction: transaction, body: .error(error))
        default:
            throw .malformed
        }
        message.observed = top["ip"]?.string
        message.isSealed = seal != nil
        return message
    }

    private static let sloppyQuery = Body.refusedQuery(.protocolError("bencode is not canonical"))

    private static func query(_ top: BencodeView) -> Body {
        do throws(KRPCError) {
            return .query(try KRPCQuery(top))
        } catch {
            return .refusedQuery(error)
        }
    }
}

extension KRPCQuery {
    init(_ top: BencodeView) throws(KRPCError) {
        guard let name = top["q"]?.string else { throw .protocolError("q is missing") }
        guard let a = top["a"], a.isDictionary else { throw .protocolError("a is missing") }
        func id(_ key: String) throws(KRPCError) -> NodeID {
            guard let bytes = a[key]?.string, let id = NodeID(bytes) else {
                throw .protocolError("\(key) must have 20 bytes")
            }
            return id
        }
        guard let method = Self.methods.first(where: { name.elementsEqual($0.name.utf8) }) else { throw .unknownMethod }
        sender = try id("id")
        switch method.kind {
        case .ping: self.method = .ping
        case .findNode: self.method = .findNode(target: try id("target"))
        case .getPeers: self.method = .getPeers(infoHash: try id("info_hash"))
        case .announcePeer:
            let implied = (a["implied_port"]?.integer ?? 0) != 0
            let port = a["port"]?.integer ?? 0
            guard implied || (1...65_535).contains(port) else { throw .protocolError("port must be from 1 to 65535") }
            guard let token = a["token"]?.string else { throw .protocolError("token is missing") }
            self.method = .announcePeer(
                infoHash: try id("info_hash"), port: UInt16(truncatingIfNeeded: port), implied: implied, token: token)
        case .get:
            if let sequence = a["seq"], sequence.integer == nil { throw .protocolError("seq must be an integer") }
            self.method = .get(target: try id("target"), sequence: a["seq"]?.integer)
        case .put: self.method = .put(try Self.storeRequest(a))
        case .sampleInfoHashes: self.method = .sampleInfoHashes(target: try id("target"))
        case .reach, .dial:
            guard let port = a["port"]?.integer, (1...65_535).contains(port), let token = a["token"]?.string,
                let nonce = Self.nonce(a)
            else { throw .protocolError("port, token or nonce is missing") }
            guard method.kind == .dial else {
                self.method = .reach(port: UInt16(port), token: token, nonce: nonce)
                break
            }
            guard let endpoint = a["for"]?.string, [6, 18].contains(endpoint.count) else {
                throw .protocolError("for must have 6 or 18 bytes")
            }
            self.method = .dial(endpoint, port: UInt16(port), token: token, nonce: nonce)
        case .probe:
            guard let nonce = Self.nonce(a) else { throw .protocolError("nonce is missing") }
            self.method = .probe(nonce: nonce)
        }
        for family in a["want"]?.list ?? [] {
            guard let name = family.string else { continue }
            if name.elementsEqual("n4".utf8) { want.insert(.ipv4) }
            if name.elementsEqual("n6".utf8) { want.insert(.ipv6) }
        }
    }

    private enum Kind { case ping, findNode, getPeers, announcePeer, get, put, sampleInfoHashes, reach, dial, probe }
    private static let methods: [(name: String, kind: Kind)] = [
        ("find_node", .findNode), ("get_peers", .getPeers), ("ping", .ping), ("get", .get), ("put", .put),
        ("announce_peer", .announcePeer), ("sample_infohashes", .sampleInfoHashes),
        ("atoll_reach", .reach), ("atoll_dial", .dial), ("atoll_probe", .probe),
    ]
    private static func nonce(_ a: BencodeView) -> UInt64? {
        guard let bytes = a["nonce"]?.string, bytes.count == 8 else { return nil }
        return bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Sizes are judged here, before anything is hashed; token, signature and sequence by whoever stores.
    private static func storeRequest(_ a: BencodeView) throws(KRPCError) -> KRPCMethod.StoreRequest {
        guard let token = a["token"]?.string else { throw .protocolError("token is missing") }
        guard let value = a["v"]?.encoded else { throw .protocolError("v is missing") }
        guard value.count <= StoredItem.valueLimit else { throw .valueTooBig }
        guard let keyBytes = a["k"] else {
            return .init(token: token, item: StoredItem(value: Array(value), signed: nil), cas: nil)
        }
        guard let bytes = keyBytes.string, let key = PeerID(bytes) else { throw .protocolError("k must have 32 bytes") }
        guard let signature = a["sig"]?.string, signature.count == 64 else {
            throw .protocolError("sig must have 64 bytes")
        }
        guard let sequence = a["seq"]?.integer, sequence >= 0 else {
            throw .protocolError("seq must be an integer from 0 to 2^63 - 1")
        }
        var salt: ArraySlice<UInt8> = []
        if let field = a["salt"] {
            guard let bytes = field.string else { throw .protocolError("salt must be a string") }
            guard bytes.count <= StoredItem.saltLimit else { throw .saltTooBig }
            salt = bytes
        }
        if let cas = a["cas"], cas.integer == nil { throw .protocolError("cas must be an integer") }
        let signed = StoredItem.Signed(key: key, salt: Array(salt), sequence: sequence, signature: Array(signature))
        return .init(token: token, item: StoredItem(value: Array(value), signed: signed), cas: a["cas"]?.integer)
    }
}

extension KRPCAnswer {
    init?(_ r: BencodeView) {
        guard let id = r["id"]?.string, let sender = NodeID(id) else { return nil }
        self.init(sender: sender)
        token = r["token"]?.string
        if let token, token.count > 64 { return nil }
        nodes = r["nodes"]?.string
        nodes6 = r["nodes6"]?.string
        values = r["values"]?.list?.prefix(200).compactMap(\.string)
        value = r["v"]?.encoded
        key = r["k"]?.string
        sequence = r["seq"]?.integer
        signature = r["sig"]?.string
        samples = r["samples"]?.string
        number = r["num"]?.integer
        interval = r["interval"]?.integer
        reached = r["reached"]?.integer.map { $0 == 1 }
    }
}
