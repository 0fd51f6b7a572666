internal import Consensus
import Daemon
import Digests
import Messages
import Primitives
import Wire

/// An elector that says something else than it should to the others, for a while. What it does itself is honest.
final class ElectorTongue: Tongue, @unchecked Sendable {
    private let key: SigningKey
    /// A world is one thread; each tongue belongs to one of its hosts.
    var lie: Trouble.ElectorLie?
    private var said = 0

    init(key: SigningKey) { self.key = key }

    func speak(_ packet: Packet, to peer: PeerID) -> [FramedPacket] {
        guard let lie, case .election(.ack(let claim, let signature)) = packet.message else { return [packet.framed] }
        said += 1
        func framed(_ ack: Ack) -> FramedPacket {
            Packet(job: packet.job, term: packet.term, .election(.ack(ack.claim, signature: ack.signature))).framed
        }
        var other = claim
        other.root = sha256(claim.root.bytes)
        switch lie {
        case .signsTwice:
            let second = framed(Ack(other, by: key))
            return peer.bytes[0] % 2 == 0 ? [second] : [packet.framed, second]
        case .forges:
            switch said % 5 {
            case 0: break
            case 1: other.size += 100
            case 2: other.term += 1
            case 3: other.era += 1
            default: other.job = sha256([1])
            }
            let forged = said % 5 == 0 ? Ack(other, signer: key.peerID, signature: signature) : Ack(other, by: key)
            return [packet.framed, framed(forged)]
        }
    }
}
