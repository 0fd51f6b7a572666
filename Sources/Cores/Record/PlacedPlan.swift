public import Exchange
import FoundationEssentials
import Messages
public import Primitives
public import Training
package import Wire

/// A plan as the log states it: peers by key, not by name.
public struct PlacedPlan: Hashable, Sendable {
    public struct Stage: Hashable, Sendable {
        public var peer: PeerID
        public var units: Range<Int>
        /// Whether it keeps the inputs of its blocks only, and runs forward again before backward.
        public var recompute: Bool
        /// Its lines as measured; nil where they were not.
        public var up: BitRate?
        public var down: BitRate?
        public init(
            peer: PeerID, units: Range<Int>, recompute: Bool = false, up: BitRate? = nil, down: BitRate? = nil
        ) {
            self.peer = peer
            self.units = units
            self.recompute = recompute
            self.up = up
            self.down = down
        }
    }
    public struct Pipeline: Hashable, Sendable {
        public var stages: [Stage]
        public var virtualPipelines: [Int]
        public var inFlight: Int
        /// Rises when the pipeline begins its round anew.
        public var attempt: Int
        public init(stages: [Stage], virtualPipelines: [Int], inFlight: Int, attempt: Int = 0) {
            self.stages = stages
            self.virtualPipelines = virtualPipelines
            self.inFlight = inFlight
            self.attempt = attempt
        }
        public func contains(_ peer: PeerID) -> Bool { stages.contains { $0.peer == peer } }
    }

    /// Counts plans of this job from 1.
    public var epoch: Int
    /// In force from this round.
    public var round: Int
    /// Rank = position: the order of sums.
    public var pipelines: [Pipeline]
    public var spares: [PeerID]
    public var innerSteps: Int
    public var microBatchesPerVirtual: Int
    public var exchangeCodec: Codec
    public var activationCodec: Codec
    /// How contributions become aggregates; the coordinator may change it within a round (``GroupTerms``).
    public var exchangeWay = ExchangeWay.allGather
    public var outer: OuterOptimizer
    /// Of the learning rate since the job began: after a divergence it goes on at half of it.
    public var halvings = 0
    /// Who holds each unit's state at the start of `round`; empty: it is drawn from the seed.
    public var sources: [Int: [PeerID]]

    public init(
        epoch: Int, round: Int, pipelines: [Pipeline], spares: [PeerID], innerSteps: Int, microBatchesPerVirtual: Int,
        exchangeCodec: Codec, activationCodec: Codec, outer: OuterOptimizer, sources: [Int: [PeerID]] = [:]
    ) {
        self.epoch = epoch
        self.round = round
        self.pipelines = pipelines
        self.spares = spares
        self.innerSteps = innerSteps
        self.microBatchesPerVirtual = microBatchesPerVirtual
        self.exchangeCodec = exchangeCodec
        self.activationCodec = activationCodec
        self.outer = outer
        self.sources = sources
    }

    /// Of the learning rate.
    public var rateFactor: Float { (0..<halvings).reduce(1) { rate, _ in rate / 2 } }
    public var mode: ExchangeMode { innerSteps == 1 ? .everyStep : .rounds }
    public var peers: [PeerID] { pipelines.flatMap { $0.stages.map(\.peer) } }

    /// Where a peer works: (rank, stage); nil for a spare.
    public func placement(of peer: PeerID) -> (rank: Int, stage: Int)? {
        for (rank, pipeline) in pipelines.enumerated() {
            if let stage = pipeline.stages.firstIndex(where: { $0.peer == peer }) { return (rank, stage) }
        }
        return nil
    }
    /// Whether another plan asks the same of everybody, over lines that are about as good.
    public func isAlike(_ other: PlacedPlan) -> Bool {
        func alike(_ a: BitRate?, _ b: BitRate?) -> Bool {
            guard let a, let b else { return (a == nil) == (b == nil) }
            return max(a, b).bitsPerSecond <= 1.2 * min(a, b).bitsPerSecond
        }
        return pipelines.count == other.pipelines.count
            && zip(pipelines, other.pipelines).allSatisfy { mine, theirs in
                mine.virtualPipelines == theirs.virtualPipelines && mine.stages.count == theirs.stages.count
                    && zip(mine.stages, theirs.stages).allSatisfy {
                        ($0.peer, $0.units, $0.recompute) == ($1.peer, $1.units, $1.recompute) && alike($0.up, $1.up)
                            && alike($0.down, $1.down)
                    }
            }
    }

    /// Who holds `unit`, in rank order.
    public func holders(of unit: Int) -> [PeerID] {
        pipelines.compactMap { pipeline in pipeline.stages.first { $0.units.contains(unit) }?.peer }
    }
}

extension PlacedPlan {
    /// Reads a log entry: numbers in range, codecs known. ``check(model:geometry:)`` says whether it is a plan of this model.
    init(_ change: PBPlanChange, epoch: Int, model: ModelShape, geometry: BatchGeometry) throws(MalformedBytes) {
        let pipelines = try decode(change.pipelines, atMost: Bounds.rank, "pipelines") { (raw) throws(MalformedBytes) in
            try Pipeline(raw)
        }
        guard let exchange = Codec(change.exchangeCodec), let activation = Codec(change.activationCodec) else {
            throw MalformedBytes("unknown codec")
        }
        guard let way = ExchangeWay(change.exchangeWay) else { throw MalformedBytes("unknown way to exchange") }
        guard change.outerLearningRate.isFinite, change.outerMomentum.isFinite, change.outerCarry.isFinite else {
            throw MalformedBytes("an outer optimizer that is not finite")
        }
        var sources: [Int: [PeerID]] = [:]
        for entry in change.sources {
            let unit = try number(entry.unit, below: model.unitCount, "unit")
            sources[unit] = try decode(entry.peers, atMost: Bounds.rank, "sources", key)
        }
        self.init(
            epoch: epoch, round: try number(change.round, below: Bounds.round, "round"), pipelines: pipelines,
            spares: try decode(change.spares, atMost: 1 << 16, "spares", key),
            innerSteps: try number(change.innerSteps, below: 10_001, "inner steps"),
            microBatchesPerVirtual: try number(change.microBatchesPerVirtual, below: 4097, "micro-batches"),
            exchangeCodec: exchange, activationCodec: activation,
            outer: OuterOptimizer(
                learningRate: change.outerLearningRate, momentum: change.outerMomentum,
                delay: try number(change.outerDelay, below: 10_001, "delay"), carry: change.outerCarry),
            sources: sources)
        exchangeWay = way
        halvings = try number(change.halvings, below: 64, "halvings")
    }

    /// Refuses plans that do not cover the model exactly once in every pipeline, or map the batch otherwise than once.
    func check(model: ModelShape, geometry: BatchGeometry) throws(MalformedBytes) {
        guard !pipelines.isEmpty else { throw MalformedBytes("a plan without pipelines") }
        for pipeline in pipelines {
            var next = 0
            for stage in pipeline.stages {
                guard stage.units.lowerBound == next, !stage.units.isEmpty else {
                    throw MalformedBytes("stages do not follow each other")
                }
                next = stage.units.upperBound
            }
            guard next == model.unitCount else {
                throw MalformedBytes("a pipeline covers \(next) of \(model.unitCount) units")
            }
            let shares = pipeline.virtualPipelines
            guard !shares.isEmpty, zip(shares, shares.dropFirst()).allSatisfy({ $0 < $1 }), shares[0] >= 0,
                shares.last! < geometry.virtualPipelines
            else { throw MalformedBytes("a pipeline's virtual pipelines must be ascending and within the job's") }
        }
        guard Set(peers).count == peers.count else { throw MalformedBytes("a peer holds two stages") }
        let shares = pipelines.flatMap(\.virtualPipelines)
        guard Set(shares).count == shares.count else { throw MalformedBytes("a virtual pipeline is mapped twice") }
        guard shares.count == geometry.virtualPipelines else {
            throw MalformedBytes("\(shares.count) of \(geometry.virtualPipelines) virtual pipelines are mapped")
        }
        guard (1...10_000).contains(innerSteps), (1...4096).contains(microBatchesPerVirtual) else {
            throw MalformedBytes("inner steps or micro-batches out of range")
        }
        guard outer.delay == 0 || outer.delay < innerSteps, (0...1).contains(outer.carry) else {
            throw MalformedBytes("the exchange's delay must be less than the inner steps, its carry from 0 to 1")
        }
        guard sources.keys.allSatisfy({ $0 >= 0 && $0 < model.unitCount }) else {
            throw MalformedBytes("sources of a unit that the model has not")
        }
    }

    /// Micro-batches that a pipeline is granted for so many steps.
    public func share(rank: Int, steps: Int) -> Int {
        pipelines[rank].virtualPipelines.count * microBatchesPerVirtual * steps
    }
    /// The holder of a unit in a pipeline.
    public func holder(_ rank: Int, of unit: Int) -> PeerID? {
        rank < pipelines.count ? pipelines[rank].stages.first { $0.units.contains(unit) }?.peer : nil
    }
    /// The stage of a peer; nil for a spare.
    public func stage(of peer: PeerID) -> Stage? { placement(of: peer).map { pipelines[$0.rank].stages[$0.stage] } }

    package func message(reason: String, rolledBack: Bool = false) -> PBPlanChange {
        var out = PBPlanChange()
        out.round = UInt64(round)
        out.pipelines = pipelines.map { pipeline in
            var placement = PBPipelinePlacement()
            placement.stages = pipeline.stages.map { stage in
                var entry = PBStagePlacement()
                entry.peer = bytesOf(stage.peer)
                entry.firstUnit = UInt32(stage.units.lowerBound)
                entry.endUnit = UInt32(stage.units.upperBound)
                entry.upBits = UInt64(stage.up?.bitsPerSecond ?? 0)
                entry.downBits = UInt64(stage.down?.bitsPerSecond ?? 0)
                entry.recompute = stage.recompute
                return entry
            }
            placement.virtualPipelines = pipeline.virtualPipelines.map { UInt32($0) }
            placement.inFlight = UInt32(pipeline.inFlight)
            placement.attempt = UInt32(pipeline.attempt)
            return placement
        }
        out.spares = spares.map { bytesOf($0) }
        out.innerSteps = UInt32(innerSteps)
        out.microBatchesPerVirtual = UInt32(microBatchesPerVirtual)
        out.exchangeCodec = exchangeCodec.description
        out.activationCodec = activationCodec.description
        out.outerLearningRate = outer.learningRate
        out.outerMomentum = outer.momentum
        out.outerDelay = UInt32(outer.delay)
        out.outerCarry = outer.carry
        out.sources = sources.keys.sorted().map { unit in
            var entry = PBUnitSources()
            entry.unit = UInt32(unit)
            entry.peers = sources[unit]!.map { bytesOf($0) }
            return entry
        }
        out.exchangeWay = exchangeWay == .allGather ? "" : exchangeWay.description
        out.halvings = UInt32(halvings)
        out.reason = reason
        out.rolledBack = rolledBack
        return out
    }
}

extension PlacedPlan.Pipeline {
    init(_ placement: PBPipelinePlacement) throws(MalformedBytes) {
        stages = try decode(placement.stages, atMost: Bounds.unit, "stages") { (raw) throws(MalformedBytes) in
            let first = try number(raw.firstUnit, below: Bounds.unit, "unit")
            let end = try number(raw.endUnit, below: Bounds.unit, "unit")
            guard first < end else { throw MalformedBytes("stages do not follow each other") }
            func rate(_ bits: UInt64) throws(MalformedBytes) -> BitRate? {
                bits > 0 ? BitRate(bitsPerSecond: Double(try number(bits, below: Bounds.amount, "rate"))) : nil
            }
            return PlacedPlan.Stage(
                peer: try key(raw.peer), units: first..<end, recompute: raw.recompute, up: try rate(raw.upBits),
                down: try rate(raw.downBits))
        }
        virtualPipelines = try decode(placement.virtualPipelines, atMost: 1 << 16, "virtual pipelines") {
            (raw) throws(MalformedBytes) in try number(raw, below: 1 << 16, "virtual pipeline")
        }
        inFlight = max(1, try number(placement.inFlight, below: 1 << 16, "depth"))
        attempt = try number(placement.attempt, below: Bounds.counter, "attempt")
    }
}
