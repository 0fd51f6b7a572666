public import Digests
public import Primitives
public import Wire

/// What is kept of a pool on disk: the line `atoll-pool 1`, then the credential, how many keys (u8) and they, how many revocations (u32)
/// and they, how many admissions (u32) and they, and the first eight bytes of the SHA-256 of all before them.
extension PoolBook {
    public static let sizeLimit = 1 << 22
    private static let header = Array("atoll-pool 1\n".utf8)

    public var encoded: [UInt8] {
        var writer = ByteWriter(capacity: 1024)
        writer.raw(Self.header)
        writer.raw(credential.encoded)
        writer.u8(UInt8(keys.count))
        for key in keys { writer.raw(key.encoded) }
        var removed: [Revocation] = []
        var joined: [Credential] = []
        for statement in statements {
            if case .revocation(let revocation) = statement { removed.append(revocation) }
            if case .credential(let admission) = statement { joined.append(admission) }
        }
        writer.u32(UInt32(removed.count))
        for revocation in removed { writer.raw(revocation.encoded) }
        writer.u32(UInt32(joined.count))
        for admission in joined { writer.raw(admission.encoded) }
        return writer.bytes + sha256(writer.bytes).bytes.prefix(8)
    }

    /// - Parameters:
    ///   - bytes: what ``encoded`` wrote.
    ///   - identity: whose folder it is.
    /// - Throws: for another format, a damaged file, and the membership of another key.
    public init(
        encoded bytes: [UInt8], identity: PeerID, authorityKey: SigningKey?, wall: WallClock
    ) throws(MalformedBytes) {
        guard bytes.count <= Self.sizeLimit, bytes.count > Self.header.count + 8, bytes.starts(with: Self.header) else {
            throw MalformedBytes("it does not begin with atoll-pool 1")
        }
        guard sha256(bytes.dropLast(8)).bytes.prefix(8).elementsEqual(bytes.suffix(8)) else {
            throw MalformedBytes("it is damaged")
        }
        var reader = ByteReader(bytes.dropFirst(Self.header.count).dropLast(8))
        let credential = try Credential(&reader)
        guard credential.peer == identity else {
            throw MalformedBytes("it is the membership of \(credential.peer.short)")
        }
        guard authorityKey.map({ $0.peerID == credential.warrant.authority }) ?? true else {
            throw MalformedBytes("it is of another pool than the authority's key beside it")
        }
        let count = Int(try reader.u8())
        guard (1...2).contains(count) else { throw MalformedBytes("\(count) keys") }
        var keys: [PoolKey] = []
        for _ in 0..<count { keys.append(try PoolKey(&reader)) }
        let revocations = try Self.list(&reader, most: Self.revocationsMax) { (reader) throws(MalformedBytes) in
            try Revocation(&reader)
        }
        let admissions = try Self.list(&reader, most: Self.invitesMax * Warrant.usesMax) {
            (reader) throws(MalformedBytes) in
            try Credential(&reader)
        }
        try reader.finish()
        self.init(
            credential: credential, keys: keys, revocations: revocations, admissions: admissions,
            authorityKey: authorityKey, wall: wall)
    }
    private static func list<T>(
        _ reader: inout ByteReader, most: Int, _ read: (inout ByteReader) throws(MalformedBytes) -> T
    ) throws(MalformedBytes) -> [T] {
        let count = Int(try reader.u32())
        guard count <= most else { throw MalformedBytes("\(count) entries") }
        var out: [T] = []
        for _ in 0..<count { out.append(try read(&reader)) }
        return out
    }
}
