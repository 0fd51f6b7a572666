import Daemon
import Digests
import Messages
import Primitives
import Wire

/// A member, or a leader, that says what it should, and with each message others that it should not: every kind it has ever said or
/// heard, each field with every value of ``FieldMutation``, in turn. What it signs it signs again.
final class HostileTongue: Tongue, @unchecked Sendable {
    private let key: SigningKey
    /// Additional messages with each that is due.
    private let perMessage: Int
    private let longest: Int
    /// One of each kind, latest first, with its mutations that are still to be said.
    private var store: [String: [[UInt8]]] = [:]
    private var kinds: [String] = []
    private var turn = 0
    private var generator: SeededGenerator
    private(set) var said = 0

    init(key: SigningKey, perMessage: Int, longest: Int = 1 << 16, seed: UInt64) {
        self.key = key
        self.perMessage = perMessage
        self.longest = longest
        generator = SeededGenerator(seed: seed, stream: 0x0517)
    }

    /// A world is one thread; each tongue belongs to one of its hosts.
    func speak(_ packet: Packet, to peer: PeerID) -> [FramedPacket] {
        let honest = packet.framed
        learn(packet.message.kind, honest)
        var out = [honest]
        for _ in 0..<perMessage { if let lie = next() { out.append(lie) } }
        return out
    }

    private func learn(_ kind: String, _ framed: FramedPacket) {
        if store[kind]?.isEmpty == false { return }
        let bytes = framed.packet.raw
        var lies = FieldMutation.all(of: bytes, longest: longest)
        lies += resigned(framed.packet)
        // Another order at every seed, so that many seeds meet in every phase.
        for index in lies.indices.dropLast() { lies.swapAt(index, index + generator.below(lies.count - index)) }
        if store[kind] == nil { kinds.append(kind) }
        store[kind] = lies
    }
    private func next() -> FramedPacket? {
        for _ in kinds {
            turn = (turn + 1) % kinds.count
            guard let lie = store[kinds[turn]]?.popLast(), let packet = PBPacket(raw: lie) else { continue }
            said += 1
            return FramedPacket(packet, payload: generator.below(4) == 0 ? [UInt8](repeating: 7, count: 33) : [])
        }
        return nil
    }

    /// Statements that are wrong inside, and rightly signed.
    private func resigned(_ packet: PBPacket) -> [[UInt8]] {
        func sign(_ envelope: PBEnvelope, _ body: [UInt8]) -> PBEnvelope {
            var out = envelope
            out.body = bytesOf(body)
            out.sign(by: key)
            return out
        }
        var out: [[UInt8]] = []
        var changed = packet
        switch packet.body {
        case .receipt(let receipt)?:
            for body in FieldMutation.all(of: [UInt8](receipt.envelope.body), longest: 4096) {
                changed.receipt.envelope = sign(receipt.envelope, body)
                out.append(changed.raw)
            }
        case .logEntries(let entries)?:
            guard let last = entries.entries.last else { break }
            for body in FieldMutation.all(of: [UInt8](last.body), longest: 4096) {
                changed.logEntries.entries = [sign(last, body)]
                out.append(changed.raw)
            }
        case .offer(let offer)?:
            for body in FieldMutation.all(of: [UInt8](offer.genesis.body), longest: 4096) {
                changed.offer.genesis = sign(offer.genesis, body)
                out.append(changed.raw)
            }
        default: break
        }
        return out
    }
}
