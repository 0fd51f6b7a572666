import FoundationEssentials
import Messages
import Primitives
internal import Wire

/// A number of an entry, from 0 to below a limit.
func number(_ value: some BinaryInteger, below limit: Int, _ what: @autoclosure () -> String) throws(MalformedBytes)
    -> Int
{
    guard value >= 0, value < limit else { throw MalformedBytes("\(what()) \(value) is out of range") }
    return Int(value)
}
func key(_ data: Data) throws(MalformedBytes) -> PeerID {
    guard let id = PeerID(data) else { throw MalformedBytes("a peer's key of \(data.count) bytes") }
    return id
}
func decode<Raw, Value>(
    _ raw: [Raw], atMost limit: Int, _ what: @autoclosure () -> String,
    _ decode: (Raw) throws(MalformedBytes) -> Value
) throws(MalformedBytes) -> [Value] {
    guard raw.count <= limit else { throw MalformedBytes("\(raw.count) \(what()), at most \(limit)") }
    var out: [Value] = []
    out.reserveCapacity(raw.count)
    for item in raw { out.append(try decode(item)) }
    return out
}
/// All 32 bytes of a SHA-256.
func whole(_ raw: Data) throws(MalformedBytes) -> Digest256 {
    guard let digest = Digest256(raw) else { throw MalformedBytes("a digest of \(raw.count) bytes") }
    return digest
}
/// Whole digests of units, each unit once.
func digests(_ raw: [PBUnitDigest]) throws(MalformedBytes) -> [UnitDigest] {
    let out = try decode(raw, atMost: Bounds.unit, "digests") { (raw) throws(MalformedBytes) in
        guard raw.digest.count == 32 else { throw MalformedBytes("a digest of \(raw.digest.count) bytes") }
        return UnitDigest(try number(raw.unit, below: Bounds.unit, "unit"), [UInt8](raw.digest))
    }
    guard Set(out.map(\.unit)).count == out.count else { throw MalformedBytes("two digests of one unit") }
    return out
}
