public import Primitives
import Record

/// What a member has in hand, for its owner.
public struct MemberWork: Hashable, Sendable {
    /// Of the pipeline, of the stage in it, and how many stages there are; nil of a spare.
    public var place: (rank: Int, stage: Int, stages: Int)?
    /// Who holds the stages next to it, by name.
    public var before: String?
    public var after: String?
    /// The job's parameters, and tokens: sealed, and in all.
    public var parameters: Int
    public var tokens: Int
    public var tokensTotal: Int
    /// Of the optimizer: sealed, and in all as the batch is now.
    public var stepsDone: Int
    public var stepsTotal: Int
    /// Nats a token, of the round sealed last.
    public var trainLoss: Double?
    public var validationLoss: Double?
    /// Seal to seal: the last round, and the median of those seen before it.
    public var roundSeconds: Double?
    public var usualRoundSeconds: Double?
    /// Micro-batches of this member's.
    public var counted: Int
    public var late: Int
    public var lost: Int
    public var superseded: Int
    public var underWay: Int
    /// Rounds in which its work counted.
    public var rounds: Int

    public static func == (a: MemberWork, b: MemberWork) -> Bool {
        a.place?.rank == b.place?.rank && a.place?.stage == b.place?.stage && a.tokens == b.tokens
            && a.counted == b.counted && a.underWay == b.underWay
    }
    public func hash(into hasher: inout Hasher) {
        hasher.combine(tokens)
        hasher.combine(counted)
    }
}

extension Member {
    /// Nil where it has no job, or there is no plan yet.
    public var work: MemberWork? {
        guard let part = job, jobID != nil, let plan = part.job.plan else { return nil }
        let (state, ledger) = (part.job, part.record.ledger)
        let place = plan.placement(of: part.me)
        func neighbour(_ offset: Int) -> String? {
            guard let place, plan.pipelines[place.rank].stages.indices.contains(place.stage + offset) else {
                return nil
            }
            return state.name(of: plan.pipelines[place.rank].stages[place.stage + offset].peer)
        }
        let batch = state.batchTokens(plan)
        return MemberWork(
            place: place.map { ($0.rank, $0.stage, plan.pipelines[$0.rank].stages.count) }, before: neighbour(-1),
            after: neighbour(1), parameters: state.parameters.model.parameters, tokens: state.sealedTokens,
            tokensTotal: state.tokens, stepsDone: state.nextStep,
            stepsTotal: batch > 0 ? (state.tokens + batch - 1) / batch : 0, trainLoss: state.seals.last?.trainLoss,
            validationLoss: state.seals.last { $0.validationLoss != nil }?.validationLoss,
            roundSeconds: part.log.pace.last, usualRoundSeconds: part.log.pace.usual, counted: ledger.own(.counted),
            late: ledger.own(.late), lost: ledger.own(.lost), superseded: ledger.own(.superseded),
            underWay: ledger.ownUnderWay, rounds: ledger.endings.count { $0.outcome == .counted })
    }
}

/// How long rounds take, from one seal to the next, as seen here.
package struct RoundPace: Sendable {
    private var round: Int?
    private var since: Instant?
    /// The last few, oldest first, in seconds.
    private var times: [Double] = []
    private static let most = 9

    /// The round in progress, seen now.
    ///
    /// - Parameter isBehind: there are entries that have not come: this round may be over already.
    package mutating func see(round: Int, isBehind: Bool = false, at now: Instant) {
        guard round != self.round else { return }
        let isNext = self.round.map { round == $0 + 1 } ?? false
        // What was not seen from its begin says nothing, nor does a round after one that was left out.
        if isNext, let since {
            times.append((now - since).inSeconds)
            if times.count > Self.most { times.removeFirst() }
        }
        // When the first round that is seen began nobody knows, nor of one before which some were left out.
        let isBack = self.round.map { round < $0 } ?? false
        since = (isNext || isBack) && !isBehind ? now : nil
        self.round = round
    }
    package init() {}
    package var last: Double? { times.last }
    /// The median of those before the last.
    package var usual: Double? {
        let before = times.dropLast().sorted()
        return before.isEmpty ? nil : before[before.count / 2]
    }
}
