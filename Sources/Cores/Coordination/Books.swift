public import Exchange
public import Messages
public import Primitives
public import Record
public import Wire

/// When a round was sealed, and how long it took since the one before (or since training began).
public struct RoundTime: Hashable, Sendable {
    public var round: Int
    public var at: Instant
    public var seconds: Double
    public var steps: Int
    /// Nobody left, and nobody was left out.
    public var undisturbed: Bool
    public var planEpoch: Int
    package init(round: Int, at: Instant, seconds: Double, steps: Int, undisturbed: Bool, planEpoch: Int) {
        self.round = round
        self.at = at
        self.seconds = seconds
        self.steps = steps
        self.undisturbed = undisturbed
        self.planEpoch = planEpoch
    }
}

/// What is written down of rounds, for the report and for what is usual.
public struct Books: Sendable {
    /// Verified receipts, in order of arrival, with their signers.
    public private(set) var receipts: [(peer: PeerID, receipt: Receipt)] = []
    public private(set) var receiptEnvelopes: [PBEnvelope] = []
    public private(set) var roundTimes: [RoundTime] = []
    /// What exchanges took, from the last contribution to the seal.
    public private(set) var exchangeSeconds: [Double] = []
    public private(set) var noise = GradientNoise()
    /// Of the round sealed last, until its holders' reports are complete: contributors, tokens, and what was reported so far.
    private var noiseReport: (round: Int, contributors: Int, tokens: Int, sum: GradientSquares)?

    package init() {}
    /// With those that were opened before.
    init(_ shelf: ReceiptShelf) {
        receipts = shelf.opened
        receiptEnvelopes = shelf.envelopes
    }

    package mutating func keep(_ receipt: Receipt, _ envelope: PBEnvelope, from peer: PeerID) {
        receipts.append((peer, receipt))
        receiptEnvelopes.append(envelope)
    }
    package mutating func keep(_ time: RoundTime, exchange: Double) {
        roundTimes.append(time)
        exchangeSeconds.append(exchange)
        if exchangeSeconds.count > 64 { exchangeSeconds.removeFirst(32) }
    }
    package mutating func keep(_ squares: GradientSquares, round: Int) {
        if noiseReport?.round == round { noiseReport!.sum += squares }
    }
    /// The round before the one that is sealed now is applied everywhere by now.
    package mutating func estimateNoise(sealed round: Int, contributors: Int, tokens: Int) {
        if let report = noiseReport {
            noise.add(report.sum, contributors: report.contributors, tokens: report.tokens)
        }
        noiseReport = (round, contributors, tokens, GradientSquares())
    }

    /// How long a round of this plan is waited for: of rounds that nothing disturbed; nil before there are any.
    package func roundPatience(epoch: Int) -> Double? {
        ExchangeCost.patience(
            roundTimes.suffix(64).filter { $0.undisturbed && $0.planEpoch == epoch }.suffix(16).map(\.seconds), slack: 5
        )
    }
    /// Seconds that a round of this plan takes when nothing disturbs it; nil before there are three.
    package func roundMedian(epoch: Int) -> Double? {
        let seconds = roundTimes.suffix(64).filter { $0.undisturbed && $0.planEpoch == epoch }.suffix(16).map(\.seconds)
        return seconds.count < 3 ? nil : seconds.sorted()[seconds.count / 2]
    }
    package var exchangePatience: Double? { ExchangeCost.patience(Array(exchangeSeconds.suffix(16)), slack: 2) }
}
