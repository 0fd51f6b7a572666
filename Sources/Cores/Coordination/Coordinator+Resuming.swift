import Content
public import Digests
public import Messages
public import Primitives
public import Record
import Telemetry
public import Training
public import Wire

/// What an earlier process of this launcher has left on disk of a job.
public struct JobRemains: Sendable {
    /// The log, from the genesis on, as far as it is whole.
    public var log: [PBEnvelope]
    /// Receipts that were counted.
    public var receipts: [PBEnvelope]
    /// The newest checkpoint that could be read back: all units as of the start of a round.
    public var checkpoint: (round: Int, states: [UnitState])?
    public init(
        log: [PBEnvelope], receipts: [PBEnvelope] = [], checkpoint: (round: Int, states: [UnitState])? = nil
    ) {
        self.log = log
        self.receipts = receipts
        self.checkpoint = checkpoint
    }
}

/// Going on with a job that an earlier process began.
///
/// Nobody of the log is connected, so that all have left; whoever still has its units joins again with them. The term is a new one: what the
/// process before may still have said counts no more. The job goes on from the newest round start that can be had (``Supply``): what members
/// hold in memory or have on their disks, or the last checkpoint; from the beginning where there is none.
extension JobRemains {
    /// The weights that the log says the job ended with, where they are those of the checkpoint.
    public func result(of state: JobState) -> [UnitState]? {
        guard let finish = state.finished, finish.reason == Finish.done, let weights = finish.weights,
            let states = checkpoint?.states
        else { return nil }
        return weightsDigest(of: states) == weights ? states : nil
    }
}

extension Coordinator {
    /// - Parameters:
    ///   - content: the job's text.
    ///   - initial: the units that the job began with, where the manifest names them.
    ///   - options: lease and silence are those of the job.
    /// Throws why it cannot go on, for people.
    public init(
        key: SigningKey, resuming remains: JobRemains, content: StoredBytes, initial: [UnitState] = [],
        options: CoordinatorOptions, wall: WallClock, at now: Instant, parse: Record.Parser
    ) throws(MalformedBytes) {
        let (record, refused) = try Record.restoring(remains.log, parse: parse)
        let genesis = record.genesis
        guard genesis.electors.contains(key.peerID) else {
            throw MalformedBytes(
                "job \(record.job.short) was launched by \(genesis.electors.map(\.short).joined(separator: ", ")), and this "
                    + "is \(key.peerID.short)")
        }
        if let finish = record.state.finished {
            throw MalformedBytes("job \(record.job.short) is over: \(finish.reason)")
        }
        var text = ContentShelf()
        guard text.put(content, at: now) == genesis.content else {
            throw MalformedBytes("the text is not that of job \(record.job.short)")
        }
        var options = options
        options.lease = genesis.lease
        options.silence = genesis.silence
        self.init(record, text, key: key, term: record.term + 1, options: options, wall: wall, at: now)
        if let refused { event(.logEntryRefused(why: refused.description)) }
        for envelope in remains.receipts {
            guard let (signer, receipt) = try? Receipt.open(envelope, job: job, wall: nil) else { continue }
            books.keep(receipt, envelope, from: signer)
        }
        restore(remains.checkpoint)
        if checkpoint.round == nil { try begin(with: initial) }
        event(.jobResumed(job: job.short, round: state.round, checkpoint: checkpoint.round))
        let left = state.members.filter(\.present).map {
            MembersChange.Left(peer: $0.peer, reason: "its launcher was restarted")
        }
        if !left.isEmpty { propose(.members(MembersChange(left: left, round: state.round))) }
    }

    /// A job that is over, for its books and its report: nobody goes on with it.
    ///
    /// - Parameter remains: with the result, which was kept before the log said that the job is over.
    public init(
        ofEnded remains: JobRemains, key: SigningKey, content: StoredBytes, options: CoordinatorOptions,
        wall: WallClock,
        at now: Instant, parse: Record.Parser
    ) throws(MalformedBytes) {
        let (record, _) = try Record.restoring(remains.log, parse: parse)
        guard remains.result(of: record.state) != nil else {
            throw MalformedBytes("job \(record.job.short) left no result here")
        }
        var text = ContentShelf()
        _ = text.put(content, at: now)
        self.init(record, text, key: key, term: record.term, options: options, wall: wall, at: now)
        for envelope in remains.receipts {
            guard let (signer, receipt) = try? Receipt.open(envelope, job: job, wall: nil) else { continue }
            books.keep(receipt, envelope, from: signer)
        }
    }

    /// Given weights are the checkpoint of round 0: whoever begins there fetches them here.
    mutating func begin(with initial: [UnitState]) throws(MalformedBytes) {
        guard let roots = parameters.initialRoots else { return }
        guard initial.count == roots.count,
            initial.allSatisfy({ UnitDigests(of: $0).map(\.parameters) == roots[$0.unit]?.parameters })
        else { throw MalformedBytes("the units at hand are not those that job \(job.short) begins with") }
        checkpoint.put(initial, round: 0, at: now)
    }

    /// A checkpoint counts where it is whole, and what the log says that holders agreed on.
    mutating func restore(_ found: (round: Int, states: [UnitState])?) {
        guard let found, found.round > 0, found.round <= state.round,
            found.states.map(\.unit) == Array(parameters.model.allUnits)
        else { return }
        let roots = found.states.compactMap { unit in
            UnitDigests(of: unit).map {
                UnitRoots(unit: unit.unit, parameters: $0.parameters, outerMomentum: $0.outerMomentum)
            }
        }
        guard roots.count == found.states.count, state.wasAgreed(roots, round: found.round) else { return }
        checkpoint.put(found.states, round: found.round, at: now)
    }

    /// There was a plan, and none of this process yet.
    var isResuming: Bool { state.plan != nil && !stage.hasPlan }

    /// How long holders of all units are waited for, before the job goes back to the last checkpoint.
    static let holderPatience = Duration.seconds(60)
    /// Whether units are missing that somebody may still come with.
    func waitsForHolders(since: Instant) -> Bool {
        isResuming && (lacksHolders(since: since) || lacksSomebody(since: since))
    }
    /// Whether nobody who held some unit is here yet, and may still come.
    func lacksHolders(since: Instant) -> Bool {
        guard state.round > 0, now - since < Self.holderPatience, let plan = state.plan else { return false }
        return !parameters.model.allUnits.allSatisfy { unit in
            plan.holders(of: unit).contains { roster[$0]?.standing == .accepted || roster.isJoined($0) }
        }
    }

    /// The first plan of this process: all begin at the newest round that can be had.
    mutating func resume(with answer: PlanAnswer) {
        rollBack(to: answer, reason: "its launcher was restarted")
        guard !stage.isDecided, let plan = state.plan else { return }
        tellPlacement(plan)
        tellWay(plan)
        stage.go(to: .preparing)
    }
}
