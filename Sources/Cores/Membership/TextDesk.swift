import Content
import Messages
import Primitives
import Record
import Telemetry
import Wire

/// Where it lies: it is read there, wherever that is.
private final class TextRoom: ByteRoom {
    private let base: any ByteRoom
    init(_ base: any ByteRoom) { self.base = base }
    func store(_ bytes: Int) -> (any ByteStore)? { base.place(bytes) }
}

/// The job's text: fetched in verified chunks from whoever has them, written to disk chunk by chunk, and served on to other members
/// from the first chunk on.
package struct TextDesk: Sendable {
    package enum Effect: Sendable {
        case send(Message, to: PeerID)
        case store(StorageRequest)
        /// All of it is here.
        case complete(StoredBytes)
        case event(Happening, PeerID?)
    }
    private enum State: Sendable {
        /// While the fetch changes, so that nobody else holds it and nothing is copied.
        case changing
        case fetching(ContentFetch)
        case complete(ContentIndex, StoredBytes)
    }

    package let content: Digest256
    private var state: State
    private var effects = EffectQueue<Effect>()

    /// - Parameters:
    ///   - bytes: of the text, as the genesis says.
    ///   - holders: who surely has it.
    ///   - offset: varies where fetchers begin.
    ///   - room: where it is put down, once; nil for chunks in memory.
    package init(
        content: Digest256, bytes: Int, holders: [PeerID], offset: Int, room: (any ByteRoom)? = nil, at now: Instant
    ) {
        self.content = content
        state = .changing
        request(
            of: ContentFetch(
                id: content, bytes: bytes, holders: holders, offset: offset, room: room.map { TextRoom($0) }, at: now),
            at: now)
    }

    package mutating func poll() -> Effect? { effects.pop() }
    /// All of it; nil before it is here.
    package var bytes: StoredBytes? { if case .complete(_, let bytes) = state { bytes } else { nil } }
    package var isComplete: Bool { if case .complete = state { true } else { false } }
    /// Chunks; `of` is 0 before the list is known.
    package var progress: (have: Int, of: Int) {
        switch state {
        case .changing: (0, 0)
        case .fetching(let fetch): fetch.progress
        case .complete(let index, _): (index.count, index.count)
        }
    }

    // MARK: holders

    package mutating func add(holder peer: PeerID, at now: Instant) {
        fetching(at: now) { $0.add(holder: peer, at: now) }
    }
    package mutating func lost(_ peer: PeerID, at now: Instant) { fetching(at: now) { $0.lost(peer) } }
    package mutating func wake(at now: Instant) { fetching(at: now) { _ in } }
    package var nextWake: Instant? { if case .fetching(let fetch) = state { fetch.nextWake } else { nil } }

    // MARK: messages

    /// A message about the text, from a peer that may fetch it or hold it.
    /// - Returns: whether it was one.
    package mutating func receive(_ message: Message, from peer: PeerID, at now: Instant) -> Bool {
        switch message {
        case .indexRequest(content, let first): answer(indexFrom: first, to: peer)
        case .chunkRequest(content, let number): answer(chunk: number, to: peer)
        case .indexPart(let part) where part.content == content:
            fetching(at: now) { fetch in
                if case .wrong(let why) = fetch.receive(part, from: peer, at: now) {
                    return .event(.contentRefused(why: why), peer)
                }
                return nil
            }
        case .chunk(content, let number, let bytes):
            fetching(at: now) { fetch in
                switch fetch.receive(chunk: number, bytes, from: peer, at: now) {
                case .kept: .store(.chunk(content: fetch.id, number: number, fetch.part(number) ?? StoredBytes(bytes)))
                case .wrong: .event(.chunkRefused(chunk: number), peer)
                case .unwanted: nil
                }
            }
        case .chunkMissing(content, let number): fetching(at: now) { $0.missing(number, at: peer, now: now) }
        default: return false
        }
        return true
    }

    private mutating func answer(indexFrom first: Int, to peer: PeerID) {
        let index: ContentIndex
        switch state {
        case .changing: return
        case .fetching(let fetch):
            guard let known = fetch.index else { return }
            index = known
        case .complete(let known, _): index = known
        }
        guard first <= index.count else { return }
        let part = IndexPart(
            content: content, first: first, total: index.count,
            entries: index.encoded(from: first, most: IndexPart.most))
        effects.push(.send(.indexPart(part), to: peer))
    }
    private mutating func answer(chunk number: Int, to peer: PeerID) {
        let bytes: [UInt8]?
        switch state {
        case .changing: bytes = nil
        case .fetching(let fetch): bytes = fetch.chunk(number)
        case .complete(let index, let text): bytes = number < index.count ? text.bytes(index.range(number)) : nil
        }
        if let bytes {
            effects.push(.send(.chunk(content: content, chunk: number, bytes: bytes), to: peer))
        } else {
            effects.push(.send(.chunkMissing(content: content, chunk: number), to: peer))
        }
    }

    // MARK: fetching

    /// Changes the fetch, if there is one still, and asks for what comes next.
    private mutating func fetching(at now: Instant, _ change: (inout ContentFetch) -> Effect?) {
        guard case .fetching(var fetch) = state else { return }
        state = .changing
        if let effect = change(&fetch) { effects.push(effect) }
        request(of: fetch, at: now)
    }
    private mutating func fetching(at now: Instant, _ change: (inout ContentFetch) -> Void) {
        fetching(at: now) { (fetch: inout ContentFetch) -> Effect? in
            change(&fetch)
            return nil
        }
    }

    private mutating func request(of fetch: consuming ContentFetch, at now: Instant) {
        if let index = fetch.index, let text = fetch.stored {
            state = .complete(index, text)
            effects.push(.event(.textComplete(bytes: text.count), nil))
            return effects.push(.complete(text))
        }
        let requests = fetch.requests(at: now)
        state = .fetching(fetch)
        for (request, peer) in requests {
            switch request {
            case .index(let first): effects.push(.send(.indexRequest(content: content, first: first), to: peer))
            case .chunk(let number): effects.push(.send(.chunkRequest(content: content, chunk: number), to: peer))
            }
        }
    }
}
