public import Primitives

extension JobView {
    /// Where the job is, as far as it was told.
    public enum Stage: Hashable, Sendable {
        /// Nothing has been heard of one.
        case idle
        case gathering(have: Int, want: Int)
        /// The text spreads; bytes of it.
        case sharing(bytes: Int)
        case measuring
        case planning
        /// There is a plan; nothing has been sealed.
        case preparing
        case training
        /// The final weights come in: so many of the model's units.
        case collecting(have: Int, of: Int)
        /// The final loss is computed.
        case evaluating
        /// Over for this peer, and why.
        case over(String)
    }

    /// How a peer stands towards the job.
    public enum Standing: Hashable, Sendable {
        case found
        case unfit(String)
        case declined(String)
        case joined
        case lost(String)
    }

    public struct Member: Hashable, Sendable {
        public let name: String
        public internal(set) var standing: Standing
        public internal(set) var device = ""
        /// As it said; GFLOP/s.
        public internal(set) var gflops: Double?
        /// Measured in the job, where that is another figure.
        public internal(set) var measuredGflops: Double?
        public internal(set) var memoryMib: Double?
        /// Holds layers by the plan in force.
        public internal(set) var isWorking = false
        /// What it does, for people.
        public internal(set) var doing = ""
        /// Of the processor time that it asks for, what other programs leave it, where that is less than a third.
        public internal(set) var processorPercent: Double?

        public var isPresent: Bool { standing == .joined }
    }

    /// The plan in force, in words and figures.
    public struct Plan: Hashable, Sendable {
        public internal(set) var epoch: Int
        /// The round from which it is in force.
        public internal(set) var round: Int
        public internal(set) var pipelines: Int
        /// Of the longest pipeline; of the first plan.
        public internal(set) var stages: Int?
        public internal(set) var innerSteps: Int?
        public internal(set) var codec = ""
        public internal(set) var activations = ""
        public internal(set) var exchange = ""
        /// Predicted when the plan was made, from seal to seal ÷ H; nil where that was not told.
        public internal(set) var stepSeconds: Double?
        /// Predicted for the first plan: the whole job.
        public internal(set) var totalSeconds: Double?
        /// Who holds layers, in rank and stage order.
        public internal(set) var workers: [String] = []
        /// Why there is another plan than the first one.
        public internal(set) var why = ""
    }

    public struct Round: Hashable, Sendable {
        public let round: Int
        public let at: Instant
        /// Its own.
        public let steps: Int
        public let stepsDone: Int
        /// Sealed so far.
        public let tokens: Int
        public let trainLoss: Double
        /// Of the parameters it began with.
        public let validationLoss: Double?
        public let pipelines: Int
        /// Since the seal before.
        public let seconds: Double
        public let predictedSeconds: Double?
        public let criticalBatch: Double?
        public let planEpoch: Int
        /// Nobody who works was lost, no plan changed, nothing was measured, and every pipeline contributed.
        public let isUndisturbed: Bool
        /// The job returned to an earlier round afterwards.
        public internal(set) var isUndone = false
    }

    /// A peer that was lost, and how the job went on.
    public struct Loss: Hashable, Sendable {
        public enum Answer: Hashable, Sendable {
            case none
            case replaced(by: String)
            case othersGoOn(pipelines: Int)
            case rolledBack(to: Int)
        }
        public let peer: String
        public let why: String
        /// It took its leave.
        public let saidGoodbye: Bool
        public let at: Instant
        public internal(set) var answer = Answer.none
        /// Seconds from the loss to the first step beyond where the job was.
        public internal(set) var resumedAfter: Double?
    }

    public struct Waiting: Hashable, Sendable {
        public let peers: [String]
        public let round: Int
        public let why: String
        public let since: Instant
    }

    public struct Checkpoint: Hashable, Sendable {
        public let round: Int
        public let at: Instant
        /// Where it lies; empty while that is not told.
        public internal(set) var path = ""
    }

    /// How far the job is, in the newest figures.
    public struct Progress: Hashable, Sendable {
        public internal(set) var step = 0
        public internal(set) var stepsTotal = 0
        public internal(set) var round = 0
        /// Sealed.
        public internal(set) var tokens = 0
        public internal(set) var tokensTotal = 0
        public internal(set) var tokensPerSecond = 0.0
        public internal(set) var trainLoss: Double?
        public internal(set) var validationLoss: Double?
        /// By all members.
        public internal(set) var sentBytes = 0
        /// What fp32 gradients of every step would have been.
        public internal(set) var uncompressedBytes = 0
    }

    public struct Told: Hashable, Sendable {
        public let host: String
        public let event: Event
    }

    /// What the fold has to remember from one event to the next.
    struct Pace: Hashable, Sendable {
        /// A plan that begins with a round that is not sealed yet.
        var nextPlan: Plan?
        var stepsSealed = 0
        /// Of the whole job, as the first prediction amounts to.
        var stepsPlanned: Int?
        var trainingSince: Instant?
        var isMeasuring = false
        var isDisturbed = true
    }
}

/// Members by name, in order of arrival; at most so many. Who is not in the job goes first.
public struct MemberList: Hashable, Sendable {
    public private(set) var members: [JobView.Member] = []
    private var places: [String: Int] = [:]
    /// Peers that were let go, or for which there was no room.
    public private(set) var leftOut = 0
    let limit: Int

    init(limit: Int) { self.limit = limit }

    public subscript(_ name: String) -> JobView.Member? { places[name].map { members[$0] } }

    /// Changes a member, which is made if there is none.
    mutating func change(_ name: String, _ body: (inout JobView.Member) -> Void) {
        if let place = places[name] { return body(&members[place]) }
        guard makeRoom() else { return }
        places[name] = members.count
        members.append(JobView.Member(name: name, standing: .found))
        body(&members[members.count - 1])
    }
    /// Changes a member, if there is one.
    mutating func changeKnown(_ name: String, _ body: (inout JobView.Member) -> Void) {
        if let place = places[name] { body(&members[place]) }
    }
    mutating func changeAll(_ body: (inout JobView.Member) -> Void) {
        for place in members.indices { body(&members[place]) }
    }
    private mutating func makeRoom() -> Bool {
        guard members.count >= limit else { return true }
        leftOut += 1
        guard let gone = members.firstIndex(where: { !$0.isPresent && !$0.isWorking }) else { return false }
        places[members[gone].name] = nil
        members.remove(at: gone)
        for place in gone..<members.count { places[members[place].name] = place }
        return true
    }
}
