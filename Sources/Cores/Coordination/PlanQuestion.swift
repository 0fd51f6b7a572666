public import Planning
public import Primitives
public import Record
public import Topologies

/// What the coordinator measured, put to the planner.
public struct PlanQuestion: Sendable {
    public struct Peer: Hashable, Sendable {
        public var peer: PeerID
        public var name: String
        public var device: String
        public var flops: Double
        public var memory: ByteCount
        /// Measured by bursts; nil when none arrived.
        public var up: BitRate?
        public var down: BitRate?
        /// Round trip to the coordinator.
        public var coordinatorRoundTrip: Duration?
        /// Where others dial it.
        public var port: UInt16?
    }
    /// A pair that a relay carries.
    public struct Carried: Hashable, Sendable {
        public var from: PeerID
        public var to: PeerID
        public var relay: PeerID
        public var name: String
        /// All that it carries; nil where nobody has said.
        public var rate: BitRate?
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
    /// Of the text.
    public var textBytes: Int
    public var peers: [Peer]
    public var roundTrips: [Pair: Duration]
    /// What limits a pair beside its lines, by place among the peers.
    public var caps: [Int: [Int: BitRate]] = [:]
    public var carried: [Carried] = []
    /// The leader's own key: it may relay as well.
    public var coordinator: PeerID?
    /// The running plan: kept unless another pays for moving its weights.
    public var current: PlacedPlan?
    /// H, codecs and k of a running job stay.
    public var tokensLeft: Int
    public var seed: UInt64
}

/// The planner's answer, in the log's terms; epoch, round and sources are the coordinator's to fill in.
public struct PlanAnswer: Sendable {
    public var plan: PlacedPlan
    /// The plan by names, its prediction and its reasons, frozen when it is made.
    public var planned: PlannedJob
    /// What it was planned for.
    public var topology: Topology
    public init(plan: PlacedPlan, planned: PlannedJob, topology: Topology) {
        self.plan = plan
        self.planned = planned
        self.topology = topology
    }
    public var stepSeconds: Double { planned.prediction.stepSeconds }
    public var roundSeconds: Double { planned.prediction.roundSeconds }
    /// Of a round of `steps`: the last one of a job may be shorter.
    func seconds(ofSteps steps: Int) -> Double { planned.prediction.seconds(ofSteps: steps, of: plan.innerSteps) }
    public var totalSeconds: Double { planned.prediction.totalSeconds }
}

extension Prediction {
    /// Of a round of `steps`: the last one of a job may be shorter.
    /// - Parameter innerSteps: of a whole round.
    func seconds(ofSteps steps: Int, of innerSteps: Int) -> Double {
        max(0, roundSeconds - Double(innerSteps - steps) * stepSeconds)
    }
}

/// Why there is no plan, for people.
public struct NoPlan: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
