import Messages
import Primitives

/// Work that arrives before its time: of the round that begins next, or under a plan that is still on its way here. It is looked at
/// again when either comes. Bounded in all and by sender, with what a message costs besides its bytes, so that nobody's mail takes
/// the room of everybody's.
package struct EarlyMail: Sendable {
    package struct Item: Sendable {
        package var from: PeerID
        package var message: Message
    }
    private var items: [Item] = []
    package private(set) var bytes = 0
    private var bySender: [PeerID: Int] = [:]
    /// Messages for which there was no room.
    package private(set) var dropped = 0

    package static let limit = 256 << 20
    package static let senderLimit = 96 << 20
    /// What keeping a message, and what keeping one chunk of it, costs besides the payload.
    package static let messageOverhead = 512
    package static let chunkOverhead = 96

    package init() {}

    package var count: Int { items.count }
    package var isEmpty: Bool { items.isEmpty }

    /// Bytes that keeping a message takes.
    package static func cost(of message: Message) -> Int {
        switch message {
        case .activation(_, let payload): messageOverhead + payload.count
        case .norms(let norms): messageOverhead + 4 * norms.sumSquares.count
        case .exchangePart(let part): messageOverhead + chunkOverhead * part.chunks.count + part.bytes
        default: messageOverhead
        }
    }

    /// - Returns: whether there was room.
    @discardableResult
    package mutating func keep(_ message: Message, from peer: PeerID) -> Bool {
        let cost = Self.cost(of: message)
        guard bytes + cost <= Self.limit, bySender[peer, default: 0] + cost <= Self.senderLimit else {
            dropped += 1
            return false
        }
        items.append(Item(from: peer, message: message))
        bytes += cost
        bySender[peer, default: 0] += cost
        return true
    }

    /// All of it, in the order of arrival; nothing is left here.
    package mutating func takeAll() -> [Item] {
        defer {
            items = []
            bytes = 0
            bySender = [:]
        }
        return items
    }
    /// Who has left has nothing more to say under the plans that there were. Whoever is told late that somebody left, and was started again since,
    /// may have its work under a plan that is still on its way here.
    ///
    /// - Parameter attempt: the latest so far.
    package mutating func forget(_ peer: PeerID, upTo attempt: Int) {
        guard bySender[peer] != nil else { return }
        items.removeAll { item in
            guard item.from == peer, (item.message.work?.attempt ?? 0) <= attempt else { return false }
            let cost = Self.cost(of: item.message)
            bytes -= cost
            bySender[peer]! -= cost
            return true
        }
        if bySender[peer] == 0 { bySender[peer] = nil }
    }
}

extension Message {
    /// What it is a part of, of messages between stages.
    package var work: WorkKey? {
        switch self {
        case .activation(let activation, _): activation.work
        case .norms(let norms): norms.work
        case .exchangePart(let part): part.work
        default: nil
        }
    }
}
