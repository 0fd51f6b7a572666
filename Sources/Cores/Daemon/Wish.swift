import Channels
import Paths
package import Primitives

/// A peer that a service of this daemon wants a session with: where it should be, and how long it took to come there.
package struct Wish: Sendable {
    package var endpoint: Endpoint
    /// When it was wanted first.
    package let since: Instant
    /// From then to the first session; zero where there was one before.
    package private(set) var usableAfter: Duration?
    /// From then to the latest change of ``path``; a connection that takes the place of one of the same kind is none.
    package private(set) var pathAfter: Duration?
    private var path: String?
    /// It could not be reached anywhere, though others can perhaps dial both.
    package var needsCarriage = false

    package init(_ endpoint: Endpoint, at now: Instant) {
        self.endpoint = endpoint
        since = now
    }
    /// The session goes over a connection.
    ///
    /// - Parameter path: `direct`, `punched` or `relayed`, and whether it goes in datagrams.
    package mutating func goes(over path: String, at now: Instant) {
        usableAfter = usableAfter ?? now - since
        guard self.path != path else { return }
        self.path = path
        pathAfter = now - since
    }
}

extension DaemonCore {
    /// A service wants a session with a peer.
    mutating func want(_ peer: PeerID, at endpoint: Endpoint, now: Instant) {
        if wanted[peer] == nil {
            wanted[peer] = Wish(endpoint, at: now)
            if let kind = wayWord(to: peer) { wanted[peer]!.goes(over: kind, at: now) }
        }
        wanted[peer]!.endpoint = endpoint
        connect(to: peer, at: endpoint, now: now)
    }
    /// `direct`, `punched` or `relayed`; nil of a peer that is not connected.
    func pathWord(to peer: PeerID) -> String? {
        channels.way(to: peer).map { $0.relay != nil ? "relayed" : $0.isPunched ? "punched" : "direct" }
    }
    /// ``pathWord(to:)``, told apart by what carries it.
    func wayWord(to peer: PeerID) -> String? {
        pathWord(to: peer).map { channels.way(to: peer)?.isFlow == true ? $0 + " by datagrams" : $0 }
    }
}
