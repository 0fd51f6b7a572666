/// What the cost model expects of a plan. Seconds are paced seconds: those of the topology's devices.
public struct Prediction: Hashable, Sendable, Codable {
    public struct PeerLoad: Hashable, Sendable, Codable {
        public var peer: String
        public var memoryBytes: Int
        public var memoryOfferedBytes: Int
        /// Per round, exchange and activations together.
        public var sentBytes: Int
        public var receivedBytes: Int
        /// Share of a step of its pipeline that it computes.
        public var computeShare: Double
        enum CodingKeys: String, CodingKey {
            case peer, memoryBytes = "memory_bytes", memoryOfferedBytes = "memory_offered_bytes"
            case sentBytes = "sent_bytes_per_round", receivedBytes = "received_bytes_per_round"
            case computeShare = "compute_share"
        }
    }
    /// What the round's time consists of; shares add to 1.
    public struct Binding: Hashable, Sendable, Codable {
        /// The busiest stage computing; what better cutting or faster peers would shorten.
        public var compute = 0.0
        /// That stage waiting for bytes of activations on access lines.
        public var bandwidth = 0.0
        /// That stage waiting for signals to travel.
        public var latency = 0.0
        /// That stage waiting for other stages: filling and draining the pipeline.
        public var bubble = 0.0
        /// Contributions travelling, reports, seal, outer step: not hidden behind anything.
        public var exchange = 0.0
        public var validation = 0.0

        /// Largest first, for people.
        public var ranked: [(name: String, share: Double)] {
            let all = [
                ("compute", compute), ("bandwidth", bandwidth), ("latency", latency), ("bubble", bubble),
                ("exchange", exchange), ("validation", validation),
            ]
            return all.enumerated().sorted { ($1.element.1, $0.offset) < ($0.element.1, $1.offset) }.map {
                (name: $0.element.0, share: $0.element.1)
            }
        }
    }

    /// One inner step of the slowest pipeline; with H = 1 everything between two optimizer steps.
    public var stepSeconds: Double
    /// One inner step of each pipeline, in rank order.
    public var pipelineStepSeconds: [Double]
    /// From seal to seal: validation, H inner steps, exchange, outer step.
    public var roundSeconds: Double
    /// The part of a round in which no pipeline trains.
    public var exposedExchangeSeconds: Double
    public var validationSeconds: Double
    /// Over the whole job, everything included.
    public var tokensPerSecond: Double
    /// The job from its first step to its last seal, losses of peers expected from availability included.
    public var totalSeconds: Double
    public var steps: Int
    public var rounds: Int
    public var peers: [PeerLoad]
    public var binding: Binding
    /// Expected final loss relative to H = 1 in fp32, minus 1.
    public var lossPenalty: Double
    /// The fastest peer alone, its memory limit lifted, nothing exchanged, at its own pace.
    public var bestSinglePeer: String
    public var bestSinglePeerSeconds: Double
    /// Above 1: together is faster.
    public var speedupVersusBestSinglePeer: Double

    enum CodingKeys: String, CodingKey {
        case steps, rounds, peers, binding
        case stepSeconds = "step_seconds", pipelineStepSeconds = "pipeline_step_seconds"
        case roundSeconds = "round_seconds", exposedExchangeSeconds = "exposed_exchange_seconds"
        case validationSeconds = "validation_seconds", tokensPerSecond = "tokens_per_second"
        case totalSeconds = "total_seconds", lossPenalty = "loss_penalty", bestSinglePeer = "best_single_peer"
        case bestSinglePeerSeconds = "best_single_peer_seconds"
        case speedupVersusBestSinglePeer = "speedup_vs_best_single_peer"
    }
}

/// A plan, why it is the plan, and what else was looked at.
public struct PlannedJob: Hashable, Sendable {
    public struct Alternative: Hashable, Sendable, Codable {
        /// "3 pipelines of 2–3 stages, H = 6, int8".
        public var summary: String
        public var totalSeconds: Double
        public var lossPenalty: Double
        /// Why it was not taken.
        public var reason: String
        enum CodingKeys: String, CodingKey {
            case summary, reason, totalSeconds = "total_seconds", lossPenalty = "loss_penalty"
        }
    }
    public var plan: Plan
    public var prediction: Prediction
    /// What plans are compared by, in seconds: the job's time, what changing over costs, and a little for every peer.
    public var objectiveSeconds: Double
    /// Best first.
    public var alternatives: [Alternative]
    /// Sentences for people: what binds, who is left out and why, what is unusual.
    public var explanation: [String]
    /// Its pairs that have no path of their own, those that exchange most first.
    public var relayed: [RelayedPair]

    public init(
        plan: Plan, prediction: Prediction, objectiveSeconds: Double, alternatives: [Alternative],
        explanation: [String], relayed: [RelayedPair] = []
    ) {
        self.relayed = relayed
        self.plan = plan
        self.prediction = prediction
        self.objectiveSeconds = objectiveSeconds
        self.alternatives = alternatives
        self.explanation = explanation
    }
}

/// Why there is no plan.
public enum PlanningError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Not one peer, or all are excluded.
    case noPeers
    /// A single unit is larger than any peer.
    case unitTooLarge(unit: Int, needs: String, peer: String, offers: String)
    /// Each unit fits somewhere, all together they do not.
    case modelTooLarge(needs: String, offered: String, peers: Int)
    /// The job asks for a number of pipelines or stages that the peers cannot form.
    case impossible(String)

    public var description: String {
        switch self {
        case .noPeers: "no peer to plan with. Start peers with the pool's invite, or exclude fewer."
        case .unitTooLarge(let unit, let needs, let peer, let offers):
            "layer \(unit) needs \(needs); the largest peer, \(peer), offers \(offers). Add a peer with more memory, or "
                + "choose a smaller model or micro-batch."
        case .modelTooLarge(let needs, let offered, let peers):
            "the model needs about \(needs) held once; \(peers == 1 ? "the only peer offers" : "the \(peers) peers together offer") \(offered), and no cut fits \(peers == 1 ? "it" : "them"). "
                + "Add a peer with more memory, or choose a smaller model or micro-batch."
        case .impossible(let reason): reason
        }
    }
}
