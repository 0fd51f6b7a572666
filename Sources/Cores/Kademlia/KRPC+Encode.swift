import Primitives
import Wire

extension KRPCMessage {
    /// The datagram, sealed when the pool is closed. Keys are written in byte order: a e (h) ip q r ro t v y.
    package func encoded(pool: PoolSeal?) -> [UInt8] {
        var writer = BencodeWriter(capacity: 320)
        writer.beginDictionary()
        // Where the seal's key belongs.
        var slot = 1
        switch body {
        case .query(let query):
            writer.key("a")
            query.writeArguments(to: &writer)
            slot = writer.bytes.count
            writer.key("q")
            writer.string(query.name.utf8)
            if isReadOnly {
                writer.key("ro")
                writer.integer(1)
            }
        case .answer(let answer):
            writeObserved(to: &writer)
            writer.key("r")
            answer.write(to: &writer)
        case .error(let error), .refusedQuery(let error):
            writer.key("e")
            writer.beginList()
            writer.integer(Int64(error.code))
            writer.string(error.text.utf8)
            writer.end()
            slot = writer.bytes.count
            writeObserved(to: &writer)
        }
        writer.key("t")
        writer.string(transaction)
        writer.key("v")
        writer.string(Self.version)
        writer.key("y")
        switch body {
        case .query: writer.string("q".utf8)
        case .answer: writer.string("r".utf8)
        case .error, .refusedQuery: writer.string("e".utf8)
        }
        writer.end()
        guard let pool else { return writer.bytes }
        return pool.seal(writer.bytes, slot: slot)
    }

    /// `v` (BEP 5): "AT" and a number for the generation of this implementation.
    private static let version: [UInt8] = [UInt8(ascii: "A"), UInt8(ascii: "T"), 0, 1]

    private func writeObserved(to writer: inout BencodeWriter) {
        guard let observed else { return }
        writer.key("ip")
        writer.string(observed)
    }
}

extension KRPCQuery {
    var name: String {
        switch method {
        case .ping: "ping"
        case .findNode: "find_node"
        case .getPeers: "get_peers"
        case .announcePeer: "announce_peer"
        case .get: "get"
        case .put: "put"
        case .sampleInfoHashes: "sample_infohashes"
        case .reach: "atoll_reach"
        case .dial: "atoll_dial"
        case .probe: "atoll_probe"
        }
    }

    fileprivate func writeArguments(to writer: inout BencodeWriter) {
        writer.beginDictionary()
        if case .put(let request) = method, let cas = request.cas {
            writer.key("cas")
            writer.integer(cas)
        }
        if case .dial(let endpoint, _, _, _) = method {
            writer.key("for")
            writer.string(endpoint)
        }
        writer.key("id")
        writer.string(sender.bytes)
        switch method {
        case .ping: break
        case .findNode(let target), .sampleInfoHashes(let target):
            writer.key("target")
            writer.string(target.bytes)
        case .getPeers(let infoHash):
            writer.key("info_hash")
            writer.string(infoHash.bytes)
        case .announcePeer(let infoHash, let port, let implied, let token):
            if implied {
                writer.key("implied_port")
                writer.integer(1)
            }
            writer.key("info_hash")
            writer.string(infoHash.bytes)
            writer.key("port")
            writer.integer(Int64(port))
            writer.key("token")
            writer.string(token)
        case .get(let target, let sequence):
            if let sequence {
                writer.key("seq")
                writer.integer(sequence)
            }
            writer.key("target")
            writer.string(target.bytes)
        case .probe(let nonce): Self.write(nonce, to: &writer)
        case .reach(let port, let token, let nonce), .dial(_, let port, let token, let nonce):
            Self.write(nonce, to: &writer)
            writer.key("port")
            writer.integer(Int64(port))
            writer.key("token")
            writer.string(token)
        case .put(let request): Self.write(request, to: &writer)
        }
        if !want.isEmpty {
            writer.key("want")
            writer.beginList()
            if want.contains(.ipv4) { writer.string("n4".utf8) }
            if want.contains(.ipv6) { writer.string("n6".utf8) }
            writer.end()
        }
        writer.end()
    }
}

extension KRPCQuery {
    private static func write(_ request: KRPCMethod.StoreRequest, to writer: inout BencodeWriter) {
        if let signed = request.item.signed {
            writer.key("k")
            writer.string(signed.key.bytes)
            if !signed.salt.isEmpty {
                writer.key("salt")
                writer.string(signed.salt)
            }
            writer.key("seq")
            writer.integer(signed.sequence)
            writer.key("sig")
            writer.string(signed.signature)
        }
        writer.key("token")
        writer.string(request.token)
        writer.key("v")
        writer.raw(request.item.value)
    }
    private static func write(_ nonce: UInt64, to writer: inout BencodeWriter) {
        writer.key("nonce")
        writer.string(stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: nonce >> $0) })
    }
}

extension KRPCAnswer {
    fileprivate func write(to writer: inout BencodeWriter) {
        func string(_ key: String, _ bytes: ArraySlice<UInt8>?) {
            guard let bytes else { return }
            writer.key(key)
            writer.string(bytes)
        }
        func integer(_ key: String, _ value: Int64?) {
            guard let value else { return }
            writer.key(key)
            writer.integer(value)
        }
        writer.beginDictionary()
        writer.key("id")
        writer.string(sender.bytes)
        integer("interval", interval)
        string("k", key)
        string("nodes", nodes)
        string("nodes6", nodes6)
        integer("num", number)
        integer("reached", reached.map { $0 ? 1 : 0 })
        string("samples", samples)
        integer("seq", sequence)
        string("sig", signature)
        string("token", token)
        if let value {
            writer.key("v")
            writer.raw(value)
        }
        if let values {
            writer.key("values")
            writer.beginList()
            for value in values { writer.string(value) }
            writer.end()
        }
        writer.end()
    }
}
