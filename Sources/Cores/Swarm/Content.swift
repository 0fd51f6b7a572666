import Digests
import Primitives
import Wire

/// Fetches one content from whoever holds it, a few chunks in flight, spread over holders by the fetcher's own offset so
/// that a crowd of newcomers does not ask one peer for the same chunk at once.
package struct ContentFetch: Sendable {
    package private(set) var index: ContentIndex?
    let id: Digest256
    private var chunks: [Int: [UInt8]] = [:]
    private var asked: [Int: (holder: PeerID, at: Instant)] = [:]
    private var refusals: [Int: Int] = [:]
    private(set) var holders: [PeerID]
    private let offset: Int
    package static let window = 6
    package static let patience = Duration.seconds(4)

    package init(id: Digest256, holders: [PeerID], offset: Int) {
        self.id = id
        self.holders = holders
        self.offset = offset
    }

    package var isComplete: Bool { index.map { chunks.count == $0.count } ?? false }
    package var progress: (have: Int, of: Int) { (chunks.count, index?.count ?? 0) }

    package mutating func receive(index: ContentIndex, holders more: [PeerID]) {
        self.index = index
        for holder in more { add(holder: holder) }
    }
    /// Another member of the job: it may have what is missing here.
    package mutating func add(holder: PeerID) { if !holders.contains(holder) { holders.append(holder) } }

    /// Chunks verified here may be served on at once.
    package func chunk(_ number: Int) -> [UInt8]? { chunks[number] }

    /// True when the chunk was wanted and is right.
    package mutating func receive(chunk number: Int, _ bytes: [UInt8], from: PeerID) -> Bool {
        guard let index, number < index.count, chunks[number] == nil else { return false }
        asked[number] = nil
        guard bytes.count == index.lengths[number], sha256(bytes) == index.digests[number] else {
            refusals[number, default: 0] += 1
            return false
        }
        chunks[number] = bytes
        return true
    }
    package mutating func missing(_ number: Int, at holder: PeerID) {
        asked[number] = nil
        refusals[number, default: 0] += 1
    }
    package mutating func lost(_ holder: PeerID) {
        holders.removeAll { $0 == holder }
        for (number, request) in asked where request.holder == holder { asked[number] = nil }
    }

    /// The next requests to send.
    package mutating func requests(at now: Instant) -> [(chunk: Int, from: PeerID)] {
        guard let index, !holders.isEmpty else { return [] }
        for (number, request) in asked where request.at + Self.patience <= now {
            asked[number] = nil
            refusals[number, default: 0] += 1
        }
        var out: [(chunk: Int, from: PeerID)] = []
        for position in 0..<index.count where asked.count < Self.window {
            let number = (position + offset * 7) % index.count
            guard chunks[number] == nil, asked[number] == nil else { continue }
            // The first holder is the launcher, who surely has it: refused elsewhere, a chunk is asked of it.
            let tries = refusals[number] ?? 0
            let holder = tries % 2 == 1 ? holders[0] : holders[(number + offset + tries) % holders.count]
            asked[number] = (holder, now)
            out.append((number, holder))
        }
        return out
    }
    package var nextWake: Instant? { asked.values.map { $0.at + Self.patience }.min() }

    package var content: [UInt8] {
        guard let index else { return [] }
        var out: [UInt8] = []
        out.reserveCapacity(index.bytes)
        for number in 0..<index.count { out += chunks[number] ?? [] }
        return out
    }
}
