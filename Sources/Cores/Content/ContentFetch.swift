public import Messages
public import Primitives
public import Wire

/// Fetches one content from whoever holds it: its list of chunks in pieces first, then the chunks, each verified alone.
///
/// Several holders are asked at once, a few chunks each. No deadline is fixed where progress can be seen: a holder counts as silent
/// when nothing at all has come from it for ``patience``; then its requests go to others, and it is asked again later. What is wrong
/// names its sender, who is not asked for this content again.
public struct ContentFetch: Sendable {
    public enum Request: Hashable, Sendable {
        case index(from: Int)
        case chunk(Int)
    }
    public enum Verdict: Hashable, Sendable {
        /// Wanted and right.
        case kept
        /// Not asked for, or here already.
        case unwanted
        /// Not what the content ID says: the sender is wrong.
        case wrong(String)
    }
    private struct Holder: Sendable {
        var peer: PeerID
        /// Requests it may have open.
        var window = 2
        var open = 0
        var lastHeard: Instant
        /// It is not asked before this.
        var notBefore = Instant(nanoseconds: .min)
        var silences = 0
        var isWrong = false
    }
    private struct Asked: Sendable {
        var holder: PeerID
        var at: Instant
    }

    public let id: Digest256
    /// Bytes it must have, where that is known.
    private let expectedBytes: Int?
    public private(set) var index: ContentIndex?
    private var entries: [UInt8] = []
    private var indexAsked: Asked?
    private var holders: [Holder] = []
    private var asked: [Int: Asked] = [:]
    private var chunks: [Int: StoredBytes] = [:]
    /// Where chunks are put down; nil for memory.
    private let room: (any ByteRoom)?
    private var store: (any ByteStore)?
    /// Holders that said that they lack a chunk.
    private var lacking: [Int: Set<PeerID>] = [:]
    /// Where the search for the next chunk begins: different at each fetcher, so that a crowd spreads.
    private var cursor: Int

    public static let mostWindow = 8
    public static let patience = Duration.seconds(20)
    private static let pause = Duration.seconds(5)
    /// Most holders that are kept.
    private static let holderLimit = 256

    /// - Parameter room: where chunks are put down as they come; nil for memory.
    public init(
        id: Digest256, bytes: Int? = nil, holders: [PeerID], offset: Int, room: (any ByteRoom)? = nil, at now: Instant
    ) {
        self.id = id
        self.room = room
        expectedBytes = bytes
        cursor = max(0, offset)
        for holder in holders { add(holder: holder, at: now) }
    }

    public var isComplete: Bool { index.map { chunks.count == $0.count } ?? false }
    /// Chunks here, and in all; all is 0 before the list is known.
    public var progress: (have: Int, of: Int) { (chunks.count, index?.count ?? 0) }
    public var hasHolders: Bool { holders.contains { !$0.isWrong } }

    /// Its bytes at hand: nothing is to be fetched.
    public mutating func fill(_ content: [UInt8]) {
        let index = ContentIndex(of: content)
        precondition(index.id == id, "content \(index.id) is not \(id)")
        self.index = index
        let bytes = StoredBytes(content)
        for number in 0..<index.count { chunks[number] = bytes[index.range(number)] }
    }

    // MARK: holders

    public mutating func add(holder peer: PeerID, at now: Instant) {
        guard holders.count < Self.holderLimit else { return }
        if let index = holders.firstIndex(where: { $0.peer == peer }) {
            // It is back.
            holders[index].notBefore = Instant(nanoseconds: .min)
            holders[index].lastHeard = now
        } else {
            holders.append(Holder(peer: peer, lastHeard: now))
        }
    }
    public func isHolder(_ peer: PeerID) -> Bool { holders.contains { $0.peer == peer } }
    public mutating func lost(_ peer: PeerID) {
        guard let index = holders.firstIndex(where: { $0.peer == peer }) else { return }
        let wasWrong = holders[index].isWrong
        release(peer)
        if !wasWrong { holders.remove(at: index) }
    }
    private mutating func release(_ peer: PeerID) {
        asked = asked.filter { $0.value.holder != peer }
        if indexAsked?.holder == peer { indexAsked = nil }
        if let index = holders.firstIndex(where: { $0.peer == peer }) { holders[index].open = 0 }
    }
    private mutating func answered(_ peer: PeerID, at now: Instant, grows: Bool) {
        guard let index = holders.firstIndex(where: { $0.peer == peer }) else { return }
        holders[index].open = max(0, holders[index].open - 1)
        holders[index].lastHeard = now
        holders[index].silences = 0
        if grows { holders[index].window = min(Self.mostWindow, holders[index].window + 1) }
    }
    private mutating func condemn(_ peer: PeerID) {
        release(peer)
        if let index = holders.firstIndex(where: { $0.peer == peer }) { holders[index].isWrong = true }
    }

    // MARK: inputs

    public mutating func receive(_ part: IndexPart, from peer: PeerID, at now: Instant) -> Verdict {
        guard part.content == id, index == nil, indexAsked?.holder == peer else { return .unwanted }
        indexAsked = nil
        answered(peer, at: now, grows: false)
        guard part.first * ContentIndex.entryBytes == entries.count, !part.entries.isEmpty || part.total == 0 else {
            return .unwanted
        }
        if let expectedBytes, part.total != ContentIndex.count(ofBytes: expectedBytes) {
            condemn(peer)
            return .wrong("a list of \(part.total) chunks for \(expectedBytes) bytes")
        }
        entries += part.entries
        guard entries.count == part.total * ContentIndex.entryBytes else { return .kept }
        defer { entries = [] }
        do throws(MalformedBytes) {
            let list = try ContentIndex(encoded: entries, id: id)
            guard expectedBytes == nil || list.bytes == expectedBytes else {
                throw MalformedBytes("content of \(list.bytes) bytes")
            }
            index = list
            store = room?.store(list.bytes)
            cursor = list.count > 0 ? cursor % list.count : 0
            return .kept
        } catch {
            condemn(peer)
            return .wrong(error.description)
        }
    }

    public mutating func receive(chunk number: Int, _ bytes: [UInt8], from peer: PeerID, at now: Instant) -> Verdict {
        guard let index, number < index.count, chunks[number] == nil else { return .unwanted }
        // Only who was asked is listened to, though the bytes would prove themselves: nobody sends ahead of requests.
        guard asked[number]?.holder == peer else { return .unwanted }
        asked[number] = nil
        answered(peer, at: now, grows: true)
        guard index.holds(bytes, chunk: number) else {
            condemn(peer)
            return .wrong("chunk \(number) does not hash to what the list says")
        }
        chunks[number] = keep(bytes, index.range(number))
        lacking[number] = nil
        return .kept
    }
    private func keep(_ bytes: [UInt8], _ range: Range<Int>) -> StoredBytes {
        guard let store, bytes.withUnsafeBytes({ store.put($0, at: range.lowerBound) }) else {
            return StoredBytes(bytes)
        }
        return StoredBytes(store, range)
    }
    public mutating func missing(_ number: Int, at peer: PeerID, now: Instant) {
        guard asked[number]?.holder == peer else { return }
        asked[number] = nil
        answered(peer, at: now, grows: false)
        lacking[number, default: []].insert(peer)
        // Who lacks what is asked of it may have it a little later.
        if let index = holders.firstIndex(where: { $0.peer == peer }), lacking[number]!.count >= holders.count {
            holders[index].notBefore = now + .milliseconds(500)
            lacking[number] = nil
        }
    }

    // MARK: what to ask

    /// The next requests to send.
    public mutating func requests(at now: Instant) -> [(request: Request, to: PeerID)] {
        passOver(silentAt: now)
        guard let index else { return indexRequest(at: now) }
        guard chunks.count + asked.count < index.count else { return [] }
        var out: [(request: Request, to: PeerID)] = []
        var number = cursor
        for _ in 0..<index.count {
            guard chunks.count + asked.count < index.count else { break }
            defer { number = (number + 1) % index.count }
            guard chunks[number] == nil, asked[number] == nil else { continue }
            guard let holder = freest(for: number, at: now) else {
                if holders.allSatisfy({ $0.isWrong || $0.open >= $0.window || $0.notBefore > now }) { break }
                continue
            }
            holders[holder].open += 1
            if holders[holder].open == 1 { holders[holder].lastHeard = now }
            asked[number] = Asked(holder: holders[holder].peer, at: now)
            out.append((.chunk(number), holders[holder].peer))
            cursor = number
        }
        return out
    }

    private mutating func indexRequest(at now: Instant) -> [(request: Request, to: PeerID)] {
        guard indexAsked == nil, let holder = freest(for: nil, at: now) else { return [] }
        holders[holder].open += 1
        holders[holder].lastHeard = now
        indexAsked = Asked(holder: holders[holder].peer, at: now)
        return [(.index(from: entries.count / ContentIndex.entryBytes), holders[holder].peer)]
    }

    /// Of those that may be asked, the one with most of its window free; of equals the one after the last.
    private func freest(for chunk: Int?, at now: Instant) -> Int? {
        var best: Int?
        for index in holders.indices {
            let holder = holders[index]
            guard !holder.isWrong, holder.open < holder.window, holder.notBefore <= now else { continue }
            if let chunk, lacking[chunk]?.contains(holder.peer) == true { continue }
            if best == nil || holder.window - holder.open > holders[best!].window - holders[best!].open { best = index }
        }
        return best
    }

    private mutating func passOver(silentAt now: Instant) {
        for index in holders.indices where holders[index].open > 0 && holders[index].lastHeard + Self.patience <= now {
            let peer = holders[index].peer
            release(peer)
            holders[index].silences = min(6, holders[index].silences + 1)
            holders[index].window = 2
            holders[index].notBefore = now + Self.pause * holders[index].silences
        }
    }

    /// When somebody's silence is noticed, or a holder may be asked again.
    public var nextWake: Instant? {
        guard !isComplete else { return nil }
        var next: Instant?
        let isWaiting = index == nil ? indexAsked == nil : chunks.count + asked.count < index!.count
        for holder in holders where !holder.isWrong {
            if holder.open > 0 { next = earliest(next, holder.lastHeard + Self.patience) }
            if isWaiting, holder.open == 0, holder.notBefore.nanoseconds > .min {
                next = earliest(next, holder.notBefore)
            }
        }
        return next
    }

    // MARK: what is here

    public func chunk(_ number: Int) -> [UInt8]? { chunks[number]?.all }
    /// A chunk where it was put down.
    public func part(_ number: Int) -> StoredBytes? { chunks[number] }
    /// Complete, or nothing.
    public var stored: StoredBytes? {
        guard let index, isComplete else { return nil }
        return StoredBytes(joining: (0..<index.count).map { chunks[$0]! })
    }
}
