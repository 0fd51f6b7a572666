import FoundationEssentials
public import Primitives
public import Wire

/// The ranges in which numbers of others may lie. What lies outside is refused where it arrives, so that nothing behind the
/// door can overflow, trap or index out of range because of it.
public enum Bounds {
    public static let round = 1 << 31
    public static let step = 1 << 40
    public static let rank = 4096
    public static let unit = 1 << 16
    /// Of epochs of plans, attempts, versions of a group and terms.
    public static let counter = 1 << 31
    public static let microBatches = 1 << 31
    /// Of tokens, and of bytes of memory, content or traffic.
    public static let amount = 1 << 50
    /// Chunks of one content: 64 GiB in chunks of 256 KiB.
    public static let contentChunks = 262_144
    /// Chunks of one unit's exchange.
    public static let chunk = 1 << 20
    /// Longest name, and longest reason, in bytes of UTF-8.
    public static let nameBytes = peerNameBytes
    public static let reasonBytes = 200
    /// Slowest and fastest device that anybody may claim to be, FLOP/s.
    public static let flops = 1e3...1e18
    /// Sums of losses, nats.
    public static let lossSum = -1e15...1e15
    public static let squares = 0.0...1e30
}

/// A number of another peer, from 0 to below a limit.
func bounded(_ value: some BinaryInteger, below limit: Int, _ what: @autoclosure () -> String) throws(MalformedBytes)
    -> Int
{
    guard value >= 0, value < limit else { throw MalformedBytes("\(what()) \(value) is out of range") }
    return Int(value)
}
/// A number of another peer that is finite and in a range.
func finite(_ value: Double, in range: ClosedRange<Double>, _ what: @autoclosure () -> String) throws(MalformedBytes)
    -> Double
{
    guard value.isFinite, range.contains(value) else { throw MalformedBytes("\(what()) \(value) is out of range") }
    return value
}
func peerID(_ data: Data) throws(MalformedBytes) -> PeerID {
    guard let id = PeerID(data) else { throw MalformedBytes("a peer's key of \(data.count) bytes") }
    return id
}
func digest(_ data: Data) throws(MalformedBytes) -> Digest256 {
    guard let digest = Digest256(data) else { throw MalformedBytes("a digest of \(data.count) bytes") }
    return digest
}
/// An empty field is nothing.
func optionalDigest(_ data: Data) throws(MalformedBytes) -> Digest256? { data.isEmpty ? nil : try digest(data) }

func endpoint(_ data: Data) throws(MalformedBytes) -> Endpoint {
    guard let endpoint = Endpoint(compact: data) else { throw MalformedBytes("an endpoint of \(data.count) bytes") }
    return endpoint
}
func bytes(_ data: Data, atMost limit: Int, _ what: @autoclosure () -> String) throws(MalformedBytes) -> [UInt8] {
    guard data.count <= limit else { throw MalformedBytes("\(what()) of \(data.count) bytes, at most \(limit)") }
    return [UInt8](data)
}
/// A list of at most so many.
func list<Raw, Value>(
    _ raw: [Raw], atMost limit: Int, _ what: @autoclosure () -> String,
    _ decode: (Raw) throws(MalformedBytes) -> Value
) throws(MalformedBytes) -> [Value] {
    guard raw.count <= limit else { throw MalformedBytes("\(raw.count) \(what()), at most \(limit)") }
    var out: [Value] = []
    out.reserveCapacity(raw.count)
    for item in raw { out.append(try decode(item)) }
    return out
}
