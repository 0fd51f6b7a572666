public import Primitives

/// What the coordinator measured, put to the planner.
public struct PlanQuestion: Sendable {
    public struct Candidate: Hashable, Sendable {
        public var peer: PeerID
        public var name: String
        public var device: String
        public var flops: Double
        public var memory: ByteCount
        /// Measured by bursts; nil when no burst arrived.
        public var up: BitRate?
        public var down: BitRate?
        /// Round trip to the coordinator.
        public var coordinatorRoundTrip: Duration?
    }
    public struct Pair: Hashable, Sendable {
        public var from: PeerID
        public var to: PeerID
        public init(from: PeerID, to: PeerID) {
            self.from = from
            self.to = to
        }
    }
    public var manifest: String
    public var candidates: [Candidate]
    public var roundTrips: [Pair: Duration]
    /// The running plan: kept unless another pays for moving its weights.
    public var current: PlacedPlan?
    /// H, codecs and k of a running job stay.
    public var tokensLeft: Int
    public var seed: UInt64
}

/// The planner's answer, in the log's terms; epoch, round and sources are the coordinator's to fill in.
public struct PlanAnswer: Sendable {
    public var plan: PlacedPlan
    public var stepSeconds: Double
    public var roundSeconds: Double
    public var totalSeconds: Double
    public var tokensPerSecond: Double
    public var speedupVersusBestSinglePeer: Double
    /// Table and reasons, for people.
    public var explanation: [String]
    /// The prediction as JSON, frozen when the plan is made.
    public var predictionJSON: String
    public init(
        plan: PlacedPlan, stepSeconds: Double, roundSeconds: Double, totalSeconds: Double, tokensPerSecond: Double,
        speedupVersusBestSinglePeer: Double, explanation: [String], predictionJSON: String
    ) {
        self.plan = plan
        self.stepSeconds = stepSeconds
        self.roundSeconds = roundSeconds
        self.totalSeconds = totalSeconds
        self.tokensPerSecond = tokensPerSecond
        self.speedupVersusBestSinglePeer = speedupVersusBestSinglePeer
        self.explanation = explanation
        self.predictionJSON = predictionJSON
    }
}
