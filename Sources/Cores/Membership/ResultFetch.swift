import Content
import Digests
import Messages
import Primitives
import Record
import Telemetry
import Training

/// Fetches the weights with which a job has ended, from whoever still has them. What comes has to be what its holders agreed on, unit by
/// unit, and all of it what the last entry of the log says.
package struct ResultFetch: Sendable {
    package enum Effect: Sendable {
        case send(Message, to: PeerID)
        case event(Happening, PeerID?)
        case done([UnitState])
        case failed(String)
    }
    private let record: Record
    private let weights: Digest256
    /// Which may be the result, the newest first: where nobody held the last one any more, it was the last checkpoint.
    private let rounds: [Int]
    private let patience: Duration
    private var turn = 0
    private var turned: Instant
    private var fetch: StateFetch
    /// Of other rounds, as far as they came.
    private var others: [Int: StateFetch] = [:]
    private var sources: [PeerID]
    /// Chunks of each round.
    private var have: [Int: Int] = [:]
    private var progressed: Instant
    private var said: Instant
    private var isOver = false
    private var effects = EffectQueue<Effect>()

    /// So long one round is looked for, while nothing of it comes.
    package static let patience = Duration.seconds(15)
    private static let saying = Duration.seconds(2)

    /// - Parameters:
    ///   - weights: of the log's last entry.
    ///   - patience: when nothing has come for so long, nobody has it.
    /// - Returns: nil where the log does not say what the units were.
    package init?(
        _ record: Record, weights: Digest256, from sources: [PeerID], patience: Duration, at now: Instant
    ) {
        rounds = record.state.agreed.keys.filter { $0 > 0 && record.state.isAgreed($0) }.sorted(by: >)
        guard let first = rounds.first else { return nil }
        self.record = record
        self.weights = weights
        self.sources = sources
        self.patience = patience
        (turned, progressed, said) = (now, now, now)
        fetch = Self.fetch(of: first, record, sources, at: now)
        effects.push(.event(.collectingWeights(round: first), nil))
        drain(at: now)
    }
    private static func fetch(of round: Int, _ record: Record, _ sources: [PeerID], at now: Instant) -> StateFetch {
        let model = record.parameters.model
        var holders: [Int: [PeerID]] = [:]
        for unit in model.allUnits {
            // Different units of different peers first.
            let turn = sources.isEmpty ? 0 : unit % sources.count
            holders[unit] = Array(sources[turn...] + sources[..<turn])
        }
        return StateFetch(
            round: round, sources: holders, roots: record.state.agreed[round] ?? [:], moments: false, model: model,
            offset: 0, at: now)
    }

    package mutating func poll() -> Effect? { effects.pop() }
    package func isSource(_ peer: PeerID) -> Bool { sources.contains(peer) }
    package var nextWake: Instant? {
        guard !isOver else { return nil }
        return earliest(earliest(fetch.nextWake, said + Self.saying), progressed + patience)
    }

    /// They tell of the job: perhaps they have some of it.
    package mutating func hear(of peers: [PeerID], at now: Instant) {
        let new = peers.filter { !sources.contains($0) }
        guard !new.isEmpty, !isOver else { return }
        sources += new
        var more: [Int: [PeerID]] = [:]
        for unit in record.parameters.model.allUnits { more[unit] = new }
        fetch.add(sources: more, at: now)
        drain(at: now)
    }
    package mutating func lost(_ peer: PeerID, at now: Instant) {
        sources.removeAll { $0 == peer }
        fetch.lost(peer, at: now)
        for round in others.keys { others[round]!.lost(peer, at: now) }
        drain(at: now)
    }
    package mutating func receive(_ message: Message, from peer: PeerID, at now: Instant) {
        guard !isOver else { return }
        switch message {
        case .stateOffer(let offer): fetch.receive(offer, from: peer, at: now)
        case .indexPart(let part): fetch.receive(part, from: peer, at: now)
        case .chunk(let id, let number, let bytes):
            fetch.receive(chunk: number, of: id, bytes, from: peer, at: now)
        case .chunkMissing(let id, let number): fetch.missing(chunk: number, of: id, at: peer, now: now)
        default: return
        }
        drain(at: now)
    }
    package mutating func wake(at now: Instant) {
        guard !isOver else { return }
        fetch.wake(at: now)
        drain(at: now)
        guard !isOver else { return }
        if now - progressed >= patience { return fail(nobody) }
        if said + Self.saying <= now {
            said = now
            let (have, total) = fetch.progress
            if total > 0 { effects.push(.event(.collectionProgress(have: have, of: total), nil)) }
        }
        // What there is of one round may not be all that is needed, and another the result.
        if rounds.count > 1, now - max(turned, progressed) >= Self.patience { begin(turn + 1, at: now) }
    }

    private mutating func begin(_ turn: Int, at now: Instant) {
        others[fetch.round] = fetch
        self.turn = turn
        turned = now
        let round = rounds[turn % rounds.count]
        fetch = others.removeValue(forKey: round) ?? Self.fetch(of: round, record, sources, at: now)
        var all: [Int: [PeerID]] = [:]
        for unit in record.parameters.model.allUnits { all[unit] = sources }
        fetch.add(sources: all, at: now)
        fetch.wake(at: now)
        drain(at: now)
    }
    private mutating func drain(at now: Instant) {
        while !isOver, let effect = fetch.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .wrong(let peer, let unit, _): effects.push(.event(.stateWrong(unit: unit), peer))
            case .unavailable: break
            case .done: return finish(at: now)
            }
        }
        let chunks = fetch.progress.have
        if chunks > have[fetch.round] ?? 0 {
            have[fetch.round] = chunks
            progressed = now
        }
    }
    private mutating func finish(at now: Instant) {
        let states = fetch.wantedUnits.compactMap { fetch.take($0) }
        guard weightsDigest(of: states) != weights else {
            isOver = true
            return effects.push(.done(states))
        }
        // Another round was the result.
        guard turn + 1 < rounds.count else { return fail(nobody) }
        begin(turn + 1, at: now)
    }
    private mutating func fail(_ why: String) {
        isOver = true
        effects.push(.failed(why))
    }
    private var nobody: String {
        "the job is done (weights \(weights.hex)), and none of the \(sources.count) peers that tell of it gave all of its weights in "
            + "\(fixed(patience.inSeconds, 0)) s. Members keep what they held for an hour, or until they work for another job. Try again "
            + "while more of them are connected; else ask the owner of the peer that led last for checkpoints/\(record.job.hex) in its folder"
    }
}
