import Digests
import Kademlia
import Primitives

/// What a malicious node answers. All of them know each other.
enum Malice: Int, CaseIterable {
    /// Names other malicious nodes as the closest to whatever is asked for, keeps nothing.
    case misleading
    /// The same under invented IDs that lie closer than any real node.
    case inventing
    /// Answers pings and searches for nodes, and nothing that could help anybody else.
    case dropping
    /// Returns forged items and made-up peers; says that it stored what it threw away.
    case poisoning
}

/// Answers in place of a malicious node's core.
struct Adversary {
    /// IDs of all malicious nodes in order, and who they are.
    private var members: [(id: NodeID, index: Int)] = []

    mutating func update(_ members: [(id: NodeID, index: Int)]) {
        self.members = members.sorted { $0.id < $1.id }
    }

    /// - Returns: nil to stay silent; otherwise the datagram to send. `.none` of the outer optional: let the core answer.
    func answer(
        _ datagram: [UInt8], as kind: Malice, _ own: NodeID, to asker: Endpoint, generator: inout SeededGenerator
    ) -> [UInt8]?? {
        guard let message = try? KRPCMessage.decode(datagram, pool: nil), case .query(let query) = message.body else {
            return .none
        }
        let target: NodeID
        switch query.method {
        case .findNode(let id), .sampleInfoHashes(let id): target = id
        case .getPeers(let id): target = id
        case .get(let id, _): target = id
        case .announcePeer, .put:
            if kind == .dropping { return .some(nil) }
            return .some(reply(KRPCAnswer(sender: own), to: message, asker))
        default: return .none
        }
        var answer = KRPCAnswer(sender: own)
        if kind == .dropping {
            guard case .findNode = query.method else { return .some(nil) }
        }
        answer.nodes = nodes(target, kind, &generator)[...]
        answer.token = [9, 9, 9, 9, 9, 9, 9, 9]
        if kind == .poisoning {
            switch query.method {
            case .getPeers:
                answer.values = (0..<20).map { _ in generator.bytes(6)[...] }
            case .get:
                answer.value = Array("6:forged".utf8)[...]
                answer.key = generator.bytes(32)[...]
                answer.signature = generator.bytes(64)[...]
                answer.sequence = 1 << 40
            default: break
            }
        }
        return .some(reply(answer, to: message, asker))
    }

    private func reply(_ answer: KRPCAnswer, to message: KRPCMessage, _ asker: Endpoint) -> [UInt8] {
        var reply = KRPCMessage(transaction: message.transaction, body: .answer(answer))
        reply.observed = asker.compact[...]
        return reply.encoded(pool: nil)
    }

    /// Eight colluders: those whose IDs follow the target, or any, dressed up.
    private func nodes(_ target: NodeID, _ kind: Malice, _ generator: inout SeededGenerator) -> [UInt8] {
        var (low, high) = (0, members.count)
        while low < high {
            let middle = (low + high) / 2
            if members[middle].id < target { low = middle + 1 } else { high = middle }
        }
        var out: [UInt8] = []
        for offset in 0..<min(8, members.count) {
            let member = members[(low + offset - 4 + members.count) % members.count]
            var id = member.id.bytes
            if kind == .inventing { id = Array(target.bytes.prefix(17)) + generator.bytes(3) }
            out += id + OverlayPopulation.endpoint(member.index).compact
        }
        return out
    }
}
