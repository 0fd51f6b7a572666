public import Primitives
import Wire

/// How a session between two peers goes.
public enum PeerPath: Hashable, Sendable {
    case direct
    /// Both ends have met by an introduction, and nobody is between them.
    case punched
    /// A relay carries it; `rate` is all that this one carries for everybody, nil where it has not said.
    case relayed(by: PeerID, rate: BitRate?)

    /// What a member says of at most so many of its sessions.
    public static let most = 1024

    /// The relay; nil where there is none.
    public var relay: PeerID? { if case .relayed(let relay, _) = self { relay } else { nil } }

    init(_ m: PBPaths.Path) throws(MalformedBytes) {
        guard !m.relay.isEmpty else {
            self = .punched
            return
        }
        let rate = try bounded(m.rateBits, below: Bounds.amount, "rate of a relay")
        self = .relayed(by: try peerID(m.relay), rate: rate > 0 ? BitRate(bitsPerSecond: Double(rate)) : nil)
    }
    /// A direct one is not said.
    func encoded(_ peer: PeerID) -> PBPaths.Path? {
        var m = PBPaths.Path()
        m.peer = bytesOf(peer)
        switch self {
        case .direct: return nil
        case .punched: break
        case .relayed(let relay, let rate):
            m.relay = bytesOf(relay)
            m.rateBits = UInt64(max(0, min(rate?.bitsPerSecond ?? 0, Double(Bounds.amount - 1))))
        }
        return m
    }
}

/// How a member's sessions with others go; whoever is not named is reached directly, or not at all.
public struct PeerPaths: Hashable, Sendable {
    public private(set) var paths: [PeerID: PeerPath] = [:]
    public init() {}
    public init(_ paths: [PeerID: PeerPath]) {
        for peer in paths.keys.sorted().prefix(PeerPath.most) where paths[peer] != .direct {
            self.paths[peer] = paths[peer]
        }
    }
    public subscript(peer: PeerID) -> PeerPath { paths[peer] ?? .direct }

    init(_ m: PBPaths) throws(MalformedBytes) {
        guard m.paths.count <= PeerPath.most else { throw MalformedBytes("\(m.paths.count) paths") }
        for path in m.paths {
            guard paths.updateValue(try PeerPath(path), forKey: try peerID(path.peer)) == nil else {
                throw MalformedBytes("two paths to one peer")
            }
        }
    }
    var encoded: PBPaths {
        var m = PBPaths()
        m.paths = paths.keys.sorted().compactMap { paths[$0]!.encoded($0) }
        return m
    }
}
