import Content
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// Copies of units that others hold, for when all of their holders are gone for good: weights and outer momentum as of the start of some
/// rounds, fetched in chunks at the lowest priority, one run of units after another.
///
/// Of which rounds is the same for all (``JobParameters/copiesStart(of:)``): a copy is of use with the other units of its round only. One
/// that is under way is not given up for a newer one, unless nothing of it comes any more. What is copied is verified against what the
/// log says, chunk by chunk.
package struct CopyDesk: Sendable {
    package enum Effect: Sendable {
        case send(Message, to: PeerID)
        case keep([UnitState], round: Int, epoch: Int)
        case event(Happening, PeerID?)
    }
    private struct Run: Sendable {
        var units: Range<Int>
        var round: Int
        var epoch: Int
        var fetch: StateFetch
        /// Chunks, and when the last came.
        var have = 0
        var progressed: Instant
    }
    private var run: Run?
    /// Runs of the round that was begun last, which are still to come.
    private var left: [Range<Int>] = []
    private var begun = 0
    /// The newest round whose start all agreed on.
    private var heard = 0
    /// Said once for each plan.
    private var saidFor = 0
    private var effects = EffectQueue<Effect>()
    /// Nothing has come for so long: it is given up.
    package static let patience = Duration.seconds(30)

    package init() {}

    package mutating func poll() -> Effect? { effects.pop() }
    package var isBusy: Bool { run != nil }
    package var nextWake: Instant? { run.map { earliest($0.fetch.nextWake, $0.progressed + Self.patience)! } }
    /// Whether there may be something to begin.
    package var hasNews: Bool { run == nil && (!left.isEmpty || heard > begun) }

    /// Holders have agreed on units of a round of which there are to be copies.
    package mutating func hear(of round: Int) { heard = max(heard, round) }
    /// The log has gone back.
    package mutating func forget(after round: Int) {
        heard = min(heard, round)
        begun = min(begun, round)
        if let run, run.round > round { stop() }
    }
    /// This member has something more urgent to fetch.
    package mutating func stop() {
        run = nil
        left = []
    }

    /// Begins what is to be copied next.
    ///
    /// - Parameters:
    ///   - memory: what this member may use of its memory for it.
    ///   - room: where it is put down; then it takes none.
    package mutating func follow(
        _ plan: PlacedPlan, _ job: JobState, me: PeerID, memory: ByteCount, room: (any ByteRoom)? = nil, at now: Instant
    ) {
        guard hasNews else { return }
        if left.isEmpty {
            guard job.isAgreed(heard) else { return }
            begun = heard
            left = plan.copied(by: me, copies: job.parameters.copies, units: job.parameters.model.allUnits)
        }
        while run == nil, !left.isEmpty { begin(left.removeFirst(), plan, job, me: me, memory, room, at: now) }
    }
    private mutating func begin(
        _ units: Range<Int>, _ plan: PlacedPlan, _ job: JobState, me: PeerID, _ memory: ByteCount,
        _ room: (any ByteRoom)?, at now: Instant
    ) {
        let model = job.parameters.model
        // Once as it comes, once as it is written.
        let needed = 2 * units.reduce(0) { $0 + model.parameters(unit: $1) } * (plan.mode == .rounds ? 8 : 4)
        guard room != nil || needed <= memory.bytes else {
            guard saidFor < plan.epoch else { return }
            saidFor = plan.epoch
            return effects.push(
                .event(
                    .copySkipped(
                        units: RoundStarts.text(units), neededBytes: needed, freeBytes: max(0, memory.bytes)), nil))
        }
        var sources: [Int: [PeerID]] = [:]
        for unit in units { sources[unit] = plan.holders(of: unit).filter { $0 != me && job.isPresent($0) } }
        guard sources.values.allSatisfy({ !$0.isEmpty }) else { return }
        run = Run(
            units: units, round: begun, epoch: plan.epoch,
            fetch: StateFetch(
                round: begun, sources: sources, roots: job.roots(begun), moments: false, model: model,
                offset: Int(me.bytes[1]), room: room, at: now), progressed: now)
        drain()
    }

    // MARK: inputs

    package mutating func wake(at now: Instant) {
        change(at: now) { $0.wake(at: now) }
        if let run, now - run.progressed >= Self.patience { stop() }
    }
    package mutating func lost(_ peer: PeerID, at now: Instant) { change(at: now) { $0.lost(peer, at: now) } }
    /// - Returns: whether the message was about this.
    package mutating func receive(_ message: Message, from peer: PeerID, at now: Instant) -> Bool {
        guard let run else { return false }
        switch message {
        case .stateOffer(let offer) where offer.round == run.round:
            change(at: now) { $0.receive(offer, from: peer, at: now) }
        case .indexPart(let part) where run.fetch.wants(part.content):
            change(at: now) { $0.receive(part, from: peer, at: now) }
        case .chunk(let content, let number, let bytes) where run.fetch.wants(content):
            change(at: now) { $0.receive(chunk: number, of: content, bytes, from: peer, at: now) }
        case .chunkMissing(let content, let number) where run.fetch.wants(content):
            change(at: now) { $0.missing(chunk: number, of: content, at: peer, now: now) }
        default: return false
        }
        return true
    }

    private mutating func change(at now: Instant, _ body: (inout StateFetch) -> Void) {
        guard run != nil else { return }
        body(&run!.fetch)
        let have = run!.fetch.progress.have
        if have != run!.have { (run!.have, run!.progressed) = (have, now) }
        drain()
    }
    private mutating func drain() {
        while let effect = run?.fetch.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .wrong(let peer, let unit, _): effects.push(.event(.stateWrong(unit: unit), peer))
            case .unavailable: break
            case .done: finish()
            }
        }
    }
    private mutating func finish() {
        guard var done = exchange(&run, with: nil) else { return }
        let states = done.units.compactMap { done.fetch.take($0) }
        guard states.count == done.units.count else { return }
        effects.push(.keep(states, round: done.round, epoch: done.epoch))
    }
}

extension Holding {
    package mutating func withCopies(_ body: (inout CopyDesk) -> Void) {
        body(&copies)
        drainCopies()
    }
    private mutating func drainCopies() {
        while let effect = copies.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(message, to: peer))
            case .event(let what, let peer): effects.push(.event(what, peer))
            case .keep(let states, let round, let epoch):
                starts.keep(
                    RoundStart(job: starts.job, round: round, epoch: epoch, rank: 0, share: [], states: states))
                drainStarts()
            }
        }
    }

    /// What others hold is copied while nothing is fetched for this member itself.
    package mutating func copy(_ plan: PlacedPlan, _ job: JobState, at now: Instant) {
        if case .fetching = state { return copies.stop() }
        guard copies.hasNews else { return }
        let used = plan.stage(of: context.me).map { memory($0, plan) } ?? ByteCount(0)
        let free = ByteCount(max(0, context.memory.bytes - used.bytes))
        let (me, room) = (context.me, context.room)
        withCopies { $0.follow(plan, job, me: me, memory: free, room: room, at: now) }
    }
}

extension PlacedPlan {
    /// Runs of units that a peer keeps copies of: of others' units, so that each unit is at so many peers that do not hold it, if there are
    /// as many. Of a pipeline a stage is copied by the one before it, then by the one before that, in one pipeline after the other; where
    /// pipelines have too few stages, spares copy the whole model.
    package func copied(by peer: PeerID, copies: Int, units: Range<Int>) -> [Range<Int>] {
        let longest = pipelines.map(\.stages.count).max() ?? 0
        var slots: [(rank: Int, ahead: Int)] = []
        for ahead in 1..<max(2, min(longest, Self.runsMost + 1)) {
            for (rank, pipeline) in pipelines.enumerated() where pipeline.stages.count > ahead {
                slots.append((rank, ahead))
            }
        }
        slots = Array(slots.prefix(copies))
        guard let place = placement(of: peer) else {
            return spares.prefix(copies - slots.count).contains(peer) ? [units] : []
        }
        let stages = pipelines[place.rank].stages
        return slots.filter { $0.rank == place.rank }.map { stages[(place.stage + $0.ahead) % stages.count].units }
    }
    /// Of one peer, so that what it has on its disk can be told in one message.
    private static var runsMost: Int { 4 }
}
